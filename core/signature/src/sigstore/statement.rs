//! What cosign 3 signs for an image: an in-toto statement in a DSSE envelope.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use cocoon_image::{Digest, Error};

use super::wrong;

/// Payload type of in-toto statements.
pub const STATEMENT_MEDIA_TYPE: &str = "application/vnd.in-toto+json";
/// Predicate type of a statement that vouches for an image. Others (provenance, reports of flaws) say something about
/// it, which is not the same.
pub const PREDICATE_TYPE: &str = "https://sigstore.dev/cosign/sign/v1";
const STATEMENT_TYPES: [&str; 2] = ["https://in-toto.io/Statement/v1", "https://in-toto.io/Statement/v0.1"];
const MAX_SUBJECTS: usize = 16;

/// The statement that vouches for an image; under a name where one is given, as the subject's `name` (in-toto Statement
/// v1, ResourceDescriptor). Cosign 3 gives none, and verifies either.
pub fn statement(digest: &Digest, name: Option<&str>) -> Vec<u8> {
    let (algorithm, hex) = parts(digest);
    let mut subject = json!({"digest": {algorithm: hex}});
    if let (Some(name), Some(members)) = (name, subject.as_object_mut()) {
        members.insert("name".to_owned(), Value::from(name));
    }
    json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [subject],
        "predicateType": PREDICATE_TYPE,
        "predicate": {},
    })
    .to_string()
    .into_bytes()
}

/// The bytes that are signed for a payload (DSSE 1.0.2, "PAE").
pub fn pae(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len());
    [head.as_bytes(), payload].concat()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    #[serde(rename = "_type")]
    kind: String,
    subject: Vec<Subject>,
    predicate_type: String,
}

#[derive(Deserialize)]
struct Subject {
    /// `None` also where a writer leaves it empty.
    name: Option<String>,
    digest: Map<String, Value>,
}

/// The first of the accepted digests that a signed statement vouches for, and the name under which it does.
pub(super) fn vouched(payload: &[u8], accepted: &[Digest]) -> Result<(Digest, Option<String>), Error> {
    let malformed = |why: String| wrong(format!("the signed statement is malformed: {why}"));
    let value = crate::strict::parse(payload, super::MAX_BUNDLE_BYTES, 10_000).map_err(malformed)?;
    let wire = Wire::deserialize(value).map_err(|e| malformed(e.to_string()))?;
    if !STATEMENT_TYPES.contains(&wire.kind.as_str()) {
        return Err(wrong("what is signed is not an in-toto statement"));
    }
    if wire.predicate_type != PREDICATE_TYPE {
        return Err(wrong(format!("it is a statement of type {:?}, not a signature", wire.predicate_type)));
    }
    if wire.subject.len() > MAX_SUBJECTS {
        return Err(malformed("too many subjects".to_owned()));
    }
    // Several subjects with one digest under different names would leave open which name is meant.
    let vouches = |accepted: &Digest| {
        let (algorithm, hex) = parts(accepted);
        let is_of = |s: &&Subject| s.digest.get(algorithm).and_then(Value::as_str) == Some(hex.as_str());
        let mut subjects = wire.subject.iter().filter(is_of);
        let subject = subjects.next()?;
        let name = subject.name.clone().filter(|_| subjects.all(|other| other.name == subject.name));
        Some((*accepted, name.filter(|name| !name.is_empty())))
    };
    accepted.iter().find_map(vouches).ok_or_else(|| {
        let first =
            wire.subject.first().map(|s| Value::from(s.digest.clone()).to_string()).unwrap_or_default();
        wrong(format!("it is for {first}, another image"))
    })
}

fn parts(digest: &Digest) -> (&'static str, String) {
    match digest {
        Digest::Sha256(_) => ("sha256", digest.hex()),
        Digest::Sha512(_) => ("sha512", digest.hex()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_vouches_for_its_digest_alone() {
        let (own, other) = (Digest::sha256(b"own"), Digest::sha256(b"other"));
        let text = String::from_utf8(statement(&own, None)).unwrap();
        assert_eq!(vouched(text.as_bytes(), &[other, own]).unwrap(), (own, None));
        let named = String::from_utf8(statement(&own, Some("a.io/x"))).unwrap();
        assert_eq!(vouched(named.as_bytes(), &[own]).unwrap(), (own, Some("a.io/x".to_owned())));
        let empty = named.replace("a.io/x", "");
        assert_eq!(vouched(empty.as_bytes(), &[own]).unwrap(), (own, None));
        let mut two: Value = serde_json::from_str(&named).unwrap();
        let mut second = two["subject"][0].clone();
        second["name"] = "a.io/y".into();
        two["subject"].as_array_mut().unwrap().push(second);
        assert_eq!(vouched(two.to_string().as_bytes(), &[own]).unwrap(), (own, None));
        for bad in [
            text.replace("sign/v1", "sign/v2"),
            text.replace(PREDICATE_TYPE, "https://slsa.dev/provenance/v1"),
            text.replace("Statement/v1", "Statement/v9"),
            text.replace("sha256", "sha1"),
            text.replace("subject", "subjects"),
            text.replace("\"predicate\":", "\"subject\":[],\"predicate\":"),
        ] {
            assert!(vouched(bad.as_bytes(), &[own]).is_err(), "{bad}");
        }
        assert!(vouched(text.as_bytes(), &[other]).is_err());
        assert!(vouched(text.as_bytes(), &[]).is_err());
    }

    #[test]
    fn pre_authentication_encoding() {
        assert_eq!(
            pae("http://example.com/HelloWorld", b"hello world"),
            b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
        );
    }
}
