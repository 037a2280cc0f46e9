//! From the owner's key to the volume's: PBKDF2, the key slot's cipher, and the anti-forensic spread of LUKS1.

use std::num::NonZeroU32;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::pbkdf2::{PBKDF2_HMAC_SHA256, derive};
use cocoon_erofs::cipher::Xts;
use zeroize::{Zeroize, Zeroizing};

use super::metadata::{Kdf, Metadata, STRIPES};
use crate::Error;
use crate::mapped::random_key;

/// Sectors of a key slot, which its cipher counts from the slot's start.
const SECTOR: usize = 512;
/// Bytes of a SHA-256.
const HASH: usize = 32;

/// The volume's key, wiped when dropped.
pub(super) type VolumeKey = Zeroizing<Vec<u8>>;

/// `out.len()` bytes of a key.
fn stretch(kdf: &Kdf, key: &[u8], out: &mut [u8]) {
    // The header's check sees to it that it is none.
    let rounds = NonZeroU32::new(kdf.rounds).unwrap_or(NonZeroU32::MIN);
    derive(PBKDF2_HMAC_SHA256, rounds, &kdf.salt, key, out);
}

/// The digest by which the volume's key is known.
pub(super) fn digest_of(kdf: &Kdf, key: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    stretch(kdf, key, &mut out);
    out
}

fn slot_cipher(kdf: &Kdf, owners: &[u8]) -> Xts {
    let mut key = Zeroizing::new([0; 64]);
    stretch(kdf, owners, key.as_mut_slice());
    Xts::new(&key)
}

/// The volume's key from what a slot holds; `None` where the owner's key does not open it. `area` is the slot's content, as
/// many bytes as the key times [`STRIPES`], rounded up to whole sectors.
pub(super) fn open_slot(
    metadata: &Metadata,
    kdf: &Kdf,
    owners: &[u8],
    area: &mut Zeroizing<Vec<u8>>,
) -> Option<VolumeKey> {
    slot_cipher(kdf, owners).decrypt_units(0, SECTOR, area);
    let length = usize::try_from(metadata.protection.key_bytes()).ok()?;
    let key = merged(area, length);
    let found = digest_of(&metadata.digest, &key);
    verify_slices_are_equal(&found, &metadata.expected).is_ok().then_some(key)
}

/// What a slot holds for a volume's key: as many bytes as `area` says.
pub(super) fn fill_slot(
    kdf: &Kdf,
    owners: &[u8],
    key: &[u8],
    area: usize,
) -> Result<Zeroizing<Vec<u8>>, Error> {
    let mut spread = split(key)?;
    // Grown elsewhere, it would leave a copy behind.
    let mut out = Zeroizing::new(Vec::with_capacity(area));
    out.extend_from_slice(&spread);
    out.resize(area, 0);
    spread.zeroize();
    slot_cipher(kdf, owners).encrypt_units(0, SECTOR, &mut out);
    Ok(out)
}

/// Takes the copies together: each is added, and what comes of it hashed, but for the last.
fn merged(spread: &[u8], length: usize) -> VolumeKey {
    let mut key = Zeroizing::new(vec![0; length]);
    let mut stripes = spread.chunks_exact(length).take(usize::try_from(STRIPES).unwrap_or(0)).peekable();
    while let Some(stripe) = stripes.next() {
        add(&mut key, stripe);
        if stripes.peek().is_some() {
            diffuse(&mut key);
        }
    }
    key
}

/// Random copies, and one that makes them come to the key.
fn split(key: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
    let stripes = usize::try_from(STRIPES).unwrap_or(0);
    let mut spread = Zeroizing::new(Vec::with_capacity(key.len() * stripes));
    let mut sum = Zeroizing::new(vec![0; key.len()]);
    for _ in 1..stripes {
        let random = random_key::<96>()?;
        let stripe = random.get(..key.len()).ok_or_else(|| Error::Invalid("a key too long".into()))?;
        spread.extend_from_slice(stripe);
        add(&mut sum, stripe);
        diffuse(&mut sum);
    }
    add(&mut sum, key);
    spread.extend_from_slice(&sum);
    Ok(spread)
}

fn add(to: &mut [u8], other: &[u8]) {
    to.iter_mut().zip(other).for_each(|(a, b)| *a ^= b);
}

/// Each piece of 32 bytes becomes its hash, with its number before it (LUKS1 On-Disk Format Specification, section 2.4).
fn diffuse(key: &mut [u8]) {
    for (number, piece) in (0_u32..).zip(key.chunks_mut(HASH)) {
        let mut input = Zeroizing::new([0; 4 + HASH]);
        let (head, tail) = input.split_at_mut(4);
        head.copy_from_slice(&number.to_be_bytes());
        tail.iter_mut().zip(piece.iter()).for_each(|(to, from)| *to = *from);
        let used = input.get(..4 + piece.len()).unwrap_or_default();
        piece.iter_mut().zip(digest(&SHA256, used).as_ref()).for_each(|(to, from)| *to = *from);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_spread_comes_together_again_and_not_without_any_part() {
        for length in [64, 96] {
            let key: Vec<u8> = (0..length).collect();
            let mut spread = split(&key).unwrap();
            assert_eq!(spread.len(), usize::from(length) * 4000);
            assert_eq!(*merged(&spread, length.into()), key);
            spread[1000] ^= 1;
            assert_ne!(*merged(&spread, length.into()), key);
        }
    }
}
