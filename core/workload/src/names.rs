//! By which name and which mark a workload's plan is told from others.

use serde_json::Value;

use crate::manifest::Document;

/// The plan's name: the object's, and its namespace.
pub fn plan_name(document: &Document, namespace: &str) -> String {
    let own = match document.name() {
        "" => document.value.pointer("/metadata/generateName").and_then(Value::as_str).unwrap_or("pod"),
        name => name,
    };
    let whole = format!("{}.{namespace}", own.trim_end_matches('-')).to_ascii_lowercase();
    let plain = |c: char| if c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' { c } else { '.' };
    let name: String = whole.chars().map(plain).collect();
    let name = name.trim_matches(['.', '-']);
    if name.len() <= 63 {
        return if name.is_empty() { "pod".into() } else { name.to_owned() };
    }
    // Two long names that begin alike stay two.
    let tail = hash(name.as_bytes()).chars().take(8).collect::<String>();
    let head: String = name.chars().take(54).collect();
    format!("{}-{tail}", head.trim_end_matches(['.', '-']))
}

/// Two workloads have plans, and so secrets, of their own; the same one always has the same.
pub(crate) fn instance(document: &Document, namespace: &str) -> String {
    let text = format!("{}\n{namespace}\n{}", document.kind(), document.name());
    hash(text.as_bytes()).chars().take(32).collect()
}

fn hash(bytes: &[u8]) -> String {
    hex::encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref())
}
