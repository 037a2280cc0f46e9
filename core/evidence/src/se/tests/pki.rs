//! A public key infrastructure shaped like IBM's: root, intermediate, a signing key that is no authority, host keys.

use std::sync::LazyLock;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName, DnType, IsCa,
    Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P384_SHA384, PKCS_ECDSA_P521_SHA512,
    PKCS_RSA_SHA512, RevokedCertParams, RsaKeySize, SerialNumber, date_time_ymd,
};

use crate::se::{HostKey, HostKeyTrust};
use crate::x509::{Certificate, Crl};

/// 2025-06-01.
pub const NOW: u64 = 1_748_736_000;
pub const DAY: u64 = 86400;

const IBM: &str = "International Business Machines Corporation";

/// Subject of a signing key.
pub fn signing_name(locality: &str) -> DistinguishedName {
    name(&[
        (DnType::CountryName, "US"),
        (DnType::StateOrProvinceName, "New York"),
        (DnType::LocalityName, locality),
        (DnType::OrganizationName, IBM),
        (DnType::OrganizationalUnitName, "IBM Z Host Key Signing Service"),
        (DnType::CommonName, IBM),
    ])
}

pub fn name(parts: &[(DnType, &str)]) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    parts.iter().for_each(|(kind, value)| name.push(kind.clone(), *value));
    name
}

pub fn common(text: &str) -> DistinguishedName {
    name(&[(DnType::CommonName, text)])
}

/// Valid from 2024 to 2030.
pub fn params(subject: DistinguishedName, serial: u64, authority: bool) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = subject;
    params.not_before = date_time_ymd(2024, 1, 1);
    params.not_after = date_time_ymd(2030, 1, 1);
    params.serial_number = Some(SerialNumber::from(serial));
    params.key_identifier_method = KeyIdMethod::PreSpecified(vec![1; 20]);
    if authority {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    } else {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    }
    params
}

/// A list of 2025.
pub fn list(revoked: &[u64]) -> CertificateRevocationListParams {
    let entry = |serial: &u64| RevokedCertParams {
        serial_number: SerialNumber::from(*serial),
        revocation_time: date_time_ymd(2025, 2, 1),
        reason_code: None,
        invalidity_date: None,
    };
    CertificateRevocationListParams {
        this_update: date_time_ymd(2025, 1, 1),
        next_update: date_time_ymd(2026, 1, 1),
        crl_number: SerialNumber::from(1u64),
        issuing_distribution_point: None,
        revoked_certs: revoked.iter().map(entry).collect(),
        key_identifier_method: KeyIdMethod::PreSpecified(vec![1; 20]),
    }
}

pub fn p521() -> KeyPair {
    KeyPair::generate_for(&PKCS_ECDSA_P521_SHA512).unwrap()
}

fn p384() -> KeyPair {
    KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap()
}

/// Keys, and the subjects they go by.
pub struct Pki {
    pub root: KeyPair,
    pub intermediate: KeyPair,
    pub signing: KeyPair,
    pub host: KeyPair,
    pub other_host: KeyPair,
}

/// Serial numbers.
pub const INTERMEDIATE: u64 = 2;
pub const SIGNING: u64 = 3;
pub const HOST: u64 = 0x80ff;
pub const OTHER_HOST: u64 = 5;

pub static PKI: LazyLock<Pki> = LazyLock::new(|| Pki {
    root: p384(),
    intermediate: p384(),
    signing: KeyPair::generate_rsa_for(&PKCS_RSA_SHA512, RsaKeySize::_2048).unwrap(),
    host: p521(),
    other_host: p521(),
});

/// An issuer as far as signing goes, whatever its certificate says.
pub fn issuer(name: DistinguishedName, key: &KeyPair) -> Issuer<'_, &KeyPair> {
    let mut params = CertificateParams::default();
    params.distinguished_name = name;
    params.key_identifier_method = KeyIdMethod::PreSpecified(vec![1; 20]);
    Issuer::new(params, key)
}

pub fn parsed(certificate: &rcgen::Certificate) -> Certificate {
    Certificate::parse(certificate.der()).unwrap()
}

impl Pki {
    pub fn root_certificate(&self) -> Certificate {
        parsed(&params(common("Root"), 1, true).self_signed(&self.root).unwrap())
    }

    pub fn intermediate_certificate(&self, params: &CertificateParams) -> Certificate {
        let issuer = issuer(common("Root"), &self.root);
        parsed(&params.signed_by(&self.intermediate, &issuer).unwrap())
    }

    pub fn signing_certificate(&self, params: &CertificateParams) -> Certificate {
        let issuer = issuer(common("Intermediate"), &self.intermediate);
        parsed(&params.signed_by(&self.signing, &issuer).unwrap())
    }

    /// A document in DER, issued in that name.
    pub fn document(
        &self,
        params: &CertificateParams,
        key: &KeyPair,
        issuer_name: DistinguishedName,
    ) -> Vec<u8> {
        let issuer = issuer(issuer_name, &self.signing);
        params.signed_by(key, &issuer).unwrap().der().to_vec()
    }

    pub fn host_document(&self) -> Vec<u8> {
        self.document(&params(common("host"), HOST, false), &self.host, signing_name("Poughkeepsie"))
    }

    pub fn other_document(&self) -> Vec<u8> {
        self.document(
            &params(common("other host"), OTHER_HOST, false),
            &self.other_host,
            signing_name("Poughkeepsie"),
        )
    }

    /// The lists of root, intermediate and signing key.
    pub fn crls(&self, revoked: &[u64]) -> Vec<Crl> {
        vec![
            crl(&list(revoked), common("Root"), &self.root),
            crl(&list(revoked), common("Intermediate"), &self.intermediate),
            crl(&list(revoked), signing_name("Poughkeepsie"), &self.signing),
        ]
    }

    pub fn trust(&self) -> HostKeyTrust {
        HostKeyTrust {
            roots: vec![self.root_certificate()],
            certificates: vec![
                self.intermediate_certificate(&params(common("Intermediate"), INTERMEDIATE, true)),
                self.signing_certificate(&params(signing_name("Poughkeepsie"), SIGNING, false)),
            ],
            crls: self.crls(&[]),
        }
    }

    pub fn host_key(&self) -> HostKey {
        HostKey::verify(&self.host_document(), &self.trust(), NOW).unwrap()
    }

    pub fn other_host_key(&self) -> HostKey {
        HostKey::verify(&self.other_document(), &self.trust(), NOW).unwrap()
    }
}

pub fn crl(list: &CertificateRevocationListParams, name: DistinguishedName, key: &KeyPair) -> Crl {
    Crl::parse(list.signed_by(&issuer(name, key)).unwrap().der()).unwrap()
}
