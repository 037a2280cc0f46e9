//! Launch digest of the simulated platform: the same PAGE_INFO chain over the files that are really booted.
//!
//! A machine without a TEE boots with a firmware that has no SEV tables (SeaBIOS, plain OVMF), so the layout is fixed
//! here: every page of the firmware so that it ends at 4 GiB, the kernel hash table as one page below it, and one VMSA page
//! per vCPU. The kernel and initrd count through their SHA-256 in that table, exactly as on hardware.

use std::io::{self, Read};

use aws_lc_rs::digest::{Context, SHA256};

use crate::snp::{EPYC_V4, GUEST_FEATURES, KernelHashes, LaunchDigest, PAGE, RESET_VECTOR, Vmsa};

/// So much is in memory at once of files that are hashed while they are read: whole pages.
const PIECE: usize = 16 * PAGE;
const FOUR_GIB: u64 = 1 << 32;
/// Where the simulated platform's kernel hash page lies, as in edk2's AmdSev layout.
const HASHES_GPA: u64 = 0x0081_0000;

/// What is booted.
#[derive(Clone, Copy, Debug)]
pub struct BootFiles<'a> {
    /// Firmware file, any; padded to whole pages.
    pub firmware: &'a [u8],
    /// Kernel file.
    pub kernel: &'a [u8],
    /// Initrd file.
    pub initrd: &'a [u8],
    /// Kernel command line without NUL.
    pub cmdline: &'a str,
}

/// The files reduced to what the launch digest needs, so that big files are read and hashed once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BootDigests {
    /// Running launch digest over the firmware's pages.
    pub firmware: [u8; 48],
    /// SHA-256 of the kernel file.
    pub kernel: [u8; 32],
    /// SHA-256 of the initrd file.
    pub initrd: [u8; 32],
    /// SHA-256 of the command line and its NUL.
    pub cmdline: [u8; 32],
}

impl BootDigests {
    /// Hashes the files.
    pub fn of(files: &BootFiles<'_>) -> Self {
        let KernelHashes { kernel, initrd, cmdline } =
            KernelHashes::of(files.kernel, files.initrd, files.cmdline);
        BootDigests { firmware: firmware_digest(files.firmware), kernel, initrd, cmdline }
    }

    /// Hashes the files as they are read, piece by piece; the firmware has `length` bytes.
    ///
    /// # Errors
    /// The readers', and a firmware of another length.
    pub fn read(
        (firmware, length): (impl Read, u64),
        kernel: impl Read,
        initrd: impl Read,
        cmdline: &str,
    ) -> io::Result<Self> {
        let mut digest = LaunchDigest::new();
        let page = u64::try_from(PAGE).unwrap_or(u64::MAX);
        let mut gpa = FOUR_GIB.wrapping_sub(length.div_ceil(page).wrapping_mul(page));
        let mut left = length;
        // All pieces but the last are of whole pages.
        in_pieces(firmware, |piece| {
            digest.update_pages(piece, gpa);
            let bytes = u64::try_from(piece.len()).unwrap_or(u64::MAX);
            (gpa, left) = (gpa.wrapping_add(bytes), left.wrapping_sub(bytes));
        })?;
        if left != 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the firmware changes while it is read"));
        }
        let KernelHashes { cmdline, .. } = KernelHashes::of(&[], &[], cmdline);
        Ok(BootDigests {
            firmware: digest.value(),
            kernel: sha256(kernel)?,
            initrd: sha256(initrd)?,
            cmdline,
        })
    }

    /// The launch digest with this many vCPUs.
    pub fn launch_digest(&self, vcpus: u32) -> [u8; 48] {
        let BootDigests { firmware, kernel, initrd, cmdline } = *self;
        let mut digest = LaunchDigest::resume(firmware);
        digest.update_pages(&KernelHashes { kernel, initrd, cmdline }.table(), HASHES_GPA);
        let page = Vmsa { eip: RESET_VECTOR, cpu_signature: EPYC_V4, guest_features: GUEST_FEATURES }.page();
        (0..vcpus).for_each(|_| digest.update_vmsa(&page));
        digest.value()
    }
}

