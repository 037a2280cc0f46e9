//! From files to a pod VM that has announced itself and knows its network.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cocoon_protocol::initdata::InitData;
use cocoon_sandbox_api::sandbox::ConfigureRequest;
use cocoon_sandbox_api::sandbox_ttrpc::SandboxClient;
use cocoon_sandbox_api::{EVENTS_PORT, GUEST_PORT, SECURE_PROCESSOR_PORT};
use cocoon_sim::SecureProcessor;
use cocoon_stage::{Code, Failure, HostFailure, Mark, Stage, StageEvent};
use cocoon_vmm::{
    Accel, Console, Disk, Ending, Killer, Machine, Platform, QuoteGeneration, RealmHash, SnpIdentity, Vm,
    VmSpec, VsockArg, host_field,
};
use cocoon_vsock::Vsock;
use containerd_shim_protos::shim_async::TaskClient;
use tokio::sync::{Mutex, mpsc, watch};
use ttrpc::asynchronous::Client;
use ttrpc::asynchronous::transport::Socket;

use crate::adversary::{Adversary, changed_initrd, changed_plan};
use crate::events::{Heard, Observed, read_events};
use crate::network::Network;
use crate::run_dir::{RunDir, disk};
use crate::scratch::Scratch;
use crate::sim::{SimService, measure};
use crate::tpm::PodTpm;

/// Context ids below this are the hypervisor's and the host's; each pod adds its process id.
const FIRST_CID: u32 = 3;
/// Messages of lacking memory that may wait to be read; more of them say nothing more.
const MAX_WAITING: usize = 64;

/// The TEE that protects the pod.
#[derive(Clone, Debug)]
pub enum TeePlatform {
    /// The simulated secure processor, whose keys are in this folder.
    Sim {
        /// Folder of the processor's keys.
        dir: PathBuf,
    },
    /// AMD SEV-SNP.
    Snp {
        /// Position of the C-bit: CPUID 0x8000001F, EBX bits 5:0.
        cbitpos: u8,
        /// Guest policy.
        policy: u64,
        /// ID block with its signatures, if the launch has one.
        identity: Option<SnpIdentity>,
    },
    /// Intel TDX.
    Tdx(QuoteGeneration),
    /// A software TPM of this host's beside a measured boot.
    Tpm {
        /// Folder of the node's authority for TPMs ([`crate::TpmAuthority`]).
        dir: PathBuf,
        /// The firmware's variable store, of which each VM gets a copy.
        vars: PathBuf,
    },
    /// IBM Secure Execution; [`PodSpec::kernel`] is the encrypted image.
    Se,
    /// Arm CCA.
    Cca(RealmHash),
}

impl TeePlatform {
    /// The machine model that it runs on.
    fn machine(&self) -> Machine {
        match self {
            TeePlatform::Se => Machine::S390Ccw,
            TeePlatform::Cca(_) => Machine::Virt,
            _ => Machine::Q35,
        }
    }

    /// Whether the guest's memory is in this host's reach.
    fn shares_memory(&self) -> bool {
        matches!(self, TeePlatform::Sim { .. } | TeePlatform::Tpm { .. })
    }
}

/// A pod to boot.
#[derive(Clone, Debug)]
pub struct PodSpec {
    /// The QEMU binary.
    pub qemu: PathBuf,
    /// Kernel of the guest image.
    pub kernel: PathBuf,
    /// Initrd of the guest image.
    pub initrd: PathBuf,
    /// Firmware.
    pub firmware: PathBuf,
    /// Kernel command line of the guest image.
    pub cmdline: String,
    /// The workload's initdata. Without any, HOST_DATA is zeros and only a developer's guest runs something.
    pub initdata: Option<InitData>,
    /// The TEE.
    pub platform: TeePlatform,
    /// Hardware virtualization or emulation.
    pub accel: Accel,
    /// Virtual CPUs.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// How it reaches the network.
    pub network: Network,
    /// Layers and other disks that the guest finds by their serial numbers.
    pub disks: Vec<Disk>,
    /// Ports for disks that come later, with [`Pod::plug`].
    pub ports: u32,
    /// Size in bytes of a scratch disk, serial number `scratch`, in whole pages.
    pub scratch_bytes: Option<u64>,
    /// Where the scratch disk's space comes from: any folder on a disk. Default: `run_dir`, which often is memory.
    pub scratch_dir: Option<PathBuf>,
    /// What the guest is told beside its network: host name, name resolution, kernel settings. What is empty here is as
    /// the network has it.
    pub setup: ConfigureRequest,
    /// Private folder for sockets and the initdata disk; created here and removed with the pod.
    pub run_dir: PathBuf,
    /// Where the serial console goes, if anywhere.
    pub console: Option<PathBuf>,
    /// How long the guest may take to announce itself.
    pub boot_timeout: Duration,
    /// The host's misbehaviour, for demonstrations.
    pub adversary: Option<Adversary>,
}

