//! What this machine offers to guests: TEEs, their firmware, KVM or emulation.

use std::path::{Path, PathBuf};

use cocoon_stage::{Code, Failure};
use cocoon_vmm::{Accel, KvmProbe, PROBE_LIMIT, Qemu, QuoteGeneration, probe_kvm};
use serde::{Deserialize, Serialize};

use crate::TeePlatform;

/// AMD SEV-SNP with this guest policy.
///
/// # Errors
/// `BOOT-PLATFORM-UNAVAILABLE` with what is missing.
pub fn sev_snp(policy: u64) -> Result<TeePlatform, Failure> {
    if !Path::new("/dev/sev").exists() || !kvm_parameter("kvm_amd", "sev_snp") {
        return Err(unavailable(
            "/dev/sev is missing or kvm_amd's parameter sev_snp is not Y: no AMD SEV-SNP here",
        ));
    }
    snp_firmware().map_err(|f| unavailable(&f.reason))?;
    Ok(TeePlatform::Snp { cbitpos: c_bit(), policy })
}

/// Intel TDX with this quote generation service.
///
/// # Errors
/// `BOOT-PLATFORM-UNAVAILABLE` with what is missing.
pub fn tdx(quotes: QuoteGeneration) -> Result<TeePlatform, Failure> {
    if !kvm_parameter("kvm_intel", "tdx") {
        return Err(unavailable("/sys/module/kvm_intel/parameters/tdx does not say Y: no Intel TDX here"));
    }
    tdx_firmware().map_err(|f| unavailable(&f.reason))?;
    Ok(TeePlatform::Tdx(quotes))
}

fn unavailable(reason: &str) -> Failure {
    Failure::new(Code::BootPlatformUnavailable, reason)
}

/// CPUID 0x8000001F EBX, bits 5:0: position of the C-bit.
#[cfg(target_arch = "x86_64")]
fn c_bit() -> u8 {
    u8::try_from(std::arch::x86_64::__cpuid(0x8000_001f).ebx & 0x3f).unwrap_or(51)
}

#[cfg(not(target_arch = "x86_64"))]
fn c_bit() -> u8 {
    51
}

fn kvm_parameter(module: &str, name: &str) -> bool {
    std::fs::read_to_string(format!("/sys/module/{module}/parameters/{name}"))
        .is_ok_and(|v| matches!(v.trim(), "Y" | "1"))
}

/// OVMF built for SEV (with the kernel hashes table).
///
/// # Errors
/// `BOOT-QEMU-MISSING` with the package's name.
pub fn snp_firmware() -> Result<PathBuf, Failure> {
    firmware(
        "COCOON_OVMF_SNP",
        &["/usr/share/ovmf/OVMF.amdsev.fd", "/usr/share/OVMF/OVMF.amdsev.fd"],
        "ovmf-amdsev",
    )
}

/// OVMF built for TDX.
///
/// # Errors
/// `BOOT-QEMU-MISSING` with the package's name.
pub fn tdx_firmware() -> Result<PathBuf, Failure> {
    firmware(
        "COCOON_OVMF_TDX",
        &["/usr/share/ovmf/OVMF.inteltdx.fd", "/usr/share/OVMF/OVMF.inteltdx.fd"],
        "ovmf-inteltdx",
    )
}

fn firmware(variable: &str, places: &[&str], package: &str) -> Result<PathBuf, Failure> {
    let named = std::env::var_os(variable).map(PathBuf::from);
    named.into_iter().chain(places.iter().map(PathBuf::from)).find(|p| p.is_file()).ok_or_else(|| {
        Failure::new(
            Code::BootQemuMissing,
            format!("no firmware for this TEE (Debian package {package}, or {variable})"),
        )
    })
}

/// What is to execute guests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acceleration {
    /// KVM where it works, else emulation.
    Auto,
    /// The kernel's hypervisor.
    Kvm,
    /// QEMU's emulation.
    Tcg,
}

/// What is remembered of a probe, so that a broken KVM costs its seconds once per boot of this machine.
#[derive(Serialize, Deserialize, PartialEq)]
struct Remembered {
    boot_id: String,
    qemu: PathBuf,
    works: bool,
    reason: String,
}

/// KVM or emulation. Whether KVM works is tried with `kernel` once per boot of this machine and kept in the file
/// `memory`. `tell` hears what a person may want to know.
///
/// # Errors
/// `BOOT-KVM-UNUSABLE` where KVM is demanded and does not work.
pub async fn accelerator(
    wish: Acceleration,
    qemu: &Qemu,
    kernel: &Path,
    memory: &Path,
    tell: impl Fn(&str),
) -> Result<Accel, Failure> {
    if wish == Acceleration::Tcg {
        return Ok(Accel::Tcg);
    }
    let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let known = std::fs::read(memory)
        .ok()
        .and_then(|bytes| serde_json::from_slice::<Remembered>(&bytes).ok())
        .filter(|r| r.boot_id == boot_id && r.qemu == qemu.path());
    let known = match known {
        Some(known) => known,
        None => {
            tell("trying whether KVM works here (once per boot of this machine)");
            let (works, reason) = match probe_kvm(qemu.path(), kernel, PROBE_LIMIT).await {
                KvmProbe::Works => (true, String::new()),
                KvmProbe::Fails { reason } => (false, reason),
            };
            let known = Remembered { boot_id, qemu: qemu.path().to_owned(), works, reason };
            remember(memory, &known);
            known
        }
    };
    match (known.works, wish) {
        (true, _) => Ok(Accel::Kvm),
        (false, Acceleration::Kvm) => Err(Failure::new(Code::BootKvmUnusable, known.reason)),
        (false, _) => {
            tell(&format!("emulating the VM: {}", known.reason));
            Ok(Accel::Tcg)
        }
    }
}

/// Best effort: without it the next pod probes again. Whole or not at all, since pods start at the same time.
fn remember(memory: &Path, known: &Remembered) {
    let Ok(json) = serde_json::to_vec(known) else { return };
    let Some(folder) = memory.parent() else { return };
    let written = tempfile::NamedTempFile::new_in(folder).and_then(|mut file| {
        std::io::Write::write_all(&mut file, &json)?;
        file.persist(memory).map_err(|e| e.error)
    });
    if let Err(e) = written {
        tracing::debug!(error = %e, "what KVM does here is not remembered");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_probe_is_remembered_until_the_machine_or_qemu_changes() {
        let dir = tempfile::tempdir().unwrap();
        let memory = dir.path().join("accel.json");
        let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
        let qemu = Qemu::at("/nonexistent/qemu".into());
        let known = Remembered { boot_id, qemu: qemu.path().into(), works: true, reason: String::new() };
        remember(&memory, &known);
        let kernel = Path::new("/nonexistent/kernel");
        let (quiet, qemu) = (|_: &str| {}, &qemu);
        let accel = accelerator(Acceleration::Auto, qemu, kernel, &memory, quiet).await;
        assert_eq!(accel.unwrap(), Accel::Kvm);
        // Another QEMU is tried anew, and this one cannot work.
        let other = Qemu::at("/nonexistent/other".into());
        let kvm = accelerator(Acceleration::Kvm, &other, kernel, &memory, quiet).await;
        assert_eq!(kvm.unwrap_err().code, Code::BootKvmUnusable);
        let auto = accelerator(Acceleration::Auto, &other, kernel, &memory, quiet).await;
        assert_eq!(auto.unwrap(), Accel::Tcg);
    }
}
