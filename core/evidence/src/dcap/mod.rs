//! Intel DCAP: quotes of SGX enclaves and TDX trust domains, and the collateral that says what they are worth.
//!
//! A quote is signed by a key of Intel's quoting enclave; that enclave's report is signed by the platform's key; that key
//! is certified by Intel (PCK certificate). TCB information, identity of the quoting enclave and revocation lists are
//! documents of Intel that a provider fetches ([`needs`]); every one is required, and verified up to the root that the
//! platform's own chain ends in. [`crate::tdx`] and [`crate::sgx`] add what the quote attests.
//!
//! Sources: Intel SGX ECDSA and TDX DCAP quoting library API (quotes), Intel SGX PCK certificate and CRL profile
//! specification, Intel PCS API version 4 (collateral), Intel's quote verification library (order and rules of checks).

mod cache;
mod chain;
mod claims;
mod enclave;
mod endorse;
mod identity;
mod pck;
mod quote;
mod quote_collateral;
mod roots;
mod rules;
mod signed;
#[cfg(test)]
pub(crate) mod simulator;
mod status;
mod tcb;
mod tcb_info;
mod td;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_collateral;
#[cfg(test)]
mod tests_tcb;
mod time;
mod verify;

pub use cache::Cache;
pub use enclave::EnclaveReport;
pub use endorse::{needs, update_window};
pub use pck::{Configuration, Pck, SgxType};
pub use quote::{Body, Header, INTEL_QE, MAX_QUOTE, Quote};
pub use quote_collateral::quote_collateral;
pub use roots::Roots;
pub use rules::{Rules, Trust};
pub use status::TcbStatus;
pub use td::{TdReport, Tdx15};
pub(crate) use verify::verify;
pub use verify::verify_offline;
