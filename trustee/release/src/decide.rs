//! The decision on one request for a secret.

use cocoon_stage::{Code, Failure};
use serde_json::Value;
use zeroize::Zeroizing;

use crate::{Error, Registry, ResourcePath, Step, Workload, claims};

/// A secret that may go to the guest, encrypted to its key.
pub struct Release {
    /// The value in the clear.
    pub value: Zeroizing<Vec<u8>>,
}

/// The outcome of [`decide`] with its steps: always the same ones in the same order, passed, failed or skipped.
pub struct Decision {
    /// The secret or the refusal.
    pub outcome: Result<Release, Failure>,
    /// For the owner.
    pub steps: Vec<Step>,
    /// HOST_DATA of the guest, in hex.
    pub init_data: Option<String>,
    /// Name of its workload.
    pub workload: Option<String>,
    /// Whether its evidence is simulated.
    pub simulated: bool,
}

/// Names and sources of the steps after the first, to list those that were not reached.
const STEPS: [(&str, &str); 7] = [
    ("release.init_data", "token"),
    ("release.workload", "registration"),
    ("release.expiry", "registration"),
    ("release.simulated", "registration"),
    ("release.status", "registration"),
    ("release.path", "registration"),
    ("release.secret", "storage"),
];

/// Decides whether the guest of these verified token claims may have `path` now.
///
/// `claims` must come from a token whose signature and expiry the caller has checked. An unauthorised guest
/// cannot tell an unknown path from a denied one: nothing of the path is looked up before the rules allow it.
/// `Err` is a storage failure, never a denial.
pub fn decide(
    registry: &Registry,
    claims: &Value,
    path: &ResourcePath,
    now_unix: u64,
) -> Result<Decision, Error> {
    let mut steps = Vec::with_capacity(STEPS.len());
    let simulated = claims::simulated(claims);
    let init_data = claims::bound_init_data(claims);
    steps.push(step(
        0,
        init_data.is_some(),
        Code::ReleaseWorkloadUnknown,
        "a plan bound by the TEE",
        init_data.as_deref().unwrap_or("none"),
    ));
    let workload = match &init_data {
        Some(host_data) => registry.by_host_data(host_data)?,
        None => None,
    };
    let mut value = None;
    if let (Some(host_data), found) = (&init_data, &workload) {
        let name = found.as_ref().map_or("none", |w| w.name.as_str());
        steps.push(step(1, found.is_some(), Code::ReleaseWorkloadUnknown, "a registered workload", name));
        if let Some(workload) = found {
            rules(&mut steps, workload, claims, path, simulated, now_unix);
            if steps.iter().all(Step::passed) {
                value = if workload.secrets.contains(path) {
                    registry.secret(host_data, path)?
                } else {
                    registry.resource(path)?
                };
                let got = if value.is_some() { "present" } else { "nothing" };
                steps.push(step(6, value.is_some(), Code::ReleaseSecretMissing, "a value", got));
            }
        }
    }
    for (name, source) in STEPS.iter().skip(steps.len()) {
        steps.push(Step::skipped(name, source));
    }
    let outcome = match (steps.iter().find_map(|s| s.code.map(|c| refusal(c, s, path))), value) {
        (None, Some(value)) => Ok(Release { value }),
        (Some(failure), _) => Err(failure),
        (None, None) => Err(Failure::new(Code::ReleaseDenied, "no rule decided")),
    };
    Ok(Decision { outcome, steps, init_data, workload: workload.map(|w| w.name), simulated })
}

/// The registration's own rules; all are looked at, so that the owner sees everything that is amiss at once.
fn rules(
    steps: &mut Vec<Step>,
    workload: &Workload,
    claims: &Value,
    path: &ResourcePath,
    simulated: bool,
    now_unix: u64,
) {
    let end = workload.expires_unix.map_or("never".to_owned(), |end| format!("at {end}"));
    let expired = workload.expired(now_unix);
    steps.push(step(
        2,
        !expired,
        Code::ReleaseWorkloadUnknown,
        format!("ends {end}"),
        format!("now {now_unix}"),
    ));
    let wanted = if workload.accept_simulated { "any root" } else { "a vendor's root" };
    let root = if simulated { "a simulated root" } else { "a vendor's root" };
    steps.push(step(3, workload.accept_simulated || !simulated, Code::AttestSimulatedRefused, wanted, root));
    let (status, word) = claims::worst_status(claims);
    let enough = status.is_some_and(|status| status >= workload.min_status);
    let least = format!("at least {}", workload.min_status);
    steps.push(step(4, enough, Code::ReleaseStatusInsufficient, least, word));
    let allowed = workload.secrets.contains(path) || workload.allow.contains(path);
    steps.push(step(5, allowed, Code::ReleaseDenied, "a path the registration lists", path.as_str()));
}

fn step(index: usize, ok: bool, code: Code, expected: impl Into<String>, got: impl Into<String>) -> Step {
    let (name, source) = STEPS.get(index).copied().unwrap_or(("release", ""));
    Step::new(name, ok, code, expected, got, source)
}

fn refusal(code: Code, step: &Step, path: &ResourcePath) -> Failure {
    let reason = format!("{path}: {}: expected {}, got {}", step.name, step.expected, step.got);
    Failure::new(code, reason).at(cocoon_stage::Stage::Fetch)
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
