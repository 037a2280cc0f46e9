//! What a boot costs at least: the guest's kernel, on the same machine, up to an init that does nothing.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};
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

/// Builds an initrd of such an init in a folder.
///
/// # Errors
/// Where there is no assembler or a file cannot be written.
pub fn bare_initrd(work: &Path) -> Result<PathBuf> {
    let (source, init) = (work.join("init.s"), work.join("init"));
    std::fs::write(&source, INIT)?;
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
