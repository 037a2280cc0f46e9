//! The scratch disk: encrypted and authenticated with keys that exist only in this kernel's memory.
//!
//! Two devices, as `cryptsetup --integrity hmac-sha256` stacks them: dm-integrity keeps 48 bytes beside each block of
//! 4096 bytes (no journal for data: mode D), dm-crypt above it fills them. A block is AES-256-XTS ciphertext under a
//! fresh random 16-byte IV at each write; HMAC-SHA-256 covers block number, IV and ciphertext. Keys are fresh per call.
//!
//! What the host can and cannot do:
//! - It cannot read blocks. It sees which blocks are read and written, when, and how much of the disk is in use.
//! - A changed block, a block or tag moved to another place, and a block of another disk or another boot give `EILSEQ`
//!   (`EIO` from file systems), never data.
//! - **Replay is not caught**: it may put back an older state of a block *with its IV and tag*, for each block by
//!   itself, written by this guest under this key at this very place; or drop a write. Catching that takes a tree of
//!   hashes with its root in memory, which nothing here keeps. So what must not roll back belongs in memory.
//! - It may refuse service: I/O errors, no answer.
//!
//! A block that was never written cannot be read (`EILSEQ`): its tag is whatever the host chose.

use std::fs::OpenOptions;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use zeroize::Zeroizing;

use crate::Error;
use crate::disk::Disk;
use crate::dm::{Control, Target};
use crate::mapped::{BLOCK, Mapped, hex, map, random_key, remove};

/// Bytes beside each block: IV (16) and HMAC-SHA-256 (32).
const TAG: u64 = 48;
/// dm-integrity's journal in sectors: unused in mode D, but it takes as much memory.
const JOURNAL: u64 = 512;
/// The smallest disk, as in plans.
const MIN_BYTES: u64 = 64 << 20;

/// Opens `disk` under fresh random keys; what was on it is lost. About 98 % of its size is usable, and nothing is
/// wiped, so every block must be written before it is read: [`crate::make_ext4`] does. The device below is named
/// `NAME-tags` and goes with the result.
///
/// # Errors
/// [`Error::Scratch`]: a disk that is read-only or smaller than 64 MiB, one whose first block does not keep what is
/// written to it, or a refusal of the kernel.
pub fn open_scratch(name: &str, disk: &Disk) -> Result<Mapped, Error> {
    open(name, disk).map_err(Error::scratch)
}

fn open(name: &str, disk: &Disk) -> Result<Mapped, Error> {
    let shown = disk.path.display();
    if disk.read_only {
        return Err(Error::Invalid(format!("{shown} is read-only")));
    }
    if disk.bytes < MIN_BYTES {
        let what = "a scratch disk";
        return Err(Error::TooSmall { disk: shown.to_string(), what, need: MIN_BYTES, got: disk.bytes });
    }
    clear(&disk.path)?;
    let tags = format!("{name}-tags");
    // Guards superblock and journal. A host can drop the flag that asks for it; so this keeps accidents and simple
    // games away from the kernel's reader of them. What protects content is dm-crypt's key alone.
    let guard = random_key::<32>()?;
    // dm-integrity lays the disk out at the first opening; how much of it is left it says only afterwards.
    let trial = integrity(&tags, disk, &guard, BLOCK / 512)?;
    let usable = usable_sectors(&Control::open()?, &tags)?;
    remove(&Control::open()?, &tags)?;
    trial.forget();
    let below = integrity(&tags, disk, &guard, usable)?;

    let keys = random_key::<96>()?;
    let mut parameters = Zeroizing::new(String::with_capacity(512));
    parameters.push_str("capi:authenc(hmac(sha256),xts(aes))-random ");
    parameters.push_str(&hex(keys.as_slice()));
    parameters.push_str(&format!(" 0 {} 0 2 integrity:{TAG}:aead sector_size:{BLOCK}", below.number()));
    let above = map(name, &Target { kind: "crypt", sectors: usable, parameters }, false, None)?;
    Ok(above.over(below))
}

/// Zeroes the first block: a dm-integrity superblock there would be believed.
fn clear(path: &Path) -> Result<(), Error> {
    let file = OpenOptions::new().write(true).custom_flags(libc::O_EXCL | libc::O_CLOEXEC).open(path);
    let file = file.map_err(Error::io(format!("open {}", path.display())))?;
    let wiped = file.write_all_at(&[0; 4096], 0).and_then(|()| file.sync_all());
    wiped.map_err(Error::io(format!("write to {}", path.display())))
}

fn integrity(name: &str, disk: &Disk, guard: &Zeroizing<[u8; 32]>, sectors: u64) -> Result<Mapped, Error> {
    let mut parameters = Zeroizing::new(String::with_capacity(512));
    parameters.push_str(&format!(
        "{} 0 {TAG} D 4 block_size:{BLOCK} journal_sectors:{JOURNAL} fix_hmac journal_mac:hmac(sha256):",
        disk.number
    ));
    parameters.push_str(&hex(guard.as_slice()));
    map(name, &Target { kind: "integrity", sectors, parameters }, false, None)
}

/// From the status line `<mismatches> <provided data sectors> …`.
pub(crate) fn usable_sectors(control: &Control, name: &str) -> Result<u64, Error> {
    let line = control.table_status(name)?;
    let provided: Option<u64> = line.split_whitespace().nth(1).and_then(|n| n.parse().ok());
    let whole = provided.map(|n| n - n % (BLOCK / 512)).filter(|n| *n > 0);
    whole.ok_or_else(|| Error::Invalid(format!("dm-integrity says {line:?}")))
}
