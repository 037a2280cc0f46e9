//! Reference values in a Trustee that the cluster runs.
#![allow(clippy::duplicated_attributes)] // columns of one type each say so

use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::EntryStatus;
use crate::entry::{NAME, TIME};

/// Reference values of one source. What is accepted for a name is the union of all sources'. In Trustee their source is
/// `kubernetes NAMESPACE/NAME`.
#[derive(Clone, CustomResource, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[kube(
    group = "cocoon.dev",
    version = "v1alpha1",
    kind = "TrusteeReferenceValues",
    plural = "trusteereferencevalues",
    shortname = "trstrv",
    category = "cocoon",
    namespaced,
    status = "EntryStatus",
    derive = "PartialEq",
    doc = "Reference values in a Trustee of the same namespace: what evidence of guests is compared with.",
    printcolumn(name = "Trustee", type_ = "string", json_path = ".spec.trustee"),
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
    {"rule": "self.trustee == oldSelf.trustee", "message": "trustee cannot be changed; make another resource"},
    {"rule": "self.values.all(n, size(n) <= 200 && n.matches('^[!-\"$-~][ -\"$-~]*$'))", "message": "a name of a reference value is at most 200 printable ASCII characters without #"}
]))]
pub struct TrusteeReferenceValuesSpec {
    /// The Trustee, in the same namespace.
    #[schemars(length(min = 1, max = 40), regex(pattern = NAME))]
    pub trustee: String,
    /// What is accepted, by name, such as `snp_launch_measurement`: texts, and numbers where evidence has numbers (levels of a
    /// TCB).
    #[schemars(schema_with = "values")]
    pub values: BTreeMap<String, Vec<Value>>,
    /// When they end to count, such as `2027-01-31T12:00:00Z`; never where it is not given.
    #[schemars(length(max = 20), regex(pattern = TIME))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
}

fn values(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "description": "What is accepted, by name, such as `snp_launch_measurement`: texts, and numbers where evidence has numbers \
                        (levels of a TCB).",
        "type": "object",
        "minProperties": 1,
        "maxProperties": 256,
        "additionalProperties": {
            "type": "array", "minItems": 1, "maxItems": 256,
            "items": {"x-kubernetes-int-or-string": true, "maxLength": 4096},
        },
    })
}
