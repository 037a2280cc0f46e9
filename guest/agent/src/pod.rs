//! The pod: one plan, its containers, and how far the guest has come. Both services work on it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cocoon_plan::decide::{Phase, Sandbox};
use cocoon_plan::{ContainerPlan, PLAN_FILE, Plan};
use cocoon_protocol::initdata::InitData;
use cocoon_stage::{Code, Failure, Stage};
use tokio::sync::Notify;

use crate::Error;
use crate::container::{Container, Settings, Streams};
use crate::events::Events;
use crate::forward::Ports;
use crate::prepare::{Backend, Preparation, Progress};
use crate::volumes::Volumes;
use crate::{mounts, sysctls};

/// What finds Trustee and the registries: initdata, its plan and the address of the host's loopback in, backend out.
pub(crate) type Connect = Box<
    dyn Fn(InitData, Plan, Option<IpAddr>) -> futures::future::BoxFuture<'static, Result<Backend, Failure>>
        + Send
        + Sync,
>;

/// The pod.
pub(crate) struct Pod {
    settings: Settings,
    images: PathBuf,
    events: Events,
    connect: Connect,
    volumes: Arc<Volumes>,
    state: Mutex<State>,
    off: Notify,
}

enum State {
    /// There is no usable initdata: nothing ever runs here.
    Refused(Failure),
    /// Waiting for the host's configuration.
    Booted(Box<InitData>, Sandbox),
    /// Configured, and from then on.
    Running(Running),
}

struct Running {
    sandbox: Sandbox,
    hostname: String,
    preparation: Arc<Preparation>,
    containers: BTreeMap<String, Arc<Container>>,
}

/// A container that the host asks about.
pub(crate) struct Known {
    pub(crate) plan: ContainerPlan,
    pub(crate) phase: Phase,
    pub(crate) container: Option<Arc<Container>>,
}

