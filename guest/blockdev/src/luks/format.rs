//! A new volume on an empty disk.
//!
//! In this order, each step on the disk before the next: a word in the first sector that a formatting is under way; the key
//! slot and the second copy of the header; the file system; the first copy of the header, over that word.

use std::fs::File;
use std::os::unix::fs::FileExt;

use zeroize::Zeroizing;

use super::metadata::{Kdf, Metadata, Protection, Slot, area};
use super::{MIN_KEY, header, keys, plaintext};
use crate::Error;
use crate::disk::Disk;
use crate::ext4::make_lasting_ext4;
use crate::mapped::{Mapped, random_key};

/// Begins the first sector while a formatting is under way.
pub(super) const IN_PROGRESS: &[u8; 16] = b"COCOON FORMATS \n";
/// Where the key slot begins: after both copies.
const SLOT: u64 = 2 * 16 * 1024;
/// Where the volume begins, as cryptsetup has it.
const OFFSET: u64 = 16 << 20;
const SECTOR: u64 = 4096;
/// The owner's key is random and long ([`MIN_KEY`]), so stretching it adds nothing; it slows down who took a pass phrase
/// nevertheless.
const ROUNDS: u32 = 10_000;
/// The volume's key is random.
const DIGEST_ROUNDS: u32 = 1000;

/// Makes header, key and file system.
pub(super) fn format(
    name: &str,
    disk: &Disk,
    file: &File,
    owners: &Zeroizing<Vec<u8>>,
    protection: Protection,
) -> Result<Mapped, Error> {
    if owners.len() < MIN_KEY {
        let why = format!(
            "a key of {} bytes could be guessed; {MIN_KEY} are the least to format with",
            owners.len()
        );
        return Err(Error::Invalid(why));
    }
    let made = new(owners, protection, disk.bytes)?;
    let write = |bytes: &[u8], at: u64| {
        let done = file.write_all_at(bytes, at).and_then(|()| file.sync_all());
        done.map_err(Error::io(format!("format {}", disk.path.display())))
    };
    let mut word = [0; 512];
    word.iter_mut().zip(IN_PROGRESS).for_each(|(to, from)| *to = *from);
    write(&word, 0)?;
    write(&made.slot, SLOT)?;
    write(&made.second, made.second_at)?;
    if protection == Protection::Authentic {
        // Where dm-integrity finds zeros it makes its own records; those of a formatting that was cut off have to go.
        write(&[0; 4096], OFFSET)?;
    }
    let mapped = plaintext(name, disk, &made.metadata, &made.key)?;
    make_lasting_ext4(mapped.path(), mapped.bytes())?;
    write(&made.first, 0)?;
    Ok(mapped)
}

/// What a new volume is made of.
pub(super) struct New {
    pub(super) metadata: Metadata,
    pub(super) key: keys::VolumeKey,
    pub(super) slot: Zeroizing<Vec<u8>>,
    pub(super) first: Vec<u8>,
    pub(super) second: Vec<u8>,
    pub(super) second_at: u64,
}

/// Header, key and key slot for a disk of that many bytes.
pub(super) fn new(owners: &[u8], protection: Protection, disk: u64) -> Result<New, Error> {
    let random = random_key::<96>()?;
    let length = usize::try_from(protection.key_bytes()).unwrap_or(0);
    let key = Zeroizing::new(random.get(..length).unwrap_or_default().to_vec());
    let kdf = |rounds| Ok::<_, Error>(Kdf { salt: random_key::<32>()?.to_vec(), rounds });
    let (slot, digest) = (Slot { offset: SLOT, kdf: kdf(ROUNDS)? }, kdf(DIGEST_ROUNDS)?);
    let area = usize::try_from(area(protection)).unwrap_or(0);
    let content = keys::fill_slot(&slot.kdf, owners, &key, area)?;
    let metadata = Metadata {
        protection,
        sector: SECTOR,
        offset: OFFSET,
        bytes: disk.saturating_sub(OFFSET) / SECTOR * SECTOR,
        slots: vec![slot],
        expected: keys::digest_of(&digest, &key),
        digest,
    };
    let salts = [*random_key::<64>()?, *random_key::<64>()?];
    let copies = header::both(&metadata.text(header::COPY), &uuid()?, &salts);
    let (first, second) = copies.ok_or_else(|| Error::Invalid("a header too large".into()))?;
    let second_at = u64::try_from(first.len()).unwrap_or(0);
    Ok(New { metadata, key, slot: content, first, second, second_at })
}

/// A random one (RFC 9562, version 4).
fn uuid() -> Result<String, Error> {
    let mut bytes = *random_key::<16>()?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let text = hex_text(&bytes);
    let part = |range: std::ops::Range<usize>| text.get(range).unwrap_or_default().to_owned();
    Ok([part(0..8), part(8..12), part(12..16), part(16..20), part(20..32)].join("-"))
}

fn hex_text(bytes: &[u8]) -> String {
    crate::mapped::hex(bytes).to_string()
}
