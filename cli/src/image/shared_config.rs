//! The configs of images whose layers become encrypted shared layers.
//!
//! A config names each layer by the digest of what it unpacks to, its diff id. An encrypted shared layer unpacks to
//! nothing: its blob is what is attached. So its diff id is the blob's own digest, which anybody can verify, which no
//! other layer has, and which does not tell what is inside, as the digest of a known archive would.

use std::collections::BTreeMap;

use cocoon_image::{Config, Descriptor, Digest, Manifest};
use cocoon_stage::{Code, Failure};
use serde_json::Value;

use super::internal;

/// What the configs of some images say, by config.
#[derive(Default)]
pub struct Configs {
    configs: BTreeMap<Digest, Vec<u8>>,
    diff_ids: BTreeMap<Digest, Digest>,
}

impl Configs {
    /// Takes an image's config in.
    ///
    /// # Errors
    /// Where it is malformed, does not fit the manifest, or says of a layer something else than another did.
    pub fn add(&mut self, manifest: &Manifest, config: &[u8]) -> Result<(), Failure> {
        let parsed = Config::parse(config)?;
        parsed.check_layers(manifest)?;
        for (layer, diff_id) in manifest.layers.iter().zip(&parsed.rootfs.diff_ids) {
            let known = self.diff_ids.insert(layer.digest, *diff_id);
            if known.is_some_and(|known| known != *diff_id) {
                let why = format!("layer {} is described in two ways", layer.digest);
                return Err(Failure::new(Code::ImageManifestInvalid, why));
            }
        }
        self.configs.insert(manifest.config.digest, config.to_vec());
        Ok(())
    }

    /// What a layer unpacks to, by the digest of its blob.
    pub fn diff_id(&self, layer: &Digest) -> Result<Digest, Failure> {
        let lost = || Failure::new(Code::Internal, format!("layer {layer} was not described"));
        self.diff_ids.get(layer).copied().ok_or_else(lost)
    }

    /// An image's config with its new layers, by the digests that they had; the rest of it as it is. `None` where no
    /// layer of the image is new.
    pub fn rewritten(
        &self,
        manifest: &Manifest,
        layers: &BTreeMap<Digest, Descriptor>,
    ) -> Result<Option<Vec<u8>>, Failure> {
        if !manifest.layers.iter().any(|layer| layers.contains_key(&layer.digest)) {
            return Ok(None);
        }
        let lost = || Failure::new(Code::Internal, "a config was not read");
        let config = self.configs.get(&manifest.config.digest).ok_or_else(lost)?;
        let mut json: Value = serde_json::from_slice(config).map_err(|e| internal(&e))?;
        let ids = json.pointer_mut("/rootfs/diff_ids").and_then(Value::as_array_mut).ok_or_else(lost)?;
        for (id, layer) in ids.iter_mut().zip(&manifest.layers) {
            if let Some(new) = layers.get(&layer.digest) {
                *id = new.digest.to_string().into();
            }
        }
        Ok(Some(json.to_string().into_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn manifest(config: &[u8], layers: &[&[u8]]) -> Manifest {
        let layers: Vec<_> = layers.iter().map(|l| Descriptor::new("l", Digest::sha256(l), 1)).collect();
        serde_json::from_value(json!({"schemaVersion": 2, "layers": layers,
            "config": Descriptor::new("c", Digest::sha256(config), 1)}))
        .unwrap()
    }

    fn config(ids: &[&[u8]]) -> String {
        let ids: Vec<String> = ids.iter().map(|id| format!("\"{}\"", Digest::sha256(id))).collect();
        // Neither the order of names nor what is unknown here may change.
        format!(
            r#"{{"z":1.50,"os":"linux","history":[{{"created_by":"é<x>"}}],"rootfs":{{"type":"layers","diff_ids":[{}]}},"a":null}}"#,
            ids.join(",")
        )
    }

    #[test]
    fn only_the_diff_ids_of_new_layers_change() {
        let text = config(&[b"A", b"B", b"A"]);
        let manifest = manifest(text.as_bytes(), &[b"a", b"b", b"a"]);
        let mut configs = Configs::default();
        configs.add(&manifest, text.as_bytes()).unwrap();
        assert_eq!(configs.diff_id(&Digest::sha256(b"b")).unwrap(), Digest::sha256(b"B"));
        assert!(configs.diff_id(&Digest::sha256(b"x")).is_err());
        let new = Descriptor::new("s", Digest::sha256(b"cipher"), 1);
        let new = BTreeMap::from([(Digest::sha256(b"a"), new)]);
        let rewritten = configs.rewritten(&manifest, &new).unwrap().unwrap();
        let expected = config(&[b"cipher", b"B", b"cipher"]).replace("1.50", "1.5");
        assert_eq!(String::from_utf8(rewritten).unwrap(), expected);
        assert_eq!(configs.rewritten(&manifest, &BTreeMap::new()).unwrap(), None);
    }

    #[test]
    fn configs_that_do_not_fit_are_refused() {
        let mut configs = Configs::default();
        let code = |r: Result<(), Failure>| r.unwrap_err().code;
        let two = config(&[b"A", b"B"]);
        assert_eq!(
            code(configs.add(&manifest(two.as_bytes(), &[b"a"]), two.as_bytes())),
            Code::ImageManifestInvalid
        );
        assert_eq!(code(configs.add(&manifest(b"{}", &[]), b"{}")), Code::ImageManifestInvalid);
        // The same blob cannot unpack to two things.
        let same = manifest(two.as_bytes(), &[b"a", b"a"]);
        assert_eq!(code(configs.add(&same, two.as_bytes())), Code::ImageManifestInvalid);
    }
}
