//! From files to a pod VM that has announced itself and knows its network.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cocoon_protocol::initdata::InitData;
use cocoon_sandbox_api::sandbox::{ConfigureRequest, Interface, Route, ShutdownRequest, StatusRequest};
use cocoon_sandbox_api::sandbox_ttrpc::SandboxClient;
use cocoon_sandbox_api::{EVENTS_PORT, GUEST_PORT, SECURE_PROCESSOR_PORT, from_ttrpc};
use cocoon_sim::SecureProcessor;
use cocoon_stage::{Code, Failure, HostFailure, Mark, Stage, StageEvent};
use cocoon_vmm::{
    Accel, Console, Disk, Machine, NetArg, Platform, QuoteGeneration, RealmHash, SnpIdentity, Vm, VmSpec,
    VsockArg, host_field,
};
use cocoon_vsock::Vsock;
use containerd_shim_protos::shim_async::TaskClient;
use tokio::sync::{mpsc, watch};
use ttrpc::asynchronous::Client;
use ttrpc::asynchronous::transport::Socket;

use crate::adversary::{Adversary, changed_initrd, changed_plan};
use crate::events::{Observed, read_events};
use crate::run_dir::{RunDir, disk};
use crate::scratch::Scratch;
use crate::sim::{SimService, measure};
use crate::tpm::PodTpm;

/// Context ids below this are the hypervisor's and the host's; each pod adds its process id.
const FIRST_CID: u32 = 3;

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
    /// The workload's initdata.
    pub initdata: InitData,
    /// The TEE.
    pub platform: TeePlatform,
    /// Hardware virtualization or emulation.
    pub accel: Accel,
    /// Virtual CPUs.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Layers and other disks that the guest finds by their serial numbers.
    pub disks: Vec<Disk>,
    /// Size in bytes of a scratch disk, serial number `scratch`, in whole pages.
    pub scratch_bytes: Option<u64>,
    /// Where the scratch disk's space comes from: any folder on a disk. Default: `run_dir`, which often is memory.
    pub scratch_dir: Option<PathBuf>,
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
    vm: Vm,
    pub(crate) vsock: Vsock,
    pub(crate) task: TaskClient,
    sandbox: SandboxClient,
    failure: watch::Receiver<Option<HostFailure>>,
    _scratch: Option<Scratch>,
    _tpm: Option<PodTpm>,
    // Removes the folder when the pod is gone.
    _run_dir: RunDir,
}

impl std::fmt::Debug for Pod {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pod").field("vm", &self.vm.pid()).finish_non_exhaustive()
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
        let digest = spec.initdata.digest();
        let (initdata, bound) = match spec.adversary {
            Some(Adversary::ChangedPlan) => (changed_plan(&spec.initdata)?, digest),
            Some(Adversary::ReboundPlan) => {
                let changed = changed_plan(&spec.initdata)?;
                let rebound = changed.digest();
                (changed, rebound)
            }
            _ => (spec.initdata.clone(), digest),
        };
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
        std::fs::write(&initdata_disk, initdata.to_disk()?).map_err(disk)?;

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
            vsock: vsock_arg,
            network: NetArg::User,
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
        tokio::spawn(read_events(stream, began, observer, failure_tx));

        let stream = vsock.connect(GUEST_PORT).await?;
        let client = Client::new(Socket::new(stream));
        let pod = Pod {
            vm,
            vsock,
            task: TaskClient::new(client.clone()),
            sandbox: SandboxClient::new(client),
            failure,
            _scratch: scratch,
            _tpm: tpm,
            _run_dir: run_dir,
        };
        pod.configure().await?;
        Ok(pod)
    }

    /// User networking's fixed addresses (QEMU documentation, "Using the user mode network stack").
    async fn configure(&self) -> Result<(), Failure> {
        let request = ConfigureRequest {
            interfaces: vec![Interface {
                name: "eth0".into(),
                addresses: vec!["10.0.2.15/24".into()],
                ..Interface::default()
            }],
            routes: vec![Route { gateway: "10.0.2.2".into(), device: "eth0".into(), ..Route::default() }],
            resolv_conf: "nameserver 10.0.2.3\n".into(),
            hosts: "127.0.0.1 localhost\n::1 localhost\n".into(),
            hostname: "cocoon".into(),
            host_loopback: "10.0.2.2".into(),
            ..ConfigureRequest::default()
        };
        let limit = ttrpc::context::with_duration(Duration::from_secs(60));
        match self.sandbox.configure(limit, &request).await {
            Ok(_) => Ok(()),
            Err(e) => Err(self.failure_of(&e, Stage::Boot)),
        }
    }

    /// The guest daemon's resident memory now and at its highest, in bytes.
    ///
    /// # Errors
    /// `SERVE-FAILED` where the guest does not answer.
    pub async fn guest_memory(&self) -> Result<(u64, u64), Failure> {
        let limit = ttrpc::context::with_duration(Duration::from_secs(10));
        let status = self.sandbox.status(limit, &StatusRequest::default()).await;
        let status = status.map_err(|e| self.failure_of(&e, Stage::Serve))?;
        Ok((status.rss_bytes, status.peak_rss_bytes))
    }

    /// QEMU's process id.
    pub fn vm_pid(&self) -> u32 {
        self.vm.pid()
    }

    /// Waits until the VM has ended. Cancel-safe.
    pub async fn vm_ended(&mut self) -> Failure {
        let _ = self.vm.wait().await;
        let failure = self.failure.borrow().as_ref().map(from_guest);
        failure.unwrap_or_else(|| self.vm.ended_error().into())
    }

    /// Stops the pod: asks the guest, then makes sure.
    pub async fn stop(mut self) {
        let limit = ttrpc::context::with_duration(Duration::from_secs(2));
        let asked = self.sandbox.shutdown(limit, &ShutdownRequest::default()).await;
        if asked.is_ok() && tokio::time::timeout(Duration::from_secs(2), self.vm.wait()).await.is_ok() {
            return;
        }
        self.vm.kill().await;
    }

    /// Stops the pod at once.
    pub async fn kill(mut self) {
        self.vm.kill().await;
    }

    /// The failure behind a ttrpc error: the guest's coded one, or the first that it announced, or the error itself.
    pub(crate) fn failure_of(&self, error: &ttrpc::Error, stage: Stage) -> Failure {
        if let Some(failure) = from_ttrpc(error) {
            return from_guest(&failure);
        }
        if let Some(failure) = self.failure.borrow().as_ref() {
            return from_guest(failure);
        }
        Failure::new(Code::ServeFailed, format!("the guest's answer: {error}")).at(stage)
    }
}

/// What the host may say of a guest's failure: its code's own summary.
fn from_guest(failure: &HostFailure) -> Failure {
    Failure {
        stage: failure.stage,
        code: failure.code,
        reason: match &failure.reason {
            // The guest's own words: bounded, and without what a terminal would act on.
            Some(said) => said.chars().filter(|c| !c.is_control()).take(200).collect(),
            None => failure.code.summary().to_owned(),
        },
        request_id: failure.request_id.clone().filter(|id| {
            // It goes into a URL and onto the owner's screen.
            id.len() <= 64 && id.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
        }),
    }
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
        processor,
        measurement,
        host_data: bound,
        dir: dir.to_owned(),
        replay: spec.adversary == Some(Adversary::ReplayedEvidence),
    })
}