/// Gives what is read in pieces of [`PIECE`] bytes, the last one of what is left.
fn in_pieces(mut from: impl Read, mut take: impl FnMut(&[u8])) -> io::Result<()> {
    let mut piece = Vec::with_capacity(PIECE);
    loop {
        piece.clear();
        let limit = u64::try_from(PIECE).unwrap_or(u64::MAX);
        if from.by_ref().take(limit).read_to_end(&mut piece)? == 0 {
            return Ok(());
        }
        take(&piece);
    }
}

fn sha256(from: impl Read) -> io::Result<[u8; 32]> {
    let mut context = Context::new(&SHA256);
    in_pieces(from, |piece| context.update(piece))?;
    let mut value = [0; 32];
    context.finish().as_ref().iter().zip(&mut value).for_each(|(byte, place)| *place = *byte);
    Ok(value)
}

/// Running launch digest over a firmware file's pages, placed to end at 4 GiB.
pub fn firmware_digest(firmware: &[u8]) -> [u8; 48] {
    let mut digest = LaunchDigest::new();
    let pages = firmware.len().div_ceil(PAGE) as u64;
    digest.update_pages(firmware, FOUR_GIB.wrapping_sub(pages.wrapping_mul(PAGE as u64)));
    digest.value()
}

/// The launch digest of these files with this many vCPUs.
pub fn launch_digest(files: &BootFiles<'_>, vcpus: u32) -> [u8; 48] {
    BootDigests::of(files).launch_digest(vcpus)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILES: BootFiles<'static> =
        BootFiles { firmware: &[7; 10_000], kernel: b"kernel", initrd: b"initrd", cmdline: "console=ttyS0" };

    #[test]
    fn every_input_counts() {
        let base = launch_digest(&FILES, 1);
        let changed = [
            BootFiles { firmware: &[7; 10_001], ..FILES },
            BootFiles { firmware: &[8; 10_000], ..FILES },
            BootFiles { kernel: b"kernel.", ..FILES },
            BootFiles { initrd: b"", ..FILES },
            BootFiles { cmdline: "console=ttyS1", ..FILES },
        ];
        for files in changed {
            assert_ne!(launch_digest(&files, 1), base);
        }
        assert_ne!(launch_digest(&FILES, 2), base);
        assert_eq!(launch_digest(&FILES, 1), base);
    }

    #[test]
    fn read_in_pieces_they_are_the_same() {
        for length in [0, 1, PAGE, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE + 5] {
            let bytes: Vec<u8> = (0..length).map(|n| n.to_le_bytes()[0]).collect();
            let files = BootFiles { firmware: &bytes, kernel: &bytes, initrd: b"initrd", cmdline: "x y" };
            let read = |length: usize| {
                BootDigests::read((&bytes[..], length as u64), &bytes[..], &b"initrd"[..], "x y")
            };
            assert_eq!(read(length).unwrap(), BootDigests::of(&files), "{length}");
            assert!(read(length + 1).is_err());
        }
    }

    #[test]
    fn kernel_and_initrd_do_not_change_places() {
        let swapped = BootFiles { kernel: FILES.initrd, initrd: FILES.kernel, ..FILES };
        assert_ne!(launch_digest(&swapped, 1), launch_digest(&FILES, 1));
    }

    /// A changed value here is a changed measurement of every guest in the field: it must be a decision.
    #[test]
    fn golden() {
        let digest = hex::encode(launch_digest(&FILES, 2));
        assert_eq!(
            digest,
            "1489b4a8e516681f511117f1878a55167d30a378c9ef20c53457b8d4c5786104aecfc51f9ef3cb5882240f38e382e689"
        );
    }
}
