//! The kinds of values and what each accepts.

use std::net::SocketAddr;

use url::{Host, Url};
use zeroize::Zeroizing;

use crate::error::shown;
use crate::node::{Node, Value};
use crate::regex_rule;

/// Longest text, in bytes.
const MAX_VALUE: usize = 4096;
/// Most items of a list.
const MAX_ITEMS: usize = 256;

/// What a key takes.
pub(crate) enum Kind {
    Bool,
    /// An integer within both ends.
    Int(u64, u64),
    /// 0 to 1.
    Ratio,
    /// Any text without control characters.
    Text,
    /// A path of a file or folder.
    Path,
    /// An URL with one of these schemes and no password.
    Url(&'static [&'static str]),
    /// An URL that is secret as a whole, with one of these schemes.
    SecretUrl(&'static [&'static str]),
    /// `https://…`, `file:///…` or a path.
    Location,
    /// IP address and port.
    Socket,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A JSON pointer (RFC 6901).
    Pointer,
    /// A name of letters, digits, `.`, `_`, `-`, at most 64.
    Name,
    /// 64 hex digits.
    Sha256,
    /// A regular expression over request paths, anchored at both ends.
    PathRegex,
    /// Several of a kind, at least so many.
    List(&'static Kind, usize),
}

/// A value that its kind accepts.
#[derive(Clone, PartialEq)]
pub(crate) enum Set {
    Bool(bool),
    Int(u64),
    Ratio(f64),
    Text(Zeroizing<String>),
    Texts(Vec<Zeroizing<String>>),
}

impl Kind {
    /// In words, for messages and the reference page.
    pub fn describe(&self) -> String {
        match self {
            Kind::Bool => "true or false".into(),
            Kind::Int(min, max) => format!("integer, {min} to {max}"),
            Kind::Ratio => "number, 0 to 1".into(),
            Kind::Text => "text".into(),
            Kind::Path => "path".into(),
            Kind::Url(schemes) | Kind::SecretUrl(schemes) => format!("{} URL", schemes.join(" or ")),
            Kind::Location => "https or file URL, or path".into(),
            Kind::Socket => "IP address and port".into(),
            Kind::Choice(words) => words.iter().map(|w| format!("\"{w}\"")).collect::<Vec<_>>().join(" or "),
            Kind::Pointer => "JSON pointer".into(),
            Kind::Name => "name of letters, digits, `.`, `_`, `-`".into(),
            Kind::Sha256 => "SHA-256 in hex".into(),
            Kind::PathRegex => "regular expression over paths, `^/…$`".into(),
            Kind::List(item, 0) => format!("list of: {}", item.describe()),
            Kind::List(item, least) => format!("list of at least {least}: {}", item.describe()),
        }
    }

    /// The value, or what is wrong with it. The message holds the value unless `secret`.
    pub fn accept(&self, node: &Node, secret: bool) -> Result<Set, String> {
        match (self, &node.value) {
            (Kind::Bool, Value::Bool(b)) => Ok(Set::Bool(*b)),
            (Kind::Int(min, max), Value::Int(number)) => match u64::try_from(*number) {
                Ok(n) if (*min..=*max).contains(&n) => Ok(Set::Int(n)),
                _ => Err(format!("{number} is out of range")),
            },
            (Kind::Ratio, Value::Float(number)) if (0.0..=1.0).contains(number) => Ok(Set::Ratio(*number)),
            (Kind::Ratio, Value::Int(0)) => Ok(Set::Ratio(0.0)),
            (Kind::Ratio, Value::Int(1)) => Ok(Set::Ratio(1.0)),
            (Kind::Ratio, Value::Float(_) | Value::Int(_)) => Err("the number is out of range".into()),
            (Kind::List(item, least), Value::List(nodes)) => list(item, *least, nodes, secret),
            (Kind::List(..) | Kind::Bool | Kind::Int(..) | Kind::Ratio, other) => {
                Err(format!("{} is the wrong type", other.kind()))
            }
            (kind, Value::Text(text)) => match kind.accept_text(text) {
                Ok(()) => Ok(Set::Text(text.clone())),
                Err(why) if secret => Err(why.into()),
                Err(why) => Err(format!("\"{}\": {why}", shown(text))),
            },
            (_, other) => Err(format!("{} is the wrong type", other.kind())),
        }
    }

