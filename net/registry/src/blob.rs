//! A blob as a stream that survives broken transfers.

use bytes::Bytes;
use cocoon_http::Response;
use cocoon_image::{Descriptor, Digest, Reference};
use http::{Method, StatusCode, header};
use tokio::time::{Duration, Instant};

use crate::request::Ask;
use crate::{Client, Error};

/// Progress that makes earlier failures forgotten.
const FORGIVE: u64 = 1 << 20;
/// Less than this in [`crate::Retry::drip`] is no progress.
const DRIP_BYTES: u64 = 16 * 1024;

/// A blob being read. Size and digest are for the consumer to check.
pub struct BlobStream {
    client: Client,
    reference: Reference,
    digest: Digest,
    size: u64,
    offset: u64,
    answer: Option<Response>,
    /// Bytes to pass over, where the registry does not know ranges.
    skip: u64,
    failures: u32,
    since_failure: u64,
    waited: Duration,
    in_window: u64,
}

impl BlobStream {
    pub(crate) async fn open(
        client: Client,
        reference: Reference,
        blob: &Descriptor,
        start: u64,
    ) -> Result<Self, Error> {
        let mut stream = BlobStream {
            client,
            reference,
            digest: blob.digest,
            size: blob.size,
            offset: start,
            answer: None,
            skip: 0,
            failures: 0,
            since_failure: 0,
            waited: Duration::ZERO,
            in_window: 0,
        };
        stream.connect().await?;
        Ok(stream)
    }

    /// Position of the next byte.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The next piece; `None` where the registry says that the blob ends, be that right or not.
    ///
    /// # Errors
    /// See [`Error`]; [`Error::Stalled`] where it broke off and did not resume.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            let Some(answer) = &mut self.answer else {
                if self.offset >= self.size {
                    return Ok(None);
                }
                self.connect().await?;
                continue;
            };
            let began = Instant::now();
            let next = answer.chunk().await;
            self.waited = self.waited.saturating_add(began.elapsed());
            let problem = match next {
                Some(Ok(chunk)) => match self.take(chunk) {
                    Ok(Some(chunk)) => return Ok(Some(chunk)),
                    Ok(None) => continue,
                    Err(problem) => problem,
                },
                None if self.offset >= self.size || is_delimited(answer) => {
                    self.answer = None;
                    self.size = self.size.min(self.offset);
                    return Ok(None);
                }
                None => "the connection was closed within the blob".to_owned(),
                Some(Err(e)) => e.to_string(),
            };
            self.answer = None;
            self.fail(problem).await?;
        }
    }

    /// Accounts for a piece; `None` where it was only to be passed over.
    fn take(&mut self, mut chunk: Bytes) -> Result<Option<Bytes>, String> {
        let length = u64::try_from(chunk.len()).unwrap_or(u64::MAX);
        self.in_window = self.in_window.saturating_add(length);
        if self.waited > self.client.retry.drip {
            if self.in_window < DRIP_BYTES {
                return Err(format!("only {} bytes came in {:?}", self.in_window, self.waited));
            }
            (self.waited, self.in_window) = (Duration::ZERO, 0);
        }
        let pass = self.skip.min(length);
        self.skip -= pass;
        let chunk = chunk.split_off(usize::try_from(pass).unwrap_or(usize::MAX).min(chunk.len()));
        if chunk.is_empty() {
            return Ok(None);
        }
        let length = u64::try_from(chunk.len()).unwrap_or(u64::MAX);
        self.offset = self.offset.saturating_add(length);
        self.since_failure = self.since_failure.saturating_add(length);
        if self.since_failure > FORGIVE {
            self.failures = 0;
        }
        Ok(Some(chunk))
    }

    async fn fail(&mut self, problem: String) -> Result<(), Error> {
        self.failures += 1;
        (self.since_failure, self.waited, self.in_window) = (0, Duration::ZERO, 0);
        let registry = self.reference.registry.clone();
        if self.failures >= self.client.retry.attempts {
            let problem =
                format!("blob {} stopped at byte {} of {}: {problem}", self.digest, self.offset, self.size);
            return Err(Error::Stalled { registry, problem });
        }
        tracing::debug!(registry, offset = self.offset, problem, "blob transfer is resumed");
        self.client.retry.wait(self.failures).await;
        Ok(())
    }

    async fn connect(&mut self) -> Result<(), Error> {
        let registry = self.reference.registry.clone();
        let what = format!("{}/blobs/{}", self.reference.repository, self.digest);
        let mut ask = Ask::new(Method::GET, &what).header(header::ACCEPT, "*/*");
        if self.offset > 0 {
            ask = ask.header(header::RANGE, &format!("bytes={}-", self.offset));
        }
        let answer = self.client.send(&self.reference, &ask).await?;
        if answer.header("content-type").is_some_and(|t| t.starts_with("text/html"))
            && answer.status.is_success()
        {
            return Err(Error::answer(&registry, format!("the answer for {what} is a web page")));
        }
        self.skip = match answer.status {
            StatusCode::OK => self.offset,
            StatusCode::PARTIAL_CONTENT if self.offset > 0 => {
                let from = answer.header("content-range").and_then(range_start);
                if from != Some(self.offset) {
                    return Err(Error::answer(
                        &registry,
                        format!("it sent another range of {what} than asked for"),
                    ));
                }
                0
            }
            // There is nothing from here on: the blob is shorter than its descriptor says.
            StatusCode::RANGE_NOT_SATISFIABLE if self.offset > 0 => {
                self.size = self.offset;
                return Ok(());
            }
            other => return Err(Error::status(&registry, other, &what)),
        };
        self.answer = Some(answer);
        Ok(())
    }
}

/// Whether the answer's end was marked by its own framing, so that a clean end is the registry's word.
fn is_delimited(answer: &Response) -> bool {
    answer.headers.contains_key(header::CONTENT_LENGTH)
        || answer.headers.contains_key(header::TRANSFER_ENCODING)
}

/// The first byte position of `bytes FIRST-LAST/TOTAL`.
fn range_start(field: &str) -> Option<u64> {
    field.trim().strip_prefix("bytes ")?.split_once('-')?.0.trim().parse().ok()
}
