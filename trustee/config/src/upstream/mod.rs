//! Upstream's `kbs-config.toml` (or JSON) to the same [`Settings`].
//!
//! Upstream ignores keys it does not know, obsolete security keys among them. Here each key is translated, told in a
//! [`Note`], or an error.

mod admin;
mod obsolete;
mod plugins;
mod server;
mod service;
mod source;
mod storage;
mod verifiers;

use crate::error::{Note, Problem, Problems};
use crate::node::{Format, document};
use crate::parse::{Inputs, settle};
use crate::settings::Settings;

use source::{Source, Target};

/// Reads upstream's form. An `[cocoon] acknowledge = […]` table, which upstream ignores, may hold `"insecure_http"`
/// (plain HTTP on other than loopback addresses) and `"insecure_allow_all"` (`InsecureAllowAll`, on loopback only).
///
/// # Errors
/// All problems: unknown and obsolete keys, what is not supported, what would be unsafe.
pub fn from_upstream(text: &str, format: Format) -> Result<(Settings, Vec<Note>), Vec<Problem>> {
    from_upstream_with(text, format, &Inputs::default())
}

/// [`from_upstream`] with environment and flags (named as in Cocoon's own form).
///
/// # Errors
/// As [`from_upstream`].
pub fn from_upstream_with(
    text: &str,
    format: Format,
    inputs: &Inputs,
) -> Result<(Settings, Vec<Note>), Vec<Problem>> {
    let mut problems = Problems::default();
    let Some(fields) = document(text, format, &mut problems) else {
        return problems.finish().and_then(|()| Err(Vec::new()));
    };
    let mut out = Target::new(problems);
    let mut root = Source::root(&fields);
    let acknowledged = acknowledged(&mut root, &mut out);
    server::translate(&mut root, &mut out, &acknowledged);
    service::translate(&mut root, &mut out);
    admin::translate(&mut root, &mut out, &acknowledged);
    storage::translate(&mut root, &mut out, inputs);
    plugins::translate(&mut root, &mut out);
    root.finish(&mut out);
    let Target { flat, mut notes, problems } = out;
    let settings = settle(flat, inputs, problems)?;
    notes.sort_by_key(|note| note.line.unwrap_or(u32::MAX));
    Ok((settings, notes))
}

/// What the owner says to know.
#[derive(Default)]
struct Acknowledged {
    insecure_http: bool,
    insecure_allow_all: bool,
}

fn acknowledged(root: &mut Source<'_>, out: &mut Target) -> Acknowledged {
    let mut known = Acknowledged::default();
    let Some(mut table) = root.table("cocoon", out) else { return known };
    for (index, word) in table.texts("acknowledge", out).into_iter().enumerate() {
        match word {
            "insecure_http" => known.insecure_http = true,
            "insecure_allow_all" => known.insecure_allow_all = true,
            _ => {
                let key = format!("cocoon.acknowledge[{index}]");
                out.problems.add(
                    &key,
                    None,
                    "unknown word",
                    "write \"insecure_http\" or \"insecure_allow_all\"",
                );
            }
        }
    }
    table.finish(out);
    known
}
