//! From a layer's archive to an encrypted shared layer: an EROFS image whose blocks are ciphertext.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;

use cocoon_erofs::cipher::Xts;
use cocoon_erofs::derive_key;
use cocoon_image::encryption::PrivateOptions;
use cocoon_image::{Algorithm, Digest, Error, Hasher, Limits};
use zeroize::Zeroizing;

/// Uncompressed bytes are read this many at a time.
const READ: usize = 256 * 1024;
/// Bytes of a block: of the cipher's unit, and of dm-verity's.
const BLOCK: u64 = 4096;
/// Blocks that are encrypted at a time.
const BATCH: u64 = 64;
/// The largest shared layer, in blocks: 1 TiB, as in plans.
const MAX_BLOCKS: u64 = 1 << 28;

/// What is left to say of a layer that was encrypted.
pub struct Sealed {
    /// Its key, and the digest of the image in the clear.
    pub private: PrivateOptions,
    /// Bytes of ciphertext: whole blocks.
    pub size: u64,
}

/// Makes the EROFS image of a tar in an empty file, encrypts it there under a key of its own, and gives the digest of
/// the ciphertext. The tar is read to its end, where whoever checks it has his say.
///
/// # Errors
/// The reader's; [`Error`] where the layer is not fit; the file system's. The file is garbage then.
pub fn seal(tar: impl Read, file: &File) -> io::Result<(Digest, Sealed)> {
    let limits = Limits { total_bytes: MAX_BLOCKS * BLOCK, ..Limits::default() };
    let built = cocoon_erofs::build(BufReader::with_capacity(READ, tar), file, &limits);
    let blocks = built.map_err(into_io)?.image_blocks;
    if blocks > MAX_BLOCKS {
        return Err(Error::TooLarge(format!("a shared layer has at most {MAX_BLOCKS} blocks")).into_io());
    }
    let mut symkey = Zeroizing::new([0; 32]);
    aws_lc_rs::rand::fill(symkey.as_mut()).map_err(|_| io::Error::other("no random numbers"))?;
    let (plain, cipher) = encrypt(file, blocks, &Xts::new(&derive_key(&symkey)))?;
    // The cipher has no use for a nonce: each key is for one layer alone.
    let private = PrivateOptions { symkey, digest: plain.to_string(), nonce: [0; 16] };
    Ok((cipher, Sealed { private, size: blocks.saturating_mul(BLOCK) }))
}

fn into_io(e: cocoon_erofs::Error) -> io::Error {
    match e {
        cocoon_erofs::Error::Layer(e) => e.into_io(),
        cocoon_erofs::Error::Device(e) => e,
        e => io::Error::other(e),
    }
}

/// Encrypts a file's blocks in place; gives the digests of what was there and of what is there now.
fn encrypt(file: &File, blocks: u64, key: &Xts) -> io::Result<(Digest, Digest)> {
    let (mut plain, mut cipher) = (Hasher::new(Algorithm::Sha256), Hasher::new(Algorithm::Sha256));
    let (mut buffer, mut at) = (Vec::new(), 0);
    while at < blocks {
        let now = (blocks - at).min(BATCH);
        buffer.resize(usize::try_from(now * BLOCK).unwrap_or(0), 0);
        let offset = at.saturating_mul(BLOCK);
        file.read_exact_at(&mut buffer, offset)?;
        plain.update(&buffer);
        key.encrypt_blocks(at, &mut buffer);
        cipher.update(&buffer);
        file.write_all_at(&buffer, offset)?;
        at += now;
    }
    Ok((plain.finish(), cipher.finish()))
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, SeekFrom};

    use super::*;

    /// One file of so many bytes, and the end of the archive.
    fn tar(content: &[u8]) -> Vec<u8> {
        let mut header = [0_u8; 512];
        header[..8].copy_from_slice(b"treasure");
        header[100..107].copy_from_slice(b"0000644");
        header[124..135].copy_from_slice(format!("{:011o}", content.len()).as_bytes());
        header[148..156].copy_from_slice(b"        ");
        header[156] = b'0';
        header[257..265].copy_from_slice(b"ustar\x0000");
        let sum: u32 = header.iter().map(|b| u32::from(*b)).sum();
        header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        let mut all = header.to_vec();
        all.extend_from_slice(content);
        all.resize(all.len().next_multiple_of(512) + 1024, 0);
        all
    }

    fn bytes(file: &mut File) -> Vec<u8> {
        let mut all = Vec::new();
        file.seek(SeekFrom::Start(0)).unwrap();
        file.read_to_end(&mut all).unwrap();
        all
    }

    #[test]
    fn a_sealed_layer_is_the_image_under_a_key_of_its_own() {
        let tar = tar(&b"the model weights, say\n".repeat(20_000));
        let mut plain = tempfile::tempfile().unwrap();
        cocoon_erofs::build(&tar[..], &plain, &Limits::default()).unwrap();
        let plain = bytes(&mut plain);
        let mut file = tempfile::tempfile().unwrap();
        let (digest, sealed) = seal(&tar[..], &file).unwrap();
        let mut cipher = bytes(&mut file);
        assert_eq!((digest, sealed.size), (Digest::sha256(&cipher), u64::try_from(plain.len()).unwrap()));
        assert!(plain.windows(17).any(|w| w == b"the model weights"));
        assert!(!cipher.windows(17).any(|w| w == b"the model weights"));
        assert_eq!(sealed.private.digest, Digest::sha256(&plain).to_string());
        Xts::new(&derive_key(&sealed.private.symkey)).decrypt_blocks(0, &mut cipher);
        assert!(cipher == plain);

        let again = tempfile::tempfile().unwrap();
        let (other, more) = seal(&tar[..], &again).unwrap();
        assert!(other != digest && more.private.symkey != sealed.private.symkey);
        assert_eq!(more.private.digest, sealed.private.digest);
    }

    #[test]
    fn what_is_no_layer_is_refused() {
        let mut bad = tar(b"x");
        bad[0] = b'X';
        let code = |bytes: &[u8]| {
            let e = seal(bytes, &tempfile::tempfile().unwrap()).map(|_| ()).unwrap_err();
            cocoon_stage::Failure::from(Error::from_io(e, Error::Source)).code
        };
        assert_eq!(code(&bad), cocoon_stage::Code::ImageLayerCorrupt);
        assert_eq!(code(&tar(b"x")[..600]), cocoon_stage::Code::ImageLayerCorrupt);
    }
}