/// A booted pod VM.
pub struct Pod {
    pub(crate) pid: u32,
    pub(crate) vm: Mutex<Vm>,
    pub(crate) ending: Ending,
    pub(crate) killer: Killer,
    pub(crate) vsock: Vsock,
    pub(crate) task: TaskClient,
    pub(crate) sandbox: SandboxClient,
    pub(crate) failure: watch::Receiver<Option<HostFailure>>,
    pub(crate) out_of_memory: Mutex<mpsc::Receiver<String>>,
    pub(crate) plugged: Mutex<BTreeSet<String>>,
    _scratch: Option<Scratch>,
    _tpm: Option<PodTpm>,
    // Removes the folder when the pod is gone.
    _run_dir: RunDir,
}

impl std::fmt::Debug for Pod {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pod").field("vm", &self.pid).finish_non_exhaustive()
    }
}

impl Pod {
    /// Boots the pod: VM, readiness, network. Stage events, the guest's included, go to `observer` with their time
    /// since `began`.
    ///
    /// # Errors
    /// `BOOT-…` with QEMU's own words, or the guest's coded failure.
    pub async fn boot(
        spec: PodSpec,
        began: Instant,
        observer: mpsc::UnboundedSender<Observed>,
    ) -> Result<Self, Failure> {
        let tell = |mark| {
            let _ =
                observer.send(Observed { at: began.elapsed(), event: StageEvent::new(Stage::Boot, mark) });
        };
        tell(Mark::Begin);
        let result = Self::boot_inner(&spec, began, observer.clone()).await;
        tell(match &result {
            Ok(_) => Mark::End,
            Err(failure) => Mark::Fail(failure.code),
        });
        result
    }

    async fn boot_inner(
        spec: &PodSpec,
        began: Instant,
        observer: mpsc::UnboundedSender<Observed>,
    ) -> Result<Self, Failure> {
        let run_dir = RunDir::create(&spec.run_dir)?;
        let (initdata, bound) = bind(spec)?;
        let initrd = match spec.adversary {
            Some(Adversary::ChangedInitrd) => {
                let path = run_dir.path().join("initrd.img");
                let old = std::fs::read(&spec.initrd).map_err(disk)?;
                std::fs::write(&path, changed_initrd(&old)).map_err(disk)?;
                path
            }
            _ => spec.initrd.clone(),
        };
        let initdata_disk = run_dir.path().join("initdata.img");
        std::fs::write(&initdata_disk, initdata).map_err(disk)?;

        let mut disks = spec.disks.clone();
        let within = spec.scratch_dir.as_deref().unwrap_or(run_dir.path());
        let scratch = spec.scratch_bytes.map(|bytes| Scratch::create(within, bytes)).transpose()?;
        disks.extend(scratch.as_ref().map(Scratch::disk));

        let (vsock, vsock_arg) = open_vsock(run_dir.path(), &spec.platform)?;
        let mut events = vsock.listen(EVENTS_PORT)?;
        if let TeePlatform::Sim { dir } = &spec.platform {
            let listener = vsock.listen(SECURE_PROCESSOR_PORT)?;
            let service = sim_service(spec, dir, initrd.clone(), host_field(&bound))?;
            tokio::spawn(service.serve(listener));
        }
        let tpm = match &spec.platform {
            TeePlatform::Tpm { dir, vars } => Some(PodTpm::start(dir, vars, run_dir.path()).await?),
            _ => None,
        };
        let one_image = matches!(spec.platform, TeePlatform::Se);
        let vm_spec = VmSpec {
            qemu: spec.qemu.clone(),
            platform: match (&spec.platform, &tpm) {
                (_, Some(tpm)) => tpm.platform(),
                (TeePlatform::Snp { cbitpos, policy, identity }, _) => Platform::Snp {
                    cbitpos: *cbitpos,
                    policy: *policy,
                    host_data: host_field(&bound),
                    identity: identity.clone(),
                },
                (TeePlatform::Tdx(quotes), _) => {
                    Platform::Tdx { mr_config_id: host_field(&bound), quotes: quotes.clone() }
                }
                (TeePlatform::Se, _) => Platform::Se,
                (TeePlatform::Cca(hash), _) => {
                    Platform::Cca { hash: *hash, personalization: host_field(&bound) }
                }
                (TeePlatform::Sim { .. } | TeePlatform::Tpm { .. }, None) => Platform::Sim,
            },
            accel: spec.accel,
            machine: spec.platform.machine(),
            cpus: spec.cpus,
            memory_mib: spec.memory_mib,
            kernel: spec.kernel.clone(),
            initrd: (!one_image).then_some(initrd),
            cmdline: if one_image { String::new() } else { spec.cmdline.clone() },
            firmware: (spec.platform.machine() == Machine::Q35).then(|| spec.firmware.clone()),
            initdata_disk,
            disks,
            ports: spec.ports,
            vsock: vsock_arg,
            network: spec.network.devices(),
            console: spec.console.clone().map_or(Console::Tail, Console::Copy),
            qmp_socket: run_dir.path().join("qmp.sock"),
            run_dir: run_dir.path().to_owned(),
        };
        let mut vm = Vm::start(vm_spec).await?;

        let ready = tokio::select! {
            stream = events.accept() => stream,
            _ = vm.wait() => return Err(vm.ended_error().into()),
            () = tokio::time::sleep(spec.boot_timeout) => None,
        };
        let Some(stream) = ready else {
            let reason = format!("no sign of the guest within {:?}", spec.boot_timeout);
            return Err(Failure::new(Code::BootTimeout, reason));
        };
        let (failure_tx, failure) = watch::channel(None);
        let (starved, out_of_memory) = mpsc::channel(MAX_WAITING);
        tokio::spawn(read_events(stream, began, Heard { observer, failure: failure_tx, starved }));

        let stream = vsock.connect(GUEST_PORT).await?;
        let client = Client::new(Socket::new(stream));
        let pod = Pod {
            pid: vm.pid(),
            ending: vm.ending(),
            killer: vm.killer(),
            vm: Mutex::new(vm),
            vsock,
            task: TaskClient::new(client.clone()),
            sandbox: SandboxClient::new(client),
            failure,
            out_of_memory: Mutex::new(out_of_memory),
            plugged: Mutex::default(),
            _scratch: scratch,
            _tpm: tpm,
            _run_dir: run_dir,
        };
        pod.configure(spec).await?;
        Ok(pod)
    }

