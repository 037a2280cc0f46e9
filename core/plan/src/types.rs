//! The plan document, version 1: its types, its limits and its canonical form.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::images::{ImageSettings, SharedLayer};
use crate::pod::{ContainerKind, DevicePlan, ExecRules, VolumePlan};
use crate::sealed::{SealedPlan, SecretVariable};

/// The name of the plan's file in initdata's `[data]` table.
pub const PLAN_FILE: &str = "plan.json";

/// Largest plan in bytes: it must fit the 256 KiB annotation together with everything else in initdata.
pub const MAX_PLAN_BYTES: usize = 192 * 1024;

pub(crate) const VERSION: u64 = 1;

/// A sandbox plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Format version; 1.
    pub version: u64,
    /// The workload's name, for people: `[a-z0-9.-]`, 1 to 63 characters.
    pub name: String,
    /// A random value that makes two plans of the same workload differ, so that each run has a digest, and so
    /// secrets, of its own. Hex, at most 64 characters.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub instance: String,
    /// The containers, in start order.
    pub containers: Vec<ContainerPlan>,
    /// The secrets that the guest fetches before any container starts.
    #[serde(default)]
    pub secrets: Vec<SecretPlan>,
    /// Variables that every container gets from Trustee.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secret_env: Vec<SecretVariable>,
    /// Sealed secrets of the cluster that the guest unseals.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sealed: Vec<SealedPlan>,
    /// Whether the workload may ask for tokens and evidence of its own (`/aa/…` on its REST endpoint). With evidence it
    /// can act towards Trustee as the guest itself, and so fetch image keys and registry credentials.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub attestation_api: bool,
    /// `kbs:///…` of a registry `auth.json`, where the images need credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registry_auth: Option<String>,
    /// How images reach the guest, and which it may take.
    #[serde(default, skip_serializing_if = "ImageSettings::is_default")]
    pub images: ImageSettings,
    /// What containers may mount beside their own tmpfs; shared by the pod's containers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<VolumePlan>,
    /// Kernel settings of the pod: dotted names below `/proc/sys`, such as `net.core.somaxconn`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sysctls: BTreeMap<String, String>,
    /// Whether the pod's containers see each other's processes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub share_process_namespace: bool,
    /// TCP ports of the pod's loopback to which the host may forward connections (`kubectl port-forward`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub forward_ports: Vec<u16>,
    /// Whether a container that the host describes otherwise than the plan (another image, argument, variable, mount or
    /// user) is refused, with what differs. Without it the plan's is run all the same, whatever the host says of it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub exact: bool,
}

/// One container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContainerPlan {
    /// The name by which the host asks for it: `[a-z0-9.-]`, 1 to 63 characters, unique in the plan.
    pub name: String,
    /// When it runs, and how often.
    #[serde(default, skip_serializing_if = "ContainerKind::is_app")]
    pub kind: ContainerKind,
    /// The image, pinned by digest.
    pub image: ImagePlan,
    /// Program and arguments; never empty.
    pub args: Vec<String>,
    /// Environment as `NAME=value`, in order.
    #[serde(default)]
    pub env: Vec<String>,
    /// Names of further variables that the host may set, untrusted: service discovery, downward API. A `*` may stand for
    /// any characters, at the beginning or the end. A name that `env` sets is never the host's to change.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub host_env: Vec<String>,
    /// Working directory, absolute.
    pub cwd: String,
    /// User as in an image config: empty (root), `user`, `uid`, `user:group` or `uid:gid`. Names are looked up
    /// in the verified image's `/etc/passwd` and `/etc/group`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// Groups beside those of `user`: `fsGroup` and `supplementalGroups`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<u32>,
    /// Refuse to start where `user` turns out to be root.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub run_as_non_root: bool,
    /// Linux capabilities kept (`CAP_…`), as bounding, permitted, effective and inheritable set.
    #[serde(default)]
    pub capabilities: Vec<String>,
    /// Whether `no_new_privs` is set.
    pub no_new_privileges: bool,
    /// Whether the root file system is read-only.
    #[serde(default)]
    pub read_only_root: bool,
    /// The system call filter.
    pub seccomp: Seccomp,
    /// A profile (OCI runtime-spec, Linux, seccomp) in place of `seccomp`'s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seccomp_profile: Option<serde_json::Value>,
    /// Whether nothing of `/proc` and `/sys` is masked or read-only (`procMount: Unmasked`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unmasked: bool,
    /// Mounts beside the standard ones (/proc, /dev, /sys, /tmp stays in the image).
    #[serde(default)]
    pub mounts: Vec<MountPlan>,
    /// Block volumes as devices.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<DevicePlan>,
    /// What the host may run in it: probes, hooks, `kubectl exec`.
    #[serde(default, skip_serializing_if = "ExecRules::is_none")]
    pub exec: ExecRules,
    /// Absolute path of the file, at most 4 KiB of which the host may read once the container ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub termination_message: Option<String>,
    /// Whether the container has a terminal.
    #[serde(default)]
    pub terminal: bool,
    /// Whether the host may write to standard input.
    #[serde(default)]
    pub stdin: bool,
    /// Whether the host may read standard output and error.
    pub logs: bool,
    /// What happens when it ends.
    pub restart: Restart,
    /// The signal that asks it to stop, as a number (15 = SIGTERM).
    pub stop_signal: u32,
}

