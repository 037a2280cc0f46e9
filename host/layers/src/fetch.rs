//! The shared layers of a plan: what a pod's host needs before the pod boots.

use std::collections::BTreeSet;
use std::str::FromStr;
use std::sync::Arc;

use cocoon_image::{Config, Digest, Document, MAX_CONFIG_BYTES, Manifest, Platform, Reference};
use cocoon_plan::{ImagePlan, Plan};
use cocoon_registry::{Auth, Client};
use cocoon_stage::{Code, Failure, Stage};

use crate::{Cache, Error, Lease, OnProgress, Pinned, Wanted, prepare};

/// Leases on all layers that a plan wants attached, each root once, in the plan's order; made where the cache lacks them,
/// through the plan's own registry settings and with the node's credentials. Where nothing lacks, no registry is asked.
///
/// The plan is the pod's; nobody vouches for it here. All that it can do is to have this node read registries and fill
/// its cache up to the cache's limit, as any image of a pod does.
///
/// # Errors
/// What [`prepare`] says, a root that comes out otherwise than the plan says included; `PLAN-INVALID` for settings or
/// layers that cannot be meant; what the registry says of the image's manifest.
pub async fn fetch(
    cache: &Cache,
    plan: &Plan,
    auth: Auth,
    progress: OnProgress,
) -> Result<Vec<Lease>, Failure> {
    let mut images: Vec<&ImagePlan> = Vec::new();
    for image in plan.containers.iter().map(|c| &c.image).filter(|i| i.layers.is_some()) {
        if !images.contains(&image) {
            images.push(image);
        }
    }
    let mut client = None;
    let (mut leases, mut seen) = (Vec::new(), BTreeSet::new());
    for image in images {
        let wanted = wanted(image)?;
        let found = match held(cache, &wanted).await? {
            Some(found) => found,
            None => {
                let client = match &client {
                    Some(client) => client,
                    None => client.insert(reach(plan, auth.clone())?),
                };
                made(cache, client, image, &wanted, progress.clone()).await?
            }
        };
        leases.extend(found.into_iter().filter(|lease| seen.insert(lease.root)));
    }
    Ok(leases)
}

/// What the plan says of an image's layers.
fn wanted(image: &ImagePlan) -> Result<Vec<Wanted>, Failure> {
    let mut wanted = Vec::new();
    for layer in image.layers.iter().flatten() {
        let mut root = [0; 32];
        hex::decode_to_slice(&layer.root, &mut root)
            .map_err(|e| invalid(format!("layer root {:?}: {e}", layer.root)))?;
        let diff_id =
            Digest::from_str(&layer.diff_id).map_err(|e| invalid(format!("{:?}: {e}", layer.diff_id)))?;
        wanted.push(Wanted { diff_id, pinned: Some(Pinned { root, blocks: layer.blocks }) });
    }
    Ok(wanted)
}

/// All of them, where the cache lacks none.
async fn held(cache: &Cache, wanted: &[Wanted]) -> Result<Option<Vec<Lease>>, Failure> {
    let mut leases = Vec::with_capacity(wanted.len());
    for pinned in wanted.iter().filter_map(|w| w.pinned) {
        match cache.pinned(pinned).await? {
            Some(lease) => leases.push(lease),
            None => return Ok(None),
        }
    }
    Ok(Some(leases))
}

fn reach(plan: &Plan, auth: Auth) -> Result<Client, Failure> {
    let http = cocoon_registry::http_for_plan(&plan.images, None).map_err(|e| invalid(e.to_string()))?;
    cocoon_registry::for_plan(&plan.images, http, auth).map_err(|e| Failure::from(e).at(Stage::Boot))
}

async fn made(
    cache: &Cache,
    client: &Client,
    image: &ImagePlan,
    wanted: &[Wanted],
    progress: OnProgress,
) -> Result<Vec<Lease>, Failure> {
    let reference = Reference::parse(&image.reference).map_err(at_boot)?;
    let digest = Digest::from_str(&image.digest).map_err(at_boot)?;
    let (manifest, config) = read(client, &reference, &digest).await?;
    Ok(prepare(cache, client, &reference, &manifest, &config, wanted, progress).await?)
}

/// The image's manifest for this machine, and its config; both verified by the digest that the plan pins.
async fn read(
    client: &Client,
    reference: &Reference,
    digest: &Digest,
) -> Result<(Manifest, Config), Failure> {
    let unavailable = |e: cocoon_registry::Error| Failure::from(Error::Registry(e));
    let parse = |bytes: &[u8]| Document::parse(bytes).map_err(at_boot);
    let manifest = match parse(&client.manifest(reference, digest).await.map_err(unavailable)?)? {
        Document::Manifest(manifest) => manifest,
        Document::Index(index) => {
            let chosen = index.select(&Platform::host()).map_err(at_boot)?;
            match parse(&client.manifest(reference, &chosen.digest).await.map_err(unavailable)?)? {
                Document::Manifest(manifest) => manifest,
                Document::Index(_) => {
                    let why = "an index inside an index";
                    return Err(Failure::new(Code::ImageManifestInvalid, why).at(Stage::Boot));
                }
            }
        }
    };
    manifest.check_image().map_err(at_boot)?;
    let config =
        client.blob_bytes(reference, &manifest.config, MAX_CONFIG_BYTES).await.map_err(unavailable)?;
    Ok((*manifest, Config::parse(&config).map_err(at_boot)?))
}

fn at_boot(e: cocoon_image::Error) -> Failure {
    Failure::from(e).at(Stage::Boot)
}

fn invalid(reason: String) -> Failure {
    Failure::new(Code::PlanInvalid, reason).at(Stage::Boot)
}

/// Hears nothing.
pub fn silent() -> OnProgress {
    Arc::new(|_| {})
}
