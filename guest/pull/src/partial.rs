//! The directory a layer is unpacked into before it has its name.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use cocoon_image::remove_tree;

use crate::Error;

/// `<name>.partial-<N>`; deleted when dropped, unless it was given its name.
#[derive(Debug)]
pub(crate) struct Partial {
    path: PathBuf,
    kept: bool,
}

pub(crate) fn fail(path: &Path, source: io::Error) -> Error {
    Error::Directory { path: path.display().to_string(), source }
}

impl Partial {
    /// Makes the directory, which must not exist.
    pub(crate) fn create(path: PathBuf) -> Result<Self, Error> {
        DirBuilder::new().mode(0o700).create(&path).map_err(|e| fail(&path, e))?;
        let partial = Partial { path, kept: false };
        // The layer's own `./` entry may say otherwise later; without one the root is readable by all users in it.
        std::fs::set_permissions(&partial.path, std::fs::Permissions::from_mode(0o755))
            .map_err(|e| fail(&partial.path, e))?;
        Ok(partial)
    }

    /// Takes over a directory that is no longer wanted: it is deleted when this is dropped.
    pub(crate) fn doomed(path: PathBuf) -> Self {
        Partial { path, kept: false }
    }

    /// The directory, opened.
    pub(crate) fn open(&self) -> Result<File, Error> {
        File::open(&self.path).map_err(|e| fail(&self.path, e))
    }

    /// Gives the directory its name.
    pub(crate) fn commit(mut self, target: &Path) -> Result<(), Error> {
        std::fs::rename(&self.path, target).map_err(|e| fail(target, e))?;
        self.kept = true;
        Ok(())
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.kept
            && let Err(e) = remove_tree(&self.path)
        {
            tracing::warn!(path = %self.path.display(), error = %e, "a partial layer could not be deleted");
        }
    }
}
