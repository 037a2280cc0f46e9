//! Evidence of a TEE: parse it, verify it, turn it into claims.
//!
//! Contract: a pure library. It takes bytes, trusted roots and an instant, and gives a [`Verdict`]; it reads no clock, no
//! device and no network. It runs where the relying party trusts it (Trustee, the owner's CLI); every byte of evidence it is
//! given is hostile. It must never panic on evidence, never take a certificate of the evidence as a root, never let a check
//! pass because something is absent, and never hand out claims of evidence that did not verify.
//!
//! ```
//! use cocoon_evidence::collateral::Collateral;
//! use cocoon_evidence::{Error, Evidence, Expectation, Trust, Verifier};
//!
//! /// The claims of each TEE in the file; or the reason for which one of them is not genuine.
//! fn claims(file: &[u8], nonce: &[u8], now_unix: u64) -> Result<Result<Vec<serde_json::Value>, String>, Error> {
//!     let evidence = Evidence::detect(file)?;
//!     // Ask `evidence.needs()` which documents to find; verification checks whatever is put in.
//!     let collateral = Collateral::none();
//!     let expectation = Expectation { report_data: Some(nonce), init_data_digest: None, now_unix };
//!     let verified = Verifier::new(Trust::default()).verify(&evidence, &collateral, &expectation, &[])?;
//!     let failure = verified.iter().find_map(|v| v.verdict.failure());
//!     Ok(match failure {
//!         None => Ok(verified.into_iter().map(|v| v.verdict.claims).collect()),
//!         Some(failure) => Err(format!("{}: {}", failure.code, failure.reason)),
//!     })
//! }
//!
//! assert!(matches!(claims(b"{}", &[1; 64], 1_793_491_200), Err(Error::Json(_))));
//! let sample = br#"{"svn": "1", "report_data": "AQ=="}"#;
//! let reason = claims(sample, &[1], 1_793_491_200).unwrap().unwrap_err();
//! assert!(reason.starts_with("ATTEST-"), "{reason}");
//! ```

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
