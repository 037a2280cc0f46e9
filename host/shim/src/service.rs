//! containerd's Task service. The messages of its versions 2 and 3 are the same.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use cocoon_stage::Stage;
use containerd_shim_protos::api::{
    CheckpointTaskRequest, CloseIORequest, ConnectRequest, ConnectResponse, CreateTaskRequest,
    CreateTaskResponse, DeleteRequest, DeleteResponse, Empty, ExecProcessRequest, KillRequest, PauseRequest,
    PidsRequest, PidsResponse, ProcessInfo, ResizePtyRequest, ResumeRequest, ShutdownRequest, StartRequest,
    StartResponse, StateRequest, StateResponse, StatsRequest, StatsResponse, UpdateTaskRequest, WaitRequest,
    WaitResponse,
};
use containerd_shim_protos::events::task::{
    TaskCreate, TaskDelete, TaskExecAdded, TaskExecStarted, TaskIO, TaskPaused, TaskResumed, TaskStart,
};
use containerd_shim_protos::shim_async::Task;
use containerd_shim_protos::topics;
use protobuf::MessageField;
use ttrpc::r#async::TtrpcContext;
use ttrpc::context::{Context, with_duration};

use crate::process::{Exit, Phase, Process, Role};
use crate::shim::Shim;
use crate::stdio::{Paths, Streams};
use crate::{container, error, stats};

/// How long the guest may take to start, stop or remove something.
const LONG: Duration = Duration::from_secs(60);

/// The service.
pub struct TaskService(pub Arc<Shim>);

fn limit() -> Context {
    with_duration(LONG)
}

impl TaskService {
    fn process(&self, id: &str, exec_id: &str) -> ttrpc::Result<Arc<Process>> {
        // Whoever asks is there: what waits for containerd may go now.
        self.0.events.nudge();
        self.0.process(id, exec_id)
    }

    /// A process of the guest's that has not ended.
    fn living(&self, id: &str, exec_id: &str) -> ttrpc::Result<Arc<Process>> {
        let process = self.process(id, exec_id)?;
        match process.exit() {
            None => Ok(process),
            Some(_) => Err(finished()),
        }
    }

    /// Removes a process that does not run; gives how it ended.
    async fn remove(&self, process: &Arc<Process>, request: &DeleteRequest) -> ttrpc::Result<Exit> {
        let shim = &self.0;
        let running = matches!(*process.phase.borrow(), Phase::Running | Phase::Paused);
        if running {
            return Err(error::precondition("the process runs: it must end before it is deleted"));
        }
        if process.role != Role::Sandbox
            && let Ok(vm) = shim.vm()
        {
            let removed = vm.pod.task().delete(limit(), request).await;
            if let Err(e) = removed
                && !error::is_not_found(&e)
                && !vm.pod.has_ended()
            {
                return Err(error::of_guest(&vm.pod, &e, Stage::Serve));
            }
        }
        let exit = process.exit().unwrap_or_else(|| Exit::now(0));
        // What was never started has no end to be told of.
        process.phase.send_replace(Phase::Ended(exit.clone()));
        shim.forget(process);
        // A pod ends with its sandbox, and one without a sandbox with its only container.
        if process.role != Role::Further && process.id == shim.args.id {
            container::close(shim).await;
        }
        Ok(exit)
    }
}

async fn start_process(
    shim: &Arc<Shim>,
    process: &Arc<Process>,
    request: &StartRequest,
) -> ttrpc::Result<()> {
    // Until its start is told nobody tells of its end.
    let _order = process.order.lock().await;
    if *process.phase.borrow() != Phase::Created {
        return Err(error::precondition("the process is not waiting to be started"));
    }
    if process.role != Role::Sandbox {
        let vm = shim.vm()?;
        // Before it can end, and even where the guest's answer to its start is lost.
        if process.role == Role::Further {
            shim.watch(&vm, process);
        }
        let started = vm.pod.task().start(limit(), request).await;
        started.map_err(|e| error::of_guest(&vm.pod, &e, Stage::Start))?;
    }
    process.phase.send_replace(Phase::Running);
    if process.role == Role::Further {
        let event = TaskExecStarted {
            container_id: process.id.clone(),
            exec_id: process.exec_id.clone(),
            pid: process.pid,
            ..TaskExecStarted::default()
        };
        shim.events.publish(topics::TASK_EXEC_STARTED_EVENT_TOPIC, "TaskExecStarted", &event);
    } else {
        let event = TaskStart { container_id: process.id.clone(), pid: process.pid, ..TaskStart::default() };
        shim.events.publish(topics::TASK_START_EVENT_TOPIC, "TaskStart", &event);
    }
    Ok(())
}

