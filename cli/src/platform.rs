//! Which TEE and which accelerator a run uses.

use std::path::{Path, PathBuf};

use cocoon_runtime::{Protection, RuntimeConfig};
use cocoon_sandbox::platform::Chosen;
use cocoon_stage::{Code, Failure, Stage};
use cocoon_vmm::{Accel, KvmProbe, PROBE_LIMIT, Qemu, probe_kvm};
use serde::{Deserialize, Serialize};

use crate::args::{AccelArg, PlatformArg};
use crate::dirs;
use crate::output::Output;

/// The TEE to use, and its firmware beside the guest image's own.
pub fn choose(wish: PlatformArg, guest: &Path) -> Result<Chosen, Failure> {
    let protection = match wish {
        // Real TEEs are asked for by name until they have run on hardware.
        PlatformArg::Auto | PlatformArg::Sim => Protection::Sim,
        PlatformArg::Snp => Protection::Snp,
        PlatformArg::Tdx => Protection::Tdx,
        PlatformArg::Tpm => Protection::Tpm,
    };
    let config = RuntimeConfig {
        protection,
        data: dirs::data_dir()?,
        guest_image: guest.to_owned(),
        ..RuntimeConfig::default()
    };
    cocoon_sandbox::platform::choose(&config)
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