impl Pod {
    /// A pod that runs the plan in this initdata; `INITDATA-…` and `PLAN-…` failures are kept and answered to
    /// every request.
    pub(crate) fn new(
        settings: Settings,
        images: PathBuf,
        events: Events,
        connect: Connect,
        initdata: Result<InitData, Failure>,
    ) -> Self {
        let mut volumes = Vec::new();
        let state = match initdata.and_then(|data| plan_of(&data).map(|plan| (data, plan))) {
            Ok((data, plan)) => {
                volumes.clone_from(&plan.volumes);
                State::Booted(Box::new(data), Sandbox::new(plan))
            }
            Err(failure) => State::Refused(failure.at(Stage::Boot)),
        };
        let volumes = Arc::new(Volumes::new(mounts::VOLUMES.into(), &volumes));
        Pod { settings, images, events, connect, volumes, state: Mutex::new(state), off: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why nothing can run here, where that is so.
    pub(crate) fn refusal(&self) -> Option<Failure> {
        match &*self.lock() {
            State::Refused(failure) => Some(failure.clone()),
            State::Booted(..) | State::Running(_) => None,
        }
    }

    /// The plan's volumes.
    ///
    /// # Errors
    /// Why nothing can run here.
    pub(crate) fn volumes(&self) -> Result<Arc<Volumes>, Failure> {
        self.refusal().map_or_else(|| Ok(Arc::clone(&self.volumes)), Err)
    }

    /// The state's name for the host, and the failure where it is `failed`.
    pub(crate) fn status(&self) -> (&'static str, Option<Failure>) {
        match &*self.lock() {
            State::Refused(failure) => ("failed", Some(failure.clone())),
            State::Booted(..) => ("booted", None),
            State::Running(running) => match running.preparation.progress() {
                Progress::Started => ("configured", None),
                Progress::Attested => ("attested", None),
                Progress::Ready => ("ready", None),
                Progress::Failed(failure) => ("failed", Some(failure)),
            },
        }
    }

    /// The network is up: attesting, fetching and pulling begin. Accepted once; `apply` runs only where it is.
    ///
    /// # Errors
    /// A refusal of a second configuration; what `apply` answers.
    pub(crate) fn configure(
        &self,
        hostname: String,
        host_loopback: Option<IpAddr>,
        apply: impl FnOnce() -> Result<(), Error>,
    ) -> Result<(), Failure> {
        let mut state = self.lock();
        let (data, plan) = match &*state {
            State::Refused(failure) => return Err(failure.clone()),
            State::Running(_) => return Err(refused("the guest is configured already")),
            State::Booted(data, sandbox) => ((**data).clone(), sandbox.plan().clone()),
        };
        // Half a configuration is as good as none: where this fails the pod can only be shut down.
        let applied = apply().map_err(Failure::from);
        if let Err(failure) = applied.and_then(|()| sysctls::apply(Path::new(sysctls::ROOT), &plan.sysctls)) {
            *state = State::Refused(failure.clone());
            return Err(failure);
        }
        let backend = (self.connect)(data, plan.clone(), host_loopback);
        let preparation = Arc::new(Preparation::start(&plan, backend, &self.images, self.events.clone()));
        let sandbox = Sandbox::new(plan);
        *state = State::Running(Running { sandbox, hostname, preparation, containers: BTreeMap::new() });
        Ok(())
    }

    /// Runs something on the configured pod.
    fn with<T>(&self, act: impl FnOnce(&mut Running) -> Result<T, Failure>) -> Result<T, Failure> {
        match &mut *self.lock() {
            State::Refused(failure) => Err(failure.clone()),
            State::Booted(..) => Err(refused("the guest is not configured yet")),
            State::Running(running) => act(running),
        }
    }

    /// The plan of a container, whatever its phase.
    ///
    /// # Errors
    /// A refusal of a name that the plan lacks.
    pub(crate) fn known(&self, name: &str) -> Result<Known, Failure> {
        self.with(|running| {
            running.note_exit(name);
            let plan = running.sandbox.plan().container(name).cloned();
            let plan = plan.ok_or_else(|| refused(format!("no container {name:?} in the plan")))?;
            let phase = running.sandbox.phase(name).unwrap_or(Phase::Planned);
            Ok(Known { plan, phase, container: running.containers.get(name).cloned() })
        })
    }

    /// Builds a container once its image and all secrets are there. `streams` connects its standard streams.
    ///
    /// # Errors
    /// A refusal, or the coded failure of whatever kept it from being built.
    pub(crate) async fn create(
        self: &Arc<Self>,
        name: &str,
        streams: impl Future<Output = Result<Streams, Failure>>,
    ) -> Result<Arc<Container>, Failure> {
        let (plan, hostname, preparation) = self.with(|running| {
            let plan = running.sandbox.create(name)?.clone();
            Ok((plan, running.hostname.clone(), Arc::clone(&running.preparation)))
        })?;
        match self.build(&plan, &hostname, &preparation, streams).await {
            Ok(container) => {
                let container = Arc::new(container);
                self.with(|running| {
                    running.containers.insert(name.to_owned(), Arc::clone(&container));
                    Ok(())
                })?;
                Ok(container)
            }
            Err(failure) => {
                self.with(|running| {
                    running.sandbox.create_failed(name);
                    Ok(())
                })?;
                Err(preparation.reported(failure).await)
            }
        }
    }

    async fn build(
        &self,
        plan: &ContainerPlan,
        hostname: &str,
        preparation: &Preparation,
        streams: impl Future<Output = Result<Streams, Failure>>,
    ) -> Result<Container, Failure> {
        let (rootfs, secrets) = preparation.container(&plan.name).await?;
        let mounts = self.volumes.prepare(plan, preparation.space()).await?;
        self.events.begin(Stage::Start, &plan.name);
        let built = async {
            let streams = streams.await?;
            Ok(Container::create(&self.settings, plan, &rootfs, hostname, &secrets, &mounts, streams).await?)
        };
        built.await.inspect_err(|failure: &Failure| self.events.fail(failure, &plan.name))
    }

    /// Starts a created container.
    ///
    /// # Errors
    /// A refusal; `START-…`.
    pub(crate) async fn start(self: &Arc<Self>, name: &str) -> Result<Arc<Container>, Failure> {
        let container = self.with(|running| {
            running.note_exit(name);
            // Looked for first: a start that comes too early must not move the plan's state machine.
            let container = running.containers.get(name).cloned();
            let container = container.ok_or_else(|| refused(format!("{name:?} is not created yet")))?;
            running.sandbox.start(name)?;
            Ok(container)
        })?;
        if let Err(e) = container.start().await {
            let failure = Failure::from(e);
            self.events.fail(&failure, name);
            let preparation = self.with(|running| Ok(Arc::clone(&running.preparation)))?;
            return Err(preparation.reported(failure).await);
        }
        self.events.end(Stage::Start, name);
        self.events.begin(Stage::Serve, name);
        let (pod, name, watched) = (Arc::clone(self), name.to_owned(), Arc::clone(&container));
        tokio::spawn(async move {
            watched.wait().await;
            let _ = pod.known(&name);
            pod.events.end(Stage::Serve, &name);
        });
        Ok(container)
    }

    /// Whether the plan lets this signal through now; the container to send it to.
    ///
    /// # Errors
    /// A refusal.
    pub(crate) fn signal(&self, name: &str, signal: u32) -> Result<(), Failure> {
        let container = self.with(|running| {
            running.note_exit(name);
            running.sandbox.signal(name, signal)?;
            running
                .containers
                .get(name)
                .cloned()
                .ok_or_else(|| refused(format!("{name:?} is not created yet")))
        })?;
        Ok(container.signal(signal)?)
    }

    /// Removes a container that does not run, with its files.
    ///
    /// # Errors
    /// A refusal.
    pub(crate) async fn remove(&self, name: &str) -> Result<Option<Arc<Container>>, Failure> {
        let container = self.with(|running| {
            running.note_exit(name);
            if running.sandbox.phase(name) == Some(Phase::Created) && !running.containers.contains_key(name) {
                return Err(refused(format!("{name:?} is being created")));
            }
            running.sandbox.remove(name)?;
            Ok(running.containers.remove(name))
        })?;
        if let Some(container) = &container {
            container.destroy().await;
        }
        self.volumes.release(name);
        let (preparation, name) =
            (self.with(|running| Ok(Arc::clone(&running.preparation)))?, name.to_owned());
        // Space goes back to the pod in the background; nobody waits for it.
        tokio::spawn(async move { preparation.remove(&name).await });
        Ok(container)
    }

    /// The plan's word on exec: none.
    pub(crate) fn exec_refusal(&self, name: &str) -> Failure {
        self.with(|running| running.sandbox.exec(name)).err().unwrap_or_else(|| refused("exec"))
    }

    /// Ends all containers and has the VM powered off.
    pub(crate) async fn shut_down(&self) {
        let containers: Vec<_> = match &mut *self.lock() {
            State::Running(running) => std::mem::take(&mut running.containers).into_values().collect(),
            State::Refused(_) | State::Booted(..) => Vec::new(),
        };
        for container in &containers {
            let _ = container.signal(libc::SIGKILL.unsigned_abs());
        }
        for container in containers {
            container.destroy().await;
        }
        self.off.notify_one();
    }

    /// Waits until [`Pod::shut_down`] is through.
    pub(crate) async fn off(&self) {
        self.off.notified().await;
    }
}

impl Running {
    /// Tells the plan's state machine of an exit that it has not heard of.
    fn note_exit(&mut self, name: &str) {
        let alive = matches!(self.sandbox.phase(name), Some(Phase::Created | Phase::Running));
        if let Some(exit) = self.containers.get(name).and_then(|c| c.exited()).filter(|_| alive) {
            self.sandbox.ended(name, exit.status);
        }
    }
}

impl Ports for Pod {
    fn allows(&self, port: u16) -> bool {
        self.with(|running| Ok(running.sandbox.plan().forward_ports.contains(&port))).unwrap_or(false)
    }
}

/// The plan in this initdata.
///
/// # Errors
/// `INITDATA-MALFORMED`, `PLAN-…`.
pub(crate) fn plan_of(data: &InitData) -> Result<Plan, Failure> {
    let text = data.file(PLAN_FILE);
    let text =
        text.ok_or_else(|| Failure::new(Code::InitdataMalformed, format!("initdata has no {PLAN_FILE}")))?;
    Ok(Plan::parse(text.as_bytes())?)
}

fn refused(reason: impl Into<String>) -> Failure {
    Failure::new(Code::PlanRequestRefused, reason).at(Stage::Start)
}

#[cfg(test)]
#[path = "pod_tests.rs"]
mod tests;
