//! Signatures beside an image: in its registry, under cosign's tag.

use cocoon_image::{Digest, Manifest};
use cocoon_registry::Client;
use cocoon_signature::cosign;
use cocoon_stage::Failure;
use serde_json::{Value, json};

use super::place::Place;

/// What was found, by kind. A layout holds none.
pub async fn found(place: &Place, digest: &Digest) -> Result<Vec<Value>, Failure> {
    let Some((client, reference)) = place.registry() else { return Ok(Vec::new()) };
    let client: &Client = client;
    let tag = cosign::signature_tag(digest);
    let Some(bytes) = client.tagged(reference, &tag).await? else { return Ok(Vec::new()) };
    let count = Manifest::parse(&bytes).map(|manifest| cosign::listed(&manifest).len())?;
    Ok(vec![json!({"kind": "cosign", "count": count, "hints": [format!("tag {tag}")]})])
}