    fn accept_text(&self, text: &str) -> Result<(), &'static str> {
        if text.is_empty() {
            return Err("it is empty");
        }
        if text.len() > MAX_VALUE {
            return Err("it is longer than 4096 bytes");
        }
        if text.chars().any(char::is_control) {
            return Err("it holds control characters");
        }
        let good = match self {
            Kind::Url(schemes) => return url(text, schemes, false),
            Kind::SecretUrl(schemes) => return url(text, schemes, true),
            Kind::Location => return location(text),
            Kind::PathRegex => return regex_rule::check(text),
            Kind::Socket => text.parse::<SocketAddr>().is_ok(),
            Kind::Choice(words) => words.contains(&text),
            Kind::Pointer => pointer(text),
            Kind::Name => {
                text.len() <= 64
                    && text.starts_with(|c: char| c.is_ascii_alphanumeric())
                    && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
            }
            Kind::Sha256 => text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit()),
            Kind::Text | Kind::Path | Kind::Bool | Kind::Int(..) | Kind::Ratio | Kind::List(..) => true,
        };
        if good { Ok(()) } else { Err("it is not one of the values allowed here") }
    }
}

fn list(item: &Kind, least: usize, nodes: &[Node], secret: bool) -> Result<Set, String> {
    if nodes.len() < least {
        return Err(format!("the list has {} items", nodes.len()));
    }
    if nodes.len() > MAX_ITEMS {
        return Err(format!("the list has more than {MAX_ITEMS} items"));
    }
    let mut texts = Vec::with_capacity(nodes.len());
    for (index, node) in nodes.iter().enumerate() {
        match item.accept(node, secret) {
            Ok(Set::Text(text)) if !texts.contains(&text) || matches!(item, Kind::Text) => texts.push(text),
            Ok(Set::Text(_)) => return Err(format!("item {} is there twice", index + 1)),
            Ok(_) => return Err(format!("item {} is the wrong type", index + 1)),
            Err(why) => return Err(format!("item {}: {why}", index + 1)),
        }
    }
    Ok(Set::Texts(texts))
}

fn url(text: &str, schemes: &[&str], secret: bool) -> Result<(), &'static str> {
    let url = Url::parse(text).map_err(|_| "it is not an URL")?;
    if !schemes.contains(&url.scheme()) {
        return Err("its scheme is not one of those allowed here");
    }
    if !secret && (!url.username().is_empty() || url.password().is_some()) {
        return Err("it holds a user name or password, which does not belong into an URL here");
    }
    if url.host().is_none() && !secret {
        return Err("it names no host");
    }
    Ok(())
}

fn location(text: &str) -> Result<(), &'static str> {
    match text.split_once("://") {
        Some(("https", _)) => url(text, &["https"], false),
        Some(("file", path)) if path.starts_with('/') => Ok(()),
        Some(("file", _)) => Err("a file URL is `file:///` and an absolute path"),
        Some(_) => Err("only https and file URLs are read, because keys from elsewhere cannot be trusted"),
        None => Ok(()),
    }
}

fn pointer(text: &str) -> bool {
    text.starts_with('/')
        && text.split('~').skip(1).all(|after| after.starts_with('0') || after.starts_with('1'))
}

/// Whether what is sent to this URL stays on this machine.
pub(crate) fn stays_here(text: &str) -> bool {
    match Url::parse(text).as_ref().map(Url::host) {
        Ok(Some(Host::Ipv4(ip))) => ip.is_loopback(),
        Ok(Some(Host::Ipv6(ip))) => ip.is_loopback(),
        Ok(Some(Host::Domain(name))) => name == "localhost",
        _ => false,
    }
}
