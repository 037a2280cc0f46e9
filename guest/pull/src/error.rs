//! What can go wrong with a pull.

use std::io;

use cocoon_stage::{Code, Failure};

/// A pull's failure.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The registry.
    #[error(transparent)]
    Registry(#[from] cocoon_registry::Error),
    /// The image.
    #[error(transparent)]
    Image(cocoon_image::Error),
    /// The key of an encrypted layer was not released.
    #[error("{0}")]
    Key(Failure),
    /// The image may not be used.
    #[error("{0}")]
    Refused(Failure),
    /// The directory that the image is unpacked into.
    #[error("{path}: {source}")]
    Directory {
        /// Which.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// A worker ended without a result.
    #[error("the pull was interrupted: {0}")]
    Interrupted(&'static str),
}

impl From<cocoon_image::Error> for Error {
    /// Takes the registry's error out where the image's reader met it.
    fn from(e: cocoon_image::Error) -> Error {
        let cocoon_image::Error::Source(source) = e else { return Error::Image(e) };
        match source.downcast::<cocoon_registry::Error>() {
            Ok(e) => Error::Registry(e),
            Err(e) => Error::Image(cocoon_image::Error::Source(e)),
        }
    }
}

impl From<Error> for Failure {
    fn from(e: Error) -> Failure {
        match e {
            Error::Registry(e) => e.into(),
            Error::Image(e) => e.into(),
            Error::Key(failure) | Error::Refused(failure) => failure,
            Error::Directory { ref source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                Failure::new(Code::ImageTooLarge, e.to_string())
            }
            Error::Directory { .. } | Error::Interrupted(_) => {
                Failure::new(Code::ImagePullFailed, e.to_string())
            }
        }
    }
}
