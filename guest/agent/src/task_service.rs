//! containerd's Task service (v3 messages), for the containers that the plan names. What a request carries of a
//! container's make-up (bundle, root file system, options, spec) is ignored: the plan decides.

use std::sync::Arc;

use async_trait::async_trait;
use cocoon_plan::ContainerPlan;
use cocoon_plan::decide::Phase;
use cocoon_sandbox_api::{parse_stdio_uri, to_ttrpc};
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
use tokio::io::AsyncWriteExt;
use ttrpc::r#async::TtrpcContext;

use crate::Error;
use crate::container::{Container, Resources, Streams, Writer};
use crate::pod::{Known, Pod};
use crate::vsock;

/// containerd's name of the figures that [`Container::metrics`] gives.
const METRICS_TYPE: &str = "io.containerd.cgroups.v2.Metrics";

/// The service.
pub(crate) struct TaskService(pub(crate) Arc<Pod>);

fn refuse(failure: Failure) -> ttrpc::Error {
    crate::console::report(&failure);
    to_ttrpc(&failure.for_host())
}

/// What containerd's clients expect to hear of what is not there (any more).
fn not_found(what: &str) -> ttrpc::Error {
    ttrpc::Error::RpcStatus(ttrpc::get_status(ttrpc::Code::NOT_FOUND, what.to_owned()))
}

fn not_planned(what: &str) -> ttrpc::Error {
    refuse(Failure::new(Code::PlanRequestRefused, format!("{what}: the plan allows none")).at(Stage::Serve))
}

impl TaskService {
    /// A request about a container's first process; there are no others.
    fn first(&self, name: &str, exec_id: &str) -> ttrpc::Result<()> {
        if exec_id.is_empty() { Ok(()) } else { Err(refuse(self.0.exec_refusal(name))) }
    }

    fn known(&self, name: &str, exec_id: &str) -> ttrpc::Result<Known> {
        self.first(name, exec_id)?;
        self.0.known(name).map_err(refuse)
    }

    fn container(&self, name: &str, exec_id: &str) -> ttrpc::Result<Arc<Container>> {
        self.known(name, exec_id)?.container.ok_or_else(|| not_found("no such container"))
    }
}

#[async_trait]
impl Task for TaskService {
    async fn create(&self, _: &TtrpcContext, req: CreateTaskRequest) -> ttrpc::Result<CreateTaskResponse> {
        let plan = self.0.known(&req.id).map_err(refuse)?.plan;
        let ports = Ports::of(&req, &plan).map_err(refuse)?;
        let pod = Arc::clone(&self.0);
        // On its own: a host that gives up waiting must not leave a container half built.
        let built = tokio::spawn(async move { pod.create(&plan.name, ports.connect(plan.logs)).await });
        let lost =
            |_| refuse(Failure::new(Code::Internal, "the creation ended without a result").at(Stage::Start));
        let container = built.await.map_err(lost)?.map_err(refuse)?;
        Ok(CreateTaskResponse { pid: container.pid(), ..CreateTaskResponse::default() })
    }

    async fn start(&self, _: &TtrpcContext, req: StartRequest) -> ttrpc::Result<StartResponse> {
        self.first(&req.id, &req.exec_id)?;
        let container = self.0.start(&req.id).await.map_err(refuse)?;
        Ok(StartResponse { pid: container.pid(), ..StartResponse::default() })
    }

    async fn wait(&self, _: &TtrpcContext, req: WaitRequest) -> ttrpc::Result<WaitResponse> {
        let exit = self.container(&req.id, &req.exec_id)?.wait().await;
        let exited_at = Some(exit.at.into()).into();
        Ok(WaitResponse { exit_status: exit.status, exited_at, ..WaitResponse::default() })
    }

    async fn kill(&self, _: &TtrpcContext, req: KillRequest) -> ttrpc::Result<Empty> {
        let known = self.known(&req.id, &req.exec_id)?;
        if matches!(known.phase, Phase::Ended(_) | Phase::Removed) {
            return Err(not_found("process already finished"));
        }
        self.0.signal(&req.id, req.signal).map_err(refuse)?;
        Ok(Empty::new())
    }

