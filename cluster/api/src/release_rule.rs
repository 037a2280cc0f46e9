//! A release rule in a Trustee that the cluster runs.
#![allow(clippy::duplicated_attributes)] // columns of one type each say so

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::EntryStatus;
use crate::entry::{NAME, TIME};

const WORKLOAD: &str = "^(any|name:[^\\x00-\\x1f]{1,128}|digest:([0-9a-f]{64}|[0-9a-f]{96}|[0-9a-f]{128}))$";
const PART: &str = "([A-Za-z0-9_-][A-Za-z0-9_.-]*\\*?|\\*)";

/// Which workloads may have which shared secrets. In Trustee the rule's id is `k8s-NAME`.
#[derive(Clone, CustomResource, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[kube(
    group = "cocoon.dev",
    version = "v1alpha1",
    kind = "TrusteeReleaseRule",
    plural = "trusteereleaserules",
    shortname = "trstrule",
    category = "cocoon",
    namespaced,
    status = "EntryStatus",
    derive = "PartialEq",
    doc = "A rule in a Trustee of the same namespace: which workloads may have which shared secrets.",
    printcolumn(name = "Trustee", type_ = "string", json_path = ".spec.trustee"),
    printcolumn(name = "Workload", type_ = "string", json_path = ".spec.workload"),
    printcolumn(name = "Path", type_ = "string", json_path = ".spec.path"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message"
    ),
    printcolumn(name = "Corrected", type_ = "integer", json_path = ".status.corrected", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "self.trustee == oldSelf.trustee", "message": "trustee cannot be changed; make another resource"}
]))]
pub struct TrusteeReleaseRuleSpec {
    /// The Trustee, in the same namespace.
    #[schemars(length(min = 1, max = 40), regex(pattern = NAME))]
    pub trustee: String,
    /// Whom it allows: `any`, `name:NAME` of a registered workload, or `digest:HEX` of initdata.
    #[schemars(length(min = 1, max = 160), regex(pattern = WORKLOAD))]
    pub workload: String,
    /// Which secrets: repository/type/tag, where each part may end in `*`.
    #[schemars(length(min = 5, max = 255), regex(pattern = format!("^{PART}/{PART}/{PART}$")))]
    pub path: String,
    /// The least appraisal of the guest's evidence.
    #[serde(default)]
    pub min_status: LeastStatus,
    /// Whether a simulated TEE is good enough: for trying out, since it proves nothing.
    #[serde(default)]
    pub accept_simulated: bool,
    /// When it ends, such as `2027-01-31T12:00:00Z`; never where it is not given.
    #[schemars(length(max = 20), regex(pattern = TIME))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
    /// A note for people.
    #[schemars(length(max = 500), regex(pattern = "^[^\\x00-\\x1f\\x7f]*$"))]
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
}

/// The least appraisal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum LeastStatus {
    /// Everything is a reference value.
    #[default]
    Affirming,
    /// Small deviations are tolerated.
    Warning,
}

impl LeastStatus {
    /// As Trustee's API writes it.
    pub fn word(self) -> &'static str {
        match self {
            LeastStatus::Affirming => "affirming",
            LeastStatus::Warning => "warning",
        }
    }
}
