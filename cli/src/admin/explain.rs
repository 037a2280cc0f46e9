//! `cocoon explain`: why Trustee decided as it did.

use cocoon_stage::{Code, Failure};
use serde_json::Value;

use super::{note, number, print, say, text};
use crate::args::ExplainArgs;
use crate::client::{AdminClient, segment};
use crate::moments;

pub async fn explain(args: &ExplainArgs) -> Result<(), Failure> {
    let client = AdminClient::open(&args.common)?;
    match &args.request {
        Some(id) => {
            let what = format!("verdict for request {id}");
            let verdict = client.get(&format!("explain/{}", segment(id)), &what).await?;
            if args.common.json {
                return print(&verdict, &args.common);
            }
            tree(&verdict).iter().for_each(|line| say(line));
        }
        None => {
            let verdicts = client.get(&format!("explain?limit={}", args.limit), "verdicts").await?;
            if args.common.json {
                return print(&verdicts, &args.common);
            }
            let verdicts = verdicts.as_array().map(Vec::as_slice).unwrap_or_default();
            if verdicts.is_empty() {
                note(&args.common, &format!("{} has no verdicts", client.place()));
            }
            verdicts.iter().for_each(|verdict| say(&line(verdict)));
        }
    }
    Ok(())
}

/// What the verdict is about.
fn subject(verdict: &Value) -> String {
    let kind = text(verdict, "kind");
    let about = ["path", "tee", "stage"].into_iter().map(|name| text(verdict, name)).find(|t| !t.is_empty());
    match about {
        Some(about) => format!("{kind} {about}"),
        None => kind.to_owned(),
    }
}

fn decision(verdict: &Value) -> String {
    let code = text(verdict, "code");
    let decided = if code.is_empty() { "granted" } else { code };
    let simulated = verdict.get("simulated").and_then(Value::as_bool).unwrap_or(false);
    if simulated { format!("{decided} (simulated TEE)") } else { decided.to_owned() }
}

/// A verdict in one line.
fn line(verdict: &Value) -> String {
    let at = number(verdict, "at_unix").map(moments::shown).unwrap_or_default();
    let mut line =
        format!("{}  {at}  {}  {}", text(verdict, "request_id"), subject(verdict), decision(verdict));
    if let Some(workload) = verdict.get("workload").and_then(Value::as_str) {
        line.push_str(&format!("  [{workload}]"));
    }
    plain(&line)
}

/// A verdict over several lines: its steps, then what to do.
fn tree(verdict: &Value) -> Vec<String> {
    let mut lines = vec![line(verdict)];
    if let Some(digest) = verdict.get("init_data").and_then(Value::as_str) {
        lines.push(format!("  initdata {digest}"));
    }
    for step in verdict.get("steps").and_then(Value::as_array).into_iter().flatten() {
        lines.push(step_line(step));
    }
    let code = text(verdict, "code");
    if !code.is_empty() {
        let known = Code::ALL.iter().find(|c| c.as_str() == code);
        lines.push(format!("  code:   {code}: {}", known.map_or("", |c| c.summary())));
        let reason = text(verdict, "reason");
        if !reason.is_empty() {
            lines.push(format!("  reason: {reason}"));
        }
        lines.push(format!("  next:   {}", known.map_or("", |c| c.next_step())));
    }
    lines.iter().map(|line| plain(line)).collect()
}

fn step_line(step: &Value) -> String {
    let (name, expected, got) = (text(step, "name"), text(step, "expected"), text(step, "got"));
    let source = text(step, "source");
    let source = if source.is_empty() { String::new() } else { format!(" ({source})") };
    let code = text(step, "code");
    if step.get("skipped").and_then(Value::as_bool).unwrap_or(false) {
        format!("  – {name}: {got}{source}")
    } else if code.is_empty() {
        format!("  ✔ {name}: expected {expected}, got {got}{source}")
    } else {
        format!("  ✘ {name}: expected {expected}, got {got}{source} {code}")
    }
}

/// Parts of a verdict come from hostile evidence: they must not speak to the terminal.
fn plain(line: &str) -> String {
    line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_verdict_is_told_to_people() {
        let verdict = json!({
            "request_id": "r1", "at_unix": 951_782_400, "kind": "release", "path": "a/b/c",
            "code": "RELEASE-DENIED", "reason": "no\u{1b}[31m rule", "simulated": true, "workload": "w",
            "init_data": "ab",
            "steps": [
                {"name": "release.status", "expected": "affirming", "got": "affirming", "source": "registration"},
                {"name": "release.allowed", "expected": "a rule", "got": "none", "source": "rules", "code": "RELEASE-DENIED"},
                {"name": "release.policy", "expected": "", "got": "not looked at", "source": "", "skipped": true},
            ],
        });
        let lines = tree(&verdict);
        assert_eq!(lines[0], "r1  2000-02-29T00:00:00Z  release a/b/c  RELEASE-DENIED (simulated TEE)  [w]");
        assert_eq!(lines[2], "  ✔ release.status: expected affirming, got affirming (registration)");
        assert_eq!(lines[3], "  ✘ release.allowed: expected a rule, got none (rules) RELEASE-DENIED");
        assert_eq!(lines[4], "  – release.policy: not looked at");
        assert_eq!(lines[6], "  reason: no [31m rule");
        assert!(lines[7].starts_with("  next:   ") && lines[7].len() > 12);
        let granted = json!({"request_id": "r2", "kind": "attest", "tee": "snp", "code": null});
        assert_eq!(line(&granted), "r2    attest snp  granted");
    }
}
