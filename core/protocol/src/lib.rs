//! The wire formats between guest and Trustee: KBS messages, JWE, tokens, initdata, resource URIs.
//!
//! Contract: pure functions over bytes; no network, no clock (instants are passed in), no device. Everything parsed
//! here is hostile input: sizes are bounded, nothing panics, nothing is accepted because it is absent. Byte layouts
//! follow KBS protocol 0.4.0 as existing guests and servers speak it, and on the server's side 0.2.0 and 0.1.1. Used on both sides of the trust boundary.

pub mod b64;
pub mod bounds;
pub mod dialect;
mod error;
mod hash;
pub mod initdata;
pub mod jcs;
pub mod jwe;
pub mod jwk;
mod keypair;
pub mod messages;
mod proof;
mod report_data;
pub mod sealed;
mod tee;
pub mod token;
pub mod tpm;
pub mod uri;

pub use error::Error;
pub use hash::HashAlgorithm;
pub use keypair::TeeKeyPair;
pub use proof::{NONCE_BYTES, PROOF_PATH, PROOF_PORT, Proof, proof_nonce, proof_report_data};
pub use report_data::{device_report_data, report_data};
pub use tee::Tee;
