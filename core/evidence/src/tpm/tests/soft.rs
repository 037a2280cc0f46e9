//! A TPM in software, for tests only: keys in memory, quotes on demand, credential activation written from the other side.

use aws_lc_rs::agreement::{self, PrivateKey, UnparsedPublicKey};
use aws_lc_rs::cipher::{AES_128, DecryptingKey, DecryptionContext, UnboundCipherKey};
use aws_lc_rs::digest::{self, digest};
use aws_lc_rs::encoding::{AsBigEndian, AsDer, EcPublicKeyUncompressedBin, PublicKeyX509Der};
use aws_lc_rs::hmac;
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{
    KeyPair as RsaKeyPair, KeySize, OAEP_SHA256_MGF1SHA256, OaepPrivateDecryptingKey, PrivateDecryptingKey,
};
use aws_lc_rs::signature::{self, EcdsaKeyPair, KeyPair};
use serde_json::{Value, json};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::super::Challenge;
use crate::x509::{Hash, PublicKey};

/// An attestation key.
pub enum Key {
    Rsa(RsaKeyPair),
    Ec(EcdsaKeyPair, Hash),
}

impl Key {
    pub fn rsa() -> Self {
        Key::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).unwrap())
    }

    pub fn p256() -> Self {
        Key::Ec(EcdsaKeyPair::generate(&signature::ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(), Hash::Sha256)
    }

    pub fn p384() -> Self {
        Key::Ec(EcdsaKeyPair::generate(&signature::ECDSA_P384_SHA384_FIXED_SIGNING).unwrap(), Hash::Sha384)
    }

    pub fn spki(&self) -> Vec<u8> {
        let der: PublicKeyX509Der<'_> = match self {
            Key::Rsa(key) => key.public_key().as_der().unwrap(),
            Key::Ec(key, _) => key.public_key().as_der().unwrap(),
        };
        der.as_ref().to_vec()
    }

    pub fn public(&self) -> PublicKey {
        PublicKey::from_spki(&self.spki()).unwrap()
    }

    /// A `TPMT_SIGNATURE`; `pss` for RSA.
    pub fn sign(&self, message: &[u8], hash: Hash, pss: bool) -> Vec<u8> {
        let id = super::super::algorithm::id_of(hash).to_be_bytes();
        match self {
            Key::Rsa(key) => {
                let padding: &dyn signature::RsaEncoding = match (pss, hash) {
                    (false, Hash::Sha256) => &signature::RSA_PKCS1_SHA256,
                    (false, Hash::Sha384) => &signature::RSA_PKCS1_SHA384,
                    (false, Hash::Sha512) => &signature::RSA_PKCS1_SHA512,
                    (true, Hash::Sha256) => &signature::RSA_PSS_SHA256,
                    (true, Hash::Sha384) => &signature::RSA_PSS_SHA384,
                    (true, Hash::Sha512) => &signature::RSA_PSS_SHA512,
                };
                let mut bytes = vec![0; key.public_modulus_len()];
                key.sign(padding, &SystemRandom::new(), message, &mut bytes).unwrap();
                let scheme = if pss { 0x0016u16 } else { 0x0014 };
                [&scheme.to_be_bytes(), id.as_slice(), &two_byte(&bytes)].concat()
            }
            Key::Ec(key, _) => {
                let bytes = key.sign(&SystemRandom::new(), message).unwrap();
                let (r, s) = bytes.as_ref().split_at(bytes.as_ref().len() / 2);
                [&0x0018u16.to_be_bytes(), id.as_slice(), &two_byte(r), &two_byte(s)].concat()
            }
        }
    }
}

pub fn two_byte(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
}

fn hashed(hash: Hash, bytes: &[u8]) -> Vec<u8> {
    let algorithm = match hash {
        Hash::Sha256 => &digest::SHA256,
        Hash::Sha384 => &digest::SHA384,
        Hash::Sha512 => &digest::SHA512,
    };
    digest(algorithm, bytes).as_ref().to_vec()
}

