//! Volumes of a pod, by what containers make of them.

use std::collections::BTreeMap;

use cocoon_plan::pod::{VolumePlan, VolumeSource};
use serde_json::Value;

use crate::env::absent;
use crate::fields::Fields;
use crate::log::Log;
use crate::manifest::Document;
use crate::quantity::Quantity;
use crate::settings::Trust;
use crate::template::Pod;

/// Size of a volume in memory for which none is written, in bytes: the VM's own memory is the limit that counts.
const UNLIMITED: u64 = 1 << 44;

/// A volume as the manifest has it.
#[derive(Clone, Debug)]
pub(crate) enum Volume {
    /// One that containers may mount.
    Mountable(VolumeSource),
    /// A claim, which is a disk or a file system by how it is used.
    Claim {
        /// Whether the claim itself is read-only.
        read_only: bool,
        /// Whether it is known to be a file system.
        file_system: bool,
    },
    /// A claim whose disk the guest encrypts: a file system in it, at the place of the device.
    Encrypted {
        /// As in a plan.
        source: VolumeSource,
        /// Whether the claim itself is read-only.
        read_only: bool,
    },
    /// One that was refused already.
    Refused,
}

/// The pod's volumes by name, with where each is in the manifest.
pub(crate) type Volumes = BTreeMap<String, (String, Volume)>;

const CLAIM: &str = "a file system of the node's or of a persistent volume cannot be trusted with anything, and is not supported: \
     use a block volume (volumeMode: Block and volumeDevices), which the workload encrypts, or an emptyDir";
/// Kinds of volumes that only nodes can make.
const OTHERS: [&str; 27] = [
    "awsElasticBlockStore",
    "azureDisk",
    "azureFile",
    "cephfs",
    "cinder",
    "csi",
    "fc",
    "flexVolume",
    "flocker",
    "gcePersistentDisk",
    "gitRepo",
    "glusterfs",
    "hostPath",
    "image",
    "iscsi",
    "nfs",
    "photonPersistentDisk",
    "portworxVolume",
    "quobyte",
    "rbd",
    "scaleIO",
    "storageos",
    "vsphereVolume",
    "local",
    "podCertificate",
    "resourceClaim",
    "volumeSnapshot",
];

/// Reads `volumes`, and the claims of a StatefulSet.
pub(crate) fn read(
    spec: &mut Fields<'_>,
    document: &Document,
    pod: &Pod<'_>,
    fs_group: Option<u32>,
    log: &mut Log,
) -> Volumes {
    let mut volumes = Volumes::new();
    for mut volume in spec.objects("volumes", "name", log) {
        let at = volume.at.clone();
        let name = volume.text("name", log).unwrap_or_default().to_owned();
        let read = one(&mut volume, pod, fs_group, log);
        volume.finish(log);
        if volumes.insert(name, (at.clone(), read)).is_some() {
            log.wrong(&at, "is there twice");
        }
    }
    if pod.kind.is_stateful() {
        claims(document, &mut volumes, log);
    }
    crate::encrypted::encrypt(&mut volumes, pod, fs_group, log);
    volumes
}

/// `volumeClaimTemplates`: each becomes a claim of the same name, in place of a volume of that name.
fn claims(document: &Document, volumes: &mut Volumes, log: &mut Log) {
    let Some(templates) = document.value.pointer("/spec/volumeClaimTemplates") else { return };
    let Some(templates) = templates.as_array() else {
        if !templates.is_null() {
            log.wrong("spec.volumeClaimTemplates", "must be a list");
        }
        return;
    };
    for (i, template) in templates.iter().enumerate() {
        let name = template.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
        let at = format!(
            "spec.volumeClaimTemplates[{}]",
            if name.is_empty() { i.to_string() } else { name.into() }
        );
        volumes.insert(name.to_owned(), (at, claim(template.get("spec"), false)));
    }
}

fn claim(spec: Option<&Value>, read_only: bool) -> Volume {
    let mode = spec.and_then(|s| s.get("volumeMode")).and_then(Value::as_str);
    Volume::Claim { read_only, file_system: spec.is_some() && mode != Some("Block") }
}

