//! Bundles 0.3 made with a key, as cosign 3 makes them, and the manifest that ties one to its image.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use cocoon_image::{Descriptor, Digest, Error, Reference};

use crate::SigningKey;
use crate::sigstore::{BUNDLE_MEDIA_TYPE, PREDICATE_TYPE, STATEMENT_MEDIA_TYPE, pae, statement};

/// Media type of the empty config of an artifact (OCI image-spec 1.1).
const EMPTY: &str = "application/vnd.oci.empty.v1+json";

/// A bundle that vouches for a manifest or index of the reference's repository (tag and digest aside) with a key, and is
/// in no log. Unlike cosign's own it names the repository, so that it counts in no other. `cosign verify --key` takes it with
/// `--insecure-ignore-tlog` or `--private-infrastructure`.
///
/// # Errors
/// [`Error::Key`] where signing fails.
pub fn bundle_for_key(key: &SigningKey, reference: &Reference, digest: &Digest) -> Result<Vec<u8>, Error> {
    let payload = statement(digest, Some(&reference.name()));
    let signature = key.sign(&pae(STATEMENT_MEDIA_TYPE, &payload))?;
    let bundle = json!({
        "mediaType": BUNDLE_MEDIA_TYPE,
        "verificationMaterial": {"publicKey": {"hint": key.hint()?}},
        "dsseEnvelope": {
            "payload": STANDARD.encode(payload),
            "payloadType": STATEMENT_MEDIA_TYPE,
            "signatures": [{"sig": STANDARD.encode(signature)}],
        },
    });
    Ok(bundle.to_string().into_bytes())
}

/// The config blob and the manifest that publish a bundle as a referrer of `subject`; the bundle is to be pushed as a
/// blob before. `created` is a time in RFC 3339. A registry that does not list referrers itself needs the manifest in
/// the index under the tag `sha256-<hex of the subject>`.
pub fn bundle_manifest(subject: &Descriptor, bundle: &[u8], created: &str) -> (Vec<u8>, Vec<u8>) {
    let config = b"{}".to_vec();
    let mut annotations = Map::new();
    for (name, value) in [
        ("dev.sigstore.bundle.content", "dsse-envelope"),
        ("dev.sigstore.bundle.predicateType", PREDICATE_TYPE),
        ("org.opencontainers.image.created", created),
    ] {
        annotations.insert(name.to_owned(), Value::from(value));
    }
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "artifactType": BUNDLE_MEDIA_TYPE,
        "config": {"mediaType": EMPTY, "size": config.len(), "digest": Digest::sha256(&config)},
        "layers": [{"mediaType": BUNDLE_MEDIA_TYPE, "size": bundle.len(), "digest": Digest::sha256(bundle)}],
        "annotations": annotations,
        "subject": {"mediaType": subject.media_type, "size": subject.size, "digest": subject.digest},
    });
    (config, manifest.to_string().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::KeyPair;
    use crate::sigstore::{Trust, verify_bundle};

    #[test]
    fn a_bundle_vouches_for_its_digest_with_its_key() {
        let (pair, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let key = SigningKey::from_pem(&pair.private_pem).unwrap();
        let (digest, elsewhere) = (Digest::sha256(b"m"), Digest::sha256(b"n"));
        let reference = Reference::parse("a.io/x:1").unwrap();
        let bundle = bundle_for_key(&key, &reference, &digest).unwrap();
        let trust = Trust::keys(std::slice::from_ref(&pair.public_pem)).unwrap();
        let claim = verify_bundle(&trust, &bundle, &[elsewhere, digest], 0).unwrap();
        assert_eq!((claim.digest, claim.reference, claim.at_unix), (digest, Some("a.io/x".to_owned()), None));
        assert!(verify_bundle(&trust, &bundle, &[elsewhere], 0).is_err());
        let stranger = Trust::keys(std::slice::from_ref(&other.public_pem)).unwrap();
        assert!(verify_bundle(&stranger, &bundle, &[digest], 0).is_err());
        // Where a log is required, a signature outside it does not count.
        let logged = trust.with_logs(&[other.public_pem]).unwrap();
        let e = verify_bundle(&logged, &bundle, &[digest], 0).unwrap_err().to_string();
        assert!(e.contains("no trusted log"), "{e}");
    }
}
