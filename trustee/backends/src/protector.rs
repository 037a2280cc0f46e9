//! What protects the key that seals Trustee's own store.

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

use crate::Error;

/// Longest blob in bytes (64 KiB).
pub(crate) const MAX_BLOB: usize = 64 * 1024;

/// Something outside Trustee's state that alone can open its data key.
pub trait KeyProtector: Send + Sync {
    /// With `None`: a fresh random 256-bit data key and its wrapped form. With the wrapped form, as it was given
    /// before: that data key, and the same form again. The form is 1 byte to 64 KiB, opaque, and not secret.
    ///
    /// A key is never made where a form was given.
    ///
    /// # Errors
    /// [`Error::Blob`] where the form does not open; else what the token or command says.
    fn seal_key(&self, blob: Option<&[u8]>) -> Result<(Zeroizing<[u8; 32]>, Vec<u8>), Error>;
}

/// 256 random bits.
pub(crate) fn fresh_key() -> Result<Zeroizing<[u8; 32]>, Error> {
    let mut key = Zeroizing::new([0u8; 32]);
    fill_random(key.as_mut())?;
    Ok(key)
}

pub(crate) fn fill_random(bytes: &mut [u8]) -> Result<(), Error> {
    SystemRandom::new().fill(bytes).map_err(|_| Error::Crypto)
}

/// 32 bytes as a key; anything else is none.
pub(crate) fn key_of(bytes: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
    if bytes.len() != 32 {
        return None;
    }
    let mut key = Zeroizing::new([0u8; 32]);
    key.copy_from_slice(bytes);
    Some(key)
}

/// Whether there is something to open, within the limit.
pub(crate) fn check_blob(blob: &[u8]) -> Result<(), Error> {
    if blob.is_empty() || blob.len() > MAX_BLOB {
        return Err(Error::Blob(format!("a form of {} bytes, not 1 to {MAX_BLOB}", blob.len())));
    }
    Ok(())
}
