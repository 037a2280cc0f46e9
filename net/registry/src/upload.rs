//! One upload (distribution-spec "Pushing a blob in chunks"). What was sent and not answered is not sent again blindly:
//! the registry is asked how much it has.

use bytes::Bytes;
use cocoon_http::Response;
use cocoon_image::Digest;
use http::{Method, StatusCode, Uri, header};

use crate::place::Place;
use crate::request::{Ask, join};
use crate::{Client, Error};

/// An upload in progress.
pub(crate) struct Upload<'a> {
    client: &'a Client,
    place: &'a Place,
    location: Uri,
    /// Bytes that the registry has.
    sent: u64,
}

impl<'a> Upload<'a> {
    /// Begins one. That is tried again, since one that was begun in vain is nobody's and goes by itself.
    pub(crate) async fn begin(client: &'a Client, place: &'a Place) -> Result<Upload<'a>, Error> {
        let what = format!("{}/blobs/uploads/", place.reference.repository);
        let ask = Ask::new(Method::POST, &what).header(header::CONTENT_LENGTH, "0");
        let answer = client.send(place, &ask).await?;
        if answer.status != StatusCode::ACCEPTED {
            return Err(Error::status(&place.reference.registry, answer.status, &what));
        }
        let base = client.url(place, &what)?;
        let location = location_of(place, &base, &answer)?;
        Ok(Upload { client, place, location, sent: 0 })
    }

    /// Sends the next piece; where that fails, what of it the registry says it has not got.
    pub(crate) async fn append(&mut self, piece: Bytes) -> Result<(), Error> {
        let start = self.sent;
        let end = start.saturating_add(u64::try_from(piece.len()).unwrap_or(u64::MAX));
        let mut failures = 0;
        while self.sent < end {
            let from = usize::try_from(self.sent - start).unwrap_or(usize::MAX).min(piece.len());
            let Err(problem) = self.patch(piece.slice(from..), end).await else { continue };
            failures += 1;
            if !may_go_on(&problem) || failures >= self.client.retry.attempts {
                return Err(problem);
            }
            tracing::debug!(problem = %problem, "the registry is asked how far an upload got");
            self.client.retry.wait(failures, None).await;
            let got = self.ask().await.ok().flatten().filter(|got| (start..=end).contains(got));
            // Without its word there is nothing that could be sent without harm.
            self.sent = got.ok_or(problem)?;
        }
        Ok(())
    }

    async fn patch(&mut self, piece: Bytes, end: u64) -> Result<(), Error> {
        let ask = Ask::new(Method::PATCH, &self.location.to_string())
            .header(header::CONTENT_RANGE, &format!("{}-{}", self.sent, end.saturating_sub(1)))
            .body("application/octet-stream", piece)
            .once();
        let answer = self.client.send(self.place, &ask).await?;
        if answer.status != StatusCode::ACCEPTED {
            return Err(Error::status(&self.place.reference.registry, answer.status, "an upload"));
        }
        self.location = location_of(self.place, &self.location, &answer)?;
        self.sent = end;
        Ok(())
    }

    /// How many bytes the registry has; `None` where it does not say.
    async fn ask(&mut self) -> Result<Option<u64>, Error> {
        let ask = Ask::new(Method::GET, &self.location.to_string()).for_push();
        let answer = self.client.send(self.place, &ask).await?;
        if answer.status != StatusCode::NO_CONTENT {
            return Ok(None);
        }
        if answer.headers.contains_key(header::LOCATION) {
            self.location = location_of(self.place, &self.location, &answer)?;
        }
        Ok(answer.header("range").and_then(received))
    }

    /// Ends the upload with what is left of the blob. Not tried again; see [`Client::is_there`].
    pub(crate) async fn end(self, digest: &Digest, rest: Bytes) -> Result<(), Error> {
        let Upload { client, place, location, .. } = self;
        let separator = if location.query().is_some() { '&' } else { '?' };
        let ask = Ask::new(Method::PUT, &format!("{location}{separator}digest={digest}"))
            .body("application/octet-stream", rest)
            .once();
        let answer = client.send(place, &ask).await?;
        match answer.status {
            StatusCode::CREATED | StatusCode::OK | StatusCode::NO_CONTENT => Ok(()),
            other => Err(Error::status(&place.reference.registry, other, "the end of an upload")),
        }
    }
}

impl Client {
    /// Uploads a blob that is in memory; begins anew where the registry has not got it after a failure.
    pub(crate) async fn upload(&self, place: &Place, digest: &Digest, blob: Bytes) -> Result<(), Error> {
        let mut failures = 0;
        loop {
            let upload = Upload::begin(self, place).await?;
            let Err(problem) = upload.end(digest, blob.clone()).await else { return Ok(()) };
            failures += 1;
            if self.is_there(place, digest, &problem).await {
                return Ok(());
            }
            if !may_go_on(&problem) || failures >= self.retry.attempts {
                return Err(problem);
            }
            self.retry.wait(failures, None).await;
        }
    }

    /// Whether an upload whose end failed has come to its end nevertheless.
    pub(crate) async fn is_there(&self, place: &Place, digest: &Digest, problem: &Error) -> bool {
        may_go_on(problem) && self.has_blob(&place.reference, digest).await.unwrap_or(false)
    }
}

/// Whether a failure leaves open what the registry did with the request.
fn may_go_on(problem: &Error) -> bool {
    matches!(problem, Error::Unreachable { .. } | Error::Stalled { .. } | Error::Answer { .. })
}

/// The bytes of `0-LAST`; registries that have nothing say `0-0`.
fn received(range: &str) -> Option<u64> {
    let range = range.trim();
    let last: u64 = range.strip_prefix("bytes=").unwrap_or(range).strip_prefix("0-")?.parse().ok()?;
    if last == 0 { Some(0) } else { last.checked_add(1) }
}

fn location_of(place: &Place, base: &Uri, answer: &Response) -> Result<Uri, Error> {
    let location = answer.header("location").unwrap_or_default();
    join(base, location)
        .ok_or_else(|| Error::answer(&place.reference.registry, "an upload has no usable location"))
}
