//! Where a Vault is and how to speak to it.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use cocoon_http::HeaderValue;
use url::{Host, Url};

use crate::Error;

/// Version of the KV secrets engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KvVersion {
    /// One value for a path.
    V1,
    /// Values with versions; the newest is read, all are deleted.
    V2,
}

impl TryFrom<u64> for KvVersion {
    type Error = Error;

    /// 1 or 2, as in settings.
    fn try_from(number: u64) -> Result<Self, Error> {
        match number {
            1 => Ok(KvVersion::V1),
            2 => Ok(KvVersion::V2),
            _ => Err(Error::Config(format!("KV version {number} is neither 1 nor 2"))),
        }
    }
}

/// Settings of a [`crate::Vault`].
#[derive(Clone, Debug)]
pub struct VaultConfig {
    /// `https://host[:port][/path]`; `http://` only where the host is `localhost` or a loopback address.
    pub url: String,
    /// Version of the KV engine at `mount`.
    pub kv_version: KvVersion,
    /// Path of the KV engine, e.g. `secret`.
    pub mount: String,
    /// Path inside the engine before `repository/type/tag`; may be empty.
    pub prefix: String,
    /// File that holds the token and nothing else; read again when the Vault refuses the token.
    pub token_file: PathBuf,
    /// Value of the `X-Vault-Namespace` header.
    pub namespace: Option<String>,
    /// The only certificates (PEM) that may have signed the Vault's; `None`: the system's.
    pub ca_pem: Option<String>,
    /// Limit for one call as a whole, its second try included; a listing may take four times as long.
    pub timeout: Duration,
}

impl VaultConfig {
    /// The URL without a slash at its end, checked.
    pub(super) fn base(&self) -> Result<String, Error> {
        let bad = |why: &str| Error::Config(format!("Vault URL: {why}"));
        let url = Url::parse(&self.url).map_err(|e| bad(&e.to_string()))?;
        let loopback = match url.host() {
            Some(Host::Domain(name)) => name == "localhost",
            Some(Host::Ipv4(ip)) => IpAddr::V4(ip).is_loopback(),
            Some(Host::Ipv6(ip)) => IpAddr::V6(ip).is_loopback(),
            None => return Err(bad("no host")),
        };
        match url.scheme() {
            "https" => {}
            "http" if loopback => {}
            "http" => return Err(bad("http is for loopback addresses only")),
            _ => return Err(bad("neither https nor http")),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(bad("it must not hold credentials"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(bad("it must not hold a query or fragment"));
        }
        Ok(url.as_str().trim_end_matches('/').to_owned())
    }

    /// Checks mount and prefix, which need no escapes in a URL then.
    pub(super) fn check_paths(&self) -> Result<(), Error> {
        let fine = |path: &str| path.len() <= 255 && path.split('/').all(is_segment);
        if !fine(&self.mount) {
            return Err(Error::Config(format!("Vault mount {:?} is not a path", self.mount)));
        }
        if !self.prefix.is_empty() && !fine(&self.prefix) {
            return Err(Error::Config(format!("Vault prefix {:?} is not a path", self.prefix)));
        }
        Ok(())
    }

    pub(super) fn namespace_header(&self) -> Result<Option<HeaderValue>, Error> {
        let Some(name) = &self.namespace else { return Ok(None) };
        let valid = !name.is_empty() && name.len() <= 255 && name.bytes().all(|b| b.is_ascii_graphic());
        match HeaderValue::from_str(name) {
            Ok(value) if valid => Ok(Some(value)),
            _ => Err(Error::Config(format!("Vault namespace {name:?} is not a header value"))),
        }
    }
}

/// Whether it is one segment of a resource path (trustee.md §1.2).
pub(super) fn is_segment(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    let mut bytes = text.bytes();
    bytes.next().is_some_and(word) && bytes.all(|b| word(b) || b == b'.')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(url: &str) -> VaultConfig {
        VaultConfig {
            url: url.into(),
            kv_version: KvVersion::V1,
            mount: "secret".into(),
            prefix: String::new(),
            token_file: "/t".into(),
            namespace: None,
            ca_pem: None,
            timeout: Duration::from_secs(1),
        }
    }

    #[test]
    fn urls() {
        for (url, base) in [
            ("https://vault.example.org:8200/", "https://vault.example.org:8200"),
            ("https://vault.example.org/proxy/", "https://vault.example.org/proxy"),
            ("http://127.0.0.1:8200", "http://127.0.0.1:8200"),
            ("http://[::1]:8200", "http://[::1]:8200"),
            ("http://localhost", "http://localhost"),
        ] {
            assert_eq!(config(url).base().unwrap(), base);
        }
        for url in [
            "http://vault.example.org",
            "http://127.0.0.1.example.org",
            "http://localhost.example.org",
            "http://0.0.0.0",
            "http://[::ffff:127.0.0.1]",
            "https://user:pw@vault.example.org",
            "https://vault.example.org?x=1",
            "https://vault.example.org/#x",
            "ftp://localhost",
            "unix:/run/vault",
            "vault",
            "",
        ] {
            assert!(matches!(config(url).base(), Err(Error::Config(_))), "{url}");
        }
    }

    #[test]
    fn paths_and_namespace() {
        let with = |mount: &str, prefix: &str| VaultConfig {
            mount: mount.into(),
            prefix: prefix.into(),
            ..config("https://x")
        };
        assert!(with("kv/team-a", "coco/prod.1").check_paths().is_ok());
        for (mount, prefix) in [("", ""), ("a/../b", ""), ("a", "b/"), ("a", "/b"), ("a?", ""), ("a", "%2e")]
        {
            assert!(with(mount, prefix).check_paths().is_err(), "{mount:?} {prefix:?}");
        }
        let named = |name: &str| VaultConfig { namespace: Some(name.into()), ..config("https://x") };
        assert!(named("team/a").namespace_header().unwrap().is_some());
        assert!(named("a\r\nX-Vault-Token: b").namespace_header().is_err());
        assert!(KvVersion::try_from(3).is_err() && KvVersion::try_from(2).unwrap() == KvVersion::V2);
    }
}
