//! How the image of `cocoon run` reaches the guest: flags to the plan's settings, shared layers to disks.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cocoon_image::{Descriptor, Manifest, MediaType, Reference, encryption};
use cocoon_layers::{Lease, Pinned, Roots, Wanted, plan_roots, prepare};
use cocoon_plan::images::{ImageSettings, ProxyPlan, SharedLayer, Space};
use cocoon_registry::{Auth, Client};
use cocoon_signature::Needs;
use cocoon_signature::policy::{self, Policy};
use cocoon_signature::simple::SigstoreD;
use cocoon_stage::{Code, Failure, Stage};
use cocoon_trustee::ResourcePath;
use cocoon_vmm::Disk;

use crate::args::{DeliveryArgs, LayersArg, LayersPlace};
use crate::output::Output;
use crate::{dirs, layers, registry};

/// The largest file that travels in a plan, in bytes; the plan itself has a limit of its own.
const MAX_FILE: u64 = 128 * 1024;

/// The plan's settings. Files that a policy names are read here, since the guest has none of them.
///
/// # Errors
/// `USAGE-INVALID` for a file that cannot be read, `IMAGE-POLICY-INVALID` for one that is not what it should be.
pub fn settings(args: &DeliveryArgs) -> Result<ImageSettings, Failure> {
    let mut settings = ImageSettings {
        lookaside: args.lookaside.as_deref().map(|f| text("--lookaside", f)).transpose()?,
        registries: args.registries.as_deref().map(|f| text("--registries", f)).transpose()?,
        plain_http: args.plain_http.clone(),
        proxy: args.proxy.as_ref().map(|url| ProxyPlan {
            https: Some(url.clone()),
            http: Some(url.clone()),
            no_proxy: args.no_proxy.clone(),
        }),
        space: args.scratch.map_or(Space::Memory, |bytes| Space::Scratch { bytes }),
        ..ImageSettings::default()
    };
    for file in &args.ca_certificates {
        settings.ca_certificates.push(text("--ca-certificate", file)?);
    }
    if let Some(bad) = args.plain_http.iter().find(|r| !is_registry(r)) {
        return Err(usage(format!("--plain-http {bad:?} is not a registry: write HOST or HOST:PORT")));
    }
    match args.policy.as_deref() {
        Some(uri) if uri.starts_with("kbs:") => {
            let path = uri.strip_prefix("kbs:///").unwrap_or_default();
            path.parse::<ResourcePath>().map_err(|e| usage(format!("--policy {uri}: {e}")))?;
            settings.policy_uri = Some(uri.to_owned());
        }
        Some(file) => settings.policy = Some(policy_of(Path::new(file))?),
        None => {}
    }
    // What the guest would refuse is refused here.
    check(&settings)?;
    Ok(settings)
}

fn usage(reason: String) -> Failure {
    Failure::new(Code::UsageInvalid, reason)
}

fn text(flag: &str, file: &Path) -> Result<String, Failure> {
    let wrong = |e: &dyn std::fmt::Display| usage(format!("{flag} {}: {e}", file.display()));
    let bytes = bounded(file).map_err(|e| wrong(&e))?;
    String::from_utf8(bytes).map_err(|e| wrong(&e.utf8_error()))
}

/// A file of at most [`MAX_FILE`] bytes, whatever its length claims: a device or a pipe has none.
fn bounded(file: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(file)?.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE {
        let problem = format!("it holds more than {MAX_FILE} bytes");
        return Err(std::io::Error::new(std::io::ErrorKind::FileTooLarge, problem));
    }
    Ok(bytes)
}

/// `host[:port]`, as at the front of references.
fn is_registry(text: &str) -> bool {
    let one = Reference::parse(&format!("{text}/x")).is_ok_and(|r| r.registry == text);
    one && !text.contains('/')
}

fn policy_of(file: &Path) -> Result<serde_json::Value, Failure> {
    let text = text("--policy", file)?;
    let invalid = |e: &dyn std::fmt::Display| {
        Failure::new(Code::ImagePolicyInvalid, format!("--policy {}: {e}", file.display())).at(Stage::Plan)
    };
    let folder = file.parent().unwrap_or(Path::new("."));
    // As containers' tools do, a relative path is one of the working folder; here also of the policy's own.
    let read = |named: &str| {
        let beside = folder.join(named);
        let path = if Path::new(named).exists() { Path::new(named) } else { &beside };
        bounded(path).map_err(|e| format!("{named}: {e}"))
    };
    Policy::inlined(text.as_bytes(), &read).map_err(|e| invalid(&e))
}

