//! The guest's one conversation with Trustee: attest once, fetch secrets and keys, serve them to the workload.
//!
//! Contract: runs inside the TEE. Trustee's address and certificate come from the measured initdata and from nowhere
//! else. One attestation session is shared by all users (single flight). Secrets stay in zeroizing memory and are
//! served only on loopback, and only those that the plan names. Failures carry their code; reasons go to the
//! guest's console at most, never to the host.

mod hub;
mod proof;
mod rest;

pub use hub::DataHub;
pub use proof::serve_proof;
pub use rest::serve_rest;
