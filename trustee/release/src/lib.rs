//! Who may have which secret: registered workloads, shared resources, and the decision on one request.
//!
//! Runs inside Trustee, on the workload owner's side. Input are the claims of a token whose signature was verified
//! by the caller, and a resource path from the guest; the path is hostile. Deny by default: a secret leaves only
//! where the guest's registration (known by the initdata digest that its TEE's evidence binds), a release rule or, for
//! shared secrets, the owner's resource policy allows it, and the appraisal is at least what these ask.
//!
//! It never releases on a claim that is absent or of another type, never tells an unauthorised guest whether a
//! path exists, and keeps every value sealed at rest. Every decision comes with its steps for the owner.

mod claims;
mod decide;
mod error;
mod explanation;
mod path;
mod registry;
mod rule;
mod rules;
mod source;
mod workload;

pub use claims::bound_init_data;
pub use decide::{Decision, PolicyGate, Release, decide};
pub use error::Error;
pub use explanation::{Explanation, Step, Subject};
pub use path::ResourcePath;
pub use registry::Registry;
pub use rule::{PathPattern, Rule, Selector};
pub use rules::Rules;
pub use source::SharedSource;
pub use workload::{MAX_SECRET, MinStatus, Registration, Workload};
