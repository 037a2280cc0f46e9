//! Ids of requests: what a guest's operator reads to the owner, and the key of the explanation.

use std::sync::atomic::{AtomicU64, Ordering};

/// A new id: 24 hex digits; the first 12 are the time in milliseconds, so that ids sort by age, the rest random.
pub(crate) fn new(now_unix: u64) -> String {
    // The counter keeps ids of one process apart and in order even within one clock tick.
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let tick = COUNT.fetch_add(1, Ordering::Relaxed) % 1000;
    let mut random = [0u8; 6];
    // Ids need to be distinct, not secret: without randomness the time still tells them apart mostly.
    let _ = aws_lc_rs::rand::fill(&mut random);
    let millis = now_unix.saturating_mul(1000).saturating_add(tick) & 0xffff_ffff_ffff;
    format!("{millis:012x}{}", hex::encode(random))
}

/// Whether a text has the form of an id.
pub(crate) fn is_id(text: &str) -> bool {
    text.len() == 24 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}