fn check(settings: &ImageSettings) -> Result<(), Failure> {
    let invalid = |e: String| Failure::new(Code::ImagePolicyInvalid, e).at(Stage::Plan);
    let http = cocoon_registry::http_for_plan(settings, None).map_err(|e| invalid(e.to_string()))?;
    cocoon_registry::for_plan(settings, http, Auth::anonymous()).map_err(|e| invalid(e.to_string()))?;
    if let Some(policy) = &settings.policy {
        Policy::parse(policy.to_string().as_bytes()).map_err(|e| invalid(e.to_string()))?;
    }
    if let Some(text) = &settings.lookaside {
        SigstoreD::parse(text).map_err(|e| invalid(e.to_string()))?;
    }
    Ok(())
}

/// Refuses an image whose layers cannot come the way that was chosen, before anything is fetched or booted.
///
/// # Errors
/// `USAGE-INVALID`, which names the way that they can.
pub fn check_way(way: LayersArg, manifest: &Manifest) -> Result<(), Failure> {
    for layer in &manifest.layers {
        let why = match (way, layer.kind()) {
            (LayersArg::Guest, MediaType::SharedLayer) => {
                "is encrypted as a disk, which no guest can unpack: run with --layers shared"
            }
            (LayersArg::Shared, MediaType::Layer { encrypted: true, .. }) => {
                "is encrypted as an archive, which no node can open to make a disk of it: run with --layers guest, or \
                 encrypt the original with `cocoon image encrypt --layers shared`"
            }
            _ => continue,
        };
        return Err(usage(format!("layer {} {why}", layer.digest)));
    }
    Ok(())
}

/// Whether the guest takes the image only with a signature. A policy that only Trustee knows is not counted on.
///
/// # Errors
/// `IMAGE-POLICY-INVALID`.
pub fn demands_signature(settings: &ImageSettings, reference: &Reference) -> Result<bool, Failure> {
    let Some(policy) = &settings.policy else { return Ok(false) };
    let policy =
        Policy::parse(policy.to_string().as_bytes()).map_err(|e| Failure::from(e).at(Stage::Plan))?;
    Ok(policy::needs(policy.for_image(reference)) != Needs::default())
}

/// The layers of an image as disks of this machine.
pub struct Shared {
    /// What the plan says of them, lowest first.
    pub layers: Vec<SharedLayer>,
    /// What the VM is given.
    pub disks: Vec<Disk>,
    /// Keeps the node's cache from evicting them while the pod runs.
    pub leases: Vec<Lease>,
}

/// Computes the root of each layer, as the owner, and has the node's cache make what it lacks. On one machine both are
/// this process, so a layer is downloaded once; the roots in the plan are the owner's own all the same.
///
/// # Errors
/// `IMAGE-CACHE-FAILED`, and what is wrong with the image.
pub async fn shared(
    client: &Client,
    reference: &Reference,
    image: &registry::Image,
    output: Output,
) -> Result<Shared, Failure> {
    let at_plan = |e: cocoon_layers::Error| Failure::from(e).at(Stage::Plan);
    let cache = layers::open(&LayersPlace::usual()?)?;
    let roots = Roots::open(&dirs::data_dir()?.join("roots")).map_err(at_plan)?;
    let (manifest, config) = (&image.manifest, &image.config);
    let quiet: cocoon_layers::OnProgress = Arc::new(|_| {});
    let planned = plan_roots(&roots, Some(&cache), client, reference, manifest, config, quiet.clone())
        .await
        .map_err(at_plan)?;
    let mut described = Vec::with_capacity(planned.layers.len());
    for (known, descriptor) in planned.layers.iter().zip(&manifest.layers) {
        described.push(SharedLayer {
            diff_id: known.diff_id.to_string(),
            root: hex::encode(known.root),
            blocks: known.blocks,
            key: key_of(descriptor)?,
        });
    }
    let wanted: Vec<Wanted> = planned
        .layers
        .iter()
        .map(|k| Wanted { diff_id: k.diff_id, pinned: Some(Pinned { root: k.root, blocks: k.blocks }) })
        .collect();
    let leases =
        prepare(&cache, client, reference, manifest, config, &wanted, quiet).await.map_err(at_plan)?;
    let disks = leases
        .iter()
        .map(|lease| Disk { path: lease.path.clone(), serial: lease.serial(), read_only: true })
        .collect();
    output.progress(Stage::Plan, &format!("layers attached from this machine's cache: {}", leases.len()));
    Ok(Shared { layers: described, disks, leases })
}

