//! Key-encryption keys: of the embedded Trustee, of one elsewhere, or from a file.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use cocoon_image::encryption::{AnnotationPacket, KEK_BYTES, OpeningKey, PrivateOptions, unwrap_key};
use cocoon_protocol::uri::ResourceUri;
use cocoon_stage::{Code, Failure};
use serde_json::Value;
use tokio::sync::OnceCell;
use zeroize::Zeroizing;

use super::usage;
use crate::args::Common;
use crate::client::AdminClient;
use crate::embedded::resource_path;

/// The type of resource that keys are made under, the middle part of their path.
pub const KEY_TYPE: &str = "image-key";
/// Most keys that one process makes: a key provider's callers must not fill a Trustee.
const MAX_MADE: usize = 256;

type Key = Zeroizing<Vec<u8>>;

/// Where key-encryption keys are.
pub struct KeyStore {
    common: Common,
    kek: Option<Zeroizing<Vec<u8>>>,
    client: OnceCell<AdminClient>,
    /// Keys that a Trustee elsewhere got from this process, by path: it never gives them out again. Calls for one path
    /// wait for each other.
    sent: Mutex<BTreeMap<String, Arc<OnceCell<Key>>>>,
    /// How many keys were made.
    made: AtomicUsize,
}

impl KeyStore {
    /// The store that the flags name. It is opened when a key is needed.
    pub fn new(common: &Common, kek: Option<&Path>) -> Result<Self, Failure> {
        let kek = kek.map(read_kek).transpose()?;
        Ok(KeyStore {
            common: common.clone(),
            kek,
            client: OnceCell::new(),
            sent: Mutex::default(),
            made: AtomicUsize::new(0),
        })
    }

    async fn client(&self) -> Result<&AdminClient, Failure> {
        self.client.get_or_try_init(|| async { AdminClient::open(&self.common) }).await
    }

    /// The value at a path, where this process may see it: of the embedded Trustee, not of a tenant.
    fn value(&self, client: &AdminClient, path: &str) -> Result<Option<Zeroizing<Vec<u8>>>, Failure> {
        match client.embedded() {
            Some(embedded) if self.common.tenant.is_none() => embedded.secret(path),
            _ => Ok(None),
        }
    }

    /// A key to wrap under: the one at this path, or a new one that is put there. A Trustee elsewhere never gives a key
    /// out, so there only a new path does, or one whose key this process made, or the key from a file.
    pub async fn to_wrap(&self, id: &ResourceUri) -> Result<Zeroizing<Vec<u8>>, Failure> {
        let path = id.path();
        resource_path(&path)?;
        let client = self.client().await?;
        if client.embedded().is_some() && self.common.tenant.is_none() {
            return self.embedded_key(client, &path).await;
        }
        let cell = self.sent().entry(path.clone()).or_default().clone();
        let key = cell.get_or_try_init(|| self.send_key(client, id, &path)).await.cloned();
        if key.is_err() {
            // What came to nothing takes no room. Who waits for it still holds it.
            let mut sent = self.sent();
            if sent.get(&path).is_some_and(|kept| kept.get().is_none() && Arc::strong_count(kept) <= 2) {
                sent.remove(&path);
            }
        }
        key
    }

