//! What can go wrong with a layer's device.

use std::io;

use cocoon_stage::{Code, Failure};

/// Everything this crate refuses or fails at.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The layer itself is refused, with the same words as unpacking it would be.
    #[error(transparent)]
    Layer(#[from] cocoon_image::Error),
    /// The file that holds the device cannot be read or written.
    #[error("a layer's device: {0}")]
    Device(io::Error),
    /// A block does not hash to what the tree above it, or the root, says.
    #[error("block {block} of a layer's device does not match its root hash")]
    Tampered {
        /// Its number from the device's start, in blocks of 4096 bytes; from `data_blocks` on it is one of the tree.
        block: u64,
    },
    /// The file is longer or shorter than its number of data blocks says.
    #[error("a layer's device should have {expected} bytes but has {got}")]
    Length {
        /// Bytes of data and tree.
        expected: u64,
        /// Bytes found.
        got: u64,
    },
}

impl Error {
    pub(crate) fn too_large(what: impl Into<String>) -> Self {
        Error::Layer(cocoon_image::Error::TooLarge(what.into()))
    }

    pub(crate) fn corrupt(what: impl Into<String>) -> Self {
        Error::Layer(cocoon_image::Error::Corrupt(what.into()))
    }

    pub(crate) fn unsafe_name(path: &[u8], reason: &'static str) -> Self {
        Error::Layer(cocoon_image::Error::Unsafe { path: printable(path), reason })
    }
}

impl From<Error> for Failure {
    fn from(e: Error) -> Failure {
        let code = match e {
            Error::Layer(e) => return e.into(),
            Error::Device(_) => Code::ImageCacheFailed,
            Error::Tampered { .. } | Error::Length { .. } => Code::ImageLayerTampered,
        };
        Failure::new(code, e.to_string())
    }
}

/// A hostile name made fit for one line of a log: escaped, at most about 200 characters.
pub(crate) fn printable(name: &[u8]) -> String {
    let cut = name.get(..200).unwrap_or(name);
    let dots = if cut.len() < name.len() { "…" } else { "" };
    format!("{:?}{dots}", String::from_utf8_lossy(cut))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_have_the_codes_that_people_look_up() {
        let code = |e: Error| Failure::from(e).code;
        assert_eq!(code(Error::unsafe_name(b"a\n", "x")), Code::ImageLayerUnsafe);
        assert_eq!(code(Error::too_large("x")), Code::ImageTooLarge);
        assert_eq!(code(Error::corrupt("x")), Code::ImageLayerCorrupt);
        assert_eq!(code(Error::Tampered { block: 1 }), Code::ImageLayerTampered);
        assert_eq!(code(Error::Device(io::ErrorKind::StorageFull.into())), Code::ImageCacheFailed);
        assert!(!Error::unsafe_name(&[b'\n'; 5000], "x").to_string().contains('\n'));
    }
}
