//! What the process and its child say to each other: one line of JSON each way.

use std::collections::BTreeMap;
use std::path::PathBuf;

use cocoon_cluster_api::NodeSettings;
use serde::{Deserialize, Serialize};

/// What the child is to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// The node's file system as the child finds it.
    pub root: PathBuf,
    /// Folder with `bin/containerd-shim-cocoon-v2` and `guest/`, as the child finds it before it enters `root`.
    pub payload: PathBuf,
    /// Folder of a guest image that was pulled for this, as the child finds it once it has entered `root`.
    #[serde(default)]
    pub guest: Option<PathBuf>,
    /// What.
    pub action: Action,
    /// How.
    pub settings: NodeSettings,
}

/// What the child is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Install, or see that all is as it should be.
    Install,
    /// Uninstall.
    Uninstall {
        /// Although pods run.
        force: bool,
    },
    /// Change nothing.
    Look,
}

/// What came of it, and what is so now.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    /// What came of it.
    pub outcome: Outcome,
    /// What is so now.
    pub state: State,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It is as wished.
    Done {
        /// What was changed, a line each.
        changed: Vec<String>,
        /// What a person should know.
        notes: Vec<String>,
    },
    /// It is not; what had been changed was put back.
    Failed {
        /// A code of docs/errors.md.
        code: String,
        /// A sentence.
        reason: String,
    },
}

impl Default for Outcome {
    fn default() -> Self {
        Outcome::Done { changed: Vec::new(), notes: Vec::new() }
    }
}

/// What is so on the node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    /// The version that new pods get.
    pub version: Option<String>,
    /// Others that are there still.
    pub older: Vec<String>,
    /// containerd's version.
    pub containerd: Option<String>,
    /// Classes that are installed.
    pub classes: Vec<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Guests of the node's TEE at once.
    pub slots: Option<u32>,
    /// Confidential pods that run.
    pub pods: u32,
    /// Installed files, to be watched.
    pub files: Vec<PathBuf>,
}
