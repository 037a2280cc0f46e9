//! The decision on one request for a secret.

use cocoon_stage::{Code, Failure};
use serde_json::Value;
use zeroize::Zeroizing;

use crate::{Error, MinStatus, Registry, ResourcePath, Rule, Selector, Step, Workload, claims};

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

/// What the owner's resource policy says of this request: `None` if there is none, else whether it allows; `Err` if it
/// could not be evaluated. Asked only where neither registration nor rule allows.
pub type PolicyGate<'a> = &'a dyn Fn() -> Option<Result<bool, String>>;

/// Names and sources of the steps after the first, to list those that were not reached.
const STEPS: [(&str, &str); 9] = [
    ("release.init_data", "token"),
    ("release.workload", "registration"),
    ("release.expiry", "registration"),
    ("release.simulated", "registration"),
    ("release.status", "registration"),
    ("release.path", "registration"),
    ("release.rule", "release rules"),
    ("release.policy", "resource policy"),
    ("release.secret", "storage"),
];
/// Index of the rules', the policy's and the value's step.
const RULE: usize = 6;
const POLICY: usize = 7;
const VALUE: usize = 8;

/// Decides whether the guest of these verified token claims may have `path` now.
///
/// `claims` must come from a token whose signature and expiry the caller has checked. Three may allow it, asked in this
/// order: the guest's registration, a release rule, the resource policy; the latter two for shared secrets only. An
/// unauthorised guest cannot tell an unknown path from a denied one: nothing of the path is looked up before one of
/// them allows it. `Err` is a storage failure, never a denial.
pub fn decide(
    registry: &Registry,
    claims: &Value,
    path: &ResourcePath,
    now_unix: u64,
    policy: PolicyGate<'_>,
) -> Result<Decision, Error> {
    let mut steps = Vec::with_capacity(STEPS.len());
    let init_data = claims::bound_init_data(claims);
    let guest = Guest {
        simulated: claims::simulated(claims),
        status: claims::worst_status(claims),
        init_data: init_data.as_deref(),
        now_unix,
    };
    let got = init_data.as_deref().unwrap_or("none");
    steps.push(step(0, init_data.is_some(), Code::ReleaseWorkloadUnknown, "a plan bound by the TEE", got));
    let workload = match &init_data {
        Some(host_data) => registry.by_host_data(host_data)?,
        None => None,
    };
    if init_data.is_some() {
        let name = workload.as_ref().map_or("none", |w| w.name.as_str());
        steps.push(step(1, workload.is_some(), Code::ReleaseWorkloadUnknown, "a registered workload", name));
    }
    if let Some(workload) = &workload {
        guest.registration(&mut steps, workload, path);
    }
    let registered = steps.len() == RULE && steps.iter().all(Step::passed);
    skip(&mut steps, RULE);
    let own = registered && workload.as_ref().is_some_and(|w| w.secrets.contains(path));
    let mut allowed = registered;
    if !allowed {
        let live = workload.as_ref().filter(|w| !w.expired(now_unix));
        let (rule, by) = guest.rules(registry, live.map(|w| w.name.as_str()), path)?;
        allowed = overruling(&mut steps, rule, by);
    }
    skip(&mut steps, POLICY);
    if !allowed && let Some(outcome) = policy() {
        let (ok, code, got) = match outcome {
            Ok(true) => (true, Code::ReleaseDenied, "it allows".to_owned()),
            Ok(false) => (false, Code::ReleaseDenied, "it does not".to_owned()),
            Err(problem) => (false, Code::PolicyFailed, problem),
        };
        let decided = step(POLICY, ok, code, "a resource policy that allows", got);
        allowed = overruling(&mut steps, decided, ok.then(|| "the resource policy allows".into()));
    }
    skip(&mut steps, VALUE);
    let mut value = None;
    if allowed {
        value = match (own, &init_data) {
            (true, Some(host_data)) => registry.secret(host_data, path)?,
            _ => registry.resource(path)?,
        };
        let got = if value.is_some() { "present" } else { "nothing" };
        steps.push(step(VALUE, value.is_some(), Code::ReleaseSecretMissing, "a value", got));
    }
    skip(&mut steps, STEPS.len());
    let outcome = match (steps.iter().find_map(|s| s.code.map(|c| refusal(c, s, path))), value) {
        (None, Some(value)) if allowed => Ok(Release { value }),
        (Some(failure), _) => Err(failure),
        _ => Err(Failure::new(Code::ReleaseDenied, "no rule decided")),
    };
    let simulated = guest.simulated;
    Ok(Decision { outcome, steps, init_data, workload: workload.map(|w| w.name), simulated })
}

