//! Blobs on their way: an unnamed file that is gone when it is closed, however the program ends.

use std::fs::{File, Permissions};
use std::io::{self, BufWriter, Seek, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use cocoon_image::Digest;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, linkat, open};

/// Bytes written at a time.
const BUFFER: usize = 256 * 1024;

/// A blob, complete, whose digest is known to be right.
pub struct Spool {
    file: File,
    /// The digest that names it.
    pub digest: Digest,
}

/// An unnamed file in a folder; where the file system has none such, a file whose name is removed at once.
fn unnamed(folder: &Path) -> io::Result<File> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    match open(folder, flags, Mode::RUSR | Mode::WUSR) {
        Ok(fd) => Ok(fd.into()),
        Err(_) => {
            let name = crate::dirs::random_hex(8).map_err(|e| io::Error::other(e.to_string()))?;
            let path = folder.join(format!(".cocoon-{name}"));
            let file = File::options().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
            std::fs::remove_file(&path)?;
            Ok(file)
        }
    }
}

impl Spool {
    /// Fills a file in `folder` with what `fill` writes; it gives the digest once it is sure of it.
    pub fn write<T>(
        folder: &Path,
        fill: impl FnOnce(&mut dyn Write) -> io::Result<(Digest, T)>,
    ) -> io::Result<(Spool, T)> {
        let mut file = BufWriter::with_capacity(BUFFER, unnamed(folder)?);
        let (digest, more) = fill(&mut file)?;
        let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
        Ok((Spool { file, digest }, more))
    }

    /// [`Spool::write`] for what is not written from its beginning to its end, but into a file.
    pub fn make<T>(
        folder: &Path,
        fill: impl FnOnce(&File) -> io::Result<(Digest, T)>,
    ) -> io::Result<(Spool, T)> {
        let file = unnamed(folder)?;
        let (digest, more) = fill(&file)?;
        Ok((Spool { file, digest }, more))
    }

    /// The blob from its beginning.
    pub fn reader(&mut self) -> io::Result<&mut File> {
        self.file.rewind()?;
        Ok(&mut self.file)
    }

    /// Gives the file the name `path`, which only a complete blob ever has. One that is there already stays.
    pub fn keep(mut self, path: &Path) -> io::Result<()> {
        self.file.set_permissions(Permissions::from_mode(0o644))?;
        let own = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        match linkat(CWD, own.as_str(), CWD, path, AtFlags::SYMLINK_FOLLOW) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => return Ok(()),
            Err(_) => {}
        }
        // The file had a name and lost it, or lies on another file system: copied, and renamed when complete.
        let name = crate::dirs::random_hex(8).map_err(|e| io::Error::other(e.to_string()))?;
        let partial = path.with_file_name(format!(".cocoon-{name}"));
        let mut copy = File::create_new(&partial)?;
        let copied = self.reader().and_then(|from| io::copy(from, &mut copy));
        copied.and_then(|_| std::fs::rename(&partial, path)).inspect_err(|_| {
            let _ = std::fs::remove_file(&partial);
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn nothing_is_there_before_it_is_complete() {
        let dir = tempfile::tempdir().unwrap();
        let names = || std::fs::read_dir(dir.path()).unwrap().count();
        let failed = Spool::write(dir.path(), |out| {
            out.write_all(b"half")?;
            assert_eq!(names(), 0);
            Err::<(Digest, ()), _>(io::Error::other("broken"))
        });
        assert!(failed.is_err());
        let (mut spool, ()) = Spool::write(dir.path(), |out| {
            out.write_all(b"whole")?;
            Ok((Digest::sha256(b"whole"), ()))
        })
        .unwrap();
        let mut text = String::new();
        spool.reader().unwrap().read_to_string(&mut text).unwrap();
        assert_eq!((text.as_str(), names()), ("whole", 0));
        spool.keep(&dir.path().join("a")).unwrap();
        assert_eq!((std::fs::read(dir.path().join("a")).unwrap(), names()), (b"whole".to_vec(), 1));
    }
}
