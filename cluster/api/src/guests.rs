//! What guests are and may use.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::containerd::PATH;

/// Where the guest image comes from.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct GuestImage {
    /// A folder on the node that holds a guest image (`cocoon guest build --out`); else the one in the node's container image,
    /// so that the image's version is the guest's.
    #[schemars(length(min = 2, max = 512), regex(pattern = PATH))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_path: Option<String>,
}

/// What executes guests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum Acceleration {
    /// KVM where it works, else emulation.
    #[default]
    Auto,
    /// KVM.
    Kvm,
    /// Emulation: for trying things out.
    Emulated,
}

/// Limits of pods' guests; the class files of nodes get them.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "self.defaultCpus <= self.maxCpus", "message": "defaultCpus must not be above maxCpus"},
    {"rule": "self.defaultMemoryMiB <= self.maxMemoryMiB", "message": "defaultMemoryMiB must not be above maxMemoryMiB"}
]))]
pub struct Guests {
    /// What executes guests.
    pub acceleration: Acceleration,
    /// CPUs of a pod that asks for none.
    #[schemars(range(min = 1, max = 1024))]
    pub default_cpus: u32,
    /// Most CPUs of a pod; one that asks for more gets these.
    #[schemars(range(min = 1, max = 1024))]
    pub max_cpus: u32,
    /// Memory in MiB of a pod that has no limit, the guest's own included.
    #[serde(rename = "defaultMemoryMiB")]
    #[schemars(range(min = 128, max = 16_777_216))]
    pub default_memory_mib: u32,
    /// Most memory in MiB of a pod; one that asks for more is refused.
    #[serde(rename = "maxMemoryMiB")]
    #[schemars(range(min = 128, max = 16_777_216))]
    pub max_memory_mib: u32,
    /// Memory in MiB for the guest itself, beside what a pod's limits allow.
    #[serde(rename = "overheadMemoryMiB")]
    #[schemars(range(min = 64, max = 65_536))]
    pub overhead_memory_mib: u32,
    /// Seconds that a guest may take to announce itself.
    #[schemars(range(min = 5, max = 3600))]
    pub boot_timeout_seconds: u32,
    /// Seconds that a container may take to be created, attestation, secrets and image included.
    #[schemars(range(min = 5, max = 86_400))]
    pub create_timeout_seconds: u32,
    /// Keep guests' consoles on the node.
    pub console: bool,
}

impl Default for Guests {
    fn default() -> Self {
        Guests {
            acceleration: Acceleration::Auto,
            default_cpus: 1,
            max_cpus: 64,
            default_memory_mib: 512,
            max_memory_mib: 1024 * 1024,
            overhead_memory_mib: 192,
            boot_timeout_seconds: 180,
            create_timeout_seconds: 600,
            console: false,
        }
    }
}
