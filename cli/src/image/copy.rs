//! Copying an image, or a whole index of images, with its layers changed on the way.
//!
//! Everything is written before the name is given: layers, configs, manifests by digest, and at the very end what the
//! target's name stands for. A copy that fails leaves blobs that nothing names.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use cocoon_image::{Config, Descriptor, Digest, Document, MAX_CONFIG_BYTES, Manifest, MediaType, Platform};
use cocoon_stage::{Code, Failure};
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::place::Place;
use super::progress::Meter;
use super::spool::Spool;
use super::stream;
use super::{internal, usage};
use crate::output::Output;

/// Layers at a time.
const AT_ONCE: usize = 4;
/// Most manifests of an index, and most bytes of them: all are held at once.
const MAX_MANIFESTS: usize = 128;
const MAX_MANIFESTS_BYTES: usize = 64 << 20;
const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// What is done to layers.
#[async_trait]
pub trait Work: Send + Sync + 'static {
    /// Whether a layer is to be changed, the one at this position of so many.
    ///
    /// # Errors
    /// A refusal of the whole image.
    fn wants(&self, layer: &Descriptor, position: usize, of: usize) -> Result<bool, Failure>;

    /// Hears, before anything is written, how many layers are to be changed, and which are in the clear and stay so.
    ///
    /// # Errors
    /// A refusal of the whole image.
    fn settle(&self, _changed: usize, _clear: &[Digest]) -> Result<(), Failure> {
        Ok(())
    }

    /// Changes a layer: writes the new blob, gives its descriptor.
    async fn change(&self, from: &Place, to: &Place, layer: &Descriptor) -> Result<Descriptor, Failure>;

    /// Hears of an image before its layers are changed.
    ///
    /// # Errors
    /// A refusal of the whole image.
    async fn begin(&self, _from: &Place, _manifest: &Manifest) -> Result<(), Failure> {
        Ok(())
    }

    /// The config of an image whose layers became others, by the digests that they had; `None` where it stays.
    fn config(
        &self,
        _manifest: &Manifest,
        _layers: &BTreeMap<Digest, Descriptor>,
    ) -> Result<Option<Vec<u8>>, Failure> {
        Ok(None)
    }

    /// Whether the result can only be said in OCI's media types.
    fn makes_oci(&self) -> bool;
}

/// Which images of an index are meant.
pub struct Platforms(Option<Vec<(String, String)>>);

impl Platforms {
    /// `all`, or `OS/ARCH` several times.
    pub fn parse(given: &[String]) -> Result<Self, Failure> {
        if given.iter().any(|p| p == "all") {
            return match given.len() {
                1 => Ok(Platforms(None)),
                _ => Err(usage("--platform all excludes others".to_owned())),
            };
        }
        let pair = |text: &String| match text.split_once('/') {
            Some((os, arch)) if !os.is_empty() && !arch.is_empty() && !arch.contains('/') => {
                Ok((os.to_owned(), arch.to_owned()))
            }
            _ => Err(usage(format!("--platform {text:?} is neither all nor OS/ARCH"))),
        };
        given.iter().map(pair).collect::<Result<_, _>>().map(|pairs| Platforms(Some(pairs)))
    }

    fn hold(&self, os: &str, architecture: &str) -> bool {
        self.0.as_ref().is_none_or(|pairs| pairs.iter().any(|(o, a)| o == os && a == architecture))
    }

    fn is_all(&self) -> bool {
        self.0.is_none()
    }
}

/// A copy to be made.
pub struct Copy {
    /// Where the image is.
    pub from: Arc<Place>,
    /// Where it goes.
    pub to: Arc<Place>,
    /// Which images are changed.
    pub platforms: Platforms,
    /// Most bytes of all blobs together, as their manifests give their sizes: no blob gets longer than that.
    pub max_bytes: u64,
    /// How it is told.
    pub output: Output,
}

/// What came of it.
pub struct Copied {
    /// What the target's name stands for.
    pub digest: Digest,
    /// Images that were changed.
    pub changed: usize,
    /// Images and other things of the index that stayed as they were, by platform or media type.
    pub kept: Vec<String>,
    /// Layers that stayed in the clear, of the images that were meant.
    pub clear: Vec<Digest>,
}

