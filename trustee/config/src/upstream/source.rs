//! Reading an upstream table key by key, so that what nobody asked for is found at the end.

use zeroize::Zeroizing;

use crate::effective::Origin;
use crate::error::{Note, Problems, shown};
use crate::node::{Field, Node, Value};
use crate::resolve::{Flat, Given};
use crate::suggest::nearest;
use crate::table;

use super::obsolete;

/// Where the translation goes.
pub(super) struct Target {
    pub flat: Flat,
    pub notes: Vec<Note>,
    pub problems: Problems,
}

impl Target {
    pub fn new(problems: Problems) -> Self {
        Target { flat: Flat::default(), notes: Vec::new(), problems }
    }

    /// Sets a key of the own form, at a concrete path, from an upstream place.
    pub fn put(&mut self, path: &str, node: Node, from: &Place) {
        let pattern: String = path
            .split('.')
            .map(|part| part.split_once('[').map_or_else(|| part.to_owned(), |(name, _)| format!("{name}[]")))
            .collect::<Vec<_>>()
            .join(".");
        let origin = Origin::File { line: from.line, source: Some(from.key.clone()) };
        match table::key(&pattern) {
            Some(key) => self.flat.givens.push(Given { path: path.to_owned(), key, node, origin }),
            None => self.problems.add(
                path,
                None,
                "the table of settings lacks it",
                "this is a defect of the program",
            ),
        }
    }

    /// [`Target::put`] with a text.
    pub fn put_text(&mut self, path: &str, text: impl Into<String>, from: &Place) {
        let value = Value::Text(Zeroizing::new(text.into()));
        self.put(path, Node { line: from.line, value }, from);
    }

    /// Opens a further table of a repeated section; gives its concrete path.
    pub fn another(&mut self, section: &str) -> String {
        let count = self.flat.counts.entry(section.to_owned()).or_default();
        let path = format!("{section}[{count}]");
        *count += 1;
        path
    }

    pub fn note(&mut self, place: &Place, text: impl Into<String>) {
        if self.notes.len() < 100 {
            self.notes.push(Note { key: shown(&place.key), line: place.line, text: text.into() });
        }
    }

    pub fn wrong(&mut self, place: &Place, what: impl Into<String>, advice: impl Into<String>) {
        self.problems.add(&place.key, place.line, what, advice);
    }

    /// Something that Cocoon does not have.
    pub fn unsupported(&mut self, place: &Place, what: &str, advice: &str) {
        self.wrong(place, format!("not supported: {what}"), advice);
    }
}

/// A key of the upstream file.
#[derive(Clone)]
pub(super) struct Place {
    pub key: String,
    pub line: Option<u32>,
}

/// An upstream table.
pub(super) struct Source<'a> {
    fields: &'a [Field],
    place: Place,
    asked: Vec<&'static str>,
}

impl<'a> Source<'a> {
    pub fn root(fields: &'a [Field]) -> Self {
        Source { fields, place: Place { key: String::new(), line: None }, asked: Vec::new() }
    }

    /// Where the table stands.
    pub fn here(&self) -> Place {
        self.place.clone()
    }

    /// Where a key stands or would stand.
    pub fn place(&self, name: &str) -> Place {
        let key =
            if self.place.key.is_empty() { name.to_owned() } else { format!("{}.{name}", self.place.key) };
        let line =
            self.fields.iter().find(|f| f.name == name).map_or(self.place.line, |f| f.line.or(f.node.line));
        Place { key, line }
    }

