//! The part of YAML that registries.d files are written in: block mappings of plain or quoted scalars, comments. All else
//! (lists, flow style, anchors, tags, multi-line text, tabs, several documents) is refused by line.

const MAX_TEXT: usize = 64 * 1024;
/// Levels of mappings.
const MAX_DEPTH: usize = 3;

/// A key with its value.
pub(super) struct Entry {
    /// Its line, from 1 on.
    pub(super) line: usize,
    pub(super) key: String,
    pub(super) value: Value,
}

pub(super) enum Value {
    Scalar(String),
    Mapping(Vec<Entry>),
}

/// The line, and what is wrong with it.
type Refusal = (usize, &'static str);

struct Line<'a> {
    number: usize,
    indent: usize,
    text: &'a str,
}

/// The entries of the document's mapping.
pub(super) fn parse(text: &str) -> Result<Vec<Entry>, Refusal> {
    if text.len() > MAX_TEXT {
        return Err((1, "the document is longer than 64 KiB"));
    }
    let mut lines = Vec::new();
    for (i, line) in text.lines().enumerate() {
        let number = i + 1;
        let body = line.trim_start_matches(' ');
        if body.starts_with('\t') || body.chars().any(|c| c.is_control() && c != '\t') {
            return Err((number, "tabs before the text and control characters are not supported"));
        }
        let trimmed = body.trim_end();
        // A document may begin with a line of dashes, once.
        if trimmed.is_empty() || trimmed.starts_with('#') || (trimmed == "---" && lines.is_empty()) {
            continue;
        }
        lines.push(Line { number, indent: line.len() - body.len(), text: trimmed });
    }
    let mut rest = lines.as_slice();
    let indent = rest.first().map_or(0, |l| l.indent);
    let entries = mapping(&mut rest, indent, 1)?;
    match rest.first() {
        Some(line) => Err((line.number, "its indentation fits nothing above")),
        None => Ok(entries),
    }
}

fn mapping(rest: &mut &[Line<'_>], indent: usize, depth: usize) -> Result<Vec<Entry>, Refusal> {
    let mut entries: Vec<Entry> = Vec::new();
    while let Some((line, after)) = rest.split_first().filter(|(line, _)| line.indent == indent) {
        *rest = after;
        let (key, value) = entry(line.text).map_err(|why| (line.number, why))?;
        if entries.iter().any(|e| e.key == key) {
            return Err((line.number, "the key is given twice"));
        }
        let nested = rest.first().filter(|next| next.indent > indent);
        let value = match (value, nested) {
            (Some(_), Some(next)) => return Err((next.number, "its indentation fits nothing above")),
            (Some(text), None) => Value::Scalar(text),
            (None, None) => Value::Mapping(Vec::new()),
            (None, Some(next)) if depth >= MAX_DEPTH => return Err((next.number, "too many levels")),
            (None, Some(next)) => Value::Mapping(mapping(rest, next.indent, depth + 1)?),
        };
        entries.push(Entry { line: line.number, key, value });
    }
    Ok(entries)
}

/// `key:` or `key: value`.
fn entry(text: &str) -> Result<(String, Option<String>), &'static str> {
    let (key, rest) = scalar(text, true)?;
    let rest = rest.strip_prefix(':').ok_or("is not `key: value`")?;
    if key.is_empty() {
        return Err("the key is empty");
    }
    let value = rest.trim_start();
    if value.is_empty() || value.starts_with('#') {
        return Ok((key, None));
    }
    if value.len() == rest.len() {
        return Err("a space is missing after the colon");
    }
    let (value, rest) = scalar(value, false)?;
    let comment = rest.trim_start();
    if comment.is_empty() || (comment.starts_with('#') && comment.len() < rest.len()) {
        return Ok((key, Some(value)));
    }
    Err("something follows the value")
}

/// A quoted or plain scalar at the front, and what follows it.
fn scalar(text: &str, is_key: bool) -> Result<(String, &str), &'static str> {
    if let Some(quote) = text.chars().next().filter(|c| matches!(c, '\'' | '"')) {
        let inner = text.get(1..).unwrap_or_default();
        let (value, rest) = inner.split_once(quote).ok_or("a quote is not closed")?;
        if value.contains('\\') || rest.starts_with(quote) {
            return Err("escapes inside quotes are not supported");
        }
        return Ok((value.to_owned(), rest));
    }
    let special = |c: char| "-?:,[]{}#&*!|>%@`".contains(c);
    if text.chars().next().is_none_or(special) {
        return Err("lists, flow style, anchors, tags and block text are not supported");
    }
    let end = if is_key {
        // The colon that ends a key has a space or nothing after it; others are the key's (ports, tags).
        let colons = text.match_indices(':').map(|(i, _)| i);
        let mut ends =
            colons.filter(|i| text.get(i + 1..).is_none_or(|r| r.is_empty() || r.starts_with([' ', '\t'])));
        ends.next().ok_or("is not `key: value`")?
    } else {
        text.find(" #").unwrap_or(text.len())
    };
    let (value, rest) = text.split_at_checked(end).unwrap_or((text, ""));
    let value = value.trim_end();
    if value.contains(": ") || value.contains(" #") || (!is_key && value.ends_with(':')) {
        return Err("a mapping inside a line is not supported");
    }
    Ok((value.to_owned(), rest))
}
