//! The shim's state: its pod and the processes that containerd knows of.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cocoon_sandbox_api::sandbox::TerminationMessageRequest;
use cocoon_stage::Failure;
use containerd_shim_protos::api::WaitRequest;
use containerd_shim_protos::events::task::{TaskExit, TaskOOM};
use containerd_shim_protos::topics::{TASK_EXIT_EVENT_TOPIC, TASK_OOM_EVENT_TOPIC};
use protobuf::MessageField;
use tokio::sync::watch;

use crate::args::Args;
use crate::creating::Creations;
use crate::error;
use crate::options::Source;
use crate::process::{Exit, KILLED, Phase, Process, Role};
use crate::publish::Publisher;
use crate::vm::PodVm;

/// How long a process's output may still flow after its end.
const DRAIN: Duration = Duration::from_secs(10);
/// How long the guest may take for small things.
const SHORT: Duration = Duration::from_secs(10);

/// Processes by container and exec id.
type Table = BTreeMap<(String, String), Arc<Process>>;

/// The shim.
pub struct Shim {
    /// The command line.
    pub args: Args,
    /// The pod's bundle.
    pub bundle: PathBuf,
    /// Where the class is configured, as `start` found it.
    pub source: Source,
    /// The way to containerd.
    pub events: Publisher,
    table: Mutex<Table>,
    vm: Mutex<Option<Arc<PodVm>>>,
    /// Containers that are being made.
    pub creating: Creations,
    /// Held while the pod is made.
    pub making: tokio::sync::Mutex<()>,
    /// Says that the shim is to end.
    pub done: watch::Sender<bool>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shim {
    /// A shim without a pod.
    pub fn new(args: Args, bundle: PathBuf, source: Source, events: Publisher) -> Shim {
        Shim {
            args,
            bundle,
            source,
            events,
            table: Mutex::default(),
            vm: Mutex::default(),
            creating: Creations::default(),
            making: tokio::sync::Mutex::new(()),
            done: watch::Sender::new(false),
        }
    }

    /// The pod.
    ///
    /// # Errors
    /// Where there is none, or it has ended.
    pub fn vm(&self) -> ttrpc::Result<Arc<PodVm>> {
        let vm = lock(&self.vm).clone().ok_or_else(|| error::precondition("the pod is not running"))?;
        if vm.pod.has_ended() {
            return Err(error::precondition("the pod's VM has ended"));
        }
        Ok(vm)
    }

    /// A process.
    ///
    /// # Errors
    /// "Not found".
    pub fn process(&self, id: &str, exec_id: &str) -> ttrpc::Result<Arc<Process>> {
        let found = lock(&self.table).get(&(id.to_owned(), exec_id.to_owned())).cloned();
        found.ok_or_else(|| error::not_found(&format!("process {id} {exec_id}").replace("  ", " ")))
    }

    /// Enters a process.
    ///
    /// # Errors
    /// "Already exists".
    pub fn enter(&self, process: Arc<Process>) -> ttrpc::Result<()> {
        let key = (process.id.clone(), process.exec_id.clone());
        match lock(&self.table).entry(key) {
            std::collections::btree_map::Entry::Occupied(_) => Err(error::exists("the process exists")),
            std::collections::btree_map::Entry::Vacant(place) => {
                place.insert(process);
                Ok(())
            }
        }
    }

    /// Whether there is such a process.
    pub fn knows(&self, id: &str, exec_id: &str) -> bool {
        lock(&self.table).contains_key(&(id.to_owned(), exec_id.to_owned()))
    }

    /// Takes a process out; with a container's first one all others of it.
    pub fn forget(&self, process: &Process) {
        lock(&self.table).retain(|(id, exec), _| {
            *id != process.id || !process.exec_id.is_empty() && *exec != process.exec_id
        });
    }

    /// Whether no process is known, nor made for somebody who wants it.
    pub fn is_empty(&self) -> bool {
        lock(&self.table).is_empty() && !self.creating.any_wanted()
    }

    fn processes(&self) -> Vec<Arc<Process>> {
        lock(&self.table).values().cloned().collect()
    }

    /// The pod runs from now on; its end and its lack of memory are watched for.
    pub fn attach(self: &Arc<Self>, vm: &Arc<PodVm>) {
        *lock(&self.vm) = Some(vm.clone());
        let (shim, vm) = (self.clone(), vm.clone());
        tokio::spawn(async move {
            let why = loop {
                tokio::select! {
                    why = vm.pod.ended() => break why,
                    Some(id) = vm.pod.out_of_memory() => shim.starved(&id),
                }
            };
            shim.vm_ended(&why).await;
        });
    }

    /// Lets go of the pod, whose VM has ended.
    pub fn detach(&self) -> Option<Arc<PodVm>> {
        lock(&self.vm).take()
    }

    fn starved(&self, id: &str) {
        // The guest may say anything; containerd hears of its own containers alone.
        if self.knows(id, "") {
            let event = TaskOOM { container_id: id.into(), ..TaskOOM::default() };
            self.events.publish(TASK_OOM_EVENT_TOPIC, "TaskOOM", &event);
        }
    }

    /// Everything in the pod has ended with its VM; the sandbox last.
    async fn vm_ended(&self, why: &Failure) {
        let mut processes = self.processes();
        if processes.iter().any(|p| p.exit().is_none()) {
            tracing::warn!(reason = %error::sentence(why), "the pod's VM has ended");
        }
        processes.sort_by_key(|p| p.role == Role::Sandbox);
        for process in processes {
            self.finish(&process, Exit::now(KILLED)).await;
        }
    }

    /// Waits for a process of the guest's to end.
    pub fn watch(self: &Arc<Self>, vm: &Arc<PodVm>, process: &Arc<Process>) {
        let (shim, vm, process) = (self.clone(), vm.clone(), process.clone());
        tokio::spawn(async move {
            let request = WaitRequest {
                id: process.id.clone(),
                exec_id: process.exec_id.clone(),
                ..WaitRequest::default()
            };
            let exit = match vm.pod.task().wait(ttrpc::context::with_timeout(0), &request).await {
                Ok(answer) => {
                    let at = answer.exited_at.into_option().unwrap_or_else(|| Exit::now(0).at);
                    Exit { status: answer.exit_status, at }
                }
                Err(error) => {
                    tracing::debug!(%error, id = %process.id, "the guest does not say how a process ended");
                    Exit::now(KILLED)
                }
            };
            shim.finish(&process, exit).await;
        });
    }

    /// A process has ended: its output is drained, its message fetched, and containerd told; once.
    pub async fn finish(&self, process: &Process, exit: Exit) {
        let _order = process.order.lock().await;
        if process.exit().is_some() {
            return;
        }
        process.streams.lock().await.drain(DRAIN).await;
        if process.role == Role::First {
            self.fetch_termination_message(process).await;
        }
        let event = TaskExit {
            container_id: process.id.clone(),
            id: process.event_id().to_owned(),
            pid: process.pid,
            exit_status: exit.status,
            exited_at: MessageField::some(exit.at.clone()),
            ..TaskExit::default()
        };
        process.phase.send_replace(Phase::Ended(exit));
        self.events.publish(TASK_EXIT_EVENT_TOPIC, "TaskExit", &event);
    }

    /// Into the host's file that is mounted where the container writes it.
    async fn fetch_termination_message(&self, process: &Process) {
        let Some(path) = &process.termination_message else { return };
        let Ok(vm) = self.vm() else { return };
        let request = TerminationMessageRequest { id: process.id.clone(), ..Default::default() };
        let limit = ttrpc::context::with_duration(SHORT);
        match vm.pod.sandbox().termination_message(limit, &request).await {
            Ok(answer) if answer.message.is_empty() => {}
            Ok(answer) => {
                let message = answer.message.get(..4096).unwrap_or(&answer.message);
                if let Err(error) = crate::host_file::replace(path, message) {
                    tracing::info!(file = %path.display(), %error, "a termination message is not kept");
                }
            }
            Err(error) => tracing::debug!(%error, "no termination message"),
        }
    }
}
