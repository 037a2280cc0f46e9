//! The pod's VM, from a sandbox's bundle: which guest, how protected, how large, with which initdata.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cocoon_plan::images::Space;
use cocoon_plan::{PLAN_FILE, Plan};
use cocoon_protocol::initdata::InitData;
use cocoon_runtime::{Acceleration, Protection, RuntimeConfig};
use cocoon_sandbox::{GuestFiles, NetArg, Observed, Pod, PodSpec, TeePlatform, user_networking};
use cocoon_stage::{Code, Failure, Mark};
use cocoon_vmm::{Qemu, QuoteGeneration};
use tokio::sync::mpsc;

use crate::cgroup::Cgroups;
use crate::sizing::size;
use crate::spec::Bundle;

/// A running pod.
pub struct PodVm {
    /// Its VM.
    pub pod: Pod,
    /// What may run in it, where it has a plan that the host can read.
    pub plan: Option<Plan>,
    /// The class that it is of.
    pub config: RuntimeConfig,
    /// Its control groups.
    pub cgroups: Option<Cgroups>,
}

/// Boots a pod. `name` is the runtime folder's, below the class's state folder.
///
/// # Errors
/// `BOOT-…`, `INITDATA-…`, `PLAN-…`, `HOST-UNSUPPORTED`; nothing is left behind.
pub async fn boot(bundle: &Bundle, config: RuntimeConfig, name: &str) -> Result<PodVm, Failure> {
    let spec = &bundle.spec;
    spec.check_pod()?;
    let initdata = spec.initdata()?;
    // A plan that cannot be read is the guest's to refuse; here it only helps.
    let plan = initdata.as_ref().and_then(plan_of);
    let size = size(spec, &config)?;
    let guest = GuestFiles::open(&config.guest_image)?;
    let qemu = match &config.qemu {
        Some(path) => Qemu::at(path.clone()),
        None => Qemu::find()?,
    };
    make_folder(&config.data)?;
    let platform = platform(&config)?;
    let firmware = match &platform {
        TeePlatform::Snp { .. } => cocoon_sandbox::snp_firmware()?,
        TeePlatform::Tdx(_) => cocoon_sandbox::tdx_firmware()?,
        _ => guest.firmware.clone(),
    };
    let wish = match config.acceleration {
        Acceleration::Auto => cocoon_sandbox::Acceleration::Auto,
        Acceleration::Kvm => cocoon_sandbox::Acceleration::Kvm,
        Acceleration::Tcg => cocoon_sandbox::Acceleration::Tcg,
    };
    let memory = config.state.join("accel.json");
    let tell = |text: &str| tracing::info!("{text}");
    let accel = cocoon_sandbox::accelerator(wish, &qemu, &guest.kernel, &memory, tell).await?;

    let scratch_bytes = plan.as_ref().and_then(|plan| match plan.images.space {
        Space::Scratch { bytes } => Some(bytes),
        Space::Memory => None,
    });
    let scratch_dir = config.data.join("scratch");
    if scratch_bytes.is_some() {
        make_folder(&scratch_dir)?;
    }
    let run_dir = config.state.join(name);
    let mut setup = user_networking();
    setup.hostname.clone_from(&spec.hostname);
    if setup.hostname.is_empty() {
        setup.hostname = "cocoon".into();
    }
    if let Some(text) = spec.mounted_text("/etc/resolv.conf") {
        setup.resolv_conf = text;
    }
    if let Some(text) = spec.mounted_text("/etc/hosts") {
        setup.hosts = text;
    }
    setup.sysctls = spec.linux.sysctl.clone().into_iter().collect();

    let cgroups = Cgroups::of(&spec.linux.cgroups_path);
    if let Some(cgroups) = &cgroups {
        cgroups.enter();
    }
    let console = config.console.then(|| run_dir.join("console.log"));
    let vm = PodSpec {
        qemu: qemu.path().to_owned(),
        kernel: guest.kernel,
        initrd: guest.initrd,
        firmware,
        cmdline: guest.cmdline,
        initdata,
        platform,
        accel,
        cpus: size.cpus,
        memory_mib: size.memory_mib,
        disks: Vec::new(),
        scratch_bytes,
        scratch_dir: Some(scratch_dir),
        network: NetArg::User,
        setup,
        run_dir,
        console,
        boot_timeout: Duration::from_secs(config.boot_timeout_s),
        adversary: None,
    };
    let (observer, observed) = mpsc::unbounded_channel();
    tokio::spawn(log_stages(observed));
    let booted = Pod::boot(vm, Instant::now(), observer).await;
    let pod = booted.inspect_err(|_| {
        if let Some(cgroups) = &cgroups {
            cgroups.leave();
        }
    })?;
    if let Some(score) = spec.process.oom_score_adj {
        crate::cgroup::set_oom_score(pod.vm_pid(), score);
    }
    Ok(PodVm { pod, plan, config, cgroups })
}

fn plan_of(initdata: &InitData) -> Option<Plan> {
    Plan::parse(initdata.file(PLAN_FILE)?.as_bytes()).inspect_err(|e| tracing::warn!(error = %e, "plan")).ok()
}

/// The class's protection, or the best that this machine has.
fn platform(config: &RuntimeConfig) -> Result<TeePlatform, Failure> {
    let snp = || cocoon_sandbox::sev_snp(config.snp.policy);
    let tdx = || cocoon_sandbox::tdx(quotes(&config.tdx.quote_socket));
    let sim = || TeePlatform::Sim { dir: config.data.join("sim") };
    match config.protection {
        Protection::Auto => Ok(snp().or_else(|_| tdx()).unwrap_or_else(|_| sim())),
        Protection::Snp => snp(),
        Protection::Tdx => tdx(),
        Protection::Sim => Ok(sim()),
        other => {
            let why = format!("protection {other:?} cannot be booted by this version");
            Err(Failure::new(Code::BootPlatformUnavailable, why))
        }
    }
}

/// A path, or `vsock:PORT`.
fn quotes(socket: &str) -> QuoteGeneration {
    match socket.strip_prefix("vsock:").and_then(|port| port.parse().ok()) {
        Some(port) => QuoteGeneration::Vsock(port),
        None => QuoteGeneration::Unix(PathBuf::from(socket)),
    }
}

fn make_folder(path: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(path)
        .map_err(|e| Failure::new(Code::HostUnsupported, format!("{}: {e}", path.display())))
}

/// Stage events go to containerd's log.
async fn log_stages(mut observed: mpsc::UnboundedReceiver<Observed>) {
    while let Some(Observed { at, event }) = observed.recv().await {
        let ms = u64::try_from(at.as_millis()).unwrap_or(u64::MAX);
        match event.mark {
            Mark::Begin => tracing::info!(stage = %event.stage, at_ms = ms, "stage begins"),
            Mark::End => tracing::info!(stage = %event.stage, at_ms = ms, "stage ends"),
            Mark::Fail(code) => tracing::warn!(stage = %event.stage, at_ms = ms, %code, "stage fails"),
        }
    }
}
