//! Trusted identities: `x509.subject:` and a distinguished name (RFC 4514), some attributes of a certificate's subject.

use cocoon_image::Error;
use const_oid::ObjectIdentifier;
use der::Tag;
use der::asn1::{Ia5StringRef, PrintableStringRef, Utf8StringRef};
use x509_cert::name::Name;

const MAX_TEXT: usize = 1024;
/// Attribute types by their short names.
const TYPES: [(&str, &str); 10] = [
    ("C", "2.5.4.6"),
    ("ST", "2.5.4.8"),
    ("S", "2.5.4.8"),
    ("L", "2.5.4.7"),
    ("STREET", "2.5.4.9"),
    ("O", "2.5.4.10"),
    ("OU", "2.5.4.11"),
    ("CN", "2.5.4.3"),
    ("DC", "0.9.2342.19200300.100.1.25"),
    ("UID", "0.9.2342.19200300.100.1.1"),
];
/// What an identity must name: country, state, organisation.
const MANDATORY: [&str; 3] = ["2.5.4.6", "2.5.4.8", "2.5.4.10"];

/// Attributes, each type once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity(Vec<(ObjectIdentifier, String)>);

impl Identity {
    pub(super) fn parse(text: &str) -> Result<Self, Error> {
        let fail = |why: &str| {
            Error::Key(format!("trusted identity {:?}: {why}", text.chars().take(200).collect::<String>()))
        };
        let name = text
            .trim()
            .strip_prefix("x509.subject:")
            .ok_or_else(|| fail("it must be `x509.subject:` and a distinguished name; `*` stands alone"))?;
        if name.len() > MAX_TEXT {
            return Err(fail("it is too long"));
        }
        let mut attributes: Vec<(ObjectIdentifier, String)> = Vec::new();
        for part in split(name).ok_or_else(|| fail("it is no distinguished name"))? {
            let (key, value) = part.split_once('=').ok_or_else(|| fail("an attribute has no value"))?;
            let key = key.trim().to_ascii_uppercase();
            let (_, oid) = TYPES
                .iter()
                .find(|(short, _)| *short == key)
                .ok_or_else(|| fail("an attribute's type is unknown"))?;
            let oid = ObjectIdentifier::new(oid).map_err(|_| fail("an attribute's type is unknown"))?;
            let value = unescape(value)
                .filter(|v| !v.is_empty())
                .ok_or_else(|| fail("an attribute has no usable value"))?;
            if attributes.iter().any(|(known, _)| *known == oid) {
                return Err(fail("an attribute is given twice"));
            }
            attributes.push((oid, value));
        }
        let named = |oid: &str| attributes.iter().any(|(known, _)| known.to_string() == oid);
        if !MANDATORY.iter().all(|oid| named(oid)) {
            return Err(fail("it must name country (C), state (ST) and organisation (O)"));
        }
        Ok(Identity(attributes))
    }

    /// Whether each attribute is in the subject, whose attribute of that type must be the only one.
    pub(super) fn matches(&self, subject: &Name) -> bool {
        self.0.iter().all(|(oid, value)| {
            let mut same = subject.iter().filter(|a| a.oid == *oid);
            let only = same.next().filter(|_| same.next().is_none());
            only.and_then(|a| text(&a.value)).is_some_and(|found| found == *value)
        })
    }
}

fn text(value: &der::Any) -> Option<String> {
    use der::Tagged as _;
    match value.tag() {
        Tag::Utf8String => value.decode_as::<Utf8StringRef<'_>>().ok().map(|s| s.as_str().to_owned()),
        Tag::PrintableString => {
            value.decode_as::<PrintableStringRef<'_>>().ok().map(|s| s.as_str().to_owned())
        }
        Tag::Ia5String => value.decode_as::<Ia5StringRef<'_>>().ok().map(|s| s.as_str().to_owned()),
        _ => None,
    }
}

/// The attributes of a name, still escaped. Sets of several attributes (`+`) are not supported.
fn split(name: &str) -> Option<Vec<String>> {
    let mut parts = vec![String::new()];
    let mut chars = name.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => {
                let part = parts.last_mut()?;
                part.push(c);
                part.push(chars.next()?);
            }
            ',' => parts.push(String::new()),
            '+' | '"' | ';' | '<' | '>' => return None,
            c => parts.last_mut()?.push(c),
        }
    }
    Some(parts)
}

/// A value without its escapes and the blanks around it.
fn unescape(value: &str) -> Option<String> {
    let value = value.trim_start();
    // A blank at the end may be escaped, and then stays.
    let trimmed = value.trim_end();
    let value = if trimmed.ends_with('\\') { value } else { trimmed };
    let mut out = Vec::new();
    let mut chars = value.chars();
    let mut buffer = [0; 4];
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.extend_from_slice(c.encode_utf8(&mut buffer).as_bytes());
            continue;
        }
        let escaped = chars.next()?;
        match escaped.to_digit(16) {
            Some(high) => {
                let low = chars.next()?.to_digit(16)?;
                out.push(u8::try_from(high * 16 + low).ok()?);
            }
            None if " \"#+,;<=>\\".contains(escaped) => {
                out.extend_from_slice(escaped.encode_utf8(&mut buffer).as_bytes());
            }
            None => return None,
        }
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::str::FromStr as _;

    #[test]
    fn an_identity_is_part_of_a_subject() {
        let subject = Name::from_str("CN=x,OU=u,O=Acme\\, Inc,ST=WA,C=US").unwrap();
        let matches = |text: &str| Identity::parse(text).unwrap().matches(&subject);
        assert!(matches("x509.subject: C=US, ST=WA, O=Acme\\, Inc"));
        assert!(matches("x509.subject:c=US,S=WA,O=Acme\\2c Inc,CN=x"));
        assert!(!matches("x509.subject: C=US, ST=WA, O=Acme"));
        assert!(!matches("x509.subject: C=US, ST=WA, O=Acme\\, Inc, L=here"));
        assert!(!matches("x509.subject: C=US, ST=WA, O=Acme\\, Inc, CN=y"));
        let twice = Name::from_str("O=Acme,O=Evil,ST=WA,C=US").unwrap();
        assert!(!Identity::parse("x509.subject: C=US,ST=WA,O=Acme").unwrap().matches(&twice));
    }

    #[test]
    fn what_is_no_identity_is_refused() {
        for bad in [
            "",
            "*",
            "C=US,ST=WA,O=x",
            "x509.subject:",
            "x509.subject: C=US, O=x",
            "x509.subject: C=US, ST=WA, O=x, O=y",
            "x509.subject: C=US, ST=WA, O=",
            "x509.subject: C=US, ST=WA, O=x, ZZ=1",
            "x509.subject: C=US+ST=WA, O=x",
            "x509.subject: C=US, ST=WA, O=x\\",
            "x509.subject: C=US, ST=WA, O=\\zz",
            "x509.subject: C=US, ST=WA, O",
        ] {
            assert!(matches!(Identity::parse(bad), Err(Error::Key(_))), "{bad}");
        }
    }
}
