//! The pod's VM, from a sandbox's bundle: which guest, how protected, how large, with which initdata.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cocoon_layers::Lease;
use cocoon_network::PodNetwork;
use cocoon_network::forward::{self, Forwarder};
use cocoon_plan::images::Space;
use cocoon_plan::pod::VolumeSource;
use cocoon_plan::{PLAN_FILE, Plan};
use cocoon_protocol::PROOF_PORT;
use cocoon_protocol::initdata::InitData;
use cocoon_runtime::RuntimeConfig;
use cocoon_sandbox::{GuestFiles, Network, Observed, Pod, PodSpec, Setup, platform};
use cocoon_sandbox_api::FORWARD_PORT;
use cocoon_stage::{Code, Failure, Mark};
use cocoon_vmm::Qemu;
use tokio::sync::mpsc;

use crate::cgroup::Cgroups;
use crate::layers;
use crate::sizing::size;
use crate::spec::{Bundle, Spec};
use crate::volumes::Volumes;

/// Stage events of a guest that are logged.
const MAX_LOGGED: u32 = 1000;

/// A running pod.
pub struct PodVm {
    /// Its VM.
    pub pod: Arc<Pod>,
    /// What may run in it, where it has a plan that the host can read.
    pub plan: Option<Plan>,
    /// The class that it is of.
    pub config: RuntimeConfig,
    /// Its volumes of files.
    pub volumes: Volumes,
    /// Its control groups.
    pub cgroups: Option<Cgroups>,
    /// Its shared layers, which the cache keeps meanwhile.
    _leases: Vec<Lease>,
    /// Brings connections to the pod's loopback into the guest.
    _forwarder: Option<Forwarder>,
    /// Takes the taps away once it is dropped.
    _network: Network,
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
    make_folder(&config.data)?;
    let chosen = platform::choose(&config)?;
    let qemu = match &config.qemu {
        Some(path) => Qemu::at(path.clone()),
        None => Qemu::find_for(chosen.machine)?,
    };
    let memory = config.state.join("accel.json");
    let tell = |text: &str| tracing::info!("{text}");
    let accel = cocoon_sandbox::accelerator(config.acceleration, &qemu, &guest.kernel, &memory, tell).await?;

    let scratch_bytes = plan.as_ref().and_then(|plan| match plan.images.space {
        Space::Scratch { bytes } => Some(bytes),
        Space::Memory => None,
    });
    let scratch_dir = config.data.join("scratch");
    if scratch_bytes.is_some() {
        make_folder(&scratch_dir)?;
    }
    let leases = match (&plan, &initdata) {
        (Some(plan), Some(initdata)) => layers::leases(&config.data, plan, initdata).await?,
        _ => Vec::new(),
    };
    let run_dir = config.state.join(name);
    let network = network(spec)?;
    let setup = Setup {
        hostname: spec.hostname.clone(),
        resolv_conf: spec.mounted_text("/etc/resolv.conf").unwrap_or_default(),
        hosts: spec.mounted_text("/etc/hosts").unwrap_or_default(),
        sysctls: spec.linux.sysctl.clone().into_iter().collect(),
        ..Setup::default()
    };

    let cgroups = Cgroups::of(&spec.linux.cgroups_path);
    if let Some(cgroups) = &cgroups {
        cgroups.enter();
    }
    let console = config.console.then(|| run_dir.join("console.log"));
    let vm = PodSpec {
        qemu: qemu.path().to_owned(),
        kernel: guest.kernel,
        initrd: guest.initrd,
        firmware: chosen.firmware,
        cmdline: guest.cmdline,
        initdata,
        platform: chosen.platform,
        accel,
        cpus: size.cpus,
        memory_mib: size.memory_mib,
        disks: layers::disks(&leases),
        ports: ports(plan.as_ref()),
        scratch_bytes,
        scratch_dir: Some(scratch_dir),
        network: network.clone(),
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
    let pod = Arc::new(pod);
    let forwarder = forward(spec, plan.as_ref(), &pod)?;
    Ok(PodVm {
        pod,
        plan,
        config,
        volumes: Volumes::default(),
        cgroups,
        _leases: leases,
        _forwarder: forwarder,
        _network: network,
    })
}

/// The namespace that a CNI result was made in becomes the guest's. A new one that nobody filled, as `ctr run` asks for,
/// has nothing to offer: there it is QEMU's user networking.
fn network(spec: &Spec) -> Result<Network, Failure> {
    let path = spec.namespace("network").map(|n| n.path.as_str()).unwrap_or_default();
    if path.is_empty() {
        return Ok(Network::User);
    }
    Ok(Network::Pod(Arc::new(PodNetwork::attach(Path::new(path))?)))
}

/// Listens on the pod's loopback for the ports that the plan lets the host reach and for the guest's proof, or for those of
/// the annotation where there is no plan.
fn forward(spec: &Spec, plan: Option<&Plan>, pod: &Arc<Pod>) -> Result<Option<Forwarder>, Failure> {
    let path = spec.namespace("network").map(|n| n.path.as_str()).unwrap_or_default();
    // Without a plan the pod's owner says it here; such a guest forwards what it is asked to.
    let ports = match plan {
        Some(plan) => [plan.forward_ports.as_slice(), &[PROOF_PORT]].concat(),
        None => spec.forward_ports()?,
    };
    if path.is_empty() || ports.is_empty() {
        return Ok(None);
    }
    // Of a pod that has ended nobody holds on to anything.
    let pod = Arc::downgrade(pod);
    let connect = move |port| {
        let pod = pod.clone();
        async move {
            let pod = pod.upgrade().ok_or(io::ErrorKind::NotConnected)?;
            let stream = pod.connect(FORWARD_PORT).await.map_err(|e| io::Error::other(e.to_string()))?;
            forward::open(stream, port).await
        }
    };
    Ok(Some(forward::listen(Path::new(path), &ports, connect)?))
}

fn plan_of(initdata: &InitData) -> Option<Plan> {
    Plan::parse(initdata.file(PLAN_FILE)?.as_bytes()).inspect_err(|e| tracing::warn!(error = %e, "plan")).ok()
}

/// One for each of the plan's disks.
fn ports(plan: Option<&Plan>) -> u32 {
    let disks = plan.map_or(0, |plan| {
        plan.volumes
            .iter()
            .filter(|volume| matches!(volume.source, VolumeSource::Block {} | VolumeSource::Encrypted { .. }))
            .count()
    });
    u32::try_from(disks).unwrap_or(u32::MAX)
}

fn make_folder(path: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(path)
        .map_err(|e| Failure::new(Code::HostUnsupported, format!("{}: {e}", path.display())))
}

/// Stage events go to containerd's log.
async fn log_stages(mut observed: mpsc::UnboundedReceiver<Observed>) {
    let mut room = MAX_LOGGED;
    while let Some(Observed { at, event }) = observed.recv().await {
        // The guest may say anything, and as often as it likes.
        room = match room {
            0 => continue,
            room => room - 1,
        };
        let ms = u64::try_from(at.as_millis()).unwrap_or(u64::MAX);
        match event.mark {
            Mark::Begin => tracing::info!(stage = %event.stage, at_ms = ms, "stage begins"),
            Mark::End => tracing::info!(stage = %event.stage, at_ms = ms, "stage ends"),
            Mark::Fail(code) => tracing::warn!(stage = %event.stage, at_ms = ms, %code, "stage fails"),
        }
    }
}
