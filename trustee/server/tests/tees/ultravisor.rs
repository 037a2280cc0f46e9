//! A model of an IBM Z machine: its host key document with a chain to a root, and its Ultravisor, which opens requests and
//! measures. Written from the formats' description; it is no proof that a real machine agrees.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::agreement::{ECDH_P521, PrivateKey, UnparsedPublicKey, agree};
use aws_lc_rs::hmac;
use cocoon_evidence::se::{Header, HostKey, HostKeyTrust};
use cocoon_evidence::x509::{Certificate, Crl};
use cocoon_protocol::b64;
use cocoon_trustee::SecureExecution;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName, DnType, IsCa,
    Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P384_SHA384, PKCS_ECDSA_P521_SHA512,
    SerialNumber, date_time_ymd,
};
use serde_json::{Value, json};

use crate::support::sha256;

/// The machine with the image that was booted on it.
pub struct Machine {
    key: PrivateKey,
    document: HostKey,
    header: Vec<u8>,
}

impl Machine {
    /// Its certificates are good from 2024 to 2040, and so are the revocation lists.
    pub fn new(now: u64) -> Machine {
        let (root, middle, signing) = (authority_key(), authority_key(), authority_key());
        let host = KeyPair::generate_for(&PKCS_ECDSA_P521_SHA512).unwrap();
        let root_name = || name(&[(DnType::CommonName, "Root")]);
        let middle_name = || name(&[(DnType::CommonName, "Intermediate")]);
        let certificate = |der: &[u8]| Certificate::parse(der).unwrap();
        let root_der = params(root_name(), 1, true).self_signed(&root).unwrap();
        let by_root = issuer(root_name(), &root);
        let middle_der = params(middle_name(), 2, true).signed_by(&middle, &by_root).unwrap();
        let by_middle = issuer(middle_name(), &middle);
        let signing_der = params(signing_name(), 3, false).signed_by(&signing, &by_middle).unwrap();
        let by_signing = issuer(signing_name(), &signing);
        let document = params(name(&[(DnType::CommonName, "host")]), 4, false);
        let document = document.signed_by(&host, &by_signing).unwrap();
        let trust = HostKeyTrust {
            roots: vec![certificate(root_der.der())],
            certificates: vec![certificate(middle_der.der()), certificate(signing_der.der())],
            crls: vec![list(&by_root), list(&by_middle), list(&by_signing)],
        };
        let key = PrivateKey::from_private_key_der(&ECDH_P521, host.serialized_der()).unwrap();
        let document = HostKey::verify(document.der(), &trust, now).unwrap();
        Machine { key, document, header: header(0) }
    }

    /// The same machine with another image.
    pub fn with(self, header: Vec<u8>) -> Machine {
        Machine { header, ..self }
    }

    /// What a Trustee that expects this machine and this image is told.
    pub fn expected(&self) -> SecureExecution {
        SecureExecution {
            host_keys: vec![self.document.clone()],
            header: Header::parse(&self.header).unwrap(),
        }
    }

    /// The hash of its key, hex.
    pub fn key_hash(&self) -> String {
        hex::encode(self.document.hash())
    }

