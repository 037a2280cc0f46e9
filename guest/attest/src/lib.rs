//! Collects evidence: one file per platform, chosen by what the guest finds.
//!
//! Contract: runs inside the TEE. An attester gets report data and gives the evidence JSON of its TEE in the form
//! that KBS verifiers read. It never invents evidence: where the platform gives none, it fails with
//! `ATTEST-EVIDENCE-UNAVAILABLE`. There is no silent fall-back to a sample attester.

mod measured;
mod sim;
mod snp;
mod tdx;
pub mod tpm;
mod tsm;

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
pub use cocoon_evidence::eventlog::Aael;
use cocoon_protocol::Tee;
use cocoon_protocol::tpm::{Candidature, CredentialChallenge};
use cocoon_stage::{Code, Failure};
use serde_json::Value;

/// Something that makes evidence.
#[async_trait]
pub trait Attester: Send + Sync {
    /// The kind of TEE.
    fn tee(&self) -> Tee;
    /// Whether the evidence is simulated.
    fn simulated(&self) -> bool;
    /// The 32 bytes that the TEE binds to this VM's launch (HOST_DATA), as this evidence says; `None` where it says
    /// none.
    fn bound(&self, evidence: &Value) -> Option<[u8; 32]>;
    /// Evidence over the report data; at most 64 bytes, zero-padded to the TEE's field.
    ///
    /// # Errors
    /// `ATTEST-EVIDENCE-UNAVAILABLE` where the platform gives none.
    async fn evidence(&self, report_data: &[u8]) -> Result<Value, Failure>;
    /// Measures an event of the workload's, into a register that later evidence speaks of, with a log of such events. `false`
    /// where the platform has no such register.
    ///
    /// # Errors
    /// `ATTEST-EVIDENCE-UNAVAILABLE` where it was not taken.
    async fn measure(&self, _event: &Aael<'_>) -> Result<bool, Failure> {
        Ok(false)
    }
    /// How the key that signs the evidence is proved, where nobody vouches for it in the evidence itself.
    fn key_proof(&self) -> Option<&dyn KeyProof> {
        None
    }
}

/// A TPM proves that its attestation key is in it.
#[async_trait]
pub trait KeyProof: Send + Sync {
    /// The keys, with the maker's certificates.
    ///
    /// # Errors
    /// `ATTEST-EVIDENCE-UNAVAILABLE` where the TPM gives none.
    async fn candidature(&self) -> Result<Candidature, Failure>;
    /// Opens a challenge's secret.
    ///
    /// # Errors
    /// `ATTEST-EVIDENCE-UNAVAILABLE` where the TPM cannot.
    async fn activate(&self, challenge: &CredentialChallenge) -> Result<Vec<u8>, Failure>;
}

/// What the kernel shows of the platform.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Platform {
    Snp,
    Tdx,
    Tpm,
    /// Nothing: at best the host's simulated secure processor.
    None,
}

/// The strongest that is there. A TPM beside a TEE is not asked: it is the host's.
pub(crate) fn platform() -> Platform {
    let found =
        [("/dev/sev-guest", Platform::Snp), ("/dev/tdx_guest", Platform::Tdx), (tpm::DEVICE, Platform::Tpm)];
    found.into_iter().find(|(path, _)| Path::new(path).exists()).map_or(Platform::None, |(_, found)| found)
}

/// The attester of this guest's platform: real hardware first; the host's simulated secure processor only where
/// the kernel shows no TEE. Which of the two it was is visible in the evidence, and Trustee decides.
///
/// # Errors
/// `ATTEST-EVIDENCE-UNAVAILABLE` where there is neither.
pub async fn detect() -> Result<Arc<dyn Attester>, Failure> {
    match platform() {
        Platform::Snp => Ok(Arc::new(snp::SnpAttester)),
        Platform::Tdx => Ok(Arc::new(tdx::TdxAttester::new())),
        Platform::Tpm => Ok(Arc::new(tpm::TpmAttester::new())),
        Platform::None => Ok(Arc::new(sim::SimAttester)),
    }
}

/// Report data in its 64-byte field.
fn padded(report_data: &[u8]) -> Result<[u8; 64], Failure> {
    let mut field = [0; 64];
    field
        .get_mut(..report_data.len())
        .ok_or_else(|| unavailable("report data is longer than 64 bytes"))?
        .copy_from_slice(report_data);
    Ok(field)
}

/// HOST_DATA of SNP evidence.
fn snp_host_data(evidence: &Value) -> Option<[u8; 32]> {
    cocoon_evidence::snp::Evidence::from_json(evidence).ok().map(|e| e.report.host_data)
}

fn unavailable(reason: impl Into<String>) -> Failure {
    Failure::new(Code::AttestEvidenceUnavailable, reason)
}
