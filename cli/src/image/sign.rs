//! `cocoon image keygen` and `sign`.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use cocoon_image::{Descriptor, Digest, Document, Manifest, Reference};
use cocoon_registry::Client;
use cocoon_signature::cosign::{
    MAX_PAYLOAD_BYTES, MAX_SIGNATURES, Payload, bundle_for_key, bundle_manifest, listed, signature_manifest,
    signature_tag,
};
use cocoon_signature::{KeyPair, SigningKey};
use cocoon_stage::Failure;
use zeroize::Zeroizing;

use super::place::Place;
use super::usage;
use crate::args::{ImageSignArgs, SignatureFormat};
use crate::embedded::now;
use crate::moments::shown;

const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// Makes a key pair.
pub fn keygen(name: &Path) -> Result<(), Failure> {
    let pair = KeyPair::generate()?;
    for (ending, mode, text) in
        [("key", 0o600, pair.private_pem.as_str()), ("pub", 0o644, pair.public_pem.as_str())]
    {
        let path = name.with_extension(ending);
        std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&path)
            .and_then(|mut f| f.write_all(text.as_bytes()))
            .map_err(|e| usage(format!("{}: {e}", path.display())))?;
        println!("{}", path.display());
    }
    Ok(())
}

/// A private key; one that is sealed with the password of `COSIGN_PASSWORD`.
fn signing_key(path: &Path) -> Result<SigningKey, Failure> {
    let text = std::fs::read_to_string(path).map_err(|e| usage(format!("{}: {e}", path.display())))?;
    let text = Zeroizing::new(text);
    let password = Zeroizing::new(std::env::var("COSIGN_PASSWORD").unwrap_or_default());
    SigningKey::from_pem_with_password(&text, password.as_bytes())
        .map_err(|e| usage(format!("{}: {e}", path.display())))
}

/// The place of an image in a registry; a layout has no signatures.
pub fn in_registry(place: &Place) -> Result<(&Client, &Reference), Failure> {
    place.registry().ok_or_else(|| {
        usage(format!("{}: signatures are kept in registries, not in OCI layouts", place.name()))
    })
}

/// Signs an image.
pub async fn main(args: &ImageSignArgs) -> Result<(), Failure> {
    let place = Place::source(&args.image)?;
    let (client, reference) = in_registry(&place)?;
    let key = signing_key(&args.key)?;
    let (digest, bytes) = client.resolve(reference).await?;
    if let Some(text) = choice(reference, &digest) {
        eprintln!("{text}");
    }
    let document = Document::parse(&bytes)?;
    let mut subjects = Vec::new();
    if let (true, Document::Index(index)) = (args.recursive, &document) {
        for entry in &index.manifests {
            let bytes = client.manifest(reference, &entry.digest).await?;
            subjects.push(subject(entry.digest, &bytes)?);
        }
    }
    // The index last: what it vouches for is signed by then.
    subjects.push(subject(digest, &bytes)?);
    for subject in subjects {
        match args.format {
            SignatureFormat::Cosign => under_tag(client, reference, &key, subject.digest).await?,
            SignatureFormat::Bundle => as_referrer(client, reference, &key, &subject).await?,
        }
        println!("signed {}@{}", reference.name(), subject.digest);
    }
    Ok(())
}

/// Signs what was just pushed under this reference's digest, as cosign does.
pub async fn pushed(client: &Client, reference: &Reference, key: &Path) -> Result<(), Failure> {
    let digest = reference.digest.ok_or_else(|| usage(format!("{reference} has no digest")))?;
    under_tag(client, reference, &signing_key(key)?, digest).await
}

/// What is to be known before the signature: of a name without digest the registry says which image it is, and the owner
/// vouches for that.
fn choice(reference: &Reference, digest: &Digest) -> Option<String> {
    reference.digest.is_none().then(|| {
        format!(
            "signing {digest}\n  warning: the registry chose this digest for {reference}; compare it with your \
             build's, or sign {}",
            reference.with_digest(*digest)
        )
    })
}

fn subject(digest: Digest, bytes: &[u8]) -> Result<Descriptor, Failure> {
    let (kind, default) = match Document::parse(bytes)? {
        Document::Manifest(manifest) => (manifest.media_type, OCI_MANIFEST),
        Document::Index(index) => (index.media_type, OCI_INDEX),
    };
    let kind = if kind.is_empty() { default } else { &kind };
    Ok(Descriptor::new(kind, digest, u64::try_from(bytes.len()).unwrap_or(u64::MAX)))
}

/// Signatures that are there under the tag, with their payloads.
async fn existing(
    client: &Client,
    reference: &Reference,
    tag: &str,
) -> Result<Vec<(Vec<u8>, String)>, Failure> {
    let Some(bytes) = client.tagged(reference, tag).await? else { return Ok(Vec::new()) };
    let manifest = Manifest::parse(&bytes)?;
    let mut found = Vec::new();
    for listed in listed(&manifest) {
        let descriptor = manifest.layers.iter().find(|l| l.digest == listed.payload);
        let Some(descriptor) = descriptor else { continue };
        let limit = usize::try_from(MAX_PAYLOAD_BYTES).unwrap_or(usize::MAX);
        let payload = client.blob_bytes(reference, descriptor, limit).await?;
        found.push((payload.to_vec(), listed.signature));
    }
    Ok(found)
}

async fn under_tag(
    client: &Client,
    reference: &Reference,
    key: &SigningKey,
    digest: Digest,
) -> Result<(), Failure> {
    let tag = signature_tag(&digest);
    let mut signatures = existing(client, reference, &tag).await?;
    let payload = Payload::new(reference, digest).to_json();
    let text = STANDARD.encode(key.sign(&payload)?);
    if signatures.len() >= MAX_SIGNATURES {
        signatures.remove(0);
    }
    signatures.push((payload, text));
    for (payload, _) in &signatures {
        client.push_blob(reference, Bytes::copy_from_slice(payload)).await?;
    }
    let (config, manifest) = signature_manifest(&signatures);
    client.push_blob(reference, config.into()).await?;
    client.push_manifest(&reference.with_tag(&tag), OCI_MANIFEST, manifest.into()).await?;
    Ok(())
}

async fn as_referrer(
    client: &Client,
    reference: &Reference,
    key: &SigningKey,
    subject: &Descriptor,
) -> Result<(), Failure> {
    let bundle = bundle_for_key(key, reference, &subject.digest)?;
    let (config, manifest) = bundle_manifest(subject, &bundle, &shown(now()));
    client.push_blob(reference, bundle.into()).await?;
    client.push_blob(reference, config.into()).await?;
    client.push_referrer(reference, OCI_MANIFEST, manifest.into()).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_choice_the_digest_is_gets_said() {
        let digest = Digest::sha256(b"m");
        let by_tag = Reference::parse("a.io/x:1").unwrap();
        let said = choice(&by_tag, &digest).unwrap();
        assert!(said.contains(&format!("a.io/x@{digest}")) && said.contains("a.io/x:1"), "{said}");
        assert_eq!(choice(&by_tag.with_digest(digest), &digest), None);
    }
}
