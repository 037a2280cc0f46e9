//! Which TEE and which accelerator a run uses.

use std::path::Path;

use cocoon_runtime::{Acceleration, Protection, RuntimeConfig};
use cocoon_sandbox::TeePlatform;
use cocoon_stage::{Code, Failure, Stage};
use cocoon_vmm::{Accel, Qemu};

use crate::args::{AccelArg, PlatformArg};
use crate::dirs;
use crate::embedded::sim_dir;
use crate::output::Output;

pub use cocoon_sandbox::platform::{snp_firmware, tdx_firmware};

/// The TEE to use.
pub fn choose(wish: PlatformArg) -> Result<TeePlatform, Failure> {
    let named = |protection| {
        let class = RuntimeConfig { protection, ..RuntimeConfig::default() };
        Ok(cocoon_sandbox::platform::choose(&class)?.platform)
    };
    match wish {
        // Real TEEs are asked for by name until they have run on hardware.
        PlatformArg::Auto | PlatformArg::Sim => Ok(TeePlatform::Sim { dir: sim_dir()? }),
        PlatformArg::Snp => named(Protection::Snp),
        PlatformArg::Tdx => {
            named(Protection::Tdx)?;
            let why = "this machine has Intel TDX, but its launch measurement cannot be registered yet";
            Err(Failure::new(Code::BootPlatformUnavailable, why))
        }
    }
}

/// KVM or emulation.
pub async fn accelerator(
    wish: AccelArg,
    qemu: &Qemu,
    kernel: &Path,
    output: Output,
) -> Result<Accel, Failure> {
    let wish = match wish {
        AccelArg::Auto => Acceleration::Auto,
        AccelArg::Kvm => Acceleration::Kvm,
        AccelArg::Tcg => Acceleration::Tcg,
    };
    let memory = dirs::data_dir()?.join("accel.json");
    let tell = |text: &str| output.progress(Stage::Boot, text);
    cocoon_sandbox::accelerator(wish, qemu, kernel, &memory, tell).await
}