/// What containerd takes for "gone already".
fn finished() -> ttrpc::Error {
    error::not_found("process already finished")
}

fn create_event(request: &CreateTaskRequest) -> TaskCreate {
    let io = TaskIO {
        stdin: request.stdin.clone(),
        stdout: request.stdout.clone(),
        stderr: request.stderr.clone(),
        terminal: request.terminal,
        ..TaskIO::default()
    };
    TaskCreate {
        container_id: request.id.clone(),
        bundle: request.bundle.clone(),
        rootfs: request.rootfs.clone(),
        io: MessageField::some(io),
        ..TaskCreate::default()
    }
}

#[async_trait]
impl Task for TaskService {
    async fn state(&self, _: &TtrpcContext, req: StateRequest) -> ttrpc::Result<StateResponse> {
        let process = self.process(&req.id, &req.exec_id)?;
        let mut response = StateResponse {
            id: req.id,
            exec_id: req.exec_id,
            bundle: process.bundle.clone(),
            pid: process.pid,
            status: process.status().into(),
            stdin: process.paths.stdin.clone(),
            stdout: process.paths.stdout.clone(),
            stderr: process.paths.stderr.clone(),
            terminal: process.paths.terminal,
            ..StateResponse::default()
        };
        if let Some(exit) = process.exit() {
            response.exit_status = exit.status;
            response.exited_at = MessageField::some(exit.at);
        }
        Ok(response)
    }

    async fn create(&self, _: &TtrpcContext, req: CreateTaskRequest) -> ttrpc::Result<CreateTaskResponse> {
        let shim = self.0.clone();
        let creation = shim.creating.begin(&req.id);
        let creation = Arc::new(creation.ok_or_else(|| error::exists("the container is being made"))?);
        let (done, made) = tokio::sync::oneshot::channel();
        // On its own: a containerd that gives up waiting must not leave a pod half made.
        tokio::spawn(async move {
            let event = create_event(&req);
            let created = container::create(&shim, &req, &creation).await;
            let process = created.as_ref().ok().cloned();
            let wanted = creation.is_wanted();
            let pid = match created {
                Ok(_) if !wanted => Err(error::not_found("it was deleted while it was made")),
                created => created.map(|process| process.pid),
            };
            let told = done.send(pid).is_ok() && wanted;
            match process {
                // Told before whoever asked can go on to its start.
                Some(process) if told => {
                    let event = TaskCreate { pid: process.pid, ..event };
                    shim.events.publish(topics::TASK_CREATE_EVENT_TOPIC, "TaskCreate", &event);
                }
                Some(process) => container::undo(&shim, &process).await,
                None => {}
            }
        });
        let lost = |_| error::precondition("the creation ended without a result");
        let pid = made.await.map_err(lost)??;
        Ok(CreateTaskResponse { pid, ..CreateTaskResponse::default() })
    }

    async fn start(&self, _: &TtrpcContext, req: StartRequest) -> ttrpc::Result<StartResponse> {
        let process = self.living(&req.id, &req.exec_id)?;
        let (shim, pid) = (self.0.clone(), process.pid);
        // On its own too: what the guest has started is told, whoever still listens.
        let started = tokio::spawn(async move { start_process(&shim, &process, &req).await });
        started.await.map_err(|_| error::precondition("the start ended without a result"))??;
        Ok(StartResponse { pid, ..StartResponse::default() })
    }