    async fn configure(&self, spec: &PodSpec) -> Result<(), Failure> {
        let mut request = ConfigureRequest::default();
        spec.network.describe(&mut request);
        add_names(&mut request, &spec.setup);
        let limit = ttrpc::context::with_duration(Duration::from_secs(60));
        match self.sandbox.configure(limit, &request).await {
            Ok(_) => Ok(()),
            Err(e) => Err(self.failure_of(&e, Stage::Boot)),
        }
    }
}

/// Names and settings in place of the network's own.
fn add_names(request: &mut ConfigureRequest, setup: &ConfigureRequest) {
    for (to, from) in [
        (&mut request.hostname, &setup.hostname),
        (&mut request.resolv_conf, &setup.resolv_conf),
        (&mut request.hosts, &setup.hosts),
    ] {
        if !from.is_empty() {
            to.clone_from(from);
        }
    }
    request.sysctls.clone_from(&setup.sysctls);
    request.share_process_namespace = setup.share_process_namespace;
}

/// The initdata disk's content, and what the TEE binds.
fn bind(spec: &PodSpec) -> Result<(Vec<u8>, Vec<u8>), Failure> {
    // A disk that holds none: there is always one, so that the machine is the same with and without.
    let Some(initdata) = &spec.initdata else { return Ok((vec![0; 512], Vec::new())) };
    let digest = initdata.digest();
    let (initdata, bound) = match spec.adversary {
        Some(Adversary::ChangedPlan) => (changed_plan(initdata)?, digest),
        Some(Adversary::ReboundPlan) => {
            let changed = changed_plan(initdata)?;
            let rebound = changed.digest();
            (changed, rebound)
        }
        _ => (initdata.clone(), digest),
    };
    Ok((initdata.to_disk()?, bound))
}

/// The in-process device works everywhere, needs no privilege, and keeps each pod's ports its own. A TEE's private
/// memory is out of its reach, so there it is the kernel's vhost-vsock, whose host ports all pods share.
fn open_vsock(run_dir: &Path, platform: &TeePlatform) -> Result<(Vsock, VsockArg), Failure> {
    if !platform.shares_memory() {
        let cid = FIRST_CID.saturating_add(std::process::id());
        return Ok((Vsock::kernel(cid), VsockArg::Kernel(cid)));
    }
    let socket = run_dir.join("vsock.sock");
    Ok((Vsock::user(&socket)?, VsockArg::User(socket)))
}

fn sim_service(spec: &PodSpec, dir: &Path, initrd: PathBuf, bound: [u8; 32]) -> Result<SimService, Failure> {
    let processor = Arc::new(SecureProcessor::open_or_create(dir)?);
    let (sender, measurement) = watch::channel(None);
    let (firmware, kernel) = (spec.firmware.clone(), spec.kernel.clone());
    let (cmdline, cpus) = (spec.cmdline.clone(), spec.cpus);
    // Hashing runs while the VM boots; a request that comes first waits for it.
    tokio::task::spawn_blocking(move || match measure(&firmware, &kernel, &initrd, &cmdline, cpus) {
        Ok(digest) => drop(sender.send(Some(digest))),
        Err(e) => tracing::warn!(error = %e, "boot files could not be measured"),
    });
    Ok(SimService {
        report_id: processor.new_guest()?,
        processor,
        measurement,
        host_data: bound,
        dir: dir.to_owned(),
        replay: spec.adversary == Some(Adversary::ReplayedEvidence),
    })
}
