//! What `cocoon evidence verify` found, in words and as JSON.

use cocoon_evidence::collateral::Need;
use cocoon_evidence::{Check, Evidence, Verified};
use cocoon_stage::{Code, Failure};
use serde_json::{Value, json};

use super::show::with_readable_events;
use super::text::tree;
use crate::moments;

/// The verdicts on evidence, and what was asked.
pub struct Report<'a> {
    pub evidence: &'a Evidence,
    /// A line about its kind and form.
    pub format: &'a str,
    pub at_unix: u64,
    /// Whether the report data was compared with one given.
    pub report_data: bool,
    /// Whether the initdata's digest was compared with one given.
    pub init_data: bool,
    /// Vendors' documents that verification asks for and that are not at hand.
    pub missing: Vec<Need>,
    pub verified: &'a [Verified],
}

impl Report<'_> {
    /// Whether every check of every verdict passed.
    pub fn ok(&self) -> bool {
        !self.verified.is_empty() && self.verified.iter().all(|v| v.verdict.ok())
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let verdict = |v: &Verified| {
            let check = v.verdict.checks.iter().find(|c| c.code.is_some()).map(|c| c.name);
            json!({
                "class": v.class,
                "ok": v.verdict.ok(),
                "simulated": v.verdict.simulated,
                "check": check,
                "failure": v.verdict.failure().map(|f| failure(&f)),
                "checks": v.verdict.checks,
                "claims": v.verdict.claims,
                "init_data": v.init_data,
            })
        };
        json!({
            "ok": self.ok(),
            "tee": self.evidence.tee(),
            "format": self.format,
            "at_unix": self.at_unix,
            "report_data_compared": self.report_data,
            "init_data_compared": self.init_data,
            "collateral_missing": self.missing,
            "failure": null,
            "verdicts": self.verified.iter().map(verdict).collect::<Vec<_>>(),
        })
    }

    /// For people.
    pub fn words(&self) -> Vec<String> {
        let mut lines =
            vec![self.format.to_owned(), format!("judged as of {}", moments::shown(self.at_unix))];
        let many = self.verified.len() > 1;
        for (n, v) in self.verified.iter().enumerate() {
            lines.push(String::new());
            if many {
                lines.push(format!("{} {}", n + 1, v.class));
            }
            if v.verdict.simulated {
                lines.push("SIMULATED: made without hardware, it proves nothing".into());
            }
            checks(&v.verdict.checks, &mut lines);
            next_steps(&v.verdict.checks, &mut lines);
            if v.verdict.ok() {
                lines.extend([String::new(), "claims".into()]);
                lines.extend(tree(&with_readable_events(v.verdict.claims.clone()), 1));
            }
        }
        lines.push(String::new());
        if !self.report_data {
            lines.push(
                "not compared: report data; without --report-data evidence may be old, or another's".into(),
            );
        }
        for digest in self.verified.iter().filter_map(|v| v.init_data.as_ref()).filter(|_| !self.init_data) {
            lines.push(format!("not compared: initdata; the TEE binds {digest}"));
        }
        if !self.missing.is_empty() {
            let names: Vec<String> = self.missing.iter().map(Need::to_string).collect();
            lines.push(format!("not at hand: {}", names.join(", ")));
            lines.extend(fetch(&self.missing).map(|command| format!("  fetch by: {command}")));
        }
        lines.push(self.conclusion());
        lines
    }

    fn conclusion(&self) -> String {
        let failed = self.verified.iter().find_map(|v| v.verdict.failure());
        match failed {
            None if self.ok() && self.verified.iter().any(|v| v.verdict.simulated) => {
                "ACCEPTED, but it proves nothing: it is simulated".into()
            }
            None if self.ok() => "GENUINE".into(),
            None => "NOT GENUINE: nothing was verified".into(),
            Some(failure) => {
                format!("NOT GENUINE, or not proven to be: {} ({})", failure.reason, failure.code)
            }
        }
    }
}

/// What could not be judged at all, for programs.
pub fn unreadable(failure: &Failure, at_unix: u64) -> Value {
    json!({
        "ok": false,
        "tee": null,
        "format": null,
        "at_unix": at_unix,
        "report_data_compared": false,
        "init_data_compared": false,
        "collateral_missing": [],
        "failure": self::failure(failure),
        "verdicts": [],
    })
}

fn failure(failure: &Failure) -> Value {
    json!({
        "code": failure.code,
        "what": failure.code.summary(),
        "reason": failure.reason,
        "next": failure.next_step(),
    })
}

/// One line for what passed, three for what failed; names stand in a column.
fn checks(checks: &[Check], lines: &mut Vec<String>) {
    let width = checks.iter().map(|check| check.name.len()).max().unwrap_or(0);
    for Check { name, expected, got, source, code } in checks {
        let got = if got.is_empty() { "nothing" } else { got };
        match code {
            None => {
                let wanted = if expected == got { "as expected" } else { expected };
                lines.push(format!("  ✔ {name:<width$}  {got} [{wanted}; {source}]"));
            }
            Some(code) => lines.extend([
                format!("  ✘ {name:<width$}  {got}"),
                format!("      expected  {expected} [{source}]"),
                format!("      code      {code}: {}", code.summary()),
            ]),
        }
    }
}

/// What to do about each code, once.
fn next_steps(checks: &[Check], lines: &mut Vec<String>) {
    let mut codes: Vec<Code> = Vec::new();
    for code in checks.iter().filter_map(|check| check.code) {
        if !codes.contains(&code) {
            codes.push(code);
            lines.push(format!("  next, for {code}: {}", code.next_step()));
        }
    }
}

/// The command that fetches these documents, where there is one.
fn fetch(needs: &[Need]) -> Option<String> {
    let mut words = Vec::new();
    let mut add = |word: String| {
        if !words.contains(&word) {
            words.push(word);
        }
    };
    // Names in needs are the evidence's: only well-formed ones may stand in a command.
    for need in needs.iter().filter(|need| need.check().is_ok()) {
        match need {
            Need::AmdCrl { product, .. } => add(format!("--amd-product {product}")),
            Need::AmdVcek { product, chip_id, tcb } => {
                let fmc = tcb.fmc.map(|level| format!("{level}.")).unwrap_or_default();
                add(format!("--amd-product {product}"));
                add(format!(
                    "--chip-id {chip_id} --tcb {fmc}{}.{}.{}.{}",
                    tcb.bootloader, tcb.tee, tcb.snp, tcb.microcode
                ));
            }
            Need::IntelTcbInfo { tee, fmspc } => add(format!("--fmspc {fmspc} --tee {}", tee.as_str())),
            Need::NvidiaRim { id } => add(format!("--rim {id}")),
            Need::HygonCertificates { chip_id } => add(format!("--hygon-chip {chip_id}")),
            // They come with the TCB information.
            Need::IntelQeIdentity { .. } | Need::IntelPckCrl { .. } | Need::IntelRootCrl => {}
        }
    }
    (!words.is_empty()).then(|| format!("cocoon collateral fetch {}", words.join(" ")))
}
