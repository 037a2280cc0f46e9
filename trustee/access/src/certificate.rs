//! Which administrator a client certificate stands for. That it is genuine and valid was TLS's to check.

use der::asn1::ObjectIdentifier;
use der::{Decode, Tag, Tagged};
use x509_cert::Certificate;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use crate::config::{CertificateMatch, CertificateRule};
use crate::jwt::MAX_NAME;
use crate::provider::check_name;
use crate::token::sha256;
use crate::{Denied, Error};

const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
/// Longest certificate, in bytes of DER.
const MAX_DER: usize = 64 * 1024;
/// Most rules.
const MAX_RULES: usize = 1024;
/// Longest name in a rule, in bytes.
const MAX_MATCH: usize = 2048;

/// Refuses rules that could match by accident or not at all.
pub(crate) fn check_rules(rules: &[CertificateRule]) -> Result<(), Error> {
    if rules.len() > MAX_RULES {
        return Err(Error::Setting(format!("more than {MAX_RULES} client certificates")));
    }
    for rule in rules {
        check_name("role of a client certificate", &rule.role)?;
        if let Some(tenant) = &rule.tenant {
            check_name("tenant of a client certificate", tenant)?;
        }
        let name = match &rule.certificate {
            CertificateMatch::SubjectCn(name)
            | CertificateMatch::SanDns(name)
            | CertificateMatch::SanUri(name) => name,
            CertificateMatch::Sha256(_) => continue,
        };
        if !crate::jwt::is_name(name, MAX_MATCH) {
            return Err(Error::Setting("a client certificate's name is empty or unusable".to_owned()));
        }
        if name.contains('*') {
            return Err(Error::Setting(format!("client certificate {name}: there are no wildcards")));
        }
    }
    Ok(())
}

/// The first rule that matches the certificate, with a name for the administrator.
pub(crate) fn find<'r>(
    rules: &'r [CertificateRule],
    der: &[u8],
) -> Result<(String, &'r CertificateRule), Denied> {
    let unusable = |why: &str| Denied::unauthenticated(format!("client certificate: {why}"));
    if der.len() > MAX_DER {
        return Err(unusable("too long"));
    }
    let names = Names::read(der).map_err(unusable)?;
    let rule = rules.iter().find(|rule| names.match_(&rule.certificate));
    rule.map(|rule| (label(&rule.certificate), rule)).ok_or_else(|| unusable("it is not an administrator's"))
}

fn label(certificate: &CertificateMatch) -> String {
    match certificate {
        CertificateMatch::SubjectCn(name) => format!("CN={name}"),
        CertificateMatch::SanDns(name) => format!("DNS:{name}"),
        // A URI says what it is.
        CertificateMatch::SanUri(name) => name.clone(),
        CertificateMatch::Sha256(digest) => format!("sha256:{}", hex::encode(digest)),
    }
}

/// By what a certificate is known.
struct Names {
    cn: Option<String>,
    dns: Vec<String>,
    uris: Vec<String>,
    sha256: [u8; 32],
}

impl Names {
    fn read(der: &[u8]) -> Result<Self, &'static str> {
        let certificate = Certificate::from_der(der).map_err(|_| "not a DER certificate")?;
        let tbs = certificate.tbs_certificate();
        let san =
            tbs.get_extension::<SubjectAltName>().map_err(|_| "its alternative names are unreadable")?;
        let mut names = Names { cn: None, dns: vec![], uris: vec![], sha256: sha256(der) };
        for name in san.map(|(_, san)| san.0).unwrap_or_default() {
            match name {
                GeneralName::DnsName(name) => names.dns.push(name.as_str().to_owned()),
                GeneralName::UniformResourceIdentifier(name) => names.uris.push(name.as_str().to_owned()),
                _ => {}
            }
        }
        let mut common = tbs.subject().iter().filter(|attribute| attribute.oid == COMMON_NAME);
        // Of several common names none is *the* name.
        if let (Some(only), None) = (common.next(), common.next())
            && matches!(only.value.tag(), Tag::Utf8String | Tag::PrintableString)
        {
            names.cn = std::str::from_utf8(only.value.value()).ok().map(str::to_owned);
        }
        Ok(names)
    }

    fn match_(&self, wanted: &CertificateMatch) -> bool {
        match wanted {
            CertificateMatch::SubjectCn(name) => self.cn.as_ref() == Some(name),
            CertificateMatch::SanDns(name) => self.dns.contains(name),
            CertificateMatch::SanUri(name) => self.uris.contains(name),
            CertificateMatch::Sha256(digest) => self.sha256 == *digest,
        }
    }
}

