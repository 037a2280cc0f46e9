//! Mappings: a layer under dm-verity, its plaintext under dm-crypt.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use zeroize::{Zeroize, Zeroizing};

use crate::Error;
use crate::disk::Disk;
use crate::dm::{Control, Status, Target, is};

/// Block size of everything here, in bytes; also verity's hash blocks.
pub(crate) const BLOCK: u64 = 4096;
/// Sectors of 512 bytes in a block.
const SECTORS: u64 = BLOCK / 512;
/// SHA-256 hashes in a hash block.
const FANOUT: u64 = BLOCK / 32;
/// The most data blocks that are taken: 1 TiB, as in plans.
const MAX_BLOCKS: u64 = 1 << 28;
/// How long a closed device may stay busy, and a new one may lack its node.
const PATIENCE: Duration = Duration::from_secs(5);
const INTERVAL: Duration = Duration::from_millis(10);

/// A device-mapper device. Dropped, it is removed: at once, or when its last user (a mount, a mapping above it) is gone.
#[derive(Debug)]
pub struct Mapped {
    name: String,
    number: String,
    path: PathBuf,
    bytes: u64,
    /// The verity device at the bottom, where there is one.
    verity: Option<String>,
    /// What this one stands on, where it owns that; dropped after it.
    below: Option<Box<Mapped>>,
    removed: bool,
}

impl Mapped {
    /// Its name among device-mapper's devices.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its node, `/dev/dm-N`.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its size in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The name of the verity device that vouches for its blocks, itself or below it.
    pub fn verity(&self) -> Option<&str> {
        self.verity.as_deref()
    }

    /// Whether dm-verity has met a block that is not what the root hash says.
    ///
    /// # Errors
    /// [`Error::Io`] where the kernel does not answer.
    pub fn tampered(&self) -> Result<bool, Error> {
        let Some(verity) = &self.verity else { return Ok(false) };
        Ok(Control::open()?.table_status(verity)?.trim() == "C")
    }

    /// This mapping together with the one it stands on, to be closed in order.
    #[must_use]
    pub fn over(mut self, below: Mapped) -> Self {
        self.below = Some(Box::new(below));
        self
    }

    /// Removes it, and what it owns below it, waiting up to five seconds for its last user to go.
    ///
    /// # Errors
    /// [`Error::Io`] where it stays in use; it then goes with its last user.
    pub fn close(mut self) -> Result<(), Error> {
        let control = Control::open()?;
        remove(&control, &self.name)?;
        self.removed = true;
        self.below.take().map_or(Ok(()), |below| below.close())
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        if self.removed {
            return;
        }
        let removed = Control::open().and_then(|c| c.remove(&self.name, true));
        if let Err(e) = removed {
            tracing::warn!("{e}");
        }
    }
}

/// Removes a device, waiting for its last user.
pub(crate) fn remove(control: &Control, name: &str) -> Result<(), Error> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match control.remove(name, false) {
            Err(e) if is(&e, libc::EBUSY) && Instant::now() < deadline => thread::sleep(INTERVAL),
            other => return other,
        }
    }
}

/// Makes a device of one target. Nothing of it stays where a step fails.
pub(crate) fn map(
    name: &str,
    target: &Target<'_>,
    read_only: bool,
    verity: Option<String>,
) -> Result<Mapped, Error> {
    let control = Control::open()?;
    let Status { major, minor, .. } = control.create(name)?;
    let mut mapped = Mapped {
        name: name.to_owned(),
        number: format!("{major}:{minor}"),
        path: PathBuf::from(format!("/dev/dm-{minor}")),
        bytes: target.sectors.saturating_mul(512),
        verity,
        below: None,
        removed: false,
    };
    let live = control.load(name, target, read_only).and_then(|()| control.resume(name));
    if let Err(error) = live {
        // A device that never lived has no users.
        mapped.removed = remove(&control, name).is_ok();
        return Err(error);
    }
    let deadline = Instant::now() + PATIENCE;
    while !mapped.path.exists() {
        if Instant::now() >= deadline {
            return Err(Error::Invalid(format!("{} did not appear", mapped.path.display())));
        }
        thread::sleep(INTERVAL);
    }
    Ok(mapped)
}

/// A layer's blocks, each checked against `root` when it is read from the disk; a wrong one is an I/O error (never a
/// restart, a panic or data). Read-only. Format 1 of dm-verity (Linux, admin-guide/device-mapper/verity.rst): SHA-256,
/// no salt, no superblock, data and hash blocks of 4096 bytes, the tree right after `data_blocks` blocks of data.
///
/// # Errors
/// [`Error::TooSmall`] for a disk that cannot hold data and tree, [`Error::Invalid`] for a count beyond 1 TiB,
/// [`Error::Io`] where the kernel refuses. Nothing is read here: a wrong root shows at the first read.
pub fn open_verity(name: &str, disk: &Disk, data_blocks: u64, root: &[u8; 32]) -> Result<Mapped, Error> {
    if !(1..=MAX_BLOCKS).contains(&data_blocks) {
        return Err(Error::Invalid(format!(
            "{name}: {data_blocks} data blocks; 1 to {MAX_BLOCKS} are taken"
        )));
    }
    let need = (data_blocks + tree_blocks(data_blocks)) * BLOCK;
    if disk.bytes < need {
        let (disk, got) = (disk.path.display().to_string(), disk.bytes);
        return Err(Error::TooSmall { disk, what: "the layer with its hash tree", need, got });
    }
    let root = hex(root);
    let device = &disk.number;
    let table =
        format!("1 {device} {device} {BLOCK} {BLOCK} {data_blocks} {data_blocks} sha256 {} -", root.as_str());
    let target = Target { kind: "verity", sectors: data_blocks * SECTORS, parameters: Zeroizing::new(table) };
    map(name, &target, true, Some(name.to_owned()))
}

