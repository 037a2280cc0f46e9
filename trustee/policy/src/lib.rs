//! Policies of Trustee in Rego: appraisal of evidence, release of resources, their versions and dry runs.
//!
//! Runs on the workload owner's side, inside Trustee. A policy is written by an administrator, its input by whoever
//! sends evidence: both are hostile here. A policy sees its input, the reference values it asks for and the clock,
//! nothing else: no network, file or environment. It has bounded text, depth, time and builtin output, and runs in a
//! thread of its own, so that whatever it does ends in an [`Error`] and never in an affirming verdict.
//!
//! - [`Compiled`]: parsed once, evaluated many times, by any number of threads.
//! - [`Policies`]: versions of policies in a store, with roll back.
//! - [`default_policy`], [`resource_sample`]: the policies that come with Trustee.
//! - [`dry_run`]: what a policy would say.

mod cache;
mod compiled;
mod defaults;
mod dry;
mod error;
mod graph;
mod guard;
mod json;
mod outcome;
mod policies;
mod record;
mod run;
mod shape;
mod tokens;
mod weigh;

pub use compiled::{Compiled, Kind, References};
pub use defaults::{RESOURCE_SAMPLES, default_policy, resource_sample};
pub use dry::{DryRun, dry_run};
pub use error::Error;
pub use outcome::{Asked, AttestationOutcome, Trace};
pub use policies::{Policies, RESOURCE_POLICY_ID};
pub use record::{MAX_VERSIONS, PolicyVersion};

/// Longest policy text in bytes (256 KiB).
pub const MAX_TEXT: usize = 256 * 1024;

/// Longest input of an evaluation, as the bytes of its names and values (4 MiB).
pub const MAX_INPUT: usize = 4 * 1024 * 1024;

/// How long an evaluation may take.
pub const TIME_LIMIT: std::time::Duration = std::time::Duration::from_secs(2);

#[cfg(test)]
mod tests;
