//! A model of the Ultravisor and of the guest's attester, written from the formats' description: it opens requests with a
//! host's private key and measures. It is no proof that a real machine agrees.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::agreement::{ECDH_P521, PrivateKey, UnparsedPublicKey, agree};
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::KeyPair;
use serde_json::{Value, json};

use crate::reader::Reader;
use crate::se::header::HeaderTags;
use crate::se::measurement::Items;

pub struct Ultravisor {
    pub host: PrivateKey,
    pub image_phkh: [u8; 32],
    /// Of the image that was really booted.
    pub tags: HeaderTags,
    pub cuid: [u8; 16],
}

/// What a request says to the machine that can read it.
pub struct Opened {
    pub measurement_key: [u8; 64],
    pub nonce: [u8; 16],
    pub host_hash: [u8; 32],
}

impl Ultravisor {
    pub fn new(host: &KeyPair, tags: HeaderTags) -> Self {
        let host = PrivateKey::from_private_key_der(&ECDH_P521, host.serialized_der()).unwrap();
        let image_phkh = hash(&host);
        Ultravisor { host, image_phkh, tags, cuid: [5; 16] }
    }

    /// Opens a request; `None` where no key slot is for this machine or it was altered.
    pub fn open(&self, blob: &[u8]) -> Option<Opened> {
        let mut r = Reader::new("request", blob);
        r.zeros(8).ok()?;
        assert_eq!(r.u32_be().ok()?, 0x100);
        let size = r.u32_be().ok()? as usize;
        assert_eq!(size, blob.len());
        let iv: [u8; 12] = r.array().ok()?;
        r.zeros(11).ok()?;
        let slots = r.u8().ok()?;
        r.zeros(4).ok()?;
        assert_eq!(r.u32_be().ok()?, 80);
        assert_eq!(r.u64_be().ok()?, 0x7000_0000_0000_0000, "nonce, image and attestation host key hashes");
        assert_eq!(r.u32_be().ok()?, 1);
        r.zeros(4).ok()?;
        r.zeros(14).ok()?;
        let x = r.take(66).ok()?;
        r.zeros(14).ok()?;
        let y = r.take(66).ok()?;
        let wrapping = exchange(&self.host, &[&[4], x, y].concat())?;
        let own = hash(&self.host);
        let mut protection = None;
        for _ in 0..slots {
            let (hash, wrapped) = (r.array::<32>().ok()?, r.take(48).ok()?);
            if hash == own {
                protection = decrypt(&wrapping, [0; 12], &[], wrapped);
            }
        }
        let plain = decrypt(&protection?, iv, &blob[..r.position()], r.rest())?;
        let mut r = Reader::new("secret", &plain);
        let opened = Opened { measurement_key: r.array().ok()?, nonce: r.array().ok()?, host_hash: own };
        assert!(r.is_empty());
        Some(opened)
    }

    /// What the guest's attester answers to a challenge, in JSON.
    pub fn attest(&self, challenge: &str, user_data: &[u8]) -> Option<Value> {
        let challenge: Value = serde_json::from_str(challenge).unwrap();
        let bytes = |member: &str| STANDARD.decode(challenge[member].as_str().unwrap()).unwrap();
        let opened = self.open(&bytes("request_blob"))?;
        let additional_data = [self.image_phkh, opened.host_hash].concat();
        assert_eq!(challenge["measurement_size"], 64);
        assert_eq!(challenge["additional_size"], additional_data.len());
        let items = Items {
            tags: &self.tags,
            cuid: &self.cuid,
            user_data,
            nonce: &opened.nonce,
            additional_data: &additional_data,
        };
        Some(json!({
            "measurement": STANDARD.encode(items.measure(&opened.measurement_key)),
            "additional_data": STANDARD.encode(additional_data),
            "user_data": STANDARD.encode(user_data),
            "cuid": STANDARD.encode(self.cuid),
            "encr_measurement_key": challenge["encr_measurement_key"],
            "encr_request_nonce": challenge["encr_request_nonce"],
            "image_hdr_tags": challenge["image_hdr_tags"],
        }))
    }
}

/// SHA-256 of the shared x coordinate and a counter that is one.
fn exchange(own: &PrivateKey, point: &[u8]) -> Option<Vec<u8>> {
    let peer = UnparsedPublicKey::new(&ECDH_P521, point);
    agree(own, peer, (), |x| Ok(digest(&SHA256, &[x, &[0, 0, 0, 1]].concat()).as_ref().to_vec())).ok()
}

/// SHA-256 of both coordinates, each filled with zeros on the left to 80 bytes.
fn hash(key: &PrivateKey) -> [u8; 32] {
    let public = key.compute_public_key().unwrap();
    let (x, y) = public.as_ref()[1..].split_at(66);
    digest(&SHA256, &[&[0; 14], x, &[0; 14], y].concat()).as_ref().try_into().unwrap()
}

fn decrypt(key: &[u8], iv: [u8; 12], aad: &[u8], data: &[u8]) -> Option<Vec<u8>> {
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).unwrap());
    let mut data = data.to_vec();
    let plain = key.open_in_place(Nonce::assume_unique_for_key(iv), Aad::from(aad), &mut data).ok()?;
    Some(plain.to_vec())
}
