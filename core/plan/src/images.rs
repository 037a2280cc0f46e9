//! How images reach the guest: policy, registries, shared layers and the space they take.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::check::check_uri;
use crate::{Error, MAX_PLAN_BYTES};

/// Layers of one image that may be attached as block devices: what a manifest may list at most.
pub const MAX_SHARED_LAYERS: usize = 128;
/// The largest shared layer, in blocks of 4096 bytes: 1 TiB.
const MAX_BLOCKS: u64 = 1 << 28;
const MAX_TEXT: usize = 64 * 1024;
const MAX_CERTIFICATES: usize = 16;
const MAX_REGISTRIES: usize = 64;
/// The smallest scratch disk: 64 MiB; the largest: 16 TiB.
const SCRATCH_BYTES: std::ops::RangeInclusive<u64> = (64 << 20)..=(16 << 40);

/// How images reach the guest, and which it may take.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageSettings {
    /// A signature policy (containers-policy.json(5)), decided on each image's `reference`. Without one only an image's
    /// own `signature` counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<Value>,
    /// `kbs:///…` of such a policy in Trustee; not together with `policy`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_uri: Option<String>,
    /// Where detached signatures are looked for: the text of a registries.d file (containers-registries.d(5)), YAML.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lookaside: Option<String>,
    /// Mirrors, blocked registries and plain HTTP: the text of a registries.conf (containers-registries.conf(5)), TOML.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registries: Option<String>,
    /// Proxies between the guest and registries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<ProxyPlan>,
    /// Certificates of further authorities that registries and proxies may show, PEM.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ca_certificates: Vec<String>,
    /// Registries (`host[:port]`) that may be spoken to in plain HTTP. Loopback needs no entry.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub plain_http: Vec<String>,
    /// Where unpacked layers and what containers write lie.
    #[serde(default, skip_serializing_if = "Space::is_memory")]
    pub space: Space,
}

/// Proxies, as URLs `http://host[:port]` or `https://host[:port]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProxyPlan {
    /// For `https` registries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub https: Option<String>,
    /// For `http` registries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<String>,
    /// Names that are reached without one, comma separated: host names, domains, addresses, CIDR, or `*`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub no_proxy: String,
}

/// Where unpacked layers and what containers write lie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", deny_unknown_fields)]
pub enum Space {
    /// In the guest's protected memory.
    #[default]
    Memory,
    /// On a disk of the host, encrypted and authenticated with a key that never leaves the guest and ends with it.
    Scratch {
        /// Its size in bytes.
        bytes: u64,
    },
}

impl Space {
    fn is_memory(&self) -> bool {
        *self == Space::Memory
    }
}

/// A layer as a block device: EROFS under dm-verity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SharedLayer {
    /// The layer's diff id, `sha256:<64 hex>`: which layer the host is to attach.
    pub diff_id: String,
    /// dm-verity's root hash over the device's data blocks: SHA-256, no salt, blocks of 4096 bytes. 64 hex.
    pub root: String,
    /// Number of data blocks of 4096 bytes. The hash tree follows them.
    pub blocks: u64,
    /// Where the data blocks are ciphertext: the annotation packet that wraps the layer's key, JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

impl ImageSettings {
    /// Settings that stand for themselves, without a plan: JSON.
    ///
    /// # Errors
    /// [`Error`] for what is malformed or not allowed.
    pub fn parse(text: &str) -> Result<Self, Error> {
        if text.len() > MAX_PLAN_BYTES {
            return Err(Error::TooLarge(text.len()));
        }
        // A list would be read as the fields in their order.
        let object: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(text).map_err(Error::Malformed)?;
        let settings: Self = serde_json::from_value(object.into()).map_err(Error::Malformed)?;
        settings.check("images")?;
        Ok(settings)
    }

    pub(crate) fn is_default(&self) -> bool {
        *self == ImageSettings::default()
    }

