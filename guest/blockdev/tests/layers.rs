//! Shared layers in a real kernel: what the host offers is taken only where the root hash vouches for it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests
#![allow(clippy::cast_possible_truncation)]

mod vm;

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use aes::Aes256;
use aes::cipher::{BlockCipherEncrypt, KeyInit};
use cocoon_blockdev::{
    Error, Mapped, ModuleSet, OverlayOptions, dm, find_disk, mount_erofs, mount_overlay, open_crypt,
    open_verity, watch_verity,
};
use vm::guest::{self, BLOCK};
use vm::{Attached, Vm};
use zeroize::Zeroizing;

const SOON: Duration = Duration::from_secs(2);
/// Blocks of the file in the layer.
const FILE: usize = 256;
/// The block of that file that the host alters.
const VICTIM: usize = 100;

fn key() -> Zeroizing<[u8; 64]> {
    let mut key = Zeroizing::new([0; 64]);
    (0..).zip(key.iter_mut()).for_each(|(n, byte)| *byte = n * 3 + 1);
    key
}

/// AES-256-XTS (IEEE 1619) over sectors of 4096 bytes that count from 0.
fn encrypt(data: &mut [u8]) {
    let key = key();
    let cipher = |half: &[u8]| Aes256::new_from_slice(half).unwrap();
    let (first, second) = (cipher(&key[..32]), cipher(&key[32..]));
    for (number, sector) in data.chunks_exact_mut(BLOCK).enumerate() {
        let mut tweak = (number as u128).to_le_bytes().into();
        second.encrypt_block(&mut tweak);
        for unit in sector.chunks_exact_mut(16) {
            unit.iter_mut().zip(&tweak).for_each(|(a, b)| *a ^= b);
            let mut block = <[u8; 16]>::try_from(&*unit).unwrap().into();
            first.encrypt_block(&mut block);
            unit.copy_from_slice(&block);
            unit.iter_mut().zip(&tweak).for_each(|(a, b)| *a ^= b);
            let value = u128::from_le_bytes(tweak.into());
            tweak = ((value << 1) ^ if value >> 127 == 1 { 0x87 } else { 0 }).to_le_bytes().into();
        }
    }
}

struct Layer {
    disk: PathBuf,
    root: String,
    blocks: usize,
}

/// Data blocks and their tree in one file.
fn with_tree(dir: &Path, name: &str, data: &[u8]) -> Layer {
    assert_eq!(data.len() % BLOCK, 0);
    let (disk, tree) = (dir.join(name), dir.join("tree"));
    fs::write(&disk, data).unwrap();
    let _ = fs::remove_file(&tree);
    let out = Command::new("veritysetup")
        .args(["format", "--no-superblock", "--salt=-"])
        .args([&disk, &tree])
        .output()
        .unwrap();
    let said = String::from_utf8(out.stdout).unwrap();
    let root = said.lines().find_map(|l| l.strip_prefix("Root hash:")).unwrap().trim().to_owned();
    let mut whole = data.to_vec();
    whole.extend(fs::read(&tree).unwrap());
    fs::write(&disk, whole).unwrap();
    Layer { disk, root, blocks: data.len() / BLOCK }
}

fn erofs(dir: &Path) -> Vec<u8> {
    let (tree, file) = (dir.join("files"), dir.join("erofs"));
    fs::create_dir(&tree).unwrap();
    fs::write(tree.join("data"), guest::pattern(FILE)).unwrap();
    fs::write(tree.join("who"), "erofs").unwrap();
    let made = Command::new("mkfs.erofs").arg(&file).arg(&tree).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let mut image = fs::read(file).unwrap();
    image.resize(image.len().next_multiple_of(BLOCK), 0);
    image
}

fn flip(path: &Path, at: usize) {
    let file = fs::File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at as u64).unwrap();
    file.write_all_at(&[byte[0] ^ 4], at as u64).unwrap();
}

