//! Manifests, indexes and configs (OCI image-spec 1.1; Docker schema 2), parsed from hostile bytes.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use crate::{Digest, Error, MediaType, Platform};

/// The largest manifest or index accepted, in bytes (what registries are required to support).
pub const MAX_MANIFEST_BYTES: usize = 4 << 20;
/// The largest config accepted, in bytes.
pub const MAX_CONFIG_BYTES: usize = 4 << 20;
/// The most layers an image may have (overlay's own limit is near it).
pub const MAX_LAYERS: usize = 128;
const MAX_INDEX_ENTRIES: usize = 1024;
/// Most characters of a document that an error quotes.
const MAX_QUOTED: usize = 200;

/// A content descriptor (image-spec, descriptor.md).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// The content's media type.
    #[serde(default)]
    pub media_type: String,
    /// The content's digest.
    pub digest: Digest,
    /// The content's length in bytes.
    pub size: u64,
    /// Annotations: ocicrypt keeps keys and options here, cosign its signatures.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// In an index: the platform the image runs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// In a list of referrers: what kind of artifact the manifest is (image-spec 1.1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
}

impl Descriptor {
    /// A descriptor without annotations, platform or artifact type; `size` in bytes.
    pub fn new(media_type: impl Into<String>, digest: Digest, size: u64) -> Self {
        let (annotations, platform, artifact_type) = Default::default();
        Descriptor { media_type: media_type.into(), digest, size, annotations, platform, artifact_type }
    }

    /// What the media type means.
    pub fn kind(&self) -> MediaType {
        MediaType::parse(&self.media_type)
    }
}

/// An image manifest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u32,
    /// The manifest's own media type; OCI may leave it out.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub media_type: String,
    /// Set on artifacts, which are not images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The config.
    pub config: Descriptor,
    /// The layers, lowest first.
    pub layers: Vec<Descriptor>,
    /// The manifest that this one is attached to, e.g. the signed image of a signature (image-spec 1.1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Annotations of the image.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// An image index (OCI) or manifest list (Docker).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    pub schema_version: u32,
    /// The index's own media type; OCI may leave it out.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub media_type: String,
    /// The images.
    pub manifests: Vec<Descriptor>,
}

/// A document found under an image name.
#[derive(Clone, Debug, PartialEq)]
pub enum Document {
    /// One image.
    Manifest(Box<Manifest>),
    /// Images for several platforms.
    Index(Index),
}

/// The members that tell the kinds apart.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shape {
    schema_version: Option<u32>,
    #[serde(default)]
    media_type: Option<String>,
    #[serde(default)]
    manifests: Option<serde::de::IgnoredAny>,
    #[serde(default)]
    layers: Option<serde::de::IgnoredAny>,
    #[serde(default)]
    config: Option<serde::de::IgnoredAny>,
}

impl Document {
    /// Parses a manifest or index. One that could be read as either is refused (CVE-2021-41190).
    ///
    /// # Errors
    /// [`Error::Manifest`].
    pub fn parse(bytes: &[u8]) -> Result<Document, Error> {
        let shape: Shape = json(bytes, MAX_MANIFEST_BYTES, "the manifest")?;
        if shape.schema_version != Some(2) {
            return Err(Error::Manifest(match shape.schema_version {
                Some(1) => "the image has Docker's obsolete schema 1".to_owned(),
                other => format!("the manifest's schemaVersion is {other:?}, not 2"),
            }));
        }
        let named = shape.media_type.as_deref().filter(|t| !t.is_empty()).map(MediaType::parse);
        let is_index = shape.manifests.is_some();
        if is_index && (shape.layers.is_some() || shape.config.is_some()) {
            return Err(Error::Manifest("the document is manifest and index at once".to_owned()));
        }
        match (named, is_index) {
            (None | Some(MediaType::OciIndex | MediaType::DockerManifestList), true) => {
                Index::parse(bytes).map(Document::Index)
            }
            (None | Some(MediaType::OciManifest | MediaType::DockerManifest), false) => {
                Manifest::parse(bytes).map(|m| Document::Manifest(Box::new(m)))
            }
            _ => Err(Error::Manifest(format!(
                "the manifest's media type {:?} is not that of an image",
                short(&shape.media_type.unwrap_or_default())
            ))),
        }
    }
}

impl Manifest {
    /// Parses a manifest; bounds are checked, kinds are not (see [`Manifest::check_image`]).
    ///
    /// # Errors
    /// [`Error::Manifest`].
    pub fn parse(bytes: &[u8]) -> Result<Manifest, Error> {
        let manifest: Manifest = json(bytes, MAX_MANIFEST_BYTES, "the manifest")?;
        if manifest.layers.len() > MAX_LAYERS {
            return Err(Error::Manifest(format!(
                "the image has {} layers, more than {MAX_LAYERS}",
                manifest.layers.len()
            )));
        }
        Ok(manifest)
    }

