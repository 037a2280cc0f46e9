//! What a boot costs at least: the guest's kernel, on the same machine, up to an init that does nothing.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use cocoon_guest_image::{Archive, GuestImage};

/// An init of two system calls: say so, power off.
const INIT: &str = r#"
.globl _start
_start:
    mov $1, %eax
    mov $1, %edi
    lea mark(%rip), %rsi
    mov $11, %edx
    syscall
    mov $169, %eax
    mov $0xfee1dead, %edi
    mov $0x28121969, %esi
    mov $0x4321fedc, %edx
    syscall
1:  jmp 1b
mark: .ascii "first-byte\n"
"#;

/// An init that writes [`SERIAL_KIB`] to its console, in blocks of 1 KiB, and powers off.
const TALKING_INIT: &str = r#"
.globl _start
_start:
    mov $SERIAL_KIB, %ebx
1:  mov $1, %eax
    mov $1, %edi
    lea words(%rip), %rsi
    mov $1024, %edx
    syscall
    dec %ebx
    jnz 1b
    mov $169, %eax
    mov $0xfee1dead, %edi
    mov $0x28121969, %esi
    mov $0x4321fedc, %edx
    syscall
2:  jmp 2b
words: .fill 1023, 1, 0x7e
.byte 10
"#;
const SERIAL_KIB: usize = 2048;

/// Builds an initrd of an init that says its first word and ends, in a folder.
///
/// # Errors
/// Where there is no assembler or a file cannot be written.
pub fn bare_initrd(work: &Path) -> Result<PathBuf> {
    initrd(work, INIT)
}

/// How much an emulated serial port carries, in MiB/s: the way on which a guest's words travel where there is no vsock.
///
/// # Errors
/// Where there is no assembler, or the machine does not run.
pub fn serial_rate(image: &GuestImage, work: &Path) -> Result<f64> {
    let initrd = initrd(work, &TALKING_INIT.replace("SERIAL_KIB", &SERIAL_KIB.to_string()))?;
    let mut qemu = bare_boot(image, &initrd).stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let mut output = qemu.stdout.take().context("no standard output")?;
    let (mut began, mut words) = (None, 0_usize);
    let mut buffer = [0; 4096];
    loop {
        let n = output.read(&mut buffer)?;
        if n == 0 {
            break;
        }
        // The kernel's own lines have no run of these.
        let counted = buffer.get(..n).unwrap_or_default().iter().filter(|byte| **byte == b'~').count();
        if counted > 0 {
            began.get_or_insert_with(Instant::now);
            words += counted;
        }
        if words >= SERIAL_KIB * 1023 {
            break;
        }
    }
    let took = began.context("the guest wrote nothing")?.elapsed();
    qemu.wait()?;
    Ok(words as f64 / f64::from(1 << 20) / took.as_secs_f64())
}

fn initrd(work: &Path, program: &str) -> Result<PathBuf> {
    let (source, init) = (work.join("init.s"), work.join("init"));
    std::fs::write(&source, program)?;
    let built = Command::new("cc")
        .args(["-nostdlib", "-static", "-no-pie", "-o"])
        .arg(&init)
        .arg(&source)
        .output()?;
    if !built.status.success() {
        bail!("cc: {}", String::from_utf8_lossy(&built.stderr));
    }
    let mut archive = Archive::new();
    archive.file("init", 0o755, std::fs::read(&init)?)?;
    let initrd = work.join("bare.img");
    std::fs::write(&initrd, archive.finish())?;
    Ok(initrd)
}

/// The machine that pods run on, less its devices, with the guest image's own kernel; not started.
pub fn bare_boot(image: &GuestImage, initrd: &Path) -> Command {
    let mut qemu = Command::new("qemu-system-x86_64");
    qemu.args(["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"]);
    qemu.args([
        "-machine",
        "q35,accel=tcg,vmport=off,usb=off,graphics=off",
        "-cpu",
        "max",
        "-smp",
        "1",
        "-m",
        "1024M",
    ]);
    qemu.arg("-bios").arg(&image.firmware).arg("-kernel").arg(&image.kernel).arg("-initrd").arg(initrd);
    qemu.arg("-append").arg(&image.cmdline).args(["-serial", "stdio"]);
    qemu
}
