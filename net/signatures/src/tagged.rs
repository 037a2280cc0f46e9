//! Cosign's signatures under the tag `sha256-<hex>.sig` beside the image.

use cocoon_image::{Descriptor, Digest, Manifest, Reference};
use cocoon_registry::Client;
use cocoon_signature::cosign::{MAX_PAYLOAD_BYTES, PAYLOAD_TYPE, SIGNATURE_ANNOTATION, signature_tag};
use cocoon_signature::{CosignSignature, Needs};

use crate::find::{Gathered, is_of_one};
use crate::{Error, MAX_SIGNATURES};

const CERTIFICATE: &str = "dev.sigstore.cosign/certificate";
const CHAIN: &str = "dev.sigstore.cosign/chain";
const BUNDLE: &str = "dev.sigstore.cosign/bundle";
const TIMESTAMP: &str = "dev.sigstore.cosign/rfc3161timestamp";

pub(crate) async fn find(
    registry: &Client,
    reference: &Reference,
    digests: &[Digest],
    needs: Needs,
) -> Result<Gathered, Error> {
    let mut all = Gathered::default();
    if !needs.cosign {
        return Ok(all);
    }
    for digest in digests {
        let tag = signature_tag(digest);
        let Some(bytes) = registry.tagged(reference, &tag).await? else { continue };
        let manifest = match Manifest::parse(&bytes) {
            Ok(manifest) => manifest,
            Err(e) => {
                all.faults.add(&tag, e);
                continue;
            }
        };
        for layer in manifest.layers.iter().filter(|l| l.media_type == PAYLOAD_TYPE) {
            if all.found.cosign.len() >= MAX_SIGNATURES {
                break;
            }
            match signature(registry, reference, layer).await {
                Ok(Ok(signature)) => all.found.cosign.push(signature),
                Ok(Err(why)) => all.faults.add(&tag, why),
                Err(e) => return Err(e),
            }
        }
    }
    Ok(all)
}

/// One signature, or what is wrong with it alone.
async fn signature(
    registry: &Client,
    reference: &Reference,
    layer: &Descriptor,
) -> Result<Result<CosignSignature, String>, Error> {
    let annotation = |name: &str| layer.annotations.get(name).cloned();
    let Some(signature) = annotation(SIGNATURE_ANNOTATION) else {
        return Ok(Err("a payload without its signature".to_owned()));
    };
    let limit = usize::try_from(MAX_PAYLOAD_BYTES).unwrap_or(usize::MAX);
    match registry.blob_bytes(reference, layer, limit).await {
        Ok(payload) => Ok(Ok(CosignSignature {
            payload: payload.to_vec(),
            signature,
            certificate: annotation(CERTIFICATE),
            chain: annotation(CHAIN),
            bundle: annotation(BUNDLE),
            timestamp: annotation(TIMESTAMP),
        })),
        Err(e) if is_of_one(&e) => Ok(Err(e.to_string())),
        Err(e) => Err(e.into()),
    }
}
