//! A parsed document that knows its lines: TOML or JSON, before any meaning is given to it.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use toml::Spanned;
use toml::de::{DeTable, DeValue};
use zeroize::Zeroizing;

use crate::error::Problems;

/// Largest settings text, in bytes.
pub const MAX_TEXT: usize = 1024 * 1024;

/// How a settings text is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// TOML 1.0.
    Toml,
    /// JSON, for upstream's files only.
    Json,
}

/// A value and where it stood.
#[derive(Clone)]
pub(crate) struct Node {
    pub line: Option<u32>,
    pub value: Value,
}

/// A key with its value, in the order of the file.
#[derive(Clone)]
pub(crate) struct Field {
    pub name: String,
    /// Line of the key.
    pub line: Option<u32>,
    pub node: Node,
}

#[derive(Clone)]
pub(crate) enum Value {
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(Zeroizing<String>),
    List(Vec<Node>),
    Table(Vec<Field>),
    /// Something no setting takes: a date, null, a number beyond 64 bits.
    Other(&'static str),
}

impl Value {
    /// What it is, for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Value::Bool(_) => "a boolean",
            Value::Int(_) => "an integer",
            Value::Float(_) => "a number with a fraction",
            Value::Text(_) => "a text",
            Value::List(_) => "a list",
            Value::Table(_) => "a table",
            Value::Other(what) => what,
        }
    }
}

/// The document's top table, or one problem that says where it breaks.
pub(crate) fn document(text: &str, format: Format, problems: &mut Problems) -> Option<Vec<Field>> {
    if text.len() > MAX_TEXT {
        problems.add(
            "",
            None,
            format!("the text has {} bytes", text.len()),
            format!("at most {MAX_TEXT} are read"),
        );
        return None;
    }
    match format {
        Format::Toml => toml(text, problems),
        Format::Json => json(text, problems),
    }
}

fn toml(text: &str, problems: &mut Problems) -> Option<Vec<Field>> {
    let lines = Lines::of(text);
    match DeTable::parse(text) {
        Ok(table) => Some(fields(table.get_ref(), &lines)),
        Err(error) => {
            // Only the message: the error's own display quotes the line, which may hold a secret.
            let line = error.span().map(|span| lines.at(span.start));
            let what = format!("not TOML: {}", error.message());
            problems.add("", line, what, "correct the syntax; YAML is not read");
            None
        }
    }
}

fn fields(table: &DeTable<'_>, lines: &Lines) -> Vec<Field> {
    let mut fields: Vec<Field> = table
        .iter()
        .map(|(key, value)| Field {
            name: key.get_ref().to_string(),
            line: Some(lines.at(key.span().start)),
            node: node(value, lines),
        })
        .collect();
    fields.sort_by_key(|f| f.line);
    fields
}

fn node(value: &Spanned<DeValue<'_>>, lines: &Lines) -> Node {
    let line = Some(lines.at(value.span().start));
    let value = match value.get_ref() {
        DeValue::Boolean(b) => Value::Bool(*b),
        DeValue::String(text) => Value::Text(Zeroizing::new(text.to_string())),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or(Value::Other("an integer beyond 64 bits"), Value::Int),
        DeValue::Float(number) => {
            number.as_str().parse().map_or(Value::Other("an unreadable number"), Value::Float)
        }
        DeValue::Datetime(_) => Value::Other("a date"),
        DeValue::Array(items) => Value::List(items.iter().map(|item| node(item, lines)).collect()),
        DeValue::Table(table) => Value::Table(fields(table, lines)),
    };
    Node { line, value }
}

/// A single TOML value without a line.
pub(crate) fn toml_value(text: &str) -> Option<Node> {
    let value = DeValue::parse(text).ok()?;
    let mut node = node(&value, &Lines::of(""));
    node.line = None;
    Some(node)
}

/// Where lines end.
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Self {
        Lines(text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at).collect())
    }

    /// The line, from 1, of the byte at `offset`.
    fn at(&self, offset: usize) -> u32 {
        u32::try_from(self.0.partition_point(|end| *end < offset)).unwrap_or(u32::MAX).saturating_add(1)
    }
}

fn json(text: &str, problems: &mut Problems) -> Option<Vec<Field>> {
    match serde_json::from_str::<Json>(text) {
        Ok(Json(Value::Table(fields))) => Some(fields),
        Ok(Json(other)) => {
            problems.add("", None, format!("the document is {}", other.kind()), "write a JSON object");
            None
        }
        Err(error) => {
            let line = u32::try_from(error.line()).ok();
            problems.add("", line, format!("not JSON: {error}"), "correct the syntax; YAML is not read");
            None
        }
    }
}

/// A JSON value that refuses repeated keys.
struct Json(Value);

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsonVisitor).map(Json)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Int(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(i64::try_from(value).map_or(Value::Other("an integer beyond 64 bits"), Value::Int))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(Zeroizing::new(value.to_owned())))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Other("null"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Json(value)) = items.next_element()? {
            list.push(Node { line: None, value });
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut names = std::collections::BTreeSet::new();
        let mut table = Vec::new();
        while let Some((name, Json(value))) = entries.next_entry::<String, Json>()? {
            if !names.insert(name.clone()) {
                return Err(serde::de::Error::custom(format!(
                    "the key {} is there twice",
                    crate::error::shown(&name)
                )));
            }
            table.push(Field { name, line: None, node: Node { line: None, value } });
        }
        Ok(Value::Table(table))
    }
}
