//! `cocoon image encrypt --layers shared`: a copy whose layers are encrypted EROFS images, which a node attaches to
//! guests as disks without ever reading them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use cocoon_image::encryption::{PROVIDER, shared_annotations, wrap_key};
use cocoon_image::media_type::SHARED_ENCRYPTED;
use cocoon_image::{Descriptor, Digest, LayerPipeline, MAX_CONFIG_BYTES, Manifest, MediaType};
use cocoon_protocol::uri::ResourceUri;
use cocoon_stage::Failure;
use zeroize::Zeroizing;

use super::copy::{Copy, Platforms, Work};
use super::encrypt::{chosen, report, selected, settle};
use super::keyprovider::key_id;
use super::keys::KeyStore;
use super::place::Place;
use super::progress::Meter;
use super::shared_config::Configs;
use super::shared_seal::seal;
use super::spool::Spool;
use super::{stream, usage};
use crate::args::EncryptArgs;
use crate::output::Output;

struct Sealing {
    key: ResourceUri,
    kek: Zeroizing<Vec<u8>>,
    layers: Vec<i32>,
    allow_clear: bool,
    configs: Mutex<Configs>,
    output: Output,
}

/// The one key of the layers. A guest asks its Trustee for it and nobody else, and a plan has room for one.
fn key_of(args: &EncryptArgs) -> Result<ResourceUri, Failure> {
    if args.add_recipient {
        return Err(usage(
            "--add-recipient is for layers that guests pull; a shared layer has one key".into(),
        ));
    }
    let mut ids: Vec<String> = args.key_id.iter().map(|id| format!("keyid={id}")).collect();
    for recipient in &args.recipient {
        match recipient.strip_prefix("provider:").map(|rest| rest.split_once(':').unwrap_or((rest, ""))) {
            Some((PROVIDER, parameters)) => ids.push(parameters.to_owned()),
            _ => {
                let why = "a shared layer can have no recipient but a key of Trustee (--key-id)";
                return Err(usage(format!("{recipient:?}: {why}, because its guests ask nobody else")));
            }
        }
    }
    match ids.as_slice() {
        [] => key_id(b""),
        [one] => key_id(one.as_bytes()),
        several => Err(usage(format!("a shared layer has one key, but {} are given", several.len()))),
    }
}

/// Whether a layer can become an encrypted shared one.
fn fit(layer: &Descriptor) -> Result<(), Failure> {
    match layer.kind() {
        MediaType::Layer { encrypted: true, .. } => Err(usage(format!(
            "layer {} is encrypted already, as an archive; encrypt the original, or what `cocoon image decrypt` makes \
             of it",
            layer.digest
        ))),
        MediaType::SharedLayer => {
            Err(usage(format!("layer {} is an encrypted shared layer already", layer.digest)))
        }
        _ => Ok(()),
    }
}