/// What a quote is made of.
pub struct Platform {
    pub bank: Hash,
    pub pcrs: Vec<Vec<u8>>,
    /// `TPML_PCR_SELECTION`: bank and registers.
    pub selection: Vec<(u16, Vec<usize>)>,
    pub extra_data: Vec<u8>,
}

impl Platform {
    /// 24 registers of SHA-256 with something in them, all of them quoted.
    pub fn new(extra_data: &[u8]) -> Self {
        let pcrs = (0..24u8).map(|n| hashed(Hash::Sha256, &[n])).collect();
        let selection = vec![(0x000b, (0..24).collect())];
        Platform { bank: Hash::Sha256, pcrs, selection, extra_data: extra_data.to_vec() }
    }

    /// `TPMS_ATTEST` whose digest, by `hash`, is of all registers presented.
    pub fn message(&self, hash: Hash) -> Vec<u8> {
        let mut out = vec![0xff, 0x54, 0x43, 0x47, 0x80, 0x18];
        out.extend(two_byte(&[&[0, 0x0b], hashed(Hash::Sha256, b"signer").as_slice()].concat()));
        out.extend(two_byte(&self.extra_data));
        out.extend(77_000u64.to_be_bytes());
        out.extend(3u32.to_be_bytes());
        out.extend(4u32.to_be_bytes());
        out.push(1);
        out.extend(0x2023_0001_0002_0003u64.to_be_bytes());
        out.extend(u32::try_from(self.selection.len()).unwrap().to_be_bytes());
        for (bank, registers) in &self.selection {
            out.extend(bank.to_be_bytes());
            let mut bits = [0u8; 3];
            registers.iter().for_each(|n| bits[n / 8] |= 1 << (n % 8));
            out.push(3);
            out.extend(bits);
        }
        out.extend(two_byte(&hashed(hash, &self.pcrs.concat())));
        out
    }

    /// Evidence signed by a key: RSASSA with SHA-256, or ECDSA with the key's hash.
    pub fn evidence(&self, key: &Key) -> Value {
        let hash = match key {
            Key::Rsa(_) => Hash::Sha256,
            Key::Ec(_, hash) => *hash,
        };
        self.signed(key, hash, false)
    }

    pub fn signed(&self, key: &Key, hash: Hash, pss: bool) -> Value {
        let message = self.message(hash);
        let mut value = json!({
            "ak_public": STANDARD.encode(key.spki()),
            "tpm_quote": {
                "message": STANDARD.encode(&message),
                "signature": STANDARD.encode(key.sign(&message, hash, pss)),
                "pcrs": self.pcrs.iter().map(hex::encode).collect::<Vec<_>>(),
            }
        });
        if self.bank == Hash::Sha384 {
            value["tpm_quote"]["bank"] = json!("sha384");
        }
        value
    }
}

/// Attributes of an attestation key and of an endorsement key, as the usual templates have them.
pub const AK: u32 = 0x0005_0072;
pub const EK: u32 = 0x0003_00b2;

/// `TPM2B_PUBLIC` of a key: as an attestation key with a scheme, as an endorsement key with AES-128-CFB.
pub fn public_area(key: &PublicKey, attributes: u32) -> Vec<u8> {
    let storage = attributes & (1 << 17) != 0;
    let symmetric: &[u8] = if storage { &[0, 6, 0, 128, 0, 0x43] } else { &[0, 0x10] };
    let head = |kind: u16| {
        let mut out = kind.to_be_bytes().to_vec();
        out.extend([0, 0x0b]);
        out.extend(attributes.to_be_bytes());
        out.extend(two_byte(&[7; 32]));
        out.extend(symmetric);
        out
    };
    let area = match key {
        PublicKey::Rsa(_) => {
            let (n, _) = key.rsa_components().unwrap();
            let mut out = head(0x0001);
            out.extend(if storage { &[0, 0x10][..] } else { &[0, 0x14, 0, 0x0b] });
            out.extend(u16::try_from(n.len() * 8).unwrap().to_be_bytes());
            out.extend([0; 4]);
            out.extend(two_byte(&n));
            out
        }
        PublicKey::Ec(curve, point) => {
            let mut out = head(0x0023);
            out.extend(if storage { &[0, 0x10][..] } else { &[0, 0x18, 0, 0x0b] });
            out.extend(if curve.length() == 32 { [0, 3] } else { [0, 4] });
            out.extend([0, 0x10]);
            let (x, y) = point[1..].split_at(curve.length());
            out.extend([two_byte(x), two_byte(y)].concat());
            out
        }
    };
    two_byte(&area)
}

