//! The chain on disk: a folder that is there whole or not at all.
//!
//! `ark.der`, `ask.der`, `vcek.der` (certificates), `vcek.key` (PKCS#8) and `chip-id` (64 bytes), all mode 0600 in a folder
//! of mode 0700. The folder is written under another name and renamed, so that of several processes that make it at once one
//! wins and the others use what it made.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::Error;
use crate::certificates::{Chain, random};

const ARK: &str = "ark.der";
const ASK: &str = "ask.der";
const VCEK: &str = "vcek.der";
const KEY: &str = "vcek.key";
const CHIP_ID: &str = "chip-id";
/// No file of the folder is longer.
const MAX_FILE: u64 = 16 * 1024;

/// Reads the chain; `None` where there is no folder or an empty one.
pub fn load(dir: &Path) -> Result<Option<Chain>, Error> {
    match fs::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(io_error(dir)(e)),
        Ok(mut entries) => {
            if entries.next().is_none() {
                return Ok(None);
            }
        }
    }
    let key_path = dir.join(KEY);
    if let Ok(metadata) = fs::metadata(&key_path)
        && metadata.mode() & 0o077 != 0
    {
        return Err(Error::KeyExposed(key_path));
    }
    let chip_id = read(dir, CHIP_ID)?;
    Ok(Some(Chain {
        ark: read(dir, ARK)?.to_vec(),
        ask: read(dir, ASK)?.to_vec(),
        vcek: read(dir, VCEK)?.to_vec(),
        key: read(dir, KEY)?,
        chip_id: chip_id.as_slice().try_into().map_err(|_| Error::Incomplete(dir.to_owned()))?,
    }))
}

/// Writes the chain unless another process was faster; either way the folder is whole afterwards.
pub fn store(dir: &Path, chain: &Chain) -> Result<(), Error> {
    let parent = match dir.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    fs::create_dir_all(parent).map_err(io_error(parent))?;
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    let draft = Draft(parent.join(format!(".{name}.{}", hex::encode(random::<8>()?))));
    DirBuilder::new().mode(0o700).create(&draft.0).map_err(io_error(&draft.0))?;
    let files: [(&str, &[u8]); 5] = [
        (ARK, &chain.ark),
        (ASK, &chain.ask),
        (VCEK, &chain.vcek),
        (KEY, &chain.key),
        (CHIP_ID, &chain.chip_id),
    ];
    for (name, bytes) in files {
        write(&draft.0.join(name), bytes)?;
    }
    sync(&draft.0)?;
    match fs::rename(&draft.0, dir) {
        Ok(()) => sync(parent),
        // Another process's folder stands there already.
        Err(e) if matches!(e.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists) => {
            Ok(())
        }
        Err(e) => Err(io_error(dir)(e)),
    }
}

/// A folder not yet in its place; it goes away with this value if it never gets there.
struct Draft(PathBuf);

impl Drop for Draft {
    fn drop(&mut self) {
        // After the rename there is nothing under this name any more.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn read(dir: &Path, name: &str) -> Result<Zeroizing<Vec<u8>>, Error> {
    let path = dir.join(name);
    let file = match File::open(&path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(Error::Incomplete(dir.to_owned())),
        other => other.map_err(io_error(&path))?,
    };
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(io_error(&path))?;
    match bytes.len() as u64 {
        1..=MAX_FILE => Ok(bytes),
        _ => Err(Error::Incomplete(dir.to_owned())),
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut f| f.write_all(bytes).and_then(|()| f.sync_all())).map_err(io_error(path))
}

fn sync(dir: &Path) -> Result<(), Error> {
    File::open(dir).and_then(|d| d.sync_all()).map_err(io_error(dir))
}

fn io_error(path: &Path) -> impl Fn(io::Error) -> Error + '_ {
    |source| Error::Io { path: path.to_owned(), source }
}
