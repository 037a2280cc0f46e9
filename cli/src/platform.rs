//! Which TEE and which accelerator a run uses.

use std::path::Path;

use cocoon_runtime::{Acceleration, Protection, RuntimeConfig};
use cocoon_sandbox::platform::Chosen;
use cocoon_stage::{Failure, Stage};
use cocoon_vmm::{Accel, Qemu};

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
