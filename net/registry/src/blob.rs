//! A blob as a stream that survives broken transfers.

use bytes::Bytes;
use cocoon_http::Response;
use cocoon_image::{Descriptor, Digest, Hasher, Reference};
use http::{Method, StatusCode, header};
use tokio::time::{Duration, Instant};

use crate::place::{Place, Tour};
use crate::request::Ask;
use crate::{Client, Error};

/// Progress that makes earlier failures forgotten.
const FORGIVE: u64 = 1 << 20;
/// Less than this in [`crate::Retry::drip`] is no progress.
const DRIP_BYTES: u64 = 16 * 1024;

/// A blob being read. Size and digest are for the consumer to check.
pub struct BlobStream {
    tour: Tour,
    client: Client,
    place: Place,
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
    /// Time and bytes at the present place.
    spent: Duration,
    came: u64,
    mirrors: Option<Suspicion>,
}

/// What mirrors gave so far, so that a liar among them is known.
struct Suspicion {
    hasher: Hasher,
    gave: Vec<Reference>,
}

impl BlobStream {
    pub(crate) async fn open(
        client: &Client,
        reference: &Reference,
        blob: &Descriptor,
        start: u64,
    ) -> Result<Self, Error> {
        let mut tour = client.tour(reference)?;
        let Some((client, place)) = tour.next() else {
            return Err(Error::Transport(format!("there is no place to ask for {reference}")));
        };
        let suspicion = || Suspicion { hasher: Hasher::new(blob.digest.algorithm()), gave: Vec::new() };
        let mut stream = BlobStream {
            mirrors: (start == 0 && !tour.is_last()).then(suspicion),
            tour,
            client,
            place,
            digest: blob.digest,
            size: blob.size,
            offset: start,
            answer: None,
            skip: 0,
            failures: 0,
            since_failure: 0,
            waited: Duration::ZERO,
            in_window: 0,
            spent: Duration::ZERO,
            came: 0,
        };
        stream.connect().await?;
        Ok(stream)
    }

    /// Position of the next byte.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Whether this comes from the image's own registry, with no mirror before it.
    pub fn is_last(&self) -> bool {
        self.mirrors.as_ref().is_none_or(|m| m.gave.is_empty()) && self.tour.is_last()
    }

    /// The next piece; `None` where the registry says that the blob ends, be that right or not.
    ///
    /// # Errors
    /// See [`Error`]; [`Error::Stalled`] where it broke off and did not resume. [`Error::Image`] where a mirror gave
    /// other content than the digest's, which shows at the end: its last piece is not given then. That mirror is not
    /// asked about this repository again, so reading the blob anew is worth a try.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            if self.client.retry.is_too_slow(self.spent, self.came) {
                self.answer = None;
                let problem = format!("only {} bytes came in {:?}", self.came, self.spent);
                self.give_up(problem)?;
            }
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
            self.spent = self.spent.saturating_add(began.elapsed());
            let problem = match next {
                Some(Ok(chunk)) => match self.take(chunk) {
                    Ok(Some(chunk)) => {
                        self.suspect(&chunk)?;
                        return Ok(Some(chunk));
                    }
                    Ok(None) => continue,
                    Err(problem) => problem,
                },
                None if self.offset >= self.size || (is_delimited(answer) && self.tour.is_last()) => {
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
        self.came = self.came.saturating_add(length);
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

    /// Where mirrors had a part in it, the content must be right once it is complete.
    fn suspect(&mut self, chunk: &Bytes) -> Result<(), Error> {
        let Some(mirrors) = &mut self.mirrors else { return Ok(()) };
        mirrors.hasher.update(chunk);
        let here = &self.place.reference;
        if !self.tour.is_last() && mirrors.gave.last() != Some(here) {
            mirrors.gave.push(here.clone());
        }
        if mirrors.gave.is_empty() || self.offset < self.size {
            return Ok(());
        }
        let Some(Suspicion { hasher, gave }) = self.mirrors.take() else { return Ok(()) };
        let got = hasher.finish();
        if self.offset == self.size && got == self.digest {
            return Ok(());
        }
        for mirror in &gave {
            self.client.blame(mirror);
        }
        self.answer = None;
        // So that `is_last` still knows of them.
        self.mirrors = Some(Suspicion { hasher: Hasher::new(self.digest.algorithm()), gave });
        let what = format!("blob {} of a mirror", self.digest);
        Err(match self.offset == self.size {
            true => cocoon_image::Error::DigestMismatch {
                what,
                expected: self.digest.to_string(),
                got: got.to_string(),
            },
            false => cocoon_image::Error::SizeMismatch { what, expected: self.size, got: self.offset },
        }
        .into())
    }

    /// Tries this place again or, where that was the last try here, the next one from the same offset.
    async fn fail(&mut self, problem: String) -> Result<(), Error> {
        self.failures += 1;
        (self.since_failure, self.waited, self.in_window) = (0, Duration::ZERO, 0);
        let registry = self.place.reference.registry.clone();
        if self.failures >= self.client.retry.attempts {
            return self.give_up(problem);
        }
        tracing::debug!(registry, offset = self.offset, problem, "blob transfer is resumed");
        let began = Instant::now();
        self.client.retry.wait(self.failures, None).await;
        self.spent = self.spent.saturating_add(began.elapsed());
        Ok(())
    }

    fn give_up(&mut self, problem: String) -> Result<(), Error> {
        let problem =
            format!("blob {} stopped at byte {} of {}: {problem}", self.digest, self.offset, self.size);
        self.go_on(Error::Stalled { registry: self.place.reference.registry.clone(), problem })
    }

    fn go_on(&mut self, e: Error) -> Result<(), Error> {
        self.tour.failed(e)?;
        if let Some((client, place)) = self.tour.next() {
            (self.client, self.place, self.failures) = (client, place, 0);
            (self.spent, self.came) = (Duration::ZERO, 0);
        }
        Ok(())
    }

    async fn connect(&mut self) -> Result<(), Error> {
        while let Err(e) = self.connect_here().await {
            self.go_on(e)?;
        }
        Ok(())
    }

    async fn connect_here(&mut self) -> Result<(), Error> {
        let registry = self.place.reference.registry.clone();
        let what = format!("{}/blobs/{}", self.place.reference.repository, self.digest);
        let mut ask = Ask::new(Method::GET, &what).header(header::ACCEPT, "*/*");
        if self.offset > 0 {
            ask = ask.header(header::RANGE, &format!("bytes={}-", self.offset));
        }
        let began = Instant::now();
        let answer = self.client.send(&self.place, &ask).await;
        self.spent = self.spent.saturating_add(began.elapsed());
        let answer = answer?;
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
            StatusCode::RANGE_NOT_SATISFIABLE if self.offset > 0 && self.tour.is_last() => {
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
