//! What is read of an OCI runtime-spec document (config.json, version 1.x) that a host sends: hostile input, of which
//! nothing counts but these fields.

use std::collections::BTreeMap;

use serde::Deserialize;

/// Largest document, in bytes.
pub const MAX_SPEC: usize = 2 << 20;

#[derive(Deserialize)]
pub(crate) struct Spec {
    pub(crate) process: Process,
    #[serde(default)]
    pub(crate) root: Root,
    #[serde(default)]
    pub(crate) mounts: Option<Vec<Mount>>,
    #[serde(default)]
    pub(crate) linux: Linux,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Process {
    #[serde(default)]
    pub(crate) terminal: bool,
    #[serde(default)]
    pub(crate) user: User,
    #[serde(default)]
    pub(crate) args: Vec<String>,
    #[serde(default)]
    pub(crate) env: Option<Vec<String>>,
    pub(crate) cwd: String,
    #[serde(default)]
    pub(crate) capabilities: Option<Capabilities>,
    #[serde(default)]
    pub(crate) no_new_privileges: bool,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct User {
    #[serde(default)]
    pub(crate) uid: u32,
    #[serde(default)]
    pub(crate) gid: u32,
    #[serde(default)]
    pub(crate) additional_gids: Option<Vec<u32>>,
}

#[derive(Default, Deserialize)]
pub(crate) struct Capabilities {
    #[serde(default)]
    pub(crate) bounding: Option<Vec<String>>,
}

#[derive(Default, Deserialize)]
pub(crate) struct Root {
    #[serde(default)]
    pub(crate) readonly: bool,
}

#[derive(Deserialize)]
pub(crate) struct Mount {
    pub(crate) destination: String,
    #[serde(default, rename = "type")]
    pub(crate) kind: String,
    #[serde(default)]
    pub(crate) source: String,
    #[serde(default)]
    pub(crate) options: Option<Vec<String>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Linux {
    #[serde(default)]
    pub(crate) sysctl: Option<BTreeMap<String, String>>,
    #[serde(default)]
    pub(crate) seccomp: Option<serde_json::Value>,
    #[serde(default)]
    pub(crate) masked_paths: Option<Vec<String>>,
    #[serde(default)]
    pub(crate) namespaces: Option<Vec<Namespace>>,
}

/// A namespace of its own, or, with a path, one that is there.
#[derive(Default, Deserialize)]
pub(crate) struct Namespace {
    #[serde(default, rename = "type")]
    pub(crate) kind: String,
    #[serde(default)]
    pub(crate) path: String,
}
