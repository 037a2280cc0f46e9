//! Variables that the plan leaves to the host.

use std::collections::BTreeMap;

use cocoon_stage::{Code, Failure, Stage};

use crate::ContainerPlan;

/// How many variables the host may offer: service discovery in a large namespace is seven for each of its services.
const MAX_VARIABLES: usize = 16_384;
/// Longest offer, in bytes: with the plan's own environment it must fit the kernel's limit for a program's.
const MAX_BYTES: usize = 1 << 20;

/// Those of the host's `NAME=value` that the plan lets it set; of two of one name the last. What the plan itself sets, what
/// it does not name and what is no variable is left out.
///
/// # Errors
/// A coded refusal of an offer that is too large.
pub fn allowed(plan: &ContainerPlan, offered: &[String]) -> Result<Vec<String>, Failure> {
    let bytes = offered.iter().fold(0_usize, |sum, e| sum.saturating_add(e.len()));
    if offered.len() > MAX_VARIABLES || bytes > MAX_BYTES {
        let reason = format!("{} variables of {bytes} bytes", offered.len());
        return Err(Failure::new(Code::PlanRequestRefused, reason).at(Stage::Start));
    }
    let own = |name: &str| plan.env.iter().any(|e| e.split('=').next() == Some(name));
    let mut taken = BTreeMap::new();
    for entry in offered {
        let Some((name, value)) = entry.split_once('=') else { continue };
        let named = is_named(plan, name);
        if named && !name.is_empty() && !own(name) && !entry.contains('\0') {
            taken.insert(name, value);
        }
    }
    Ok(taken.into_iter().map(|(name, value)| format!("{name}={value}")).collect())
}

/// Whether the plan leaves a variable of this name to the host.
pub fn is_named(plan: &ContainerPlan, name: &str) -> bool {
    plan.host_env.iter().any(|pattern| matches(pattern, name))
}

/// Whether it is the name of a variable of service discovery, which kubelet adds to every container
/// (`k8s.io/kubernetes/pkg/kubelet/envvars`).
pub fn is_service(name: &str) -> bool {
    if name.starts_with("KUBERNETES_PORT") || name.starts_with("KUBERNETES_SERVICE_") {
        return true;
    }
    let plain = |c: u8| c.is_ascii_uppercase() || c.is_ascii_digit() || c == b'_';
    if !name.bytes().all(plain) {
        return false;
    }
    let port = name.rsplit_once("_PORT").is_some_and(|(service, rest)| {
        let rest = ["_PROTO", "_PORT", "_ADDR"].iter().find_map(|e| rest.strip_suffix(e)).unwrap_or(rest);
        let numbered = ["_TCP", "_UDP", "_SCTP"]
            .iter()
            .find_map(|e| rest.strip_suffix(e))
            .and_then(|n| n.strip_prefix('_'))
            .is_some_and(|n| !n.is_empty() && n.bytes().all(|c| c.is_ascii_digit()));
        !service.is_empty() && (rest.is_empty() || numbered)
    });
    // `X_PORT_80_TCP_PORT`: the last `_PORT` is not the one that counts.
    port || name.contains("_SERVICE_PORT")
        || name.ends_with("_SERVICE_HOST")
        || name.strip_suffix("_PORT").is_some_and(is_service)
}

/// Whether a name is meant by a pattern: itself, or anything in place of one `*` at the beginning or the end.
fn matches(pattern: &str, name: &str) -> bool {
    match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (Some(end), _) => !end.is_empty() && name.ends_with(end),
        (None, Some(start)) => !start.is_empty() && name.starts_with(start),
        (None, None) => pattern == name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::tests::sample;

    #[test]
    fn the_host_sets_what_the_plan_leaves_to_it_and_nothing_else() {
        let mut plan = sample().containers[0].clone();
        plan.env = vec!["A=b".into(), "KUBERNETES_OWN=mine".into()];
        plan.host_env = vec!["KUBERNETES_*".into(), "*_PORT".into(), "NODE".into(), "A".into()];
        let offered = [
            "KUBERNETES_SERVICE=x",
            "KUBERNETES_OWN=theirs",
            "DB_PORT=1=2",
            "NODE=n1",
            "NODE=n2",
            "NODES=z",
            "A=evil",
            "LD_PRELOAD=/x",
            "noequals",
            "=PORT",
            "X_PORT=a\0b",
            "_PORT=",
        ]
        .map(String::from);
        let taken = allowed(&plan, &offered).unwrap();
        assert_eq!(taken, ["DB_PORT=1=2", "KUBERNETES_SERVICE=x", "NODE=n2", "_PORT="]);
        plan.host_env.clear();
        assert!(allowed(&plan, &offered).unwrap().is_empty());
    }

    #[test]
    fn variables_of_services_are_known_by_their_names() {
        for name in [
            "KUBERNETES_SERVICE_HOST",
            "DB_SERVICE_HOST",
            "DB_SERVICE_PORT",
            "DB_SERVICE_PORT_SQL",
            "DB_PORT",
            "DB_PORT_5432_TCP",
            "DB_PORT_5432_TCP_PROTO",
            "DB_PORT_5432_TCP_PORT",
            "DB_PORT_5432_TCP_ADDR",
        ] {
            assert!(is_service(name), "{name}");
        }
        for name in ["PATH", "DB_HOST", "PORT", "_PORT_X", "DB_PORTS", "db_port", "DB_PORT_TCP", ""] {
            assert!(!is_service(name), "{name}");
        }
    }

    #[test]
    fn an_offer_is_bounded() {
        let plan = sample().containers[0].clone();
        assert!(allowed(&plan, &vec![String::new(); MAX_VARIABLES + 1]).is_err());
        assert!(allowed(&plan, &["x".repeat(MAX_BYTES + 1)]).is_err());
    }
}
