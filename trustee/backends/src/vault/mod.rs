//! HashiCorp Vault and OpenBao: shared secrets in a KV engine of version 1 or 2.

mod calls;
mod config;
mod value;

use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cocoon_http::{Client, Method, Options, Roots};
use cocoon_release::{ResourcePath, SharedSource};
use serde::Deserialize;
use zeroize::Zeroizing;

pub use config::{KvVersion, VaultConfig};

use crate::Error;
use crate::bridge::Bridge;
use calls::Caller;

/// Most folders asked for one listing.
const MAX_FOLDERS: usize = 2_000;

/// Most paths in one listing.
const MAX_LISTED: usize = 100_000;

/// Shared secrets at `mount/prefix/repository/type/tag`, in the field `data`.
///
/// Written as upstream does, an array of byte values; read in that form and as a string (base64 where the field
/// `encoding` says `base64`). Every call ends within the time limit. The token never leaves but in its header; the
/// server's certificate is always verified.
pub struct Vault {
    kv: Arc<Kv>,
    bridge: Bridge,
    timeout: Duration,
}

struct Kv {
    caller: Caller,
    /// `URL/v1/mount`.
    root: String,
    version: KvVersion,
    prefix: String,
}

impl Vault {
    /// A Vault with these settings; nothing is sent yet, but the token must be there.
    ///
    /// # Errors
    /// [`Error::Config`] and [`Error::SecretFile`] where settings cannot work; [`Error::Thread`].
    pub fn new(config: VaultConfig) -> Result<Self, Error> {
        config.check_paths()?;
        let root = format!("{}/v1/{}", config.base()?, config.mount);
        if config.timeout.is_zero() {
            return Err(Error::Config("Vault time limit is zero".into()));
        }
        let defaults = Options::default();
        let client = Client::new(Options {
            roots: config.ca_pem.clone().map_or(defaults.roots, |pem| Roots::Pinned(vec![pem])),
            connect_timeout: config.timeout.min(defaults.connect_timeout),
            idle_timeout: config.timeout,
            ..Options::default()
        })
        .map_err(|e| Error::Config(format!("Vault: {e}")))?;
        let token = crate::secret::line_from_file(&config.token_file)?;
        let caller = Caller {
            client,
            namespace: config.namespace_header()?,
            token_file: config.token_file,
            token: Mutex::new(Some(token)),
        };
        let kv = Kv { caller, root, version: config.kv_version, prefix: config.prefix };
        Ok(Vault { kv: Arc::new(kv), bridge: Bridge::start("vault")?, timeout: config.timeout })
    }

    /// The value, if there is one.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::TokenRefused`], [`Error::Answer`], [`Error::TooLarge`].
    pub fn read(&self, path: &ResourcePath) -> Result<Option<Zeroizing<Vec<u8>>>, Error> {
        let (kv, path) = (self.kv.clone(), path.clone());
        self.within(self.timeout, async move { kv.read(&path).await })
    }

    /// Sets the value. With version 2 it is the newest version then.
    ///
    /// # Errors
    /// As for [`Vault::read`].
    pub fn write(&self, path: &ResourcePath, value: &[u8]) -> Result<(), Error> {
        let body = value::encode(value, self.kv.version)?;
        let (kv, path) = (self.kv.clone(), path.clone());
        self.within(self.timeout, async move { kv.write(&path, body).await })
    }

    /// Removes the value, with version 2 all its versions; whether there was one just before.
    ///
    /// # Errors
    /// As for [`Vault::read`].
    pub fn remove(&self, path: &ResourcePath) -> Result<bool, Error> {
        let (kv, path) = (self.kv.clone(), path.clone());
        self.within(self.timeout, async move { kv.remove(&path).await })
    }

    /// All paths of the form `repository/type/tag` below the prefix, sorted.
    ///
    /// # Errors
    /// As for [`Vault::read`]; [`Error::Answer`] too where there are over 2 000 folders or 100 000 paths.
    pub fn paths(&self) -> Result<Vec<String>, Error> {
        let kv = self.kv.clone();
        self.within(self.timeout.saturating_mul(4), async move { kv.paths().await })
    }