/// What is known of the guest.
struct Guest<'a> {
    simulated: bool,
    status: (Option<MinStatus>, &'static str),
    init_data: Option<&'a str>,
    now_unix: u64,
}

impl Guest<'_> {
    fn suffices(&self, least: MinStatus) -> bool {
        self.status.0.is_some_and(|status| status >= least)
    }

    /// The registration's own rules; all are looked at, so that the owner sees everything that is amiss at once.
    fn registration(&self, steps: &mut Vec<Step>, workload: &Workload, path: &ResourcePath) {
        let end = workload.expires_unix.map_or("never".to_owned(), |end| format!("at {end}"));
        let expired = workload.expired(self.now_unix);
        let now = format!("now {}", self.now_unix);
        steps.push(step(2, !expired, Code::ReleaseWorkloadUnknown, format!("ends {end}"), now));
        let wanted = if workload.accept_simulated { "any root" } else { "a vendor's root" };
        let root = if self.simulated { "a simulated root" } else { "a vendor's root" };
        let real = workload.accept_simulated || !self.simulated;
        steps.push(step(3, real, Code::AttestSimulatedRefused, wanted, root));
        let least = format!("at least {}", workload.min_status);
        let enough = self.suffices(workload.min_status);
        steps.push(step(4, enough, Code::ReleaseStatusInsufficient, least, self.status.1));
        let listed = workload.secrets.contains(path) || workload.allow.contains(path);
        steps.push(step(5, listed, Code::ReleaseDenied, "a path the registration lists", path.as_str()));
    }

    /// The rules' step, and the words of the one that allows. Where none does but some speak of this guest and path,
    /// the step says what the first of them lacks.
    fn rules(
        &self,
        registry: &Registry,
        name: Option<&str>,
        path: &ResourcePath,
    ) -> Result<(Step, Option<String>), Error> {
        let mut lacking = None;
        for rule in registry.rules().all()?.iter().filter(|r| self.meant(r, name) && r.path.matches(path)) {
            let problem = if rule.expired(self.now_unix) {
                Some((Code::ReleaseDenied, "has ended".to_owned()))
            } else if self.simulated && !rule.accept_simulated {
                Some((Code::AttestSimulatedRefused, "asks for a vendor's root".to_owned()))
            } else if !self.suffices(rule.min_status) {
                Some((
                    Code::ReleaseStatusInsufficient,
                    format!("asks for {}, got {}", rule.min_status, self.status.1),
                ))
            } else {
                None
            };
            let Some((code, words)) = problem else {
                let words = format!("rule {} allows", rule.id);
                return Ok((
                    step(RULE, true, Code::ReleaseDenied, "a rule that allows", words.clone()),
                    Some(words),
                ));
            };
            lacking.get_or_insert((code, format!("rule {} {words}", rule.id)));
        }
        let (code, got) = lacking.unwrap_or((Code::ReleaseDenied, "no rule speaks of it".into()));
        Ok((step(RULE, false, code, "a rule that allows", got), None))
    }

    fn meant(&self, rule: &Rule, name: Option<&str>) -> bool {
        match &rule.workload {
            Selector::Any => true,
            Selector::Digest(digest) => self.init_data == Some(digest.as_str()),
            Selector::Name(wanted) => name == Some(wanted.as_str()),
        }
    }
}

/// Adds a step; if it allows, the failures before it do not decide. Whether it allows.
fn overruling(steps: &mut Vec<Step>, decided: Step, by: Option<String>) -> bool {
    if let Some(by) = &by {
        steps.iter_mut().for_each(|s| s.overruled(by));
    }
    steps.push(decided);
    by.is_some()
}

/// Lists the steps up to `end` that were not reached.
fn skip(steps: &mut Vec<Step>, end: usize) {
    for (name, source) in STEPS.iter().take(end).skip(steps.len()) {
        steps.push(Step::skipped(name, source));
    }
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
