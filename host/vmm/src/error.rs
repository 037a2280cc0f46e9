//! What can go wrong with QEMU.

use std::io;
use std::path::PathBuf;

use cocoon_stage::{Code, Failure};

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no QEMU binary.
    #[error("{0} is not installed (Debian: apt-get install {pkg})", pkg = package(.0))]
    QemuMissing(PathBuf),
    /// The software TPM's programs are not there.
    #[error("{0} is not installed (Debian: apt-get install swtpm swtpm-tools)")]
    TpmMissing(&'static str),
    /// A file that QEMU boots or attaches is not there or not readable.
    #[error("{what} {path}: {source}")]
    File {
        /// What the file is: kernel, initrd, firmware, initdata disk or disk.
        what: &'static str,
        /// Where it was looked for.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// The specification contradicts itself.
    #[error("VM specification: {0}")]
    Spec(&'static str),
    /// QEMU could not be started.
    #[error("cannot start QEMU: {0}")]
    Spawn(#[source] io::Error),
    /// QEMU ended although the workload had not.
    #[error("QEMU ended ({status}){}", said(.stderr))]
    Ended {
        /// How it ended.
        status: String,
        /// The last it said.
        stderr: String,
    },
    /// The runtime folder's files could not be made.
    #[error("{path}: {source}")]
    RunDir {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// QEMU's control protocol failed.
    #[error("QMP: {0}")]
    Qmp(String),
    /// QEMU's answer to a question about itself could not be read.
    #[error("{program}: {reason}")]
    Inspect {
        /// The program asked.
        program: PathBuf,
        /// Why not.
        reason: String,
    },
}

/// Debian's package of a QEMU binary.
fn package(program: &std::path::Path) -> &'static str {
    match program.file_name().and_then(|name| name.to_str()) {
        Some("qemu-system-s390x") => "qemu-system-misc",
        Some("qemu-system-aarch64") => "qemu-system-arm",
        _ => "qemu-system-x86",
    }
}

fn said(stderr: &str) -> String {
    if stderr.is_empty() { String::new() } else { format!(": {stderr}") }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let full = |e: &io::Error| e.kind() == io::ErrorKind::StorageFull;
        let code = match &error {
            Error::QemuMissing(_) | Error::TpmMissing(_) | Error::Inspect { .. } => Code::BootQemuMissing,
            Error::File { what: "firmware", .. } => Code::BootQemuMissing,
            Error::File { what: "disk", .. } => Code::ImageCacheFailed,
            Error::File { source, .. } if full(source) => Code::BootDiskFull,
            Error::File { .. } => Code::BootGuestImageMissing,
            Error::Spec(_) => Code::PlanInvalid,
            Error::RunDir { source, .. } if full(source) => Code::BootDiskFull,
            Error::RunDir { .. } => Code::HostUnsupported,
            Error::Spawn(_) | Error::Ended { .. } | Error::Qmp(_) => Code::BootQemuFailed,
        };
        Failure::new(code, error.to_string()).at(cocoon_stage::Stage::Boot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_kernel_is_a_missing_guest_image_and_a_missing_firmware_a_missing_package() {
        let file = |what| {
            let source = io::Error::from(io::ErrorKind::NotFound);
            Failure::from(Error::File { what, path: "/x".into(), source }).code
        };
        assert_eq!(file("kernel"), Code::BootGuestImageMissing);
        assert_eq!(file("firmware"), Code::BootQemuMissing);
        assert_eq!(file("disk"), Code::ImageCacheFailed);
        let ended = Error::Ended { status: "signal 9".into(), stderr: "killed".into() };
        assert_eq!(ended.to_string(), "QEMU ended (signal 9): killed");
        assert_eq!(Failure::from(ended).code, Code::BootQemuFailed);
    }
}