#[test]
fn altered_layers_are_errors_and_never_data() {
    let Some(image) = vm::image(&["veritysetup", "mkfs.erofs"]) else { return };
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let data = erofs(dir);
    let plain = with_tree(dir, "plain", &data);
    let mut cipher = data.clone();
    encrypt(&mut cipher);
    let cipher = with_tree(dir, "cipher", &cipher);
    let one = with_tree(dir, "one", &guest::pattern(1));
    let tree = with_tree(dir, "broken-tree", &data);
    flip(&tree.disk, (tree.blocks + 1) * BLOCK + 5);
    let short = with_tree(dir, "short", &data);
    let length = fs::metadata(&short.disk).unwrap().len();
    fs::File::options().write(true).open(&short.disk).unwrap().set_len(length - 512).unwrap();
    // What the guest is to know: in life from the plan.
    let facts = format!("{} {} {} {} {}\n", plain.blocks, plain.root, cipher.root, one.root, short.root);
    let mut facts = facts.into_bytes();
    facts.resize(BLOCK, 0);
    fs::write(dir.join("facts"), facts).unwrap();
    let facts = dir.join("facts");
    let disk = |file, serial| Attached { file, serial, read_only: true };
    let disks = [
        disk(&facts, "facts"),
        disk(&plain.disk, "plain"),
        disk(&cipher.disk, "cipher"),
        disk(&one.disk, "one"),
        disk(&tree.disk, "broken-tree"),
        disk(&short.disk, "short"),
        disk(&facts, "twice"),
        disk(&facts, "twice"),
    ];
    let victim = guest::pattern(FILE)[VICTIM * BLOCK..].get(..64).unwrap().to_vec();
    let at = data.windows(64).position(|w| w == victim).unwrap();
    let vm = Vm::boot(&image, dir, "inside_layers", &disks);
    vm.run(|request| match request {
        "flip" => flip(&plain.disk, at + 70),
        other => panic!("{other}"),
    });
}

fn root(text: &str) -> [u8; 32] {
    let byte = |n: usize| u8::from_str_radix(&text[2 * n..2 * n + 2], 16).unwrap();
    std::array::from_fn(byte)
}

#[test]
#[ignore = "runs inside the VM"]
fn inside_layers() {
    if !guest::begin(&[ModuleSet::Layers, ModuleSet::Crypt]) {
        return;
    }
    let facts = find_disk("facts", SOON).unwrap();
    let facts = String::from_utf8(guest::blocks(&facts.path, 1).remove(0).unwrap()).unwrap();
    let facts: Vec<&str> = facts.trim_end_matches('\0').split_whitespace().collect();
    let blocks: u64 = facts[0].parse().unwrap();
    disks_that_cannot_be(blocks, &root(facts[4]));
    one_block(&root(facts[3]));
    encrypted(blocks, &root(facts[2]));
    broken_tree(blocks, &root(facts[1]));
    altered_block(blocks, &root(facts[1]));
    guest::done();
}

fn disks_that_cannot_be(blocks: u64, root: &[u8; 32]) {
    let began = Instant::now();
    assert!(matches!(find_disk("absent", Duration::from_millis(300)), Err(Error::DiskMissing { .. })));
    assert!(began.elapsed() < SOON);
    assert!(matches!(find_disk("twice", SOON), Err(Error::DiskAmbiguous { .. })));
    let short = find_disk("short", SOON).unwrap();
    let error = open_verity("short", &short, blocks, root).unwrap_err();
    assert!(matches!(error, Error::TooSmall { .. }), "{error}");
    // Nothing is left: the name is free, and a failed opening frees it again.
    let plain = find_disk("plain", SOON).unwrap();
    let error = open_crypt_of_nothing(&plain);
    assert!(matches!(error, Error::Io { .. }), "{error}");
    open_verity("short", &plain, blocks, root).unwrap().close().unwrap();
    assert!(dm::Control::open().unwrap().status("short").is_err());
}

/// The kernel refuses a table: of a device that is not there.
fn open_crypt_of_nothing(disk: &cocoon_blockdev::Disk) -> Error {
    let gone = cocoon_blockdev::Disk { number: "250:77".into(), ..disk.clone() };
    open_verity("short", &gone, 1, &[0; 32]).unwrap_err()
}

fn one_block(root: &[u8; 32]) {
    let disk = find_disk("one", SOON).unwrap();
    let device = open_verity("one", &disk, 1, root).unwrap();
    assert_eq!(guest::blocks(device.path(), 1)[0].as_ref().unwrap(), &guest::pattern(1));
    let written =
        fs::File::options().write(true).open(device.path()).and_then(|f| f.write_all_at(&[1; BLOCK], 0));
    assert!(written.is_err(), "it is read-only");
    device.close().unwrap();
}

