//! AES-256-XTS over blocks of 4096 bytes, as dm-crypt's `aes-xts-plain64` with `sector_size:4096 iv_large_sectors`
//! computes it (IEEE 1619; the tweak is the block's number, counted in 4096-byte blocks, little-endian).
//!
//! It keeps a layer secret from the host and nothing else: what the host may alter is the hash tree's concern.

use std::fs::File;
use std::os::unix::fs::FileExt;

use aes::Aes256;
use aes::cipher::{Array, BlockCipherDecrypt, BlockCipherEncrypt, KeyInit};
use zeroize::Zeroizing;

use crate::Error;
use crate::disk::{BLOCK, BLOCK_U64};

/// Bytes of the key.
pub const KEY_BYTES: usize = 64;
/// Blocks ciphered at a time in a file: 256 KiB.
const BATCH: u64 = 64;

/// A key, ready for use.
pub struct Xts {
    data: Aes256,
    tweak: Aes256,
}

impl Xts {
    /// From a key of dm-crypt's form: 32 bytes for the data, then 32 for the tweaks.
    pub fn new(key: &[u8; KEY_BYTES]) -> Self {
        let (data, tweak) = key.split_at(KEY_BYTES / 2);
        let cipher = |half: &[u8]| {
            let mut key = Zeroizing::new([0; KEY_BYTES / 2]);
            key.copy_from_slice(half);
            Aes256::new(&Array::from(*key))
        };
        Xts { data: cipher(data), tweak: cipher(tweak) }
    }

    /// Encrypts whole blocks in place, the first of which has this number on the device. Bytes behind the last whole
    /// block stay as they are.
    pub fn encrypt_blocks(&self, first_block: u64, data: &mut [u8]) {
        for (number, block) in (first_block..).zip(data.chunks_exact_mut(BLOCK)) {
            self.unit(number, block, |units| self.data.encrypt_blocks(units));
        }
    }

    /// Decrypts whole blocks in place; see [`Xts::encrypt_blocks`].
    pub fn decrypt_blocks(&self, first_block: u64, data: &mut [u8]) {
        for (number, block) in (first_block..).zip(data.chunks_exact_mut(BLOCK)) {
            self.unit(number, block, |units| self.data.decrypt_blocks(units));
        }
    }

    /// Encrypts data units of `unit` bytes (a multiple of 16, not 0) in place, numbered from `first`. What is left behind the
    /// last whole one stays as it is.
    pub fn encrypt_units(&self, first: u64, unit: usize, data: &mut [u8]) {
        for (number, data) in (first..).zip(data.chunks_exact_mut(unit.max(16))) {
            self.unit(number, data, |units| self.data.encrypt_blocks(units));
        }
    }

    /// Decrypts data units in place; see [`Xts::encrypt_units`].
    pub fn decrypt_units(&self, first: u64, unit: usize, data: &mut [u8]) {
        for (number, data) in (first..).zip(data.chunks_exact_mut(unit.max(16))) {
            self.unit(number, data, |units| self.data.decrypt_blocks(units));
        }
    }

    /// One data unit of IEEE 1619, a multiple of 16 bytes.
    fn unit(&self, number: u64, data: &mut [u8], cipher: impl FnOnce(&mut [aes::Block])) {
        let mut first = aes::Block::from(u128::from(number).to_le_bytes());
        self.tweak.encrypt_block(&mut first);
        let first = u128::from_le_bytes(first.into());
        let (units, _) = Array::slice_as_chunks_mut(data);
        apply(first, units);
        cipher(units);
        apply(first, units);
    }
}

/// Adds the tweaks.
fn apply(first: u128, units: &mut [aes::Block]) {
    let mut tweak = first;
    for unit in units {
        let sum = u128::from_le_bytes((*unit).into()) ^ tweak;
        *unit = sum.to_le_bytes().into();
        // Times α in GF(2¹²⁸).
        tweak = (tweak << 1) ^ (0x87 & (tweak >> 127).wrapping_neg());
    }
}

/// Encrypts the first `blocks` blocks of a file in place: a layer's image, before its hash tree is computed.
///
/// # Errors
/// [`Error::Device`], also where the file is shorter.
pub fn encrypt_file(file: &File, blocks: u64, key: &Xts) -> Result<(), Error> {
    let mut buffer = Vec::new();
    let mut at = 0;
    while at < blocks {
        let now = (blocks - at).min(BATCH);
        buffer.resize(usize::try_from(now * BLOCK_U64).unwrap_or(0), 0);
        let offset = at.saturating_mul(BLOCK_U64);
        file.read_exact_at(&mut buffer, offset).map_err(Error::Device)?;
        key.encrypt_blocks(at, &mut buffer);
        file.write_all_at(&buffer, offset).map_err(Error::Device)?;
        at += now;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// IEEE 1619-2007, annex B, vector 10 (XTS-AES-256, a data unit of 512 bytes): its ends, and its SHA-256.
    #[test]
    fn known_answer_of_ieee_1619() {
        let key = hex::decode(concat!(
            "2718281828459045235360287471352662497757247093699959574966967627",
            "3141592653589793238462643383279502884197169399375105820974944592"
        ));
        let xts = Xts::new(&key.unwrap().try_into().unwrap());
        let plain: Vec<u8> = (0..512_u32).map(|i| u8::try_from(i % 256).unwrap()).collect();
        let mut data = plain.clone();
        xts.unit(0xff, &mut data, |units| xts.data.encrypt_blocks(units));
        assert_eq!(
            hex::encode(&data[..32]),
            "1c3b3a102f770386e4836c99e370cf9bea00803f5e482357a4ae12d414a3e63b"
        );
        assert_eq!(
            hex::encode(&data[480..]),
            "773dad38014bd2092fa755c824bb5e54c4f36ffda9fcea70b9c6e693e148c151"
        );
        assert_eq!(
            hex::encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &data)),
            "e97e974fa393af794f7a4684395814cf820de60a01eaec677d87b452e316b364"
        );
        xts.unit(0xff, &mut data, |units| xts.data.decrypt_blocks(units));
        assert_eq!(data, plain);
    }
}
