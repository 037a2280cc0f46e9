//! Pushing blobs and manifests (distribution-spec "Push").

use std::io::Read;

use bytes::Bytes;
use cocoon_http::Response;
use cocoon_image::{Digest, Reference};
use http::{Method, StatusCode};

use crate::place::Place;
use crate::request::Ask;
use crate::upload::Upload;
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
        let place = self.home(reference);
        let answer = self.send(&place, &Ask::new(Method::HEAD, &what).for_push()).await?;
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
            let place = self.home(reference);
            self.upload(&place, &digest, blob).await?;
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
        let place = self.home(reference);
        let mut upload: Option<Upload<'_>> = None;
        loop {
            let mut piece = Vec::new();
            let limit = u64::try_from(CHUNK).unwrap_or(u64::MAX);
            let read = blob.take(limit).read_to_end(&mut piece);
            let n = u64::try_from(read.map_err(|e| Error::Transport(e.to_string()))?).unwrap_or(u64::MAX);
            if n > 0 && (n == limit || upload.is_some()) {
                let mut going = match upload.take() {
                    Some(going) => going,
                    None => Upload::begin(self, &place).await?,
                };
                going.append(piece.into()).await?;
                upload = Some(going);
                continue;
            }
            let Some(upload) = upload else { return self.upload(&place, digest, piece.into()).await };
            let ended = upload.end(digest, Bytes::new()).await;
            return match ended {
                Err(e) if !self.is_there(&place, digest, &e).await => Err(e),
                _ => Ok(()),
            };
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
        self.put_manifest(&self.home(reference), &name, kind, manifest).await?;
        Ok(digest)
    }

    /// Puts a manifest under a tag or digest; gives the registry's answer, which says what it made of a `subject`.
    pub(crate) async fn put_manifest(
        &self,
        place: &Place,
        name: &str,
        kind: &str,
        manifest: Bytes,
    ) -> Result<Response, Error> {
        let what = format!("{}/manifests/{name}", place.reference.repository);
        let answer = self.send(place, &Ask::new(Method::PUT, &what).body(kind, manifest)).await?;
        match answer.status {
            StatusCode::CREATED | StatusCode::OK | StatusCode::ACCEPTED => Ok(answer),
            other => Err(Error::status(&place.reference.registry, other, &what)),
        }
    }
}
