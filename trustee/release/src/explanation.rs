//! The owner's answer to "why": the steps of a verdict with what each expected and got.

use cocoon_stage::Code;
use serde::{Deserialize, Serialize};

/// Longest text kept of one field; parts of it come from hostile evidence.
const MAX_TEXT: usize = 400;

/// Most steps kept of one verdict.
const MAX_STEPS: usize = 96;

/// Most bytes of policy inputs kept of one verdict.
const MAX_INPUTS: usize = 32 * 1024;

/// One check of a verdict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Stable dotted name, e.g. `release.status`.
    pub name: String,
    /// What the check asks for.
    pub expected: String,
    /// What it found.
    pub got: String,
    /// Which rule, record or specification asks for it.
    pub source: String,
    /// Why it failed; `None` if it passed or was skipped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Code>,
    /// Not looked at, because an earlier step failed that it depends on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub skipped: bool,
}

impl Step {
    /// A step that was looked at; `code` is kept only where `ok` is false.
    pub fn new(
        name: &str,
        ok: bool,
        code: Code,
        expected: impl Into<String>,
        got: impl Into<String>,
        source: &str,
    ) -> Self {
        Step {
            name: bounded(name.into()),
            expected: bounded(expected.into()),
            got: bounded(got.into()),
            source: bounded(source.into()),
            code: (!ok).then_some(code),
            skipped: false,
        }
    }

    /// A step that was not looked at.
    pub fn skipped(name: &str, source: &str) -> Self {
        Step {
            name: name.into(),
            expected: String::new(),
            got: "not looked at".into(),
            source: source.into(),
            code: None,
            skipped: true,
        }
    }

    /// Takes the failure back: another rule decided. What was found stays visible.
    pub(crate) fn overruled(&mut self, by: &str) {
        if self.code.take().is_some() {
            self.source = bounded(format!("{}; not decisive: {by}", self.source));
        }
    }

    /// Whether it was looked at and passed.
    pub fn passed(&self) -> bool {
        self.code.is_none() && !self.skipped
    }
}

/// What a verdict was about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Subject {
    /// A guest's evidence.
    Attest {
        /// TEE kind the guest named.
        tee: String,
    },
    /// What an attested guest says went wrong inside it, for its owner.
    Guest {
        /// The stage at which it failed.
        stage: cocoon_stage::Stage,
    },
    /// A guest's request for a secret.
    Release {
        /// Path asked for.
        path: String,
    },
}

/// A whole verdict, as `cocoon explain` shows it. Holds no secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// Id given to the guest with the answer.
    pub request_id: String,
    /// When, in seconds since 1970.
    pub at_unix: u64,
    /// What about.
    #[serde(flatten)]
    pub subject: Subject,
    /// The refusal's code; `None` if granted.
    pub code: Option<Code>,
    /// The refusal's reason, one sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// HOST_DATA in hex, which names the plan; present where evidence gave one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init_data: Option<String>,
    /// Name of the registered workload, where found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<String>,
    /// Whether the evidence came from a simulated TEE.
    #[serde(default)]
    pub simulated: bool,
    /// The checks, in the order they were made.
    pub steps: Vec<Step>,
    /// What policies were given of verified evidence, by policy class (`cpu`, …): the matter of dry runs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<(String, serde_json::Value)>,
}

impl Explanation {
    /// The same with every part cut to its bound, so that the number of explanations bounds their memory.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        self.steps.truncate(MAX_STEPS);
        self.reason = self.reason.map(bounded);
        let mut room = MAX_INPUTS;
        self.inputs.retain(|(_, input)| {
            let size = input.to_string().len();
            let fits = size <= room;
            room = room.saturating_sub(if fits { size } else { 0 });
            fits
        });
        self
    }
}

fn bounded(mut text: String) -> String {
    if text.len() > MAX_TEXT {
        let end = (0..=MAX_TEXT).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_and_is_bounded() {
        let step = Step::new("release.status", false, Code::ReleaseDenied, "ä".repeat(5000), "b", "c");
        assert!(step.expected.len() <= MAX_TEXT + 3);
        let explanation = Explanation {
            request_id: "r".into(),
            at_unix: 1,
            subject: Subject::Release { path: "a/b/c".into() },
            code: Some(Code::ReleaseDenied),
            reason: Some("x".repeat(5000)),
            init_data: None,
            workload: None,
            simulated: true,
            steps: vec![step; 1000],
            inputs: vec![
                ("cpu".into(), "x".repeat(20_000).into()),
                ("gpu".into(), "y".repeat(20_000).into()),
            ],
        }
        .bounded();
        let json = serde_json::to_string(&explanation).unwrap();
        assert!(json.len() < 128 * 1024);
        assert!(json.contains(r#""kind":"release""#));
        assert_eq!(serde_json::from_str::<Explanation>(&json).unwrap(), explanation);
    }
}
