//! Files of this host that a pod names: opened so that nothing but a plain file is ever waited for, read or written.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Opens a regular file. A pipe or device there is neither waited for nor used.
fn regular(options: &mut OpenOptions, flags: i32, path: &Path) -> io::Result<File> {
    let file = options.custom_flags(flags | libc::O_NONBLOCK | libc::O_NOCTTY).open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file")),
    }
}

/// Reads the first `limit` bytes of a file.
///
/// # Errors
/// The file system's; for what is no regular file.
pub fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    regular(OpenOptions::new().read(true), 0, path)?.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Puts `bytes` in the place of what is in a file, which must be there. A link is not followed.
///
/// # Errors
/// The file system's; for what is no regular file.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // What it is is looked at before anything of it is lost.
    let mut file = regular(OpenOptions::new().write(true), libc::O_NOFOLLOW, path)?;
    file.set_len(0)?;
    file.write_all(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_files_are_touched_and_nothing_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link, pipe) = (dir.path().join("f"), dir.path().join("l"), dir.path().join("p"));
        std::fs::write(&file, "before, and longer").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        let kind = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, kind, 0o600.into(), 0).unwrap();
        assert!(replace(&link, b"x").is_err() && replace(&pipe, b"x").is_err());
        assert!(replace(&dir.path().join("new"), b"x").is_err() && !dir.path().join("new").exists());
        assert!(read(&pipe, 10).is_err() && read(dir.path(), 10).is_err());
        assert_eq!(read(&link, 6).unwrap(), b"before");
        replace(&file, b"after").unwrap();
        assert_eq!(std::fs::read(&file).unwrap(), b"after");
    }
}
