//! How far long copies are, on standard error.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::output::Output;

/// Between two lines about the same layer.
const PAUSE: Duration = Duration::from_secs(5);

/// One layer on its way.
pub struct Meter {
    output: Output,
    what: String,
    total: u64,
    done: AtomicU64,
    said: Mutex<Instant>,
}

fn mib(bytes: u64) -> String {
    // Tenths, rounded down.
    let tenths = bytes.saturating_mul(10) >> 20;
    format!("{}.{} MiB", tenths / 10, tenths % 10)
}

impl Meter {
    /// Begins with a line such as `encrypting layer sha256:… (3.1 MiB)`.
    pub fn new(output: Output, what: String, total: u64) -> Self {
        let meter = Meter { output, what, total, done: AtomicU64::new(0), said: Mutex::new(Instant::now()) };
        say(output, &format!("{} ({})", meter.what, mib(total)));
        meter
    }

    /// More bytes were read; says so from time to time.
    pub fn add(&self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let done = self.done.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        let Ok(mut said) = self.said.try_lock() else { return };
        if said.elapsed() >= PAUSE {
            *said = Instant::now();
            say(self.output, &format!("{}: {} of {}", self.what, mib(done), mib(self.total)));
        }
    }
}

/// Text of others, fit for a terminal: what would move its cursor, or turn or hide text, is escaped (`\u{1b}`).
pub fn plain(text: &str) -> String {
    let hides = |c: char| {
        let format = matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
        c.is_control() || format
    };
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        if hides(c) {
            out.extend(c.escape_unicode())
        } else {
            out.push(c)
        }
        out
    })
}

/// A line of progress.
pub fn say(output: Output, text: &str) {
    if output.json {
        output.line(&json!({"type": "progress", "stage": "image", "text": text}));
    } else if !output.quiet {
        eprintln!("[image   ] {}", plain(text));
    }
}

#[cfg(test)]
mod tests {
    use super::{mib, plain};

    #[test]
    fn hostile_text_is_shown_and_not_obeyed() {
        assert_eq!(plain("lin\u{1b}[2Jux/\u{202e}46"), "lin\\u{1b}[2Jux/\\u{202e}46");
        assert_eq!(plain("a\r\n\u{9b}m\u{7f}"), "a\\u{d}\\u{a}\\u{9b}m\\u{7f}");
        assert_eq!(plain("ä/日本"), "ä/日本");
    }

    #[test]
    fn sizes_are_for_people() {
        assert_eq!(mib(0), "0.0 MiB");
        assert_eq!(mib(3_300_000), "3.1 MiB");
        assert_eq!(mib(u64::MAX >> 4), "1099511627775.9 MiB");
    }
}
