//! Workloads on a cluster: from ordinary manifests to attested pods.
//!
//! The cluster is not trusted: what it answers is read as hostile, and what counts about a pod is what Trustee verified.

mod apply;
mod cluster;
mod compile;
mod diff;
mod doctor;
mod explain;
mod forward;
mod guest;
mod kubectl;
mod manifests;
mod plugin;
mod pods;
mod statement;
mod status;
mod trouble;
mod verify;
mod wait;
mod words;

pub use apply::apply;
pub use doctor::doctor;
pub use explain::{explain_plan, explain_pod, is_pod};
pub use kubectl::{Wish, kubectl};
pub use plugin::{COMPLETION, PLUGIN, complete, krew};
pub use pods::registered_name;
pub use status::status;
pub use verify::verify;
