//! From text to [`Settings`].

use crate::build::build;
use crate::effective::Origin;
use crate::error::{Problem, Problems};
use crate::kind::Kind;
use crate::node::{Format, Node, Value, document, toml_value};
use crate::resolve::{Flat, Given, flatten, resolve};
use crate::rules;
use crate::secret::Secret;
use crate::settings::Settings;
use crate::table;

use zeroize::Zeroizing;

/// What besides the file decides the settings. The caller reads it.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    /// The environment's `POSTGRES_URL`; used with `state.kind = "postgres"` only.
    pub postgres_url: Option<Secret>,
    /// Command line flags: key path (e.g. `server.listen`; no lists of tables) and value. They replace the file's. A
    /// value for a list is one item, or a TOML list in brackets.
    pub flags: Vec<(String, String)>,
}

/// Reads Cocoon's own form (TOML). An empty text gives the defaults.
///
/// # Errors
/// All problems, in the order of the file.
pub fn parse(text: &str) -> Result<Settings, Vec<Problem>> {
    parse_with(text, &Inputs::default())
}

/// [`parse`] with environment and flags.
///
/// # Errors
/// All problems, in the order of the file.
pub fn parse_with(text: &str, inputs: &Inputs) -> Result<Settings, Vec<Problem>> {
    let mut problems = Problems::default();
    let Some(fields) = document(text, Format::Toml, &mut problems) else {
        return problems.finish().and_then(|()| Err(Vec::new()));
    };
    let flat = flatten(fields, &mut problems);
    settle(flat, inputs, problems)
}

/// The common end of both forms.
pub(crate) fn settle(
    mut flat: Flat,
    inputs: &Inputs,
    mut problems: Problems,
) -> Result<Settings, Vec<Problem>> {
    flags(&mut flat, inputs, &mut problems);
    let mut effective = resolve(flat, &mut problems);
    rules::check(&mut effective, inputs, &mut problems);
    problems.finish()?;
    build(effective)
}

fn flags(flat: &mut Flat, inputs: &Inputs, problems: &mut Problems) {
    for (path, text) in &inputs.flags {
        match table::key(path).filter(|key| !key.path.contains("[]")) {
            Some(key) => {
                let node = flag_node(&key.kind, text);
                flat.givens.push(Given { path: path.clone(), key, node, origin: Origin::Flag });
            }
            None => problems.add(path, None, "no key for a flag", "see the reference page for the keys"),
        }
    }
}

/// A flag's text as the value its key takes; what does not fit stays text and is refused later.
fn flag_node(kind: &Kind, text: &str) -> Node {
    let plain = || Node { line: None, value: Value::Text(Zeroizing::new(text.to_owned())) };
    match kind {
        Kind::Bool | Kind::Int(..) | Kind::Ratio => toml_value(text).unwrap_or_else(plain),
        Kind::List(..) if text.starts_with('[') && text.ends_with(']') => {
            toml_value(text).unwrap_or_else(plain)
        }
        Kind::List(..) => Node { line: None, value: Value::List(vec![plain()]) },
        _ => plain(),
    }
}
