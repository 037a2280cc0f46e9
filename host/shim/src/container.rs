//! Creating: the pod's VM, and containers in it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cocoon_plan::pod::block_serial;
use cocoon_sandbox::Disk;
use cocoon_sandbox_api::CONTAINER_OPTIONS;
use cocoon_sandbox_api::sandbox::{ContainerOptions, Mount};
use cocoon_stage::{Code, Failure, Stage};
use containerd_shim_protos::api::{CreateTaskRequest, DeleteRequest};
use protobuf::Message;
use protobuf::well_known_types::any::Any;

use crate::creating::{self, Creation};
use crate::error;
use crate::mounts::{self, Arranged, BlockDevice};
use crate::options::Source;
use crate::process::{Exit, KILLED, Phase, Process, Role};
use crate::shim::Shim;
use crate::spec::{Bundle, Kind};
use crate::state::{self, Record};
use crate::stdio::{Paths, Streams};
use crate::vm::{self, PodVm};

/// Largest specification that is passed on, in bytes: a message has at most 4 MiB.
const MAX_PASSED: usize = 2 << 20;
/// How long the guest may take to take something back.
const UNDO: Duration = Duration::from_secs(30);

/// Makes what the request asks for.
///
/// # Errors
/// A coded failure; nothing of the container is left, nor of a pod that was made for it.
pub async fn create(
    shim: &Arc<Shim>,
    request: &CreateTaskRequest,
    creation: &Arc<Creation>,
) -> ttrpc::Result<Arc<Process>> {
    if shim.knows(&request.id, "") {
        return Err(error::exists("the container exists"));
    }
    let bundle = Bundle::read(Path::new(&request.bundle)).map_err(|f| error::coded(&f))?;
    let kind = bundle.spec.kind().map_err(|f| error::coded(&f))?;
    match kind {
        Kind::Sandbox => {
            let vm = boot(shim, &bundle, request).await?;
            let process = process(&vm, request, Role::Sandbox, Streams::default(), None);
            shim.enter(process.clone())?;
            shim.attach(&vm);
            Ok(process)
        }
        Kind::Single => {
            let vm = boot(shim, &bundle, request).await?;
            shim.attach(&vm);
            let made = member(shim, &vm, &bundle, request, creation).await;
            if made.is_err() {
                close(shim).await;
            }
            made
        }
        Kind::Member(sandbox) if sandbox == shim.args.id => {
            let vm = shim.vm()?;
            member(shim, &vm, &bundle, request, creation).await
        }
        Kind::Member(sandbox) => Err(error::precondition(&format!("pod {sandbox} is not this shim's"))),
    }
}

/// Boots the pod's VM, once.
async fn boot(shim: &Shim, bundle: &Bundle, request: &CreateTaskRequest) -> ttrpc::Result<Arc<PodVm>> {
    let _making = shim.making.lock().await;
    if shim.vm().is_ok() || request.id != shim.args.id {
        return Err(error::exists("this shim has a pod already"));
    }
    let booted = async {
        let options = request.options.as_ref().filter(|any| crate::options::is_options(any));
        let source = options.map_or_else(|| shim.source.clone(), |any| Source::find(Some(any)));
        let config = source.read()?;
        let folder = state::pod_folder(&shim.args.namespace, &shim.args.id);
        note(shim, bundle)?;
        vm::boot(bundle, config, &folder).await
    };
    booted.await.map(Arc::new).map_err(|failure| {
        tracing::warn!(reason = %error::sentence(&failure), "the pod cannot be booted");
        error::coded(&failure)
    })
}

/// What `delete` is to remove, now that control groups and network are known. Without it they would stay, so that there is
/// no pod then.
fn note(shim: &Shim, bundle: &Bundle) -> Result<(), Failure> {
    let Some(mut record) = Record::read(&shim.bundle) else { return Ok(()) };
    record.cgroups_path.clone_from(&bundle.spec.linux.cgroups_path);
    record.netns = bundle.spec.namespace("network").map(|n| n.path.clone()).unwrap_or_default();
    record.write(&shim.bundle).map_err(|error| {
        let code = match error.kind() {
            std::io::ErrorKind::StorageFull => Code::BootDiskFull,
            _ => Code::HostUnsupported,
        };
        Failure::new(code, format!("{}: {error}", shim.bundle.display())).at(Stage::Boot)
    })
}

