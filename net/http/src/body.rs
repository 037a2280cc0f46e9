//! An answer, whose body is read in chunks or as a whole within a limit.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use crate::Error;
use crate::client::Lease;

/// Bytes a second below which a whole body counts as stalled.
const DRIP: usize = 4096;

/// An HTTP answer. Dropping it before the body's end closes its connection.
#[derive(Debug)]
pub struct Response {
    /// Status code.
    pub status: StatusCode,
    /// Header fields.
    pub headers: HeaderMap,
    body: Incoming,
    idle_timeout: Duration,
    lease: Option<Lease>,
}

impl Response {
    pub(crate) fn new(answer: http::Response<Incoming>, idle_timeout: Duration, lease: Lease) -> Self {
        let (parts, body) = answer.into_parts();
        Response { status: parts.status, headers: parts.headers, body, idle_timeout, lease: Some(lease) }
    }

    /// The next piece of the body; `None` at its end.
    pub async fn chunk(&mut self) -> Option<Result<Bytes, Error>> {
        loop {
            let frame = match tokio::time::timeout(self.idle_timeout, self.body.frame()).await {
                Err(_) => return Some(Err(Error::Stalled(self.idle_timeout))),
                Ok(frame) => frame,
            };
            match frame {
                None => {
                    if let Some(lease) = self.lease.take() {
                        lease.give_back();
                    }
                    return None;
                }
                Some(Err(e)) => return Some(Err(Error::Protocol(e.to_string()))),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => return Some(Ok(data)),
                    Err(_trailers) => continue,
                },
            }
        }
    }

    /// The whole body, at most `limit` bytes.
    ///
    /// # Errors
    /// [`Error::TooLarge`] past the limit, [`Error::Stalled`] also where it drips (less than 4 KiB a second, after four
    /// times the idle timeout), else what [`Response::chunk`] gives.
    pub async fn bytes(mut self, limit: usize) -> Result<Bytes, Error> {
        let declared = self.header("content-length").and_then(|l| l.parse::<u64>().ok());
        if declared.is_some_and(|n| n > u64::try_from(limit).unwrap_or(u64::MAX)) {
            return Err(Error::TooLarge(limit));
        }
        let began = tokio::time::Instant::now();
        let grace = self.idle_timeout.saturating_mul(4);
        let mut all = BytesMut::new();
        while let Some(chunk) = self.chunk().await {
            let earned = Duration::from_secs(u64::try_from(all.len() / DRIP).unwrap_or(u64::MAX));
            if began.elapsed() > grace.saturating_add(earned) {
                return Err(Error::Stalled(self.idle_timeout));
            }
            let chunk = chunk?;
            if all.len().saturating_add(chunk.len()) > limit {
                return Err(Error::TooLarge(limit));
            }
            all.extend_from_slice(&chunk);
        }
        Ok(all.freeze())
    }

    /// A header's value as text, where it is present and visible ASCII.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|v| v.to_str().ok())
    }
}
