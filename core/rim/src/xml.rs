//! A small XML tree of the plain subset: elements, attributes, text.
//!
//! Document types, entities of one's own, CDATA and processing instructions are refused; comments are dropped, as
//! canonical XML drops them. Size, depth and counts are bounded, so nothing expands.

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

/// Deepest nesting of elements.
const MAX_DEPTH: usize = 32;
/// Most elements and pieces of text.
const MAX_NODES: usize = 20_000;
/// Most attributes of one element, with namespace declarations.
const MAX_ATTRIBUTES: usize = 128;
/// Most namespace declarations of a document.
const MAX_NAMESPACES: usize = 64;
/// Longest namespace.
const MAX_NAMESPACE: usize = 256;
/// The namespace of the prefix `xml`.
pub(crate) const XML: &str = "http://www.w3.org/XML/1998/namespace";

/// An element's place in the tree.
pub(crate) type Id = usize;

/// An attribute that is no namespace declaration.
#[derive(Debug)]
pub(crate) struct Attribute {
    /// As written, with prefix.
    pub qname: String,
    /// Namespace; empty without prefix.
    pub ns: String,
    pub local: String,
    /// With references resolved and line breaks turned to spaces.
    pub value: String,
}

#[derive(Debug)]
pub(crate) enum Node {
    Element(Id),
    Text(String),
}

#[derive(Debug)]
pub(crate) struct Element {
    pub qname: String,
    pub ns: String,
    pub local: String,
    /// Prefix (empty: the default) and URI of the declarations here.
    pub declared: Pairs,
    pub attributes: Vec<Attribute>,
    pub children: Vec<Node>,
    pub parent: Option<Id>,
}

impl Element {
    /// The value of an attribute.
    pub fn attribute(&self, ns: &str, local: &str) -> Option<&str> {
        self.attributes.iter().find(|a| a.ns == ns && a.local == local).map(|a| a.value.as_str())
    }

    pub fn is(&self, ns: &str, local: &str) -> bool {
        self.ns == ns && self.local == local
    }
}

/// A document; element 0 is its root.
#[derive(Debug)]
pub(crate) struct Tree(Vec<Element>);

impl Tree {
    /// Parses a document; the error says what is wrong or not in the subset.
    pub fn parse(bytes: &[u8]) -> Result<Tree, &'static str> {
        let text = std::str::from_utf8(bytes).map_err(|_| "not UTF-8")?;
        if text.bytes().any(|b| b < b' ' && !matches!(b, b'\t' | b'\n' | b'\r')) {
            return Err("a control character");
        }
        let mut builder = Builder::default();
        let mut reader = Reader::from_str(text);
        let mut started = false;
        loop {
            match reader.read_event().map_err(|_| "not well-formed XML")? {
                Event::Start(start) => builder.open(&start)?,
                Event::Empty(start) => {
                    builder.open(&start)?;
                    builder.close();
                }
                Event::End(_) => builder.close(),
                Event::Text(text) => {
                    builder.text(&text.into_inner().replace("\r\n", "\n").replace('\r', "\n"))?
                }
                Event::GeneralRef(name) => builder.text(&reference(&name)?.to_string())?,
                Event::Comment(_) => {}
                Event::Decl(declaration) => {
                    if started {
                        return Err("an XML declaration that is not at the beginning");
                    }
                    let encoding = declaration.encoding().transpose().map_err(|_| "not well-formed XML")?;
                    if encoding.is_some_and(|encoding| !encoding.eq_ignore_ascii_case("utf-8")) {
                        return Err("an encoding other than UTF-8");
                    }
                    if declaration.version().map_err(|_| "not well-formed XML")? != "1.0" {
                        return Err("a version other than XML 1.0");
                    }
                }
                Event::DocType(_) => return Err("a document type"),
                Event::CData(_) => return Err("a CDATA section"),
                Event::PI(_) => return Err("a processing instruction"),
                Event::Eof => break,
            }
            started = true;
        }
        if !builder.open.is_empty() || builder.tree.is_empty() {
            return Err("not well-formed XML");
        }
        Ok(Tree(builder.tree))
    }

    pub fn root(&self) -> Option<&Element> {
        self.0.first()
    }

    pub fn get(&self, id: Id) -> Option<&Element> {
        self.0.get(id)
    }

    /// All elements in document order.
    pub fn elements(&self) -> impl Iterator<Item = (Id, &Element)> {
        self.0.iter().enumerate()
    }

    /// The elements directly within one; the ids of its elements.
    pub fn children<'a>(&'a self, of: &'a Element) -> impl Iterator<Item = (Id, &'a Element)> {
        of.children.iter().filter_map(|node| match node {
            Node::Element(id) => Some((*id, self.get(*id)?)),
            Node::Text(_) => None,
        })
    }

    /// Whether one element lies within another.
    pub fn within(&self, mut id: Id, outer: Id) -> bool {
        while let Some(parent) = self.get(id).and_then(|e| e.parent) {
            if parent == outer {
                return true;
            }
            id = parent;
        }
        false
    }

    /// The text directly within an element.
    pub fn text(&self, of: &Element) -> String {
        let texts = of.children.iter().filter_map(|node| match node {
            Node::Text(text) => Some(text.as_str()),
            Node::Element(_) => None,
        });
        texts.collect()
    }
}

