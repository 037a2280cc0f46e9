//! A VM that runs one test of this very program as its PID 1: the kernel and modules of the guest image, this program
//! with its libraries laid over it, disks that the test made.
//!
//! Guest and host talk over the serial console: `@host WORD` asks the host to do something and waits for its line, and
//! `@done` says that all went well.

#![allow(dead_code)] // each test program uses a part

pub mod guest;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

/// A VM under emulation, with the machine's other work beside it.
const LIMIT: Duration = Duration::from_secs(240);

/// A disk to attach.
pub struct Attached<'a> {
    pub file: &'a Path,
    pub serial: &'a str,
    pub read_only: bool,
}

pub struct Vm {
    child: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
}

impl Drop for Vm {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            println!("console:\n{}", self.seen.join("\n"));
        }
    }
}

/// The guest image to test with, where it and all programs are there; else says what is absent.
pub fn image(programs: &[&str]) -> Option<PathBuf> {
    let image = std::env::var_os("COCOON_GUEST_IMAGE").map(PathBuf::from);
    let Some(image) = image.filter(|i| i.join("manifest.json").is_file()) else {
        println!("skipped: COCOON_GUEST_IMAGE names no guest image (make test does)");
        return None;
    };
    if !fs::read_to_string(image.join("manifest.json")).unwrap().contains("\"dm_integrity\"") {
        println!("skipped: the guest image is older than its module sets");
        return None;
    }
    for program in programs.iter().chain(&["qemu-system-x86_64", "ldd"]) {
        let found =
            Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        if found.is_err() {
            println!("skipped: {program} is not installed");
            return None;
        }
    }
    Some(image)
}

impl Vm {
    /// Boots the VM; the test `inside` runs in it.
    pub fn boot(image: &Path, dir: &Path, inside: &str, disks: &[Attached<'_>]) -> Vm {
        let initrd = dir.join("initrd.img");
        let mut archive = fs::read(image.join("initrd.img")).unwrap();
        archive.resize(archive.len().next_multiple_of(512), 0);
        archive.extend(this_program());
        fs::write(&initrd, archive).unwrap();
        let mut qemu = Command::new("qemu-system-x86_64");
        qemu.args(["-nodefaults", "-no-user-config", "-nographic", "-no-reboot", "-cpu", "max", "-smp", "2"])
            .args([
                "-m",
                "512",
                "-machine",
                "q35,accel=tcg,sata=off,smbus=off",
                "-chardev",
                "stdio,id=c,signal=off",
            ])
            .args(["-serial", "chardev:c", "-kernel"])
            .arg(image.join("vmlinuz"))
            .arg("-initrd")
            .arg(&initrd)
            .arg("-append")
            .arg(format!(
                "console=ttyS0 quiet loglevel=3 panic=-1 tsc=reliable no_timer_check random.trust_cpu=on \
                 cryptomgr.notests -- {inside} --exact --ignored --nocapture"
            ));
        for (n, disk) in disks.iter().enumerate() {
            let read_only = if disk.read_only { "on" } else { "off" };
            qemu.arg("-drive")
                .arg(format!("if=none,id=d{n},format=raw,readonly={read_only},file={}", disk.file.display()));
            qemu.arg("-device").arg(format!("virtio-blk-pci,drive=d{n},serial={}", disk.serial));
        }
        let mut child = qemu.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let stdout = child.stdout.take().unwrap();
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            let mut reader = BufReader::new(stdout);
            let mut line = Vec::new();
            while reader.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
                let _ = sender.send(String::from_utf8_lossy(&line).trim_end().to_owned());
                line.clear();
            }
        });
        Vm { child, lines, seen: Vec::new() }
    }

    /// Does what the guest asks for until it is done; what it said.
    pub fn run(mut self, mut host: impl FnMut(&str)) -> Vec<String> {
        let deadline = Instant::now() + LIMIT;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left).expect("the guest ended or hung before it was done");
            self.seen.push(line.clone());
            if line.ends_with("@done") {
                return std::mem::take(&mut self.seen);
            }
            if let Some((_, request)) = line.split_once("@host ") {
                host(request);
                self.child.stdin.as_mut().unwrap().write_all(b"go\n").unwrap();
            } else if let Some((_, said)) = line.split_once("@note ") {
                println!("guest: {said}");
            }
        }
    }
}

/// A cpio archive with this program as `/init`, and the libraries that it is linked with.
fn this_program() -> Vec<u8> {
    let exe = std::env::current_exe().unwrap();
    let out = Command::new("ldd").arg(&exe).output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let libraries = text.split_whitespace().filter(|w| w.starts_with('/'));
    let mut archive = Vec::new();
    let mut folders = std::collections::BTreeSet::new();
    for library in libraries {
        for folder in Path::new(library).ancestors().skip(1) {
            folders.insert(folder.to_str().unwrap().trim_start_matches('/').to_owned());
        }
        let at = library.trim_start_matches('/');
        cpio(&mut archive, at, 0o100_755, &fs::read(library).unwrap());
    }
    let mut all = Vec::new();
    folders.iter().filter(|f| !f.is_empty()).for_each(|f| cpio(&mut all, f, 0o040_755, &[]));
    all.extend(archive);
    cpio(&mut all, "init", 0o100_755, &fs::read(exe).unwrap());
    cpio(&mut all, "TRAILER!!!", 0, &[]);
    all
}

/// One entry of a "newc" cpio archive (Linux, driver-api/early-userspace/buffer-format.rst).
fn cpio(out: &mut Vec<u8>, name: &str, mode: usize, data: &[u8]) {
    let fields = [1, mode, 0, 0, 1, 0, data.len(), 0, 0, 0, 0, name.len() + 1, 0];
    out.extend(b"070701");
    fields.iter().for_each(|f| out.extend(format!("{f:08x}").bytes()));
    out.extend(name.bytes().chain([0]));
    out.resize(out.len().next_multiple_of(4), 0);
    out.extend(data);
    out.resize(out.len().next_multiple_of(4), 0);
}
