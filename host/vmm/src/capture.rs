//! Bounded capture of what a child says.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read, Write};
use std::sync::{Arc, Mutex, PoisonError};

/// The last bytes of a stream of any length; cheap to clone, all clones see the same.
#[derive(Clone)]
pub(crate) struct Tail {
    bytes: Arc<Mutex<VecDeque<u8>>>,
    limit: usize,
}

impl Tail {
    pub fn new(limit: usize) -> Self {
        Tail { bytes: Arc::default(), limit }
    }

    pub fn push(&self, chunk: &[u8]) {
        let mut bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        bytes.extend(chunk);
        let excess = bytes.len().saturating_sub(self.limit);
        bytes.drain(..excess);
    }

    /// The text so far: invalid UTF-8 replaced, control characters other than line ends removed, trimmed.
    pub fn text(&self) -> String {
        let bytes: Vec<u8> =
            self.bytes.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect();
        let text = String::from_utf8_lossy(&bytes);
        text.chars().filter(|c| *c == '\n' || !c.is_control()).collect::<String>().trim().to_owned()
    }

    /// Reads to the end; copies to `file` until `file_limit` bytes were written or writing fails.
    pub fn drain(&self, mut from: impl Read, mut file: Option<File>, mut file_limit: usize) {
        let mut chunk = [0; 4096];
        loop {
            let read = match from.read(&mut chunk) {
                Ok(0) => return,
                Ok(n) => chunk.get(..n).unwrap_or_default(),
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(_) => return,
            };
            self.push(read);
            if let Some(to) = &mut file {
                let part = read.get(..read.len().min(file_limit)).unwrap_or_default();
                file_limit -= part.len();
                // A full disk must not stop the reading, or the guest would block on its console.
                if to.write_all(part).is_err() || file_limit == 0 {
                    file = None;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_bytes_are_kept_and_terminal_escapes_are_not() {
        let tail = Tail::new(10);
        tail.push(b"0123456789");
        tail.push(b"ab\x1bc\x07\xff\n");
        assert_eq!(tail.text(), "789abc\u{fffd}");
        assert_eq!(tail.bytes.lock().unwrap().len(), 10);
    }

    #[test]
    fn the_copy_stops_at_its_limit_and_the_reading_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("console");
        let tail = Tail::new(100);
        tail.drain(&[b'x'; 10_000][..], Some(File::create(&path).unwrap()), 5000);
        assert_eq!(std::fs::read(path).unwrap().len(), 5000);
        assert_eq!(tail.text().len(), 100);
    }
}