    /// The value of a key, which is thereby known.
    pub fn node(&mut self, name: &'static str) -> Option<&'a Node> {
        self.asked.push(name);
        self.fields.iter().find(|f| f.name == name).map(|f| &f.node)
    }

    /// Gives the key's value to a key of the own form, which checks it.
    pub fn pass(&mut self, name: &'static str, path: &str, out: &mut Target) {
        let place = self.place(name);
        if let Some(node) = self.node(name) {
            out.put(path, node.clone(), &place);
        }
    }

    /// [`Source::pass`] for keys where upstream takes an empty text as unset.
    pub fn pass_unless_empty(&mut self, name: &'static str, path: &str, out: &mut Target) {
        let place = self.place(name);
        match self.node(name) {
            Some(Node { value: Value::Text(text), .. }) if text.is_empty() => {}
            Some(node) => out.put(path, node.clone(), &place),
            None => {}
        }
    }

    /// [`Source::pass`] of an integer times a factor.
    pub fn pass_times(&mut self, name: &'static str, factor: i64, path: &str, out: &mut Target) {
        let place = self.place(name);
        match self.node(name) {
            Some(Node { line, value: Value::Int(number) }) => {
                let value =
                    number.checked_mul(factor).map_or(Value::Other("a too large integer"), Value::Int);
                out.put(path, Node { line: *line, value }, &place);
            }
            Some(node) => out.put(path, node.clone(), &place),
            None => {}
        }
    }

    pub fn table(&mut self, name: &'static str, out: &mut Target) -> Option<Source<'a>> {
        let place = self.place(name);
        match &self.node(name)?.value {
            Value::Table(fields) => Some(Source { fields, place, asked: Vec::new() }),
            other => {
                out.wrong(&place, format!("{} is the wrong type", other.kind()), "write a table");
                None
            }
        }
    }

    /// A list of tables.
    pub fn tables(&mut self, name: &'static str, out: &mut Target) -> Vec<Source<'a>> {
        let place = self.place(name);
        let items = match self.node(name).map(|node| &node.value) {
            None => return Vec::new(),
            Some(Value::List(items)) if items.len() <= 256 => items,
            Some(Value::List(items)) => {
                out.wrong(&place, format!("{} tables", items.len()), "write at most 256");
                return Vec::new();
            }
            Some(other) => {
                out.wrong(&place, format!("{} is the wrong type", other.kind()), "write a list of tables");
                return Vec::new();
            }
        };
        let mut tables = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let place = Place { key: format!("{}[{index}]", place.key), line: item.line.or(place.line) };
            match &item.value {
                Value::Table(fields) => tables.push(Source { fields, place, asked: Vec::new() }),
                other => out.wrong(&place, format!("{} is the wrong type", other.kind()), "write a table"),
            }
        }
        tables
    }

    pub fn text(&mut self, name: &'static str, out: &mut Target) -> Option<&'a str> {
        let place = self.place(name);
        match &self.node(name)?.value {
            Value::Text(text) => Some(text.as_str()),
            other => {
                out.wrong(&place, format!("{} is the wrong type", other.kind()), "write a text");
                None
            }
        }
    }

    pub fn flag(&mut self, name: &'static str, out: &mut Target) -> Option<bool> {
        let place = self.place(name);
        match &self.node(name)?.value {
            Value::Bool(value) => Some(*value),
            other => {
                out.wrong(&place, format!("{} is the wrong type", other.kind()), "write true or false");
                None
            }
        }
    }

    pub fn texts(&mut self, name: &'static str, out: &mut Target) -> Vec<&'a str> {
        let place = self.place(name);
        let Some(node) = self.node(name) else { return Vec::new() };
        let Value::List(items) = &node.value else {
            out.wrong(&place, format!("{} is the wrong type", node.value.kind()), "write a list of texts");
            return Vec::new();
        };
        let mut texts = Vec::new();
        for item in items {
            match &item.value {
                Value::Text(text) => texts.push(text.as_str()),
                other => out.wrong(&place, format!("it holds {}", other.kind()), "write a list of texts"),
            }
        }
        texts
    }

    /// A key that needs no translation: told in a note if it is there.
    pub fn skip(&mut self, name: &'static str, why: &str, out: &mut Target) {
        let place = self.place(name);
        if self.node(name).is_some() {
            out.note(&place, why);
        }
    }

    /// A key that may not be there.
    pub fn refuse(&mut self, name: &'static str, what: &str, advice: &str, out: &mut Target) {
        let place = self.place(name);
        if self.node(name).is_some() {
            out.unsupported(&place, what, advice);
        }
    }

    /// Whether the table has a key.
    pub fn has(&self, name: &str) -> bool {
        self.fields.iter().any(|f| f.name == name)
    }

    /// Every key that nobody asked for is a problem.
    pub fn finish(self, out: &mut Target) {
        for field in self.fields.iter().filter(|f| !self.asked.contains(&f.name.as_str())) {
            if out.problems.full() {
                out.problems.add("", None, "", "");
                continue;
            }
            let place = self.place(&field.name);
            if let Some((once, now)) = obsolete::look_up(&self.place.key, &field.name) {
                out.wrong(&place, format!("obsolete: {once}. Ignoring it would weaken the setup"), now);
                continue;
            }
            let advice = match nearest(&field.name, self.asked.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "remove it; upstream would ignore it silently".to_owned(),
            };
            out.wrong(&place, format!("unknown key \"{}\"", shown(&field.name)), advice);
        }
    }
}
