//! From a class's configuration to the platform of its pods, and what they boot with beside the guest image.

use std::path::{Path, PathBuf};

use cocoon_runtime::{Protection, RuntimeConfig};
use cocoon_stage::{Code, Failure, Stage};
use cocoon_vmm::{Machine, QuoteGeneration, RealmHash, SnpIdentity};

use crate::boot::TeePlatform;
use crate::tpm::variables_of;

/// A platform, and what goes with it.
#[derive(Clone, Debug)]
pub struct Chosen {
    /// How pods are protected.
    pub platform: TeePlatform,
    /// The firmware; of no use to Secure Execution and CCA, which boot without.
    pub firmware: PathBuf,
    /// The machine model, by which QEMU's binary is found ([`cocoon_vmm::Qemu::find_for`]).
    pub machine: Machine,
}

/// The platform of a class. `auto` takes SNP or TDX where this machine has it, else the simulated one; what is asked for by
/// name and is not here is an error, and so is a TEE without its firmware.
///
/// # Errors
/// `BOOT-PLATFORM-UNAVAILABLE` where the machine lacks it, `BOOT-QEMU-MISSING` where its firmware is not installed,
/// `USAGE-INVALID` for settings that do not fit.
pub fn choose(config: &RuntimeConfig) -> Result<Chosen, Failure> {
    let unavailable = |reason: String| Failure::new(Code::BootPlatformUnavailable, reason).at(Stage::Boot);
    match config.protection {
        Protection::Auto => {
            for real in [snp, tdx] {
                match real(config) {
                    // Not of this machine. What is of it and cannot be used must not become a pod without protection.
                    Err(failure) if failure.code == Code::BootPlatformUnavailable => {}
                    found => return found,
                }
            }
            Ok(sim(config))
        }
        Protection::Sim => Ok(sim(config)),
        Protection::Snp => snp(config),
        Protection::Tdx => tdx(config),
        Protection::Tpm => {
            let firmware = tpm_firmware()?;
            let platform = TeePlatform::Tpm { dir: config.data.join("tpm"), vars: variables_of(&firmware) };
            Ok(Chosen { platform, firmware, machine: Machine::Q35 })
        }
        Protection::Se => {
            let host = std::fs::read_to_string("/sys/firmware/uv/prot_virt_host").unwrap_or_default();
            if host.trim() != "1" {
                let file = "/sys/firmware/uv/prot_virt_host";
                return Err(unavailable(format!("{file} does not say 1: no IBM Secure Execution here")));
            }
            Ok(Chosen { platform: TeePlatform::Se, firmware: PathBuf::new(), machine: Machine::S390Ccw })
        }
        Protection::Cca => {
            if std::env::consts::ARCH != "aarch64" {
                return Err(unavailable("this machine is not of Arm's architecture: no CCA here".to_owned()));
            }
            let platform = TeePlatform::Cca(RealmHash::default());
            Ok(Chosen { platform, firmware: PathBuf::new(), machine: Machine::Virt })
        }
    }
}

fn sim(config: &RuntimeConfig) -> Chosen {
    Chosen {
        platform: TeePlatform::Sim { dir: config.data.join("sim") },
        firmware: config.guest_image.join("firmware.bin"),
        machine: Machine::Q35,
    }
}

fn snp(config: &RuntimeConfig) -> Result<Chosen, Failure> {
    if !Path::new("/dev/sev").exists() || !kvm_parameter("kvm_amd", "sev_snp") {
        let reason = "/dev/sev is missing or kvm_amd's parameter sev_snp is not Y: no AMD SEV-SNP here";
        return Err(Failure::new(Code::BootPlatformUnavailable, reason).at(Stage::Boot));
    }
    let firmware = snp_firmware()?;
    let identity = match (&config.snp.id_block, &config.snp.id_auth) {
        (Some(block), Some(auth)) => Some(SnpIdentity::from_base64(block, auth)?),
        (None, None) => None,
        _ => {
            let reason = "snp.id_block and snp.id_auth are given both or not at all";
            return Err(Failure::new(Code::UsageInvalid, reason));
        }
    };
    let platform = TeePlatform::Snp { cbitpos: c_bit(), policy: config.snp.policy, identity };
    Ok(Chosen { platform, firmware, machine: Machine::Q35 })
}

