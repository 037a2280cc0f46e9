//! The pod: one plan, its containers, and how far the guest has come. Both services work on it.

mod beginning;
mod execs;
mod instances;
mod sealed;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cocoon_plan::decide::{Phase, Sandbox};
use cocoon_plan::{ContainerPlan, Plan};
use cocoon_protocol::initdata::InitData;
use cocoon_sandbox_api::sandbox::ContainerOptions;
use cocoon_stage::{Code, Failure, Stage};
use tokio::sync::Notify;

use crate::Error;
use crate::container::{Container, Settings, Shared, SharedSettings};
use crate::events::Events;
use crate::forward::Ports;
use crate::open::HostSettings;
use crate::prepare::{Backend, Preparation, Progress};
use crate::volumes::Volumes;
use crate::{mounts, sysctls};
pub(crate) use beginning::{Beginning, plan_of};
pub(crate) use execs::{Exec, ExecKnown};

/// What finds Trustee and the registries: initdata (none where no Trustee is to be asked), the plan and the address of the host's loopback in, backend out.
pub(crate) type Connect = Box<
    dyn Fn(
            Option<InitData>,
            Plan,
            Option<IpAddr>,
        ) -> futures::future::BoxFuture<'static, Result<Backend, Failure>>
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
    /// Whether there is no plan and the host's word counts.
    open: bool,
    state: Mutex<State>,
    off: Notify,
}

enum State {
    /// There is no usable initdata: nothing ever runs here.
    Refused(Failure),
    /// Waiting for the host's configuration.
    Booted(Beginning),
    /// Configured, and from then on.
    Running(Box<Running>),
}

pub(crate) struct Running {
    pub(crate) sandbox: Sandbox,
    pub(crate) shared: Arc<Shared>,
    pub(crate) preparation: Arc<Preparation>,
    instances: BTreeMap<String, Instance>,
}

/// An instance of a container: what the host calls a container, by the id that it made up.
struct Instance {
    /// The container's name in the plan.
    name: String,
    /// Once they are built.
    built: Option<(Arc<Container>, PathBuf)>,
    execs: BTreeMap<String, Arc<Exec>>,
}

impl Instance {
    fn container(&self) -> Option<&Arc<Container>> {
        self.built.as_ref().map(|(container, _)| container)
    }
}

/// An instance that the host asks about.
pub(crate) struct Known {
    pub(crate) plan: ContainerPlan,
    pub(crate) phase: Phase,
    /// Once it is built.
    pub(crate) container: Option<Arc<Container>>,
}

impl Pod {
    /// A pod that runs the plan in this initdata; `INITDATA-…` and `PLAN-…` failures are kept and answered to
    /// every request. A `developer`'s guest without plan takes the host's word.
    pub(crate) fn new(
        settings: Settings,
        images: PathBuf,
        events: Events,
        connect: Connect,
        initdata: Result<InitData, Failure>,
        developer: bool,
    ) -> Self {
        let state = match Beginning::of(initdata, developer) {
            Ok(beginning) => State::Booted(beginning),
            Err(failure) => State::Refused(failure.at(Stage::Boot)),
        };
        let planned = match &state {
            State::Booted(Beginning::Planned(_, plan)) => plan.volumes.as_slice(),
            _ => &[],
        };
        Pod {
            volumes: Arc::new(Volumes::new(mounts::VOLUMES.into(), planned)),
            open: matches!(state, State::Booted(Beginning::Open(..))),
            settings,
            images,
            events,
            connect,
            state: Mutex::new(state),
            off: Notify::new(),
        }
    }

    /// Whether this guest has no plan and takes the host's word.
    pub(crate) fn is_open(&self) -> bool {
        self.open
    }