// A role's and a tenant's limit is the same for every kind of credentials.
const _: () = assert!(MAX_NAME <= MAX_MATCH);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};

    use super::*;

    fn certificate(cns: &[&str], sans: Vec<SanType>) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        for cn in cns {
            params.distinguished_name.push(DnType::CommonName, *cn);
        }
        params.subject_alt_names = sans;
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    fn rule(certificate: CertificateMatch) -> CertificateRule {
        CertificateRule { certificate, role: "ops".into(), tenant: None }
    }

    fn matches(certificate: CertificateMatch, der: &[u8]) -> bool {
        find(&[rule(certificate)], der).is_ok()
    }

    #[test]
    fn names_are_compared_exactly() {
        let uri = "spiffe://example.org/ops";
        let sans = vec![
            SanType::DnsName("ops.example.org".try_into().unwrap()),
            SanType::URI(uri.try_into().unwrap()),
            SanType::DnsName("*.wild.org".try_into().unwrap()),
        ];
        let der = certificate(&["ops"], sans);
        assert!(matches(CertificateMatch::SubjectCn("ops".into()), &der));
        assert!(matches(CertificateMatch::SanDns("ops.example.org".into()), &der));
        assert!(matches(CertificateMatch::SanUri(uri.into()), &der));
        assert!(matches(CertificateMatch::Sha256(sha256(&der)), &der));
        for other in ["OPS", "op", "ops ", "ops.example.org", uri] {
            assert!(!matches(CertificateMatch::SubjectCn(other.into()), &der), "{other}");
        }
        for other in ["ops", "example.org", "a.wild.org", uri, "OPS.example.org"] {
            assert!(!matches(CertificateMatch::SanDns(other.into()), &der), "{other}");
        }
        for other in ["ops.example.org", "spiffe://example.org", "spiffe://example.org/ops/"] {
            assert!(!matches(CertificateMatch::SanUri(other.into()), &der), "{other}");
        }
        assert!(!matches(CertificateMatch::Sha256([0; 32]), &der));
    }

    #[test]
    fn the_first_rule_counts_and_names_the_administrator() {
        let der = certificate(&["ops"], vec![]);
        let mut bound = rule(CertificateMatch::SubjectCn("ops".into()));
        bound.tenant = Some("blue".into());
        let rules = [
            rule(CertificateMatch::SubjectCn("x".into())),
            bound,
            rule(CertificateMatch::Sha256(sha256(&der))),
        ];
        let (name, found) = find(&rules, &der).unwrap();
        assert_eq!((name.as_str(), found.tenant.as_deref()), ("CN=ops", Some("blue")));
        assert_eq!(find(&rules, &certificate(&["y"], vec![])).unwrap_err().status(), 401);
        assert!(find(&[], &der).is_err());
    }

    #[test]
    fn broken_certificates_match_nothing() {
        let der = certificate(&["ops"], vec![]);
        let any = |der: &[u8]| matches(CertificateMatch::Sha256(sha256(der)), der);
        assert!(any(&der));
        assert!(!any(b"") && !any(b"x") && !any(&der[..der.len() - 1]) && !any(&[&der[..], b"x"].concat()));
        assert!(!any(&vec![0x30; MAX_DER + 1]));
        let without = certificate(&[], vec![]);
        assert!(!matches(CertificateMatch::SubjectCn(String::new()), &without));
    }

    #[test]
    fn unusable_rules_are_refused() {
        for certificate in [
            CertificateMatch::SubjectCn(String::new()),
            CertificateMatch::SanDns("*.example.org".into()),
            CertificateMatch::SubjectCn("*".into()),
            CertificateMatch::SanUri("a\0b".into()),
        ] {
            assert!(
                matches!(check_rules(&[rule(certificate.clone())]), Err(Error::Setting(_))),
                "{certificate:?}"
            );
        }
        let mut nameless = rule(CertificateMatch::Sha256([1; 32]));
        assert!(check_rules(std::slice::from_ref(&nameless)).is_ok());
        nameless.tenant = Some(String::new());
        assert!(check_rules(std::slice::from_ref(&nameless)).is_err());
        nameless.tenant = None;
        nameless.role = "a\nb".into();
        assert!(check_rules(&[nameless]).is_err());
        assert!(check_rules(&vec![rule(CertificateMatch::Sha256([1; 32])); MAX_RULES + 1]).is_err());
    }

    proptest! {
        #[test]
        fn altered_certificates_do_not_panic(at: prop::sample::Index, byte: u8, noise: Vec<u8>) {
            let mut der = certificate(&["ops"], vec![SanType::DnsName("a.b".try_into().unwrap())]);
            let at = at.index(der.len());
            der[at] = byte;
            let _ = Names::read(&der);
            prop_assert!(Names::read(&noise).is_err());
        }
    }
}
