//! The further processes of the pod's containers.

use std::sync::Arc;

use cocoon_plan::ContainerPlan;
use cocoon_plan::decide::{ExecRequest, Phase};
use cocoon_stage::Failure;
use tokio::sync::{OnceCell, watch};

use super::{Pod, refused};
use crate::container::{ExecSpec, Exit, Process, Streams};
use crate::task_service::Ports;

/// A further process, from the host's asking for it to its removal.
pub(crate) struct Exec {
    pub(crate) spec: ExecSpec,
    pub(crate) ports: Ports,
    /// The terminal's size to begin with: width and height in characters.
    pub(crate) size: Option<(u16, u16)>,
    process: OnceCell<Arc<Process>>,
    exit: watch::Sender<Option<Exit>>,
}

impl Exec {
    pub(crate) fn new(spec: ExecSpec, ports: Ports, size: Option<(u16, u16)>) -> Self {
        Exec { spec, ports, size, process: OnceCell::new(), exit: watch::channel(None).0 }
    }

    /// Its process, once it was started.
    pub(crate) fn process(&self) -> Option<&Arc<Process>> {
        self.process.get()
    }

    /// How it ended, once it has.
    pub(crate) fn exited(&self) -> Option<Exit> {
        *self.exit.borrow()
    }

    /// Waits until it ended, or cannot be any more.
    pub(crate) async fn wait(&self) -> Exit {
        let mut exit = self.exit.subscribe();
        exit.wait_for(Option::is_some).await.ok().and_then(|e| *e).unwrap_or(Exit::UNSEEN)
    }

    /// It is no more: whoever waits for it hears of an end.
    pub(super) fn gone(&self) {
        self.end(Exit::now(Exit::UNSEEN.status));
    }

    fn end(&self, exit: Exit) {
        self.exit.send_if_modified(|e| {
            let first = e.is_none();
            if first {
                *e = Some(exit);
            }
            first
        });
    }
}

/// A further process that the host asks about.
pub(crate) struct ExecKnown {
    pub(crate) exec: Arc<Exec>,
    pub(crate) phase: Phase,
}

impl Pod {
    /// The further process of this id; `None` where there is none.
    ///
    /// # Errors
    /// A refusal where nothing runs here.
    pub(crate) fn exec_known(&self, id: &str, exec_id: &str) -> Result<Option<ExecKnown>, Failure> {
        self.with(|running| {
            let exec = running.instances.get(id).and_then(|i| i.execs.get(exec_id)).cloned();
            let phase = running.sandbox.exec_phase(id, exec_id);
            Ok(exec.zip(phase).map(|(exec, phase)| ExecKnown { exec, phase }))
        })
    }

    /// Takes a further process on, where the plan allows it; it does not start yet. `make` makes it by the plan of the very
    /// instance in which it is to run: nothing may change between the one and the other.
    ///
    /// # Errors
    /// A refusal; what `make` answers.
    pub(crate) fn exec(
        &self,
        id: &str,
        exec_id: &str,
        make: impl FnOnce(&ContainerPlan) -> Result<Exec, Failure>,
    ) -> Result<(), Failure> {
        self.with(|running| {
            running.built(id)?;
            let plan = running.sandbox.planned(id);
            let exec = make(plan.ok_or_else(|| refused(format!("exec in {id:?}, which was not created")))?)?;
            let request = ExecRequest {
                args: &exec.spec.args,
                terminal: exec.spec.terminal,
                stdin: exec.ports.has_stdin(),
            };
            running.sandbox.exec(id, exec_id, &request)?;
            if let Some(instance) = running.instances.get_mut(id) {
                instance.execs.insert(exec_id.to_owned(), Arc::new(exec));
            }
            Ok(())
        })
    }

    /// Starts a further process. `connect` connects its standard streams, by the ports that were checked for it.
    ///
    /// # Errors
    /// A refusal; `START-…`.
    pub(crate) async fn exec_start<F: Future<Output = Result<Streams, Failure>>>(
        self: &Arc<Self>,
        id: &str,
        exec_id: &str,
        connect: impl FnOnce(Ports) -> F,
    ) -> Result<Arc<Process>, Failure> {
        let (container, exec) = self.with(|running| {
            let (container, _) = running.built(id)?;
            // It would stand still before it could say that it runs.
            if container.is_held() {
                return Err(refused(format!("exec in {id:?}, which is paused")));
            }
            let exec = running.instances.get(id).and_then(|i| i.execs.get(exec_id)).cloned();
            running.sandbox.exec_start(id, exec_id)?;
            Ok((container, exec.ok_or_else(|| refused(format!("{exec_id:?} is not there")))?))
        })?;
        let started = async {
            let streams = connect(exec.ports).await?;
            let process = container.exec(&self.settings, &exec.spec, streams).await?;
            if let Some((width, height)) = exec.size {
                process.resize(width, height)?;
            }
            let _ = exec.process.set(Arc::clone(&process));
            let watched = (Arc::clone(&process), Arc::clone(&exec));
            tokio::spawn(async move { watched.1.end(watched.0.wait().await) });
            process.start().await?;
            Ok::<_, Failure>(process)
        };
        let started = started.await;
        if started.is_err() && exec.process.get().is_none() {
            exec.gone();
        }
        started
    }

    /// Sends a signal to a further process.
    ///
    /// # Errors
    /// A refusal.
    pub(crate) fn exec_signal(&self, id: &str, exec_id: &str, signal: u32) -> Result<(), Failure> {
        let exec = self.with(|running| {
            running.sandbox.exec_signal(id, exec_id, signal)?;
            Ok(running.instances.get(id).and_then(|i| i.execs.get(exec_id)).cloned())
        })?;
        let process = exec.as_ref().and_then(|e| e.process());
        let process = process.ok_or_else(|| refused(format!("{exec_id:?} is not started yet")))?;
        Ok(process.signal(signal)?)
    }

    /// Removes a further process that does not run.
    ///
    /// # Errors
    /// A refusal.
    pub(crate) fn exec_remove(&self, id: &str, exec_id: &str) -> Result<Arc<Exec>, Failure> {
        let exec = self.with(|running| {
            running.sandbox.exec_remove(id, exec_id)?;
            Ok(running.instances.get_mut(id).and_then(|i| i.execs.remove(exec_id)))
        })?;
        let exec = exec.ok_or_else(|| refused(format!("{exec_id:?} is not there")))?;
        exec.gone();
        Ok(exec)
    }
}
