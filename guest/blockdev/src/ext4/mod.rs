//! Makes an ext4 file system: our own minimal mkfs for the scratch disk.
//!
//! What it writes is what the kernel reads before it writes: superblock, group descriptors, and of the first group the
//! bitmaps, the first block of the inode table and two directories; of the last group the block bitmap. All else is
//! marked uninitialised in the descriptors (`uninit_bg`), so that the kernel makes it up instead of reading it. That is
//! why a disk under dm-integrity need not be wiped, and why 1 TiB takes a blink.
//!
//! Source of the layout: Linux, Documentation/filesystems/ext4/. A journal only where
//! something survives the VM. No backups of the
//! superblock (`sparse_super2` with none named). Directories are indexed, extents are used, inodes have 256 bytes.

mod layout;
mod records;

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::Error;
use crate::mapped::random_key;
use layout::Layout;

/// Blocks that are written at a time.
const ZEROS: u64 = 64;

/// Makes an ext4 file system of `bytes` bytes (rounded down to whole blocks of 4096; 16 MiB to 16 TiB) on a device or
/// an existing file. One inode per 16 KiB. A last part of less than 2.5 MiB beyond a multiple of 128 MiB stays unused.
/// What was there is lost; most of it is not overwritten.
///
/// # Errors
/// [`Error::Scratch`]: a size out of bounds, or the device's refusal.
pub fn make_ext4(device: &Path, bytes: u64) -> Result<(), Error> {
    make(device, bytes, false).map_err(Error::scratch)
}

/// The same with a journal, for what is to outlive a VM that is killed. All of the journal is written, so that none of it
/// is unreadable under dm-integrity.
///
/// # Errors
/// As [`make_ext4`], but [`Error::Volume`].
pub fn make_lasting_ext4(device: &Path, bytes: u64) -> Result<(), Error> {
    make(device, bytes, true).map_err(Error::volume)
}

fn make(device: &Path, bytes: u64, lasting: bool) -> Result<(), Error> {
    let layout = Layout::new(bytes, lasting)
        .ok_or_else(|| Error::Invalid(format!("{bytes} bytes are no size for an ext4 file system")))?;
    let (id, seed) = (random_key::<16>()?, random_key::<16>()?);
    let file = OpenOptions::new().write(true).open(device);
    let file = file.map_err(Error::io(format!("open {}", device.display())))?;
    let write = |block: u64, bytes: &[u8]| {
        let written = file.write_all_at(bytes, block * layout::BLOCK);
        written.map_err(Error::io(format!("write block {block} of {}", device.display())))
    };
    for (index, block) in (1..).zip(0..layout.descriptor_blocks()) {
        write(index, &records::descriptors(&layout, block, &id))?;
    }
    write(layout.block_bitmap(0), &records::block_bitmap(&layout, 0))?;
    let last = layout.groups() - 1;
    if last > 0 {
        write(layout.block_bitmap(last), &records::block_bitmap(&layout, last))?;
    }
    write(layout.inode_bitmap(0), &records::inode_bitmap())?;
    write(layout.inode_table(0), &records::first_inodes(&layout))?;
    let (root, lost) = records::directories();
    write(layout.root_directory(), &root)?;
    write(layout.lost_and_found(), &lost)?;
    if let Some((first, length)) = layout.journal() {
        write(first, &records::journal(length, &id))?;
        let mut next = first + 1;
        while next < first + length {
            let zeros = (first + length - next).min(ZEROS);
            write(next, &vec![0; usize::try_from(zeros * layout::BLOCK).unwrap_or(0)])?;
            next += zeros;
        }
    }
    // Last: before it there is no file system.
    write(0, &records::superblock(&layout, &id, &seed))?;
    file.sync_all().map_err(Error::io(format!("write {}", device.display())))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::process::Command;

    use super::*;

    const MIB: u64 = 1 << 20;

    fn check(bytes: u64) {
        check_made(bytes, make_ext4);
        check_made(bytes, make_lasting_ext4);
    }

    fn check_made(bytes: u64, make: impl Fn(&Path, u64) -> Result<(), Error>) {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(bytes).unwrap();
        make(file.path(), bytes).unwrap();
        let Ok(out) = Command::new("e2fsck").args(["-f", "-n"]).arg(file.path()).output() else {
            println!("skipped: e2fsck is not installed");
            return;
        };
        let said = String::from_utf8_lossy(&out.stdout) + String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success(), "{bytes}: {said}");
    }

    #[test]
    fn e2fsck_finds_nothing_wrong_at_any_size() {
        for mib in [16, 64, 65, 127, 128, 129, 130, 131, 200, 256, 1000, 1024, 4096, 20_000] {
            check(mib * MIB);
        }
        for odd in [64 * MIB + 1, 128 * MIB + 4096, 128 * MIB - 4096, 3 * 128 * MIB + 2_367_488, 987_654_321]
        {
            check(odd);
        }
    }

    #[test]
    fn a_terabyte_is_made_without_writing_it() {
        check(1 << 40);
        let file = tempfile::NamedTempFile::new().unwrap();
        make_ext4(file.path(), 1 << 40).unwrap();
        use std::os::unix::fs::MetadataExt;
        assert!(file.as_file().metadata().unwrap().blocks() * 512 < 2 * MIB);
    }

    #[test]
    fn sizes_out_of_bounds_and_broken_devices_are_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for bad in [0, 4096, 16 * MIB - 1, (16 << 40) + 4096, u64::MAX] {
            assert!(matches!(make_ext4(file.path(), bad), Err(Error::Scratch(_))), "{bad}");
        }
        assert!(make_ext4(Path::new("/dev/full"), 64 * MIB).is_err());
        assert!(make_ext4(Path::new("/nonexistent"), 64 * MIB).is_err());
        assert_eq!(File::open(file.path()).unwrap().metadata().unwrap().len(), 0, "nothing was written");
    }
}
