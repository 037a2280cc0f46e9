//! AMD SEV-SNP: attestation reports, their certificates, and what must hold of both.
//!
//! Sources: AMD 56860 (SEV-SNP firmware ABI) for the report, AMD 57230 (VCEK certificate and KDS interface) for
//! certificates. The JSON forms are those that CoCo's attesters and verifiers exchange.

mod array;
mod builder;
mod cache;
mod certificate;
mod claims;
mod collateral;
mod evidence;
mod report;
mod revocation;
mod rules;
#[cfg(test)]
mod rules_tests;
mod tcb;
#[cfg(test)]
mod tests;
mod verify;

pub use builder::ReportBuilder;
pub use cache::ChainCache;
pub use certificate::oid;
pub use claims::claims;
pub use collateral::{Roots, SIMULATED_MARK, SimulatedRoot};
pub use evidence::{CertEntry, Evidence};
pub use report::{FirmwareVersion, Report, ReportFields, Signature};
pub use rules::Rules;
pub use tcb::{Generation, Tcb};
pub use verify::{needs, verify, verify_cached};
