//! Blobs on their way: an unnamed file that is gone when it is closed, however the program ends.

use std::fs::{File, Permissions};
use std::io::{self, BufWriter, Seek, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use cocoon_image::Digest;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, fstatvfs, linkat, open};

/// Bytes written at a time.
const BUFFER: usize = 256 * 1024;
/// Bytes that stay free on the file system.
const RESERVE: u64 = 64 << 20;
/// Bytes written between two looks at how much is free.
const LOOK_EVERY: usize = 8 << 20;

/// Where blobs wait that have no folder of their own: `TMPDIR`, else /var/tmp, since /tmp is often memory.
pub fn folder() -> PathBuf {
    std::env::var_os("TMPDIR").filter(|v| !v.is_empty()).map_or_else(|| "/var/tmp".into(), PathBuf::from)
}

/// A blob, complete, whose digest is known to be right.
pub struct Spool {
    file: File,
    /// The digest that names it.
    pub digest: Digest,
}

/// A file that never had a name, where the file system has such.
fn nameless(folder: &Path) -> io::Result<File> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    Ok(open(folder, flags, Mode::RUSR | Mode::WUSR)?.into())
}

/// An unnamed file in a folder; where the file system has none such, a file whose name is removed at once.
fn unnamed(folder: &Path) -> io::Result<File> {
    nameless(folder).or_else(|_| {
        let name = crate::dirs::random_hex(8).map_err(|e| io::Error::other(e.to_string()))?;
        let path = folder.join(format!(".cocoon-{name}"));
        let file = File::options().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
        std::fs::remove_file(&path)?;
        Ok(file)
    })
}

/// Gives an unnamed file a name, unless something has it already.
fn named(file: &File, path: &Path) -> io::Result<()> {
    file.set_permissions(Permissions::from_mode(0o644))?;
    let own = format!("/proc/self/fd/{}", file.as_raw_fd());
    match linkat(CWD, own.as_str(), CWD, path, AtFlags::SYMLINK_FOLLOW) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// Refuses to take the last of a file system's room, which others on this machine need too.
fn room(file: &File) -> io::Result<()> {
    let space = fstatvfs(file)?;
    enough(space.f_bavail.saturating_mul(space.f_frsize))
}

fn enough(free: u64) -> io::Result<()> {
    if free >= RESERVE {
        return Ok(());
    }
    let why = format!("only {free} bytes are free where it waits, and {RESERVE} are left free (see TMPDIR)");
    Err(io::Error::new(io::ErrorKind::StorageFull, why))
}

/// A file that looks for room while it is written.
struct Careful {
    file: File,
    unseen: usize,
}

impl Write for Careful {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.unseen >= LOOK_EVERY {
            room(&self.file)?;
            self.unseen = 0;
        }
        let n = self.file.write(bytes)?;
        self.unseen = self.unseen.saturating_add(n);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Spool {
    /// Fills a file in `folder` with what `fill` writes; it gives the digest once it is sure of it.
    pub fn write<T>(
        folder: &Path,
        fill: impl FnOnce(&mut dyn Write) -> io::Result<(Digest, T)>,
    ) -> io::Result<(Spool, T)> {
        let file = Careful { file: unnamed(folder)?, unseen: LOOK_EVERY };
        let mut file = BufWriter::with_capacity(BUFFER, file);
        let (digest, more) = fill(&mut file)?;
        let file = file.into_inner().map_err(io::IntoInnerError::into_error)?.file;
        Ok((Spool { file, digest }, more))
    }

    /// [`Spool::write`] for what is not written from its beginning to its end, but into a file.
    pub fn make<T>(
        folder: &Path,
        fill: impl FnOnce(&File) -> io::Result<(Digest, T)>,
    ) -> io::Result<(Spool, T)> {
        let file = unnamed(folder)?;
        room(&file)?;
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
        if named(&self.file, path).is_ok() {
            return Ok(());
        }
        // The file lies on another file system, or had a name and lost it: copied into one that has no name either, so that
        // a program that is stopped leaves nothing; else renamed when complete.
        if let Ok(mut copy) = nameless(path.parent().unwrap_or(Path::new("."))) {
            io::copy(self.reader()?, &mut copy)?;
            if named(&copy, path).is_ok() {
                return Ok(());
            }
        }
        let name = crate::dirs::random_hex(8).map_err(|e| io::Error::other(e.to_string()))?;
        let partial = path.with_file_name(format!(".cocoon-{name}"));
        let mut copy = File::options().write(true).create_new(true).mode(0o600).open(&partial)?;
        let copied = self.reader().and_then(|from| io::copy(from, &mut copy));
        let copied = copied.and_then(|_| copy.set_permissions(Permissions::from_mode(0o644)));
        copied.and_then(|()| std::fs::rename(&partial, path)).inspect_err(|_| {
            let _ = std::fs::remove_file(&partial);
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn the_last_room_is_not_taken() {
        assert!(enough(RESERVE).is_ok());
        assert_eq!(enough(RESERVE - 1).unwrap_err().kind(), io::ErrorKind::StorageFull);
        // A look is taken before the first byte, and again on the way.
        let dir = tempfile::tempdir().unwrap();
        let mut file = Careful { file: unnamed(dir.path()).unwrap(), unseen: LOOK_EVERY };
        file.write_all(b"x").unwrap();
        assert_eq!(file.unseen, 1);
    }

    #[test]
    fn a_blob_from_elsewhere_is_private_until_it_is_complete() {
        let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir_in("/dev/shm").unwrap());
        let digest = Digest::sha256(b"x");
        let write = |out: &mut dyn Write| out.write_all(b"x").map(|()| (digest, ()));
        let (spool, ()) = Spool::write(elsewhere.path(), write).unwrap();
        assert_eq!(spool.file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        spool.keep(&dir.path().join("a")).unwrap();
        let names: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(
            (names.as_slice(), std::fs::read(dir.path().join("a")).unwrap()),
            (&["a".into()][..], b"x".to_vec())
        );
    }

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
