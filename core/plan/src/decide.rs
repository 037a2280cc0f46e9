//! The plan's state machine: what the untrusted host may ask for, and when.
//!
//! Each container walks `Planned → Created → Running → Ended`. The host can ask for the next step of a
//! container that the plan names; everything else is refused with `PLAN-REQUEST-REFUSED`.

use std::collections::BTreeMap;

use cocoon_stage::{Code, Failure, Stage};

use crate::{ContainerPlan, Plan};

/// Where a container stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Named by the plan, not yet asked for.
    Planned,
    /// Its root file system is being or has been built.
    Created,
    /// Its process runs.
    Running,
    /// Its process ended, with this exit status.
    Ended(u32),
    /// Its remains were removed; it cannot come back.
    Removed,
}

/// The containers of one plan and where each stands.
#[derive(Debug)]
pub struct Sandbox {
    plan: Plan,
    phases: BTreeMap<String, Phase>,
}

impl Sandbox {
    /// A sandbox in which no container has been asked for yet.
    pub fn new(plan: Plan) -> Self {
        let phases = plan.containers.iter().map(|c| (c.name.clone(), Phase::Planned)).collect();
        Sandbox { plan, phases }
    }

    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Where the container of this name stands.
    pub fn phase(&self, name: &str) -> Option<Phase> {
        self.phases.get(name).copied()
    }

    /// The host asks to create a container: allowed once, in the plan's order.
    ///
    /// # Errors
    /// A coded refusal for a name that the plan lacks, a second creation, or a step out of order.
    pub fn create(&mut self, name: &str) -> Result<&ContainerPlan, Failure> {
        self.step(name, "create", |p| (p == Phase::Planned).then_some(Phase::Created))?;
        let earlier_missing = self
            .plan
            .containers
            .iter()
            .take_while(|c| c.name != name)
            .any(|c| self.phases.get(&c.name) == Some(&Phase::Planned));
        if earlier_missing {
            self.phases.insert(name.to_owned(), Phase::Planned);
            return Err(refused(format!(
                "create of {name:?} before the containers that the plan puts first"
            )));
        }
        self.plan.container(name).ok_or_else(|| refused(format!("no container {name:?} in the plan")))
    }

    /// Building the container failed before it could start: it may be asked for again.
    pub fn create_failed(&mut self, name: &str) {
        if let Some(phase @ Phase::Created) = self.phases.get_mut(name) {
            *phase = Phase::Planned;
        }
    }

    /// The host asks to start a created container.
    ///
    /// # Errors
    /// A coded refusal where it is not created, or was started before.
    pub fn start(&mut self, name: &str) -> Result<(), Failure> {
        self.step(name, "start", |p| (p == Phase::Created).then_some(Phase::Running))
    }

    /// The container's process ended.
    pub fn ended(&mut self, name: &str, status: u32) {
        if let Some(phase) = self.phases.get_mut(name) {
            *phase = Phase::Ended(status);
        }
    }

    /// The host asks to signal a container: allowed while it is created or running.
    ///
    /// # Errors
    /// A coded refusal for an unknown or ended container, or a number that is no signal.
    pub fn signal(&self, name: &str, signal: u32) -> Result<(), Failure> {
        if !(1..=64).contains(&signal) {
            return Err(refused(format!("{signal} is not a signal")));
        }
        match self.phases.get(name) {
            Some(Phase::Running | Phase::Created) => Ok(()),
            Some(_) => Err(refused(format!("signal to {name:?}, which does not run"))),
            None => Err(refused(format!("no container {name:?} in the plan"))),
        }
    }

    /// The host asks to remove a container: allowed when it does not run.
    ///
    /// # Errors
    /// A coded refusal for an unknown, never created or running container.
    pub fn remove(&mut self, name: &str) -> Result<(), Failure> {
        self.step(name, "delete", |p| match p {
            Phase::Ended(_) | Phase::Created => Some(Phase::Removed),
            _ => None,
        })
    }

    /// The host asks to run a further process in a container. The plan's first version has no exec rules.
    ///
    /// # Errors
    /// Always a coded refusal.
    pub fn exec(&self, name: &str) -> Result<(), Failure> {
        Err(refused(format!("exec in {name:?}: the plan allows none")))
    }

    fn step(&mut self, name: &str, verb: &str, next: impl Fn(Phase) -> Option<Phase>) -> Result<(), Failure> {
        let Some(phase) = self.phases.get_mut(name) else {
            return Err(refused(format!("no container {name:?} in the plan")));
        };
        match next(*phase) {
            Some(to) => {
                *phase = to;
                Ok(())
            }
            None => Err(refused(format!("{verb} of {name:?} while it is {phase:?}"))),
        }
    }
}

fn refused(reason: String) -> Failure {
    Failure::new(Code::PlanRequestRefused, reason).at(Stage::Start)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::tests::sample;

    fn two() -> Sandbox {
        let mut plan = sample();
        let mut second = plan.containers[0].clone();
        second.name = "second".into();
        plan.containers.push(second);
        Sandbox::new(plan)
    }

    #[test]
    fn the_life_of_a_container() {
        let mut s = two();
        assert_eq!(s.create("main").unwrap().args, ["/bin/true"]);
        s.start("main").unwrap();
        s.signal("main", 15).unwrap();
        s.ended("main", 3);
        assert_eq!(s.phase("main"), Some(Phase::Ended(3)));
        s.remove("main").unwrap();
        assert!(s.create("main").is_err(), "a removed container cannot come back");
    }

    #[test]
    fn everything_else_is_refused_with_the_code() {
        let mut s = two();
        let refusals = [
            s.create("evil").map(|_| ()).unwrap_err(),
            s.create("second").map(|_| ()).unwrap_err(),
            s.start("main").unwrap_err(),
            s.remove("main").unwrap_err(),
            s.signal("main", 9).unwrap_err(),
            s.exec("main").unwrap_err(),
        ];
        assert!(refusals.iter().all(|f| f.code == Code::PlanRequestRefused));
        s.create("main").unwrap();
        assert!(s.create("main").is_err(), "twice");
        s.start("main").unwrap();
        assert!(s.start("main").is_err(), "twice");
        assert!(s.remove("main").is_err(), "running");
        assert!(s.signal("main", 0).is_err());
        assert!(s.signal("main", 65).is_err());
    }

    #[test]
    fn a_failed_creation_may_be_tried_again() {
        let mut s = two();
        s.create("main").unwrap();
        s.create_failed("main");
        s.create("main").unwrap();
    }
}
