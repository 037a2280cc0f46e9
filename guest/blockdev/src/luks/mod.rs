//! Encrypted volumes that outlive the pod: a disk of the host with a LUKS2 header, opened by a key of the owner's.
//!
//! What the host can do: it sees which blocks are read and written, it can put back an older state of the disk or an empty
//! one, and refuse service. It cannot read, nor say how the volume is enciphered: only what this crate itself would write is
//! taken of a header (see [`metadata`]), and a header by which another key than the owner's opens cannot be made without it.
//! With [`Protection::Authentic`] a block that was changed or moved is an I/O error; without it, it is noise.
//!
//! A disk is formatted only where it is empty: zeros in its first 17 MiB and last MiB, where every file system, volume manager
//! and partition table begins or ends. A word of this crate's in the first sector says that a formatting is under way; one
//! that was cut off begins again, since nothing was kept on it yet.

mod format;
mod header;
mod keys;
pub mod metadata;

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};

use zeroize::Zeroizing;

use crate::Error;
use crate::disk::Disk;
use crate::dm::{Control, Target};
use crate::mapped::{BLOCK, Mapped, hex, map, remove};
use crate::scratch::usable_sectors;

pub use header::{Found, Header, find};
pub use metadata::Protection;

use format::IN_PROGRESS;
use keys::VolumeKey;
use metadata::Metadata;

/// Bytes beside each block under dm-integrity: IV (16) and HMAC-SHA-256 (32).
const TAG: u64 = 48;
/// The least bytes of a key under which a disk is formatted: the header is the host's to guess at.
pub const MIN_KEY: usize = 32;
/// The most bytes of a key.
pub const MAX_KEY: usize = 8 << 20;
/// The smallest disk that is formatted, in bytes.
pub const MIN_DISK: u64 = 48 << 20;
/// What must be zeros at a disk's beginning and end, in bytes.
const EMPTY: (u64, u64) = (17 << 20, 1 << 20);

/// Why a disk is no volume of the owner's.
#[derive(Debug)]
pub enum Problem {
    /// It holds something else; the reason.
    Foreign(String),
}

impl Problem {
    fn foreign(why: &str) -> Self {
        Problem::Foreign(why.to_owned())
    }
}

/// An encrypted volume whose plaintext is there.
#[derive(Debug)]
pub struct Encrypted {
    /// The plaintext, an ext4 file system.
    pub mapped: Mapped,
    /// Whether it was made just now, of an empty disk.
    pub new: bool,
}

/// Opens the volume on `disk` by the owner's key (at most 8 MiB); an empty disk is formatted first, and gets an ext4 file
/// system. Everything of the result is called after `name`. A header of which one copy is damaged is repaired.
///
/// # Errors
/// [`Error::Foreign`] for a disk that is neither empty nor such a volume: nothing of it is changed. [`Error::WrongKey`].
/// [`Error::Volume`] for a disk that cannot be used, a key too short to format with, or a refusal of the kernel.
pub fn open_encrypted(
    name: &str,
    disk: &Disk,
    owners: &Zeroizing<Vec<u8>>,
    protection: Protection,
) -> Result<Encrypted, Error> {
    open(name, disk, owners, protection).map_err(Error::volume)
}

fn open(
    name: &str,
    disk: &Disk,
    owners: &Zeroizing<Vec<u8>>,
    protection: Protection,
) -> Result<Encrypted, Error> {
    let shown = disk.path.display().to_string();
    let foreign = |Problem::Foreign(why)| Error::Foreign { disk: shown.clone(), why };
    if owners.is_empty() || owners.len() > MAX_KEY {
        return Err(Error::Invalid(format!("a key of {} bytes", owners.len())));
    }
    let io = |what: &str| Error::io(format!("{what} {shown}"));
    let file =
        OpenOptions::new().read(true).write(!disk.read_only).custom_flags(libc::O_CLOEXEC).open(&disk.path);
    let file = file.map_err(io("open"))?;
    let start =
        read(&file, 0, header::MOST.min(usize::try_from(disk.bytes).unwrap_or(0))).map_err(io("read"))?;
    let interrupted = start.starts_with(IN_PROGRESS);
    let found = if interrupted { Found::Nothing } else { find(&start, disk.bytes).map_err(foreign)? };
    let Found::Header(header) = found else {
        if !interrupted && !is_empty(&file, disk.bytes).map_err(io("read"))? {
            return Err(foreign(Problem::foreign(
                "it is neither empty nor a LUKS2 volume; it is left as it is",
            )));
        }
        if disk.read_only || disk.bytes < MIN_DISK {
            let why = format!("{shown} is empty, and read-only or smaller than {} MiB", MIN_DISK >> 20);
            return Err(Error::Invalid(why));
        }
        let mapped = format::format(name, disk, &file, owners, protection)?;
        return Ok(Encrypted { mapped, new: true });
    };
    let key = volume_key(&file, &header.metadata, owners).map_err(io("read"))?;
    let key = key.ok_or_else(|| Error::WrongKey(shown.clone()))?;
    if header.metadata.protection != protection {
        let why = match protection {
            Protection::Authentic => "its volume has no integrity, which the plan asks for",
            Protection::Secret => "its volume has integrity, which the plan does not know of",
        };
        return Err(foreign(Problem::foreign(why)));
    }
    if let Some((at, copy)) = header.repaired().filter(|_| !disk.read_only) {
        file.write_all_at(&copy, at).and_then(|()| file.sync_all()).map_err(io("repair the header of"))?;
    }
    Ok(Encrypted { mapped: plaintext(name, disk, &header.metadata, &key)?, new: false })
}