    pub(crate) fn check(&self, at: &str) -> Result<(), Error> {
        if self.policy.is_some() && self.policy_uri.is_some() {
            return Err(Error::field(format!("{at}.policy"), "is given twice, as text and as URI"));
        }
        if let Some(uri) = &self.policy_uri {
            check_uri(&format!("{at}.policy_uri"), uri)?;
        }
        if self.policy.as_ref().is_some_and(|p| !p.is_object()) {
            return Err(Error::field(format!("{at}.policy"), "must be an object"));
        }
        for (name, text) in [("lookaside", &self.lookaside), ("registries", &self.registries)] {
            if text.as_ref().is_some_and(|t| t.len() > MAX_TEXT) {
                return Err(Error::field(
                    format!("{at}.{name}"),
                    format!("must be at most {MAX_TEXT} bytes"),
                ));
            }
        }
        if self.ca_certificates.len() > MAX_CERTIFICATES
            || self.ca_certificates.iter().any(|c| c.len() > MAX_TEXT)
        {
            return Err(Error::field(format!("{at}.ca_certificates"), "too many or too long"));
        }
        if self.plain_http.len() > MAX_REGISTRIES
            || self.plain_http.iter().any(|r| r.is_empty() || r.len() > 255)
        {
            return Err(Error::field(format!("{at}.plain_http"), "too many, empty or too long"));
        }
        if let Some(proxy) = &self.proxy {
            for (name, url) in [("https", &proxy.https), ("http", &proxy.http)] {
                let ok =
                    |u: &String| u.len() <= 2048 && (u.starts_with("http://") || u.starts_with("https://"));
                if url.as_ref().is_some_and(|u| !ok(u)) {
                    return Err(Error::field(format!("{at}.proxy.{name}"), "must be http://… or https://…"));
                }
            }
            if proxy.no_proxy.len() > MAX_TEXT {
                return Err(Error::field(format!("{at}.proxy.no_proxy"), "too long"));
            }
        }
        if let Space::Scratch { bytes } = self.space
            && (!SCRATCH_BYTES.contains(&bytes) || bytes % 4096 != 0)
        {
            return Err(Error::field(format!("{at}.space.bytes"), "must be 64 MiB to 16 TiB in whole pages"));
        }
        Ok(())
    }
}

impl SharedLayer {
    pub(crate) fn check(&self, at: &str) -> Result<(), Error> {
        let hex = |t: &str| t.len() == 64 && t.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f'));
        if !self.diff_id.strip_prefix("sha256:").is_some_and(hex) {
            return Err(Error::field(format!("{at}.diff_id"), "must be sha256:<64 lower-case hex>"));
        }
        if !hex(&self.root) {
            return Err(Error::field(format!("{at}.root"), "must be 64 lower-case hex"));
        }
        if !(1..=MAX_BLOCKS).contains(&self.blocks) {
            return Err(Error::field(format!("{at}.blocks"), format!("must be 1 to {MAX_BLOCKS}")));
        }
        if self.key.as_ref().is_some_and(|k| k.len() > MAX_TEXT) {
            return Err(Error::field(format!("{at}.key"), "too long"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_bounded() {
        let good = ImageSettings { space: Space::Scratch { bytes: 64 << 20 }, ..Default::default() };
        assert!(good.check("images").is_ok() && ImageSettings::default().check("images").is_ok());
        let settings = |change: &dyn Fn(&mut ImageSettings)| {
            let mut s = ImageSettings::default();
            change(&mut s);
            s.check("images")
        };
        assert!(settings(&|s| s.space = Space::Scratch { bytes: 1 }).is_err());
        assert!(settings(&|s| s.policy = Some(Value::Null)).is_err());
        assert!(settings(&|s| s.policy_uri = Some("x".into())).is_err());
        assert!(settings(&|s| s.registries = Some("x".repeat(MAX_TEXT + 1))).is_err());
        assert!(settings(&|s| s.ca_certificates = vec![String::new(); MAX_CERTIFICATES + 1]).is_err());
        assert!(settings(&|s| s.plain_http = vec![String::new()]).is_err());
        let ftp = Some(ProxyPlan { https: Some("ftp://x".into()), ..Default::default() });
        assert!(settings(&|s| s.proxy = ftp.clone()).is_err());
    }

    #[test]
    fn shared_layers_are_bounded() {
        let good = SharedLayer {
            diff_id: format!("sha256:{}", "a".repeat(64)),
            root: "0".repeat(64),
            blocks: 1,
            key: None,
        };
        assert!(good.check("l").is_ok());
        for bad in [
            SharedLayer { diff_id: "a".repeat(64), ..good.clone() },
            SharedLayer { root: "A".repeat(64), ..good.clone() },
            SharedLayer { blocks: 0, ..good.clone() },
            SharedLayer { blocks: MAX_BLOCKS + 1, ..good.clone() },
        ] {
            assert!(bad.check("l").is_err(), "{bad:?}");
        }
    }
}
