//! containerd's Task service (v3 messages), for the containers that the plan names. What a request carries of a
//! container's make-up (bundle, root file system, spec) is ignored: the plan decides.
//!
//! Refusals are FAILED_PRECONDITION with a code; NOT_FOUND and ALREADY_EXISTS are what containerd's own shims answer, and
//! what its clients know how to take.

mod ports;
mod requests;

use std::sync::Arc;

use async_trait::async_trait;
use cocoon_plan::ContainerPlan;
use cocoon_plan::decide::Phase;
use cocoon_sandbox_api::to_ttrpc;
use cocoon_stage::{Code, Failure, Stage};
use containerd_shim_protos::api::{
    CheckpointTaskRequest, CloseIORequest, ConnectRequest, ConnectResponse, CreateTaskRequest,
    CreateTaskResponse, DeleteRequest, DeleteResponse, Empty, ExecProcessRequest, KillRequest, PauseRequest,
    PidsRequest, PidsResponse, ProcessInfo, ResizePtyRequest, ResumeRequest, ShutdownRequest, StartRequest,
    StartResponse, StateRequest, StateResponse, StatsRequest, StatsResponse, Status, UpdateTaskRequest,
    WaitRequest, WaitResponse,
};
use containerd_shim_protos::shim_async::Task;
use protobuf::Message;
use protobuf::well_known_types::any::Any;
use ttrpc::r#async::TtrpcContext;

use crate::container::{Container, Exit, Process, Resources};
use crate::pod::{Exec, ExecKnown, Known, Pod};

pub(crate) use ports::Ports;

/// containerd's name of the figures that [`Container::metrics`] gives.
const METRICS_TYPE: &str = "io.containerd.cgroups.v2.Metrics";

/// The service.
pub(crate) struct TaskService(pub(crate) Arc<Pod>);

fn refuse(failure: Failure) -> ttrpc::Error {
    crate::console::report(&failure);
    to_ttrpc(&failure.for_host())
}

fn status(code: ttrpc::Code, what: &str) -> ttrpc::Error {
    ttrpc::Error::RpcStatus(ttrpc::get_status(code, what.to_owned()))
}

/// What containerd's clients expect to hear of what is not there (any more).
fn not_found(what: &str) -> ttrpc::Error {
    status(ttrpc::Code::NOT_FOUND, what)
}

fn not_planned(what: &str) -> ttrpc::Error {
    refuse(Failure::new(Code::PlanRequestRefused, format!("{what}: the plan allows none")).at(Stage::Serve))
}

fn phase_status(phase: Phase) -> Status {
    match phase {
        Phase::Created => Status::CREATED,
        Phase::Running => Status::RUNNING,
        Phase::Ended(_) => Status::STOPPED,
    }
}

/// Runs to its end whatever the host does: one that gives up waiting must not leave something half built.
async fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, Failure>> + Send + 'static,
) -> ttrpc::Result<T> {
    let lost = |_| refuse(Failure::new(Code::Internal, "the start ended without a result").at(Stage::Start));
    tokio::spawn(work).await.map_err(lost)?.map_err(refuse)
}

/// What a request is about: a container's own process, or one beside it.
enum Target {
    Own(Arc<Container>),
    Beside(Arc<Exec>),
}

impl Target {
    fn process(&self) -> Option<&Process> {
        match self {
            Target::Own(container) => Some(container.process()),
            Target::Beside(exec) => exec.process().map(|p| &**p),
        }
    }

    async fn wait(&self) -> Exit {
        match self {
            Target::Own(container) => container.wait().await,
            Target::Beside(exec) => exec.wait().await,
        }
    }
}

impl TaskService {
    fn known(&self, id: &str) -> ttrpc::Result<Known> {
        self.0.known(id).map_err(refuse)?.ok_or_else(|| not_found("no such container"))
    }

    fn container(&self, id: &str) -> ttrpc::Result<Arc<Container>> {
        self.known(id)?.container.ok_or_else(|| not_found("no such container"))
    }

    fn exec_known(&self, id: &str, exec_id: &str) -> ttrpc::Result<ExecKnown> {
        self.0.exec_known(id, exec_id).map_err(refuse)?.ok_or_else(|| not_found("no such process"))
    }

    fn target(&self, id: &str, exec_id: &str) -> ttrpc::Result<Target> {
        if exec_id.is_empty() {
            self.container(id).map(Target::Own)
        } else {
            self.exec_known(id, exec_id).map(|known| Target::Beside(known.exec))
        }
    }
}

