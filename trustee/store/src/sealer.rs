//! Sealing of values at rest: AES-256-GCM under a key from a file only its owner can read.

use std::path::Path;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use zeroize::Zeroizing;

use crate::{Error, keyfile};

/// First byte of every sealed value: the format's version.
const VERSION: u8 = 1;

/// Seals and opens values. Sealed form: version byte 1, 12-byte nonce, ciphertext, 16-byte tag; the associated
/// data is namespace and key, so that a value moved to another place does not open there.
///
/// Nonces are random: one key file is good for 2^32 writes (NIST SP 800-38D §8.3). For a change of key see
/// [`Sealer::with_previous`] and [`reseal`](crate::reseal).
pub struct Sealer {
    key: RandomizedNonceKey,
    /// Keys that still open but no longer seal, newest first.
    previous: Vec<RandomizedNonceKey>,
}

impl Sealer {
    /// Uses the 32-byte key in the file at `path`; creates it (0600, random) if absent. Of several processes that
    /// create at once all end with the same key. A key that group or others can read is refused.
    pub fn open_or_create(path: &Path) -> Result<Self, Error> {
        let key = keyfile::open_or_create(path)?;
        Self::from_key(&key)
    }

    /// Uses the given key.
    pub fn from_key(key: &[u8; 32]) -> Result<Self, Error> {
        let key = RandomizedNonceKey::new(&AES_256_GCM, key).map_err(|_| Error::Crypto)?;
        Ok(Sealer { key, previous: Vec::new() })
    }

    /// Seals with `current`'s key and opens what either `current` or one of `previous` sealed: the time between a
    /// change of key and the end of [`reseal`](crate::reseal). Which key it was is found by trying.
    pub fn with_previous(current: Sealer, previous: Vec<Sealer>) -> Self {
        let mut older = current.previous;
        for sealer in previous {
            older.push(sealer.key);
            older.extend(sealer.previous);
        }
        Sealer { key: current.key, previous: older }
    }

    /// A sealer with a key that nobody keeps: what it seals is lost with it.
    pub fn ephemeral() -> Result<Self, Error> {
        let key = keyfile::random_key()?;
        Self::from_key(&key)
    }

    /// Seals `plain` for its place `ns`/`key`.
    pub fn seal(&self, ns: &str, key: &str, plain: &[u8]) -> Result<Vec<u8>, Error> {
        let mut body = Vec::with_capacity(plain.len() + AES_256_GCM.tag_len());
        body.extend_from_slice(plain);
        let nonce = self
            .key
            .seal_in_place_append_tag(Aad::from(place(ns, key)), &mut body)
            .map_err(|_| Error::Crypto)?;
        let mut sealed = Vec::with_capacity(1 + NONCE_LEN + body.len());
        sealed.push(VERSION);
        sealed.extend_from_slice(nonce.as_ref());
        sealed.extend_from_slice(&body);
        Ok(sealed)
    }

    /// Opens what was sealed for exactly this place, with the current or a previous key; otherwise
    /// [`Error::Unsealable`].
    pub fn open(&self, ns: &str, key: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
        std::iter::once(&self.key)
            .chain(&self.previous)
            .find_map(|with| try_open(with, ns, key, sealed))
            .ok_or_else(|| Error::Unsealable { ns: ns.to_owned(), key: key.to_owned() })
    }

    /// Whether the current key opens it.
    pub(crate) fn is_current(&self, ns: &str, key: &str, sealed: &[u8]) -> bool {
        try_open(&self.key, ns, key, sealed).is_some()
    }
}

fn try_open(with: &RandomizedNonceKey, ns: &str, key: &str, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (version, rest) = sealed.split_first()?;
    if *version != VERSION {
        return None;
    }
    let (nonce, body) = rest.split_at_checked(NONCE_LEN)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
    let mut buffer = Zeroizing::new(body.to_vec());
    let length = with.open_in_place(nonce, Aad::from(place(ns, key)), &mut buffer).ok()?.len();
    buffer.truncate(length);
    Some(buffer)
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sealer")
    }
}

/// Unambiguous text of a place: namespaces hold no NUL.
fn place(ns: &str, key: &str) -> Vec<u8> {
    crate::joined(ns, key)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn a_value_opens_only_at_its_place_and_unaltered() {
        let sealer = Sealer::ephemeral().unwrap();
        let sealed = sealer.seal("repository", "a/b/c", b"password").unwrap();
        assert!(!sealed.windows(8).any(|w| w == b"password"));
        assert_eq!(sealer.open("repository", "a/b/c", &sealed).unwrap().as_slice(), b"password");
        assert!(sealer.open("repository", "a/b/d", &sealed).is_err());
        assert!(sealer.open("repositor", "ya/b/c", &sealed).is_err());
        assert!(Sealer::ephemeral().unwrap().open("repository", "a/b/c", &sealed).is_err());
        for i in 0..sealed.len() {
            let mut altered = sealed.clone();
            altered[i] ^= 1;
            assert!(sealer.open("repository", "a/b/c", &altered).is_err(), "byte {i}");
            assert!(sealer.open("repository", "a/b/c", &sealed[..i]).is_err(), "length {i}");
        }
    }

    #[test]
    fn the_key_file_is_private_kept_and_the_same_for_all_who_create_it_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sub/key");
        let sealers: Vec<Sealer> = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..8).map(|_| scope.spawn(|| Sealer::open_or_create(&path).unwrap())).collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        let sealed = sealers[0].seal("n", "k", b"v").unwrap();
        for sealer in &sealers {
            assert_eq!(sealer.open("n", "k", &sealed).unwrap().as_slice(), b"v");
        }
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "temporary files are gone");

        let exposed = folder.path().join("exposed");
        std::fs::write(&exposed, [7u8; 32]).unwrap();
        std::fs::set_permissions(&exposed, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
        assert!(matches!(Sealer::open_or_create(&exposed), Err(Error::KeyFile { .. })));
        let short = folder.path().join("short");
        std::fs::write(&short, [7u8; 31]).unwrap();
        std::fs::set_permissions(&short, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        assert!(matches!(Sealer::open_or_create(&short), Err(Error::KeyFile { .. })));
    }

    #[test]
    fn previous_keys_open_but_never_seal() {
        let sealer = |byte| Sealer::from_key(&[byte; 32]).unwrap();
        let oldest = sealer(1).seal("n", "k", b"1").unwrap();
        let old = sealer(2).seal("n", "k", b"2").unwrap();
        let both = Sealer::with_previous(sealer(3), vec![Sealer::with_previous(sealer(2), vec![sealer(1)])]);
        assert_eq!(both.open("n", "k", &oldest).unwrap().as_slice(), b"1");
        assert_eq!(both.open("n", "k", &old).unwrap().as_slice(), b"2");
        assert!(both.open("n", "other", &old).is_err());
        let new = both.seal("n", "k", b"3").unwrap();
        assert_eq!(sealer(3).open("n", "k", &new).unwrap().as_slice(), b"3");
        assert!(sealer(2).open("n", "k", &new).is_err());
        assert!(both.is_current("n", "k", &new) && !both.is_current("n", "k", &old));
    }
}
