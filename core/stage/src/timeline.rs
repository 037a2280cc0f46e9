//! The stages of the main job and the log of when each began and ended.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Code;

/// A stage of the main job, in the order in which they first begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Image config and flags (or a Pod) are compiled to a sandbox plan; images are pinned by digest.
    Plan,
    /// Trustee is told which plan may have which secrets.
    Register,
    /// The pod VM starts; the initdata digest is bound into the TEE.
    Boot,
    /// Evidence is collected, verified and appraised; a token is issued.
    Attest,
    /// Secrets and keys are fetched, encrypted to the guest's key.
    Fetch,
    /// The image is pulled, verified, decrypted and unpacked.
    Pull,
    /// The container is built from the plan and started.
    Start,
    /// The workload runs: logs, signals, secrets on loopback.
    Serve,
}

impl Stage {
    /// All stages in order.
    pub const ALL: [Stage; 8] = [
        Stage::Plan,
        Stage::Register,
        Stage::Boot,
        Stage::Attest,
        Stage::Fetch,
        Stage::Pull,
        Stage::Start,
        Stage::Serve,
    ];

    /// The stage's lower-case name, as printed and serialised.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Plan => "plan",
            Stage::Register => "register",
            Stage::Boot => "boot",
            Stage::Attest => "attest",
            Stage::Fetch => "fetch",
            Stage::Pull => "pull",
            Stage::Start => "start",
            Stage::Serve => "serve",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What happened to a stage at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mark {
    /// The stage began.
    Begin,
    /// The stage ended well.
    End,
    /// The stage failed with this code.
    Fail(Code),
}

/// One line of the event log; serialised as one JSON object a line between guest and host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageEvent {
    /// Which stage.
    pub stage: Stage,
    /// What happened.
    pub mark: Mark,
    /// The subject where a stage has several (a container's or secret's name); never secret.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub subject: String,
}

impl StageEvent {
    /// An event about the stage as a whole.
    pub fn new(stage: Stage, mark: Mark) -> Self {
        StageEvent { stage, mark, subject: String::new() }
    }
}

/// Events with the time of each since the run began, as one observer saw them.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Timeline {
    entries: Vec<(Duration, StageEvent)>,
}

/// A timeline keeps at most this many events; a hostile peer cannot grow it further.
const MAX_EVENTS: usize = 4096;

impl Timeline {
    /// Records an event seen `at` after the start of the run. Events past a fixed bound are dropped.
    pub fn record(&mut self, at: Duration, event: StageEvent) {
        if self.entries.len() < MAX_EVENTS {
            self.entries.push((at, event));
        }
    }

    /// The events in the order in which they were recorded.
    pub fn entries(&self) -> &[(Duration, StageEvent)] {
        &self.entries
    }

    /// First begin and last end (or failure) of a stage, where both were seen.
    pub fn span(&self, stage: Stage) -> Option<(Duration, Duration)> {
        let of_stage = || self.entries.iter().filter(|(_, e)| e.stage == stage);
        let begin = of_stage().find(|(_, e)| e.mark == Mark::Begin)?.0;
        let end = of_stage().rfind(|(_, e)| e.mark != Mark::Begin)?.0;
        Some((begin, end))
    }

    /// A table with one row per stage: name, begin, length in milliseconds, and a bar to scale.
    pub fn render(&self) -> String {
        let total = self.entries.iter().map(|(at, _)| *at).max().unwrap_or_default();
        let width = 40_u128;
        let scale = |d: Duration| -> usize {
            let total = total.as_micros().max(1);
            usize::try_from(d.as_micros() * width / total).unwrap_or(0)
        };
        let mut out = String::from("stage        begin ms   took ms\n");
        for stage in Stage::ALL {
            let Some((begin, end)) = self.span(stage) else { continue };
            let took = end.saturating_sub(begin);
            let bar = "#".repeat(scale(took).max(1));
            let pad = " ".repeat(scale(begin));
            out.push_str(&format!(
                "{:<10} {:>10} {:>9}  |{pad}{bar}\n",
                stage.name(),
                begin.as_millis(),
                took.as_millis()
            ));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn span_reaches_from_first_begin_to_last_end() {
        let mut t = Timeline::default();
        let ms = Duration::from_millis;
        t.record(ms(1), StageEvent::new(Stage::Pull, Mark::Begin));
        t.record(ms(5), StageEvent::new(Stage::Pull, Mark::End));
        t.record(ms(9), StageEvent::new(Stage::Pull, Mark::Fail(Code::ImagePullFailed)));
        assert_eq!(t.span(Stage::Pull), Some((ms(1), ms(9))));
        assert_eq!(t.span(Stage::Boot), None);
        assert!(t.render().contains("pull"));
    }

    #[test]
    fn a_hostile_peer_cannot_grow_the_timeline() {
        let mut t = Timeline::default();
        for _ in 0..MAX_EVENTS + 10 {
            t.record(Duration::ZERO, StageEvent::new(Stage::Boot, Mark::Begin));
        }
        assert_eq!(t.entries().len(), MAX_EVENTS);
    }

    #[test]
    fn events_are_one_json_line() -> Result<(), serde_json::Error> {
        let e = StageEvent::new(Stage::Attest, Mark::Fail(Code::AttestMeasurementUnknown));
        let line = serde_json::to_string(&e)?;
        assert_eq!(line, r#"{"stage":"attest","mark":{"fail":"ATTEST-MEASUREMENT-UNKNOWN"}}"#);
        assert_eq!(serde_json::from_str::<StageEvent>(&line)?, e);
        Ok(())
    }
}
