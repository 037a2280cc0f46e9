//! Evidence of a TEE: parse it, verify it, turn it into claims.
//!
//! Contract: a pure library. It takes bytes, trusted roots and an instant, and gives a [`Verdict`]; it reads no clock, no
//! device and no network. It runs where the relying party trusts it (Trustee, the owner's CLI); every byte of evidence it is
//! given is hostile. It must never panic on evidence, never take a certificate of the evidence as a root, never let a check
//! pass because something is absent, and never hand out claims of evidence that did not verify.

mod error;
mod evidence;
mod expectation;
mod memory;
mod reader;
mod sm;
#[cfg(test)]
mod testing;
mod verdict;
mod verifier;

pub mod azure;
pub mod cca;
pub mod collateral;
pub mod csv;
pub mod dcap;
pub mod dcu;
pub mod dpu;
pub mod eventlog;
pub mod nvidia;
pub mod sample;
pub mod se;
pub mod sgx;
pub mod snp;
pub mod tdx;
pub mod tpm;
pub mod x509;

pub use error::Error;
pub use evidence::Evidence;
pub use expectation::Expectation;
pub use verdict::{Check, Verdict};
pub use verifier::{Trust, Verified, Verifier};
