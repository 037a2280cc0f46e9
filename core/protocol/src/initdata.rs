//! Initdata: the measured configuration that a guest boots with.
//!
//! A TOML document `version = "0.1.0"`, `algorithm = "sha256|sha384|sha512"`, `[data]` from file name to content. Its
//! digest covers the raw bytes of the whole text, so the text is kept as it came and never re-written. The host passes
//! the document on and may pass anything: all sizes are bounded before memory is taken. It reaches the host as an
//! annotation, base64(gzip(text)), and the guest as a disk: `initdata`, the gzip data's length as u64 LE, the gzip
//! data, zeros up to a multiple of 512 bytes.

use std::collections::BTreeMap;
use std::io::{Read, Write};

use flate2::bufread::GzDecoder;
use flate2::{Compression, GzBuilder};
use serde::Deserialize;

use crate::{Error, HashAlgorithm, b64};

/// The longest document, in bytes of text.
pub const MAX_TEXT: usize = 256 * 1024;
/// The longest document in compressed form, in bytes.
pub const MAX_COMPRESSED: usize = 1024 * 1024;

const VERSION: &str = "0.1.0";
const MAGIC: &[u8; 8] = b"initdata";
const SECTOR: usize = 512;

/// A checked document together with its exact text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InitData {
    text: String,
    algorithm: HashAlgorithm,
    data: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    version: String,
    algorithm: String,
    data: BTreeMap<String, String>,
}

fn refuse(problem: impl Into<String>) -> Error {
    Error::InitData(problem.into())
}

impl InitData {
    /// Reads a document.
    ///
    /// # Errors
    /// [`Error::InitData`] for a text that is too long, is not TOML, or is not of the format: another version, an
    /// unknown algorithm, an unknown member, a value in `[data]` that is not a string.
    pub fn parse(text: &str) -> Result<Self, Error> {
        check_size(text.len())?;
        let document: Document = toml::from_str(text).map_err(|e| refuse(e.message()))?;
        if document.version != VERSION {
            let shown: String = document.version.chars().take(32).collect();
            return Err(refuse(format!("version {shown:?} is not {VERSION:?}")));
        }
        let algorithm = document.algorithm.parse().map_err(|e: Error| refuse(e.to_string()))?;
        Ok(InitData { text: text.to_owned(), algorithm, data: document.data })
    }

    /// Writes a document: the same files always give the same text. One that is longer than [`MAX_TEXT`] is refused
    /// when it is packed.
    pub fn new(algorithm: HashAlgorithm, data: BTreeMap<String, String>) -> Self {
        let mut text = format!("version = \"{VERSION}\"\nalgorithm = \"{algorithm}\"\n\n[data]\n");
        for (name, content) in &data {
            text.push_str(&basic_string(name));
            text.push_str(" = ");
            if fits_literal(content) {
                // The line break after the opening quotes is no part of the value.
                text.push_str("'''\n");
                text.push_str(content);
                text.push_str("'''");
            } else {
                text.push_str(&basic_string(content));
            }
            text.push('\n');
        }
        InitData { text, algorithm, data }
    }

    /// The whole document, byte-exact.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The digest of the text by the document's own algorithm; 32, 48 or 64 bytes.
    pub fn digest(&self) -> Vec<u8> {
        self.algorithm.digest(self.text.as_bytes())
    }

    /// The document's hash algorithm.
    pub fn algorithm(&self) -> HashAlgorithm {
        self.algorithm
    }

