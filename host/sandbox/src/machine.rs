//! What executes guests on this machine: KVM or emulation.

use std::path::{Path, PathBuf};

use cocoon_runtime::Acceleration;
use cocoon_stage::{Code, Failure};
use cocoon_vmm::{Accel, KvmProbe, PROBE_LIMIT, Qemu, probe_kvm};
use serde::{Deserialize, Serialize};

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
