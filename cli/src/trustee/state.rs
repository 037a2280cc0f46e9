//! The state of a Trustee: its folder, its store, and the key that seals what is in it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use cocoon_backends::{CommandKey, CommandKeyConfig, KeyProtector, KeyWrapping, Pkcs11Key, Pkcs11KeyConfig};
use cocoon_config::{Given, Seal, Settings, StateKind};
use cocoon_stage::{Code, Failure};
use cocoon_store::{MemoryStore, PostgresOptions, PostgresStore, Sealer, Store};
use zeroize::Zeroizing;

use super::backends::Tokens;
use super::read;
use crate::dirs;
use crate::embedded::{JOURNAL, make_folder, open_store};

/// Place of the wrapped sealing key in a shared store.
const BLOB: (&str, &str) = ("seal", "blob");
/// Its file beside an embedded store.
const BLOB_FILE: &str = "seal.blob";
/// Most tries to agree with other processes on one sealing key.
const TRIES: u32 = 8;

/// The folder of Trustee's own files, made where there is none.
pub fn folder(settings: &Settings) -> Result<PathBuf, Failure> {
    let folder = match &settings.state.folder {
        Some(folder) => folder.clone(),
        None => dirs::data_dir()?.join("trustee"),
    };
    make_folder(&folder)?;
    Ok(folder)
}

/// A secret of the settings.
pub fn given(key: &str, given: &Given) -> Result<Zeroizing<String>, Failure> {
    match given {
        Given::Inline(secret) => Ok(Zeroizing::new(secret.expose().to_owned())),
        Given::File(path) => {
            let text = read(&format!("{key}_file"), path)?;
            Ok(Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned()))
        }
    }
}

/// Opens the store. `exclusive` keeps other processes out of an embedded one.
pub fn store(settings: &Settings, folder: &Path, exclusive: bool) -> Result<Arc<dyn Store>, Failure> {
    match &settings.state.kind {
        StateKind::Embedded => open_store(folder, exclusive),
        StateKind::Memory => Ok(Arc::new(MemoryStore::default())),
        StateKind::Postgres { url, pool_size } => {
            let url = given("state.postgres_url", url)?;
            let options = PostgresOptions { connections: *pool_size, ..PostgresOptions::default() };
            Ok(Arc::new(PostgresStore::open(&url, options)?))
        }
    }
}

/// The audit log's journal beside an embedded store.
pub fn journal(settings: &Settings, folder: &Path) -> Option<PathBuf> {
    (settings.state.kind == StateKind::Embedded).then(|| folder.join(JOURNAL))
}

/// The sealer of a store.
pub fn sealer(
    settings: &Settings,
    folder: &Path,
    store: &Arc<dyn Store>,
    tokens: &Tokens,
) -> Result<Sealer, Failure> {
    let protector: Box<dyn KeyProtector> = match &settings.seal {
        Seal::File(file) => {
            let file = file.clone().unwrap_or_else(|| folder.join("seal.key"));
            return Ok(Sealer::open_or_create(&file)?);
        }
        Seal::Command { command, time } => Box::new(CommandKey::new(CommandKeyConfig {
            argv: command.clone(),
            timeout: *time,
            environment: Vec::new(),
        })?),
        Seal::Pkcs11(seal) => {
            let token = tokens.open(&seal.module, &seal.token, &seal.pin_file)?;
            let label = seal.key_label.clone();
            let config = Pkcs11KeyConfig { label, wrapping: KeyWrapping::AesGcm, create: true };
            Box::new(Pkcs11Key::new(token, config)?)
        }
    };
    let key = match &settings.state.kind {
        StateKind::Embedded => agreed(protector.as_ref(), &Beside(folder.join(BLOB_FILE)))?,
        StateKind::Postgres { .. } => agreed(protector.as_ref(), &Inside(store.clone()))?,
        // What it seals is lost at exit with the store, so nobody needs the key again.
        StateKind::Memory => protector.seal_key(None)?.0,
    };
    Ok(Sealer::from_key(&key)?)
}

/// Where the wrapped sealing key is kept.
trait BlobPlace {
    fn get(&self) -> Result<Option<Vec<u8>>, Failure>;
    /// Puts it where there is none yet.
    fn put_if_absent(&self, blob: &[u8]) -> Result<(), Failure>;
}

struct Beside(PathBuf);

struct Inside(Arc<dyn Store>);

impl BlobPlace for Beside {
    fn get(&self) -> Result<Option<Vec<u8>>, Failure> {
        match std::fs::read(&self.0) {
            Ok(blob) => Ok(Some(blob)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(self.failed(&e)),
        }
    }

    fn put_if_absent(&self, blob: &[u8]) -> Result<(), Failure> {
        let mut new = self.0.clone().into_os_string();
        new.push(format!(".new-{}", dirs::random_hex(8)?));
        let new = PathBuf::from(new);
        let written = (|| {
            let mut file = std::fs::File::create_new(&new)?;
            std::io::Write::write_all(&mut file, blob)?;
            file.sync_all()?;
            match std::fs::hard_link(&new, &self.0) {
                Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => return Err(e),
                _ => {}
            }
            let folder = self.0.parent().unwrap_or(Path::new("."));
            std::fs::File::open(folder)?.sync_all()
        })();
        let _ = std::fs::remove_file(&new);
        written.map_err(|e| self.failed(&e))
    }
}

impl Beside {
    fn failed(&self, error: &std::io::Error) -> Failure {
        Failure::new(Code::StoreUnavailable, format!("{}: {error}", self.0.display()))
    }
}

impl BlobPlace for Inside {
    fn get(&self) -> Result<Option<Vec<u8>>, Failure> {
        Ok(self.0.get(BLOB.0, BLOB.1)?)
    }

    fn put_if_absent(&self, blob: &[u8]) -> Result<(), Failure> {
        self.0.put_if_absent(BLOB.0, BLOB.1, blob)?;
        Ok(())
    }
}

/// The one key of all processes on this state: what is kept decides, whoever made it.
fn agreed(protector: &dyn KeyProtector, place: &dyn BlobPlace) -> Result<Zeroizing<[u8; 32]>, Failure> {
    for _ in 0..TRIES {
        if let Some(blob) = place.get()? {
            return Ok(protector.seal_key(Some(&blob))?.0);
        }
        let (_, blob) = protector.seal_key(None)?;
        place.put_if_absent(&blob)?;
    }
    Err(Failure::new(Code::StoreUnavailable, "the wrapped sealing key vanishes as soon as it is kept"))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU8, Ordering};

    use super::*;

    /// Wraps by turning each bit; each new key is another.
    struct Turner(AtomicU8);

    impl KeyProtector for Turner {
        fn seal_key(
            &self,
            blob: Option<&[u8]>,
        ) -> Result<(Zeroizing<[u8; 32]>, Vec<u8>), cocoon_backends::Error> {
            let byte = match blob {
                Some(blob) => !blob[0],
                None => self.0.fetch_add(1, Ordering::Relaxed),
            };
            Ok((Zeroizing::new([byte; 32]), vec![!byte]))
        }
    }

    #[test]
    fn what_is_kept_decides() {
        let protector = Turner(AtomicU8::new(1));
        let folder = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
        let places: [Box<dyn BlobPlace>; 2] =
            [Box::new(Beside(folder.path().join(BLOB_FILE))), Box::new(Inside(store))];
        for place in places {
            let first = agreed(&protector, place.as_ref()).unwrap();
            place.put_if_absent(&[0]).unwrap();
            assert_eq!(agreed(&protector, place.as_ref()).unwrap(), first);
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