/// A manifest on its way.
struct Item {
    digest: Digest,
    bytes: Bytes,
    manifest: Manifest,
    change: bool,
    /// Whether the caller meant it, be it an image or not.
    meant: bool,
}

/// What was written in place of what was there.
struct New {
    /// Layers, by the digests that they had.
    layers: BTreeMap<Digest, Descriptor>,
    /// Configs, by the digests that the manifests had which name them.
    configs: BTreeMap<Digest, Descriptor>,
    /// Layers that stay in the clear.
    clear: Vec<Digest>,
}

impl Copy {
    /// Makes the copy.
    pub async fn run(self, work: Arc<dyn Work>) -> Result<Copied, Failure> {
        let (digest, bytes) = self.from.resolve().await?;
        let document = Document::parse(&bytes)?;
        self.to.prepare()?;
        match document {
            Document::Manifest(manifest) => self.single(work, digest, bytes, *manifest).await,
            Document::Index(index) => self.index(work, bytes, &index.manifests).await,
        }
    }

    async fn single(
        &self,
        work: Arc<dyn Work>,
        digest: Digest,
        bytes: Bytes,
        manifest: Manifest,
    ) -> Result<Copied, Failure> {
        manifest.check_image()?;
        if !self.platforms.is_all() {
            let config = self.from.blob_bytes(&manifest.config, MAX_CONFIG_BYTES).await?;
            let Config { os, architecture, .. } = Config::parse(&config)?;
            if !self.platforms.hold(&os, &architecture) {
                return Err(usage(format!("the image is for {os}/{architecture} alone")));
            }
        }
        let items = [Item { digest, bytes, manifest, change: true, meant: true }];
        let new = self.change(&work, &items).await?;
        self.others(&items, &new).await?;
        let [item] = &items;
        let (kind, json) = rewritten(item, &new, work.makes_oci())?;
        let digest = self.to.publish(&kind, json).await?;
        Ok(Copied { digest, changed: 1, kept: Vec::new(), clear: new.clear })
    }

    async fn index(
        &self,
        work: Arc<dyn Work>,
        bytes: Bytes,
        entries: &[Descriptor],
    ) -> Result<Copied, Failure> {
        if entries.len() > MAX_MANIFESTS {
            let why = format!("the index has {} manifests; {MAX_MANIFESTS} are the limit", entries.len());
            return Err(Failure::new(Code::ImageTooLarge, why));
        }
        let (mut items, mut kept, mut held) = (Vec::new(), Vec::new(), 0_usize);
        for entry in entries {
            let bytes = self.from.manifest(&entry.digest).await?;
            held = held.saturating_add(bytes.len());
            if held > MAX_MANIFESTS_BYTES {
                let why = format!("the index's manifests are larger than {MAX_MANIFESTS_BYTES} bytes");
                return Err(Failure::new(Code::ImageTooLarge, why));
            }
            let Document::Manifest(manifest) = Document::parse(&bytes)? else {
                return Err(Failure::new(Code::ImageManifestInvalid, "an index inside an index"));
            };
            let meant = entry.platform.as_ref().is_none_or(|p| self.platforms.hold(&p.os, &p.architecture));
            let change = meant && is_image(entry, &manifest);
            if change {
                manifest.check_image()?;
            } else {
                kept.push(
                    entry.platform.as_ref().map_or_else(|| entry.media_type.clone(), Platform::to_string),
                );
            }
            items.push(Item { digest: entry.digest, bytes, manifest: *manifest, change, meant });
        }
        let changed = items.iter().filter(|i| i.change).count();
        if changed == 0 {
            return Err(usage("the index has no image of this platform".to_owned()));
        }
        let new = self.change(&work, &items).await?;
        self.others(&items, &new).await?;
        let mut index: Value = serde_json::from_slice(&bytes).map_err(|e| internal(&e))?;
        let kind = if work.makes_oci() {
            set(&mut index, "mediaType", OCI_INDEX)?;
            OCI_INDEX.to_owned()
        } else {
            index.get("mediaType").and_then(Value::as_str).unwrap_or(OCI_INDEX).to_owned()
        };
        let list = index.get_mut("manifests").and_then(Value::as_array_mut);
        for (entry, item) in list.into_iter().flatten().zip(&items) {
            let kept = || entry.get("mediaType").and_then(Value::as_str).unwrap_or(OCI_MANIFEST).to_owned();
            let (kind, json) = if item.change {
                rewritten(item, &new, work.makes_oci())?
            } else {
                (kept(), item.bytes.clone())
            };
            set(entry, "mediaType", kind.clone())?;
            set(entry, "size", json.len())?;
            set(entry, "digest", self.to.put_manifest(&kind, json).await?.to_string())?;
        }
        let digest = self.to.publish(&kind, index.to_string().into()).await?;
        Ok(Copied { digest, changed, kept, clear: new.clear })
    }