/// An endorsement key with its secret part.
pub enum Endorsement {
    Rsa(PrivateDecryptingKey),
    Ec(PrivateKey),
}

impl Endorsement {
    pub fn rsa() -> Self {
        Endorsement::Rsa(PrivateDecryptingKey::generate(KeySize::Rsa2048).unwrap())
    }

    pub fn p256() -> Self {
        Endorsement::Ec(PrivateKey::generate(&agreement::ECDH_P256).unwrap())
    }

    pub fn spki(&self) -> Vec<u8> {
        let der: PublicKeyX509Der<'_> = match self {
            Endorsement::Rsa(key) => key.public_key().as_der().unwrap(),
            Endorsement::Ec(key) => key.compute_public_key().unwrap().as_der().unwrap(),
        };
        der.as_ref().to_vec()
    }

    pub fn public(&self) -> PublicKey {
        PublicKey::from_spki(&self.spki()).unwrap()
    }

    /// `TPM2_ActivateCredential` beside a key of that name; `None` where a TPM would refuse.
    pub fn activate(&self, challenge: &Challenge, name: &[u8]) -> Option<Vec<u8>> {
        let sized = |bytes: &[u8]| -> Option<(Vec<u8>, Vec<u8>)> {
            let length = usize::from(u16::from_be_bytes([*bytes.first()?, *bytes.get(1)?]));
            Some((bytes.get(2..2 + length)?.to_vec(), bytes.get(2 + length..)?.to_vec()))
        };
        let (secret, rest) = sized(&challenge.encrypted_secret)?;
        assert!(rest.is_empty());
        let seed = match self {
            Endorsement::Rsa(key) => {
                let key = OaepPrivateDecryptingKey::new(key.clone()).ok()?;
                let mut out = vec![0; key.min_output_size()];
                key.decrypt(&OAEP_SHA256_MGF1SHA256, &secret, &mut out, Some(b"IDENTITY\0")).ok()?.to_vec()
            }
            Endorsement::Ec(key) => {
                let (x, rest) = sized(&secret)?;
                let (y, _) = sized(&rest)?;
                let own: EcPublicKeyUncompressedBin<'_> =
                    key.compute_public_key().unwrap().as_be_bytes().unwrap();
                let point = [&[4], x.as_slice(), &y].concat();
                let peer = UnparsedPublicKey::new(&agreement::ECDH_P256, &point);
                let own_x = own.as_ref()[1..33].to_vec();
                agreement::agree(key, peer, (), |z| {
                    let input = [&[0, 0, 0, 1], z, b"IDENTITY\0", &x, &own_x].concat();
                    Ok(digest(&digest::SHA256, &input).as_ref().to_vec())
                })
                .ok()?
            }
        };
        let (blob, rest) = sized(&challenge.credential_blob)?;
        assert!(rest.is_empty());
        let (integrity, mut identity) = sized(&blob)?;
        let derived = |label: &[u8], context: &[u8], bits: u32| {
            let input = [&[0, 0, 0, 1], label, context, &bits.to_be_bytes()].concat();
            hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &seed), &input).as_ref().to_vec()
        };
        let key = hmac::Key::new(hmac::HMAC_SHA256, &derived(b"INTEGRITY\0", &[], 256));
        hmac::verify(&key, &[identity.as_slice(), name].concat(), &integrity).ok()?;
        let key = UnboundCipherKey::new(&AES_128, &derived(b"STORAGE\0", name, 128)[..16]).unwrap();
        let vector = DecryptionContext::Iv128(FixedLength::from([0; 16]));
        let plain = DecryptingKey::cfb128(key).unwrap().decrypt(&mut identity, vector).ok()?.to_vec();
        sized(&plain).map(|(secret, _)| secret)
    }
}
