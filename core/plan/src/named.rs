//! Which of a plan's containers a name stands for.

use crate::decide::{MAX_ID, is_id_byte};
use crate::pod::ContainerKind;
use crate::{ContainerPlan, Plan};

impl Plan {
    /// The container that a name asked for stands for, with its number in [`Plan::containers`]: the one called so, else the
    /// ephemeral one to whose name `-` and a suffix were added. Of several such the one with the longest name: it says the
    /// most.
    pub fn named(&self, name: &str) -> Option<(usize, &ContainerPlan)> {
        let numbered = || self.containers.iter().enumerate();
        let own = numbered().find(|(_, c)| c.name == name);
        own.or_else(|| numbered().filter(|(_, c)| c.stands_for(name)).max_by_key(|(_, c)| c.name.len()))
    }
}

impl ContainerPlan {
    /// Whether it is an ephemeral container and this its name with a suffix: at most [`MAX_ID`] of `A-Za-z0-9_.-`.
    fn stands_for(&self, name: &str) -> bool {
        self.kind == ContainerKind::Ephemeral
            && name.len() <= MAX_ID
            && name.strip_prefix(&self.name).is_some_and(|rest| rest.len() > 1 && rest.starts_with('-'))
            && name.bytes().all(is_id_byte)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(names: &[(&str, &str)]) -> Plan {
        let container = |(name, kind): &(&str, &str)| {
            serde_json::json!({
                "name": name, "kind": kind, "image": {"reference": "x", "digest": "sha256:0"}, "args": ["x"],
                "cwd": "/", "no_new_privileges": true, "seccomp": "runtime-default", "logs": true,
                "restart": "never", "stop_signal": 15,
            })
        };
        let containers: Vec<_> = names.iter().map(container).collect();
        let plan = serde_json::json!({
            "version": 1, "name": "p", "instance": "00", "containers": containers,
        });
        serde_json::from_value(plan).unwrap()
    }

    #[test]
    fn a_name_is_its_own_containers_or_an_ephemeral_ones_with_a_suffix() {
        let plan =
            plan(&[("app", "app"), ("debug", "ephemeral"), ("debug-x", "ephemeral"), ("debug-y", "app")]);
        let number = |name: &str| plan.named(name).map(|(number, _)| number);
        assert_eq!(number("app"), Some(0));
        assert_eq!((number("debug"), number("debug-1"), number("debug-y")), (Some(1), Some(1), Some(3)));
        assert_eq!((number("debug-x"), number("debug-x-1")), (Some(2), Some(2)));
        let long = format!("debug-{}", "a".repeat(MAX_ID));
        for no in ["", "app-1", "debug-", "debugx", "debug-a/b", "debug-a\0", "xdebug-1", &long] {
            assert_eq!(number(no), None, "{no:?}");
        }
    }
}
