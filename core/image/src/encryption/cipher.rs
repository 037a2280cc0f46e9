//! The layer cipher: AES-256-CTR, HMAC-SHA-256 over the ciphertext with the same key, streaming both ways.

use std::io::{self, Read};

use aws_lc_rs::cipher::{
    AES_256, DecryptionContext, EncryptionContext, StreamingDecryptingKey, StreamingEncryptingKey,
    UnboundCipherKey,
};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use zeroize::Zeroizing;

use super::options::{PrivateOptions, PubOptions};
use crate::{Algorithm, Digest, Error, Hasher};

/// Bytes ciphered at a time.
const CHUNK: usize = 64 * 1024;
/// What the cipher's interface asks for beyond the input's length.
const BLOCK: usize = 16;

/// Fixed buffers between a reader and its consumer.
struct Buffers {
    input: Vec<u8>,
    output: Zeroizing<Vec<u8>>,
    start: usize,
    end: usize,
}

impl Buffers {
    fn new() -> Self {
        Buffers { input: vec![0; CHUNK], output: Zeroizing::new(vec![0; CHUNK + BLOCK]), start: 0, end: 0 }
    }

    fn take(&mut self, buf: &mut [u8]) -> usize {
        let ready = self.output.get(self.start..self.end).unwrap_or_default();
        let n = ready.len().min(buf.len());
        if let (Some(to), Some(from)) = (buf.get_mut(..n), ready.get(..n)) {
            to.copy_from_slice(from);
        }
        self.start += n;
        n
    }

    fn is_empty(&self) -> bool {
        self.start >= self.end
    }

    /// Reads some input; 0 at end of file.
    fn fill(&mut self, inner: &mut impl Read) -> io::Result<usize> {
        loop {
            match inner.read(&mut self.input) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }
}

fn broken(what: &str) -> io::Error {
    Error::Undecryptable(format!("AES-256-CTR {what} failed")).into_io()
}

/// Decrypts a layer. End of file is reported only after the HMAC over the whole ciphertext was found right;
/// everything read before is unauthenticated.
pub struct LayerDecryptor<R> {
    inner: R,
    cipher: StreamingDecryptingKey,
    mac: Option<hmac::Context>,
    expected: [u8; 32],
    buffers: Buffers,
    failed: bool,
}

impl<R: Read> LayerDecryptor<R> {
    /// Decrypts `inner` with the layer's options.
    ///
    /// # Errors
    /// [`Error::Undecryptable`] where the cipher cannot be set up.
    pub fn new(inner: R, private: &PrivateOptions, public: &PubOptions) -> Result<Self, Error> {
        let setup = || Error::Undecryptable("AES-256-CTR cannot be set up".to_owned());
        let key = UnboundCipherKey::new(&AES_256, private.symkey.as_slice()).map_err(|_| setup())?;
        let cipher = StreamingDecryptingKey::ctr(key, DecryptionContext::Iv128(private.nonce.into()))
            .map_err(|_| setup())?;
        let mac = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, private.symkey.as_slice()));
        let expected = public.hmac;
        Ok(LayerDecryptor { inner, cipher, mac: Some(mac), expected, buffers: Buffers::new(), failed: false })
    }

    fn refill(&mut self) -> io::Result<()> {
        let n = self.buffers.fill(&mut self.inner)?;
        if n == 0 {
            let Some(mac) = self.mac.take() else { return Ok(()) };
            return verify_slices_are_equal(mac.sign().as_ref(), &self.expected).map_err(|_| {
                let why = "the layer's HMAC does not hold: wrong key, or the ciphertext was altered";
                Error::Undecryptable(why.to_owned()).into_io()
            });
        }
        let Buffers { input, output, start, end } = &mut self.buffers;
        let input = input.get(..n).unwrap_or_default();
        if let Some(mac) = &mut self.mac {
            mac.update(input);
        }
        let written = self
            .cipher
            .update(input, output.as_mut_slice())
            .map_err(|_| broken("decryption"))?
            .written()
            .len();
        (*start, *end) = (0, written);
        Ok(())
    }
}

impl<R: Read> Read for LayerDecryptor<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.failed {
            return Err(Error::Undecryptable("the layer was already refused".to_owned()).into_io());
        }
        if self.buffers.is_empty() && !buf.is_empty() {
            let result = self.refill();
            self.failed = result.is_err();
            result?;
        }
        Ok(self.buffers.take(buf))
    }
}

/// What is known of a layer once it was encrypted to its end.
pub struct Sealed {
    /// To be wrapped under the KEK.
    pub private: PrivateOptions,
    /// To be put into the layer's annotation.
    pub public: PubOptions,
    /// Digest of the ciphertext: the encrypted layer's name.
    pub digest: Digest,
    /// Length of the ciphertext in bytes.
    pub size: u64,
}

/// Encrypts a layer under a fresh random key and nonce.
pub struct LayerEncryptor<R> {
    inner: R,
    cipher: StreamingEncryptingKey,
    symkey: Zeroizing<[u8; 32]>,
    nonce: [u8; 16],
    mac: hmac::Context,
    plain: Hasher,
    sealed: Hasher,
    size: u64,
    ended: bool,
    buffers: Buffers,
}