fn tdx(config: &RuntimeConfig) -> Result<Chosen, Failure> {
    if !kvm_parameter("kvm_intel", "tdx") {
        let reason = "/sys/module/kvm_intel/parameters/tdx does not say Y: no Intel TDX here";
        return Err(Failure::new(Code::BootPlatformUnavailable, reason).at(Stage::Boot));
    }
    let quotes = quote_socket(&config.tdx.quote_socket)
        .map_err(|reason| Failure::new(Code::UsageInvalid, format!("tdx.quote_socket: {reason}")))?;
    Ok(Chosen { platform: TeePlatform::Tdx(quotes), firmware: tdx_firmware()?, machine: Machine::Q35 })
}

/// An absolute path, or `vsock:PORT`.
fn quote_socket(text: &str) -> Result<QuoteGeneration, String> {
    match text.strip_prefix("vsock:") {
        Some(port) => match port.parse() {
            Ok(port) if port > 0 => Ok(QuoteGeneration::Vsock(port)),
            _ => Err(format!("{port:?} is no port")),
        },
        None if Path::new(text).is_absolute() => Ok(QuoteGeneration::Unix(text.into())),
        None => Err(format!("{text:?} is neither an absolute path nor vsock:PORT")),
    }
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

/// Whether a module's switch is on.
fn kvm_parameter(module: &str, name: &str) -> bool {
    std::fs::read_to_string(format!("/sys/module/{module}/parameters/{name}"))
        .is_ok_and(|v| matches!(v.trim(), "Y" | "1"))
}

/// OVMF built for SEV (with the kernel hashes table); `COCOON_OVMF_SNP` names another.
///
/// # Errors
/// `BOOT-QEMU-MISSING` with the package.
pub fn snp_firmware() -> Result<PathBuf, Failure> {
    let places = ["/usr/share/ovmf/OVMF.amdsev.fd", "/usr/share/OVMF/OVMF.amdsev.fd"];
    firmware("COCOON_OVMF_SNP", &places, "ovmf-amdsev")
}

/// OVMF built for TDX; `COCOON_OVMF_TDX` names another.
///
/// # Errors
/// `BOOT-QEMU-MISSING` with the package.
pub fn tdx_firmware() -> Result<PathBuf, Failure> {
    let places = ["/usr/share/ovmf/OVMF.inteltdx.fd", "/usr/share/OVMF/OVMF.inteltdx.fd"];
    firmware("COCOON_OVMF_TDX", &places, "ovmf-inteltdx")
}

/// OVMF that measures into a TPM, as code apart from its variables (which have `VARS` for `CODE` in their name, beside it);
/// `COCOON_OVMF_TPM` names another.
///
/// # Errors
/// `BOOT-QEMU-MISSING` with the package.
pub fn tpm_firmware() -> Result<PathBuf, Failure> {
    let places = ["/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_CODE.fd"];
    firmware("COCOON_OVMF_TPM", &places, "ovmf")
}

fn firmware(variable: &str, places: &[&str], package: &str) -> Result<PathBuf, Failure> {
    let named = std::env::var_os(variable).map(PathBuf::from);
    named.into_iter().chain(places.iter().map(PathBuf::from)).find(|p| p.is_file()).ok_or_else(|| {
        let reason = format!("no firmware for this platform (Debian package {package}, or {variable})");
        Failure::new(Code::BootQemuMissing, reason).at(Stage::Boot)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(protection: Protection) -> RuntimeConfig {
        RuntimeConfig { protection, data: "/data".into(), guest_image: "/guest".into(), ..Default::default() }
    }

    #[test]
    fn the_simulated_platform_is_everywhere() {
        let chosen = choose(&config(Protection::Sim)).unwrap();
        assert!(matches!(chosen.platform, TeePlatform::Sim { dir } if dir == Path::new("/data/sim")));
        assert_eq!(chosen.firmware, Path::new("/guest/firmware.bin"));
        assert!(choose(&config(Protection::Auto)).is_ok());
    }

    #[test]
    fn what_is_not_here_is_not_pretended() {
        for protection in [Protection::Snp, Protection::Tdx, Protection::Se, Protection::Cca] {
            if let Err(failure) = choose(&config(protection)) {
                let known = [Code::BootPlatformUnavailable, Code::BootQemuMissing];
                assert!(known.contains(&failure.code), "{failure}");
            }
        }
    }

    #[test]
    fn quote_sockets() {
        assert_eq!(quote_socket("vsock:4050"), Ok(QuoteGeneration::Vsock(4050)));
        assert_eq!(quote_socket("/q"), Ok(QuoteGeneration::Unix("/q".into())));
        for bad in ["vsock:", "vsock:0", "vsock:x", "vsock:99999999999", "q", ""] {
            assert!(quote_socket(bad).is_err(), "{bad}");
        }
    }
}