type Pairs = Vec<(String, String)>;

#[derive(Default)]
struct Builder {
    tree: Vec<Element>,
    open: Vec<Id>,
    nodes: usize,
    namespaces: usize,
}

impl Builder {
    fn count(&mut self) -> Result<(), &'static str> {
        self.nodes += 1;
        if self.nodes > MAX_NODES { Err("more than 20000 elements and texts") } else { Ok(()) }
    }

    fn open(&mut self, start: &BytesStart<'_>) -> Result<(), &'static str> {
        self.count()?;
        if self.open.len() >= MAX_DEPTH {
            return Err("elements nested deeper than 32");
        }
        if self.open.is_empty() && !self.tree.is_empty() {
            return Err("more than one root element");
        }
        let id = self.tree.len();
        let parent = self.open.last().copied();
        let (declared, plain) = self.attributes(start)?;
        let qname = name(start.name().0)?.to_owned();
        // In the tree before names are resolved, for its own declarations count.
        self.tree.push(Element {
            qname: qname.clone(),
            ns: String::new(),
            local: String::new(),
            declared,
            attributes: Vec::new(),
            children: Vec::new(),
            parent,
        });
        let (ns, local) = self.resolve(id, &qname, true)?;
        let mut attributes: Vec<Attribute> = Vec::with_capacity(plain.len());
        for (qname, value) in plain {
            let (ns, local) = self.resolve(id, &qname, false)?;
            if attributes.iter().any(|known| known.ns == ns && known.local == local) {
                return Err("an attribute given twice");
            }
            attributes.push(Attribute { qname, ns, local, value });
        }
        if let Some(element) = self.tree.get_mut(id) {
            (element.ns, element.local, element.attributes) = (ns, local, attributes);
        }
        if let Some(parent) = parent.and_then(|parent| self.tree.get_mut(parent)) {
            parent.children.push(Node::Element(id));
        }
        self.open.push(id);
        Ok(())
    }

    fn close(&mut self) {
        self.open.pop();
    }

    fn text(&mut self, text: &str) -> Result<(), &'static str> {
        let Some(element) = self.open.last().and_then(|id| self.tree.get_mut(*id)) else {
            return if text.trim_ascii().is_empty() { Ok(()) } else { Err("text outside the root element") };
        };
        if let Some(Node::Text(before)) = element.children.last_mut() {
            before.push_str(text);
            return Ok(());
        }
        element.children.push(Node::Text(text.to_owned()));
        self.count()
    }

    /// Namespace declarations (prefix, URI) and other attributes (name, value).
    fn attributes(&mut self, start: &BytesStart<'_>) -> Result<(Pairs, Pairs), &'static str> {
        let (mut declared, mut plain) = (Vec::new(), Vec::new());
        for (i, attribute) in start.attributes().with_checks(false).enumerate() {
            if i >= MAX_ATTRIBUTES {
                return Err("more than 128 attributes");
            }
            let attribute = attribute.map_err(|_| "not well-formed XML")?;
            let qname = name(attribute.key.0)?;
            let value = attribute_value(&attribute.value)?;
            let prefix = match qname.strip_prefix("xmlns") {
                Some("") => "",
                Some(rest) if rest.starts_with(':') => rest.trim_start_matches(':'),
                _ => {
                    plain.push((qname.to_owned(), value));
                    continue;
                }
            };
            self.namespaces += 1;
            if self.namespaces > MAX_NAMESPACES {
                return Err("more than 64 namespace declarations");
            }
            let reserved = matches!(prefix, "xml" | "xmlns") || value == XML;
            let unbinds = value.is_empty() && !prefix.is_empty();
            if reserved || unbinds || declared.iter().any(|(known, _)| known == prefix) {
                return Err("a namespace declaration that is not allowed");
            }
            // Every element and attribute of the namespace carries it, also in the canonical form.
            if value.len() > MAX_NAMESPACE {
                return Err("a namespace longer than 256 bytes");
            }
            // Canonical XML leaves relative ones undefined.
            if !value.is_empty() && !value.contains(':') {
                return Err("a relative namespace");
            }
            declared.push((prefix.to_owned(), value));
        }
        Ok((declared, plain))
    }

    /// Namespace and local part of a name at an element.
    fn resolve(&self, at: Id, qname: &str, default: bool) -> Result<(String, String), &'static str> {
        let (prefix, local) = qname.split_once(':').unwrap_or(("", qname));
        if prefix.is_empty() && !default {
            return Ok((String::new(), local.to_owned()));
        }
        if prefix == "xml" {
            return Ok((XML.to_owned(), local.to_owned()));
        }
        let mut next = Some(at);
        while let Some(element) = next.and_then(|id| self.tree.get(id)) {
            if let Some((_, uri)) = element.declared.iter().find(|(known, _)| known == prefix) {
                return Ok((uri.clone(), local.to_owned()));
            }
            next = element.parent;
        }
        if prefix.is_empty() {
            Ok((String::new(), local.to_owned()))
        } else {
            Err("a prefix that is not declared")
        }
    }
}