#[async_trait]
impl Task for TaskService {
    async fn create(&self, _: &TtrpcContext, req: CreateTaskRequest) -> ttrpc::Result<CreateTaskResponse> {
        let options = requests::options(&req).map_err(refuse)?;
        let name = requests::name(&req, &options).to_owned();
        if self.0.known(&req.id).map_err(refuse)?.is_some() {
            return Err(status(ttrpc::Code::ALREADY_EXISTS, "the container exists"));
        }
        self.0.admit(&name, &options).map_err(refuse)?;
        let pod = Arc::clone(&self.0);
        let created = async move {
            let make = |plan: &ContainerPlan| {
                let ports = Ports::of(&req, plan)?;
                Ok((requests::host_part(&req.id, &options, plan)?, ports.connect()))
            };
            pod.create(&name, make).await
        };
        let container = to_the_end(created).await?;
        Ok(CreateTaskResponse { pid: container.process().pid(), ..CreateTaskResponse::default() })
    }

    async fn start(&self, _: &TtrpcContext, req: StartRequest) -> ttrpc::Result<StartResponse> {
        let pod = Arc::clone(&self.0);
        let pid = if req.exec_id.is_empty() {
            self.known(&req.id)?;
            to_the_end(async move { pod.start(&req.id).await }).await?.process().pid()
        } else {
            self.exec_known(&req.id, &req.exec_id)?;
            let started = async move { pod.exec_start(&req.id, &req.exec_id, Ports::connect).await };
            to_the_end(started).await?.pid()
        };
        Ok(StartResponse { pid, ..StartResponse::default() })
    }

    async fn wait(&self, _: &TtrpcContext, req: WaitRequest) -> ttrpc::Result<WaitResponse> {
        let exit = self.target(&req.id, &req.exec_id)?.wait().await;
        let exited_at = Some(exit.at.into()).into();
        Ok(WaitResponse { exit_status: exit.status, exited_at, ..WaitResponse::default() })
    }

    async fn kill(&self, _: &TtrpcContext, req: KillRequest) -> ttrpc::Result<Empty> {
        let phase = if req.exec_id.is_empty() {
            self.known(&req.id)?.phase
        } else {
            self.exec_known(&req.id, &req.exec_id)?.phase
        };
        if matches!(phase, Phase::Ended(_)) {
            return Err(not_found("process already finished"));
        }
        let done = if req.exec_id.is_empty() {
            self.0.signal(&req.id, req.signal, req.all)
        } else {
            self.0.exec_signal(&req.id, &req.exec_id, req.signal)
        };
        done.map_err(refuse)?;
        Ok(Empty::new())
    }

    async fn delete(&self, _: &TtrpcContext, req: DeleteRequest) -> ttrpc::Result<DeleteResponse> {
        let (pid, exit) = if req.exec_id.is_empty() {
            self.known(&req.id)?;
            let container = self.0.remove(&req.id).await.map_err(refuse)?;
            (container.process().pid(), container.exited())
        } else {
            self.exec_known(&req.id, &req.exec_id)?;
            let exec = self.0.exec_remove(&req.id, &req.exec_id).map_err(refuse)?;
            (exec.process().map_or(0, |p| p.pid()), exec.exited())
        };
        let mut response = DeleteResponse { pid, ..DeleteResponse::default() };
        if let Some(exit) = exit {
            response.exit_status = exit.status;
            response.exited_at = Some(exit.at.into()).into();
        }
        Ok(response)
    }

    async fn state(&self, _: &TtrpcContext, req: StateRequest) -> ttrpc::Result<StateResponse> {
        let (pid, status, terminal, exit) = if req.exec_id.is_empty() {
            let known = self.known(&req.id)?;
            let container = known.container.ok_or_else(|| not_found("no such container"))?;
            let held = known.phase == Phase::Running && container.is_held();
            let status = if held { Status::PAUSED } else { phase_status(known.phase) };
            (container.process().pid(), status, known.plan.terminal, container.exited())
        } else {
            let ExecKnown { exec, phase } = self.exec_known(&req.id, &req.exec_id)?;
            (exec.process().map_or(0, |p| p.pid()), phase_status(phase), exec.spec.terminal, exec.exited())
        };
        let mut response = StateResponse {
            id: req.id,
            exec_id: req.exec_id,
            pid,
            status: status.into(),
            terminal,
            ..StateResponse::default()
        };
        if let Some(exit) = exit {
            response.exit_status = exit.status;
            response.exited_at = Some(exit.at.into()).into();
        }
        Ok(response)
    }

