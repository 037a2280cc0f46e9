//! The scratch disk in a real kernel: what the host sees and alters.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests
#![allow(clippy::cast_possible_truncation)]

mod vm;

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cocoon_blockdev::{
    Error, Mapped, ModuleSet, Mounted, dm, find_disk, make_ext4, mount_ext4, open_scratch,
};
use vm::guest::{self, BLOCK};
use vm::{Attached, Vm};

const SOON: Duration = Duration::from_secs(2);
const MARKER: &[u8; 32] = b"nobody but the guest reads this!";
const MIB: u64 = 1 << 20;
/// Blocks of the file that is written, and the one that the host alters.
const FILE: usize = 1024;
const VICTIM: usize = 500;

#[test]
fn the_host_neither_reads_nor_alters_what_is_on_the_scratch_disk() {
    let Some(image) = vm::image(&[]) else { return };
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let make = |name: &str, bytes: u64| {
        let path = dir.join(name);
        File::create(&path).unwrap().set_len(bytes).unwrap();
        path
    };
    let (main, small, tiny) = (make("main", 96 * MIB), make("small", 64 * MIB), make("tiny", 63 * MIB));
    let kept = make("kept", 64 * MIB);
    let disk = |file, serial, read_only| Attached { file, serial, read_only };
    let disks = [
        disk(&main, "main", false),
        disk(&small, "small", false),
        disk(&tiny, "tiny", false),
        disk(&kept, "kept", true),
    ];
    let mut before = Vec::new();
    let vm = Vm::boot(&image, dir, "inside_scratch", &disks);
    let said = vm.run(|request| match request {
        "look" => {
            let bytes = fs::read(&main).unwrap();
            let used: Vec<&[u8]> = bytes.chunks_exact(BLOCK).filter(|b| **b != [0; BLOCK]).collect();
            assert!(used.len() > FILE);
            let holds = |text: &[u8]| used.iter().any(|b| b.windows(text.len()).any(|w| w == text));
            assert!(holds(b"integrt"), "dm-integrity's superblock: so what is sought would be found");
            assert!(!holds(MARKER) && !holds(&guest::pattern(FILE)[..16]), "content is in the clear");
            assert!(!holds(b"lost+found") && !holds(b"scratch\0\0\0\0"));
            before = bytes;
        }
        "alter" => {
            let after = fs::read(&main).unwrap();
            let differ = |n: &usize| {
                let part = n * BLOCK..(n + 1) * BLOCK;
                before[part.clone()].iter().zip(&after[part]).filter(|(a, b)| a != b).count() > BLOCK / 2
            };
            let places: Vec<usize> = (0..after.len() / BLOCK).filter(differ).collect();
            // What the file system keeps of its own, in front, and behind it the rewritten block.
            assert!((1..=4).contains(&places.len()), "{places:?}");
            before = after;
            flip(&main, places.last().unwrap() * BLOCK + 1234);
        }
        "restore" => fs::write(&main, &before).unwrap(),
        other => panic!("{other}"),
    });
    assert!(!said.iter().any(|l| l.contains("EXT4-fs error")), "{said:?}");
}

fn flip(path: &Path, at: usize) {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at as u64).unwrap();
    file.write_all_at(&[byte[0] ^ 4], at as u64).unwrap();
}

fn open(serial: &str, at: &str) -> (Mapped, Mounted, PathBuf) {
    let disk = find_disk(serial, SOON).unwrap();
    let began = Instant::now();
    let device = open_scratch(serial, &disk).unwrap();
    let opened = began.elapsed();
    make_ext4(device.path(), device.bytes()).unwrap();
    let made = began.elapsed();
    fs::create_dir_all(at).unwrap();
    let mount = mount_ext4(device.path(), Path::new(at)).unwrap();
    guest::note(&format!(
        "{serial}: {} of {} MiB usable; opened after {} ms, made after {} ms, mounted after {} ms",
        device.bytes() / MIB,
        disk.bytes / MIB,
        opened.as_millis(),
        made.as_millis(),
        began.elapsed().as_millis()
    ));
    (device, mount, at.into())
}

#[test]
#[ignore = "runs inside the VM"]
fn inside_scratch() {
    if !guest::begin(&[ModuleSet::Scratch]) {
        return;
    }
    let error = open_scratch("tiny", &find_disk("tiny", SOON).unwrap()).unwrap_err();
    assert!(matches!(&error, Error::Scratch(e) if matches!(**e, Error::TooSmall { .. })), "{error}");
    let error = open_scratch("kept", &find_disk("kept", SOON).unwrap()).unwrap_err();
    assert!(error.to_string().contains("read-only"), "{error}");
    secrecy_and_integrity();
    full();
    guest::done();
}

