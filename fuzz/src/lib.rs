//! What several fuzz targets share: a Trustee without disk or network, requests as text, and signed tokens.

pub mod backend;
pub mod request;
pub mod signed;
pub mod trustee;

use std::future::Future;
use std::sync::LazyLock;

use tokio::runtime::{Builder, Runtime};

/// The time in all targets.
pub const NOW: u64 = 1_800_000_000;

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_current_thread().enable_all().build().expect("a runtime"));

/// Runs a future to its end.
pub fn block_on<T>(work: impl Future<Output = T>) -> T {
    RUNTIME.block_on(work)
}

/// The input's parts between NUL bytes, at most `most`.
pub fn parts(bytes: &[u8], most: usize) -> Vec<&[u8]> {
    bytes.splitn(most, |byte| *byte == 0).collect()
}
