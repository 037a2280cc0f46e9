//! The verdict: every check that was made, and what follows.

use cocoon_stage::{Code, Failure};
use serde::Serialize;

/// One check of a verdict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Stable dotted name, e.g. `report.vmpl`.
    pub name: &'static str,
    /// What the check asks for, readable.
    pub expected: String,
    /// What the evidence has, readable.
    pub got: String,
    /// Which specification or caller's input asks for it.
    pub source: String,
    /// Why the check failed; `None` when it passed.
    pub code: Option<Code>,
}

impl Check {
    /// A check with its outcome: `code` is kept only where `ok` is false.
    pub(crate) fn new(
        name: &'static str,
        ok: bool,
        code: Code,
        expected: impl Into<String>,
        got: impl Into<String>,
        source: &str,
    ) -> Self {
        let code = (!ok).then_some(code);
        Check { name, expected: expected.into(), got: got.into(), source: source.to_owned(), code }
    }
}

/// All checks made of one piece of evidence.
///
/// All independent checks are made; the list does not end at the first failure. It is empty for nothing: a verdict
/// without checks is not ok.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verdict {
    /// The checks in the order of their weight; the first failed one is the reason given to people.
    pub checks: Vec<Check>,
    /// The evidence's claims; `null` unless every check passed.
    pub claims: serde_json::Value,
    /// Whether the evidence's chain ends in a simulated root. True also when that chain is not accepted.
    pub simulated: bool,
}

impl Verdict {
    /// Whether every check passed.
    pub fn ok(&self) -> bool {
        !self.checks.is_empty() && self.checks.iter().all(|c| c.code.is_none())
    }

    /// The first failed check as a coded failure; `None` when the verdict is ok.
    pub fn failure(&self) -> Option<Failure> {
        if self.checks.is_empty() {
            return Some(Failure::new(Code::Internal, "no check was made"));
        }
        self.checks.iter().find_map(|check| {
            let reason =
                format!("{}: expected {}, got {} ({})", check.name, check.expected, check.got, check.source);
            check.code.map(|code| Failure::new(code, reason))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_without_checks_is_not_ok() {
        let v = Verdict { checks: Vec::new(), claims: serde_json::Value::Null, simulated: false };
        assert!(!v.ok());
        assert!(v.failure().is_some());
    }

    #[test]
    fn the_first_failed_check_is_the_reason() {
        let check = |name, ok| Check::new(name, ok, Code::AttestDebugEnabled, "off", "on", "test");
        let checks = vec![check("a", true), check("b", false), check("c", false)];
        let v = Verdict { checks, claims: serde_json::Value::Null, simulated: false };
        let failure = v.failure().unwrap();
        assert_eq!(failure.code, Code::AttestDebugEnabled);
        assert!(failure.reason.starts_with("b: expected off, got on"));
    }
}
