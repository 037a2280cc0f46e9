//! What resources about the content of a Trustee have in common.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The Trustee's and a Secret's name.
pub(crate) const NAME: &str = "^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$";
/// A time such as `2027-01-31T12:00:00Z` (RFC 3339, UTC, whole seconds).
pub(crate) const TIME: &str = "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$";
/// The finalizer of all of them: what they put into a Trustee is taken out before they go.
pub const ENTRY_FINALIZER: &str = "cocoon.dev/taken-out-of-trustee";

/// How far it is.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct EntryStatus {
    /// The generation that this is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// What Trustee has of it: names of reference values, the rule's id, or paths of secrets, as `cocoon` shows them.
    pub installed: Vec<String>,
    /// How often Trustee was found to differ, and put right.
    pub corrected: u32,
    /// `Ready`.
    pub conditions: Vec<Condition>,
}
