//! How far a CocoonRuntime is.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How far a CocoonRuntime is.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct CocoonRuntimeStatus {
    /// The generation that this is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Nodes, counted.
    pub nodes: NodeCounts,
    /// Which revisions nodes have.
    pub revisions: Revisions,
    /// The RuntimeClasses.
    pub classes: Vec<String>,
    /// Nodes that fail, at most ten.
    pub failing: Vec<Failing>,
    /// `Ready`, `Progressing`, `Degraded`.
    pub conditions: Vec<Condition>,
}

/// Nodes, counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeCounts {
    /// That the selector names.
    pub selected: u32,
    /// On which pods can run.
    pub ready: u32,
    /// With the target revision.
    pub updated: u32,
    /// That cannot run what is asked for.
    pub unsupported: u32,
    /// On which installing failed.
    pub failed: u32,
    /// That are being cleaned.
    pub removing: u32,
}

/// Revisions: each is an image together with settings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Revisions {
    /// What the spec comes to.
    pub target: String,
    /// The last one that all nodes had.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stable: Option<String>,
    /// One that failed and is not tried again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused_because: Option<String>,
    /// The revision that a canary pod has shown to work.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tried: Option<String>,
}

/// A node that fails.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Failing {
    /// Its name.
    pub node: String,
    /// The code.
    pub code: String,
    /// What it says.
    pub message: String,
}