fn secrecy_and_integrity() {
    let (device, mount, at) = open("main", "/run/main");
    let data = guest::pattern(FILE);
    let path = at.join("data");
    let began = Instant::now();
    fs::write(&path, &data).unwrap();
    fs::write(at.join("marker"), MARKER.repeat(1000)).unwrap();
    guest::forget();
    let wrote = began.elapsed();
    assert!(fs::read(&path).unwrap() == data);
    guest::note(&format!(
        "4 MiB: written {} ms, read {} ms",
        wrote.as_millis(),
        (began.elapsed() - wrote).as_millis()
    ));
    settle(&device);
    guest::host("look");
    // Rewritten in place, so that the host sees where it is.
    let file = File::options().write(true).open(&path).unwrap();
    file.write_all_at(&data[VICTIM * BLOCK..(VICTIM + 1) * BLOCK], (VICTIM * BLOCK) as u64).unwrap();
    file.sync_data().unwrap();
    drop(file);
    settle(&device);
    guest::host("alter");
    guest::forget();
    let blocks = guest::blocks(&path, FILE);
    let bad: Vec<_> = (0..FILE).filter(|n| blocks[*n].is_err()).collect();
    // Later kernels read files in larger pieces, which fail as a whole.
    assert!(bad.contains(&VICTIM) && bad.len() <= 64, "{bad:?}");
    assert_eq!(blocks[VICTIM], Err(libc::EIO));
    for n in (0..FILE).filter(|n| blocks[*n].is_ok()) {
        assert!(blocks[n].as_ref().unwrap() == &data[n * BLOCK..(n + 1) * BLOCK], "{n}");
    }
    guest::host("restore");
    guest::forget();
    assert!(fs::read(&path).unwrap() == data, "as it was");
    // Never written: there is nothing that could be read.
    let last = device.bytes() - BLOCK as u64;
    let mut block = [0; BLOCK];
    let device_file = File::open(device.path()).unwrap();
    assert!(device_file.read_exact_at(&mut block, last).is_err());
    drop(device_file);
    mount.close().unwrap();
    device.close().unwrap();
    let control = dm::Control::open().unwrap();
    assert!(control.status("main").is_err() && control.status("main-tags").is_err());
    // Another opening has other keys: nothing is there any more.
    let disk = find_disk("main", SOON).unwrap();
    let device = open_scratch("main", &disk).unwrap();
    assert!(mount_ext4(device.path(), &at).is_err());
    assert!(guest::blocks(device.path(), 64).iter().all(Result::is_err));
}

/// Everything is on the host's disk after this.
fn settle(device: &Mapped) {
    rustix::fs::sync();
    File::options().write(true).open(device.path()).unwrap().sync_all().unwrap();
}

fn full() {
    let (device, mount, at) = open("small", "/run/small");
    let mut file = File::create(at.join("fill")).unwrap();
    let data = guest::pattern(64);
    let mut chunks = 0;
    let began = Instant::now();
    let error = loop {
        match file.write_all(&data).and_then(|()| if chunks % 16 == 0 { file.sync_data() } else { Ok(()) }) {
            Ok(()) => chunks += 1,
            Err(e) => break e,
        }
    };
    assert_eq!(error.raw_os_error(), Some(libc::ENOSPC), "{error}");
    guest::note(&format!("full after {} KiB, {} ms", chunks * 256, began.elapsed().as_millis()));
    assert!(chunks > 64 * 4 * 3 / 4);
    drop(file);
    guest::forget();
    let began = Instant::now();
    let blocks = guest::blocks(&at.join("fill"), chunks * 64);
    guest::note(&format!("read again: {} ms", began.elapsed().as_millis()));
    for (n, block) in blocks.into_iter().enumerate() {
        assert!(block.unwrap() == data[n % 64 * BLOCK..(n % 64 + 1) * BLOCK]);
    }
    fs::remove_file(at.join("fill")).unwrap();
    // Many small files, over several blocks of inodes, with their directories.
    for n in 0..40 {
        let folder = at.join(format!("d{n}"));
        fs::create_dir(&folder).unwrap();
        (0..20).for_each(|m| fs::write(folder.join(format!("f{m}")), format!("{n} {m}")).unwrap());
    }
    guest::forget();
    for n in 0..40 {
        for m in 0..20 {
            assert_eq!(fs::read_to_string(at.join(format!("d{n}/f{m}"))).unwrap(), format!("{n} {m}"));
        }
    }
    mount.close().unwrap();
    // A second mount reads all that the first one wrote.
    let mount = mount_ext4(device.path(), &at).unwrap();
    assert_eq!(fs::read_to_string(at.join("d39/f19")).unwrap(), "39 19");
    drop(mount);
    device.close().unwrap();
}
