//! What the operator needs in a cluster: one list of objects, printed as `cocoon.yaml`, as a Helm chart, or applied.

mod chart;
mod objects;
pub mod rights;
mod uninstall;
mod webhook;
pub mod yaml;

pub use chart::{ChartFile, chart};
pub use objects::{NODE, OPERATOR, PORT, Shape, objects};

use serde_json::Value;

/// The definitions of Cocoon's resources.
pub fn definitions() -> Vec<Value> {
    cocoon_cluster_api::definitions().iter().map(|d| serde_json::to_value(d).unwrap_or_default()).collect()
}

/// Documents as one file.
pub fn file(values: &[Value]) -> String {
    values.iter().map(yaml::document).collect::<Vec<_>>().join("---\n")
}
