//! ID blocks: what a guest's owner signs of a launch, so that the processor starts nothing else under that name.
//!
//! Source: AMD 56860 (SEV-SNP firmware ABI) 1.55, section 8.17 SNP_LAUNCH_FINISH: ID block (table 75) and ID authentication
//! information (table 76); chapter 10, "Format of an ECDSA P-384 signature" and "public key". Numbers are little endian, those
//! of keys and signatures too.

use aws_lc_rs::digest::{SHA384, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair};

use crate::Error;

/// Length of an ID block.
pub const ID_BLOCK: usize = 96;
/// Length of its authentication information.
pub const ID_AUTH: usize = 4096;
/// Length of a public key in it.
const KEY: usize = 1028;
/// Length of a signature's or key's number; P-384 fills 48 bytes of it.
const NUMBER: usize = 72;
const P384: usize = 48;
/// ECDSA with P-384 and SHA-384, and that curve.
const ALGORITHM: u32 = 1;
const CURVE: u32 = 2;
/// Places in the authentication information.
const BLOCK_SIGNATURE: usize = 0x40;
const ID_KEY: usize = 0x240;
const KEY_SIGNATURE: usize = 0x680;
const AUTHOR_KEY: usize = 0x880;

/// What is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdBlock {
    /// The launch digest that the guest must have.
    pub launch_digest: [u8; 48],
    /// The owner's name for a family of guests.
    pub family_id: [u8; 16],
    /// The owner's name for this image.
    pub image_id: [u8; 16],
    /// The guest's security version.
    pub guest_svn: u32,
    /// The policy that the guest must be launched with.
    pub policy: u64,
}

/// An ID block's authentication information, and what reports will say of the keys.
#[derive(Clone, PartialEq, Eq)]
pub struct IdAuth {
    /// The structure.
    pub bytes: Box<[u8; ID_AUTH]>,
    /// SHA-384 of the ID key, as reports have it (ID_KEY_DIGEST).
    pub id_key_digest: [u8; 48],
    /// SHA-384 of the author key (AUTHOR_KEY_DIGEST), where there is one.
    pub author_key_digest: Option<[u8; 48]>,
}

impl std::fmt::Debug for IdAuth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IdAuth")
            .field("id_key_digest", &hex::encode(self.id_key_digest))
            .finish_non_exhaustive()
    }
}

impl IdBlock {
    /// Its bytes.
    pub fn to_bytes(&self) -> [u8; ID_BLOCK] {
        let parts = [
            self.launch_digest.as_slice(),
            &self.family_id,
            &self.image_id,
            // The structure's version.
            &1u32.to_le_bytes(),
            &self.guest_svn.to_le_bytes(),
            &self.policy.to_le_bytes(),
        ];
        let mut bytes = [0; ID_BLOCK];
        bytes.iter_mut().zip(parts.concat()).for_each(|(to, from)| *to = from);
        bytes
    }

    /// Signs it with an ID key, and that key with an author key if there is one; both PKCS#8 DER, curve P-384.
    ///
    /// # Errors
    /// [`Error::IdBlock`] for keys of another kind.
    pub fn sign(&self, id_key: &[u8], author_key: Option<&[u8]>) -> Result<IdAuth, Error> {
        let id = pair(id_key)?;
        let id_public = public(&id)?;
        let mut bytes = Box::new([0; ID_AUTH]);
        put(&mut bytes, 0, &ALGORITHM.to_le_bytes())?;
        put(&mut bytes, BLOCK_SIGNATURE, &signature(&id, &self.to_bytes())?)?;
        put(&mut bytes, ID_KEY, &id_public)?;
        let mut author_key_digest = None;
        if let Some(key) = author_key {
            let author = pair(key)?;
            let author_public = public(&author)?;
            put(&mut bytes, 4, &ALGORITHM.to_le_bytes())?;
            put(&mut bytes, KEY_SIGNATURE, &signature(&author, &id_public)?)?;
            put(&mut bytes, AUTHOR_KEY, &author_public)?;
            author_key_digest = Some(sha384(&author_public));
        }
        Ok(IdAuth { bytes, id_key_digest: sha384(&id_public), author_key_digest })
    }
}

fn pair(pkcs8: &[u8]) -> Result<EcdsaKeyPair, Error> {
    EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, pkcs8)
        .map_err(|_| Error::IdBlock("a key is not of P-384 in PKCS#8"))
}

/// Curve, then both coordinates.
fn public(pair: &EcdsaKeyPair) -> Result<[u8; KEY], Error> {
    let point = pair.public_key().as_ref();
    let coordinates = match point.split_first() {
        Some((4, rest)) if rest.len() == 2 * P384 => rest,
        _ => return Err(Error::IdBlock("a public key has an unknown form")),
    };
    let mut key = [0; KEY];
    let bytes = [CURVE.to_le_bytes().as_slice(), &numbers(coordinates)].concat();
    key.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
    Ok(key)
}