    async fn delete(&self, _: &TtrpcContext, req: DeleteRequest) -> ttrpc::Result<DeleteResponse> {
        let found = self.process(&req.id, &req.exec_id);
        if found.is_err() && req.exec_id.is_empty() && self.0.creating.give_up(&req.id) {
            tracing::info!(id = req.id, "deleted while it is made");
        }
        let process = found?;
        let exit = self.remove(&process, &req).await?;
        if process.role != Role::Further {
            let event = TaskDelete {
                container_id: process.id.clone(),
                pid: process.pid,
                exit_status: exit.status,
                exited_at: MessageField::some(exit.at.clone()),
                ..TaskDelete::default()
            };
            self.0.events.publish(topics::TASK_DELETE_EVENT_TOPIC, "TaskDelete", &event);
        }
        Ok(DeleteResponse {
            pid: process.pid,
            exit_status: exit.status,
            exited_at: MessageField::some(exit.at),
            ..DeleteResponse::default()
        })
    }

    async fn pids(&self, _: &TtrpcContext, req: PidsRequest) -> ttrpc::Result<PidsResponse> {
        // Of the processes in the guest none is one of this host's; the VM is.
        let pid = self.process(&req.id, "")?.pid;
        let processes = vec![ProcessInfo { pid, ..ProcessInfo::default() }];
        Ok(PidsResponse { processes, ..PidsResponse::default() })
    }

    async fn kill(&self, _: &TtrpcContext, req: KillRequest) -> ttrpc::Result<Empty> {
        let process = self.living(&req.id, &req.exec_id)?;
        // Without its VM it has ended, even where that is still to be told.
        let Ok(vm) = self.0.vm() else { return Err(finished()) };
        if process.role == Role::Sandbox {
            tokio::spawn(async move { vm.pod.shut_down().await });
            return Ok(Empty::new());
        }
        let killed = vm.pod.task().kill(limit(), &req).await;
        killed.map_err(|e| match vm.pod.has_ended() {
            true => finished(),
            false => error::of_guest(&vm.pod, &e, Stage::Serve),
        })
    }

    async fn exec(&self, _: &TtrpcContext, req: ExecProcessRequest) -> ttrpc::Result<Empty> {
        let first = self.living(&req.id, "")?;
        let vm = self.0.vm()?;
        if first.role == Role::Sandbox {
            return Err(error::not_found("the sandbox has no processes"));
        }
        if self.0.knows(&req.id, &req.exec_id) || !crate::args::is_identifier(&req.exec_id) {
            return Err(error::exists("the process exists, or its id is none"));
        }
        let paths = Paths {
            stdin: req.stdin.clone(),
            stdout: req.stdout.clone(),
            stderr: req.stderr.clone(),
            terminal: req.terminal,
        };
        let owner = (req.id.as_str(), self.0.args.namespace.as_str());
        let (uris, streams) = Streams::open(&vm.pod, &paths, owner).await.map_err(|f| error::coded(&f))?;
        let asked =
            ExecProcessRequest { stdin: uris.stdin, stdout: uris.stdout, stderr: uris.stderr, ..req.clone() };
        let added = vm.pod.task().exec(limit(), &asked).await;
        added.map_err(|e| error::of_guest(&vm.pod, &e, Stage::Serve))?;
        self.0.enter(Arc::new(Process {
            id: req.id.clone(),
            exec_id: req.exec_id.clone(),
            role: Role::Further,
            bundle: first.bundle.clone(),
            paths,
            pid: first.pid,
            termination_message: None,
            phase: tokio::sync::watch::Sender::new(Phase::Created),
            order: tokio::sync::Mutex::new(()),
            streams: tokio::sync::Mutex::new(streams),
        }))?;
        let event = TaskExecAdded { container_id: req.id, exec_id: req.exec_id, ..TaskExecAdded::default() };
        self.0.events.publish(topics::TASK_EXEC_ADDED_EVENT_TOPIC, "TaskExecAdded", &event);
        Ok(Empty::new())
    }

    async fn resize_pty(&self, _: &TtrpcContext, req: ResizePtyRequest) -> ttrpc::Result<Empty> {
        self.living(&req.id, &req.exec_id)?;
        let vm = self.0.vm()?;
        vm.pod.task().resize_pty(limit(), &req).await.map_err(|e| error::of_guest(&vm.pod, &e, Stage::Serve))
    }

    async fn close_io(&self, _: &TtrpcContext, req: CloseIORequest) -> ttrpc::Result<Empty> {
        let process = self.process(&req.id, &req.exec_id)?;
        if req.stdin {
            process.streams.lock().await.close_stdin();
        }
        Ok(Empty::new())
    }

