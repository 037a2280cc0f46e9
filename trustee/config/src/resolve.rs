//! From a document to the settings in force: known keys, right types, defaults, conditions.

use std::collections::BTreeMap;

use crate::effective::{Effective, Entry, Origin};
use crate::error::{Problems, shown};
use crate::key::Key;
use crate::kind::Set;
use crate::node::{Field, Node, Value, toml_value};
use crate::suggest::nearest;
use crate::table::{SECTIONS, key, keys, keys_of};

/// Most tables of a repeated section.
const MAX_TABLES: usize = 256;

/// A key that somebody gave.
pub(crate) struct Given {
    /// Concrete path.
    pub path: String,
    pub key: &'static Key,
    pub node: Node,
    pub origin: Origin,
}

/// The given keys of a document and how many tables its repeated sections have.
#[derive(Default)]
pub(crate) struct Flat {
    pub givens: Vec<Given>,
    pub counts: BTreeMap<String, usize>,
}

/// Reads one of Cocoon's own documents.
pub(crate) fn flatten(document: Vec<Field>, problems: &mut Problems) -> Flat {
    let mut flat = Flat::default();
    table(document, "", "", &mut flat, problems);
    flat
}

fn table(fields: Vec<Field>, pattern: &str, concrete: &str, flat: &mut Flat, problems: &mut Problems) {
    for field in fields {
        let line = field.line;
        let path = join(pattern, &field.name);
        let here = join(concrete, &field.name);
        if let Some(key) = key(&path) {
            let origin = Origin::File { line: line.or(field.node.line), source: None };
            flat.givens.push(Given { path: here, key, node: field.node, origin });
            continue;
        }
        let repeated = format!("{path}[]");
        let is_list = SECTIONS.iter().any(|s| s.path == repeated);
        let is_table = SECTIONS.iter().any(|s| s.path == path);
        match field.node.value {
            Value::Table(inner) if is_table => table(inner, &path, &here, flat, problems),
            Value::List(items) if is_list => list(items, &repeated, &here, line, flat, problems),
            other if is_table || is_list => {
                let header = if is_list { format!("[[{here}]]") } else { format!("[{here}]") };
                problems.add(
                    &here,
                    line,
                    format!("{} is the wrong type", other.kind()),
                    format!("write {header}"),
                );
            }
            _ => unknown(&field.name, pattern, &here, line, problems),
        }
    }
}

fn list(
    items: Vec<Node>,
    pattern: &str,
    concrete: &str,
    line: Option<u32>,
    flat: &mut Flat,
    problems: &mut Problems,
) {
    if items.len() > MAX_TABLES {
        problems.add(
            concrete,
            line,
            format!("{} tables", items.len()),
            format!("write at most {MAX_TABLES}"),
        );
        return;
    }
    flat.counts.insert(concrete.to_owned(), items.len());
    for (index, item) in items.into_iter().enumerate() {
        let here = format!("{concrete}[{index}]");
        match item.value {
            Value::Table(inner) => table(inner, pattern, &here, flat, problems),
            other => {
                let what = format!("{} is the wrong type", other.kind());
                problems.add(&here, item.line.or(line), what, "write a table");
            }
        }
    }
}

fn join(prefix: &str, name: &str) -> String {
    if prefix.is_empty() { name.to_owned() } else { format!("{prefix}.{name}") }
}

fn unknown(name: &str, pattern: &str, here: &str, line: Option<u32>, problems: &mut Problems) {
    if problems.full() {
        problems.add("", None, "", "");
        return;
    }
    let siblings = keys_of(pattern).map(Key::name).chain(SECTIONS.iter().filter_map(|section| {
        let plain = section.plain();
        let (parent, last) = plain.rsplit_once('.').unwrap_or(("", plain));
        (parent == pattern).then_some(last)
    }));
    let advice = if let Some(near) = nearest(name, siblings) {
        format!("did you mean `{near}`?")
    } else if let Some(elsewhere) = keys().find(|key| key.name() == name) {
        format!("it belongs to {}", crate::render::header(elsewhere.section()))
    } else {
        "remove it; nothing here has that name".to_owned()
    };
    problems.add(here, line, format!("unknown key \"{}\"", shown(name)), advice);
}