    fn sent(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Arc<OnceCell<Key>>>> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a Trustee elsewhere a key, unless it has one there; never in the place of another.
    async fn send_key(&self, client: &AdminClient, id: &ResourceUri, path: &str) -> Result<Key, Failure> {
        let known = client.get("secrets", "secrets").await?;
        let known = known.as_array().into_iter().flatten().filter_map(Value::as_str).any(|p| p == path);
        let key = match &self.kek {
            Some(kek) => kek.clone(),
            None => new_key()?,
        };
        if !known {
            self.one_more()?;
            let body = Bytes::copy_from_slice(&key);
            if client.create_bytes(&format!("secrets/{path}"), body, path).await? {
                return Ok(key);
            }
        }
        match &self.kek {
            Some(kek) => Ok(kek.clone()),
            None => Err(usage(format!(
                "{} has a key {id} but gives it to attested guests only; give its bytes with --kek, or choose another \
                 --key-id",
                client.place()
            ))),
        }
    }

    /// Counts a key that is to be made.
    fn one_more(&self) -> Result<(), Failure> {
        match self.made.fetch_add(1, Ordering::Relaxed) {
            0..MAX_MADE => Ok(()),
            _ => Err(usage(format!("this process has made {MAX_MADE} keys, and makes no more"))),
        }
    }

    async fn embedded_key(&self, client: &AdminClient, path: &str) -> Result<Zeroizing<Vec<u8>>, Failure> {
        let embedded =
            client.embedded().ok_or_else(|| Failure::new(Code::Internal, "no embedded Trustee"))?;
        let Some(kek) = &self.kek else {
            if embedded.secret(path)?.is_none() {
                self.one_more()?;
            }
            let key = embedded.image_key(path)?;
            return if key.len() == KEK_BYTES {
                Ok(key)
            } else {
                Err(usage(format!("{path} has {} bytes; an image's key has {KEK_BYTES}", key.len())))
            };
        };
        match embedded.secret(path)? {
            Some(key) if key == *kek => Ok(key),
            Some(_) => {
                Err(usage(format!("the embedded Trustee has another key at {path} than that of --kek")))
            }
            None => {
                client.put_bytes(&format!("secrets/{path}"), Bytes::copy_from_slice(kek), path).await?;
                Ok(kek.clone())
            }
        }
    }

    /// Whether there is a key, without making one. Of a Trustee elsewhere that is not known.
    pub async fn has(&self, id: &ResourceUri) -> Result<bool, Failure> {
        let client = self.client().await?;
        Ok(self.value(client, &id.path())?.is_some())
    }

    /// The private options that a packet wraps.
    pub async fn unwrap(&self, packet: &AnnotationPacket) -> Result<Zeroizing<Vec<u8>>, Failure> {
        if let Some(kek) = &self.kek {
            return Ok(unwrap_key(kek, packet)?);
        }
        let id: ResourceUri = packet.kid.parse().map_err(Failure::from)?;
        let own = self.sent().get(&id.path()).and_then(|cell| cell.get().cloned());
        if let Some(kek) = own {
            return Ok(unwrap_key(&kek, packet)?);
        }
        let client = self.client().await?;
        if let Some(kek) = self.value(client, &id.path())? {
            return Ok(unwrap_key(&kek, packet)?);
        }
        let why = if client.embedded().is_some() && self.common.tenant.is_none() {
            format!("there is no key {id} in the embedded Trustee")
        } else {
            format!(
                "{} gives the key {id} to attested guests only; give its bytes with --kek",
                client.place()
            )
        };
        Err(Failure::new(Code::ReleaseSecretMissing, why))
    }
}

fn new_key() -> Result<Zeroizing<Vec<u8>>, Failure> {
    let mut key = Zeroizing::new(vec![0; KEK_BYTES]);
    aws_lc_rs::rand::fill(&mut key).map_err(|_| Failure::new(Code::Internal, "no random numbers"))?;
    Ok(key)
}

fn read_kek(file: &Path) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let key = std::fs::read(file).map_err(|e| usage(format!("{}: {e}", file.display())))?;
    let key = Zeroizing::new(key);
    if key.len() != KEK_BYTES {
        return Err(usage(format!(
            "{}: a key-encryption key has {KEK_BYTES} bytes, not {}",
            file.display(),
            key.len()
        )));
    }
    Ok(key)
}

/// The options of a layer, from what a store or provider gave.
pub fn private_options(json: &[u8]) -> Result<PrivateOptions, Failure> {
    Ok(PrivateOptions::parse(json)?)
}

/// A private key `FILE[:PASSWORD]`; the password as `file=FILE` (or `filename=`), `env=NAME`, `fd=N`, `pass=TEXT` or
/// itself.
pub fn opening_key(text: &str) -> Result<OpeningKey, Failure> {
    let (file, password) = match text.split_once(':') {
        Some((file, password)) => (file, Some(read_password(password)?)),
        None => (text, None),
    };
    let content = std::fs::read(file).map_err(|e| usage(format!("{file}: {e}")))?;
    OpeningKey::parse(&Zeroizing::new(content), password.as_deref().map(Vec::as_slice))
        .map_err(|e| usage(format!("{file}: {e}")))
}

fn read_password(text: &str) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let read = |path: &str| {
        let text = std::fs::read(path).map_err(|e| usage(format!("password file {path}: {e}")))?;
        let text = Zeroizing::new(text);
        let line = text.strip_suffix(b"\n").unwrap_or(&text);
        Ok(Zeroizing::new(line.strip_suffix(b"\r").unwrap_or(line).to_vec()))
    };
    let value = |text: String| Zeroizing::new(text.into_bytes());
    match text.split_once('=') {
        Some(("file" | "filename", path)) => read(path),
        Some(("fd", n)) if n.parse::<u32>().is_ok() => read(&format!("/proc/self/fd/{n}")),
        Some(("env", name)) => {
            std::env::var(name).map(value).map_err(|_| usage(format!("the variable {name} is not set")))
        }
        Some(("pass", text)) => Ok(value(text.to_owned())),
        _ => Ok(value(text.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_come_from_where_they_should() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("p");
        std::fs::write(&file, "123456\n").unwrap();
        let read = |text: &str| read_password(text).map(|p| String::from_utf8(p.to_vec()).unwrap());
        assert_eq!(read(&format!("file={}", file.display())).unwrap(), "123456");
        assert_eq!(read(&format!("filename={}", file.display())).unwrap(), "123456");
        assert_eq!((read("pass=a=b").unwrap(), read("abc").unwrap()), ("a=b".into(), "abc".into()));
        assert!(read("file=/nonexistent").is_err() && read("env=COCOON_NO_SUCH_VARIABLE").is_err());
    }
}