    async fn pids(&self, _: &TtrpcContext, req: PidsRequest) -> ttrpc::Result<PidsResponse> {
        let pids = self.container(&req.id)?.pids();
        let processes = pids.into_iter().map(|pid| ProcessInfo { pid, ..ProcessInfo::default() }).collect();
        Ok(PidsResponse { processes, ..PidsResponse::default() })
    }

    async fn stats(&self, _: &TtrpcContext, req: StatsRequest) -> ttrpc::Result<StatsResponse> {
        let metrics = self.container(&req.id)?.metrics();
        let value = metrics.write_to_bytes().unwrap_or_default();
        let any = Any { type_url: METRICS_TYPE.into(), value, ..Any::default() };
        Ok(StatsResponse { stats: Some(any).into(), ..StatsResponse::default() })
    }

    async fn update(&self, _: &TtrpcContext, req: UpdateTaskRequest) -> ttrpc::Result<Empty> {
        let container = self.container(&req.id)?;
        let resources = Resources::parse(&req.resources.value).map_err(|e| refuse(e.into()))?;
        container.update(&resources).map_err(|e| refuse(e.into()))?;
        Ok(Empty::new())
    }

    async fn close_io(&self, _: &TtrpcContext, req: CloseIORequest) -> ttrpc::Result<Empty> {
        let target = self.target(&req.id, &req.exec_id)?;
        if let Some(process) = target.process().filter(|_| req.stdin) {
            process.close_stdin();
        }
        Ok(Empty::new())
    }

    async fn resize_pty(&self, _: &TtrpcContext, req: ResizePtyRequest) -> ttrpc::Result<Empty> {
        let target = self.target(&req.id, &req.exec_id)?;
        let process = target.process().ok_or_else(|| not_found("the process was not started"))?;
        let cells = |n: u32| u16::try_from(n).unwrap_or(u16::MAX);
        process.resize(cells(req.width), cells(req.height)).map_err(|e| refuse(e.into()))?;
        Ok(Empty::new())
    }

    async fn connect(&self, _: &TtrpcContext, req: ConnectRequest) -> ttrpc::Result<ConnectResponse> {
        let known = self.0.known(&req.id).map_err(refuse)?;
        let task_pid = known.and_then(|k| k.container).map_or(0, |c| c.process().pid());
        let version = env!("CARGO_PKG_VERSION").into();
        Ok(ConnectResponse { shim_pid: std::process::id(), task_pid, version, ..ConnectResponse::default() })
    }

    async fn exec(&self, _: &TtrpcContext, req: ExecProcessRequest) -> ttrpc::Result<Empty> {
        self.known(&req.id)?;
        if self.0.exec_known(&req.id, &req.exec_id).map_err(refuse)?.is_some() {
            return Err(status(ttrpc::Code::ALREADY_EXISTS, "the process exists"));
        }
        let make = |plan: &ContainerPlan| {
            let (spec, size) = requests::process(&req, plan)?;
            let ports = Ports::of_exec(&req, spec.terminal, plan)?;
            Ok(Exec::new(spec, ports, size))
        };
        self.0.exec(&req.id, &req.exec_id, make).map_err(refuse)?;
        Ok(Empty::new())
    }

    async fn pause(&self, _: &TtrpcContext, req: PauseRequest) -> ttrpc::Result<Empty> {
        self.known(&req.id)?;
        let pod = Arc::clone(&self.0);
        to_the_end(async move { pod.hold(&req.id, true).await }).await?;
        Ok(Empty::new())
    }

    async fn resume(&self, _: &TtrpcContext, req: ResumeRequest) -> ttrpc::Result<Empty> {
        self.known(&req.id)?;
        let pod = Arc::clone(&self.0);
        to_the_end(async move { pod.hold(&req.id, false).await }).await?;
        Ok(Empty::new())
    }

    async fn checkpoint(&self, _: &TtrpcContext, _: CheckpointTaskRequest) -> ttrpc::Result<Empty> {
        Err(not_planned("checkpoint"))
    }

    /// The end of a shim, which this is not: the VM ends by the Sandbox service's Shutdown.
    async fn shutdown(&self, _: &TtrpcContext, _: ShutdownRequest) -> ttrpc::Result<Empty> {
        Ok(Empty::new())
    }
}

#[cfg(test)]
#[path = "task_service_tests.rs"]
mod tests;