    async fn update(&self, _: &TtrpcContext, req: UpdateTaskRequest) -> ttrpc::Result<Empty> {
        let process = self.living(&req.id, "")?;
        if process.role == Role::Sandbox {
            // The VM's size is fixed at its start.
            return Ok(Empty::new());
        }
        let vm = self.0.vm()?;
        vm.pod.task().update(limit(), &req).await.map_err(|e| error::of_guest(&vm.pod, &e, Stage::Serve))
    }

    async fn wait(&self, _: &TtrpcContext, req: WaitRequest) -> ttrpc::Result<WaitResponse> {
        let exit = self.process(&req.id, &req.exec_id)?.wait().await;
        Ok(WaitResponse {
            exit_status: exit.status,
            exited_at: MessageField::some(exit.at),
            ..WaitResponse::default()
        })
    }

    async fn stats(&self, _: &TtrpcContext, req: StatsRequest) -> ttrpc::Result<StatsResponse> {
        let process = self.process(&req.id, "")?;
        let vm = self.0.vm()?;
        if process.role != Role::Sandbox {
            let answer = vm.pod.task().stats(limit(), &req).await;
            return answer.map_err(|e| error::of_guest(&vm.pod, &e, Stage::Serve));
        }
        let figures = stats::pod(vm.cgroups.as_ref(), &[std::process::id(), vm.pod.vm_pid()]);
        Ok(StatsResponse { stats: MessageField::some(figures), ..StatsResponse::default() })
    }

    async fn connect(&self, _: &TtrpcContext, req: ConnectRequest) -> ttrpc::Result<ConnectResponse> {
        // containerd comes back after a restart: it may know of no container yet.
        let task_pid = self.process(&req.id, "").map_or(0, |process| process.pid);
        Ok(ConnectResponse {
            shim_pid: std::process::id(),
            task_pid,
            version: env!("CARGO_PKG_VERSION").into(),
            ..ConnectResponse::default()
        })
    }

    async fn pause(&self, _: &TtrpcContext, req: PauseRequest) -> ttrpc::Result<Empty> {
        let process = self.living(&req.id, "")?;
        let vm = self.0.vm()?;
        if process.role == Role::Sandbox {
            return Err(error::unimplemented("a pod cannot be paused, its containers can"));
        }
        let held = vm.pod.task().pause(limit(), &req).await;
        held.map_err(|e| error::of_guest(&vm.pod, &e, Stage::Serve))?;
        process.phase.send_if_modified(|phase| {
            let runs = *phase == Phase::Running;
            if runs {
                *phase = Phase::Paused;
            }
            runs
        });
        let event = TaskPaused { container_id: req.id, ..TaskPaused::default() };
        self.0.events.publish(topics::TASK_PAUSED_EVENT_TOPIC, "TaskPaused", &event);
        Ok(Empty::new())
    }

    async fn resume(&self, _: &TtrpcContext, req: ResumeRequest) -> ttrpc::Result<Empty> {
        let process = self.living(&req.id, "")?;
        let vm = self.0.vm()?;
        let resumed = vm.pod.task().resume(limit(), &req).await;
        resumed.map_err(|e| error::of_guest(&vm.pod, &e, Stage::Serve))?;
        process.phase.send_if_modified(|phase| {
            let held = *phase == Phase::Paused;
            if held {
                *phase = Phase::Running;
            }
            held
        });
        let event = TaskResumed { container_id: req.id, ..TaskResumed::default() };
        self.0.events.publish(topics::TASK_RESUMED_EVENT_TOPIC, "TaskResumed", &event);
        Ok(Empty::new())
    }

    async fn checkpoint(&self, _: &TtrpcContext, _: CheckpointTaskRequest) -> ttrpc::Result<Empty> {
        Err(error::unimplemented("a pod in a VM of its own has no checkpoints"))
    }

    async fn shutdown(&self, _: &TtrpcContext, req: ShutdownRequest) -> ttrpc::Result<Empty> {
        // containerd asks after each container: only the last one's is the shim's end.
        if req.now || self.0.is_empty() {
            self.0.done.send_replace(true);
        }
        Ok(Empty::new())
    }
}