/// Takes back what nobody waits for any more.
pub async fn undo(shim: &Shim, process: &Process) {
    tracing::info!(id = process.id, "containerd gave up waiting for a container: it is taken back");
    if let Ok(vm) = shim.vm()
        && process.role != Role::Sandbox
    {
        take_back(&vm, &process.id).await;
    }
    process.phase.send_replace(Phase::Ended(Exit::now(KILLED)));
    shim.forget(process);
    if process.id == shim.args.id {
        close(shim).await;
    }
}

/// Ends the pod's VM and what came with it.
pub async fn close(shim: &Shim) {
    let Some(vm) = shim.detach() else { return };
    vm.pod.shut_down().await;
}

fn process(
    vm: &PodVm,
    request: &CreateTaskRequest,
    role: Role,
    streams: Streams,
    termination_message: Option<std::path::PathBuf>,
) -> Arc<Process> {
    Arc::new(Process {
        id: request.id.clone(),
        exec_id: String::new(),
        role,
        bundle: request.bundle.clone(),
        paths: paths(request),
        pid: vm.pod.vm_pid(),
        termination_message,
        phase: tokio::sync::watch::Sender::new(Phase::Created),
        order: tokio::sync::Mutex::new(()),
        streams: tokio::sync::Mutex::new(streams),
    })
}

fn paths(request: &CreateTaskRequest) -> Paths {
    Paths {
        stdin: request.stdin.clone(),
        stdout: request.stdout.clone(),
        stderr: request.stderr.clone(),
        terminal: request.terminal,
    }
}

/// Makes a container in the guest.
async fn member(
    shim: &Arc<Shim>,
    vm: &Arc<PodVm>,
    bundle: &Bundle,
    request: &CreateTaskRequest,
    creation: &Arc<Creation>,
) -> ttrpc::Result<Arc<Process>> {
    let coded = |f: Failure| error::coded(&f);
    let name = name(vm, bundle).map_err(coded)?;
    let arranged = arrange(vm, bundle, &name).map_err(coded)?;
    vm.volumes.give(&vm.pod, &arranged.parts).await.map_err(coded)?;
    for device in &arranged.devices {
        plug(vm, device).await.map_err(coded)?;
    }
    let options = options(vm, bundle, name, arranged.mounts).map_err(coded)?;
    let owner = (request.id.as_str(), shim.args.namespace.as_str());
    let opened = Streams::open(&vm.pod, &wanted(vm, bundle, request), owner).await;
    let (uris, streams) = opened.map_err(coded)?;
    let value = options.write_to_bytes().unwrap_or_default();
    let any = Any { type_url: CONTAINER_OPTIONS.into(), value, ..Any::default() };
    let asked = CreateTaskRequest {
        id: request.id.clone(),
        terminal: request.terminal,
        stdin: uris.stdin,
        stdout: uris.stdout,
        stderr: uris.stderr,
        options: Some(any).into(),
        ..CreateTaskRequest::default()
    };
    let streams = ask(vm, asked, streams, creation).await?;
    let process = process(vm, request, Role::First, streams, arranged.termination_message);
    shim.enter(process.clone())?;
    shim.watch(vm, &process);
    Ok(process)
}

