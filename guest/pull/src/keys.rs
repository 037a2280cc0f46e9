//! Keys of encrypted layers.

use async_trait::async_trait;
use cocoon_image::encryption::{PrivateOptions, read_annotations};
use cocoon_image::{AnnotationPacket, Config, Descriptor, Digest, LayerKey, Manifest, MediaType};
use cocoon_stage::{Code, Failure};
use zeroize::Zeroizing;

use crate::Error;

/// Who unwraps layer keys: the part of the guest that talks to Trustee.
#[async_trait]
pub trait KeyProvider: Send + Sync {
    /// The private options' JSON that a packet wraps.
    ///
    /// # Errors
    /// A coded failure, usually `IMAGE-KEY-UNAVAILABLE` or `IMAGE-UNDECRYPTABLE`.
    async fn unwrap(&self, packet: &AnnotationPacket) -> Result<Zeroizing<Vec<u8>>, Failure>;
}

/// A layer to be fetched, with all that is needed to unpack it.
#[derive(Clone)]
pub(crate) struct Job {
    pub(crate) descriptor: Descriptor,
    pub(crate) diff_id: Digest,
    pub(crate) key: Option<LayerKey>,
}

/// Finds out every layer's key before anything large is downloaded.
pub(crate) async fn unlock(
    manifest: &Manifest,
    config: &Config,
    provider: &dyn KeyProvider,
) -> Result<Vec<Job>, Error> {
    let mut jobs = Vec::with_capacity(manifest.layers.len());
    for (descriptor, diff_id) in manifest.layers.iter().zip(&config.rootfs.diff_ids) {
        let key = match descriptor.kind() {
            MediaType::Layer { encrypted: true, .. } => Some(unlock_layer(descriptor, provider).await?),
            _ => None,
        };
        jobs.push(Job { descriptor: descriptor.clone(), diff_id: *diff_id, key });
    }
    Ok(jobs)
}

/// Tries the layer's packets in order; the first that opens counts, else the last failure.
async fn unlock_layer(layer: &Descriptor, provider: &dyn KeyProvider) -> Result<LayerKey, Error> {
    let (packets, public) = read_annotations(layer)?;
    let why = format!("layer {} has no wrapped key", layer.digest);
    let mut last = Error::Key(Failure::new(Code::ImageKeyUnavailable, why));
    for packet in &packets {
        match provider.unwrap(packet).await {
            Ok(options) => match PrivateOptions::parse(&options) {
                Ok(private) => return Ok(LayerKey { private, public }),
                Err(e) => last = e.into(),
            },
            Err(failure) => last = Error::Key(failure),
        }
    }
    Err(last)
}
