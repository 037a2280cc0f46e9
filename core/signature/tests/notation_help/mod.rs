//! An authority with a signing certificate, and how the tests refuse.
#![allow(dead_code, unused_imports)] // Each test program uses its part.

use std::time::{SystemTime, UNIX_EPOCH};

use cocoon_signature::NotationEnvelope;
use cocoon_signature::notation::{Trust, verify};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

pub const IDENTITY: &str = "x509.subject: C=US, ST=WA, O=Acme";
pub const DAY: u64 = 86_400;

pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// An authority with one signing certificate under it.
pub struct Ca {
    pub root_pem: String,
    pub leaf_pem: String,
    pub root_der: Vec<u8>,
    pub leaf_der: Vec<u8>,
    pub key: KeyPair,
}

/// Unix seconds so many days from now.
pub fn seconds(days: i64) -> u64 {
    now().checked_add_signed(days * 86_400).unwrap()
}

/// The same as a date for certificates, whose type has no name here.
macro_rules! day {
    ($days:expr) => {
        rcgen::date_time_ymd(1970, 1, 1)
            + std::time::Duration::from_secs($crate::notation_help::seconds($days))
    };
}

pub fn name(params: &mut CertificateParams, common: &str) {
    let n = &mut params.distinguished_name;
    n.push(DnType::CountryName, "US");
    n.push(DnType::StateOrProvinceName, "WA");
    n.push(DnType::OrganizationName, "Acme");
    n.push(DnType::CommonName, common);
}

pub fn ca(key: KeyPair, change: impl Fn(&mut CertificateParams)) -> Ca {
    let root_key = KeyPair::generate().unwrap();
    let mut root = CertificateParams::default();
    name(&mut root, "root");
    root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    root.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    (root.not_before, root.not_after) = (day!(-900), day!(900));
    let mut leaf = CertificateParams::default();
    name(&mut leaf, "signer");
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
    leaf.use_authority_key_identifier_extension = true;
    (leaf.not_before, leaf.not_after) = (day!(-10), day!(10));
    change(&mut leaf);
    let root_certificate = root.self_signed(&root_key).unwrap();
    let leaf = leaf.signed_by(&key, &Issuer::new(root, root_key)).unwrap();
    Ca {
        root_pem: root_certificate.pem(),
        leaf_pem: leaf.pem(),
        root_der: root_certificate.der().to_vec(),
        leaf_der: leaf.der().to_vec(),
        key,
    }
}

pub fn p256(change: impl Fn(&mut CertificateParams)) -> Ca {
    ca(KeyPair::generate().unwrap(), change)
}

pub fn trust(ca: &Ca) -> Trust {
    Trust::new(std::slice::from_ref(&ca.root_pem), &[IDENTITY.to_owned()]).unwrap()
}

pub fn refusal(trust: &Trust, envelope: &NotationEnvelope, now: u64) -> String {
    verify(trust, envelope, now).unwrap_err().to_string()
}

pub(crate) use day;