    /// Changes layers, then the configs that speak of them.
    async fn change(&self, work: &Arc<dyn Work>, items: &[Item]) -> Result<New, Failure> {
        small_enough(items, self.max_bytes)?;
        for item in items.iter().filter(|i| i.change) {
            work.begin(&self.from, &item.manifest).await?;
        }
        let wanted = wanted(work.as_ref(), items)?;
        let clear = clear(items, &wanted);
        work.settle(wanted.len(), &clear)?;
        let layers = self.layers(work, wanted).await?;
        let mut configs = BTreeMap::new();
        for item in items.iter().filter(|i| i.change) {
            let Some(config) = work.config(&item.manifest, &layers)? else { continue };
            let digest = Digest::sha256(&config);
            let size = u64::try_from(config.len()).unwrap_or(u64::MAX);
            let (spool, ()) =
                Spool::write(&self.to.spool(), |out| out.write_all(&config).map(|()| (digest, ())))
                    .map_err(|e| internal(&e))?;
            self.to.put(spool).await?;
            configs.insert(item.digest, Descriptor::new(OCI_CONFIG, digest, size));
        }
        Ok(New { layers, configs, clear })
    }

    /// Changes layers, several at once.
    async fn layers(
        &self,
        work: &Arc<dyn Work>,
        wanted: BTreeMap<Digest, Descriptor>,
    ) -> Result<BTreeMap<Digest, Descriptor>, Failure> {
        let slots = Arc::new(Semaphore::new(AT_ONCE));
        let mut tasks = JoinSet::new();
        for (digest, layer) in wanted {
            let (work, from, to) = (work.clone(), self.from.clone(), self.to.clone());
            let slots = slots.clone();
            tasks.spawn(async move {
                let _slot = slots.acquire_owned().await;
                work.change(&from, &to, &layer).await.map(|changed| (digest, changed))
            });
        }
        let mut changed = BTreeMap::new();
        while let Some(done) = tasks.join_next().await {
            let (digest, layer) = done.map_err(|e| internal(&e))??;
            changed.insert(digest, layer);
        }
        Ok(changed)
    }

    /// Copies configs, and layers that stay as they are.
    async fn others(&self, items: &[Item], new: &New) -> Result<(), Failure> {
        let mut seen = BTreeSet::new();
        for item in items {
            let layers =
                item.manifest.layers.iter().filter(|l| !item.change || !new.layers.contains_key(&l.digest));
            let config = (!new.configs.contains_key(&item.digest)).then_some(&item.manifest.config);
            for blob in layers.chain(config) {
                // The content of a foreign layer lives elsewhere.
                if blob.kind() == MediaType::ForeignLayer || !seen.insert(blob.digest) {
                    continue;
                }
                let meter = Meter::new(self.output, format!("copying {}", blob.digest), blob.size);
                stream::copy(&self.from, &self.to, blob, Arc::new(meter)).await?;
            }
        }
        Ok(())
    }
}

/// Refuses images that are larger than their copier thought possible.
fn small_enough(items: &[Item], limit: u64) -> Result<(), Failure> {
    let blobs = items.iter().flat_map(|i| i.manifest.layers.iter().chain([&i.manifest.config]));
    // Of one that is said to have several sizes, the largest.
    let mut sizes: BTreeMap<Digest, u64> = BTreeMap::new();
    for blob in blobs {
        let size = sizes.entry(blob.digest).or_default();
        *size = blob.size.max(*size);
    }
    let all = sizes.values().fold(0_u64, |sum, size| sum.saturating_add(*size));
    if all > limit {
        let why = format!("its blobs are {all} bytes large; --max-size allows {limit}");
        return Err(Failure::new(Code::ImageTooLarge, why));
    }
    Ok(())
}

