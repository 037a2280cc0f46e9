//! Files on disk: what one is (content, mode, owner), and how one is replaced so that a crash leaves the old or the new.

use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// What a regular file is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Print {
    /// SHA-256 of its content, hex.
    pub sha256: String,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// Content of a file to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// These bytes.
    Bytes(Vec<u8>),
    /// What this file holds.
    CopyOf(PathBuf),
}

impl Content {
    /// SHA-256, hex.
    pub fn sha256(&self) -> io::Result<String> {
        match self {
            Content::Bytes(bytes) => Ok(hex::encode(Sha256::digest(bytes))),
            Content::CopyOf(path) => digest(&mut File::open(path)?, &mut io::sink()),
        }
    }
}

impl Print {
    /// Of the file at `path`; `None` where there is none.
    ///
    /// # Errors
    /// Of reading; and where there is something that is no regular file.
    pub fn of(path: &Path) -> io::Result<Option<Self>> {
        let meta = match fs::symlink_metadata(path) {
            Ok(meta) => meta,
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            Err(e) => return Err(named(path, &e)),
        };
        if !meta.is_file() {
            return Err(io::Error::other(format!("{} is no regular file", path.display())));
        }
        let mut file = File::open(path).map_err(|e| named(path, &e))?;
        let sha256 = digest(&mut file, &mut io::sink()).map_err(|e| named(path, &e))?;
        Ok(Some(Print { sha256, mode: meta.mode() & 0o7777, uid: meta.uid(), gid: meta.gid() }))
    }
}

/// An error that says which file.
pub fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

fn digest(from: &mut impl Read, to: &mut impl Write) -> io::Result<String> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let n = from.read(&mut buffer)?;
        let Some(chunk) = buffer.get(..n).filter(|c| !c.is_empty()) else { break };
        hash.update(chunk);
        to.write_all(chunk)?;
    }
    Ok(hex::encode(hash.finalize()))
}

/// Where the new content of `path` waits for its name. The ending keeps it out of every `*.toml`.
pub fn waiting(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.cocoon-new"))
}

/// Puts `content` in place of `path`: written beside it, flushed, renamed, and the folder flushed. The folder must exist.
///
/// # Errors
/// Of any step; also where the content is not what `print` says. `path` is as before then.
pub fn replace(path: &Path, content: &Content, print: &Print) -> io::Result<()> {
    let temp = waiting(path);
    let written = write(&temp, content, print).and_then(|()| fs::rename(&temp, path));
    if let Err(e) = written {
        let _ = fs::remove_file(&temp);
        return Err(named(path, &e));
    }
    flush_folder(path)
}

fn write(temp: &Path, content: &Content, print: &Print) -> io::Result<()> {
    match fs::remove_file(temp) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut file = File::options().write(true).create_new(true).open(temp)?;
    let sha256 = match content {
        Content::Bytes(bytes) => digest(&mut bytes.as_slice(), &mut file)?,
        Content::CopyOf(path) => digest(&mut File::open(path)?, &mut file)?,
    };
    if sha256 != print.sha256 {
        return Err(io::Error::other("the content changed while it was copied"));
    }
    let meta = file.metadata()?;
    if (meta.uid(), meta.gid()) != (print.uid, print.gid) {
        fchown(&file, Some(print.uid), Some(print.gid))?;
    }
    // After the owner, since a change of owner clears the set-id bits.
    file.set_permissions(Permissions::from_mode(print.mode))?;
    file.sync_all()
}

/// Removes `path`, and flushes its folder. That it is not there is fine.
///
/// # Errors
/// Of removing.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(named(path, &e)),
        Err(_) => Ok(()),
        Ok(()) => flush_folder(path),
    }
}

/// Flushes the folder that `path` is in.
pub fn flush_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    File::open(folder)?.sync_all().map_err(|e| named(folder, &e))
}

/// The folders above `path` that do not exist, outermost first.
pub fn lacking(path: &Path) -> Vec<PathBuf> {
    let mut lacking: Vec<PathBuf> =
        path.ancestors().skip(1).take_while(|dir| !dir.exists()).map(Path::to_path_buf).collect();
    lacking.reverse();
    lacking
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_with_mode_and_owner_and_nothing_is_left_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.toml");
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o440)).unwrap();
        let before = Print::of(&path).unwrap().unwrap();
        assert_eq!(before.mode, 0o440);
        let content = Content::Bytes(b"new".to_vec());
        let print = Print { sha256: content.sha256().unwrap(), ..before };
        replace(&path, &content, &print).unwrap();
        assert_eq!(Print::of(&path).unwrap(), Some(print.clone()));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        let wrong = Content::Bytes(b"other".to_vec());
        assert!(replace(&path, &wrong, &print).is_err());
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        remove(&path).unwrap();
        remove(&path).unwrap();
        assert_eq!(Print::of(&path).unwrap(), None);
        assert!(Print::of(dir.path()).is_err());
    }

    #[test]
    fn folders_that_are_not_there_are_listed_from_the_outside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/c");
        assert_eq!(lacking(&path), [dir.path().join("a"), dir.path().join("a/b")]);
    }
}
