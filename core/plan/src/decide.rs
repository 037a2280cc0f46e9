//! The plan's state machine: what the untrusted host may ask for, and when.
//!
//! The host makes up an id for each *instance* of a container that it asks for, and for each further process in one; none
//! is taken twice (the last 4096 of each are remembered). An instance walks
//! `Created → Running → Ended` and is then removed; at any time at most one instance of a container is created or
//! running. When a container may be created, and whether it may be again, its kind and its restart rule say. Everything
//! else is refused with `PLAN-REQUEST-REFUSED`, whose reason speaks of the host's request alone.

mod execs;
mod open;
mod used;

use std::collections::BTreeMap;

use cocoon_stage::{Code, Failure, Stage};

use crate::pod::ContainerKind;
use crate::{ContainerPlan, Plan, Restart};

pub use execs::{ExecRequest, MAX_EXECS};

use execs::Execs;
use used::Used;

/// Longest id that the host may make up, in characters.
pub const MAX_ID: usize = 128;
/// How many names the host may ask for of one ephemeral container of the plan.
pub const MAX_EPHEMERAL: usize = 64;
/// How many instances may exist at a time, ended ones included.
const MAX_INSTANCES: usize = 1024;

/// Where an instance of a container stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Its root file system is being or has been built.
    Created,
    /// Its process runs.
    Running,
    /// Its process ended, with this exit status.
    Ended(u32),
}

impl Phase {
    /// Whether it has, or is about to have, a process.
    pub fn is_live(self) -> bool {
        matches!(self, Phase::Created | Phase::Running)
    }
}

/// What a container has been through, over all its instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Past {
    /// Its program was never started.
    Fresh,
    /// Its program was started and has not ended yet.
    Started,
    /// Its program ended, the last time with this exit status.
    Ended(u32),
}

#[derive(Debug)]
struct Instance {
    /// The name that was asked for; an ephemeral container's may add a suffix to the plan's.
    name: String,
    /// Which of the plan's containers it is.
    number: usize,
    phase: Phase,
    execs: Execs,
}

/// The containers of one plan and where each stands.
#[derive(Debug)]
pub struct Sandbox {
    plan: Plan,
    instances: BTreeMap<String, Instance>,
    /// By the names asked for.
    past: BTreeMap<String, Past>,
    used: Used,
    /// By instance and further process.
    used_execs: Used,
}

impl Sandbox {
    /// A sandbox in which no container has been asked for yet.
    pub fn new(plan: Plan) -> Self {
        let (used, used_execs) = Default::default();
        Sandbox { plan, instances: BTreeMap::new(), past: BTreeMap::new(), used, used_execs }
    }

    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Where the instance of this id stands; `None` for one that was never created or is removed.
    pub fn phase(&self, id: &str) -> Option<Phase> {
        self.instances.get(id).map(|i| i.phase)
    }

    /// The plan of the instance of this id.
    pub fn planned(&self, id: &str) -> Option<&ContainerPlan> {
        self.instances.get(id).and_then(|i| self.plan.containers.get(i.number))
    }

    /// The plan of the container of this name, which may be an ephemeral one's with a suffix.
    ///
    /// # Errors
    /// A coded refusal for a name that the plan lacks.
    pub fn named(&self, name: &str) -> Result<&ContainerPlan, Failure> {
        self.find(name).map(|(_, container)| container)
    }

    /// The host asks to create an instance `id` of the container `name`.
    ///
    /// # Errors
    /// A coded refusal for an id that is none, taken or used before, a name that the plan lacks, a second instance beside a live one, a
    /// step out of order, or a restart that the plan does not allow.
    pub fn create(&mut self, id: &str, name: &str) -> Result<&ContainerPlan, Failure> {
        check_id(id)?;
        if self.instances.contains_key(id) {
            return Err(refused(format!("create of {id:?}, which exists")));
        }
        if self.used.contains(id) {
            return Err(refused(format!("create of {id:?}, an id that was used before")));
        }
        if self.instances.len() >= MAX_INSTANCES {
            return Err(refused(format!("create of {id:?} beside {MAX_INSTANCES} others")));
        }
        let (number, container) = self.find(name)?;
        if self.instances.values().any(|i| i.name == name && i.phase.is_live()) {
            return Err(refused(format!("create of {name:?}, which is created or running already")));
        }
        if container.kind != ContainerKind::Ephemeral && !self.is_due(number) {
            return Err(refused(format!("create of {name:?} before the containers that must come first")));
        }
        if !self.may_run(name) {
            return Err(refused(format!("create of {name:?}, which may not run again")));
        }
        if container.kind == ContainerKind::Ephemeral && !self.past.contains_key(name) {
            let asked = |n: &&String| self.find(n).is_ok_and(|(other, _)| other == number);
            if self.past.keys().filter(asked).count() >= MAX_EPHEMERAL {
                return Err(refused(format!("create of {name:?} beside {MAX_EPHEMERAL} like it")));
            }
        }
        self.past.entry(name.to_owned()).or_insert(Past::Fresh);
        self.used.add(id);
        let instance =
            Instance { name: name.to_owned(), number, phase: Phase::Created, execs: Execs::default() };
        self.instances.insert(id.to_owned(), instance);
        self.plan.containers.get(number).ok_or_else(|| refused(format!("no container {name:?} in the plan")))
    }

