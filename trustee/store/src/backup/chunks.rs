//! Encryption of a stream in chunks, each bound to its number and to whether it is the last (the STREAM
//! construction of Hoang, Reyhanitabar, Rogaway and Vizár, 2015).
//!
//! Key: HKDF-SHA-256 of the backup key with the header's salt, so that each backup has its own and chunk numbers
//! can be nonces. Chunk: AES-256-GCM of up to 65,536 bytes, 16-byte tag behind; all but the last are full. Nonce: 3
//! zero bytes, u64 number of the chunk from 0, one byte 1 for the last chunk and 0 for the others. The header is
//! associated data of each.

use std::io::{self, Read, Write};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use zeroize::Zeroizing;

use crate::Error;

const CHUNK: usize = 64 << 10;
const TAG: usize = 16;

struct Cipher {
    key: LessSafeKey,
    header: Vec<u8>,
    number: u64,
}

impl Cipher {
    fn new(key: &[u8; 32], salt: &[u8; 32], header: &[u8]) -> Result<Self, Error> {
        let mut derived = Zeroizing::new([0; 32]);
        Salt::new(HKDF_SHA256, salt)
            .extract(key)
            .expand(&[b"cocoon backup 1"], HKDF_SHA256)
            .and_then(|okm| okm.fill(derived.as_mut()))
            .map_err(|_| Error::Crypto)?;
        let key = UnboundKey::new(&AES_256_GCM, derived.as_ref()).map_err(|_| Error::Crypto)?;
        Ok(Cipher { key: LessSafeKey::new(key), header: header.to_vec(), number: 0 })
    }

    fn nonce(&mut self, last: bool) -> io::Result<Nonce> {
        let mut nonce = [0; NONCE_LEN];
        for (byte, number) in nonce.iter_mut().skip(3).zip(self.number.to_be_bytes()) {
            *byte = number;
        }
        if let Some(flag) = nonce.last_mut() {
            *flag = u8::from(last);
        }
        self.number = self.number.checked_add(1).ok_or_else(|| io::Error::other("too many chunks"))?;
        Ok(Nonce::assume_unique_for_key(nonce))
    }
}

/// Encrypts what is written. [`Encrypt::finish`] must be called: without it the stream reads as truncated.
pub(super) struct Encrypt<'a> {
    out: &'a mut dyn Write,
    cipher: Cipher,
    plain: Vec<u8>,
}

impl<'a> Encrypt<'a> {
    pub(super) fn new(
        out: &'a mut dyn Write,
        key: &[u8; 32],
        salt: &[u8; 32],
        header: &[u8],
    ) -> Result<Self, Error> {
        Ok(Encrypt { out, cipher: Cipher::new(key, salt, header)?, plain: Vec::with_capacity(CHUNK + TAG) })
    }

    pub(super) fn finish(mut self) -> io::Result<()> {
        self.emit(true)
    }

    fn emit(&mut self, last: bool) -> io::Result<()> {
        let nonce = self.cipher.nonce(last)?;
        self.cipher
            .key
            .seal_in_place_append_tag(nonce, Aad::from(&self.cipher.header), &mut self.plain)
            .map_err(|_| io::Error::other("the crypto provider failed"))?;
        self.out.write_all(&self.plain)?;
        self.plain.clear();
        Ok(())
    }
}

impl Write for Encrypt<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        // A full chunk waits until it is known that it is not the last.
        if self.plain.len() == CHUNK && !buf.is_empty() {
            self.emit(false)?;
        }
        let taken = buf.len().min(CHUNK - self.plain.len());
        self.plain.extend_from_slice(buf.get(..taken).unwrap_or_default());
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Decrypts while reading; gives no byte of a chunk before the chunk is verified.
pub(super) struct Decrypt<'a> {
    input: &'a mut dyn Read,
    cipher: Cipher,
    /// The chunk in hand, decrypted, and how much of it was given out.
    plain: Vec<u8>,
    given: usize,
    /// The first byte of the next chunk, read to know that there is one.
    ahead: Option<u8>,
    ended: bool,
}

impl<'a> Decrypt<'a> {
    pub(super) fn new(
        input: &'a mut dyn Read,
        key: &[u8; 32],
        salt: &[u8; 32],
        header: &[u8],
    ) -> Result<Self, Error> {
        let cipher = Cipher::new(key, salt, header)?;
        Ok(Decrypt { input, cipher, plain: Vec::new(), given: 0, ahead: None, ended: false })
    }

    fn next_chunk(&mut self) -> io::Result<()> {
        let mut chunk = Vec::with_capacity(CHUNK + TAG + 1);
        chunk.extend(self.ahead.take());
        let wanted = u64::try_from(CHUNK + TAG + 1 - chunk.len()).unwrap_or(0);
        (&mut *self.input).take(wanted).read_to_end(&mut chunk)?;
        if chunk.len() > CHUNK + TAG {
            self.ahead = chunk.pop();
        } else {
            self.ended = true;
        }
        let nonce = self.cipher.nonce(self.ended)?;
        let length = self
            .cipher
            .key
            .open_in_place(nonce, Aad::from(&self.cipher.header), &mut chunk)
            .map_err(|_| {
                io::Error::new(io::ErrorKind::InvalidData, "it was altered, cut short, or has another key")
            })?
            .len();
        chunk.truncate(length);
        (self.plain, self.given) = (chunk, 0);
        Ok(())
    }
}

impl Read for Decrypt<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.given >= self.plain.len() {
            if self.ended {
                return Ok(0);
            }
            self.next_chunk()?;
        }
        let rest = self.plain.get(self.given..).unwrap_or_default();
        let count = rest.len().min(buf.len());
        for (to, from) in buf.iter_mut().zip(rest) {
            *to = *from;
        }
        self.given += count;
        Ok(count)
    }
}