fn encrypted(blocks: u64, root: &[u8; 32]) {
    let disk = find_disk("cipher", SOON).unwrap();
    let at = folder("/run/cipher");
    let verity = open_verity("cipher", &disk, blocks, root).unwrap();
    let wrong = open_crypt("wrong", &verity, &Zeroizing::new([7; 64])).unwrap();
    let error = mount_erofs(&wrong, &at).unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "a wrong key is no tampering: {error}");
    wrong.close().unwrap();
    let plain = open_crypt("plain-text", &verity, &key()).unwrap().over(verity);
    let mount = mount_erofs(&plain, &at).unwrap();
    assert!(fs::read(at.join("data")).unwrap() == guest::pattern(FILE));
    assert!(!plain.tampered().unwrap());
    // Dropped in the wrong order, each goes with its last user.
    drop(plain);
    assert!(fs::read(at.join("who")).unwrap() == b"erofs");
    mount.close().unwrap();
    let control = dm::Control::open().unwrap();
    let gone = |name: &str| {
        let until = Instant::now() + SOON;
        while control.status(name).is_ok() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(10));
        }
        control.status(name).is_err()
    };
    assert!(gone("plain-text") && gone("cipher"));
}

fn broken_tree(blocks: u64, root: &[u8; 32]) {
    let disk = find_disk("broken-tree", SOON).unwrap();
    let at = folder("/run/broken");
    let device = open_verity("broken-tree", &disk, blocks, root).unwrap();
    let error = mount_erofs(&device, &at).unwrap_err();
    assert!(matches!(error, Error::Tampered(_)), "{error}");
    let read = guest::blocks(device.path(), blocks as usize);
    let bad = read.iter().filter(|b| **b == Err(libc::EIO)).count();
    assert_eq!(bad, 128, "all blocks under the altered hash block, and no other");
    let sound = read.iter().filter_map(|b| b.as_ref().ok());
    assert_eq!(sound.count(), blocks as usize - 128);
    drop(device);
    // The right tree and another root.
    let disk = find_disk("plain", SOON).unwrap();
    let device = open_verity("other-root", &disk, blocks, &[7; 32]).unwrap();
    assert!(matches!(mount_erofs(&device, &at), Err(Error::Tampered(_))));
}

fn altered_block(blocks: u64, root: &[u8; 32]) {
    let disk = find_disk("plain", SOON).unwrap();
    let at = folder("/run/plain");
    let device = open_verity("plain", &disk, blocks, root).unwrap();
    let (sender, receiver) = mpsc::channel();
    let label = "sha256:abc";
    let _watch = watch_verity(&[(&device, label)], move |l| sender.send(l.to_owned()).unwrap()).unwrap();
    let mount = mount_erofs(&device, &at).unwrap();
    let began = Instant::now();
    assert!(fs::read(at.join("data")).unwrap() == guest::pattern(FILE));
    guest::note(&format!("1 MiB through erofs and verity: {} ms", began.elapsed().as_millis()));
    let sound: Vec<_> = guest::blocks(device.path(), blocks as usize);
    assert!(sound.iter().all(Result::is_ok) && !device.tampered().unwrap());
    assert!(receiver.recv_timeout(Duration::from_millis(100)).is_err());

    guest::host("flip");
    guest::forget();
    let altered = guest::blocks(device.path(), blocks as usize);
    let differ: Vec<_> = (0..blocks as usize).filter(|n| altered[*n] != sound[*n]).collect();
    assert_eq!(differ.len(), 1, "{differ:?}");
    assert_eq!(altered[differ[0]], Err(libc::EIO));
    assert!(device.tampered().unwrap());
    let began = Instant::now();
    assert_eq!(receiver.recv_timeout(Duration::from_secs(3)).unwrap(), label);
    guest::note(&format!("the watch spoke {} ms later", began.elapsed().as_millis()));
    let file = guest::blocks(&at.join("data"), FILE);
    let bad: Vec<_> = (0..FILE).filter(|n| file[*n] == Err(libc::EIO)).collect();
    // Later kernels read files in larger pieces, which fail as a whole.
    assert!(bad.contains(&VICTIM) && bad.len() <= 64, "{bad:?}");
    let expected = guest::pattern(FILE);
    for n in (0..FILE).filter(|n| file[*n].is_ok()) {
        assert!(file[n].as_ref().unwrap() == &expected[n * BLOCK..(n + 1) * BLOCK], "{n}");
    }
    assert!(receiver.recv_timeout(Duration::from_millis(1200)).is_err(), "once for each device");
    assert!(matches!(open_twice(&disk, blocks, root), Error::Io { .. }));
    mount.close().unwrap();
    device.close().unwrap();
}