    async fn delete(&self, _: &TtrpcContext, req: DeleteRequest) -> ttrpc::Result<DeleteResponse> {
        let known = self.known(&req.id, &req.exec_id)?;
        if matches!(known.phase, Phase::Planned | Phase::Removed) {
            return Err(not_found("no such container"));
        }
        let Some(container) = self.0.remove(&req.id).await.map_err(refuse)? else {
            return Err(not_found("no such container"));
        };
        let mut response = DeleteResponse { pid: container.pid(), ..DeleteResponse::default() };
        if let Some(exit) = container.exited() {
            response.exit_status = exit.status;
            response.exited_at = Some(exit.at.into()).into();
        }
        Ok(response)
    }

    async fn state(&self, _: &TtrpcContext, req: StateRequest) -> ttrpc::Result<StateResponse> {
        let known = self.known(&req.id, &req.exec_id)?;
        let container = known.container.ok_or_else(|| not_found("no such container"))?;
        let status = match known.phase {
            Phase::Created => Status::CREATED,
            Phase::Running => Status::RUNNING,
            Phase::Ended(_) => Status::STOPPED,
            Phase::Planned | Phase::Removed => return Err(not_found("no such container")),
        };
        let mut response = StateResponse {
            id: req.id,
            pid: container.pid(),
            status: status.into(),
            terminal: known.plan.terminal,
            ..StateResponse::default()
        };
        if let Some(exit) = container.exited() {
            response.exit_status = exit.status;
            response.exited_at = Some(exit.at.into()).into();
        }
        Ok(response)
    }

    async fn pids(&self, _: &TtrpcContext, req: PidsRequest) -> ttrpc::Result<PidsResponse> {
        let pids = self.container(&req.id, "")?.pids();
        let processes = pids.into_iter().map(|pid| ProcessInfo { pid, ..ProcessInfo::default() }).collect();
        Ok(PidsResponse { processes, ..PidsResponse::default() })
    }

    async fn stats(&self, _: &TtrpcContext, req: StatsRequest) -> ttrpc::Result<StatsResponse> {
        let metrics = self.container(&req.id, "")?.metrics();
        let value = metrics.write_to_bytes().unwrap_or_default();
        let any = Any { type_url: METRICS_TYPE.into(), value, ..Any::default() };
        Ok(StatsResponse { stats: Some(any).into(), ..StatsResponse::default() })
    }

    async fn update(&self, _: &TtrpcContext, req: UpdateTaskRequest) -> ttrpc::Result<Empty> {
        let container = self.container(&req.id, "")?;
        let resources = Resources::parse(&req.resources.value).map_err(|e| refuse(e.into()))?;
        container.update(&resources).map_err(|e| refuse(e.into()))?;
        Ok(Empty::new())
    }

    async fn close_io(&self, _: &TtrpcContext, req: CloseIORequest) -> ttrpc::Result<Empty> {
        let container = self.container(&req.id, &req.exec_id)?;
        if req.stdin {
            container.close_stdin();
        }
        Ok(Empty::new())
    }

    async fn resize_pty(&self, _: &TtrpcContext, req: ResizePtyRequest) -> ttrpc::Result<Empty> {
        let container = self.container(&req.id, &req.exec_id)?;
        let cells = |n: u32| u16::try_from(n).unwrap_or(u16::MAX);
        container.resize(cells(req.width), cells(req.height)).map_err(|e| refuse(e.into()))?;
        Ok(Empty::new())
    }

    async fn connect(&self, _: &TtrpcContext, req: ConnectRequest) -> ttrpc::Result<ConnectResponse> {
        let task_pid = self.known(&req.id, "")?.container.map_or(0, |c| c.pid());
        let version = env!("CARGO_PKG_VERSION").into();
        Ok(ConnectResponse { shim_pid: std::process::id(), task_pid, version, ..ConnectResponse::default() })
    }

    async fn exec(&self, _: &TtrpcContext, req: ExecProcessRequest) -> ttrpc::Result<Empty> {
        Err(refuse(self.0.exec_refusal(&req.id)))
    }

    async fn pause(&self, _: &TtrpcContext, _: PauseRequest) -> ttrpc::Result<Empty> {
        Err(not_planned("pause"))
    }