/// R and S.
fn signature(pair: &EcdsaKeyPair, message: &[u8]) -> Result<Vec<u8>, Error> {
    let signed = pair.sign(&SystemRandom::new(), message).map_err(|_| Error::IdBlock("signing failed"))?;
    Ok(numbers(signed.as_ref()))
}

/// Two big-endian numbers of 48 bytes as two little-endian ones of 72.
fn numbers(big: &[u8]) -> Vec<u8> {
    let little = |number: &[u8]| {
        let mut bytes: Vec<u8> = number.iter().rev().copied().collect();
        bytes.resize(NUMBER, 0);
        bytes
    };
    big.chunks(P384).flat_map(little).collect()
}

fn put(bytes: &mut [u8; ID_AUTH], at: usize, part: &[u8]) -> Result<(), Error> {
    let place = bytes.get_mut(at..at.saturating_add(part.len()));
    place.ok_or(Error::IdBlock("it does not fit"))?.copy_from_slice(part);
    Ok(())
}

fn sha384(bytes: &[u8]) -> [u8; 48] {
    let mut out = [0; 48];
    out.iter_mut().zip(digest(&SHA384, bytes).as_ref()).for_each(|(to, from)| *to = *from);
    out
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED, UnparsedPublicKey};

    use super::*;

    fn key() -> Vec<u8> {
        let rng = SystemRandom::new();
        EcdsaKeyPair::generate_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, &rng).unwrap().as_ref().to_vec()
    }

    const BLOCK: IdBlock = IdBlock {
        launch_digest: [1; 48],
        family_id: [2; 16],
        image_id: [3; 16],
        guest_svn: 4,
        policy: 0x30000,
    };

    /// As a processor reads it: the key at its place, the signature at its.
    fn verifies(auth: &[u8], key: usize, signature: usize, message: &[u8]) -> bool {
        let big = |at: usize| auth[at..at + P384].iter().rev().copied().collect::<Vec<u8>>();
        assert_eq!(auth[key..key + 4], CURVE.to_le_bytes());
        let point = [vec![4], big(key + 4), big(key + 4 + NUMBER)].concat();
        let signature = [big(signature), big(signature + NUMBER)].concat();
        UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, point).verify(message, &signature).is_ok()
    }

    #[test]
    fn a_block_has_the_bytes_of_the_abi() {
        let expected = [
            "01".repeat(48),
            "02".repeat(16),
            "03".repeat(16),
            "01000000".into(),
            "04000000".into(),
            "0000030000000000".into(),
        ];
        assert_eq!(hex::encode(BLOCK.to_bytes()), expected.concat());
    }

    #[test]
    fn both_signatures_verify_from_the_structure_alone() {
        let (id, author) = (key(), key());
        let auth = BLOCK.sign(&id, Some(&author)).unwrap();
        let bytes = auth.bytes.as_slice();
        assert_eq!((&bytes[..4], &bytes[4..8]), (&[1, 0, 0, 0][..], &[1, 0, 0, 0][..]));
        assert!(verifies(bytes, ID_KEY, BLOCK_SIGNATURE, &BLOCK.to_bytes()));
        assert!(verifies(bytes, AUTHOR_KEY, KEY_SIGNATURE, &bytes[ID_KEY..ID_KEY + KEY]));
        let other = IdBlock { policy: 0, ..BLOCK };
        assert!(!verifies(bytes, ID_KEY, BLOCK_SIGNATURE, &other.to_bytes()));
        assert_eq!(auth.id_key_digest, sha384(&bytes[ID_KEY..ID_KEY + KEY]));
        assert_eq!(auth.author_key_digest, Some(sha384(&bytes[AUTHOR_KEY..AUTHOR_KEY + KEY])));
        // Nothing where the ABI has reserved bytes.
        assert!(bytes[8..0x40].iter().chain(&bytes[0x644..0x680]).chain(&bytes[0xc84..]).all(|b| *b == 0));
        let alone = BLOCK.sign(&id, None).unwrap();
        assert!(
            alone.author_key_digest.is_none()
                && alone.bytes[4..8] == [0; 4]
                && alone.bytes[0x680..] == [0; 2432]
        );
    }

    #[test]
    fn keys_of_other_kinds_are_refused() {
        let rng = SystemRandom::new();
        let p256 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &rng).unwrap();
        for bad in [p256.as_ref(), b"", &[0x30; 100]] {
            assert!(matches!(BLOCK.sign(bad, None), Err(Error::IdBlock(_))));
            assert!(matches!(BLOCK.sign(&key(), Some(bad)), Err(Error::IdBlock(_))));
        }
    }
}
