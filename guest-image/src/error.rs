//! What can go wrong while a guest image is built or opened.

use std::io;
use std::path::{Path, PathBuf};

use cocoon_stage::{Code, Failure};

/// A failure to build or open a guest image.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no image in that folder.
    #[error("there is no guest image in {}", .0.display())]
    Missing(PathBuf),
    /// The manifest is not one that this version wrote.
    #[error("{} is not a guest image manifest: {reason}", path.display())]
    Manifest {
        /// The manifest file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A file of the image is not the one that the manifest describes.
    #[error("{} has digest {got}, the manifest says {expected}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// SHA-256 in the manifest, hexadecimal.
        expected: String,
        /// SHA-256 of the file, hexadecimal, or `missing`.
        got: String,
    },
    /// A program that the build needs is not installed.
    #[error("the program {0} is not installed")]
    ToolMissing(&'static str),
    /// A program that the build runs failed.
    #[error("{tool} failed ({status}): {stderr}")]
    Tool {
        /// Its name.
        tool: &'static str,
        /// Its exit status.
        status: String,
        /// The end of what it printed to standard error.
        stderr: String,
    },
    /// The kernel package is not what a guest can be made from.
    #[error("the kernel package {package}: {reason}")]
    Package {
        /// Its file or name.
        package: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The guest program is not one that runs as PID 1 of an otherwise empty system.
    #[error("{} cannot be the guest's init: {reason}", path.display())]
    GuestBinary {
        /// The program.
        path: PathBuf,
        /// Why not.
        reason: &'static str,
    },
    /// A file does not fit into the initrd.
    #[error("cannot put {name} into the initrd: {reason}")]
    Initrd {
        /// Its path in the initrd.
        name: String,
        /// Why not.
        reason: &'static str,
    },
    /// The launch measurement could not be computed.
    #[error("cannot compute the launch measurement: {0}")]
    Measure(String),
    /// A file or folder could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which one.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
}

impl Error {
    /// An IO error with the path at which it happened.
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Error {
        let path = path.to_owned();
        move |source| Error::Io { path, source }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        let code = match &error {
            Error::Missing(_) => Code::BootGuestImageMissing,
            Error::Manifest { .. } | Error::Corrupt { .. } => Code::BootGuestImageCorrupt,
            Error::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => Code::BootDiskFull,
            Error::ToolMissing(_)
            | Error::Tool { .. }
            | Error::Package { .. }
            | Error::GuestBinary { .. }
            | Error::Initrd { .. }
            | Error::Measure(_)
            | Error::Io { .. } => Code::BootGuestBuildFailed,
        };
        Failure::new(code, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_code() {
        let code = |e: Error| Failure::from(e).code;
        let path = || PathBuf::from("/x");
        assert_eq!(code(Error::Missing(path())), Code::BootGuestImageMissing);
        let corrupt = Error::Corrupt { path: path(), expected: "a".into(), got: "b".into() };
        assert_eq!(code(corrupt), Code::BootGuestImageCorrupt);
        let full = Error::Io { path: path(), source: io::Error::from_raw_os_error(28) };
        assert_eq!(code(full), Code::BootDiskFull);
        assert_eq!(code(Error::ToolMissing("dpkg-deb")), Code::BootGuestBuildFailed);
    }
}
