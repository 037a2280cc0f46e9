//! The attestation agent's earlier log: text, one event a line, measured into one register.
//!
//! The first line is `INIT <hash>/<hex>` (also written `INIT/<hash> <hex>`): the hash, and the value of the register before
//! this line was measured. Every line, the first too, is extended by its hash.

use super::{Aael, Algorithm, Digest, MAX_EVENTS, MAX_LOG};
use crate::Error;

/// The format's name in errors.
const WHAT: &str = "AAEL text";

/// Such a log. Its words are worth nothing before [`TextLog::replay`] gives the value of a register that hardware vouches
/// for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextLog {
    initial: Digest,
    lines: Vec<String>,
}

impl TextLog {
    /// Reads the text; at most [`MAX_LOG`] bytes and [`MAX_EVENTS`] lines.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let malformed = |reason: &str| Error::Malformed { what: WHAT, reason: reason.to_owned() };
        if text.len() > MAX_LOG {
            return Err(malformed("too long"));
        }
        let text = text.strip_suffix('\n').unwrap_or(text);
        let lines: Vec<String> = text.split('\n').take(MAX_EVENTS + 1).map(str::to_owned).collect();
        if lines.len() > MAX_EVENTS {
            return Err(malformed("too many lines"));
        }
        let (first, events) = lines.split_first().ok_or_else(|| malformed("empty"))?;
        let initial = initial(first).ok_or_else(|| malformed("the first line is not `INIT <hash>/<hex>`"))?;
        if events.iter().any(|line| Aael::from_text(line).is_none()) {
            return Err(malformed("a line is not `<domain> <operation> <content>`"));
        }
        Ok(TextLog { initial, lines })
    }

    /// Its hash.
    pub fn bank(&self) -> Algorithm {
        self.initial.algorithm()
    }

    /// What the register held before the log, by the log's own word: compare it with what it must have been.
    pub fn initial(&self) -> &Digest {
        &self.initial
    }

    /// The events.
    pub fn events(&self) -> impl Iterator<Item = Aael<'_>> {
        self.lines.iter().skip(1).filter_map(|line| Aael::from_text(line))
    }

    /// What the register holds after the log.
    pub fn replay(&self) -> Digest {
        let bank = self.bank();
        self.lines.iter().fold(self.initial, |value, line| value.extended(&bank.digest(line.as_bytes())))
    }
}

fn initial(line: &str) -> Option<Digest> {
    let rest = line.strip_prefix("INIT")?;
    let (name, value) = match rest.strip_prefix(' ') {
        Some(rest) => rest.split_once('/')?,
        None => rest.strip_prefix('/')?.split_once(' ')?,
    };
    let bank = match name {
        "sha256" => Algorithm::Sha256,
        "sha384" => Algorithm::Sha384,
        "sha512" => Algorithm::Sha512,
        "sm3" => Algorithm::Sm3,
        _ => return None,
    };
    if value.len() != 2 * bank.length() || value.contains(|c: char| c.is_ascii_uppercase()) {
        return None;
    }
    Digest::new(bank, &hex::decode(value).ok()?)
}