    /// What the guest's attester answers to a challenge; `None` where the request is not for this machine.
    pub fn attest(&self, challenge: &str, user_data: &[u8]) -> Option<Value> {
        let challenge: Value = serde_json::from_str(challenge).unwrap();
        let blob = b64::std_decode(challenge["request_blob"].as_str().unwrap()).unwrap();
        let secret = self.open(&blob)?;
        let (key, nonce) = secret.split_at(64);
        let additional = [self.document.hash().as_slice(), self.document.hash()].concat();
        let tags = Header::parse(&self.header).unwrap().tags.to_bytes();
        let length = u16::try_from(user_data.len()).unwrap().to_be_bytes();
        let cuid = [5; 16];
        let items: [&[u8]; 8] =
            [&tags, &cuid, &length, &[0, 0], &[0, 0, 0, 64], user_data, nonce, &additional];
        let measurement = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA512, key), &items.concat());
        Some(json!({
            "measurement": b64::std_encode(measurement.as_ref()),
            "additional_data": b64::std_encode(&additional),
            "user_data": b64::std_encode(user_data),
            "cuid": b64::std_encode(&cuid),
            "encr_measurement_key": challenge["encr_measurement_key"],
            "encr_request_nonce": challenge["encr_request_nonce"],
            "image_hdr_tags": challenge["image_hdr_tags"],
        }))
    }

    /// The measurement key and the nonce of a request with one key slot.
    fn open(&self, blob: &[u8]) -> Option<Vec<u8>> {
        let (head, encrypted) = blob.split_at(224 + 80);
        let (x, y) = (&head[64 + 14..64 + 80], &head[64 + 80 + 14..224]);
        let point = UnparsedPublicKey::new(&ECDH_P521, [&[4], x, y].concat());
        let wrapping = agree(&self.key, point, (), |z| Ok(sha256(&[z, &[0, 0, 0, 1]].concat()))).ok()?;
        (head[224..256] == self.document.hash()[..]).then_some(())?;
        let protection = decrypt(&wrapping, [0; 12], &[], &head[256..304])?;
        decrypt(&protection, head[16..28].try_into().unwrap(), head, encrypted)
    }
}

fn decrypt(key: &[u8], iv: [u8; 12], aad: &[u8], data: &[u8]) -> Option<Vec<u8>> {
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).unwrap());
    let mut data = data.to_vec();
    let plain = key.open_in_place(Nonce::assume_unique_for_key(iv), Aad::from(aad), &mut data).ok()?;
    Some(plain.to_vec())
}

/// Header of an image with one key slot.
pub fn header(seed: u8) -> Vec<u8> {
    let mut bytes = b"IBMSecEx".to_vec();
    bytes.extend([0x100u32, 0x280].map(u32::to_be_bytes).concat());
    bytes.extend([9; 12]);
    bytes.extend([0; 4]);
    bytes.extend([1u64, 128, 77, 0xe0].map(u64::to_be_bytes).concat());
    bytes.extend([3; 160]);
    [1, 2, 3].into_iter().for_each(|n| bytes.extend([seed + n; 64]));
    bytes.extend([8; 80 + 128]);
    bytes.extend([seed + 4; 16]);
    bytes
}

fn authority_key() -> KeyPair {
    KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap()
}

fn name(parts: &[(DnType, &str)]) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    parts.iter().for_each(|(kind, value)| name.push(kind.clone(), *value));
    name
}

/// IBM's signing keys are known by this subject.
fn signing_name() -> DistinguishedName {
    let ibm = "International Business Machines Corporation";
    name(&[
        (DnType::CountryName, "US"),
        (DnType::StateOrProvinceName, "New York"),
        (DnType::LocalityName, "Poughkeepsie"),
        (DnType::OrganizationName, ibm),
        (DnType::OrganizationalUnitName, "IBM Z Host Key Signing Service"),
        (DnType::CommonName, ibm),
    ])
}

fn params(subject: DistinguishedName, serial: u64, authority: bool) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = subject;
    params.not_before = date_time_ymd(2024, 1, 1);
    params.not_after = date_time_ymd(2040, 1, 1);
    params.serial_number = Some(SerialNumber::from(serial));
    params.key_identifier_method = KeyIdMethod::PreSpecified(vec![1; 20]);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    if authority {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    }
    params
}

fn issuer(name: DistinguishedName, key: &KeyPair) -> Issuer<'_, &KeyPair> {
    let mut params = CertificateParams::default();
    params.distinguished_name = name;
    params.key_identifier_method = KeyIdMethod::PreSpecified(vec![1; 20]);
    Issuer::new(params, key)
}

fn list(issuer: &Issuer<'_, &KeyPair>) -> Crl {
    let list = CertificateRevocationListParams {
        this_update: date_time_ymd(2024, 1, 1),
        next_update: date_time_ymd(2040, 1, 1),
        crl_number: SerialNumber::from(1u64),
        issuing_distribution_point: None,
        revoked_certs: Vec::new(),
        key_identifier_method: KeyIdMethod::PreSpecified(vec![1; 20]),
    };
    Crl::parse(list.signed_by(issuer).unwrap().der()).unwrap()
}
