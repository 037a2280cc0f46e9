//! How nodes get a new revision.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How nodes get a new revision.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Update {
    /// Whether nodes follow by themselves.
    pub strategy: UpdateStrategy,
    /// Nodes that may be changed at once: a number, or a share of all, rounded up.
    #[schemars(schema_with = "int_or_share")]
    pub max_unavailable: IntOrString,
    /// The pod that tries a new revision on the first node.
    pub canary: Canary,
    /// Seconds until a node must have followed: its process started, its guest image pulled, Cocoon installed. One that takes
    /// longer has failed.
    #[schemars(range(min = 10, max = 86_400))]
    pub progress_deadline_seconds: u32,
    /// What happens where a node fails with the new revision.
    pub on_failure: OnFailure,
}

impl Default for Update {
    fn default() -> Self {
        Update {
            strategy: UpdateStrategy::Rolling,
            max_unavailable: IntOrString::String("10%".into()),
            canary: Canary::default(),
            progress_deadline_seconds: 600,
            on_failure: OnFailure::RollBack,
        }
    }
}

impl Update {
    /// How many of `nodes` may be changed at once; at least 1.
    pub fn budget(&self, nodes: usize) -> usize {
        let wished = match &self.max_unavailable {
            IntOrString::Int(n) => usize::try_from(*n).unwrap_or(1),
            IntOrString::String(text) => {
                let share =
                    text.strip_suffix('%').and_then(|t| t.parse::<usize>().ok()).unwrap_or(0).min(100);
                nodes.saturating_mul(share).div_ceil(100)
            }
        };
        wished.max(1)
    }
}

/// Whether nodes follow by themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum UpdateStrategy {
    /// One after another within the budget.
    #[default]
    Rolling,
    /// A node follows when its CocoonNode is deleted, or when it joins.
    OnDelete,
}

/// What happens where a node fails with the new revision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum OnFailure {
    /// All nodes get the revision before it back.
    #[default]
    RollBack,
    /// No further node is changed.
    Halt,
}

/// The pod that tries a new revision on the first node.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Canary {
    /// Whether there is one.
    pub enabled: bool,
    /// Seconds until its guest must have answered.
    #[schemars(range(min = 10, max = 3600))]
    pub timeout_seconds: u32,
}

impl Default for Canary {
    fn default() -> Self {
        Canary { enabled: true, timeout_seconds: 300 }
    }
}

fn int_or_share(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    // The pattern binds texts alone, the limits numbers.
    schemars::json_schema!({
        "x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}],
        "pattern": "^([1-9][0-9]?|100)%$", "minimum": 1, "maximum": 100_000,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_never_nothing() {
        let with = |max_unavailable| Update { max_unavailable, ..Update::default() };
        assert_eq!(with(IntOrString::String("10%".into())).budget(0), 1);
        assert_eq!(with(IntOrString::String("10%".into())).budget(11), 2);
        assert_eq!(with(IntOrString::String("100%".into())).budget(7), 7);
        assert_eq!(with(IntOrString::String("x".into())).budget(7), 1);
        assert_eq!(with(IntOrString::Int(-3)).budget(7), 1);
        assert_eq!(with(IntOrString::Int(3)).budget(7), 3);
    }
}