/// The layers that are to be changed; each is once here, whichever images share it.
fn wanted(work: &dyn Work, items: &[Item]) -> Result<BTreeMap<Digest, Descriptor>, Failure> {
    let mut wanted = BTreeMap::new();
    for item in items.iter().filter(|i| i.change) {
        let layers = &item.manifest.layers;
        for (position, layer) in layers.iter().enumerate() {
            if work.wants(layer, position, layers.len())? {
                wanted.insert(layer.digest, layer.clone());
            }
        }
    }
    Ok(wanted)
}

/// Layers in the clear that stay so, of all that was meant: of what calls itself no image, those that are layers of one.
fn clear(items: &[Item], wanted: &BTreeMap<Digest, Descriptor>) -> Vec<Digest> {
    let open = |item: &Item, layer: &Descriptor| match layer.kind() {
        MediaType::Layer { encrypted, .. } => !encrypted,
        MediaType::SharedLayer => false,
        MediaType::ForeignLayer => true,
        _ => item.change,
    };
    let meant = items.iter().filter(|i| i.meant);
    let all: BTreeSet<Digest> = meant
        .flat_map(|item| {
            item.manifest.layers.iter().filter(|layer| open(item, layer)).map(move |l| (item, l))
        })
        .filter(|(item, layer)| !item.change || !wanted.contains_key(&layer.digest))
        .map(|(_, layer)| layer.digest)
        .collect();
    all.into_iter().collect()
}

/// Whether an entry of an index is an image: not an attestation or another artifact.
fn is_image(entry: &Descriptor, manifest: &Manifest) -> bool {
    let artifact = manifest.artifact_type.as_deref().is_some_and(|t| !t.is_empty());
    let config = matches!(manifest.config.kind(), MediaType::OciConfig | MediaType::DockerConfig);
    config && !artifact && entry.platform.as_ref().is_none_or(|p| p.os != "unknown")
}

/// A manifest with its new layers and config: media type and JSON. What this program does not know of stays.
fn rewritten(item: &Item, new: &New, oci: bool) -> Result<(String, Bytes), Failure> {
    let mut json: Value = serde_json::from_slice(&item.bytes).map_err(|e| internal(&e))?;
    let kind = match json.get("mediaType").and_then(Value::as_str) {
        Some(kind) if !oci && !kind.is_empty() => kind.to_owned(),
        _ => OCI_MANIFEST.to_owned(),
    };
    set(&mut json, "mediaType", kind.clone())?;
    if let (true, Some(config)) = (oci, json.get_mut("config")) {
        set(config, "mediaType", OCI_CONFIG)?;
    }
    if let (Some(new), Some(config)) = (new.configs.get(&item.digest), json.get_mut("config")) {
        *config = serde_json::to_value(new).map_err(|e| internal(&e))?;
    }
    let list = json.get_mut("layers").and_then(Value::as_array_mut);
    for (entry, layer) in list.into_iter().flatten().zip(&item.manifest.layers) {
        if let Some(new) = new.layers.get(&layer.digest) {
            *entry = serde_json::to_value(new).map_err(|e| internal(&e))?;
        } else if let (true, MediaType::Layer { compression, encrypted: false }) = (oci, layer.kind()) {
            set(entry, "mediaType", compression.oci_layer_type())?;
        }
    }
    if new.layers.is_empty() {
        return Ok((kind, item.bytes.clone()));
    }
    tracing::debug!(was = %item.digest, "manifest rewritten");
    Ok((kind, json.to_string().into()))
}

/// Sets a member of what must be an object.
fn set(object: &mut Value, name: &str, value: impl Into<Value>) -> Result<(), Failure> {
    let malformed =
        || Failure::new(Code::ImageManifestInvalid, "a part of the manifest is not a JSON object");
    object.as_object_mut().ok_or_else(malformed)?.insert(name.to_owned(), value.into());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_are_read() {
        let parse =
            |given: &[&str]| Platforms::parse(&given.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>());
        assert!(parse(&["all"]).unwrap().hold("any", "thing"));
        let two = parse(&["linux/amd64", "linux/arm64"]).unwrap();
        assert!(two.hold("linux", "arm64") && !two.hold("linux", "s390x") && !two.hold("windows", "amd64"));
        for bad in [&["all", "linux/amd64"][..], &["amd64"], &["/"], &["linux/arm/v7"]] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }
}
