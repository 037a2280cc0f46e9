//! `cocoon image decrypt`: a copy with its layers in the clear.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::sync::Arc;

use async_trait::async_trait;
use cocoon_image::encryption::{
    AnnotationPacket, ENC_PREFIX, LayerDecryptor, OpeningKey, PROVIDER, PrivateOptions, PubOptions,
    WrappedKeys,
};
use cocoon_image::{Algorithm, Descriptor, Digest, Hasher, MediaType};
use cocoon_stage::{Code, Failure};

use super::copy::{Copy, Platforms, Work};
use super::keys::{KeyStore, opening_key, private_options};
use super::place::Place;
use super::progress::Meter;
use super::provider::{self, Provider};
use super::stream::{self, Checked};
use super::usage;
use crate::args::DecryptArgs;
use crate::output::Output;

/// What opens layers: private keys, then Trustee's, then other key providers.
pub struct Opener {
    keys: Vec<OpeningKey>,
    store: Option<Arc<KeyStore>>,
    providers: BTreeMap<String, Provider>,
}

impl Opener {
    /// Of these keys, of that store, and of the providers that are configured.
    pub fn new(keys: Vec<OpeningKey>, store: Option<Arc<KeyStore>>) -> Result<Self, Failure> {
        Ok(Opener { keys, store, providers: provider::configured()? })
    }

    /// A layer's key and options; else why the last way did not lead there.
    pub async fn open(&self, layer: &Descriptor) -> Result<(PrivateOptions, PubOptions), Failure> {
        let wrapped = WrappedKeys::read(layer)?;
        if let Some(json) = wrapped.open_jwe(&self.keys) {
            return Ok((private_options(&json)?, wrapped.public));
        }
        let mut last = None;
        for key in &wrapped.providers {
            let packet = AnnotationPacket::parse(&key.wrapped);
            let answer = match (packet, &self.store, self.providers.get(&key.provider)) {
                (_, _, Some(provider)) if key.provider != PROVIDER => {
                    provider.unwrap(&key.provider, &key.wrapped).await
                }
                (Ok(packet), Some(store), _) => store.unwrap(&packet).await,
                // Of its own provider it should have been one.
                (Err(e), Some(_), _) if key.provider == PROVIDER => Err(e.into()),
                _ => continue,
            };
            match answer.and_then(|json| private_options(&json)) {
                Ok(private) => return Ok((private, wrapped.public)),
                Err(failure) => last = Some(failure),
            }
        }
        Err(last.unwrap_or_else(|| {
            let why = format!("layer {}: it is encrypted to {}", layer.digest, for_whom(&wrapped));
            Failure::new(Code::ImageKeyUnavailable, format!("{why}; none of the keys at hand opens it"))
        }))
    }
}

fn for_whom(wrapped: &WrappedKeys) -> String {
    let jwe = wrapped.jwe.iter().flat_map(|jwe| jwe.recipients()).map(|r| format!("JWE ({r})"));
    let providers = wrapped.providers.iter().map(|key| match key.packet() {
        Some(packet) => packet.kid.chars().filter(|c| !c.is_control()).take(200).collect(),
        None => format!("key provider {:?}", key.provider),
    });
    let unsupported = wrapped.unsupported.iter().map(|scheme| (*scheme).to_owned());
    jwe.chain(providers).chain(unsupported).collect::<Vec<String>>().join(", ")
}

struct Decryption {
    opener: Opener,
    output: Output,
}

#[async_trait]
impl Work for Decryption {
    fn wants(&self, layer: &Descriptor, _: usize, _: usize) -> Result<bool, Failure> {
        if layer.kind() == MediaType::SharedLayer {
            let why = "is an encrypted shared layer: the archive that it was made of is not in it, so it cannot be had back";
            return Err(usage(format!("layer {} {why}; use the original image", layer.digest)));
        }
        Ok(matches!(layer.kind(), MediaType::Layer { encrypted: true, .. }))
    }

    async fn change(&self, from: &Place, to: &Place, layer: &Descriptor) -> Result<Descriptor, Failure> {
        let (private, public) = self.opener.open(layer).await?;
        let what = format!("decrypting layer {}", layer.digest);
        let meter = Arc::new(Meter::new(self.output, what, layer.size));
        let work = move |cipher: &mut Checked, out: &mut dyn Write| plain(cipher, out, &private, &public);
        let (spool, size) = stream::through(from, layer, &to.spool(), meter, work).await?;
        let digest = spool.digest;
        to.put(spool).await?;
        let mut annotations = layer.annotations.clone();
        annotations.retain(|name, _| !name.starts_with(ENC_PREFIX));
        let kind = layer.media_type.strip_suffix("+encrypted").unwrap_or(&layer.media_type);
        Ok(Descriptor { annotations, ..Descriptor::new(kind, digest, size) })
    }

    fn makes_oci(&self) -> bool {
        false
    }
}

/// Writes a layer in the clear; gives its digest and size once the HMAC was found right.
fn plain(
    cipher: &mut Checked,
    out: &mut dyn Write,
    private: &PrivateOptions,
    public: &PubOptions,
) -> io::Result<(Digest, u64)> {
    let mut layer = LayerDecryptor::new(cipher, private, public).map_err(|e| e.into_io())?;
    let mut hasher = Hasher::new(Algorithm::Sha256);
    let (mut size, mut buffer) = (0_u64, vec![0; 64 * 1024]);
    loop {
        let n = layer.read(&mut buffer)?;
        let piece = buffer.get(..n).unwrap_or_default();
        if piece.is_empty() {
            break;
        }
        hasher.update(piece);
        out.write_all(piece)?;
        size = size.saturating_add(u64::try_from(n).unwrap_or(u64::MAX));
    }
    // The options name the digest of what was encrypted, but skopeo names what it had before it compressed it; the HMAC is
    // what vouches for the content.
    Ok((hasher.finish(), size))
}

/// Decrypts an image.
pub async fn main(args: DecryptArgs) -> Result<(), Failure> {
    let output = Output { json: args.common.json, quiet: false };
    let platforms = Platforms::parse(&args.platform)?;
    let keys: Result<Vec<OpeningKey>, Failure> = args.key.iter().map(|k| opening_key(k)).collect();
    let (from, to) = (Arc::new(Place::source(&args.source)?), Arc::new(Place::target(&args.target)?));
    let store = KeyStore::new(&args.common, args.kek.as_deref())?;
    let store = (!args.no_trustee || args.kek.is_some()).then(|| Arc::new(store));
    let work = Decryption { opener: Opener::new(keys?, store)?, output };
    let copied = Copy { from, to: to.clone(), platforms, max_bytes: args.max_size, output }
        .run(Arc::new(work))
        .await?;
    if output.json {
        let image = to.pinned(&copied.digest);
        println!(
            "{}",
            serde_json::json!({"image": image, "digest": copied.digest, "images": copied.changed, "kept": copied.kept})
        );
    } else {
        println!("decrypted {}", to.pinned(&copied.digest));
    }
    Ok(())
}
