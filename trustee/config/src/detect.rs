//! Which of the two forms a file is.

use std::path::Path;

use crate::error::{Note, Problem, Problems};
use crate::node::{Field, Format, Value, document};
use crate::parse::{Inputs, parse_with};
use crate::settings::Settings;
use crate::suggest::nearest;
use crate::table::SECTIONS;
use crate::upstream::from_upstream_with;

/// Tables that only upstream has.
const UPSTREAM: &[&str] = &[
    "http_server",
    "attestation_token",
    "attestation_service",
    "storage_backend",
    "policy_engine",
    "attestation_token_config",
    "grpc_config",
    "as_config",
    "repository_config",
    "intel_trust_authority_config",
];

/// A form of settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Cocoon's own; TOML.
    Cocoon,
    /// Upstream's `kbs-config`, TOML or JSON.
    Upstream(Format),
}

impl Format {
    /// The format by the ending of a file's name: `.json` is JSON, anything else but YAML is TOML.
    ///
    /// # Errors
    /// For `.yaml` and `.yml`.
    pub fn of(path: &Path) -> Result<Self, Problem> {
        let ending = path.extension().map(|e| e.to_string_lossy().to_ascii_lowercase());
        match ending.as_deref() {
            Some("json") => Ok(Format::Json),
            Some("yaml" | "yml") => Err(Problem {
                key: String::new(),
                line: None,
                what: "YAML is not read".into(),
                advice: "write the settings as TOML, or upstream's as JSON".into(),
            }),
            _ => Ok(Format::Toml),
        }
    }
}

/// Tells the form of a text. JSON is upstream's. An empty text is Cocoon's.
///
/// # Errors
/// If the text is neither TOML nor JSON.
pub fn detect(text: &str) -> Result<Dialect, Vec<Problem>> {
    let format = if text.trim_start().starts_with('{') { Format::Json } else { Format::Toml };
    let mut problems = Problems::default();
    let Some(fields) = document(text, format, &mut problems) else {
        return problems.finish().and_then(|()| Err(Vec::new()));
    };
    let upstream = format == Format::Json || is_upstream(&fields);
    Ok(if upstream { Dialect::Upstream(format) } else { Dialect::Cocoon })
}

/// By its tables: a file is upstream's if it has more of upstream's than of Cocoon's; or keys only upstream has.
fn is_upstream(fields: &[Field]) -> bool {
    let own: Vec<&str> = SECTIONS
        .iter()
        .map(|s| s.plain())
        .filter(|p| !p.contains('.') && !["admin", "plugins"].contains(p))
        .collect();
    let (mut theirs, mut ours) = (0usize, 0usize);
    for field in fields {
        let name = field.name.as_str();
        let shared = match (&field.node.value, name) {
            (Value::Table(inner), "admin") => has(inner, "authorization_mode") || has(inner, "type"),
            (Value::List(items), "plugins") => items.iter().any(|item| {
                matches!(&item.value, Value::Table(inner) if has(inner, "name") && !has(inner, "kind"))
            }),
            _ => nearest(name, UPSTREAM.iter().copied()).is_some(),
        };
        theirs += usize::from(shared);
        ours += usize::from(own.contains(&name));
    }
    theirs > ours
}

fn has(fields: &[Field], name: &str) -> bool {
    fields.iter().any(|f| f.name == name)
}

/// Reads a file's text in whichever form it is. `path` is only looked at for its ending. The notes are for the person
/// who brings an upstream file.
///
/// # Errors
/// All problems.
pub fn read(text: &str, path: &Path, inputs: &Inputs) -> Result<(Settings, Vec<Note>), Vec<Problem>> {
    Format::of(path).map_err(|problem| vec![problem])?;
    match detect(text)? {
        Dialect::Cocoon => parse_with(text, inputs).map(|settings| (settings, Vec::new())),
        Dialect::Upstream(format) => from_upstream_with(text, format, inputs),
    }
}