/// Names of ASCII letters, digits, `_`, `-`, `.` and at most one `:`, which is all that the formats here use.
fn name(qname: &str) -> Result<&str, &'static str> {
    let part = |part: &str| {
        part.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
    };
    let fine = qname.split_once(':').map_or(part(qname), |(prefix, local)| part(prefix) && part(local));
    if fine { Ok(qname) } else { Err("a name that is not plain") }
}

/// XML 1.0, section 3.3.3, for attributes without a declared type.
fn attribute_value(raw: &str) -> Result<String, &'static str> {
    let mut value = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(c) = rest.chars().next() {
        let mut taken = c.len_utf8();
        match c {
            '\r' if rest.starts_with("\r\n") => {
                taken = 2;
                value.push(' ');
            }
            '\r' | '\n' | '\t' => value.push(' '),
            '<' => return Err("not well-formed XML"),
            '&' => {
                let (named, _) = rest.split_once(';').ok_or("not well-formed XML")?;
                taken = named.len() + 1;
                value.push(reference(named.get(1..).unwrap_or_default())?);
            }
            c => value.push(c),
        }
        rest = rest.get(taken..).unwrap_or_default();
    }
    Ok(value)
}

/// The character of a predefined entity or a character reference, given without `&` and `;`.
fn reference(name: &str) -> Result<char, &'static str> {
    let code = match name {
        "amp" => return Ok('&'),
        "lt" => return Ok('<'),
        "gt" => return Ok('>'),
        "quot" => return Ok('"'),
        "apos" => return Ok('\''),
        _ => match name.strip_prefix('#') {
            Some(digits) if name.len() <= 10 && digits.bytes().all(|b| b.is_ascii_alphanumeric()) => {
                match digits.strip_prefix('x') {
                    Some(hex) => u32::from_str_radix(hex, 16),
                    None => digits.parse(),
                }
            }
            _ => return Err("an entity that is not one of XML's own"),
        },
    };
    let c = code.ok().and_then(char::from_u32).ok_or("not well-formed XML")?;
    let allowed = matches!(c, '\t' | '\n' | '\r' | ' '..='\u{fffd}' | '\u{10000}'..='\u{10ffff}');
    if allowed { Ok(c) } else { Err("a character that XML does not allow") }
}