fn one(volume: &mut Fields<'_>, pod: &Pod<'_>, fs_group: Option<u32>, log: &mut Log) -> Volume {
    let mut found = Vec::new();
    if let Some(empty) = volume.object("emptyDir", log) {
        found.push(empty_dir(empty, fs_group, log));
    }
    for (field, secret) in [("configMap", false), ("secret", true)] {
        if let Some(content) = volume.object(field, log) {
            found.push(files(content, secret, pod, log));
        }
    }
    if let Some(projected) = volume.object("projected", log) {
        found.push(projection(projected, pod, log));
    }
    if let Some(mut downward) = volume.object("downwardAPI", log) {
        downward.take("defaultMode");
        downward_items(&mut downward, log);
        log.open(&downward.at, "files", "only the cluster knows their content: untrusted");
        downward.finish(log);
        found.push(Volume::Mountable(VolumeSource::Files { digests: None }));
    }
    if let Some(mut persistent) = volume.object("persistentVolumeClaim", log) {
        if persistent.text("claimName", log).is_none_or(str::is_empty) {
            log.wrong(&persistent.at, "has no claimName");
        }
        let read_only = persistent.flag("readOnly", log).unwrap_or(false);
        persistent.finish(log);
        found.push(Volume::Claim { read_only, file_system: false });
    }
    if let Some(mut ephemeral) = volume.object("ephemeral", log) {
        let template = ephemeral.take("volumeClaimTemplate");
        ephemeral.finish(log);
        found.push(claim(template.and_then(|t| t.get("spec")), false));
    }
    for kind in OTHERS {
        if volume.take(kind).is_some() {
            let why = match kind {
                "hostPath" => "a path of the node cannot be trusted with anything, and is not supported",
                "image" => {
                    "a volume from an image is not supported: copy it by an init container into an emptyDir"
                }
                _ => CLAIM,
            };
            log.refuse(&volume.path(kind), why);
            found.push(Volume::Refused);
        }
    }
    match (found.pop(), found.is_empty()) {
        (Some(one), true) => one,
        // A kind of volume that nobody knows is told as the field that it is.
        (None, _) if !volume.is_exhausted() => Volume::Refused,
        (None, _) => {
            log.wrong(&volume.at, "has no source");
            Volume::Refused
        }
        (Some(_), false) => {
            log.wrong(&volume.at, "has several sources");
            Volume::Refused
        }
    }
}

fn empty_dir(mut empty: Fields<'_>, gid: Option<u32>, log: &mut Log) -> Volume {
    let at = empty.at.clone();
    let medium = empty.text("medium", log).unwrap_or_default();
    let size = match empty.take("sizeLimit").map(Quantity::of) {
        Some(None) => {
            log.wrong(&empty.path("sizeLimit"), "is no quantity");
            0
        }
        Some(Some(size)) => size.whole(),
        None => 0,
    };
    empty.finish(log);
    match medium {
        "" => {
            log.fixed(
                &at,
                "an empty folder",
                "in the guest's memory, or on its encrypted scratch disk; the node never has it",
            );
            Volume::Mountable(VolumeSource::Scratch { size, gid })
        }
        "Memory" => {
            log.fixed(&at, "an empty folder in memory", "in the guest's protected memory");
            Volume::Mountable(VolumeSource::Memory { size: if size == 0 { UNLIMITED } else { size }, gid })
        }
        other => {
            log.refuse(&at, format!("medium {other:?}: a guest has no huge pages"));
            Volume::Refused
        }
    }
}

/// The files that a ConfigMap or Secret comes to, with their digests; nothing where the content is untrusted.
fn pinned(
    source: &mut Fields<'_>,
    name: &str,
    secret: bool,
    pod: &Pod<'_>,
    log: &mut Log,
) -> Option<BTreeMap<String, String>> {
    let at = source.at.clone();
    let optional = source.flag("optional", log).unwrap_or(false);
    let items: Vec<(String, String, String)> = source
        .objects("items", "key", log)
        .into_iter()
        .map(|mut item| {
            let at = item.at.clone();
            let key = item.text("key", log).unwrap_or_default().to_owned();
            let path = item.text("path", log).unwrap_or_default().to_owned();
            item.number("mode", log);
            item.finish(log);
            (at, key, path)
        })
        .collect();
    let trust = if secret { pod.settings.secrets } else { pod.settings.config_maps };
    if secret && pod.settings.seals(name) {
        let why =
            "sealed secrets among its files are the owner's; all else in it is the cluster's: untrusted";
        log.open(&at, name, why);
        return None;
    }
    match trust {
        Trust::Refused => {
            log.refuse(&at, "Secrets of the cluster are refused by the annotation cocoon.dev/secrets");
            return None;
        }
        Trust::Untrusted => {
            let why = if secret {
                "a Secret of the cluster, which can read and change it: untrusted. What must stay secret belongs into Trustee"
            } else {
                "a ConfigMap that was declared untrusted: the cluster may change it"
            };
            log.open(&at, name, why);
            return None;
        }
        Trust::Pinned => {}
    }
    let Some(content) = pod.content(secret, name) else {
        absent(secret, name, optional, &at, log);
        return Some(BTreeMap::new());
    };
    let mut digests = BTreeMap::new();
    let mut add = |path: &str, key: &str, at: &str, log: &mut Log| match content.file(key) {
        Some(bytes) => {
            if let Err(e) = cocoon_plan::files::names(path) {
                log.wrong(at, format!("the path {path:?} {e}"));
            }
            digests.insert(path.to_owned(), digest(bytes));
        }
        None => absent(secret, &format!("{name}[{key}]"), optional, at, log),
    };
    if items.is_empty() {
        content.keys().for_each(|key| add(key, key, &at, log));
    } else {
        items.iter().for_each(|(at, key, path)| add(path, key, at, log));
    }
    let kind = if secret { "Secret" } else { "ConfigMap" };
    let value = format!("{name}: {} files", digests.len());
    log.fixed(&at, value, &format!("the {kind}'s content as it was when the plan was made, by digest"));
    Some(digests)
}