    /// Holds what the host says of a container against the plan, where the plan wants that.
    ///
    /// # Errors
    /// A refusal that names what differs.
    pub(crate) fn compare(&self, name: &str, options: &ContainerOptions) -> Result<(), Failure> {
        let State::Running(running) = &*self.lock() else { return Ok(()) };
        let plan = running.sandbox.plan();
        if !plan.exact {
            return Ok(());
        }
        let container = running.sandbox.named(name)?;
        cocoon_plan::asked::check(plan, container, &options.image, &options.spec)
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

    /// The pod's volumes.
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

    /// The network is up: attesting, fetching and pulling begin. Accepted once; `apply` runs only where it is. Of `host`
    /// nothing counts where there is a plan.
    ///
    /// # Errors
    /// A refusal of a second configuration; what `apply` answers.
    pub(crate) fn configure(
        &self,
        hostname: String,
        host_loopback: Option<IpAddr>,
        host: HostSettings,
        apply: impl FnOnce() -> Result<(), Error>,
    ) -> Result<(), Failure> {
        let mut state = self.lock();
        let (data, plan) = match &*state {
            State::Refused(failure) => return Err(failure.clone()),
            State::Running(_) => return Err(refused("the guest is configured already")),
            State::Booted(Beginning::Planned(data, plan)) => (Some((**data).clone()), (**plan).clone()),
            State::Booted(Beginning::Open(images, data)) => {
                let mut plan = Plan::open(host.sysctls, host.share_process_namespace)?;
                plan.images = (**images).clone();
                (data.as_deref().cloned(), plan)
            }
        };
        // Half a configuration is as good as none: where this fails the pod can only be shut down.
        let (of_ipc, others) = sysctls::by_namespace(plan.sysctls.clone());
        if let Err(e) = apply().and_then(|()| sysctls::apply(Path::new(sysctls::ROOT), &others)) {
            let failure = Failure::from(e);
            *state = State::Refused(failure.clone());
            return Err(failure);
        }
        let backend = (self.connect)(data, plan.clone(), host_loopback);
        let preparation = Arc::new(Preparation::start(&plan, backend, &self.images, self.events.clone()));
        let events = self.events.clone();
        let shared = Shared::new(SharedSettings {
            hostname,
            pids: plan.share_process_namespace,
            sysctls: of_ipc,
            oom: Arc::new(move |id: &str| events.out_of_memory(id)),
        });
        *state = State::Running(Box::new(Running {
            sandbox: Sandbox::new(plan),
            shared: Arc::new(shared),
            preparation,
            instances: BTreeMap::new(),
        }));
        Ok(())
    }

    /// Runs something on the configured pod.
    pub(crate) fn with<T>(&self, act: impl FnOnce(&mut Running) -> Result<T, Failure>) -> Result<T, Failure> {
        match &mut *self.lock() {
            State::Refused(failure) => Err(failure.clone()),
            State::Booted(..) => Err(refused("the guest is not configured yet")),
            State::Running(running) => {
                running.note_exits();
                act(running)
            }
        }
    }

    /// The instance of this id; `None` where there is none.
    ///
    /// # Errors
    /// A refusal where nothing runs here.
    pub(crate) fn known(&self, id: &str) -> Result<Option<Known>, Failure> {
        self.with(|running| {
            let found = running.sandbox.phase(id).zip(running.sandbox.planned(id).cloned());
            let container = running.instances.get(id).and_then(Instance::container).cloned();
            Ok(found.map(|(phase, plan)| Known { plan, phase, container }))
        })
    }

    /// The plan of the container of this name.
    ///
    /// # Errors
    /// A refusal of a name that the plan lacks.
    #[cfg(test)]
    pub(crate) fn named(&self, name: &str) -> Result<ContainerPlan, Failure> {
        self.with(|running| running.sandbox.named(name).cloned())
    }

    /// Ends all containers and has the VM powered off.
    pub(crate) async fn shut_down(&self) {
        let instances = match &mut *self.lock() {
            State::Running(running) => std::mem::take(&mut running.instances),
            State::Refused(_) | State::Booted(..) => BTreeMap::new(),
        };
        let containers: Vec<_> = instances.into_values().filter_map(|i| i.built).collect();
        for (container, _) in &containers {
            let _ = container.signal_all(libc::SIGKILL.unsigned_abs());
        }
        for (container, _) in containers {
            container.destroy().await;
        }
        self.volumes.close().await;
        self.off.notify_one();
    }

    /// Waits until [`Pod::shut_down`] is through.
    pub(crate) async fn off(&self) {
        self.off.notified().await;
    }
}

impl Running {
    /// Tells the plan's state machine of exits that it has not heard of.
    fn note_exits(&mut self) {
        for (id, instance) in &self.instances {
            if let Some(exit) = instance.container().and_then(|c| c.exited()) {
                self.sandbox.ended(id, exit.status);
            }
            for (exec_id, exec) in &instance.execs {
                if let Some(exit) = exec.exited() {
                    self.sandbox.exec_ended(id, exec_id, exit.status);
                }
            }
        }
    }

    /// The instance's container, once it is built, and its name in the plan.
    fn built(&self, id: &str) -> Result<(Arc<Container>, String), Failure> {
        let instance = self.instances.get(id);
        let found = instance.and_then(|i| Some((Arc::clone(i.container()?), i.name.clone())));
        found.ok_or_else(|| refused(format!("{id:?} is not created yet")))
    }
}

impl Ports for Pod {
    fn allows(&self, port: u16) -> bool {
        let planned = self.with(|running| Ok(running.sandbox.plan().forward_ports.contains(&port)));
        planned.is_ok_and(|planned| planned || self.open)
    }

    fn proves(&self) -> bool {
        !self.open && self.refusal().is_none()
    }
}

fn refused(reason: impl Into<String>) -> Failure {
    Failure::new(Code::PlanRequestRefused, reason).at(Stage::Start)
}

#[cfg(test)]
#[path = "pod_tests.rs"]
mod tests;
