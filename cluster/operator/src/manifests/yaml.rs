//! JSON values as YAML for people: blocks, two spaces, text in quotes wherever YAML could take it for something else.

use serde_json::Value;

/// A text that begins so stands in the YAML as it is, without quotes: a template's number or block.
pub const RAW: char = '\u{1}';

/// A document without the line `---`.
pub fn document(value: &Value) -> String {
    let mut out = String::new();
    block(value, 0, &mut out);
    out
}

fn block(value: &Value, depth: usize, out: &mut String) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                out.push_str(&format!("{indent}{}:", text(key)));
                after_key(value, depth, out);
            }
        }
        Value::Array(list) => {
            for value in list {
                let mut inner = String::new();
                match value {
                    Value::Object(map) if !map.is_empty() => block(value, depth + 1, &mut inner),
                    other => inner = format!("{indent}  {}\n", inline(other)),
                }
                let rest = inner.get(indent.len() + 2..).unwrap_or_default();
                out.push_str(&format!("{indent}- {rest}"));
            }
        }
        other => out.push_str(&format!("{indent}{}\n", inline(other))),
    }
}

fn after_key(value: &Value, depth: usize, out: &mut String) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            out.push('\n');
            block(value, depth + 1, out);
        }
        Value::Array(list) if !list.is_empty() => {
            out.push('\n');
            block(value, depth, out);
        }
        other => out.push_str(&format!(" {}\n", inline(other))),
    }
}

fn inline(value: &Value) -> String {
    match value {
        Value::String(raw) if raw.starts_with(RAW) => raw.trim_start_matches(RAW).to_owned(),
        Value::String(plain) => text(plain),
        other => other.to_string(),
    }
}

/// Plain where it cannot be anything but text, else in JSON's quotes, which YAML takes.
fn text(text: &str) -> String {
    let letters = text.starts_with(|c: char| c.is_ascii_alphabetic());
    let plain = text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '/' | '-' | '_'));
    let words = ["true", "false", "yes", "no", "on", "off", "null", "y", "n"];
    if letters && plain && !words.contains(&text.to_ascii_lowercase().as_str()) {
        return text.to_owned();
    }
    Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_yaml_could_mistake_is_quoted() {
        let value = json!({
            "kind": "List", "no": "yes", "version": "1.0", "empty": {}, "none": [], "n": 3, "t": true,
            "items": [{"name": "a", "ports": [{"x": 1}]}, "b: c", {}, ["d"]], "raw": "\u{1}{{ .Values.n }}",
            "quoted": "{{ .Values.image }}", "odd key": "line\nbreak \"q\"",
        });
        let expected = "kind: List\n\"no\": \"yes\"\nversion: \"1.0\"\nempty: {}\nnone: []\n\"n\": 3\nt: true\nitems:\n\
            - name: a\n  ports:\n  - x: 1\n- \"b: c\"\n- {}\n- [\"d\"]\nraw: {{ .Values.n }}\n\
            quoted: \"{{ .Values.image }}\"\n\"odd key\": \"line\\nbreak \\\"q\\\"\"\n";
        assert_eq!(document(&value), expected);
    }
}
