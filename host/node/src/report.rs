//! The report: data first, a table for people second.

use serde::Serialize;

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// As it should be.
    Ok,
    /// Cocoon runs without it, slower or with less.
    Warn,
    /// `cocoon run` needs it.
    Missing,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What, e.g. `KVM`.
    pub name: &'static str,
    /// How it came out.
    pub status: Status,
    /// What was seen, with versions, paths or reasons.
    pub found: String,
    /// What that means for the person who runs workloads.
    pub means: String,
    /// The command or the step that mends it; absent where nothing is to be mended, or nothing can be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mend: Option<String>,
}

impl Check {
    pub(crate) fn ok(name: &'static str, found: impl Into<String>, means: impl Into<String>) -> Self {
        Check { name, status: Status::Ok, found: found.into(), means: means.into(), mend: None }
    }

    pub(crate) fn warn(name: &'static str, found: impl Into<String>, means: impl Into<String>) -> Self {
        Check { status: Status::Warn, ..Check::ok(name, found, means) }
    }

    pub(crate) fn missing(name: &'static str, found: impl Into<String>, means: impl Into<String>) -> Self {
        Check { status: Status::Missing, ..Check::ok(name, found, means) }
    }

    pub(crate) fn mend(self, how: impl Into<String>) -> Self {
        Check { mend: Some(how.into()), ..self }
    }
}

/// All checks, in the order in which they are shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The checks.
    pub checks: Vec<Check>,
}

impl Report {
    /// Whether something that a run needs is not there.
    pub fn anything_missing(&self) -> bool {
        self.checks.iter().any(|c| c.status == Status::Missing)
    }

    /// A table: one line a check; under each that is not fine, what it means and how to mend it.
    pub fn render(&self) -> String {
        let width = self.checks.iter().map(|c| c.name.len()).max().unwrap_or(0);
        let mut out = String::new();
        for check in &self.checks {
            let status = match check.status {
                Status::Ok => "ok",
                Status::Warn => "warn",
                Status::Missing => "MISSING",
            };
            out.push_str(&format!("{status:<8} {:<width$}  {}\n", check.name, check.found));
            if check.status != Status::Ok {
                out.push_str(&format!("{:8} {:width$}  means: {}\n", "", "", check.means));
                if let Some(mend) = &check.mend {
                    out.push_str(&format!("{:8} {:width$}  mend:  {mend}\n", "", ""));
                }
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        Report {
            checks: vec![
                Check::ok("QEMU", "7.2.22", "runs the pod VM"),
                Check::warn("KVM", "no /dev/kvm", "emulated, slow"),
                Check::missing("guest image", "none", "nothing to boot").mend("cocoon guest build"),
            ],
        }
    }

    #[test]
    fn the_table_explains_what_is_not_fine_and_only_that() {
        let text = report().render();
        assert!(text.contains("ok       QEMU"), "{text}");
        assert!(!text.contains("runs the pod VM"));
        assert!(text.contains("means: emulated, slow"));
        assert!(text.contains("mend:  cocoon guest build"));
    }

    #[test]
    fn a_warning_is_not_a_lack() {
        let mut report = report();
        assert!(report.anything_missing());
        report.checks.pop();
        assert!(!report.anything_missing());
    }

    #[test]
    fn json_has_stable_names() {
        let json = serde_json::to_value(report()).unwrap();
        assert_eq!(json["checks"][1]["status"], "warn");
        assert_eq!(json["checks"][2]["mend"], "cocoon guest build");
        assert!(json["checks"][0].get("mend").is_none());
    }
}