/// An image pinned by digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImagePlan {
    /// The reference as the owner wrote it; signature policy is decided on this name. A digest in it must be `digest`.
    pub reference: String,
    /// The manifest's (or index's) digest, `sha256:<64 hex>`.
    pub digest: String,
    /// The signature that the image must carry, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<SignatureRequirement>,
    /// Its layers as block devices that the host attaches, lowest first; without it the guest pulls the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layers: Option<Vec<SharedLayer>>,
}

/// A signature that an image must carry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignatureRequirement {
    /// The public key, PEM (SubjectPublicKeyInfo).
    pub key_pem: String,
}

/// The system call filter of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Seccomp {
    /// The guest's built-in profile.
    RuntimeDefault,
    /// No filter.
    Unconfined,
}

/// What happens when a container ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    /// It stays ended.
    Never,
    /// The host may run it again where its exit status was not 0.
    OnFailure,
    /// The host may run it again.
    Always,
}

/// A mount beside the standard ones.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", deny_unknown_fields)]
pub enum MountPlan {
    /// An empty directory in the guest's encrypted memory.
    Tmpfs {
        /// Absolute path in the container.
        target: String,
        /// Size limit in bytes.
        size: u64,
    },
    /// One of the plan's volumes.
    Volume {
        /// Absolute path in the container.
        target: String,
        /// The volume's name.
        volume: String,
        /// A path below the volume, in place of its root.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        sub_path: String,
        /// Whether the container may only read it.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        read_only: bool,
    },
}

impl MountPlan {
    /// Absolute path in the container.
    pub fn target(&self) -> &str {
        match self {
            MountPlan::Tmpfs { target, .. } | MountPlan::Volume { target, .. } => target,
        }
    }
}

/// A secret that the guest fetches from Trustee before any container starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretPlan {
    /// `kbs:///<repository>/<type>/<tag>`.
    pub uri: String,
    /// Absolute path of the file in every container, or none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
}

impl Plan {
    /// Reads and checks a plan.
    ///
    /// # Errors
    /// [`Error`] for a document that is too large, malformed, of another version, or whose values are not allowed.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        if bytes.len() > MAX_PLAN_BYTES {
            return Err(Error::TooLarge(bytes.len()));
        }
        // The version is looked at first, so that a newer plan is named as such and not as malformed.
        #[derive(Deserialize)]
        struct Versioned {
            version: u64,
        }
        let versioned: Versioned = serde_json::from_slice(bytes).map_err(Error::Malformed)?;
        if versioned.version != VERSION {
            return Err(Error::Version { found: versioned.version, supported: VERSION });
        }
        let plan: Plan = serde_json::from_slice(bytes).map_err(Error::Malformed)?;
        plan.check()?;
        Ok(plan)
    }

    /// The canonical form (RFC 8785): the bytes that go into initdata.
    ///
    /// # Errors
    /// [`Error`] where the plan is not a valid one.
    pub fn to_canonical(&self) -> Result<Vec<u8>, Error> {
        self.check()?;
        let value = serde_json::to_value(self).map_err(Error::Malformed)?;
        let bytes =
            cocoon_protocol::jcs::canonicalize(&value).map_err(|e| Error::field("plan", e.to_string()))?;
        if bytes.len() > MAX_PLAN_BYTES {
            return Err(Error::TooLarge(bytes.len()));
        }
        Ok(bytes)
    }

    /// The container of this name.
    pub fn container(&self, name: &str) -> Option<&ContainerPlan> {
        self.containers.iter().find(|c| c.name == name)
    }
}

#[cfg(test)]
#[path = "types_tests.rs"]
pub(crate) mod tests;
