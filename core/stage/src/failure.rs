//! A coded failure, as the owner sees it and as the host may see it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Code, Stage};

/// A refusal or failure a person can meet: stage, stable code, reason and next step.
///
/// The reason may name paths, digests and expected values; it never holds a secret. It is for the owner's
/// side; what crosses to the host is [`HostFailure`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub struct Failure {
    /// Where in the main job it happened.
    pub stage: Stage,
    /// The stable code.
    pub code: Code,
    /// What happened, one sentence, with the offending value where it is not secret.
    pub reason: String,
    /// Trustee's id of the request whose verdict explains this, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

impl Failure {
    /// A failure with the code's own stage.
    pub fn new(code: Code, reason: impl Into<String>) -> Self {
        Failure { stage: code.stage(), code, reason: reason.into(), request_id: None }
    }

    /// The same failure, seen at another stage.
    #[must_use]
    pub fn at(mut self, stage: Stage) -> Self {
        self.stage = stage;
        self
    }

    /// The same failure with the id under which Trustee keeps the verdict.
    #[must_use]
    pub fn with_request_id(mut self, id: impl Into<String>) -> Self {
        self.request_id = Some(id.into());
        self
    }

    /// What the person reading it should do next.
    pub fn next_step(&self) -> &'static str {
        self.code.next_step()
    }

    /// The form that may cross to the untrusted host: stage, code and request id. The reason goes with it only where it
    /// speaks of nothing but what the host itself asked or sent ([`Code::PlanRequestRefused`]).
    pub fn for_host(&self) -> HostFailure {
        let reason = (self.code == Code::PlanRequestRefused).then(|| short(&self.reason));
        HostFailure { stage: self.stage, code: self.code, request_id: self.request_id.clone(), reason }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}: {}", self.code, self.stage, self.reason)
    }
}

/// Longest reason that crosses to the host, in characters.
const MAX_HOST_REASON: usize = 200;

/// What the untrusted host may know of a failure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostFailure {
    /// Where it happened.
    pub stage: Stage,
    /// The stable code.
    pub code: Code,
    /// Trustee's request id, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// What of the host's request was refused, where it was; at most 200 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A reason as one short line of plain text.
fn short(reason: &str) -> String {
    let mut line: String = reason.chars().filter(|c| !c.is_control()).take(MAX_HOST_REASON + 1).collect();
    if line.chars().count() > MAX_HOST_REASON {
        line.pop();
        line.pop();
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_never_sees_the_reason() -> Result<(), serde_json::Error> {
        let f = Failure::new(Code::ReleaseDenied, "path default/key/1 needs affirming").with_request_id("r1");
        let json = serde_json::to_string(&f.for_host())?;
        assert!(!json.contains("default/key/1"));
        assert!(json.contains("RELEASE-DENIED") && json.contains("r1"));
        Ok(())
    }

    #[test]
    fn the_host_hears_what_of_its_own_request_was_wrong() {
        let refused = Failure::new(Code::PlanRequestRefused, format!("exec\n{}", "x".repeat(300))).for_host();
        let reason = refused.reason.unwrap_or_default();
        assert!(reason.starts_with("execxx") && reason.chars().count() == 200 && reason.ends_with('…'));
        assert_eq!(Failure::new(Code::PlanInvalid, "x").for_host().reason, None);
    }
}
