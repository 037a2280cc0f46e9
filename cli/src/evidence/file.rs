//! Files that anybody may have made: read up to a bound, whatever their size is said to be, and never waited for.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use cocoon_protocol::{b64, bounds};
use cocoon_stage::{Code, Failure};
use rustix::fs::{Mode, OFlags};
use serde_json::Value;

/// Longest file of evidence, or of what belongs to it.
pub const MAX_FILE: usize = 16 << 20;

/// The content of a file of at most [`MAX_FILE`] bytes, or of standard input where it is named `-`.
pub fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    read_up_to(file, MAX_FILE)
}

/// [`read`] with another bound.
pub fn read_up_to(file: &Path, limit: usize) -> Result<Vec<u8>, Failure> {
    let io = |e: std::io::Error| usage(file, &e.to_string());
    if file == Path::new("-") {
        return bounded(std::io::stdin().lock(), file, limit);
    }
    // To open a named pipe takes as long as nobody writes into it, unless one will not wait.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let opened: File = rustix::fs::open(file, flags, Mode::empty()).map_err(|e| io(e.into()))?.into();
    let kind = opened.metadata().map_err(io)?.file_type();
    if kind.is_dir() {
        return Err(usage(file, "it is a directory"));
    }
    if !kind.is_file() {
        return Err(usage(file, "it is no regular file; name - to read standard input"));
    }
    bounded(opened, file, limit)
}

fn bounded(from: impl Read, file: &Path, limit: usize) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    from.take(most).read_to_end(&mut bytes).map_err(|e| usage(file, &e.to_string()))?;
    match bytes.len() {
        0 => Err(usage(file, "it is empty")),
        length if length > limit => Err(usage(file, &format!("it is longer than {} MiB", limit >> 20))),
        _ => Ok(bytes),
    }
}

/// JSON of bounded size in memory; the reason where it is none.
pub fn json(bytes: &[u8]) -> Result<Value, String> {
    bounds::check("the file", bytes).map_err(|e| e.to_string())?;
    serde_json::from_slice(bytes).map_err(|e| format!("not JSON: {e}"))
}

/// What hex or base64 text stands for; all of them where it could be several.
pub fn decoded(text: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let Ok(text) = std::str::from_utf8(text) else { return Vec::new() };
    let text: String = text.split_ascii_whitespace().collect();
    let hex = hex::decode(&text).ok().map(|bytes| ("hex", bytes));
    let standard = b64::std_decode(&text).ok().map(|bytes| ("base64", bytes));
    let url = b64::url_decode(text.trim_end_matches('=')).ok().map(|bytes| ("base64url", bytes));
    hex.into_iter().chain(standard).chain(url).collect()
}

/// A command line that names a file which cannot be used.
pub fn usage(file: &Path, reason: &str) -> Failure {
    Failure::new(Code::UsageInvalid, format!("{}: {reason}", file.display()))
}