/// Blocks of the hash tree over that many data blocks. A single block has none: its own hash is the root.
fn tree_blocks(data_blocks: u64) -> u64 {
    let (mut level, mut total) = (data_blocks, 0);
    while level > 1 {
        level = level.div_ceil(FANOUT);
        total += level;
    }
    total
}

/// The plaintext of a layer whose blocks are AES-256-XTS ciphertext: sector size 4096 bytes, tweak = number of the
/// 4096-byte sector as 128-bit little-endian (`plain64`, `iv_large_sectors`), `key` = the two AES keys. Read-only.
///
/// `below` must stay open for as long as the result; [`Mapped::over`] sees to that.
///
/// # Errors
/// [`Error::Invalid`] for a size that is not whole blocks; [`Error::Io`] where the kernel refuses. A wrong key is not
/// noticed here: what is read is noise, which no file system accepts.
pub fn open_crypt(name: &str, below: &Mapped, key: &Zeroizing<[u8; 64]>) -> Result<Mapped, Error> {
    if below.bytes == 0 || !below.bytes.is_multiple_of(BLOCK) {
        return Err(Error::Invalid(format!("{}: {} bytes are not whole blocks", below.name, below.bytes)));
    }
    let mut parameters = Zeroizing::new(String::with_capacity(512));
    parameters.push_str("aes-xts-plain64 ");
    parameters.push_str(&hex(key.as_slice()));
    parameters.push_str(&format!(" 0 {} 0 2 sector_size:{BLOCK} iv_large_sectors", below.number));
    let target = Target { kind: "crypt", sectors: below.bytes / 512, parameters };
    map(name, &target, true, below.verity.clone())
}

/// Lower-case hexadecimal, wiped when dropped.
pub(crate) fn hex(bytes: &[u8]) -> Zeroizing<String> {
    const DIGITS: [char; 16] =
        ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    // Enough room from the start: growing would leave copies behind.
    let mut text = Zeroizing::new(String::with_capacity(2 * bytes.len()));
    for byte in bytes {
        for nibble in [byte >> 4, byte & 15] {
            text.push(DIGITS.get(usize::from(nibble)).copied().unwrap_or('0'));
        }
    }
    text
}

impl Mapped {
    /// `major:minor`.
    pub(crate) fn number(&self) -> &str {
        &self.number
    }

    /// Says that its device is gone already.
    pub(crate) fn forget(mut self) {
        self.removed = true;
    }
}

/// A random key of that many bytes.
pub(crate) fn random_key<const N: usize>() -> Result<Zeroizing<[u8; N]>, Error> {
    let mut key = Zeroizing::new([0; N]);
    let mut filled = 0;
    while let Some(rest) = key.get_mut(filled..).filter(|r| !r.is_empty()) {
        match rustix::rand::getrandom(rest, rustix::rand::GetRandomFlags::empty()) {
            Ok(n) => filled += n,
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => {
                key.zeroize();
                return Err(Error::io("make a key")(e.into()));
            }
        }
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_has_as_many_blocks_as_veritysetup_makes() {
        // `veritysetup format --no-superblock`: size of the hash file in blocks.
        for (data, hash) in [(1, 0), (2, 1), (128, 1), (129, 3), (16_384, 129), (16_385, 132)] {
            assert_eq!(tree_blocks(data), hash, "{data}");
        }
    }

    #[test]
    fn what_a_disk_cannot_hold_is_refused_before_the_kernel_is_asked() {
        let disk = Disk { path: "/dev/vdz".into(), number: "0:0".into(), bytes: 130 * 4096, read_only: true };
        let error = open_verity("x", &disk, 128, &[0; 32]).unwrap_err();
        assert!(!matches!(error, Error::TooSmall { .. }), "129 blocks fit: {error}");
        let error = open_verity("x", &disk, 129, &[0; 32]).unwrap_err();
        assert!(matches!(error, Error::TooSmall { need: 540_672, got: 532_480, .. }), "{error}");
        assert!(matches!(open_verity("x", &disk, 0, &[0; 32]), Err(Error::Invalid(_))));
        assert!(matches!(open_verity("x", &disk, u64::MAX, &[0; 32]), Err(Error::Invalid(_))));
    }

    #[test]
    fn keys_are_random_and_written_in_hex() {
        assert_eq!(hex(&[0, 0x1f, 0xff]).as_str(), "001fff");
        assert!(random_key::<300>().unwrap() != random_key::<300>().unwrap());
    }
}
