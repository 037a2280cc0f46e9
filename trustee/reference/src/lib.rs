//! Reference values: what a good guest and a good platform measure to, who said so, and until when.
//!
//! Runs on the workload owner's side, inside Trustee. Records live in Trustee's store; documents of publishers
//! ([`Format`]) are imported only with a signature that leads to [`TrustAnchors`], unless the caller, who has
//! authenticated an administrator, says otherwise. Everything read here is hostile input: sizes and depths are bounded,
//! nothing panics, nothing is fetched. It never makes a verdict: an expired value never counts, a damaged record is an
//! error, and what a document says in a way not understood here is never accepted in its place.

mod certificate;
mod cocoon;
mod corim;
mod cose;
mod document;
mod dsse;
mod error;
mod import;
mod in_toto;
mod json;
mod sample;
mod sets;
mod store;
mod swid;
mod trust;
mod value;

#[cfg(test)]
mod tests;

pub use cocoon::{SetDocument, sign_set};
pub use document::{Format, MAX_MESSAGE, message};
pub use error::Error;
pub use import::ImportOptions;
pub use sets::{Change, Set, diff};
pub use store::ReferenceValues;
pub use trust::{AnchorKey, TrustAnchors};
pub use value::{DEFAULT_SET, ReferenceValue, contains};
