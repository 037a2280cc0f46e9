//! Which TEE and which accelerator a run uses.

use std::path::Path;

use cocoon_sandbox::{Acceleration, TeePlatform};
use cocoon_stage::{Code, Failure, Stage};
use cocoon_vmm::{Accel, Qemu, QuoteGeneration};

use crate::args::{AccelArg, PlatformArg};
use crate::dirs;
use crate::embedded::sim_dir;
use crate::output::Output;

pub use cocoon_sandbox::{snp_firmware, tdx_firmware};

/// SNP guest policy: SMT allowed; no debugging, no migration; bit 17 is always one (AMD 56860, table 9).
const SNP_POLICY: u64 = 0x3_0000;
/// Where Intel's quote generation service usually listens.
const QUOTE_SOCKET: &str = "/var/run/tdx-qgs/qgs.socket";

/// The TEE to use.
pub fn choose(wish: PlatformArg) -> Result<TeePlatform, Failure> {
    match wish {
        // Real TEEs are asked for by name until they have run on hardware.
        PlatformArg::Auto | PlatformArg::Sim => Ok(TeePlatform::Sim { dir: sim_dir()? }),
        PlatformArg::Snp => cocoon_sandbox::sev_snp(SNP_POLICY),
        PlatformArg::Tdx => {
            cocoon_sandbox::tdx(QuoteGeneration::Unix(QUOTE_SOCKET.into()))?;
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
