//! What tests of several kinds of evidence share.

use std::path::PathBuf;

/// A test vector, or `None` (and a note) where the vectors are not at hand.
pub(crate) fn vector(name: &str) -> Option<Vec<u8>> {
    let base = std::env::var_os("COCOON_VECTORS").map(PathBuf::from);
    let default = || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/vectors"));
    let path = base.unwrap_or_else(default).join(name);
    let bytes = std::fs::read(&path).ok();
    if bytes.is_none() {
        println!("skipped: no vector {}", path.display());
    }
    bytes
}