/// Checks the given keys, fills in the defaults. A later given of the same path replaces an earlier.
pub(crate) fn resolve(flat: Flat, problems: &mut Problems) -> Effective {
    let mut effective = Effective { entries: BTreeMap::new(), counts: flat.counts };
    for given in flat.givens {
        let outcome = given.key.kind.accept(&given.node, given.key.secret);
        let (value, wrong) = match outcome {
            Ok(value) => (Some(value), None),
            Err(why) => (None, Some(why)),
        };
        let entry = Entry { key: given.key, value, origin: given.origin, applies: true };
        effective.entries.insert(given.path.clone(), entry);
        if let Some(why) = wrong {
            let (name, line) = effective.place(&given.path);
            problems.add(&name, line, why, format!("write {}", given.key.kind.describe()));
        }
    }
    // First the keys without a condition, because the others' conditions ask for them.
    for conditional in [false, true] {
        for section in SECTIONS {
            for instance in effective.instances(section) {
                for key in keys_of(section.path).filter(|key| key.when.is_some() == conditional) {
                    complete(&mut effective, key, &instance, problems);
                }
            }
        }
    }
    effective
}

fn complete(effective: &mut Effective, key: &'static Key, instance: &str, problems: &mut Problems) {
    let path = format!("{instance}.{}", key.name());
    let condition = condition(effective, key, instance);
    if let Some(entry) = effective.entries.get_mut(&path) {
        if condition.is_no() {
            entry.applies = false;
            let (name, line) = effective.place(&path);
            let (other, _) = effective.place(condition.selector());
            let what = format!("it has no meaning with `{other}` = \"{}\"", condition.value());
            problems.add(&name, line, what, format!("remove it or change `{other}`"));
        }
        return;
    }
    let applies = !condition.is_no();
    let value = if applies { default_of(key) } else { None };
    if key.required && condition.is_yes() {
        let what = condition.why();
        problems.add(&path, None, what, format!("write {}", key.kind.describe()));
    }
    effective.entries.insert(path, Entry { key, value, origin: Origin::Default, applies });
}

/// The default of a key as a value.
pub(crate) fn default_of(key: &Key) -> Option<Set> {
    key.kind.accept(&toml_value(key.default)?, false).ok()
}

/// Whether a key has a meaning.
enum Condition {
    /// It has none to fulfil.
    Always,
    Holds {
        selector: String,
        value: String,
    },
    Fails {
        selector: String,
        value: String,
    },
    /// The key it asks for is wrong itself.
    Unknown,
}

impl Condition {
    fn is_no(&self) -> bool {
        matches!(self, Condition::Fails { .. })
    }

    fn is_yes(&self) -> bool {
        matches!(self, Condition::Always | Condition::Holds { .. })
    }

    fn selector(&self) -> &str {
        match self {
            Condition::Holds { selector, .. } | Condition::Fails { selector, .. } => selector,
            _ => "",
        }
    }

    fn value(&self) -> &str {
        match self {
            Condition::Holds { value, .. } | Condition::Fails { value, .. } => value,
            _ => "",
        }
    }

    fn why(&self) -> String {
        match self {
            Condition::Holds { selector, value } => {
                format!("missing, but needed with `{selector}` = \"{value}\"")
            }
            _ => "missing".to_owned(),
        }
    }
}

fn condition(effective: &Effective, key: &Key, instance: &str) -> Condition {
    let Some((selector, values)) = key.when else { return Condition::Always };
    let (section, name) = selector.rsplit_once('.').unwrap_or(("", selector));
    // A selector in a list of tables is the one in the same table.
    let selector = if section.ends_with("[]") { format!("{instance}.{name}") } else { selector.to_owned() };
    match effective.text(&selector) {
        None => Condition::Unknown,
        Some(value) if values.contains(&value) => Condition::Holds { value: value.to_owned(), selector },
        Some(value) => Condition::Fails { value: value.to_owned(), selector },
    }
}
