//! Real certificates of vendors, own chains with one fault each, and bytes that are no certificates.

mod algorithms;
mod certificates;
mod crls;
mod paths;
mod pem;
mod vectors;
mod writer;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyIdMethod, KeyPair,
    KeyUsagePurpose, SerialNumber, date_time_ymd,
};

use super::Certificate;

/// 2025-06-01.
const NOW: u64 = 1_748_736_000;

fn common_name(text: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, text);
    name
}

/// Valid from 2024 to 2030, no authority.
fn leaf(subject: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name(subject);
    params.not_before = date_time_ymd(2024, 1, 1);
    params.not_after = date_time_ymd(2030, 1, 1);
    params.serial_number = Some(SerialNumber::from(7u64));
    params.key_identifier_method = KeyIdMethod::PreSpecified(vec![1; 20]);
    params
}

/// Valid from 2024 to 2030, may issue certificates and lists.
fn authority(subject: &str) -> CertificateParams {
    let mut params = leaf(subject);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// An authority with at most so many below it.
fn limited(subject: &str, length: u8) -> CertificateParams {
    with(authority(subject), |p| p.is_ca = IsCa::Ca(BasicConstraints::Constrained(length)))
}

fn with(mut params: CertificateParams, change: impl FnOnce(&mut CertificateParams)) -> CertificateParams {
    change(&mut params);
    params
}

fn key() -> KeyPair {
    KeyPair::generate().unwrap()
}

/// A certificate issued in that name by that key, whatever the issuer's own certificate says.
fn issue(params: &CertificateParams, key: &KeyPair, issuer: &str, issuer_key: &KeyPair) -> Certificate {
    let issuer = Issuer::new(leaf(issuer), issuer_key);
    Certificate::parse(params.signed_by(key, &issuer).unwrap().der()).unwrap()
}

fn own(params: &CertificateParams, key: &KeyPair) -> Certificate {
    Certificate::parse(params.self_signed(key).unwrap().der()).unwrap()
}
