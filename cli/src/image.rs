//! `cocoon image`: signing keys, signatures in cosign's format, and the key provider that encrypting tools call.

use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use bytes::Bytes;
use cocoon_image::encryption::{
    AnnotationPacket, KeyProviderInput, KeyProviderOutput, PROVIDER, unwrap_key, wrap_key,
};
use cocoon_image::{Document, Manifest, Reference};
use cocoon_protocol::uri::ResourceUri;
use cocoon_registry::Client;
use cocoon_signature::KeyPair;
use cocoon_signature::cosign::{self as signature, MAX_SIGNATURES, Payload};
use cocoon_stage::{Code, Failure, Stage};
use zeroize::Zeroizing;

use crate::args::ImageCommand;
use crate::embedded::Embedded;
use crate::registry;

/// Largest key provider request, in bytes.
const MAX_REQUEST: u64 = 4 << 20;

pub async fn main(command: ImageCommand) -> Result<(), Failure> {
    match command {
        ImageCommand::Keygen { name } => keygen(&name),
        ImageCommand::Sign { key, image } => sign(&key, &image).await,
        ImageCommand::Verify { key, image } => verify(&key, &image).await,
        ImageCommand::Encrypt { key_id: id, source, target } => {
            let id = id.map_or_else(|| key_id(b""), |id| key_id(format!("keyid={id}").as_bytes()))?;
            crate::encrypt::encrypt(&id, &source, &target).await
        }
        ImageCommand::Keyprovider => key_provider(),
    }
}

fn usage(reason: String) -> Failure {
    Failure::new(Code::UsageInvalid, reason)
}

fn read_text(path: &Path) -> Result<Zeroizing<String>, Failure> {
    let text = std::fs::read_to_string(path).map_err(|e| usage(format!("{}: {e}", path.display())))?;
    Ok(Zeroizing::new(text))
}

fn keygen(name: &Path) -> Result<(), Failure> {
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

async fn sign(key: &Path, image: &str) -> Result<(), Failure> {
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

async fn verify(key: &Path, image: &str) -> Result<(), Failure> {
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

/// One request on standard input, one answer on standard output (ocicrypt's `cmd` key provider).
fn key_provider() -> Result<(), Failure> {
    let mut request = Zeroizing::new(Vec::new());
    std::io::stdin()
        .take(MAX_REQUEST)
        .read_to_end(&mut request)
        .map_err(|e| usage(format!("standard input: {e}")))?;
    let embedded = Embedded::open(None)?;
    let answer = match KeyProviderInput::parse(&request)? {
        KeyProviderInput::KeyWrap { options, parameters } => {
            let parameters =
                parameters.get(PROVIDER).and_then(|p| p.first()).map(Vec::as_slice).unwrap_or_default();
            let kid = key_id(parameters)?;
            let kek = embedded.image_key(&kid.path())?;
            let packet = wrap_key(&kek, &kid.to_string(), &options)?;
            KeyProviderOutput::KeyWrap { annotation: packet.to_json()? }
        }
        KeyProviderInput::KeyUnwrap { annotation } => {
            let packet = AnnotationPacket::parse(&annotation)?;
            let kid: ResourceUri = packet.kid.parse().map_err(Failure::from)?;
            let kek = embedded.secret(&kid.path())?.ok_or_else(|| {
                Failure::new(Code::ReleaseSecretMissing, format!("no key {kid} in the embedded Trustee"))
            })?;
            KeyProviderOutput::KeyUnwrap { options: unwrap_key(&kek, &packet)? }
        }
    };
    std::io::stdout()
        .write_all(&answer.to_json()?)
        .map_err(|e| Failure::new(Code::Internal, format!("standard output: {e}")).at(Stage::Plan))
}

/// The key id in parameters such as `keyid=kbs:///default/image-key/demo`; a new random one where none is given.
fn key_id(parameters: &[u8]) -> Result<ResourceUri, Failure> {
    let text =
        std::str::from_utf8(parameters).map_err(|_| usage("key provider parameters are not text".into()))?;
    let mut id = None;
    for pair in text.split("::").filter(|p| !p.is_empty()) {
        match pair.split_once('=') {
            Some(("keyid", value)) => id = Some(value.to_owned()),
            Some(("algorithm", "A256GCM")) => {}
            _ => return Err(usage(format!("key provider parameter {pair:?} is not known"))),
        }
    }
    let id = match id {
        Some(id) => id,
        None => format!("kbs:///default/image-key/{}", crate::dirs::random_hex(16)?),
    };
    id.parse().map_err(|e| usage(format!("key id {id:?}: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_ids_are_read_or_made() {
        let id = key_id(b"keyid=kbs:///default/image-key/a::algorithm=A256GCM").unwrap();
        assert_eq!(id.to_string(), "kbs:///default/image-key/a");
        let (one, two) = (key_id(b"").unwrap(), key_id(b"").unwrap());
        assert_ne!(one.to_string(), two.to_string());
        for bad in [b"keyid=http://x".as_slice(), b"sample=true", b"\xff", b"algorithm=A256CTR"] {
            assert!(key_id(bad).is_err(), "{bad:?}");
        }
    }
}
