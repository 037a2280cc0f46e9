//! What can be wrong with evidence before any check is made: it does not parse.

use cocoon_stage::{Code, Failure};

/// Evidence or collateral that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The report has another length than its format says.
    #[error("an SNP report has 1184 bytes, this one has {0}")]
    ReportSize(usize),
    /// The report's version is not one this code knows.
    #[error("SNP report version {0} is not one of 2 to 5")]
    ReportVersion(u32),
    /// A reserved part of the report is not zero, so the report is of a kind this code does not know or was altered.
    #[error("the SNP report's reserved bytes at {0:#x} are not zero")]
    ReportReserved(usize),
    /// The report names a processor whose TCB layout and roots are unknown.
    #[error("the SNP report names an unknown processor (family {family:#x}, model {model:#x})")]
    Processor {
        /// Combined family.
        family: u8,
        /// Combined model.
        model: u8,
    },
    /// A field of the evidence contradicts another or is missing.
    #[error("evidence field `{field}`: {reason}")]
    Field {
        /// The field's name in the JSON form.
        field: &'static str,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A binary or text format is not what its specification says.
    #[error("{what}: {reason}")]
    Malformed {
        /// The format, e.g. `TDX quote`.
        what: &'static str,
        /// What is wrong, and where.
        reason: String,
    },
    /// The evidence is well formed, but of a version or kind that no code here knows.
    #[error("{what}: {got} is not supported")]
    Unsupported {
        /// What was looked at, e.g. `TDX quote version`.
        what: &'static str,
        /// What it is.
        got: String,
    },
    /// The evidence is not the JSON that its TEE's attester writes.
    #[error("the evidence is not the expected JSON: {0}")]
    Json(String),
    /// A certificate cannot be read.
    #[error("certificate: {0}")]
    Certificate(&'static str),
    /// A configured simulated root is not a proper one.
    #[error("simulated root: {0}")]
    SimulatedRoot(&'static str),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let code = match &error {
            Error::Processor { .. } | Error::Unsupported { .. } => Code::AttestTeeUnsupported,
            Error::SimulatedRoot(_) => Code::AttestChainUntrusted,
            _ => Code::AttestEvidenceMalformed,
        };
        Failure::new(code, error.to_string())
    }
}
