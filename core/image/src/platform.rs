//! Which of an index's images fits this machine.

use serde::{Deserialize, Serialize};

use crate::manifest::{Descriptor, Index};
use crate::{Error, MediaType};

/// An OCI platform (image-spec, image-index.md): Go's GOOS and GOARCH names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// CPU architecture, e.g. `amd64`.
    pub architecture: String,
    /// Operating system, e.g. `linux`.
    pub os: String,
    /// CPU variant, e.g. `v8`; absent for the architecture's base line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl Platform {
    /// Linux on the given architecture (GOARCH name).
    pub fn linux(architecture: &str) -> Self {
        Platform { architecture: architecture.to_owned(), os: "linux".to_owned(), variant: None }
    }

    /// Linux on the architecture this program was built for.
    pub fn host() -> Self {
        Platform::linux(match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        })
    }

    fn fits(&self, offered: &Platform) -> bool {
        self.os == offered.os && self.architecture == offered.architecture
    }
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)
    }
}

impl Index {
    /// The image for a platform. One without a CPU variant (or arm64's base line `v8`) is preferred over one
    /// with, because it runs on every such CPU; entries without a platform (attestations, artifacts) never match.
    ///
    /// # Errors
    /// [`Error::Manifest`] where nothing fits or what fits is not an image manifest (an index in an index).
    pub fn select(&self, wanted: &Platform) -> Result<&Descriptor, Error> {
        let mut fitting: Vec<&Descriptor> =
            self.manifests.iter().filter(|d| d.platform.as_ref().is_some_and(|p| wanted.fits(p))).collect();
        fitting.sort_by_key(|d| match d.platform.as_ref().and_then(|p| p.variant.as_deref()) {
            None | Some("" | "v1") => 0,
            Some("v8") => 1,
            Some(_) => 2,
        });
        let Some(found) = fitting.first() else {
            return Err(Error::Manifest(format!("the index has no image for {wanted}")));
        };
        match found.kind() {
            MediaType::OciManifest | MediaType::DockerManifest => Ok(found),
            _ => Err(Error::Manifest(format!(
                "the index names {} as {:?}, which is not an image manifest",
                found.digest, found.media_type
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(arch: &str, os: &str, variant: Option<&str>, kind: &str, n: u8) -> serde_json::Value {
        serde_json::json!({
            "mediaType": kind, "size": 1, "digest": crate::Digest::sha256(&[n]).to_string(),
            "platform": {"architecture": arch, "os": os, "variant": variant},
        })
    }

    #[test]
    fn chooses_the_base_line_and_refuses_the_rest() {
        let m = "application/vnd.oci.image.manifest.v1+json";
        let json = serde_json::json!({"schemaVersion": 2, "manifests": [
            entry("unknown", "unknown", None, m, 0), entry("amd64", "linux", Some("v3"), m, 1),
            entry("amd64", "linux", None, m, 2), entry("arm64", "linux", Some("v8"), m, 3),
            entry("s390x", "linux", None, "application/vnd.oci.image.index.v1+json", 4),
        ]});
        let index = Index::parse(json.to_string().as_bytes()).unwrap();
        assert_eq!(index.select(&Platform::linux("amd64")).unwrap().digest, crate::Digest::sha256(&[2]));
        assert_eq!(index.select(&Platform::linux("arm64")).unwrap().digest, crate::Digest::sha256(&[3]));
        assert!(index.select(&Platform::linux("s390x")).is_err());
        assert!(index.select(&Platform::linux("riscv64")).is_err());
    }
}
