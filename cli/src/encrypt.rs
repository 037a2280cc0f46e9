//! `cocoon image encrypt`: copies an image within its registries, each layer encrypted (ocicrypt).

use std::collections::BTreeMap;
use std::io::{BufReader, Read, Seek, Write};

use bytes::Bytes;
use cocoon_image::encryption::{self, LayerEncryptor, wrap_key};
use cocoon_image::{Descriptor, Document, MAX_CONFIG_BYTES, Manifest, MediaType, Platform, Reference};
use cocoon_protocol::uri::ResourceUri;
use cocoon_registry::Client;
use cocoon_stage::{Code, Failure, Stage};

use crate::embedded::Embedded;
use crate::registry;

/// Encrypts `source` under the embedded Trustee's key `key_id` (made where it does not exist) and pushes the result
/// as `target`.
pub async fn encrypt(key_id: &ResourceUri, source: &str, target: &str) -> Result<(), Failure> {
    let (source, target) = (registry::reference(source)?, registry::reference(target)?);
    let auth = registry::auth_json();
    let client = registry::client(auth.as_deref().map(String::as_str))?;
    let embedded = Embedded::open(None)?;
    let kek = embedded.image_key(&key_id.path())?;

    let (_, bytes) = client.resolve(&source).await?;
    let mut manifest = image_manifest(&client, &source, &bytes).await?;
    manifest.check_image()?;
    let config = client.blob_bytes(&source, &manifest.config, MAX_CONFIG_BYTES).await?;
    client.push_blob(&target, config).await?;
    for layer in &mut manifest.layers {
        if matches!(layer.kind(), MediaType::Layer { encrypted: true, .. }) {
            return Err(Failure::new(
                Code::UsageInvalid,
                format!("layer {} is encrypted already", layer.digest),
            ));
        }
        eprintln!("[image   ] encrypting layer {} ({} bytes)", layer.digest, layer.size);
        *layer = encrypt_layer(&client, &source, &target, layer, &kek, key_id).await?;
    }
    let kind = "application/vnd.oci.image.manifest.v1+json";
    kind.clone_into(&mut manifest.media_type);
    "application/vnd.oci.image.config.v1+json".clone_into(&mut manifest.config.media_type);
    let json = serde_json::to_vec(&manifest).map_err(|e| internal(&e))?;
    let digest = client.push_manifest(&target, kind, json.into()).await?;
    println!("encrypted {}@{digest} under {key_id}", target.name());
    Ok(())
}

async fn image_manifest(client: &Client, reference: &Reference, bytes: &Bytes) -> Result<Manifest, Failure> {
    let chosen = match Document::parse(bytes)? {
        Document::Manifest(manifest) => return Ok(*manifest),
        Document::Index(index) => index.select(&Platform::host())?.clone(),
    };
    match Document::parse(&client.manifest(reference, &chosen.digest).await?)? {
        Document::Manifest(manifest) => Ok(*manifest),
        Document::Index(_) => Err(Failure::new(Code::ImageManifestInvalid, "an index inside an index")),
    }
}

async fn encrypt_layer(
    client: &Client,
    source: &Reference,
    target: &Reference,
    layer: &Descriptor,
    kek: &[u8],
    key_id: &ResourceUri,
) -> Result<Descriptor, Failure> {
    // The ciphertext's digest is known only at its end, and names the blob to push: so it waits in a file.
    let mut plain = tempfile().map_err(|e| internal(&e))?;
    let mut hasher = cocoon_image::Hasher::new(layer.digest.algorithm());
    let mut stream = client.blob(source, layer, 0).await?;
    while let Some(chunk) = stream.chunk().await? {
        hasher.update(&chunk);
        plain.write_all(&chunk).map_err(|e| internal(&e))?;
    }
    if hasher.finish() != layer.digest {
        return Err(
            Failure::new(Code::ImageDigestMismatch, format!("layer {}", layer.digest)).at(Stage::Plan)
        );
    }
    plain.rewind().map_err(|e| internal(&e))?;
    let mut cipher = tempfile().map_err(|e| internal(&e))?;
    let mut encryptor = LayerEncryptor::new(BufReader::new(plain))?;
    std::io::copy(&mut encryptor.by_ref(), &mut cipher).map_err(|e| internal(&e))?;
    let sealed = encryptor.finish()?;
    cipher.rewind().map_err(|e| internal(&e))?;
    client.push_blob_from(target, &sealed.digest, &mut cipher).await?;

    let packet = wrap_key(kek, &key_id.to_string(), &sealed.private.to_json()?)?;
    let mut annotations: BTreeMap<String, String> = layer.annotations.clone();
    annotations.extend(encryption::annotations(&[packet], &sealed.public)?);
    let oci = match layer.kind() {
        MediaType::Layer { compression, .. } => compression.oci_layer_type(),
        _ => {
            return Err(Failure::new(
                Code::ImageManifestInvalid,
                format!("layer {} is no layer", layer.digest),
            ));
        }
    };
    Ok(Descriptor {
        media_type: format!("{oci}+encrypted"),
        digest: sealed.digest,
        size: sealed.size,
        annotations,
        platform: None,
    })
}

/// An unnamed file in the temporary folder, gone when it is closed.
fn tempfile() -> std::io::Result<std::fs::File> {
    use rustix::fs::{Mode, OFlags, open};
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    Ok(open(std::env::temp_dir(), flags, Mode::RUSR | Mode::WUSR)?.into())
}

fn internal(e: &impl std::fmt::Display) -> Failure {
    Failure::new(Code::Internal, e.to_string()).at(Stage::Plan)
}
