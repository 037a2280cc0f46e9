//! The operator: makes a cluster's nodes and objects what Cocoon's resources ask for.
//!
//! Contract: it works by the API server alone and touches no node itself; each node's process does that (`cluster/node`). It is
//! told of changes by watches and asks nothing in between, sends what differs and nothing else, and may be killed at any point:
//! the next pass finds the cluster as it is. One operator works at a time.
//!
//! Trust: the control plane, which confidential workloads do not trust. It holds no secret of a workload, except where a cluster's
//! owner has it run a Trustee.

mod apply;
mod context;
pub mod deploy;
mod error;
mod health;
pub mod image;
mod lease;
pub mod manifests;
mod requests;
mod run;
pub mod runtime;
pub mod trustee;
mod watch;
pub mod webhook;

pub use context::Context;
pub use error::Error;
pub use run::{Settings, run};
