//! Into a registry.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use bytes::Bytes;
use cocoon_guest_image::GuestImage;
use cocoon_image::{Descriptor, Digest, Manifest, Reference};
use cocoon_registry::Client;
use cocoon_stage::{Code, Failure};

use super::{ARTIFACT, EMPTY, FILE, FILES, MANIFEST, TITLE};

/// Pushes the guest image in `folder` under the reference's tag, or by its digest alone where it has none. Gives the reference with
/// the digest. The same image has the same digest wherever it is pushed.
///
/// # Errors
/// `BOOT-GUEST-IMAGE-…` where the folder holds no whole image, the registry's codes, `USAGE-INVALID` for a reference with a digest.
pub async fn push(client: &Client, reference: &Reference, folder: &Path) -> Result<Reference, Failure> {
    if reference.digest.is_some() {
        return Err(Failure::new(
            Code::UsageInvalid,
            "the image's digest follows from its content; give a tag",
        ));
    }
    let dir = folder.to_owned();
    let opened = tokio::task::spawn_blocking(move || describe(&dir)).await;
    let layers = opened.map_err(|e| Failure::new(Code::Internal, e.to_string()))??;
    for (layer, name) in layers.iter().zip(FILES) {
        let mut file = File::open(folder.join(name)).map_err(|e| unreadable(name, &e))?;
        client.push_blob_from(reference, &layer.digest, &mut file).await?;
    }
    let (kind, empty) = EMPTY;
    let digest = client.push_blob(reference, Bytes::from_static(empty)).await?;
    let manifest = Manifest {
        schema_version: 2,
        media_type: MANIFEST.into(),
        artifact_type: Some(ARTIFACT.into()),
        config: Descriptor::new(kind, digest, u64::try_from(empty.len()).unwrap_or(0)),
        layers,
        subject: None,
        annotations: BTreeMap::new(),
    };
    let bytes = serde_json::to_vec(&manifest).map_err(|e| Failure::new(Code::Internal, e.to_string()))?;
    let digest = client.push_manifest(reference, MANIFEST, bytes.into()).await?;
    Ok(reference.with_digest(digest))
}

fn unreadable(name: &str, e: &std::io::Error) -> Failure {
    Failure::new(Code::BootGuestImageCorrupt, format!("{name}: {e}"))
}

/// Checks the image; its files, in the order of [`FILES`].
fn describe(folder: &Path) -> Result<Vec<Descriptor>, Failure> {
    GuestImage::open(folder)?;
    let one = |name: &str| {
        let bytes = std::fs::read(folder.join(name)).map_err(|e| unreadable(name, &e))?;
        let mut layer =
            Descriptor::new(FILE, Digest::sha256(&bytes), u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        layer.annotations.insert(TITLE.into(), name.into());
        Ok(layer)
    };
    FILES.into_iter().map(one).collect()
}
