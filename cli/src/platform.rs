//! Which TEE and which accelerator a run uses.

use std::path::{Path, PathBuf};

use cocoon_sandbox::TeePlatform;
use cocoon_stage::{Code, Failure, Stage};
use cocoon_vmm::{Accel, KvmProbe, PROBE_LIMIT, Qemu, probe_kvm};
use serde::{Deserialize, Serialize};

use crate::args::{AccelArg, PlatformArg};
use crate::dirs;
use crate::embedded::sim_dir;
use crate::output::Output;

/// SNP guest policy: SMT allowed; no debugging, no migration; bit 17 is always one (AMD 56860, table 9).
const SNP_POLICY: u64 = 0x3_0000;

/// The TEE to use.
pub fn choose(wish: PlatformArg) -> Result<TeePlatform, Failure> {
    match wish {
        // Real TEEs are asked for by name until they have run on hardware.
        PlatformArg::Auto | PlatformArg::Sim => Ok(TeePlatform::Sim { dir: sim_dir()? }),
        PlatformArg::Snp => snp().map_err(|reason| Failure::new(Code::BootPlatformUnavailable, reason)),
        PlatformArg::Tdx => Err(Failure::new(
            Code::BootPlatformUnavailable,
            if kvm_parameter("kvm_intel", "tdx") {
                "this machine has Intel TDX, but Trustee's TDX verifier is not built yet"
            } else {
                "/sys/module/kvm_intel/parameters/tdx does not say Y: no Intel TDX here"
            },
        )),
    }
}

fn snp() -> Result<TeePlatform, String> {
    if !Path::new("/dev/sev").exists() || !kvm_parameter("kvm_amd", "sev_snp") {
        return Err("/dev/sev is missing or kvm_amd's parameter sev_snp is not Y: no AMD SEV-SNP here".into());
    }
    snp_firmware().map_err(|f| f.reason)?;
    Ok(TeePlatform::Snp { cbitpos: c_bit(), policy: SNP_POLICY })
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
pub fn snp_firmware() -> Result<PathBuf, Failure> {
    firmware(
        "COCOON_OVMF_SNP",
        &["/usr/share/ovmf/OVMF.amdsev.fd", "/usr/share/OVMF/OVMF.amdsev.fd"],
        "ovmf-amdsev",
    )
}

/// OVMF built for TDX.
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

/// What is remembered of a probe, so that a broken KVM costs its seconds once per boot of this machine.
#[derive(Serialize, Deserialize, PartialEq)]
struct Remembered {
    boot_id: String,
    qemu: PathBuf,
    works: bool,
    reason: String,
}

/// KVM or emulation.
pub async fn accelerator(
    wish: AccelArg,
    qemu: &Qemu,
    kernel: &Path,
    output: Output,
) -> Result<Accel, Failure> {
    if wish == AccelArg::Tcg {
        return Ok(Accel::Tcg);
    }
    let file = dirs::data_dir()?.join("accel.json");
    let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let known = std::fs::read(&file)
        .ok()
        .and_then(|bytes| serde_json::from_slice::<Remembered>(&bytes).ok())
        .filter(|r| r.boot_id == boot_id && r.qemu == qemu.path());
    let known = match known {
        Some(known) => known,
        None => {
            output.progress(Stage::Boot, "trying whether KVM works here (once per boot of this machine)");
            let (works, reason) = match probe_kvm(qemu.path(), kernel, PROBE_LIMIT).await {
                KvmProbe::Works => (true, String::new()),
                KvmProbe::Fails { reason } => (false, reason),
            };
            let known = Remembered { boot_id, qemu: qemu.path().to_owned(), works, reason };
            // Best effort: without it the next run probes again.
            if let Ok(json) = serde_json::to_vec(&known) {
                let _ = std::fs::write(&file, json);
            }
            known
        }
    };
    match (known.works, wish) {
        (true, _) => Ok(Accel::Kvm),
        (false, AccelArg::Kvm) => Err(Failure::new(Code::BootKvmUnusable, known.reason)),
        (false, _) => {
            output.progress(Stage::Boot, &format!("emulating the VM: {}", known.reason));
            Ok(Accel::Tcg)
        }
    }
}
