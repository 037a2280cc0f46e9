//! Cosign's legacy signatures: a "simple signing" payload in a blob, its signature in an annotation, both found
//! under the tag `sha256-<hex>.sig` beside the image.
//!
//! A valid signature says: the key's holder vouches for *this digest* under *this repository name*. All three are
//! checked; a signature over another image, or made for another repository, is as good as none.
//!
//! And what cosign 3 makes instead: bundles, found among the image's referrers ([`bundle_for_key`]; they are verified
//! in [`crate::sigstore`]).

mod bundle;
mod payload;

pub use bundle::{bundle_for_key, bundle_manifest};
pub use payload::Payload;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use cocoon_image::{Digest, Error, Manifest, Reference};

use crate::{SigningKey, VerifyingKey};

/// Media type of a payload's blob.
pub const PAYLOAD_TYPE: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
/// Annotation of the payload's descriptor that holds the signature, standard base64.
pub const SIGNATURE_ANNOTATION: &str = "dev.cosignproject.cosign/signature";
/// The most signatures looked at for one image.
pub const MAX_SIGNATURES: usize = 32;
/// The largest payload accepted, in bytes.
pub const MAX_PAYLOAD_BYTES: u64 = 64 * 1024;
const MAX_SIGNATURE_TEXT: usize = 8 * 1024;

/// The tag under which signatures of a manifest are found.
pub fn signature_tag(manifest: &Digest) -> String {
    manifest.to_string().replace(':', "-") + ".sig"
}

/// A signature as listed in a signature manifest: where its payload is, and the signature itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Digest of the payload's blob.
    pub payload: Digest,
    /// Size of the payload's blob.
    pub size: u64,
    /// The signature, standard base64.
    pub signature: String,
}

/// The signatures listed in a signature manifest, at most [`MAX_SIGNATURES`]; other entries are passed over.
pub fn listed(manifest: &Manifest) -> Vec<Listed> {
    let signatures =
        manifest.layers.iter().filter(|d| d.media_type == PAYLOAD_TYPE && d.size <= MAX_PAYLOAD_BYTES);
    let listed = signatures.filter_map(|d| {
        let signature = d.annotations.get(SIGNATURE_ANNOTATION).filter(|s| s.len() <= MAX_SIGNATURE_TEXT)?;
        Some(Listed { payload: d.digest, size: d.size, signature: signature.clone() })
    });
    listed.take(MAX_SIGNATURES).collect()
}

/// The config blob and the manifest that publish signatures, to be pushed under [`signature_tag`]; each payload is
/// to be pushed as a blob before.
pub fn signature_manifest(signatures: &[(Vec<u8>, String)]) -> (Vec<u8>, Vec<u8>) {
    let digests: Vec<Digest> = signatures.iter().map(|(payload, _)| Digest::sha256(payload)).collect();
    let config = json!({
        "architecture": "", "created": "0001-01-01T00:00:00Z", "history": [{"created": "0001-01-01T00:00:00Z"}],
        "os": "", "rootfs": {"type": "layers", "diff_ids": digests}, "config": {},
    })
    .to_string()
    .into_bytes();
    let layers: Vec<_> = signatures
        .iter()
        .zip(&digests)
        .map(|((payload, signature), digest)| {
            json!({"mediaType": PAYLOAD_TYPE, "size": payload.len(), "digest": digest,
                   "annotations": {SIGNATURE_ANNOTATION: signature}})
        })
        .collect();
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "size": config.len(),
                   "digest": Digest::sha256(&config)},
        "layers": layers,
    });
    (config, manifest.to_string().into_bytes())
}

/// Signs a payload with an unencrypted PKCS#8 PEM key; gives the signature as standard base64.
///
/// # Errors
/// [`Error::Key`].
pub fn sign(key_pem: &str, payload: &[u8]) -> Result<String, Error> {
    SigningKey::from_pem(key_pem)?.sign(payload).map(|s| STANDARD.encode(s))
}

