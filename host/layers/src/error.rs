//! What can go wrong with the node's cache.

use std::io;
use std::path::{Path, PathBuf};

use cocoon_stage::{Code, Failure, Stage};

/// The cache's failure.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The folder, or something in it, is not fit to be used: another's, writable by others, no folder.
    #[error("the layer cache cannot use {path}: {reason}")]
    Unfit {
        /// What.
        path: PathBuf,
        /// Why not.
        reason: &'static str,
    },
    /// The file system failed.
    #[error("the layer cache: {path}: {source}")]
    Io {
        /// Where.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// The disk is full, even without the layers that nobody uses.
    #[error("no space left for the layer cache in {0}")]
    Full(PathBuf),
    /// The layer does not fit the cache's limit beside those in use.
    #[error(
        "a layer of {bytes} bytes does not fit the layer cache: {in_use} of {limit} bytes are in use by pods"
    )]
    Limit {
        /// The layer's.
        bytes: u64,
        /// Bytes of layers that cannot be removed.
        in_use: u64,
        /// The limit.
        limit: u64,
    },
    /// The layer is another than the plan says.
    #[error("layer {diff_id} becomes the shared layer {got}, but the plan names {pinned}")]
    WrongRoot {
        /// The layer.
        diff_id: String,
        /// Root and blocks that it has.
        got: String,
        /// Root and blocks in the plan.
        pinned: String,
    },
    /// The image has no such layer.
    #[error("the image has no layer {0}")]
    NotInImage(String),
    /// There is no such shared layer in the cache.
    #[error("the layer cache has no layer {0}")]
    Absent(String),
    /// A pod uses the layer.
    #[error("layer {0} is in use by a pod")]
    InUse(String),
    /// A layer's content is not what its root says.
    #[error("layer {root}: {reason}")]
    Damaged {
        /// Its name.
        root: String,
        /// What is wrong.
        reason: String,
    },
    /// The registry.
    #[error(transparent)]
    Registry(#[from] cocoon_registry::Error),
    /// The layer, as the registry sent it.
    #[error(transparent)]
    Image(cocoon_image::Error),
    /// The layer cannot be made into a device.
    #[error(transparent)]
    Convert(cocoon_erofs::Error),
    /// The work was given up or its thread ended without a result.
    #[error("making a shared layer was interrupted")]
    Interrupted,
}

impl Error {
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Error + use<> {
        let path = path.to_owned();
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::Full(path),
            _ => Error::Io { path, source },
        }
    }

    /// Whether a layer was refused for what is in it, which another source may have right.
    pub(crate) fn is_of_content(&self) -> bool {
        use cocoon_image::Error as Image;
        match self {
            Error::Registry(e) => matches!(e, cocoon_registry::Error::Image(_)),
            Error::Image(e) => !matches!(e, Image::Source(_) | Image::Filesystem { .. } | Image::Key(_)),
            _ => false,
        }
    }

    /// An error met while reading a layer: ours, the registry's or the image's.
    pub(crate) fn reading(e: io::Error) -> Error {
        match cocoon_image::Error::from_io(e, cocoon_image::Error::Source) {
            cocoon_image::Error::Source(source) => match source.downcast::<Error>() {
                Ok(e) => e,
                Err(e) => Error::Image(cocoon_image::Error::Source(e)),
            },
            e => Error::Image(e),
        }
    }

    /// An error met while a device was made in the file at `path`.
    pub(crate) fn making(path: &Path) -> impl FnOnce(cocoon_erofs::Error) -> Error + use<> {
        let device = Error::io(path);
        move |e| match e {
            cocoon_erofs::Error::Layer(e) => e.into(),
            cocoon_erofs::Error::Device(e) => device(e),
            e => Error::Convert(e),
        }
    }

    pub(crate) fn is_full(&self) -> bool {
        matches!(self, Error::Full(_))
    }
}

impl From<cocoon_image::Error> for Error {
    fn from(e: cocoon_image::Error) -> Error {
        Error::reading(e.into_io())
    }
}

impl From<Error> for Failure {
    fn from(e: Error) -> Failure {
        let reason = e.to_string();
        let failure = match e {
            // What is wrong with the image is so wherever it is met.
            Error::Image(e)
                if !matches!(e, cocoon_image::Error::Source(_) | cocoon_image::Error::TooLarge(_)) =>
            {
                e.into()
            }
            Error::Registry(e @ cocoon_registry::Error::Image(_)) => e.into(),
            Error::Registry(
                e @ (cocoon_registry::Error::Unauthorized { .. } | cocoon_registry::Error::NotFound { .. }),
            ) => e.into(),
            Error::NotInImage(_) => Failure::new(Code::ImageManifestInvalid, reason),
            Error::Damaged { .. } => Failure::new(Code::ImageLayerTampered, reason),
            Error::Absent(_) | Error::InUse(_) => Failure::new(Code::UsageInvalid, reason),
            _ => Failure::new(Code::ImageCacheFailed, reason),
        };
        failure.at(Stage::Boot)
    }
}
