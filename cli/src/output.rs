//! How the program speaks: progress and failures on standard error, results on standard output, JSON on request.

use std::io::{IsTerminal, Write};

use cocoon_stage::{Code, Failure, Stage};
use serde_json::json;

/// How to print.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    /// JSON lines instead of text for people.
    pub json: bool,
    /// Say nothing but failures.
    pub quiet: bool,
}

impl Output {
    /// A line of progress, on standard error.
    pub fn progress(self, stage: Stage, text: &str) {
        if self.quiet {
            return;
        }
        if self.json {
            self.line(&json!({"type": "progress", "stage": stage, "text": text}));
        } else {
            eprintln!("{} {text}", dim(&format!("[{:<8}]", stage.name())));
        }
    }

    /// A warning, on standard error.
    pub fn warn(self, text: &str) {
        if self.json {
            self.line(&json!({"type": "warning", "text": text}));
        } else {
            eprintln!("{} {text}", dim("[warning ]"));
        }
    }

    /// A JSON object on standard error, where a command's own output has standard output.
    pub fn line(self, value: &serde_json::Value) {
        eprintln!("{value}");
    }

    /// A failure with everything its reader needs: stage, code, reason, next step and the verdict, if any.
    pub fn failure(self, failure: &Failure, verdict: Option<&serde_json::Value>) {
        // The host's side of a guest's failure has no reason; the guest told it to Trustee.
        let mut failure = failure.clone();
        if let Some(reason) = verdict.and_then(|v| v.get("reason")).and_then(serde_json::Value::as_str) {
            reason.clone_into(&mut failure.reason);
        }
        let failure = &failure;
        if self.json {
            let mut value = json!({
                "type": "failure",
                "stage": failure.stage,
                "code": failure.code,
                "reason": failure.reason,
                "next": failure.next_step(),
            });
            if let Some(object) = value.as_object_mut() {
                if let Some(id) = &failure.request_id {
                    object.insert("request_id".into(), json!(id));
                }
                if let Some(verdict) = verdict {
                    object.insert("verdict".into(), verdict.clone());
                }
            }
            self.line(&value);
            return;
        }
        let mut err = std::io::stderr().lock();
        let _ = writeln!(err, "{}", bold(&format!("cocoon: {} ({})", failure.code, failure.stage)));
        let _ = writeln!(err, "  what:   {}", failure.code.summary());
        if failure.reason != failure.code.summary() {
            let _ = writeln!(err, "  reason: {}", failure.reason.replace('\n', "\n          "));
        }
        if let Some(id) = &failure.request_id {
            let _ = writeln!(err, "  request: {id}");
        }
        for line in verdict.map(verdict_lines).unwrap_or_default() {
            let _ = writeln!(err, "    {line}");
        }
        let _ = writeln!(err, "  next:   {}", failure.next_step());
    }
}

/// The failed steps of a verdict, one line each.
fn verdict_lines(verdict: &serde_json::Value) -> Vec<String> {
    let text = |step: &serde_json::Value, key: &str| {
        step.get(key).and_then(serde_json::Value::as_str).unwrap_or_default().to_owned()
    };
    let steps = verdict.get("steps").and_then(serde_json::Value::as_array);
    steps
        .into_iter()
        .flatten()
        .filter(|step| step.get("code").is_some_and(|c| !c.is_null()))
        .map(|step| {
            format!(
                "✗ {}: expected {}, got {} ({})",
                text(step, "name"),
                text(step, "expected"),
                text(step, "got"),
                text(step, "code")
            )
        })
        .collect()
}

/// The exit status for a failure: 125, as container tools use for "the tool failed, not the workload"; 1 where
/// something was checked and found wrong.
pub fn exit_status(failure: &Failure) -> u8 {
    match failure.code {
        Code::AuditTampered => 1,
        Code::UsageInvalid => 2,
        _ => 125,
    }
}

fn styled(text: &str, code: &str) -> String {
    if std::io::stderr().is_terminal() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}

fn dim(text: &str) -> String {
    styled(text, "2")
}

fn bold(text: &str) -> String {
    styled(text, "1")
}