/// A name that is taken.
fn open_twice(disk: &cocoon_blockdev::Disk, blocks: u64, root: &[u8; 32]) -> Error {
    let error = open_verity("plain", disk, blocks, root).unwrap_err();
    let still: Result<dm::Status, Error> = dm::Control::open().unwrap().status("plain");
    assert!(still.is_ok(), "the one that has the name keeps it");
    error
}

fn folder(path: &str) -> PathBuf {
    fs::create_dir_all(path).unwrap();
    path.into()
}

#[test]
fn a_root_of_128_layers_is_mounted() {
    let Some(image) = vm::image(&["veritysetup", "mkfs.erofs"]) else { return };
    let dir = tempfile::tempdir().unwrap();
    let layer = with_tree(dir.path(), "layer", &erofs(dir.path()));
    let facts = dir.path().join("facts");
    let mut text = format!("{} {}\n", layer.blocks, layer.root).into_bytes();
    text.resize(BLOCK, 0);
    fs::write(&facts, text).unwrap();
    let disk = |file, serial| Attached { file, serial, read_only: true };
    let disks = [disk(&facts, "facts"), disk(&layer.disk, "layer")];
    Vm::boot(&image, dir.path(), "inside_overlay", &disks).run(|request| panic!("{request}"));
}

#[test]
#[ignore = "runs inside the VM"]
fn inside_overlay() {
    if !guest::begin(&[ModuleSet::Layers]) {
        return;
    }
    let facts = find_disk("facts", SOON).unwrap();
    let facts = String::from_utf8(guest::blocks(&facts.path, 1).remove(0).unwrap()).unwrap();
    let facts: Vec<&str> = facts.trim_end_matches('\0').split_whitespace().collect();
    let disk = find_disk("layer", SOON).unwrap();
    // 64 layers under verity (all of one disk), and 64 directories with names that options cannot hold.
    let began = Instant::now();
    let mut devices: Vec<(Mapped, _)> = Vec::new();
    let mut lowers = Vec::new();
    for n in 0..64 {
        let name = format!("layer-{n}");
        let device = open_verity(&name, &disk, facts[0].parse().unwrap(), &root(facts[1])).unwrap();
        let at = folder(&format!("/run/layers/{n}"));
        let mount = mount_erofs(&device, &at).unwrap();
        devices.push((device, mount));
        lowers.push(at);
    }
    guest::note(&format!("64 layers opened and mounted: {} ms", began.elapsed().as_millis()));
    for n in 64..128 {
        let at = folder(&format!("/run/layers/a,b:c\\d e {n} {}", "x".repeat(150)));
        fs::write(at.join("who"), format!("{n}")).unwrap();
        fs::write(at.join(format!("file-{n}")), format!("{n}")).unwrap();
        lowers.push(at);
    }
    lowers.reverse();
    let (upper, work, at) = (folder("/run/w/upper"), folder("/run/w/work"), folder("/run/root"));
    let options = OverlayOptions { volatile: true, ..OverlayOptions::default() };
    let began = Instant::now();
    let mounted = mount_overlay(&lowers, &upper, &work, &at, options).unwrap();
    guest::note(&format!("128 layers stacked: {} ms", began.elapsed().as_millis()));
    assert_eq!(fs::read_to_string(at.join("who")).unwrap(), "127", "the topmost counts");
    for n in 64..128 {
        assert_eq!(fs::read_to_string(at.join(format!("file-{n}"))).unwrap(), format!("{n}"));
    }
    assert!(fs::read(at.join("data")).unwrap() == guest::pattern(FILE));
    fs::write(at.join("data"), "mine").unwrap();
    fs::remove_file(at.join("file-64")).unwrap();
    assert!(!at.join("file-64").exists() && upper.join("data").exists());
    mounted.close().unwrap();
    let options = OverlayOptions { read_only: true, ..OverlayOptions::default() };
    let (upper, work) = (folder("/run/v/upper"), folder("/run/v/work"));
    let mounted = mount_overlay(&lowers, &upper, &work, &at, options).unwrap();
    assert!(fs::write(at.join("new"), "").is_err());
    assert!(fs::read(at.join("data")).unwrap() == guest::pattern(FILE));
    drop(mounted);
    for (device, mount) in devices {
        mount.close().unwrap();
        device.close().unwrap();
    }
    guest::done();
}
