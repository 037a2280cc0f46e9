//! Pushing blobs and manifests (distribution-spec "Push").

use std::io::Read;

use bytes::Bytes;
use cocoon_http::Response;
use cocoon_image::{Digest, Reference};
use http::{Method, StatusCode, Uri, header};

use crate::request::{Ask, join};
use crate::{Client, Error};

/// Bytes sent at a time when a blob is streamed.
const CHUNK: usize = 4 << 20;

impl Client {
    /// Whether the repository already has the blob.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn has_blob(&self, reference: &Reference, digest: &Digest) -> Result<bool, Error> {
        let what = format!("{}/blobs/{digest}", reference.repository);
        let answer = self.send(reference, &Ask::new(Method::HEAD, &what).for_push()).await?;
        match answer.status {
            StatusCode::OK => Ok(true),
            StatusCode::NOT_FOUND => Ok(false),
            other => Err(Error::status(&reference.registry, other, &what)),
        }
    }

    /// Pushes a blob in one piece, unless it is there already. Gives its digest.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn push_blob(&self, reference: &Reference, blob: Bytes) -> Result<Digest, Error> {
        let digest = Digest::sha256(&blob);
        if !self.has_blob(reference, &digest).await? {
            let location = self.begin_upload(reference).await?;
            self.end_upload(reference, &location, &digest, blob).await?;
        }
        Ok(digest)
    }

    /// Pushes a blob of known digest piece by piece, 4 MiB in memory at a time; for layers.
    ///
    /// # Errors
    /// See [`Error`]; [`Error::Transport`] where the reader fails. The registry refuses content that does not have
    /// the digest.
    pub async fn push_blob_from(
        &self,
        reference: &Reference,
        digest: &Digest,
        blob: &mut (dyn Read + Send),
    ) -> Result<(), Error> {
        if self.has_blob(reference, digest).await? {
            return Ok(());
        }
        let mut location = self.begin_upload(reference).await?;
        let mut sent = 0_u64;
        loop {
            let mut piece = Vec::new();
            let limit = u64::try_from(CHUNK).unwrap_or(u64::MAX);
            let read = blob.take(limit).read_to_end(&mut piece);
            let n = u64::try_from(read.map_err(|e| Error::Transport(e.to_string()))?).unwrap_or(u64::MAX);
            if n < limit && sent == 0 {
                return self.end_upload(reference, &location, digest, piece.into()).await;
            }
            if n == 0 {
                return self.end_upload(reference, &location, digest, Bytes::new()).await;
            }
            let end = sent.saturating_add(n);
            let ask = Ask::new(Method::PATCH, &location.to_string())
                .header(header::CONTENT_RANGE, &format!("{sent}-{}", end.saturating_sub(1)))
                .body("application/octet-stream", piece.into());
            let answer = self.send(reference, &ask).await?;
            if answer.status != StatusCode::ACCEPTED {
                return Err(Error::status(&reference.registry, answer.status, "an upload"));
            }
            location = self.location(reference, &location, &answer)?;
            sent = end;
        }
    }

    /// Pushes a manifest under the reference's tag, or by its digest where the reference has no tag. Gives its
    /// digest.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn push_manifest(
        &self,
        reference: &Reference,
        kind: &str,
        manifest: Bytes,
    ) -> Result<Digest, Error> {
        let digest = Digest::sha256(&manifest);
        let name = reference.tag.clone().unwrap_or_else(|| digest.to_string());
        self.put_manifest(reference, &name, kind, manifest).await?;
        Ok(digest)
    }

    /// Puts a manifest under a tag or digest; gives the registry's answer, which says what it made of a `subject`.
    pub(crate) async fn put_manifest(
        &self,
        reference: &Reference,
        name: &str,
        kind: &str,
        manifest: Bytes,
    ) -> Result<Response, Error> {
        let what = format!("{}/manifests/{name}", reference.repository);
        let answer = self.send(reference, &Ask::new(Method::PUT, &what).body(kind, manifest)).await?;
        match answer.status {
            StatusCode::CREATED | StatusCode::OK | StatusCode::ACCEPTED => Ok(answer),
            other => Err(Error::status(&reference.registry, other, &what)),
        }
    }

    async fn begin_upload(&self, reference: &Reference) -> Result<Uri, Error> {
        let what = format!("{}/blobs/uploads/", reference.repository);
        let ask = Ask::new(Method::POST, &what).header(header::CONTENT_LENGTH, "0");
        let answer = self.send(reference, &ask).await?;
        if answer.status != StatusCode::ACCEPTED {
            return Err(Error::status(&reference.registry, answer.status, &what));
        }
        let scheme = if self.is_plain(reference) { "http" } else { "https" };
        let base = format!("{scheme}://{}/v2/{what}", reference.api_authority());
        let base: Uri = base.parse().map_err(|_| Error::Transport(format!("{base:?} is not a URL")))?;
        self.location(reference, &base, &answer)
    }

    async fn end_upload(
        &self,
        reference: &Reference,
        location: &Uri,
        digest: &Digest,
        rest: Bytes,
    ) -> Result<(), Error> {
        let separator = if location.query().is_some() { '&' } else { '?' };
        let ask = Ask::new(Method::PUT, &format!("{location}{separator}digest={digest}"))
            .body("application/octet-stream", rest);
        let answer = self.send(reference, &ask).await?;
        match answer.status {
            StatusCode::CREATED | StatusCode::OK | StatusCode::NO_CONTENT => Ok(()),
            other => Err(Error::status(&reference.registry, other, "the end of an upload")),
        }
    }

    fn location(&self, reference: &Reference, base: &Uri, answer: &Response) -> Result<Uri, Error> {
        let location = answer.header("location").unwrap_or_default();
        join(base, location)
            .ok_or_else(|| Error::answer(&reference.registry, "an upload has no usable location"))
    }
}
