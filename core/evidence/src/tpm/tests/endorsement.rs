//! Endorsement key certificates: those that fit the profile, and all that do not. Made here, by authorities made here.

use std::str::FromStr;

use der::Encode;
use der::asn1::Utf8StringRef;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, PublicKeyData,
    SignatureAlgorithm,
};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::name::Name;

use super::super::enrol::{Candidate, appraise};
use super::soft::{AK, EK, Endorsement, Key, public_area};
use super::{JUNE_2025, failed};
use crate::Verdict;
use crate::x509::{Certificate, PublicKey};

struct Subject(PublicKey);

impl PublicKeyData for Subject {
    fn der_bytes(&self) -> &[u8] {
        match &self.0 {
            PublicKey::Rsa(key) | PublicKey::Ec(_, key) => key,
        }
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        match &self.0 {
            PublicKey::Rsa(_) => &PKCS_RSA_SHA256,
            PublicKey::Ec(..) => &PKCS_ECDSA_P256_SHA256,
        }
    }
}

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: Certificate,
}

impl Authority {
    fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let certificate = Certificate::parse(params.self_signed(&key).unwrap().der()).unwrap();
        Authority { issuer: Issuer::new(params, key), certificate }
    }

    fn issue(&self, params: &CertificateParams, key: &PublicKey) -> Vec<u8> {
        params.signed_by(&Subject(key.clone()), &self.issuer).unwrap().der().to_vec()
    }
}

/// Alternative names with a directory name of these attributes.
fn names(attributes: &[(&str, &str)], critical: bool) -> CustomExtension {
    let one = |(oid, text): &(&str, &str)| {
        format!("{oid}=#{}", hex::encode(Utf8StringRef::new(*text).unwrap().to_der().unwrap()))
    };
    let text = attributes.iter().map(one).collect::<Vec<_>>().join("+");
    let name = GeneralName::DirectoryName(Name::from_str(&text).unwrap());
    let content = SubjectAltName(vec![name]).to_der().unwrap();
    let mut extension = CustomExtension::from_oid_content(&[2, 5, 29, 17], content);
    extension.set_criticality(critical);
    extension
}

const MAKER: [(&str, &str); 3] =
    [("2.23.133.2.1", "id:54455354"), ("2.23.133.2.2", "model"), ("2.23.133.2.3", "id:1")];

/// As the profile wants it: no subject, a critical alternative name, the purpose, the usage.
fn profile(usage: KeyUsagePurpose) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![usage];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::Other(vec![2, 23, 133, 8, 1])];
    params.custom_extensions = vec![names(&MAKER, true)];
    params
}

fn judge(certificates: Vec<Vec<u8>>, ek: &PublicKey, root: &Authority) -> Verdict {
    let ak = public_area(&Key::p256().public(), AK);
    let candidate = Candidate::parse(&public_area(ek, EK), certificates, &ak).unwrap();
    appraise(&candidate, std::slice::from_ref(&root.certificate), JUNE_2025)
}

#[test]
fn certificates_of_the_profile_verify_for_who_trusts_their_root() {
    let (root, other) = (Authority::new("root"), Authority::new("root"));
    for (ek, usage) in [
        (Endorsement::rsa().public(), KeyUsagePurpose::KeyEncipherment),
        (Endorsement::p256().public(), KeyUsagePurpose::KeyAgreement),
    ] {
        let certificate = root.issue(&profile(usage), &ek);
        let verdict = judge(vec![certificate.clone()], &ek, &root);
        assert!(verdict.ok(), "{:#?}", verdict.checks);
        assert_eq!(verdict.claims["manufacturer"], "id:54455354");
        assert_eq!((&verdict.claims["model"], &verdict.claims["version"]), (&"model".into(), &"id:1".into()));
        // A root of the same name; a root that came along; no certificate at all.
        assert_eq!(failed(&judge(vec![certificate.clone()], &ek, &other)), ["ek.chain"]);
        let along = vec![certificate.clone(), root.certificate.der().to_vec()];
        assert_eq!(failed(&judge(along, &ek, &other)), ["ek.chain"]);
        assert_eq!(failed(&judge(vec![], &ek, &root)), ["ek.chain"]);
        assert_eq!(failed(&judge(vec![certificate.clone(); 9], &ek, &root)), ["ek.chain"]);
        assert_eq!(failed(&judge(vec![vec![0x30, 0x80]], &ek, &root)), ["ek.chain"]);
        // The certificate of another key.
        let another = Endorsement::rsa().public();
        assert_eq!(failed(&judge(vec![certificate], &another, &root)), ["ek.key"]);
    }
}

#[test]
fn certificates_of_another_purpose_are_refused() {
    let root = Authority::new("root");
    let ek = Endorsement::rsa().public();
    let refused = |change: &dyn Fn(&mut CertificateParams)| {
        let mut params = profile(KeyUsagePurpose::KeyEncipherment);
        change(&mut params);
        let verdict = judge(vec![root.issue(&params, &ek)], &ek, &root);
        assert_eq!(failed(&verdict), ["ek.profile"]);
        assert!(verdict.claims.is_null());
    };
    refused(&|p| p.extended_key_usages = vec![]);
    refused(&|p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]);
    refused(&|p| p.key_usages = vec![]);
    refused(&|p| p.key_usages = vec![KeyUsagePurpose::KeyAgreement]);
    refused(&|p| p.key_usages = vec![KeyUsagePurpose::DigitalSignature]);
    refused(&|p| p.key_usages.push(KeyUsagePurpose::DigitalSignature));
    refused(&|p| p.key_usages.push(KeyUsagePurpose::KeyCertSign));
    refused(&|p| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
    refused(&|p| p.custom_extensions = vec![]);
    refused(&|p| p.custom_extensions = vec![names(&MAKER, false)]);
    for missing in 0..3 {
        let mut some = MAKER.to_vec();
        some.remove(missing);
        refused(&|p| p.custom_extensions = vec![names(&some, true)]);
    }
    // With a subject, the alternative name need not be critical.
    let mut params = profile(KeyUsagePurpose::KeyEncipherment);
    params.distinguished_name.push(DnType::CommonName, "TPM");
    params.custom_extensions = vec![names(&MAKER, false)];
    assert!(judge(vec![root.issue(&params, &ek)], &ek, &root).ok());
}

#[test]
fn keys_with_other_attributes_are_no_candidates() {
    let root = Authority::new("root");
    let ek = Endorsement::rsa().public();
    let chain = vec![root.issue(&profile(KeyUsagePurpose::KeyEncipherment), &ek)];
    let judged = |ek_attributes, ak_attributes| {
        let ak = public_area(&Key::rsa().public(), ak_attributes);
        let candidate = Candidate::parse(&public_area(&ek, ek_attributes), chain.clone(), &ak).unwrap();
        failed(&appraise(&candidate, std::slice::from_ref(&root.certificate), JUNE_2025))
    };
    assert_eq!(judged(EK, AK), Vec::<&str>::new());
    assert_eq!(judged(EK & !(1 << 1), AK), ["ek.attributes"]);
    assert_eq!(judged(EK, AK & !(1 << 16)), ["ak.attributes"]);
    assert_eq!(judged(AK, EK), ["ek.attributes", "ak.attributes"]);
}

#[test]
fn an_expired_certificate_is_refused() {
    let root = Authority::new("root");
    let ek = Endorsement::rsa().public();
    let mut params = profile(KeyUsagePurpose::KeyEncipherment);
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    assert_eq!(failed(&judge(vec![root.issue(&params, &ek)], &ek, &root)), ["ek.validity"]);
}