    /// Checks that this is an image whose config and layers we can handle.
    ///
    /// # Errors
    /// [`Error::Manifest`] naming the media type that is foreign, non-distributable or not a layer's.
    pub fn check_image(&self) -> Result<(), Error> {
        if let Some(artifact) = self.artifact_type.as_deref().filter(|t| !t.is_empty()) {
            return Err(Error::Manifest(format!(
                "it is an artifact of type {:?}, not an image",
                short(artifact)
            )));
        }
        if !matches!(self.config.kind(), MediaType::OciConfig | MediaType::DockerConfig) {
            return Err(Error::Manifest(format!(
                "its config is of type {:?}: it is an artifact, not an image",
                short(&self.config.media_type)
            )));
        }
        if usize::try_from(self.config.size).map_or(true, |n| n > MAX_CONFIG_BYTES) {
            return Err(Error::Manifest(format!("its config of {} bytes is too large", self.config.size)));
        }
        for layer in &self.layers {
            match layer.kind() {
                MediaType::Layer { .. } | MediaType::SharedLayer => {}
                MediaType::ForeignLayer => {
                    return Err(Error::Manifest(format!(
                        "layer {} is foreign or non-distributable ({}): its content is not in the registry",
                        layer.digest,
                        short(&layer.media_type)
                    )));
                }
                _ => {
                    return Err(Error::Manifest(format!(
                        "layer {} is of the unsupported type {:?}",
                        layer.digest,
                        short(&layer.media_type)
                    )));
                }
            }
        }
        Ok(())
    }
}

impl Index {
    /// Parses an index.
    ///
    /// # Errors
    /// [`Error::Manifest`].
    pub fn parse(bytes: &[u8]) -> Result<Index, Error> {
        let index: Index = json(bytes, MAX_MANIFEST_BYTES, "the index")?;
        if index.manifests.len() > MAX_INDEX_ENTRIES {
            return Err(Error::Manifest(format!("the index has {} entries", index.manifests.len())));
        }
        Ok(index)
    }
}

/// An image config (image-spec, config.md): what the container's defaults are and what its layers unpack to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// CPU architecture (GOARCH).
    #[serde(default)]
    pub architecture: String,
    /// Operating system (GOOS).
    #[serde(default)]
    pub os: String,
    /// The container's defaults.
    #[serde(default, deserialize_with = "null_as_default")]
    pub config: ContainerConfig,
    /// The digests of the uncompressed layers.
    pub rootfs: RootFs,
}

/// `rootfs` of an image config.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RootFs {
    /// Always `layers`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Digest of each layer's uncompressed tar, lowest first.
    #[serde(default, deserialize_with = "null_as_default")]
    pub diff_ids: Vec<Digest>,
}

/// The container's defaults in an image config.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerConfig {
    /// `user[:group]`, names or numbers.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// `NAME=value` entries.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// The command's fixed part.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub entrypoint: Vec<String>,
    /// The command's default arguments.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub cmd: Vec<String>,
    /// The working directory.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    /// `port/protocol` names the image listens on.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub exposed_ports: BTreeMap<String, serde_json::Value>,
    /// Paths the image expects to be volumes.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub volumes: BTreeMap<String, serde_json::Value>,
    /// Labels.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The signal that asks the container to stop.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "String::is_empty")]
    pub stop_signal: String,
}

impl Config {
    /// Parses a config.
    ///
    /// # Errors
    /// [`Error::Manifest`].
    pub fn parse(bytes: &[u8]) -> Result<Config, Error> {
        let config: Config = json(bytes, MAX_CONFIG_BYTES, "the image config")?;
        if config.rootfs.kind != "layers" {
            return Err(Error::Manifest("the config's rootfs is not of type \"layers\"".to_owned()));
        }
        Ok(config)
    }

    /// Checks that the config describes as many layers as the manifest has.
    ///
    /// # Errors
    /// [`Error::Manifest`].
    pub fn check_layers(&self, manifest: &Manifest) -> Result<(), Error> {
        if self.rootfs.diff_ids.len() == manifest.layers.len() {
            return Ok(());
        }
        Err(Error::Manifest(format!(
            "the manifest has {} layers but the config describes {}",
            manifest.layers.len(),
            self.rootfs.diff_ids.len()
        )))
    }
}

fn json<'de, T: Deserialize<'de>>(bytes: &'de [u8], limit: usize, what: &str) -> Result<T, Error> {
    if bytes.len() > limit {
        return Err(Error::Manifest(format!("{what} is larger than {limit} bytes")));
    }
    serde_json::from_slice(bytes)
        .map_err(|e| Error::Manifest(format!("{what} is malformed: {}", short(&e.to_string()))))
}

/// Text that a registry chose, or that quotes it, cut to what an error message should hold.
fn short(text: &str) -> String {
    let mut out: String = text.chars().take(MAX_QUOTED).collect();
    if text.chars().nth(MAX_QUOTED).is_some() {
        out.push('…');
    }
    out
}

/// Go writes absent slices and maps as `null`.
fn null_as_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(d: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(d)?.unwrap_or_default())
}

#[cfg(test)]
mod tests;
