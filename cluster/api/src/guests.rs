//! What guests are and may use.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::containerd::PATH;

const REFERENCE: &str = "^[a-z0-9A-Z][a-zA-Z0-9._:/-]*@sha256:[0-9a-f]{64}$";
const NAME: &str = "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$";

/// Where the guest image comes from: a folder of the node, a registry, or else the node's container image, so that the image's
/// version is the guest's.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "!(has(self.hostPath) && has(self.reference))", "message": "give either hostPath or reference"},
    {"rule": "has(self.reference) || !(has(self.publicKey) || has(self.pullSecret) || (has(self.plainHttp) && self.plainHttp))",
     "message": "publicKey, pullSecret and plainHttp are about a reference"}
]))]
pub struct GuestImage {
    /// A folder on the node that holds a guest image (`cocoon guest build --out`).
    #[schemars(length(min = 2, max = 512), regex(pattern = PATH))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_path: Option<String>,
    /// A guest image in a registry (`cocoon guest push`), with its digest: REGISTRY/NAME@sha256:…
    #[schemars(length(min = 1, max = 512), regex(pattern = REFERENCE))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// The public key, in PEM, by which it must be signed (`cocoon image sign`, cosign).
    #[schemars(length(min = 1, max = 4096))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub public_key: Option<String>,
    /// A Secret of type kubernetes.io/dockerconfigjson, in the operator's namespace, with credentials for its registry.
    #[schemars(length(min = 1, max = 253), regex(pattern = NAME))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pull_secret: Option<String>,
    /// Ask its registry without TLS. The content is what the digest says all the same; credentials are never sent so.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub plain_http: bool,
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
