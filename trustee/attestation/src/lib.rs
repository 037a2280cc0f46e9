//! The verification service: evidence in, appraisal and token claims out.
//!
//! Runs inside Trustee, on the workload owner's side. Everything in an [`AppraisalRequest`] but the instant and the
//! report data comes from the guest and is hostile. The verdict on the evidence is `cocoon_evidence`'s; this crate
//! compares the verified claims with reference values, by native rules or by the owner's Rego policies, and words the
//! result as an EAR (draft-ietf-rats-ear, in the shape upstream's guests and relying parties read).
//!
//! It never makes claims of evidence that did not verify, never lets simulated evidence meet a real reference value
//! or real evidence a simulated one, and gives no token at all for an unknown measurement unless configured to.
//! It signs nothing: that is the server's.

mod appraiser;
mod claims;
mod error;
mod native;
mod remote;
mod request;
mod verifiers;

pub use appraiser::{Appraisal, Appraiser, Config};
pub use claims::token_claims;
pub use error::Error;
pub use request::{AppraisalRequest, Binding, Item, MAX_ITEMS};
pub use verifiers::{CollateralSource, Gathered, NoCollateral, RemoteVerifier, Trust};