    fn within<T: Send + 'static>(
        &self,
        limit: Duration,
        work: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        let late = move |_| Err(Error::Unavailable(format!("no answer within {limit:?}")));
        self.bridge.run(async move { tokio::time::timeout(limit, work).await.unwrap_or_else(late) })?
    }
}

impl Kv {
    /// `root[/area][/prefix]/path`; version 2 has one area for values and one for all their versions.
    fn url(&self, area: &str, path: &str) -> String {
        let area = if self.version == KvVersion::V1 { "" } else { area };
        let parts = [self.root.as_str(), area, &self.prefix, path];
        parts.into_iter().filter(|p| !p.is_empty()).collect::<Vec<_>>().join("/")
    }

    async fn read(&self, path: &ResourcePath) -> Result<Option<Zeroizing<Vec<u8>>>, Error> {
        let url = self.url("data", path.as_str());
        let answer = self.caller.call(Method::GET, &url, Zeroizing::default()).await?;
        if answer.found { value::decode(&answer.body, self.version) } else { Ok(None) }
    }

    async fn write(&self, path: &ResourcePath, body: Zeroizing<Vec<u8>>) -> Result<(), Error> {
        let url = self.url("data", path.as_str());
        if self.caller.call(Method::POST, &url, body).await?.found {
            Ok(())
        } else {
            Err(Error::Answer("there is no KV engine of that version at the mount (404)".into()))
        }
    }

    async fn remove(&self, path: &ResourcePath) -> Result<bool, Error> {
        let value = self.url("data", path.as_str());
        let there = self.caller.call(Method::GET, &value, Zeroizing::default()).await?.found;
        let all = self.url("metadata", path.as_str());
        let _ = self.caller.call(Method::DELETE, &all, Zeroizing::default()).await?;
        Ok(there)
    }

    async fn paths(&self) -> Result<Vec<String>, Error> {
        let too_many = || Error::Answer("too many secrets to list".into());
        let mut found = Vec::new();
        let mut folders = vec![(String::new(), 0)];
        let mut asked = 0;
        while let Some((folder, depth)) = folders.pop() {
            asked += 1;
            if asked > MAX_FOLDERS {
                return Err(too_many());
            }
            for name in self.names(&folder).await? {
                match name.strip_suffix('/') {
                    Some(name) if depth < 2 && config::is_segment(name) => {
                        folders.push((format!("{folder}{name}/"), depth + 1));
                    }
                    None if depth == 2 => {
                        let path = format!("{folder}{name}");
                        if path.parse::<ResourcePath>().is_ok() {
                            found.push(path);
                        }
                    }
                    _ => {}
                }
            }
            if found.len() > MAX_LISTED || folders.len() > MAX_FOLDERS {
                return Err(too_many());
            }
        }
        found.sort();
        Ok(found)
    }

    /// Names in a folder, which is empty or ends with a slash.
    async fn names(&self, folder: &str) -> Result<Vec<String>, Error> {
        #[derive(Deserialize)]
        struct Listing {
            data: Keys,
        }
        #[derive(Deserialize)]
        struct Keys {
            keys: Vec<String>,
        }
        let url = self.url("metadata", folder);
        // Not the method LIST, which some proxies do not let through.
        let url = format!("{}/?list=true", url.trim_end_matches('/'));
        let answer = self.caller.call(Method::GET, &url, Zeroizing::default()).await?;
        if answer.found { Ok(value::parse::<Listing>(&answer.body)?.data.keys) } else { Ok(Vec::new()) }
    }
}

impl SharedSource for Vault {
    fn get(&self, path: &ResourcePath) -> Result<Option<Zeroizing<Vec<u8>>>, String> {
        self.read(path).map_err(|e| e.to_string())
    }

    fn put(&self, path: &ResourcePath, value: &[u8]) -> Result<(), String> {
        self.write(path, value).map_err(|e| e.to_string())
    }

    fn delete(&self, path: &ResourcePath) -> Result<bool, String> {
        self.remove(path).map_err(|e| e.to_string())
    }

    fn list(&self) -> Result<Option<Vec<String>>, String> {
        self.paths().map(Some).map_err(|e| e.to_string())
    }
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vault").field("root", &self.kv.root).finish_non_exhaustive()
    }
}
