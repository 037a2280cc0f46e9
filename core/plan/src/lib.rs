//! The sandbox plan: what a pod VM may run, decided by the workload's owner.
//!
//! Contract: pure data and decisions. A plan is a typed, versioned, canonical JSON document that travels
//! inside initdata, whose digest the TEE binds. The guest builds every container *from the plan*; the
//! untrusted host can only ask for life-cycle steps of containers that the plan names, and
//! [`decide::Sandbox`] answers each ask. Nothing here reads a clock, a file or the network, and nothing that
//! the plan does not say is allowed.

pub mod asked;
mod check;
pub mod compile;
pub mod decide;
pub mod files;
pub mod host_env;
pub mod images;
mod named;
mod oci;
pub mod open;
pub mod pod;
pub mod sealed;
mod targets;
mod trustee;
mod types;

pub use trustee::{TrusteeConfig, workload_initdata};
pub use types::{
    ContainerPlan, ImagePlan, MAX_PLAN_BYTES, MountPlan, PLAN_FILE, Plan, Restart, Seccomp, SecretPlan,
    SignatureRequirement,
};

use cocoon_stage::{Code, Failure};

/// What can be wrong with a plan.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The document is not JSON of the plan's shape.
    #[error("plan is not valid JSON of the expected shape: {0}")]
    Malformed(serde_json::Error),
    /// The document is of another version.
    #[error("plan version {found} is not supported (this program reads version {supported})")]
    Version {
        /// The version found.
        found: u64,
        /// The version this program reads.
        supported: u64,
    },
    /// The document is larger than [`MAX_PLAN_BYTES`].
    #[error("plan is {0} bytes; at most {MAX_PLAN_BYTES} are allowed")]
    TooLarge(usize),
    /// A field's value is not allowed.
    #[error("plan field {field}: {problem}")]
    Field {
        /// The field, as a path such as `containers[0].args`.
        field: String,
        /// What is wrong with it.
        problem: String,
    },
}

impl Error {
    pub(crate) fn field(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Error::Field { field: field.into(), problem: problem.into() }
    }
}

impl From<Error> for Failure {
    fn from(e: Error) -> Self {
        let code = match &e {
            Error::Version { .. } => Code::PlanVersionUnsupported,
            Error::TooLarge(_) => Code::PlanTooLarge,
            Error::Malformed(_) | Error::Field { .. } => Code::PlanInvalid,
        };
        Failure::new(code, e.to_string())
    }
}