/// Checks one signature: it verifies under the key, the payload names one of the accepted digests (the pinned one,
/// or the index that led to it) and the reference's repository.
///
/// # Errors
/// [`Error::Key`] for an unusable key, else [`Error::SignatureInvalid`].
pub fn verify(
    key_pem: &str,
    payload: &[u8],
    signature_base64: &str,
    accepted: &[Digest],
    reference: &Reference,
) -> Result<(), Error> {
    let key = VerifyingKey::from_pem(key_pem)?;
    let invalid = |why: String| Error::SignatureInvalid(why);
    if signature_base64.len() > MAX_SIGNATURE_TEXT {
        return Err(invalid("the signature is too long".to_owned()));
    }
    let signature = STANDARD
        .decode(signature_base64.trim())
        .map_err(|_| invalid("the signature is not base64".to_owned()))?;
    // The payload is parsed only after it is known to come from the key's holder.
    if !key.verifies(payload, &signature) {
        return Err(invalid("the signature does not verify with the required key".to_owned()));
    }
    let payload = Payload::parse(payload)?;
    if !accepted.contains(&payload.manifest_digest) {
        return Err(invalid(format!("the signature is for {}, another image", payload.manifest_digest)));
    }
    if !payload.names_repository_of(reference) {
        return Err(invalid(format!(
            "the signature is for repository {:?}, not {:?}",
            payload.reference.chars().take(200).collect::<String>(),
            reference.name()
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::KeyPair;

    fn signed(reference: &str) -> (KeyPair, Vec<u8>, String, Digest) {
        let pair = KeyPair::generate().unwrap();
        let digest = Digest::sha256(b"manifest");
        let payload = Payload::new(&Reference::parse(reference).unwrap(), digest).to_json();
        let signature = sign(&pair.private_pem, &payload).unwrap();
        (pair, payload, signature, digest)
    }

    #[test]
    fn a_signature_binds_key_digest_and_repository() {
        let (pair, payload, sig, digest) = signed("localhost:5000/app:v1");
        let reference = Reference::parse("localhost:5000/app:v2").unwrap();
        let index = Digest::sha256(b"index");
        verify(&pair.public_pem, &payload, &sig, &[index, digest], &reference).unwrap();

        let other_key = KeyPair::generate().unwrap();
        let mut altered = payload.clone();
        let at = altered.len() - 3;
        altered[at] ^= 1;
        let elsewhere = Reference::parse("localhost:5000/other").unwrap();
        for (key, payload, sig, digests, reference) in [
            (&other_key.public_pem, &payload, &sig, &[digest][..], &reference),
            (&pair.public_pem, &altered, &sig, &[digest][..], &reference),
            (&pair.public_pem, &payload, &"AAAA".to_owned(), &[digest][..], &reference),
            (&pair.public_pem, &payload, &"%".to_owned(), &[digest][..], &reference),
            (&pair.public_pem, &payload, &sig, &[index][..], &reference),
            (&pair.public_pem, &payload, &sig, &[][..], &reference),
            (&pair.public_pem, &payload, &sig, &[digest][..], &elsewhere),
        ] {
            let e = verify(key, payload, sig, digests, reference).unwrap_err();
            assert!(matches!(e, Error::SignatureInvalid(_)), "{e}");
        }
    }

    #[test]
    fn a_signature_manifest_lists_what_was_put_in() {
        let (_, payload, sig, digest) = signed("busybox");
        let (config, manifest) = signature_manifest(&[(payload.clone(), sig.clone())]);
        let parsed = Manifest::parse(&manifest).unwrap();
        assert_eq!(parsed.config.digest, Digest::sha256(&config));
        let expected =
            Listed { payload: Digest::sha256(&payload), size: payload.len() as u64, signature: sig.clone() };
        assert_eq!(listed(&parsed), [expected]);
        assert_eq!(signature_tag(&digest), format!("sha256-{}.sig", digest.hex()));
        let many = vec![(payload, sig); MAX_SIGNATURES + 5];
        assert_eq!(listed(&Manifest::parse(&signature_manifest(&many).1).unwrap()).len(), MAX_SIGNATURES);
    }
}