    /// Building the instance failed before it could start: the container may be asked for again, by the same
    /// id too, which nothing but this creation ever knew.
    pub fn create_failed(&mut self, id: &str) {
        if self.phase(id) == Some(Phase::Created) {
            self.instances.remove(id);
            self.used.give_back(id);
        }
    }

    /// The host asks to start a created instance.
    ///
    /// # Errors
    /// A coded refusal where it is not created, or was started before.
    pub fn start(&mut self, id: &str) -> Result<(), Failure> {
        let instance = self.instances.get_mut(id).ok_or_else(|| unknown("start", id))?;
        if instance.phase != Phase::Created {
            return Err(refused(format!("start of {id:?}, which was started before")));
        }
        instance.phase = Phase::Running;
        self.past.insert(instance.name.clone(), Past::Started);
        Ok(())
    }

    /// The instance's process ended.
    pub fn ended(&mut self, id: &str, status: u32) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        if instance.phase == Phase::Running {
            self.past.insert(instance.name.clone(), Past::Ended(status));
        }
        if instance.phase.is_live() {
            instance.phase = Phase::Ended(status);
        }
    }

    /// The host asks to signal an instance: allowed while it is created or running.
    ///
    /// # Errors
    /// A coded refusal for an unknown or ended instance, or a number that is no signal.
    pub fn signal(&self, id: &str, signal: u32) -> Result<(), Failure> {
        check_signal(signal)?;
        match self.phase(id) {
            Some(Phase::Running | Phase::Created) => Ok(()),
            Some(Phase::Ended(_)) => Err(refused(format!("signal to {id:?}, which has ended"))),
            None => Err(unknown("signal", id)),
        }
    }

    /// The host asks to remove an instance: allowed when it does not run. One that was removed before it was started does
    /// not count as a run of its container.
    ///
    /// # Errors
    /// A coded refusal for an unknown or running instance.
    pub fn remove(&mut self, id: &str) -> Result<(), Failure> {
        match self.phase(id) {
            Some(Phase::Running) => Err(refused(format!("delete of {id:?}, which runs"))),
            Some(Phase::Created | Phase::Ended(_)) => {
                self.instances.remove(id);
                Ok(())
            }
            None => Err(unknown("delete", id)),
        }
    }

    /// Whether the container of this plan's name may still be run, under this or, for an ephemeral one, another name: its
    /// image is worth keeping.
    pub fn needs_image(&self, plan_name: &str) -> bool {
        let Some(container) = self.plan.container(plan_name) else { return false };
        match self.past.get(plan_name) {
            _ if container.kind == ContainerKind::Ephemeral => true,
            Some(Past::Started) => container.restart != Restart::Never,
            _ => self.may_run(plan_name),
        }
    }

    /// The plan's container of this name: [`Plan::named`].
    fn find(&self, name: &str) -> Result<(usize, &ContainerPlan), Failure> {
        self.plan.named(name).ok_or_else(|| refused(format!("no container {name:?} in the plan")))
    }

    /// Whether all containers that must come before this one of the plan are through, or on their way.
    fn is_due(&self, number: usize) -> bool {
        self.plan.containers.iter().take(number).all(|c| match c.kind {
            ContainerKind::Init => self.past.get(&c.name) == Some(&Past::Ended(0)),
            ContainerKind::Sidecar => {
                matches!(self.past.get(&c.name), Some(Past::Started | Past::Ended(_)))
            }
            ContainerKind::App | ContainerKind::Ephemeral => true,
        })
    }

    /// Whether the program of this name may be started (again), as far as its past goes.
    fn may_run(&self, name: &str) -> bool {
        let Ok((_, container)) = self.find(name) else { return false };
        match (self.past.get(name).copied().unwrap_or(Past::Fresh), container.kind) {
            (Past::Fresh, _) => true,
            (Past::Started, _) | (Past::Ended(_), ContainerKind::Ephemeral) => false,
            // What it prepared is in use by those after it: it never runs beside them.
            (Past::Ended(0), ContainerKind::Init) => false,
            (Past::Ended(status), _) => match container.restart {
                Restart::Never => false,
                Restart::OnFailure => status != 0,
                Restart::Always => true,
            },
        }
    }
}

/// Whether an id or a name that the host makes up may hold this byte.
pub(crate) fn is_id_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-')
}

/// An id that the host made up: 1 to [`MAX_ID`] of `A-Za-z0-9_.-`, and no name of a folder's own (`.`, `..`).
fn check_id(id: &str) -> Result<(), Failure> {
    let ok = (1..=MAX_ID).contains(&id.len()) && id.bytes().all(is_id_byte) && !matches!(id, "." | "..");
    if ok { Ok(()) } else { Err(refused("an id that is not 1 to 128 of A-Z a-z 0-9 _ . -".to_owned())) }
}

fn check_signal(signal: u32) -> Result<(), Failure> {
    if (1..=64).contains(&signal) { Ok(()) } else { Err(refused(format!("{signal} is not a signal"))) }
}

fn unknown(verb: &str, id: &str) -> Failure {
    refused(format!("{verb} of {id:?}, which was not created"))
}

fn refused(reason: String) -> Failure {
    Failure::new(Code::PlanRequestRefused, reason).at(Stage::Start)
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