impl<R: Read> LayerEncryptor<R> {
    /// Encrypts what `inner` gives; read it to the end, then call [`LayerEncryptor::finish`].
    ///
    /// # Errors
    /// [`Error::Key`] where there is no randomness.
    pub fn new(inner: R) -> Result<Self, Error> {
        let setup = || Error::Key("AES-256-CTR cannot be set up".to_owned());
        let mut symkey = Zeroizing::new([0; 32]);
        let mut nonce = [0; 16];
        aws_lc_rs::rand::fill(symkey.as_mut_slice()).map_err(|_| setup())?;
        aws_lc_rs::rand::fill(&mut nonce).map_err(|_| setup())?;
        let key = UnboundCipherKey::new(&AES_256, symkey.as_slice()).map_err(|_| setup())?;
        let cipher = StreamingEncryptingKey::less_safe_ctr(key, EncryptionContext::Iv128(nonce.into()))
            .map_err(|_| setup())?;
        let mac = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, symkey.as_slice()));
        let (plain, sealed) = (Hasher::new(Algorithm::Sha256), Hasher::new(Algorithm::Sha256));
        let buffers = Buffers::new();
        Ok(LayerEncryptor {
            inner,
            cipher,
            symkey,
            nonce,
            mac,
            plain,
            sealed,
            size: 0,
            ended: false,
            buffers,
        })
    }

    /// The options and the digest of the ciphertext.
    ///
    /// # Errors
    /// [`Error::Key`] where the layer was not read to its end.
    pub fn finish(self) -> Result<Sealed, Error> {
        if !self.ended || !self.buffers.is_empty() {
            return Err(Error::Key("the layer was not encrypted to its end".to_owned()));
        }
        let mut hmac = [0; 32];
        hmac.copy_from_slice(self.mac.sign().as_ref());
        let digest = self.plain.finish().to_string();
        Ok(Sealed {
            private: PrivateOptions { symkey: self.symkey, digest, nonce: self.nonce },
            public: PubOptions { hmac },
            digest: self.sealed.finish(),
            size: self.size,
        })
    }
}

impl<R: Read> Read for LayerEncryptor<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.buffers.is_empty() && !self.ended && !buf.is_empty() {
            let n = self.buffers.fill(&mut self.inner)?;
            self.ended = n == 0;
            let Buffers { input, output, start, end } = &mut self.buffers;
            let input = input.get(..n).unwrap_or_default();
            self.plain.update(input);
            let update =
                self.cipher.update(input, output.as_mut_slice()).map_err(|_| broken("encryption"))?;
            self.mac.update(update.written());
            self.sealed.update(update.written());
            (*start, *end) = (0, update.written().len());
            self.size = self.size.saturating_add(u64::try_from(n).unwrap_or(u64::MAX));
        }
        Ok(self.buffers.take(buf))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seal(plain: &[u8]) -> (Vec<u8>, Sealed) {
        let mut e = LayerEncryptor::new(plain).unwrap();
        let mut out = Vec::new();
        e.read_to_end(&mut out).unwrap();
        (out, e.finish().unwrap())
    }

    fn open(cipher: &[u8], s: &Sealed) -> Result<Vec<u8>, Error> {
        let mut d = LayerDecryptor::new(cipher, &s.private, &s.public)?;
        let mut out = Vec::new();
        d.read_to_end(&mut out).map_err(|e| Error::from_io(e, Error::Source))?;
        Ok(out)
    }

    #[test]
    fn round_trips_at_every_boundary() {
        for n in [0, 1, 15, 16, 17, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 5] {
            let plain: Vec<u8> = (0..n).map(|i| u8::try_from(i * 7 % 251).unwrap()).collect();
            let (cipher, sealed) = seal(&plain);
            assert_eq!(cipher.len(), n);
            assert_eq!(sealed.size, n as u64);
            assert_eq!(sealed.digest, Digest::sha256(&cipher));
            assert_eq!(sealed.private.digest, Digest::sha256(&plain).to_string());
            assert_eq!(open(&cipher, &sealed).unwrap(), plain, "{n}");
        }
    }

    #[test]
    fn short_reads_keep_the_stream_aligned() {
        struct Drip<'a>(&'a [u8]);
        impl Read for Drip<'_> {
            fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
                let n = buf.len().min(7).min(self.0.len());
                buf[..n].copy_from_slice(&self.0[..n]);
                self.0 = &self.0[n..];
                Ok(n)
            }
        }
        let plain = vec![1; 1000];
        let (cipher, sealed) = seal(&plain);
        let mut out = Vec::new();
        let mut d = LayerDecryptor::new(Drip(&cipher), &sealed.private, &sealed.public).unwrap();
        d.read_to_end(&mut out).unwrap();
        assert_eq!(out, plain);
    }

    #[test]
    fn alteration_truncation_and_a_wrong_key_are_seen() {
        let (cipher, mut sealed) = seal(&[5; 100_000]);
        let mut altered = cipher.clone();
        altered[99_999] ^= 1;
        for bad in [&altered[..], &cipher[..99_999], &[cipher.clone(), vec![0]].concat()[..]] {
            assert!(matches!(open(bad, &sealed), Err(Error::Undecryptable(_))));
        }
        sealed.private.symkey[0] ^= 1;
        assert!(matches!(open(&cipher, &sealed), Err(Error::Undecryptable(_))));
    }

    #[test]
    fn an_unfinished_layer_is_not_sealed() {
        let mut e = LayerEncryptor::new(&[1_u8; 10][..]).unwrap();
        e.read_exact(&mut [0; 10]).unwrap();
        assert!(matches!(e.finish(), Err(Error::Key(_))));
    }
}
