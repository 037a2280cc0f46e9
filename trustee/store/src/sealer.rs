//! Sealing of values at rest: AES-256-GCM under a key from a file only its owner can read.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use zeroize::Zeroizing;

use crate::Error;

/// First byte of every sealed value: the format's version.
const VERSION: u8 = 1;

/// Seals and opens values. Sealed form: version byte 1, 12-byte nonce, ciphertext, 16-byte tag; the associated
/// data is namespace and key, so that a value moved to another place does not open there.
///
/// Nonces are random: one key file is good for 2^32 writes (NIST SP 800-38D §8.3).
pub struct Sealer {
    key: RandomizedNonceKey,
}

impl Sealer {
    /// Uses the 32-byte key in the file at `path`; creates it (0600, random) if absent. Of several processes that
    /// create at once all end with the same key. A key that group or others can read is refused.
    pub fn open_or_create(path: &Path) -> Result<Self, Error> {
        let unusable =
            |reason: &str| Error::KeyFile { path: path.display().to_string(), reason: reason.into() };
        let mut file = match open_existing(path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                create(path)?;
                open_existing(path).map_err(|e| Error::io(path, e))?
            }
            Err(error) => return Err(Error::io(path, error)),
        };
        let metadata = file.metadata().map_err(|e| Error::io(path, e))?;
        if !metadata.is_file() {
            return Err(unusable("not a regular file"));
        }
        if metadata.mode() & 0o077 != 0 {
            return Err(unusable("others may read it; run chmod 600"));
        }
        if metadata.len() != 32 {
            return Err(unusable("not 32 bytes"));
        }
        let mut key = Zeroizing::new([0u8; 32]);
        file.read_exact(key.as_mut()).map_err(|e| Error::io(path, e))?;
        Self::from_key(&key)
    }

    /// Uses the given key.
    pub fn from_key(key: &[u8; 32]) -> Result<Self, Error> {
        let key = RandomizedNonceKey::new(&AES_256_GCM, key).map_err(|_| Error::Crypto)?;
        Ok(Sealer { key })
    }

    /// A sealer with a key that nobody keeps: what it seals is lost with it.
    pub fn ephemeral() -> Result<Self, Error> {
        let key = random_key()?;
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

    /// Opens what was sealed for exactly this place; otherwise [`Error::Unsealable`].
    pub fn open(&self, ns: &str, key: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
        self.try_open(ns, key, sealed)
            .ok_or_else(|| Error::Unsealable { ns: ns.to_owned(), key: key.to_owned() })
    }

    fn try_open(&self, ns: &str, key: &str, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (version, rest) = sealed.split_first()?;
        if *version != VERSION {
            return None;
        }
        let (nonce, body) = rest.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut buffer = Zeroizing::new(body.to_vec());
        let length = self.key.open_in_place(nonce, Aad::from(place(ns, key)), &mut buffer).ok()?.len();
        buffer.truncate(length);
        Some(buffer)
    }
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

fn random_key() -> Result<Zeroizing<[u8; 32]>, Error> {
    let mut key = Zeroizing::new([0u8; 32]);
    aws_lc_rs::rand::fill(key.as_mut()).map_err(|_| Error::Crypto)?;
    Ok(key)
}

fn open_existing(path: &Path) -> std::io::Result<File> {
    let no_follow = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or(0);
    OpenOptions::new().read(true).custom_flags(no_follow).open(path)
}

/// Writes a fresh key beside `path` and links it there: the name appears with all its bytes or not at all, and
/// an existing file wins.
fn create(path: &Path) -> Result<(), Error> {
    let folder = path.parent().unwrap_or(Path::new("."));
    crate::redb_store::create_private_folder(folder)?;
    let mut suffix = [0u8; 8];
    aws_lc_rs::rand::fill(&mut suffix).map_err(|_| Error::Crypto)?;
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".new-{}", hex::encode(suffix)));
    let temporary = Path::new(&temporary);
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(temporary)?;
        let key = random_key().map_err(|_| std::io::Error::other("no randomness"))?;
        file.write_all(key.as_ref())?;
        file.sync_all()?;
        match std::fs::hard_link(temporary, path) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(error),
            _ => File::open(folder)?.sync_all(),
        }
    })();
    drop(std::fs::remove_file(temporary));
    written.map_err(|e| Error::io(path, e))
}

#[cfg(test)]
mod tests {
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
}
