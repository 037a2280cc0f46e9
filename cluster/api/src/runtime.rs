//! What a cluster's administrator asks for.
#![allow(clippy::duplicated_attributes)] // columns of one type each say so

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{LocalObjectReference, Toleration};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{CocoonRuntimeStatus, Containerd, GuestImage, Guests, NodeSettings, Paths, Update};

pub(crate) const IMAGE: &str = "^[a-z0-9A-Z][a-zA-Z0-9._:/@-]*$";
const QUANTITY: &str = "^[0-9]+(\\.[0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$";

/// Confidential pods on a cluster's nodes: the operator installs Cocoon on them and makes the RuntimeClasses.
#[derive(Clone, CustomResource, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[kube(
    group = "cocoon.dev",
    version = "v1alpha1",
    kind = "CocoonRuntime",
    plural = "cocoonruntimes",
    shortname = "ccrt",
    category = "cocoon",
    status = "CocoonRuntimeStatus",
    derive = "PartialEq",
    doc = "Confidential pods on this cluster's nodes: the operator installs Cocoon on them and makes the RuntimeClasses.",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(name = "Nodes", type_ = "integer", json_path = ".status.nodes.selected"),
    printcolumn(name = "Able", type_ = "integer", json_path = ".status.nodes.ready"),
    printcolumn(name = "Failed", type_ = "integer", json_path = ".status.nodes.failed"),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Revision", type_ = "string", priority = 1, json_path = ".status.revisions.target")
)]
#[serde(rename_all = "camelCase", default)]
pub struct CocoonRuntimeSpec {
    /// Change nothing while this is true; status is still kept.
    pub paused: bool,
    /// Labels that a node must have; all Linux nodes on amd64 where there are none.
    #[schemars(extend("maxProperties" = 32))]
    pub node_selector: BTreeMap<String, String>,
    /// Taints that the node's process tolerates. Without any it tolerates none, and nodes with taints are left alone.
    #[schemars(length(max = 32))]
    pub tolerations: Vec<Toleration>,
    /// What protects pods. `Auto`: the TEE that a node has. `Sim` and `Tpm` protect from nobody and must be asked for.
    #[schemars(length(min = 1, max = 5), extend("x-kubernetes-list-type" = "set"))]
    pub platforms: Vec<Platform>,
    /// Image of the node's process, with shim and guest image in it; the operator's own where it is not given.
    #[schemars(length(min = 1, max = 512), regex(pattern = IMAGE))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// When that image is pulled.
    pub image_pull_policy: PullPolicy,
    /// Secrets, in the operator's namespace, with credentials for it.
    #[schemars(length(max = 8))]
    pub image_pull_secrets: Vec<LocalObjectReference>,
    /// The guest image, if not the one in the node's image.
    pub guest_image: GuestImage,
    /// The RuntimeClasses.
    pub runtime_classes: RuntimeClasses,
    /// Nodes' containerd.
    pub containerd: Containerd,
    /// Limits of pods' guests.
    pub guests: Guests,
    /// Folders on nodes.
    pub paths: Paths,
    /// How nodes get a new revision.
    pub update: Update,
    /// What happens when this resource is deleted.
    pub uninstall: Uninstall,
}

impl Default for CocoonRuntimeSpec {
    fn default() -> Self {
        CocoonRuntimeSpec {
            paused: false,
            node_selector: BTreeMap::new(),
            tolerations: Vec::new(),
            platforms: vec![Platform::Auto],
            image: None,
            image_pull_policy: PullPolicy::default(),
            image_pull_secrets: Vec::new(),
            guest_image: GuestImage::default(),
            runtime_classes: RuntimeClasses::default(),
            containerd: Containerd::default(),
            guests: Guests::default(),
            paths: Paths::default(),
            update: Update::default(),
            uninstall: Uninstall::default(),
        }
    }
}

impl CocoonRuntimeSpec {
    /// What a node needs to know of it.
    pub fn settings(&self) -> NodeSettings {
        NodeSettings {
            platforms: self.platforms(),
            guest_image: self.guest_image.clone(),
            containerd: self.containerd.clone(),
            guests: self.guests.clone(),
            paths: self.paths.clone(),
        }
    }

    /// The platforms; `Auto` where a client left the list out.
    pub fn platforms(&self) -> Vec<Platform> {
        if self.platforms.is_empty() { vec![Platform::Auto] } else { self.platforms.clone() }
    }
}

/// What protects pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
pub enum Platform {
    /// The TEE that a node has.
    Auto,
    /// AMD SEV-SNP.
    Snp,
    /// Intel TDX.
    Tdx,
    /// A TPM that the node plays, over measured boot: protects from nobody who controls the node.
    Tpm,
    /// The simulated TEE: protects from nobody.
    Sim,
}

impl Platform {
    /// Its RuntimeClass, which is also containerd's handler.
    pub fn class(self) -> &'static str {
        match self {
            Platform::Auto => crate::BEST_CLASS,
            Platform::Snp => "cocoon-snp",
            Platform::Tdx => "cocoon-tdx",
            Platform::Tpm => "cocoon-tpm",
            Platform::Sim => "cocoon-sim",
        }
    }
}

/// When an image is pulled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum PullPolicy {
    /// Always.
    Always,
    /// Where the node does not have it.
    #[default]
    IfNotPresent,
    /// Never.
    Never,
}

impl PullPolicy {
    /// Kubernetes' word.
    pub fn word(self) -> &'static str {
        match self {
            PullPolicy::Always => "Always",
            PullPolicy::IfNotPresent => "IfNotPresent",
            PullPolicy::Never => "Never",
        }
    }
}

/// The RuntimeClasses.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct RuntimeClasses {
    /// Also make the names of Confidential Containers: kata-qemu-snp, kata-qemu-tdx, kata-qemu-coco-dev.
    pub compatible_names: bool,
    /// What a pod takes on its node beside what its containers ask for.
    pub overhead: Overhead,
}

/// What a pod takes beside what its containers ask for.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Overhead {
    /// The guest's own memory, QEMU and the shim.
    #[schemars(length(min = 1, max = 32), regex(pattern = QUANTITY))]
    pub memory: String,
    /// CPU for QEMU and the shim.
    #[schemars(length(min = 1, max = 32), regex(pattern = QUANTITY))]
    pub cpu: String,
}

impl Default for Overhead {
    fn default() -> Self {
        Overhead { memory: "320Mi".into(), cpu: "100m".into() }
    }
}

/// What happens when the resource is deleted.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Uninstall {
    /// What is done where confidential pods run.
    pub policy: UninstallPolicy,
}

/// What is done where confidential pods run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum UninstallPolicy {
    /// Wait until they have ended, and say which they are.
    #[default]
    Refuse,
    /// Go on: containerd cannot reach them afterwards, and nodes that do not answer are given up.
    Force,
}
