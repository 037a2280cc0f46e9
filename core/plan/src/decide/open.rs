//! Containers that a guest without plan takes from its host.

use cocoon_stage::Failure;

use super::{Sandbox, refused};
use crate::ContainerPlan;

/// Most containers of different names.
const MAX_CONTAINERS: usize = 1024;

impl Sandbox {
    /// Adds a container, in place of one of the same name that has no process. Never called where there is a plan.
    ///
    /// # Errors
    /// A coded refusal beside a live instance of that name, or of too many.
    pub fn add(&mut self, container: ContainerPlan) -> Result<(), Failure> {
        let name = &container.name;
        if self.instances.values().any(|i| i.name == *name && i.phase.is_live()) {
            return Err(refused(format!("create of {name:?}, which is created or running already")));
        }
        let count = self.plan.containers.len();
        match self.plan.containers.iter_mut().find(|c| c.name == *name) {
            Some(old) => *old = container,
            None if count >= MAX_CONTAINERS => {
                return Err(refused(format!("create of {name:?} beside {MAX_CONTAINERS} others")));
            }
            None => self.plan.containers.push(container),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::types::tests::sample;
    use crate::{Plan, Restart};

    #[test]
    fn containers_come_from_the_host_one_instance_at_a_time() {
        let mut sandbox = Sandbox::new(Plan::open(BTreeMap::new(), false).unwrap());
        assert!(sandbox.create("id", "main").is_err(), "none yet");
        let mut container = sample().containers.remove(0);
        container.restart = Restart::Always;
        sandbox.add(container.clone()).unwrap();
        sandbox.create("id", "main").unwrap();
        assert!(sandbox.add(container.clone()).is_err(), "it has an instance");
        sandbox.start("id").unwrap();
        sandbox.ended("id", 1);
        sandbox.remove("id").unwrap();
        container.args = vec!["/bin/other".into()];
        sandbox.add(container.clone()).unwrap();
        assert_eq!(sandbox.create("id2", "main").unwrap().args, ["/bin/other"]);
        for i in 0..MAX_CONTAINERS {
            container.name = format!("c{i}");
            let added = sandbox.add(container.clone());
            assert_eq!(added.is_ok(), i + 1 < MAX_CONTAINERS, "{i}");
        }
    }
}
