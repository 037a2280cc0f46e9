//! Files that hold one 32-byte key, which only their owner can read.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use zeroize::Zeroizing;

use crate::Error;

/// The key in the file at `path`, created (0600, random) if absent. Of several processes that create at once all
/// get the same key.
pub(crate) fn open_or_create(path: &Path) -> Result<Zeroizing<[u8; 32]>, Error> {
    match open_existing(path) {
        Ok(file) => read(path, file),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            create(path)?;
            open(path)
        }
        Err(error) => Err(Error::io(path, error)),
    }
}

/// The key in the file at `path`. A file that is not regular, not 32 bytes or readable by others is refused.
pub(crate) fn open(path: &Path) -> Result<Zeroizing<[u8; 32]>, Error> {
    read(path, open_existing(path).map_err(|e| Error::io(path, e))?)
}

fn read(path: &Path, mut file: File) -> Result<Zeroizing<[u8; 32]>, Error> {
    let unusable = |reason: &str| Error::KeyFile { path: path.display().to_string(), reason: reason.into() };
    let metadata = file.metadata().map_err(|e| Error::io(path, e))?;
    if !metadata.is_file() {
        return Err(unusable("not a regular file"));
    }
    let own = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    if !is_private(metadata.mode(), (metadata.uid(), metadata.gid()), own) {
        return Err(unusable("others may read it; run chmod 600"));
    }
    if metadata.len() != 32 {
        return Err(unusable("not 32 bytes"));
    }
    let mut key = Zeroizing::new([0u8; 32]);
    file.read_exact(key.as_mut()).map_err(|e| Error::io(path, e))?;
    Ok(key)
}

/// Whether nobody but this process's user reads a file of this owner, or nobody but its group where the file is root's and only to be
/// read: as a Secret is in a pod of an ordinary user. Owners are user and group.
fn is_private(mode: u32, owner: (u32, u32), own: (u32, u32)) -> bool {
    let lent = owner.0 == 0 && own.0 != 0 && owner.1 == own.1 && owner.1 != 0;
    mode & 0o077 == 0 || (lent && mode & 0o037 == 0)
}

/// 32 random bytes.
pub(crate) fn random_key() -> Result<Zeroizing<[u8; 32]>, Error> {
    let mut key = Zeroizing::new([0u8; 32]);
    aws_lc_rs::rand::fill(key.as_mut()).map_err(|_| Error::Crypto)?;
    Ok(key)
}

fn open_existing(path: &Path) -> std::io::Result<File> {
    let no_follow = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or(0);
    OpenOptions::new().read(true).custom_flags(no_follow).open(path)
}

/// Writes a fresh key beside `path` and links it there: the name appears with all its bytes or not at all, and
/// an existing file wins.
fn create(path: &Path) -> Result<(), Error> {
    let folder = path.parent().unwrap_or(Path::new("."));
    create_private_folder(folder)?;
    let mut suffix = [0u8; 8];
    aws_lc_rs::rand::fill(&mut suffix).map_err(|_| Error::Crypto)?;
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".new-{}", hex::encode(suffix)));
    let temporary = Path::new(&temporary);
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(temporary)?;
        let key = random_key().map_err(|_| std::io::Error::other("no randomness"))?;
        file.write_all(key.as_ref())?;
        file.sync_all()?;
        match std::fs::hard_link(temporary, path) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(error),
            _ => File::open(folder)?.sync_all(),
        }
    })();
    drop(std::fs::remove_file(temporary));
    written.map_err(|e| Error::io(path, e))
}

/// Creates a folder and its parents for the owner only (0700), unless it is there.
pub(crate) fn create_private_folder(folder: &Path) -> Result<(), Error> {
    if folder.as_os_str().is_empty() || folder.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|e| Error::io(folder, e))
}

#[cfg(test)]
mod tests {
    use super::is_private;

    #[test]
    fn a_key_is_its_owners_or_lent_by_root_to_be_read() {
        let me = (65532, 65532);
        assert!(is_private(0o600, me, me) && is_private(0o400, (0, 0), (0, 0)));
        assert!(is_private(0o440, (0, 65532), me));
        for (mode, owner, own) in [
            (0o640, me, me),
            (0o444, (0, 65532), me),
            (0o460, (0, 65532), me),
            (0o450, (0, 65532), me),
            (0o440, (1000, 65532), me),
            (0o440, (0, 100), me),
            (0o440, (0, 0), (65532, 0)),
            (0o440, (0, 0), (0, 0)),
        ] {
            assert!(!is_private(mode, owner, own), "{mode:o} {owner:?}");
        }
    }
}
