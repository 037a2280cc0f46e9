//! Who may have which secret: registered workloads, shared resources, and the decision on one request.
//!
//! Runs inside Trustee, on the workload owner's side. Input are the claims of a token whose signature was verified
//! by the caller, and a resource path from the guest; the path is hostile. Deny by default: a secret leaves only
//! to a registered, unexpired workload, known by the initdata digest that its TEE's evidence binds, on a guest whose
//! appraisal is at least what the registration asks.
//!
//! It never releases on a claim that is absent or of another type, never tells an unauthorised guest whether a
//! path exists, and keeps every value sealed at rest. Every decision comes with its steps for the owner.

mod claims;
mod decide;
mod error;
mod explanation;
mod path;
mod registry;
mod workload;

pub use decide::{Decision, Release, decide};
pub use error::Error;
pub use explanation::{Explanation, Step, Subject};
pub use path::ResourcePath;
pub use registry::Registry;
pub use workload::{MAX_SECRET, MinStatus, Registration, Workload};