/// How long an interrupted conversion may take to notice.
const SETTLING: Duration = Duration::from_secs(5);

/// After [`shared`] was given up: waits until its threads have noticed and taken their unfinished files away, since the
/// process must not end before them.
pub async fn settle() {
    let began = Instant::now();
    while began.elapsed() < SETTLING && has_unfinished() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Whether this process has a file open in a folder for layers being made.
fn has_unfinished() -> bool {
    let Ok(data) = dirs::data_dir() else { return false };
    let layers = std::env::var_os("COCOON_LAYERS_DIR").map_or_else(|| data.join("layers"), Into::into);
    let folders: Vec<_> = [layers.join("tmp"), data.join("roots/tmp")]
        .iter()
        .filter_map(|folder| std::fs::canonicalize(folder).ok())
        .collect();
    let open = std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    open.filter_map(|fd| std::fs::read_link(fd.path()).ok())
        .any(|file| folders.iter().any(|folder| file.parent() == Some(folder) && file.exists()))
}

/// The packet that wraps the key of an encrypted shared layer, for Trustee.
fn key_of(descriptor: &Descriptor) -> Result<Option<String>, Failure> {
    if descriptor.kind() != MediaType::SharedLayer {
        return Ok(None);
    }
    let packets = encryption::shared_packets(descriptor).map_err(|e| Failure::from(e).at(Stage::Plan))?;
    let lost = || {
        let why = format!("layer {} has no key that Trustee could release", descriptor.digest);
        Failure::new(Code::ImageKeyUnavailable, why).at(Stage::Plan)
    };
    let packet = packets.first().ok_or_else(lost)?.to_json().map_err(|e| Failure::from(e).at(Stage::Plan))?;
    String::from_utf8(packet).map(Some).map_err(|_| lost())
}

#[cfg(test)]
mod tests {
    use cocoon_image::Digest;
    use cocoon_image::media_type::SHARED_ENCRYPTED;

    use super::*;

    #[test]
    fn registries_are_host_and_port() {
        for good in
            ["registry.example", "registry.example:5000", "10.0.0.1:80", "localhost", "[fd00::1]:5000"]
        {
            assert!(is_registry(good), "{good}");
        }
        for bad in ["", "http://registry.example", "registry.example/team", "*.example", "a b", "x:y", "name"]
        {
            assert!(!is_registry(bad), "{bad}");
        }
    }

    #[test]
    fn endless_files_and_uris_that_are_none_are_refused() {
        let code = |args: DeliveryArgs| settings(&args).unwrap_err().code;
        let endless = || Some("/dev/zero".into());
        assert_eq!(code(DeliveryArgs { registries: endless(), ..Default::default() }), Code::UsageInvalid);
        assert_eq!(code(DeliveryArgs { lookaside: endless(), ..Default::default() }), Code::UsageInvalid);
        for policy in ["/dev/zero", "kbs:///x", "kbs:///a/b/c/d", "kbs://host/a/b/c"] {
            let args = DeliveryArgs { policy: Some(policy.into()), ..Default::default() };
            assert_eq!(code(args), Code::UsageInvalid, "{policy}");
        }
        let args = DeliveryArgs { plain_http: vec!["http://x.example".into()], ..Default::default() };
        assert_eq!(code(args), Code::UsageInvalid);
    }

    #[test]
    fn layers_come_one_way_or_the_other() {
        let said = |way, kinds: &[&str]| {
            let layers = kinds.iter().map(|kind| Descriptor::new(*kind, Digest::sha256(b""), 1)).collect();
            let config = Descriptor::new("c", Digest::sha256(b""), 1);
            let (media_type, artifact_type, subject, annotations) = Default::default();
            let manifest = Manifest {
                schema_version: 2,
                media_type,
                artifact_type,
                config,
                layers,
                subject,
                annotations,
            };
            check_way(way, &manifest).map_err(|f| f.reason)
        };
        let plain = "application/vnd.oci.image.layer.v1.tar+gzip";
        let archive = "application/vnd.oci.image.layer.v1.tar+gzip+encrypted";
        assert!(said(LayersArg::Guest, &[plain, archive]).is_ok());
        assert!(said(LayersArg::Shared, &[plain, SHARED_ENCRYPTED]).is_ok());
        assert!(said(LayersArg::Guest, &[plain, SHARED_ENCRYPTED]).unwrap_err().contains("--layers shared"));
        assert!(
            said(LayersArg::Shared, &[SHARED_ENCRYPTED, archive]).unwrap_err().contains("--layers guest")
        );
    }
}
