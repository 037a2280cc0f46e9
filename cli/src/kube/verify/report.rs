//! What was found, in words and as JSON.

use std::collections::BTreeSet;

use cocoon_stage::Code;
use serde_json::{Value, json};

use super::judge::{Facts, Refusal};
use super::{Finding, Verdict};
use crate::admin::say;
use crate::moments;

/// Says what was found; gives the exit status.
pub fn report(findings: &[Finding], missing: &[(String, u64)], named: bool, as_json: bool) -> u8 {
    let count = |wished: fn(&Verdict) -> bool| findings.iter().filter(|f| wished(&f.verdict)).count();
    let proven = count(|v| matches!(v, Verdict::Proven(_)));
    let refused = count(|v| matches!(v, Verdict::Refused(_)));
    let over = count(|v| matches!(v, Verdict::Over));
    let apart = count(|v| matches!(v, Verdict::Apart));
    // A pod that was asked for by name and has ended is not proven; in a whole namespace there always are some.
    let ok = refused == 0 && proven > 0 && missing.is_empty() && (over == 0 || !named);
    if as_json {
        let pods: Vec<Value> =
            findings.iter().filter(|f| !matches!(f.verdict, Verdict::Apart)).map(entry).collect();
        let missing: Vec<Value> =
            missing.iter().map(|(of, count)| json!({"of": of, "pods": count})).collect();
        say(&json!({
            "type": "verified", "ok": ok, "proven": proven, "refused": refused, "over": over,
            "not_confidential": apart, "missing": missing, "pods": pods,
        })
        .to_string());
        return u8::from(!ok);
    }
    for finding in findings {
        line(finding);
    }
    for (of, count) in missing {
        say(&format!("✘ {of}: {count} pods fewer than it asks for are to be seen ({})", Code::VerifyNoProof));
    }
    say(&statement(findings, [proven, refused, over, apart], ok));
    u8::from(!ok)
}

fn line(finding: &Finding) {
    let pod = finding.pod.label();
    match &finding.verdict {
        Verdict::Proven(facts) => say(&format!("✔ {pod}  {}", words(facts))),
        Verdict::Refused(Refusal { failure, .. }) => {
            say(&format!("✘ {pod}  {}: {}", failure.code, plain(&failure.reason)));
            say(&format!("    what:  {}", failure.code.summary()));
            say(&format!("    next:  {}", failure.next_step()));
        }
        Verdict::Over => say(&format!("- {pod}  has ended; there is no guest to ask")),
        Verdict::Apart => {}
    }
}

fn words(facts: &Facts) -> String {
    let simulated = if facts.simulated { ", SIMULATED: protects from nobody" } else { "" };
    let guest = short(facts.measurement.as_deref().unwrap_or("by reference values"));
    let plan = short(&facts.plan);
    let of = facts.registered.as_deref().map(|name| format!(" of {}", plain(name))).unwrap_or_default();
    let old = facts.superseded_unix.map(|at| {
        format!("; an earlier plan, of {}: `cocoon workload rm {plan}…` ends it", moments::shown(at))
    });
    format!("{}{simulated}; guest image {guest}; plan {plan}{of}{}", facts.platform, old.unwrap_or_default())
}

fn short(hex: &str) -> String {
    if hex.bytes().all(|b| b.is_ascii_hexdigit()) { hex.chars().take(16).collect() } else { hex.to_owned() }
}

fn plain(text: &str) -> String {
    super::pods::plain(text)
}

fn statement(findings: &[Finding], [proven, refused, over, apart]: [usize; 4], ok: bool) -> String {
    let facts: Vec<&Facts> = findings
        .iter()
        .filter_map(|f| if let Verdict::Proven(facts) = &f.verdict { Some(facts) } else { None })
        .collect();
    let list = |of: fn(&Facts) -> Option<String>| {
        facts.iter().filter_map(|f| of(f)).collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(", ")
    };
    let asked = proven + refused + over;
    let mut text = match (ok, asked) {
        (_, 0) => "NOTHING VERIFIED: there are no confidential pods".to_owned(),
        (true, _) => format!("VERIFIED: {proven} of {asked} pods are proven"),
        (false, _) => format!("NOT VERIFIED: {proven} of {asked} pods are proven, {refused} refused"),
    };
    if proven > 0 {
        let guests = list(|f| f.measurement.as_deref().map(short));
        let simulated =
            if facts.iter().any(|f| f.simulated) { ", SIMULATED: protects from nobody" } else { "" };
        text.push_str(&format!("; platform {}{simulated}", list(|f| Some(f.platform.clone()))));
        if !guests.is_empty() {
            text.push_str(&format!("; guest image {guests}"));
        }
        text.push_str(&format!("; plans {}", list(|f| Some(short(&f.plan)))));
    }
    if over > 0 {
        text.push_str(&format!("; {over} have ended"));
    }
    if apart > 0 {
        text.push_str(&format!("; {apart} other pods are not confidential"));
    }
    text
}

fn entry(finding: &Finding) -> Value {
    let mut value = json!({
        "namespace": finding.pod.namespace, "pod": finding.pod.name, "workload": finding.pod.workload,
        "verdict": match &finding.verdict {
            Verdict::Proven(_) => "proven",
            Verdict::Refused(_) => "refused",
            Verdict::Over => "over",
            Verdict::Apart => "not-confidential",
        },
    });
    let more = match &finding.verdict {
        Verdict::Proven(facts) => json!({
            "platform": facts.platform, "simulated": facts.simulated, "measurement": facts.measurement,
            "plan": facts.plan, "registered_as": facts.registered, "earlier_plan_of_unix": facts.superseded_unix,
            "status": facts.status, "guest": facts.guest,
        }),
        Verdict::Refused(Refusal { failure, checks }) => json!({
            "failure": {"code": failure.code, "stage": failure.stage, "what": failure.code.summary(),
                "reason": failure.reason, "next": failure.next_step()},
            "checks": checks,
        }),
        _ => json!({}),
    };
    if let (Some(value), Value::Object(more)) = (value.as_object_mut(), more) {
        value.extend(more);
    }
    value
}
