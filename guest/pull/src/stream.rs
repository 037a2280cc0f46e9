//! Bytes between threads: bounded channels whose end is told apart from their breaking.

use std::io::{self, BufRead, Read};
use std::sync::mpsc as sync;

use bytes::{Buf, Bytes};
use tokio::sync::mpsc;

/// Pieces are at most this long …
pub(crate) const PIECE: usize = 64 * 1024;
/// … and at most so many wait in one channel: 2 MiB.
pub(crate) const PIECES: usize = 32;

/// One step of a stream.
pub(crate) enum Step<T> {
    /// More bytes.
    Data(T),
    /// All was sent.
    End,
    /// It failed.
    Failed(io::Error),
}

fn interrupted() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the pull was interrupted")
}

/// Reads what a download task sends.
pub(crate) struct CompressedReader {
    receiver: mpsc::Receiver<Step<Bytes>>,
    current: Bytes,
    ended: bool,
}

impl CompressedReader {
    pub(crate) fn new(receiver: mpsc::Receiver<Step<Bytes>>) -> Self {
        CompressedReader { receiver, current: Bytes::new(), ended: false }
    }
}

impl Read for CompressedReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() && !self.ended {
            match self.receiver.blocking_recv() {
                Some(Step::Data(bytes)) => self.current = bytes,
                Some(Step::End) => self.ended = true,
                Some(Step::Failed(e)) => return Err(e),
                None => return Err(interrupted()),
            }
        }
        let n = self.current.len().min(buf.len());
        self.current.copy_to_slice(buf.get_mut(..n).unwrap_or_default());
        Ok(n)
    }
}

/// Sends what a decoder reads. Buffers come back from the reader and are used again.
pub(crate) fn pump(mut from: impl Read, to: &mpsc::Sender<Step<Vec<u8>>>, used: &sync::Receiver<Vec<u8>>) {
    loop {
        let mut buffer = used.try_recv().unwrap_or_default();
        buffer.resize(PIECE, 0);
        let mut have = 0;
        let step = loop {
            match from.read(buffer.get_mut(have..).unwrap_or_default()) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => break Step::Failed(e),
                // Also at the end of the buffer, which is then full.
                Ok(0) if have == 0 => break Step::End,
                Ok(0) => {
                    buffer.truncate(have);
                    break Step::Data(buffer);
                }
                Ok(n) => have += n,
            }
        };
        let last = !matches!(step, Step::Data(_));
        if to.blocking_send(step).is_err() || last {
            return;
        }
    }
}

/// Reads what [`pump`] sends, without copying.
pub(crate) struct PlainReader {
    receiver: mpsc::Receiver<Step<Vec<u8>>>,
    used: sync::Sender<Vec<u8>>,
    current: Vec<u8>,
    position: usize,
    ended: bool,
}

impl PlainReader {
    pub(crate) fn new(receiver: mpsc::Receiver<Step<Vec<u8>>>, used: sync::Sender<Vec<u8>>) -> Self {
        PlainReader { receiver, used, current: Vec::new(), position: 0, ended: false }
    }
}

impl BufRead for PlainReader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.position >= self.current.len() && !self.ended {
            let next = match self.receiver.blocking_recv() {
                Some(Step::Data(bytes)) => bytes,
                Some(Step::End) => {
                    self.ended = true;
                    Vec::new()
                }
                Some(Step::Failed(e)) => return Err(e),
                None => return Err(interrupted()),
            };
            // A decoder that has ended needs no buffers.
            let _ = self.used.send(std::mem::replace(&mut self.current, next));
            self.position = 0;
        }
        Ok(self.current.get(self.position..).unwrap_or_default())
    }

    fn consume(&mut self, n: usize) {
        self.position = self.position.saturating_add(n).min(self.current.len());
    }
}

impl Read for PlainReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let ready = self.fill_buf()?;
        let n = ready.len().min(buf.len());
        if let (Some(to), Some(from)) = (buf.get_mut(..n), ready.get(..n)) {
            to.copy_from_slice(from);
        }
        self.consume(n);
        Ok(n)
    }
}
