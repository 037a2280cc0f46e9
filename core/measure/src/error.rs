//! What can be wrong with files to be measured.

use cocoon_stage::{Code, Failure};

/// A file cannot be measured.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The firmware's size is not one that can be mapped below 4 GiB in whole pages.
    #[error("firmware of {0} bytes is not whole pages between 4 KiB and 64 MiB")]
    FirmwareSize(usize),
    /// The firmware lacks a table, so it is not built for SEV-SNP.
    #[error("the firmware has no {0}; take one that is built for AMD SEV (AmdSev)")]
    FirmwareLacks(&'static str),
    /// A table of the firmware is broken.
    #[error("the firmware's {0} is malformed")]
    FirmwareMalformed(&'static str),
    /// The kernel file cannot be measured by a TPM's firmware.
    #[error("kernel: {0}")]
    Kernel(&'static str),
    /// A key cannot sign an ID block.
    #[error("ID block: {0}")]
    IdBlock(&'static str),
    /// The number of vCPUs is out of range.
    #[error("{0} vCPUs are not between 1 and 4096")]
    Vcpus(u32),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let code = match error {
            Error::Vcpus(_) | Error::IdBlock(_) => Code::UsageInvalid,
            _ => Code::BootGuestImageCorrupt,
        };
        Failure::new(code, error.to_string())
    }
}