fn digest(bytes: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    format!("sha256:{}", hex::encode(digest.as_ref()))
}

fn files(mut source: Fields<'_>, secret: bool, pod: &Pod<'_>, log: &mut Log) -> Volume {
    let field = if secret { "secretName" } else { "name" };
    let name = source.text(field, log).unwrap_or_default().to_owned();
    if name.is_empty() {
        log.wrong(&source.path(field), "is missing");
    }
    source.number("defaultMode", log);
    let digests = pinned(&mut source, &name, secret, pod, log);
    source.finish(log);
    Volume::Mountable(VolumeSource::Files { digests })
}

fn projection(mut projected: Fields<'_>, pod: &Pod<'_>, log: &mut Log) -> Volume {
    projected.number("defaultMode", log);
    let mut all = Some(BTreeMap::new());
    let mut of_the_cluster = false;
    for mut source in projected.objects("sources", "", log) {
        let mut found = 0;
        for (field, secret) in [("configMap", false), ("secret", true)] {
            let Some(mut content) = source.object(field, log) else { continue };
            found += 1;
            let name = content.text("name", log).unwrap_or_default().to_owned();
            let digests = pinned_quietly(&mut content, &name, secret, pod, log);
            content.finish(log);
            all = match (all, digests) {
                (Some(mut all), Some(digests)) => {
                    all.extend(digests);
                    Some(all)
                }
                _ => None,
            };
        }
        if let Some(mut downward) = source.object("downwardAPI", log) {
            found += 1;
            downward_items(&mut downward, log);
            downward.finish(log);
            of_the_cluster = true;
        }
        for field in ["serviceAccountToken", "clusterTrustBundle"] {
            let Some(source) = source.take(field) else { continue };
            found += 1;
            of_the_cluster = true;
            if !source.is_object() {
                log.wrong(&projected.path("sources"), format!("{field} must be an object"));
            }
        }
        if source.take("podCertificate").is_some() {
            found += 1;
            log.refuse(&source.path("podCertificate"), "its private key would be the node's");
        }
        if found != 1 {
            log.wrong(&source.at, "must have one source");
        }
        source.finish(log);
    }
    if of_the_cluster {
        all = None;
    }
    match &all {
        Some(files) => log.fixed(&projected.at, format!("{} files", files.len()), "by digest"),
        None => log.open(
            &projected.at,
            "files",
            "part of it only the cluster knows (tokens, labels), or is untrusted; so all of it is",
        ),
    }
    projected.finish(log);
    Volume::Mountable(VolumeSource::Files { digests: all })
}

/// As [`pinned`], but a ConfigMap that nobody knows makes the volume untrusted: clusters put one of their own beside tokens.
fn pinned_quietly(
    content: &mut Fields<'_>,
    name: &str,
    secret: bool,
    pod: &Pod<'_>,
    log: &mut Log,
) -> Option<BTreeMap<String, String>> {
    if name == "kube-root-ca.crt" && pod.content(secret, name).is_none() {
        content.take("items");
        content.take("optional");
        log.open(&content.at, name, "the cluster's own certificate");
        return None;
    }
    pinned(content, name, secret, pod, log)
}

fn downward_items(downward: &mut Fields<'_>, log: &mut Log) {
    for mut item in downward.objects("items", "path", log) {
        if item.text("path", log).is_none_or(str::is_empty) {
            log.wrong(&item.at, "has no path");
        }
        item.take("fieldRef");
        item.take("resourceFieldRef");
        item.number("mode", log);
        item.finish(log);
    }
}

/// A volume of a plan.
pub(crate) fn plan(name: &str, source: VolumeSource) -> VolumePlan {
    VolumePlan { name: name.to_owned(), source }
}

/// Why a claim cannot be mounted.
pub(crate) fn claim_is_no_folder(log: &mut Log, at: &str) {
    log.refuse(at, CLAIM);
}
