//! Workloads on a cluster: from ordinary manifests to attested pods.
//!
//! The cluster is not trusted: what it answers is read as hostile, and what counts about a pod is what Trustee verified.

mod apply;
mod cluster;
mod compile;
mod diff;
mod explain;
mod forward;
mod guest;
mod manifests;
mod pods;
mod statement;
mod status;
mod trouble;
mod verify;
mod wait;

pub use apply::apply;
pub use explain::{explain_plan, explain_pod, is_pod};
pub use status::status;
pub use verify::verify;
