//! The directory an image is unpacked into before it has its name.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use cocoon_image::remove_tree;

use crate::Error;

/// `<rootfs>.partial`; deleted when dropped, unless it was given its name.
#[derive(Debug)]
pub(crate) struct Partial {
    path: PathBuf,
    target: PathBuf,
    kept: bool,
}

fn fail(path: &Path, source: io::Error) -> Error {
    Error::Directory { path: path.display().to_string(), source }
}

impl Partial {
    /// Makes the directory; what a pull that was killed left there goes first.
    pub(crate) fn create(target: &Path) -> Result<Self, Error> {
        if target.symlink_metadata().is_ok() {
            return Err(fail(target, io::Error::from(io::ErrorKind::AlreadyExists)));
        }
        let mut name = target.file_name().unwrap_or_default().to_owned();
        name.push(".partial");
        let path = target.with_file_name(name);
        remove_tree(&path).map_err(|e| fail(&path, e))?;
        DirBuilder::new().mode(0o700).create(&path).map_err(|e| fail(&path, e))?;
        let partial = Partial { path, target: target.to_owned(), kept: false };
        // The image's own `./` entry may say otherwise later; without one the root is readable by all users in it.
        std::fs::set_permissions(&partial.path, std::fs::Permissions::from_mode(0o755))
            .map_err(|e| fail(&partial.path, e))?;
        Ok(partial)
    }

    /// The directory, opened.
    pub(crate) fn open(&self) -> Result<File, Error> {
        File::open(&self.path).map_err(|e| fail(&self.path, e))
    }

    /// Gives the directory its name.
    pub(crate) fn commit(mut self) -> Result<(), Error> {
        std::fs::rename(&self.path, &self.target).map_err(|e| fail(&self.target, e))?;
        self.kept = true;
        Ok(())
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.kept
            && let Err(e) = remove_tree(&self.path)
        {
            tracing::warn!(path = %self.path.display(), error = %e, "a partial image could not be deleted");
        }
    }
}