    /// Names of all files in `[data]`, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.data.keys().map(String::as_str)
    }

    /// The content of a file in `[data]`.
    pub fn file(&self, name: &str) -> Option<&str> {
        self.data.get(name).map(String::as_str)
    }

    /// Packs the document as an annotation's value: standard base64 of gzip.
    ///
    /// # Errors
    /// [`Error::InitData`] where the text is too long.
    pub fn to_annotation(&self) -> Result<String, Error> {
        Ok(b64::std_encode(&compress(&self.text)?))
    }

    /// Reads an annotation's value.
    ///
    /// # Errors
    /// As [`InitData::parse`], and where it is too long, not base64 or not gzip.
    pub fn from_annotation(value: &str) -> Result<Self, Error> {
        if value.len() > MAX_COMPRESSED.div_ceil(3) * 4 {
            return Err(refuse(format!("the annotation is {} bytes long: too large", value.len())));
        }
        let compressed = b64::std_decode(value).map_err(|_| refuse("the annotation is not base64"))?;
        InitData::parse(&decompress(&compressed)?)
    }

    /// Packs the document as a disk image.
    ///
    /// # Errors
    /// [`Error::InitData`] where the text is too long.
    pub fn to_disk(&self) -> Result<Vec<u8>, Error> {
        let compressed = compress(&self.text)?;
        let length = u64::try_from(compressed.len()).map_err(|_| refuse("too large"))?;
        let mut disk = MAGIC.to_vec();
        disk.extend_from_slice(&length.to_le_bytes());
        disk.extend_from_slice(&compressed);
        disk.resize(disk.len().next_multiple_of(SECTOR), 0);
        Ok(disk)
    }

    /// Reads a disk or disk image; no more of it than the document takes.
    ///
    /// # Errors
    /// As [`InitData::parse`], and where the disk has another magic, is cut short, too large or not gzip.
    pub fn from_disk(disk: impl Read) -> Result<Self, Error> {
        InitData::parse(&read_disk(disk)?)
    }
}

/// The digest as SEV-SNP's HOST_DATA field takes it: cut at 32 bytes, or zeros appended.
pub fn host_data(digest: &[u8]) -> [u8; 32] {
    let mut field = [0; 32];
    for (to, from) in field.iter_mut().zip(digest) {
        *to = *from;
    }
    field
}

fn check_size(size: usize) -> Result<(), Error> {
    if size > MAX_TEXT {
        return Err(refuse(format!("the text is longer than {MAX_TEXT} bytes")));
    }
    Ok(())
}

/// The text that a disk holds.
fn read_disk(mut disk: impl Read) -> Result<String, Error> {
    let unreadable = |e: std::io::Error| refuse(format!("the disk cannot be read: {e}"));
    let (mut magic, mut length) = ([0; 8], [0; 8]);
    disk.read_exact(&mut magic).map_err(unreadable)?;
    if &magic != MAGIC {
        return Err(refuse("the disk does not begin with \"initdata\""));
    }
    disk.read_exact(&mut length).map_err(unreadable)?;
    let length = u64::from_le_bytes(length);
    let length = usize::try_from(length)
        .ok()
        .filter(|n| *n <= MAX_COMPRESSED)
        .ok_or_else(|| refuse(format!("the disk says {length} bytes: too large")))?;
    let mut compressed = vec![0; length];
    disk.read_exact(&mut compressed).map_err(unreadable)?;
    decompress(&compressed)
}

/// Gzip without a time or a name: the same text always gives the same bytes.
fn compress(text: &str) -> Result<Vec<u8>, Error> {
    check_size(text.len())?;
    let mut encoder = GzBuilder::new().mtime(0).write(Vec::new(), Compression::best());
    encoder
        .write_all(text.as_bytes())
        .and_then(|()| encoder.finish())
        .map_err(|e| refuse(format!("cannot be compressed: {e}")))
}

fn decompress(compressed: &[u8]) -> Result<String, Error> {
    let mut decoder = GzDecoder::new(compressed);
    let mut text = Vec::new();
    // One byte more than allowed tells "too long" from "just fits"; a bomb is given up there.
    let limit = u64::try_from(MAX_TEXT).unwrap_or(u64::MAX).saturating_add(1);
    decoder
        .by_ref()
        .take(limit)
        .read_to_end(&mut text)
        .map_err(|e| refuse(format!("the gzip data is damaged: {e}")))?;
    check_size(text.len())?;
    if !decoder.into_inner().is_empty() {
        return Err(refuse("bytes follow the gzip data"));
    }
    String::from_utf8(text).map_err(|_| refuse("the text is not UTF-8"))
}

/// Whether TOML's multi-line literal string can hold the content as it is.
fn fits_literal(content: &str) -> bool {
    // A carriage return may be normalised by a reader; a quote at the end would touch the closing ones.
    let plain = |c: char| matches!(c, '\t' | '\n') || !c.is_ascii_control();
    content.chars().all(plain) && !content.contains("'''") && !content.ends_with('\'')
}

fn basic_string(content: &str) -> String {
    let mut out = String::from("\"");
    for c in content.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_ascii_control() => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
#[path = "initdata_tests.rs"]
mod tests;
