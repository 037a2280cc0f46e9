//! Is there a signature by the required key over the pinned digest, for the reference's repository?

use cocoon_image::{Descriptor, Digest, Manifest, Reference};
use cocoon_registry::Client;
use cocoon_signature::VerifyingKey;
use cocoon_signature::cosign::{MAX_PAYLOAD_BYTES, MAX_SIGNATURES, listed, signature_tag, verify};

use crate::{Error, SignatureRequirement};

/// Looks at the signatures of the accepted digests until one verifies.
///
/// # Errors
/// `SignatureMissing` where there is none at all, `SignatureInvalid` where none verifies, or that the registry could
/// not be read.
pub(crate) async fn check(
    registry: &Client,
    reference: &Reference,
    accepted: &[Digest],
    requirement: &SignatureRequirement,
) -> Result<(), Error> {
    use cocoon_image::Error as Image;
    // An unusable key is found before anything is asked.
    VerifyingKey::from_pem(&requirement.key_pem)?;
    let mut last: Option<Image> = None;
    let mut looked_at = 0;
    for (i, digest) in accepted.iter().enumerate() {
        if accepted.iter().take(i).any(|d| d == digest) {
            continue;
        }
        let Some(bytes) = registry.tagged(reference, &signature_tag(digest)).await? else { continue };
        let manifest = match Manifest::parse(&bytes) {
            Ok(manifest) => manifest,
            Err(e) => {
                last = Some(Image::SignatureInvalid(format!("its signatures are malformed: {e}")));
                continue;
            }
        };
        for found in listed(&manifest) {
            looked_at += 1;
            if looked_at > MAX_SIGNATURES {
                break;
            }
            let descriptor = Descriptor {
                media_type: String::new(),
                digest: found.payload,
                size: found.size,
                annotations: Default::default(),
                platform: None,
            };
            let limit = usize::try_from(MAX_PAYLOAD_BYTES).unwrap_or(usize::MAX);
            let payload = match registry.blob_bytes(reference, &descriptor, limit).await {
                Ok(payload) => payload,
                // One absent or altered payload must not hide another that is good.
                Err(e @ (cocoon_registry::Error::Image(_) | cocoon_registry::Error::NotFound { .. })) => {
                    last = Some(Image::SignatureInvalid(format!("a signed payload is unusable: {e}")));
                    continue;
                }
                Err(e) => return Err(e.into()),
            };
            match verify(&requirement.key_pem, &payload, &found.signature, accepted, reference) {
                Ok(()) => return Ok(()),
                Err(e) => last = Some(e),
            }
        }
    }
    Err(last.unwrap_or_else(|| Image::SignatureMissing(reference.name())).into())
}
