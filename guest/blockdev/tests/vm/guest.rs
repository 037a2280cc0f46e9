//! What the guest's side of the tests needs.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Instant;

use cocoon_blockdev::{ModuleSet, load_modules};
use rustix::mount::{MountFlags, mount};
use rustix::system::{RebootCommand, finit_module, reboot};

pub const BLOCK: usize = 4096;

/// Mounts what the tests need and loads all modules. Says whether this is a VM's PID 1 at all.
pub fn begin(sets: &[ModuleSet]) -> bool {
    if std::process::id() != 1 {
        println!("skipped: runs as PID 1 of a VM only");
        return false;
    }
    for (kind, at) in [("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev"), ("tmpfs", "/run")] {
        mount(kind, at, kind, MountFlags::empty(), c"").unwrap();
    }
    let folder = Path::new("/modules");
    let began = Instant::now();
    for name in fs::read_to_string(folder.join("list")).unwrap().lines() {
        finit_module(File::open(folder.join(name)).unwrap(), c"", 0).unwrap();
    }
    note(&format!("base modules: {} ms", began.elapsed().as_millis()));
    for set in sets {
        let began = Instant::now();
        load_modules(folder, *set).unwrap();
        note(&format!("set {}: {} ms", set.file(), began.elapsed().as_millis()));
        load_modules(folder, *set).expect("again");
    }
    // As the guest agent does: from here on nothing else can be loaded.
    fs::write("/proc/sys/kernel/modules_disabled", "1").unwrap();
    true
}

/// Ends the VM; to be called last.
pub fn done() {
    println!("\n@done");
    std::thread::sleep(std::time::Duration::from_millis(300));
    reboot(RebootCommand::PowerOff).unwrap();
}

pub fn note(text: &str) {
    println!("\n@note {text}");
}

/// Asks the host for something and waits until it is done.
pub fn host(request: &str) {
    println!("\n@host {request}");
    io::stdout().flush().unwrap();
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).unwrap();
    assert_eq!(answer.trim(), "go");
}

/// Makes the kernel forget what it read.
pub fn forget() {
    rustix::fs::sync();
    fs::write("/proc/sys/vm/drop_caches", "3").unwrap();
}

/// Each block of a file or device: its bytes, or the error number.
pub fn blocks(path: &Path, count: usize) -> Vec<Result<Vec<u8>, i32>> {
    blocks_of(&File::open(path).unwrap(), count)
}

/// The same of an open one.
pub fn blocks_of(file: &File, count: usize) -> Vec<Result<Vec<u8>, i32>> {
    (0..count)
        .map(|n| {
            let mut block = vec![0; BLOCK];
            let read = file.read_exact_at(&mut block, (n * BLOCK) as u64);
            read.map(|()| block).map_err(|e| e.raw_os_error().unwrap_or(0))
        })
        .collect()
}

/// Bytes that differ from block to block and are the same each time.
pub fn pattern(count: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(count * BLOCK);
    for _ in 0..count * BLOCK / 8 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes
}
