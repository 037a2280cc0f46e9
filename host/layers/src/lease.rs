//! A layer in use, and the cheap checks before it is.

use std::fs::{File, FileTimes};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::FlockOperation;

use crate::locks::try_lock;
use crate::{BLOCK, folder, shape};

/// Hex digits of the root that make a disk's serial number, which has at most 20 bytes.
const SERIAL: usize = 20;
/// Tries to get a lock that is held for moments only.
const MOMENTS: u32 = 250;

/// A layer that stays in the cache for as long as this lives, or its process does.
#[derive(Debug)]
pub struct Lease {
    /// The file: data blocks, then the tree. Absolute where the cache's folder is.
    pub path: PathBuf,
    /// The tree's root hash.
    pub root: [u8; 32],
    /// Data blocks.
    pub blocks: u64,
    /// Whether the root is one that this process computed just now, over content that it verified. Else it is what the
    /// cache says, for a guest to check.
    pub computed: bool,
    /// Locked, shared.
    pub(crate) file: File,
}

impl Lease {
    /// The root hash as 64 hex digits.
    pub fn root_hex(&self) -> String {
        hex::encode(self.root)
    }

    /// The serial number of the layer's disk: the first 20 hex digits of the root.
    pub fn serial(&self) -> String {
        let mut hex = self.root_hex();
        hex.truncate(SERIAL);
        hex
    }
}

/// Why a file in the cache is no layer to be served.
pub(crate) type Unfit = &'static str;

/// Takes a lease on the layer with this root. `Ok(None)` where there is none, or it is about to be removed; `Err` says
/// why what is there cannot be served. The checks are cheap: they find what crashes, full disks and other users do, not
/// a changed block, which the guest finds.
pub(crate) fn lease(layers: &Path, root: [u8; 32]) -> Result<Option<Lease>, Unfit> {
    let path = layers.join(hex::encode(root));
    let file = match folder::open(&path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(_) => return Err("it cannot be opened, or is a link"),
    };
    let found = file.metadata().map_err(|_| "it cannot be examined")?;
    folder::fit(&found, found.is_file(), "it is no file")?;
    let blocks = shape::data_blocks(found.len()).ok_or("its length is none that a layer can have")?;
    let mut top = [0; 4096];
    // The tree's first block, or the only data block where there is no tree.
    let at = if blocks == 1 { 0 } else { blocks.saturating_mul(BLOCK) };
    file.read_exact_at(&mut top, at).map_err(|_| "it cannot be read")?;
    if aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &top).as_ref() != root {
        return Err("its tree does not begin with the root");
    }
    let held = lock(&file) && folder::names(&path, &file).unwrap_or(false);
    Ok(held.then(|| Lease { path, root, blocks, computed: false, file }))
}

/// Locks for use. Who removes layers, or looks which are in use, holds the other lock for a moment only.
fn lock(file: &File) -> bool {
    for _ in 0..MOMENTS {
        match try_lock(file, FlockOperation::NonBlockingLockShared) {
            Ok(true) => return true,
            Ok(false) => std::thread::sleep(Duration::from_millis(2)),
            Err(_) => return false,
        }
    }
    false
}

/// Notes that the layer is used now. What cannot be noted only makes an earlier removal more likely.
pub(crate) fn touch(file: &File) {
    let _ = file.set_times(FileTimes::new().set_modified(SystemTime::now()));
}

/// The root that a file's name stands for.
pub(crate) fn root_of(name: &str) -> Option<[u8; 32]> {
    let mut root = [0; 32];
    // One root has one name.
    let lower = !name.bytes().any(|b| b.is_ascii_uppercase());
    (lower && hex::decode_to_slice(name, &mut root).is_ok()).then_some(root)
}
