//! One node: what it shall have installed, and has.
#![allow(clippy::duplicated_attributes)] // columns of one type each say so

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Containerd, GuestImage, Guests, Paths, Platform};

/// One node of a CocoonRuntime. Its name is the node's. The operator writes `spec`; the process on that node alone writes
/// `status`, which an admission policy of the cluster sees to.
#[derive(Clone, CustomResource, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[kube(
    group = "cocoon.dev",
    version = "v1alpha1",
    kind = "CocoonNode",
    plural = "cocoonnodes",
    shortname = "ccn",
    category = "cocoon",
    status = "CocoonNodeStatus",
    derive = "PartialEq",
    doc = "What one node shall have installed, and has. Made and removed by the operator; status is written by that node's process.",
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Version", type_ = "string", json_path = ".status.version"),
    printcolumn(name = "Containerd", type_ = "string", json_path = ".status.containerd"),
    printcolumn(name = "Classes", type_ = "string", json_path = ".status.classes"),
    printcolumn(name = "Pods", type_ = "integer", json_path = ".status.runningPods"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.message"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct CocoonNodeSpec {
    /// The CocoonRuntime.
    #[schemars(length(min = 1, max = 63))]
    pub runtime: String,
    /// What is wished.
    #[serde(default)]
    pub state: WantedState,
    /// Uninstall although confidential pods run.
    #[serde(default)]
    pub force: bool,
    /// The revision whose process is to see to it; one of another revision leaves the node alone.
    #[schemars(length(min = 1, max = 63))]
    pub revision: String,
    /// How.
    pub settings: NodeSettings,
}

/// What is wished of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum WantedState {
    /// Cocoon is installed.
    #[default]
    Installed,
    /// Every file is as it was before.
    Absent,
}

/// What a node needs to know of a CocoonRuntime.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeSettings {
    /// What protects pods.
    pub platforms: Vec<Platform>,
    /// The guest image.
    pub guest_image: GuestImage,
    /// containerd.
    pub containerd: Containerd,
    /// Limits of pods' guests.
    pub guests: Guests,
    /// Folders.
    pub paths: Paths,
}

/// What a node has.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct CocoonNodeStatus {
    /// The generation that this is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// How far it is.
    pub phase: Phase,
    /// The revision of the process that says so.
    pub revision: String,
    /// The version that new pods get: release and digest of shim and guest image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Versions that running pods still use, beside that one.
    pub older_versions: Vec<String>,
    /// containerd's version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub containerd: Option<String>,
    /// Classes that can be used here.
    pub classes: Vec<String>,
    /// What the node says of itself; the operator makes node labels of it.
    pub labels: BTreeMap<String, String>,
    /// Guests of the node's TEE at once, if it says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slots: Option<u32>,
    /// Confidential pods when it was last looked.
    pub running_pods: u32,
    /// How often files were put right that someone had changed.
    pub healed: u32,
    /// The code of what went wrong, such as `NODE-CONFIG-REFUSED`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// One sentence.
    pub message: String,
    /// `Ready`.
    pub conditions: Vec<Condition>,
}

/// How far a node is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum Phase {
    /// Nothing was done yet.
    #[default]
    Pending,
    /// Being installed.
    Installing,
    /// Pods can run.
    Ready,
    /// It cannot run what is asked for: no TEE, for one. Nothing was changed on it.
    Unsupported,
    /// Installing or uninstalling failed; the node is as it was.
    Failed,
    /// To be uninstalled, but confidential pods run.
    Blocked,
    /// Uninstalled: every file is as it was before.
    Removed,
}
