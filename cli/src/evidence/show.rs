//! `cocoon evidence show`: what is in a file, readable. Nothing of it is verified.

use cocoon_evidence::Evidence;
use cocoon_evidence::collateral::Need;
use cocoon_evidence::dcap::Quote;
use cocoon_evidence::x509::Certificate;
use cocoon_stage::Failure;
use serde_json::{Map, Value, json};

use super::certificates::certificate;
use super::content::{Content, recognise};
use super::describe::describe;
use super::text::{say_json, say_lines, tree};
use crate::args::ShowArgs;

pub fn show(args: &ShowArgs) -> Result<(), Failure> {
    let content = recognise(&args.file, args.tee)?;
    if args.json {
        return say_json(&in_json(&content));
    }
    let mut lines = Vec::new();
    let notice = "nothing of this is verified".to_owned();
    match &content {
        Content::Evidence(evidence, form) => {
            lines.extend([describe(evidence, form), notice]);
            lines.extend(needed(evidence));
            lines.extend(tree(&with_readable_events(contents(evidence)), 1));
        }
        Content::Part(part) => {
            lines.extend([part.format.clone(), notice]);
            lines.extend(tree(&with_readable_events(part.contents.clone()), 1));
        }
    }
    say_lines(&lines)
}

fn in_json(content: &Content) -> Value {
    match content {
        Content::Evidence(evidence, form) => json!({
            "kind": "evidence",
            "format": describe(evidence, form),
            "tee": evidence.tee(),
            "verified": false,
            "collateral_needed": evidence.needs(),
            "contents": contents(evidence),
        }),
        Content::Part(part) => json!({
            "kind": part.kind,
            "format": part.format,
            "tee": null,
            "verified": false,
            "collateral_needed": [],
            "contents": part.contents,
        }),
    }
}

/// What it says, and the certificates that came along.
fn contents(evidence: &Evidence) -> Value {
    let mut contents = evidence.unverified();
    let of_quote = |quote: &Quote| Certificate::parse_chain(quote.certificate_chain()).unwrap_or_default();
    let chain = match evidence {
        Evidence::Snp(evidence) => {
            evidence.cert_chain.iter().filter_map(|entry| Certificate::parse(&entry.data).ok()).collect()
        }
        Evidence::Tdx(evidence) => of_quote(&evidence.quote),
        Evidence::Sgx(evidence) => of_quote(evidence.quote()),
        Evidence::AzureTdx(evidence) => of_quote(evidence.td_quote()),
        _ => Vec::new(),
    };
    if let (Value::Object(map), false) = (&mut contents, chain.is_empty()) {
        map.insert("certificates".into(), chain.iter().map(certificate).collect());
    }
    contents
}

/// What verification will ask for.
fn needed(evidence: &Evidence) -> Option<String> {
    let needs: Vec<String> = evidence.needs().iter().map(Need::to_string).collect();
    (!needs.is_empty()).then(|| format!("needs for verification: {}", needs.join(", ")))
}

/// The events of a log under their names, with one digest, and without their data, which `details` tells.
pub fn with_readable_events(mut contents: Value) -> Value {
    for name in ["events", "uefi_event_logs"] {
        if let Some(Value::Array(events)) = contents.get(name) {
            let named: Map<String, Value> = events.iter().enumerate().map(event).collect();
            if let Some(place) = contents.get_mut(name) {
                *place = Value::Object(named);
            }
        }
    }
    contents
}

fn event((n, event): (usize, &Value)) -> (String, Value) {
    let member = |name: &str| event.get(name).cloned().unwrap_or_default();
    let kind = member("type_name");
    let name = format!("{n} {} in register {}", kind.as_str().unwrap_or_default(), member("index"));
    let digest = event.pointer("/digests/0/digest").cloned().unwrap_or_default();
    let matches = member("digest_matches_event");
    (name, json!({ "digest": digest, "digest_matches_event": matches, "details": member("details") }))
}
