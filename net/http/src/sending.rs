//! A request's body on its way, and how long that may take.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

/// Bytes handed over at a time, so that progress shows.
const PIECE: usize = 16 * 1024;
/// Bytes a second below which a body counts as stalled, as in the other direction.
const DRIP: usize = 4096;
/// Bytes a second at which what was handed over last must leave the machine's buffers.
const DRAIN: usize = 32 * 1024;
/// What the buffers between here and the wire may hold: ours, TLS's, and Linux's largest send buffer.
const BUFFERS: usize = 5 << 20;

/// A body of known length, handed over piece by piece.
pub(crate) struct Sending {
    rest: Bytes,
    progress: Progress,
}

/// How far a body has got.
#[derive(Clone)]
pub(crate) struct Progress {
    began: Instant,
    length: usize,
    latest: Arc<Mutex<(Instant, usize)>>,
}

impl Sending {
    pub(crate) fn new(body: Bytes) -> Sending {
        let now = Instant::now();
        let progress =
            Progress { began: now, length: body.len(), latest: Arc::new(Mutex::new((now, body.len()))) };
        Sending { rest: body, progress }
    }

    /// Its progress, counted from now.
    pub(crate) fn begin(&mut self) -> Progress {
        let now = Instant::now();
        self.progress.began = now;
        self.progress.note(now, self.rest.len());
        self.progress.clone()
    }
}

impl Progress {
    fn note(&self, now: Instant, left: usize) {
        *self.latest.lock().unwrap_or_else(PoisonError::into_inner) = (now, left);
    }

    /// When to give up, as things stand: `idle` after the last piece was taken; later where all are and may still be
    /// on their way, up to 160 seconds for 5 MiB; however it drips, after four times `idle` and 4 KiB a second.
    pub(crate) fn deadline(&self, idle: Duration) -> Instant {
        let (taken, left) = *self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        let seconds = |bytes: usize, rate: usize| {
            Duration::from_secs(u64::try_from(bytes / rate).unwrap_or(u64::MAX).min(1 << 20))
        };
        let drain = if left == 0 { seconds(self.length.min(BUFFERS), DRAIN) } else { Duration::ZERO };
        let most = self.began + idle.saturating_mul(4).saturating_add(seconds(self.length, DRIP));
        (taken + idle + drain).min(most)
    }
}

impl Body for Sending {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        let n = self.rest.len().min(PIECE);
        let piece = self.rest.split_to(n);
        self.progress.note(Instant::now(), self.rest.len());
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(u64::try_from(self.rest.len()).unwrap_or(u64::MAX))
    }
}
