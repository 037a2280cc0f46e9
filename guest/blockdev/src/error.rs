//! What can go wrong, and the code under which a person meets it.

use std::io;
use std::time::Duration;

use cocoon_stage::{Code, Failure};

/// A block device, mapping or file system that cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The host attached no disk of that serial.
    #[error("no disk with the serial {serial:?} appeared within {} ms", waited.as_millis())]
    DiskMissing {
        /// The serial asked for.
        serial: String,
        /// How long the guest looked.
        waited: Duration,
    },
    /// The host attached several disks of that serial; none is chosen.
    #[error("several disks have the serial {serial:?}: {disks}")]
    DiskAmbiguous {
        /// The serial asked for.
        serial: String,
        /// Their names.
        disks: String,
    },
    /// A name, serial, size or count that this crate does not take.
    #[error("{0}")]
    Invalid(String),
    /// The disk cannot hold what the plan says is on it.
    #[error("{disk} has {got} bytes, but {what} takes {need}")]
    TooSmall {
        /// The disk.
        disk: String,
        /// What should be there.
        what: &'static str,
        /// Bytes needed.
        need: u64,
        /// Bytes there.
        got: u64,
    },
    /// More layers than one mount can have.
    #[error("{0} layers are more than a container's root can be made of")]
    TooManyLayers(usize),
    /// A system call failed.
    #[error("{step}: {source}")]
    Io {
        /// What was being done, to what.
        step: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A block of a layer is not what its root hash says.
    #[error("{0}: a block is not what its root hash says")]
    Tampered(String),
    /// The disk of an encrypted volume holds something else.
    #[error("{disk}: {why}")]
    Foreign {
        /// The disk.
        disk: String,
        /// What is there instead.
        why: String,
    },
    /// The key does not open the encrypted volume.
    #[error("{0}: the key does not open its volume")]
    WrongKey(String),
    /// Any of these about an encrypted volume.
    #[error("encrypted volume: {0}")]
    Volume(#[source] Box<Error>),
    /// Any of these about the scratch disk.
    #[error("scratch disk: {0}")]
    Scratch(#[source] Box<Error>),
}

impl Error {
    /// Says that this is about the scratch disk, for its code.
    #[must_use]
    pub fn scratch(self) -> Self {
        match self {
            Error::Scratch(_) => self,
            other => Error::Scratch(Box::new(other)),
        }
    }

    /// Says that this is about an encrypted volume, for its code.
    #[must_use]
    pub fn volume(self) -> Self {
        match self {
            Error::Scratch(inner) => Error::Volume(inner),
            Error::Volume(_) | Error::Foreign { .. } | Error::WrongKey(_) => self,
            other => Error::Volume(Box::new(other)),
        }
    }

    pub(crate) fn io(step: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let step = step.into();
        move |source| Error::Io { step, source }
    }

    /// The stable code.
    pub fn code(&self) -> Code {
        match self {
            Error::Tampered(_) => Code::ImageLayerTampered,
            Error::TooManyLayers(_) => Code::ImageTooLarge,
            Error::Scratch(_) => Code::ImageScratchFailed,
            Error::Foreign { .. } => Code::VolumeForeign,
            Error::WrongKey(_) => Code::VolumeKeyWrong,
            Error::Volume(_) => Code::VolumeFailed,
            _ => Code::ImageLayerUnavailable,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::new(error.code(), error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_has_its_code() {
        let missing = || Error::DiskMissing { serial: "x".into(), waited: Duration::ZERO };
        assert_eq!(Failure::from(missing()).code, Code::ImageLayerUnavailable);
        let scratch = Failure::from(missing().scratch().scratch());
        assert_eq!(scratch.code, Code::ImageScratchFailed);
        assert_eq!(scratch.reason, "scratch disk: no disk with the serial \"x\" appeared within 0 ms");
        assert_eq!(Error::Tampered("layer".into()).code(), Code::ImageLayerTampered);
        assert_eq!(Error::TooManyLayers(129).code(), Code::ImageTooLarge);
    }
}
