//! Entries of a Secret as shared secrets of a Trustee that the cluster runs.
#![allow(clippy::duplicated_attributes)] // columns of one type each say so

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::EntryStatus;
use crate::entry::NAME;

const PATH: &str = "^[A-Za-z0-9_-][A-Za-z0-9_.-]*/[A-Za-z0-9_-][A-Za-z0-9_.-]*/[A-Za-z0-9_-][A-Za-z0-9_.-]*$";

/// Shared secrets of a Trustee, taken from a Secret of the same namespace and followed when it changes. Workloads get them where a
/// registration or a rule allows their paths.
#[derive(Clone, CustomResource, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[kube(
    group = "cocoon.dev",
    version = "v1alpha1",
    kind = "TrusteeSecret",
    plural = "trusteesecrets",
    shortname = "trstsec",
    category = "cocoon",
    namespaced,
    status = "EntryStatus",
    derive = "PartialEq",
    doc = "Entries of a Secret as shared secrets of a Trustee of the same namespace.",
    printcolumn(name = "Trustee", type_ = "string", json_path = ".spec.trustee"),
    printcolumn(name = "Secret", type_ = "string", json_path = ".spec.secretName"),
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
pub struct TrusteeSecretSpec {
    /// The Trustee, in the same namespace.
    #[schemars(length(min = 1, max = 40), regex(pattern = NAME))]
    pub trustee: String,
    /// The Secret, in the same namespace.
    #[schemars(length(min = 1, max = 253), regex(pattern = NAME))]
    pub secret_name: String,
    /// Which entry becomes which shared secret; a path is named once.
    #[schemars(
        length(min = 1, max = 64),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["path"])
    )]
    pub entries: Vec<SecretEntry>,
}

/// An entry and where it goes.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretEntry {
    /// The Secret's entry.
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[-._a-zA-Z0-9]+$"))]
    pub key: String,
    /// The shared secret: repository/type/tag.
    #[schemars(length(min = 5, max = 255), regex(pattern = PATH))]
    pub path: String,
}
