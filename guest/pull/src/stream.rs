//! Bytes between threads: bounded channels whose end is told apart from their breaking.

use std::io::{self, BufRead, Read};
use std::sync::mpsc as unbounded;

use bytes::{Buf, Bytes};
use tokio::sync::mpsc;

/// Packed pieces from the network are at most this long …
pub(crate) const PIECE: usize = 64 * 1024;
/// … and at most so many wait: 1 MiB a layer.
pub(crate) const PIECES: usize = 16;

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
pub(crate) struct Downloaded {
    receiver: mpsc::Receiver<Step<Bytes>>,
    current: Bytes,
    ended: bool,
}

impl Downloaded {
    pub(crate) fn new(receiver: mpsc::Receiver<Step<Bytes>>) -> Self {
        Downloaded { receiver, current: Bytes::new(), ended: false }
    }
}

impl Read for Downloaded {
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

/// Both ends of a channel between two threads: `pieces` buffers of `length` bytes at most are under way.
pub(crate) fn pipe(length: usize, pieces: usize) -> (PipeIn, PipeOut) {
    let (to, from) = mpsc::channel(pieces);
    let (used_in, used_out) = unbounded::channel();
    let end = PipeOut { receiver: from, used: used_in, current: Vec::new(), position: 0, ended: false };
    (PipeIn { to, used: used_out, length }, end)
}

/// The writing end.
pub(crate) struct PipeIn {
    to: mpsc::Sender<Step<Vec<u8>>>,
    used: unbounded::Receiver<Vec<u8>>,
    length: usize,
}

impl PipeIn {
    /// Sends all that a stage gives, and how it ended. Buffers come back from the reader and are used again.
    pub(crate) fn pump(self, mut from: impl Read) {
        loop {
            let mut buffer = self.used.try_recv().unwrap_or_default();
            buffer.resize(self.length, 0);
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
            if self.to.blocking_send(step).is_err() || last {
                return;
            }
        }
    }

    /// Sends a failure.
    pub(crate) fn fail(self, e: io::Error) {
        // Nobody listens where the reader has ended.
        let _ = self.to.blocking_send(Step::Failed(e));
    }
}

/// The reading end, without copying.
pub(crate) struct PipeOut {
    receiver: mpsc::Receiver<Step<Vec<u8>>>,
    used: unbounded::Sender<Vec<u8>>,
    current: Vec<u8>,
    position: usize,
    ended: bool,
}

impl BufRead for PipeOut {
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
            // A stage that has ended needs no buffers.
            let _ = self.used.send(std::mem::replace(&mut self.current, next));
            self.position = 0;
        }
        Ok(self.current.get(self.position..).unwrap_or_default())
    }

    fn consume(&mut self, n: usize) {
        self.position = self.position.saturating_add(n).min(self.current.len());
    }
}

impl Read for PipeOut {
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