impl Sealing {
    fn configs(&self) -> std::sync::MutexGuard<'_, Configs> {
        self.configs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Work for Sealing {
    fn wants(&self, layer: &Descriptor, position: usize, of: usize) -> Result<bool, Failure> {
        selected(&self.layers, of)?;
        if !chosen(&self.layers, position, of) {
            return Ok(false);
        }
        fit(layer).map(|()| true)
    }

    fn settle(&self, changed: usize, clear: &[Digest]) -> Result<(), Failure> {
        settle(changed, clear, !self.layers.is_empty() || self.allow_clear)
    }

    async fn begin(&self, from: &Place, manifest: &Manifest) -> Result<(), Failure> {
        let config = from.blob_bytes(&manifest.config, MAX_CONFIG_BYTES).await?;
        self.configs().add(manifest, &config)
    }

    async fn change(&self, from: &Place, to: &Place, layer: &Descriptor) -> Result<Descriptor, Failure> {
        let (source, diff_id) = (layer.clone(), self.configs().diff_id(&layer.digest)?);
        let what = format!("encrypting layer {}", layer.digest);
        let meter = Arc::new(Meter::new(self.output, what, layer.size));
        let work = move |blob| {
            let tar = LayerPipeline::new(blob, &source, diff_id, None).map_err(|e| e.into_io())?;
            // Not where the target is: the image is there in the clear before it is encrypted.
            Spool::make(&super::spool::folder(), |file| seal(tar, file))
        };
        let (spool, sealed) = stream::feed(from, layer, meter, work).await?;
        let digest = spool.digest;
        to.put(spool).await?;
        let packet = wrap_key(&self.kek, &self.key.to_string(), &sealed.private.to_json()?)?;
        // Annotations of the layer were about its archive.
        let annotations = shared_annotations(&[packet])?;
        Ok(Descriptor { annotations, ..Descriptor::new(SHARED_ENCRYPTED, digest, sealed.size) })
    }

    fn config(
        &self,
        manifest: &Manifest,
        layers: &BTreeMap<Digest, Descriptor>,
    ) -> Result<Option<Vec<u8>>, Failure> {
        self.configs().rewritten(manifest, layers)
    }

    fn makes_oci(&self) -> bool {
        true
    }
}

/// Encrypts an image.
pub async fn main(args: EncryptArgs) -> Result<(), Failure> {
    let output = Output { json: args.common.json, quiet: false };
    let platforms = Platforms::parse(&args.platform)?;
    let key = key_of(&args)?;
    let (from, to) = (Arc::new(Place::source(&args.source)?), Arc::new(Place::target(&args.target)?));
    // Found out before a key is made.
    from.resolve().await?;
    let kek = KeyStore::new(&args.common, args.kek.as_deref())?.to_wrap(&key).await?;
    let (name, allow_clear) = (key.to_string(), args.allow_clear);
    let work = Sealing { key, kek, layers: args.layer, allow_clear, configs: Mutex::default(), output };
    let copied = Copy { from, to: to.clone(), platforms, max_bytes: args.max_size, output }
        .run(Arc::new(work))
        .await?;
    report(output, &to, &copied, &name);
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use cocoon_stage::Code;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: EncryptArgs,
    }

    fn key(flags: &[&str]) -> Result<String, Failure> {
        let line = [&["encrypt", "--layers", "shared", "s", "t"], flags].concat();
        key_of(&Line::parse_from(line).args).map(|key| key.to_string())
    }

    #[test]
    fn a_shared_layer_has_one_key_and_it_is_trustees() {
        let id = "kbs:///default/image-key/a";
        assert_eq!(key(&["--key-id", id]).unwrap(), id);
        let as_provider = format!("provider:attestation-agent:keyid={id}");
        assert_eq!(key(&["--recipient", &as_provider]).unwrap(), id);
        assert!(key(&[]).unwrap().starts_with("kbs:///default/image-key/"));
        for bad in [
            &["--recipient", "jwe:/me.pub"][..],
            &["--recipient", "provider:other:x"],
            &["--recipient", "pgp:me"],
            &["--recipient", "provider:attestation-agent:keyid=x"],
            &["--key-id", id, "--key-id", "kbs:///default/image-key/b"],
            &["--key-id", id, "--recipient", &as_provider],
            &["--key-id", id, "--add-recipient"],
        ] {
            assert_eq!(key(bad).unwrap_err().code, Code::UsageInvalid, "{bad:?}");
        }
    }

    #[test]
    fn what_is_encrypted_already_is_refused() {
        let layer = |kind: &str| fit(&Descriptor::new(kind, Digest::sha256(b""), 0));
        assert!(layer("application/vnd.oci.image.layer.v1.tar+zstd").is_ok());
        let archive = layer("application/vnd.oci.image.layer.v1.tar+gzip+encrypted").unwrap_err();
        assert!(archive.reason.contains("image decrypt"), "{}", archive.reason);
        assert_eq!(layer(SHARED_ENCRYPTED).unwrap_err().code, Code::UsageInvalid);
    }
}
