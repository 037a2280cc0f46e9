//! What the table looks like to people: settings in force, example file, reference page.

use std::fmt::Write;

use crate::Settings;
use crate::effective::{Entry, Origin};
use crate::key::Key;
use crate::kind::Set;
use crate::table::{SECTIONS, keys_of};

/// Widest line of the example's comments.
const WIDTH: usize = 100;

impl Settings {
    /// The settings in force as TOML: every key that means something, each with where it came from. Secrets are
    /// `"(hidden)"`; otherwise the text parses to the same settings. For an upstream file the origin names its key.
    pub fn show(&self) -> String {
        let mut out = String::new();
        for section in SECTIONS {
            for instance in self.effective.instances(section) {
                let mut lines = String::new();
                for key in keys_of(section.path) {
                    if let Some(entry) = self.effective.entries.get(&format!("{instance}.{}", key.name())) {
                        lines.push_str(&line(entry));
                    }
                }
                if lines.is_empty() {
                    continue;
                }
                let separator = if out.is_empty() { "" } else { "\n" };
                out.push_str(&format!("{separator}{}\n{lines}", header(section.path)));
            }
        }
        out
    }
}

/// The line that opens a section.
pub(crate) fn header(path: &str) -> String {
    path.strip_suffix("[]").map_or_else(|| format!("[{path}]"), |plain| format!("[[{plain}]]"))
}

fn line(entry: &Entry) -> String {
    let name = entry.key.name();
    match &entry.value {
        None if entry.applies => format!("# {name} is not set\n"),
        None => String::new(),
        Some(_) if entry.key.secret => format!("{name} = \"(hidden)\"  # {}\n", origin(&entry.origin)),
        Some(value) => format!("{name} = {}  # {}\n", toml(value), origin(&entry.origin)),
    }
}

fn origin(origin: &Origin) -> String {
    match origin {
        Origin::Default => "default".into(),
        Origin::Environment => "environment".into(),
        Origin::Flag => "flag".into(),
        Origin::Derived(why) => (*why).into(),
        Origin::File { line, source } => {
            let line = line.map(|line| format!(", line {line}")).unwrap_or_default();
            let source = source.as_ref().map(|source| format!(" ({source})")).unwrap_or_default();
            format!("file{line}{source}")
        }
    }
}

fn toml(value: &Set) -> String {
    match value {
        Set::Bool(b) => b.to_string(),
        Set::Int(number) => number.to_string(),
        Set::Ratio(number) => format!("{number:?}"),
        Set::Text(text) => quoted(text),
        Set::Texts(texts) => format!("[{}]", texts.iter().map(|t| quoted(t)).collect::<Vec<_>>().join(", ")),
    }
}

/// A TOML basic string. Settings hold no control characters.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// The text of [`crate::EXAMPLE`], made from the table.
pub fn render_example() -> String {
    let mut out = String::from(
        "# Trustee's settings. All keys with their defaults; keys without one are comments.\n\
         # An unknown key, a wrong type or a contradiction is an error.\n",
    );
    for section in SECTIONS {
        out.push('\n');
        comment(&mut out, section.doc);
        let off = section.repeated();
        out.push_str(&format!("{}{}\n", if off { "#" } else { "" }, header(section.path)));
        for key in keys_of(section.path) {
            out.push('\n');
            comment(&mut out, &about(key, true));
            // A default that holds under a condition only would contradict the other defaults.
            let (mark, value) = match (key.default, key.when) {
                ("", _) => ("#", key.sample),
                (default, Some(_)) => ("#", default),
                (default, None) if off => ("#", default),
                (default, None) => ("", default),
            };
            out.push_str(&format!("{mark}{} = {value}\n", key.name()));
        }
    }
    out
}

/// Doc, unit, condition and necessity of a key in one text.
fn about(key: &Key, unit: bool) -> String {
    let mut text = key.doc.to_owned();
    if unit && !key.unit.is_empty() {
        text.push_str(&format!(" Unit: {}.", key.unit));
    }
    if let Some((other, values)) = key.when {
        let values: Vec<String> = values.iter().map(|v| format!("\"{v}\"")).collect();
        text.push_str(&format!(" With `{}` = {}", other.replace("[]", ""), values.join(" or ")));
        text.push_str(if key.required { ", then needed." } else { "." });
    } else if key.required {
        text.push_str(" Needed.");
    }
    text
}

fn comment(out: &mut String, text: &str) {
    let mut width = 0;
    for word in text.split_whitespace() {
        if width == 0 || width + word.len() >= WIDTH {
            out.push_str(if width == 0 { "#" } else { "\n#" });
            width = 1;
        }
        out.push(' ');
        out.push_str(word);
        width += word.len() + 1;
    }
    out.push('\n');
}

/// The reference page `docs/trustee-settings.md`.
pub fn reference_markdown() -> String {
    let mut out = String::from(
        "# Trustee's settings\n\nRendered from the table in `trustee/config/src/table`. The file is TOML, at most 1 MiB. \
         An unknown key, a wrong type or a contradiction is an error. A change of a key marked R takes a restart; the \
         others are taken by a reload.\n",
    );
    for section in SECTIONS {
        let _ = write!(out, "\n## `{}`\n\n{}\n\n", header(section.path), section.doc);
        out.push_str("| key | value | default | | |\n|---|---|---|---|---|\n");
        for key in keys_of(section.path) {
            let default = if key.default.is_empty() { String::new() } else { format!("`{}`", key.default) };
            let unit = if key.unit.is_empty() { String::new() } else { format!(", {}", key.unit) };
            let _ = writeln!(
                out,
                "| `{}` | {}{unit} | {default} | {} | {} |",
                key.name(),
                key.kind.describe().replace('|', "\\|"),
                if key.restart { "R" } else { "" },
                about(key, false).replace('|', "\\|"),
            );
        }
    }
    out
}