    async fn resume(&self, _: &TtrpcContext, _: ResumeRequest) -> ttrpc::Result<Empty> {
        Err(not_planned("resume"))
    }

    async fn checkpoint(&self, _: &TtrpcContext, _: CheckpointTaskRequest) -> ttrpc::Result<Empty> {
        Err(not_planned("checkpoint"))
    }

    /// The end of a shim, which this is not: the VM ends by the Sandbox service's Shutdown.
    async fn shutdown(&self, _: &TtrpcContext, _: ShutdownRequest) -> ttrpc::Result<Empty> {
        Ok(Empty::new())
    }
}

/// The host's ports for a container's standard streams.
#[derive(Debug, PartialEq, Eq)]
struct Ports {
    stdin: Option<u32>,
    stdout: Option<u32>,
    stderr: Option<u32>,
}

impl Ports {
    /// Reads a request; terminal and standard input must be as the plan says.
    fn of(req: &CreateTaskRequest, plan: &ContainerPlan) -> Result<Self, Failure> {
        if req.terminal != plan.terminal {
            let refused = Error::Refused(format!("terminal={} where the plan says otherwise", req.terminal));
            return Err(refused.into());
        }
        let ports = Ports {
            stdin: parse_stdio_uri(&req.stdin)?,
            stdout: parse_stdio_uri(&req.stdout)?,
            // A terminal has one output.
            stderr: if plan.terminal { None } else { parse_stdio_uri(&req.stderr)? },
        };
        if ports.stdin.is_some() && !plan.stdin {
            return Err(Error::Refused("standard input, which the plan does not allow".into()).into());
        }
        Ok(ports)
    }

    /// Connects to the host. Where the plan keeps the logs from the host, its streams end at once and empty.
    async fn connect(self, logs: bool) -> Result<Streams, Failure> {
        let failed = |e: std::io::Error| Failure::from(Error::container("connect a standard stream")(e));
        let input = async {
            match self.stdin {
                None => Ok(None),
                Some(port) => vsock::connect(port).await.map(Some),
            }
        };
        let output = |port| async move {
            match port {
                None => Ok(None),
                Some(port) => output(port, logs).await,
            }
        };
        let (stdin, stdout, stderr) =
            tokio::try_join!(input, output(self.stdout), output(self.stderr)).map_err(failed)?;
        Ok(Streams { stdin: stdin.map(|s| Box::new(s) as _), stdout, stderr })
    }
}

async fn output(port: u32, logs: bool) -> std::io::Result<Option<Writer>> {
    let (mut reader, mut writer) = vsock::connect(port).await?.into_split();
    if !logs {
        writer.shutdown().await?;
    }
    // The socket stays until the host has taken everything and closes its side: closing it earlier could drop
    // what is still on its way.
    tokio::spawn(async move { tokio::io::copy(&mut reader, &mut tokio::io::sink()).await });
    Ok(logs.then(|| Box::new(writer) as Writer))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> ContainerPlan {
        serde_json::from_value(serde_json::json!({
            "name": "main", "image": {"reference": "x", "digest": "sha256:0"}, "args": ["x"], "cwd": "/",
            "no_new_privileges": true, "seccomp": "runtime-default", "logs": true, "restart": "never",
            "stop_signal": 15
        }))
        .unwrap()
    }

    #[test]
    fn streams_are_as_the_plan_says() {
        let request = |stdin: &str, stdout: &str, terminal| CreateTaskRequest {
            stdin: stdin.into(),
            stdout: stdout.into(),
            terminal,
            ..CreateTaskRequest::default()
        };
        let (port, mut plan) = ("vsock://2:5000", plan());
        let ports = Ports::of(&request("", port, false), &plan).unwrap();
        assert_eq!(ports, Ports { stdin: None, stdout: Some(5000), stderr: None });
        for bad in [request(port, "", false), request("", port, true), request("", "/a/fifo", false)] {
            assert_eq!(Ports::of(&bad, &plan).unwrap_err().code, Code::PlanRequestRefused);
        }
        plan.stdin = true;
        assert_eq!(Ports::of(&request(port, "", false), &plan).unwrap().stdin, Some(5000));
    }
}
