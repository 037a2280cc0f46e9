//! `cocoon evidence show`: what is in a file, readable. Nothing of it is verified.

use cocoon_evidence::Evidence;
use cocoon_evidence::eventlog::{Algorithm, EventLog};
use cocoon_evidence::x509::{Certificate, Crl, Validity};
use cocoon_stage::Failure;
use serde_json::{Map, Value, json};

use super::{plain, read, read_evidence};
use crate::args::ShowArgs;
use crate::moments;

pub fn show(args: &ShowArgs) -> Result<(), Failure> {
    let shown = match other(&read(&args.file)?) {
        Some(shown) if args.tee.is_none() => shown,
        _ => of_evidence(&read_evidence(&args.file, args.tee)?),
    };
    if args.json {
        println!("{shown}");
    } else {
        tree(&shown, 0).iter().for_each(|line| println!("{}", plain(line)));
    }
    Ok(())
}

fn of_evidence(evidence: &Evidence) -> Value {
    let needs: Vec<Value> = evidence.needs().iter().map(|need| json!(need)).collect();
    json!({
        "kind": "evidence",
        "tee": evidence.tee(),
        "verified": false,
        "collateral_needed": needs,
        "contents": evidence.unverified(),
    })
}

/// What is no evidence but belongs to it.
fn other(bytes: &[u8]) -> Option<Value> {
    if bytes.starts_with(b"-----BEGIN X509 CRL") {
        return Crl::parse(bytes).ok().map(|crl| revocations(&crl));
    }
    if bytes.starts_with(b"-----BEGIN CERTIFICATE") {
        let chain = Certificate::parse_chain(bytes).ok()?;
        let shown: Vec<Value> = chain.iter().map(certificate).collect();
        return Some(json!({ "kind": "certificates", "verified": false, "certificates": shown }));
    }
    if bytes.first() == Some(&0x30) {
        let one = Certificate::parse(bytes).ok().map(|c| certificate(&c));
        let one = one.map(|c| json!({ "kind": "certificates", "verified": false, "certificates": [c] }));
        return one.or_else(|| Crl::parse(bytes).ok().map(|crl| revocations(&crl)));
    }
    // The header of a log stands where a report has its version: index 0, type EV_NO_ACTION.
    let log = matches!(bytes.get(4..8), Some([3, 0, 0, 0])).then(|| EventLog::parse(bytes).ok()).flatten()?;
    Some(event_log(&log))
}

fn certificate(c: &Certificate) -> Value {
    json!({
        "subject": c.subject(),
        "issuer": c.issuer(),
        "serial": hex::encode(c.serial()),
        "valid": valid(c.validity()),
        "authority": c.is_authority(),
        "key": c.key().map_or_else(|e| e.to_string(), |key| match key {
            cocoon_evidence::x509::PublicKey::Rsa(_) => {
                let bits = key.rsa_components().map_or(0, |(n, _)| n.len() * 8);
                format!("RSA, {bits} bits")
            }
            cocoon_evidence::x509::PublicKey::Ec(curve, _) => format!("{curve:?}"),
        }),
    })
}

fn revocations(crl: &Crl) -> Value {
    json!({
        "kind": "revocation list",
        "verified": false,
        "valid": valid(crl.validity()),
        "number": crl.number(),
        "revoked": crl.len(),
    })
}

fn valid(validity: Validity) -> String {
    format!("{} to {}", moments::shown(validity.not_before), moments::shown(validity.not_after))
}

/// The log by its strongest bank, and what it leads to.
fn event_log(log: &EventLog) -> Value {
    let bank = log.banks().iter().copied().max_by_key(|bank| bank.length()).unwrap_or(Algorithm::Sha384);
    let registers: Map<String, Value> =
        log.replay(bank).into_iter().map(|(i, value)| (i.to_string(), json!(hex::encode(value)))).collect();
    json!({
        "kind": "event log",
        "verified": false,
        "bank": bank.name(),
        "registers": registers,
        "events": log.claims(bank),
    })
}

/// JSON as indented lines; long values are cut.
pub fn tree(value: &Value, depth: usize) -> Vec<String> {
    const LONGEST: usize = 160;
    let pad = "  ".repeat(depth);
    let mut lines = Vec::new();
    let mut one = |name: &str, value: &Value| match value {
        Value::Object(_) | Value::Array(_) if depth < 12 && !is_empty(value) => {
            lines.push(format!("{pad}{name}:"));
            lines.extend(tree(value, depth + 1));
        }
        Value::String(text) => {
            let cut: String = text.chars().take(LONGEST).collect();
            let rest =
                if cut.len() < text.len() { format!("… ({} characters)", text.len()) } else { "".into() };
            lines.push(format!("{pad}{name}: {cut}{rest}"));
        }
        other => lines.push(format!("{pad}{name}: {other}")),
    };
    match value {
        Value::Object(map) => map.iter().for_each(|(name, value)| one(name, value)),
        Value::Array(items) => items.iter().enumerate().for_each(|(i, value)| one(&i.to_string(), value)),
        other => one("value", other),
    }
    lines
}

fn is_empty(value: &Value) -> bool {
    value.as_object().is_some_and(Map::is_empty) || value.as_array().is_some_and(Vec::is_empty)
}