/// The volume's key, where one of the slots opens by the owner's.
fn volume_key(file: &File, metadata: &Metadata, owners: &[u8]) -> io::Result<Option<VolumeKey>> {
    let length = usize::try_from(metadata.protection.key_bytes() * metadata::STRIPES).unwrap_or(0);
    for slot in &metadata.slots {
        let mut area = Zeroizing::new(read(file, slot.offset, length.next_multiple_of(512))?);
        if let Some(key) = keys::open_slot(metadata, &slot.kdf, owners, &mut area) {
            return Ok(Some(key));
        }
    }
    Ok(None)
}

fn read(file: &File, at: u64, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, at)?;
    Ok(bytes)
}

fn is_empty(file: &File, bytes: u64) -> io::Result<bool> {
    const PIECE: usize = 1 << 20;
    let (start, end) = EMPTY;
    let mut buffer = vec![0; PIECE];
    for range in [0..start.min(bytes), bytes.saturating_sub(end).max(start)..bytes] {
        let mut at = range.start;
        while at < range.end {
            let length = PIECE.min(usize::try_from(range.end - at).unwrap_or(PIECE));
            let piece = buffer.get_mut(..length).unwrap_or_default();
            file.read_exact_at(piece, at)?;
            if piece.iter().any(|b| *b != 0) {
                return Ok(false);
            }
            at += u64::try_from(length).unwrap_or(u64::MAX);
        }
    }
    Ok(true)
}

/// Puts dm-crypt over the volume, and dm-integrity between, where there is any.
fn plaintext(name: &str, disk: &Disk, metadata: &Metadata, key: &VolumeKey) -> Result<Mapped, Error> {
    let Metadata { protection, sector, offset, bytes, .. } = metadata;
    let mut parameters = Zeroizing::new(String::with_capacity(512));
    match protection {
        Protection::Secret => {
            parameters.push_str("aes-xts-plain64 ");
            parameters.push_str(&hex(key));
            let options = if *sector == 512 { String::new() } else { format!(" 1 sector_size:{sector}") };
            parameters.push_str(&format!(" 0 {} {}{options}", disk.number, offset / 512));
            map(name, &Target { kind: "crypt", sectors: bytes / 512, parameters }, disk.read_only, None)
        }
        Protection::Authentic => {
            let tags = format!("{name}-tags");
            // How much is left for data dm-integrity says only once it is open.
            let trial = integrity(&tags, disk, *offset, BLOCK / 512)?;
            let usable = usable_sectors(&Control::open()?, &tags)?;
            remove(&Control::open()?, &tags)?;
            trial.forget();
            let below = integrity(&tags, disk, *offset, usable)?;
            parameters.push_str("capi:authenc(hmac(sha256),xts(aes))-random ");
            parameters.push_str(&hex(key));
            parameters
                .push_str(&format!(" 0 {} 0 2 integrity:{TAG}:aead sector_size:{BLOCK}", below.number()));
            let above =
                map(name, &Target { kind: "crypt", sectors: usable, parameters }, disk.read_only, None)?;
            Ok(above.over(below))
        }
    }
}

/// Mode J: a journal makes data and tag one, so that a VM that is killed leaves no block whose tag is another's.
fn integrity(name: &str, disk: &Disk, offset: u64, sectors: u64) -> Result<Mapped, Error> {
    let table = format!("{} {} {TAG} J 1 block_size:{BLOCK}", disk.number, offset / 512);
    let target = Target { kind: "integrity", sectors, parameters: Zeroizing::new(table) };
    map(name, &target, disk.read_only, None)
}

#[cfg(test)]
mod tests;
