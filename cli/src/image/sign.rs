//! `cocoon image keygen`, `sign` and `verify`.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use bytes::Bytes;
use cocoon_image::{Document, Manifest, Reference};
use cocoon_registry::Client;
use cocoon_signature::KeyPair;
use cocoon_signature::cosign::{self as signature, MAX_SIGNATURES, Payload};
use cocoon_stage::{Code, Failure};
use zeroize::Zeroizing;

use super::usage;
use crate::registry;

fn read_text(path: &Path) -> Result<Zeroizing<String>, Failure> {
    let text = std::fs::read_to_string(path).map_err(|e| usage(format!("{}: {e}", path.display())))?;
    Ok(Zeroizing::new(text))
}

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

async fn existing(
    client: &Client,
    reference: &Reference,
    tag: &str,
) -> Result<Vec<(Vec<u8>, String)>, Failure> {
    let Some(bytes) = client.tagged(reference, tag).await? else { return Ok(Vec::new()) };
    let manifest = Manifest::parse(&bytes)?;
    let mut found = Vec::new();
    for listed in signature::listed(&manifest) {
        let descriptor = manifest.layers.iter().find(|l| l.digest == listed.payload);
        let Some(descriptor) = descriptor else { continue };
        let payload = client.blob_bytes(reference, descriptor, 64 << 10).await?;
        found.push((payload.to_vec(), listed.signature));
    }
    Ok(found)
}

pub async fn sign(key: &Path, image: &str) -> Result<(), Failure> {
    let reference = registry::reference(image)?;
    let key = read_text(key)?;
    let auth = registry::auth_json();
    let client = registry::client(auth.as_deref().map(String::as_str))?;
    let (digest, _) = client.resolve(&reference).await?;
    let tag = signature::signature_tag(&digest);
    let mut signatures = existing(&client, &reference, &tag).await?;
    let payload = Payload::new(&reference, digest).to_json();
    let text = signature::sign(&key, &payload)?;
    if signatures.len() >= MAX_SIGNATURES {
        signatures.remove(0);
    }
    signatures.push((payload, text));
    for (payload, _) in &signatures {
        client.push_blob(&reference, Bytes::copy_from_slice(payload)).await?;
    }
    let (config, manifest) = signature::signature_manifest(&signatures);
    client.push_blob(&reference, config.into()).await?;
    let kind = "application/vnd.oci.image.manifest.v1+json";
    client.push_manifest(&reference.with_tag(&tag), kind, manifest.into()).await?;
    println!("signed {}@{digest}", reference.name());
    Ok(())
}

pub async fn verify(key: &Path, image: &str) -> Result<(), Failure> {
    let reference = registry::reference(image)?;
    let key = read_text(key)?;
    let auth = registry::auth_json();
    let client = registry::client(auth.as_deref().map(String::as_str))?;
    let (digest, bytes) = client.resolve(&reference).await?;
    Document::parse(&bytes)?;
    let signatures = existing(&client, &reference, &signature::signature_tag(&digest)).await?;
    if signatures.is_empty() {
        return Err(Failure::new(Code::ImageSignatureMissing, format!("{}@{digest}", reference.name())));
    }
    let mut last = None;
    for (payload, text) in &signatures {
        match signature::verify(&key, payload, text, &[digest], &reference) {
            Ok(()) => {
                println!("verified {}@{digest}", reference.name());
                return Ok(());
            }
            Err(e) => last = Some(e),
        }
    }
    Err(last.map_or_else(|| Failure::new(Code::ImageSignatureInvalid, "none verifies"), Failure::from))
}
