//! Text for people and JSON for programs, of evidence that may have been made to mislead them.

use std::io::{ErrorKind, Write};

use cocoon_stage::{Code, Failure};
use serde_json::Value;

/// Longest value that is shown whole to people.
const LONGEST: usize = 200;
/// Deepest nesting that is shown as lines.
const DEEPEST: usize = 12;

/// Writes to standard output. A reader that has seen enough and closed the pipe is no failure.
pub fn say(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::new(Code::HostUnsupported, format!("standard output: {e}")))
        }
        _ => Ok(()),
    }
}

/// Lines for people.
pub fn say_lines(lines: &[String]) -> Result<(), Failure> {
    say(&lines.iter().map(|line| plain(line) + "\n").collect::<String>())
}

/// A line of JSON that is ASCII throughout: a terminal that shows it obeys nothing in it.
pub fn say_json(value: &Value) -> Result<(), Failure> {
    let mut text = String::new();
    for c in value.to_string().chars() {
        // Only within JSON's strings can there be anything else.
        if c.is_ascii() && c != '\u{7f}' {
            text.push(c);
        } else {
            c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| text.push_str(&format!("\\u{unit:04x}")));
        }
    }
    text.push('\n');
    say(&text)
}

/// A line without anything that a terminal obeys or that changes the order of its characters; such characters are
/// shown as their numbers.
pub fn plain(line: &str) -> String {
    line.chars().map(|c| if is_plain(c) { c.to_string() } else { c.escape_default().to_string() }).collect()
}

fn is_plain(c: char) -> bool {
    // Letters that are written from right to left would take what stands beside them along.
    let right_to_left = matches!(c, '\u{590}'..='\u{8ff}' | '\u{fb1d}'..='\u{fdff}' | '\u{fe70}'..='\u{fefc}'
        | '\u{10800}'..='\u{10fff}' | '\u{1e800}'..='\u{1efff}');
    matches!(c, ' '..='~' | '✔' | '✘' | '–' | '…') || (c.is_alphanumeric() && !right_to_left)
}

/// JSON as indented lines; long texts are cut.
pub fn tree(value: &Value, depth: usize) -> Vec<String> {
    let pad = "  ".repeat(depth);
    let mut lines = Vec::new();
    let mut one = |name: &str, value: &Value| match value {
        Value::String(text) => lines.push(format!("{pad}{name}: {}", cut(text))),
        Value::Array(items) if items.iter().all(is_short) => {
            let items: Vec<String> = items.iter().map(word).collect();
            lines.push(format!(
                "{pad}{name}: {}",
                if items.is_empty() { "none".into() } else { items.join(" ") }
            ));
        }
        Value::Object(_) | Value::Array(_) if depth < DEEPEST => {
            lines.push(format!("{pad}{name}:"));
            lines.extend(tree(value, depth + 1));
        }
        other => lines.push(format!("{pad}{name}: {}", cut(&other.to_string()))),
    };
    match value {
        Value::Object(map) => map.iter().for_each(|(name, value)| one(&cut(name), value)),
        Value::Array(items) => items.iter().enumerate().for_each(|(i, value)| one(&i.to_string(), value)),
        other => one("value", other),
    }
    lines
}

/// A value that stands in a row with others.
fn is_short(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => true,
        Value::String(text) => text.len() <= 24 && !text.contains(' '),
        Value::Array(_) | Value::Object(_) => false,
    }
}

fn word(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        None => text.to_owned(),
        Some((at, _)) => {
            format!("{}… ({} characters)", text.get(..at).unwrap_or_default(), text.chars().count())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn terminals_are_told_nothing() {
        assert_eq!(
            plain("a\u{1b}[2J\u{9b}1m\r\u{202e}b\u{7f}é✔"),
            "a\\u{1b}[2J\\u{9b}1m\\r\\u{202e}b\\u{7f}é✔"
        );
        assert_eq!(plain("אב"), "\\u{5d0}\\u{5d1}");
        assert_eq!(plain("\u{200b}\u{e0041}"), "\\u{200b}\\u{e0041}");
    }

    #[test]
    fn trees_are_bounded_per_value() {
        let deep = (0..100).fold(json!("x".repeat(1000)), |inner, _| json!({ "a": inner }));
        let lines = tree(&deep, 0);
        assert_eq!(lines.len(), DEEPEST + 1);
        assert!(lines.iter().all(|line| line.len() < 300), "{lines:?}");
        let lines = tree(&json!({"none": [], "some": [1, "a", null], "texts": ["a b"]}), 1);
        assert_eq!(lines, ["  none: none", "  some: 1 a null", "  texts:", "    0: a b"]);
    }
}