/// Has the guest make the container. A guest that takes too long does not stop making it: what it makes then is taken back
/// at once, and until then its id is not free.
async fn ask(
    vm: &Arc<PodVm>,
    asked: CreateTaskRequest,
    streams: Streams,
    creation: &Arc<Creation>,
) -> ttrpc::Result<Streams> {
    let seconds = vm.config.create_timeout_s;
    let id = asked.id.clone();
    let (to_make, to_undo, kept) = (vm.clone(), vm.clone(), creation.clone());
    let call = async move {
        // No limit of the protocol's: at one the guest would only stop telling.
        let made = to_make.pod.task().create(ttrpc::context::with_timeout(0), &asked).await;
        made.map(|_| streams)
    };
    let undo = move || async move {
        take_back(&to_undo, &id).await;
        drop(kept);
    };
    match creating::within(Duration::from_secs(seconds), call, undo).await {
        Some(made) => made.map_err(|e| error::of_guest(&vm.pod, &e, Stage::Start)),
        None => {
            creation.give_up();
            let why = format!("the guest has not made the container within {seconds} s; it is taken back");
            Err(error::coded(&Failure::new(Code::ServeFailed, why).at(Stage::Start)))
        }
    }
}

/// Removes a container that nobody wants from the guest.
async fn take_back(vm: &PodVm, id: &str) {
    let request = DeleteRequest { id: id.into(), ..DeleteRequest::default() };
    let deleted = vm.pod.task().delete(ttrpc::context::with_duration(UNDO), &request).await;
    if let Err(error) = deleted
        && !error::is_not_found(&error)
    {
        tracing::warn!(%error, id, "a container nobody wants stays in the guest");
    }
}

/// The streams to connect. `ctr` offers an input to every container; one whose plan has none goes without. A kubelet that
/// offers one means it, and hears the guest's refusal.
fn wanted(vm: &PodVm, bundle: &Bundle, request: &CreateTaskRequest) -> Paths {
    let mut paths = paths(request);
    let planned = vm.plan.as_ref().and_then(|plan| plan.containers.first());
    if bundle.spec.container_name().is_none() && planned.is_some_and(|c| !c.stdin && !c.terminal) {
        paths.stdin.clear();
    }
    paths
}

/// What the host's mounts are to the container of this name.
fn arrange(vm: &PodVm, bundle: &Bundle, name: &str) -> Result<Arranged, Failure> {
    let Some(plan) = &vm.plan else { return mounts::open(&bundle.spec) };
    match plan.named(name) {
        Some((_, container)) => mounts::planned(&bundle.spec, plan, container),
        // The guest says that it has no such container.
        None => Ok(Arranged::default()),
    }
}

/// Attaches a volume's disk.
async fn plug(vm: &PodVm, device: &BlockDevice) -> Result<(), Failure> {
    let disk = Disk {
        path: device.device.clone(),
        serial: block_serial(&device.volume),
        read_only: device.read_only,
    };
    vm.pod.plug(&disk).await
}

/// What the guest is told of the container.
fn options(
    vm: &PodVm,
    bundle: &Bundle,
    name: String,
    mounts: Vec<Mount>,
) -> Result<ContainerOptions, Failure> {
    let spec = &bundle.spec;
    if bundle.json.len() > MAX_PASSED {
        let why = format!("the container's specification has {} bytes", bundle.json.len());
        return Err(Failure::new(Code::HostUnsupported, why).at(Stage::Start));
    }
    let resources = spec.linux.resources.as_ref();
    Ok(ContainerOptions {
        name,
        mounts,
        resources: resources.map(|r| r.to_string().into_bytes()).unwrap_or_default(),
        env: spec.process.env.clone(),
        hosts: spec.mounted_text("/etc/hosts").unwrap_or_default(),
        image: spec.image_name().unwrap_or_default().to_owned(),
        // A plan that does not want it compared would have it ignored.
        spec: if vm.plan.as_ref().is_some_and(|p| !p.exact) { Vec::new() } else { bundle.json.clone() },
        ..ContainerOptions::default()
    })
}

/// The container's name in the plan: the annotation's, else that of the plan's only container.
fn name(vm: &PodVm, bundle: &Bundle) -> Result<String, Failure> {
    if let Some(name) = bundle.spec.container_name() {
        return Ok(name.to_owned());
    }
    match vm.plan.as_ref().map(|plan| plan.containers.as_slice()) {
        None => Ok("main".into()),
        Some([only]) => Ok(only.name.clone()),
        Some(_) => Err(crate::spec::refused(
            "the plan has several containers: name one by the annotation io.kubernetes.cri.container-name"
                .into(),
        )),
    }
}
