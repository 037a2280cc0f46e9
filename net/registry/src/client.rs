//! The client: what is shared by all requests, and blobs.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use cocoon_image::registries::Registries;
use cocoon_image::{Descriptor, Reference};

use crate::blob::BlobStream;
use crate::place::Shared;
use crate::token::Token;
use crate::{Auth, Error, Retry};

/// A registry client; cheap to clone, clones share connections and tokens.
#[derive(Clone)]
pub struct Client {
    pub(crate) http: cocoon_http::Client,
    pub(crate) auth: Arc<Auth>,
    pub(crate) plain: Arc<HashSet<String>>,
    pub(crate) retry: Retry,
    /// `Authorization` values by registry and scope.
    pub(crate) tokens: Arc<Mutex<HashMap<String, Token>>>,
    pub(crate) registries: Option<Arc<Registries>>,
    /// What is held against mirrors.
    pub(crate) standings: Shared,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("plain", &self.plain).finish_non_exhaustive()
    }
}

impl Client {
    /// A client over an HTTP client, with credentials.
    pub fn new(http: cocoon_http::Client, auth: Auth) -> Self {
        Client {
            http,
            auth: Arc::new(auth),
            plain: Arc::default(),
            retry: Retry::default(),
            tokens: Arc::default(),
            registries: None,
            standings: Shared::default(),
        }
    }

    /// Allows plain HTTP to these registries (`host[:port]`, as written in references). Loopback names need no entry.
    #[must_use]
    pub fn allow_plain_http(mut self, registries: impl IntoIterator<Item = String>) -> Self {
        self.plain = Arc::new(registries.into_iter().collect());
        self
    }

    /// Changes how often and how fast things are tried again.
    #[must_use]
    pub fn with_retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// A blob from byte `start` on; it resumes by itself where the transfer breaks, at the next place in the end. The
    /// content is **not** verified (with mirrors a mirror's is, so that a liar is known the next time).
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn blob(
        &self,
        reference: &Reference,
        blob: &Descriptor,
        start: u64,
    ) -> Result<BlobStream, Error> {
        BlobStream::open(self, reference, blob, start).await
    }

    /// A small blob as a whole, verified.
    ///
    /// # Errors
    /// See [`Error`]; [`Error::Image`] where size or digest are not the descriptor's or it is larger than `limit`.
    pub async fn blob_bytes(
        &self,
        reference: &Reference,
        blob: &Descriptor,
        limit: usize,
    ) -> Result<Bytes, Error> {
        let size = usize::try_from(blob.size).ok().filter(|n| *n <= limit);
        let size = size.ok_or_else(|| {
            cocoon_image::Error::TooLarge(format!(
                "{} has {} bytes, more than {limit}",
                blob.digest, blob.size
            ))
        })?;
        // Each mirror that gives wrong content is out for the next turn. One turn for each place is enough; a mirror
        // that has nothing to be blamed for, and an own registry that lies, could ask for turns without end.
        let mut turns = self.tour(reference)?.places();
        loop {
            let stream = self.blob(reference, blob, 0).await?;
            let is_last = stream.is_last() || turns <= 1;
            turns = turns.saturating_sub(1);
            match read(stream, blob, size).await {
                Err(Error::Image(_)) if !is_last => {}
                result => return result,
            }
        }
    }
}

async fn read(mut stream: BlobStream, blob: &Descriptor, size: usize) -> Result<Bytes, Error> {
    let mut all = Vec::new();
    let wrong = |got: usize| cocoon_image::Error::SizeMismatch {
        what: format!("blob {}", blob.digest),
        expected: blob.size,
        got: u64::try_from(got).unwrap_or(u64::MAX),
    };
    while let Some(chunk) = stream.chunk().await? {
        all.extend_from_slice(&chunk);
        if all.len() > size {
            return Err(wrong(all.len()).into());
        }
    }
    if all.len() != size {
        return Err(wrong(all.len()).into());
    }
    blob.digest.check(&all, "the blob")?;
    Ok(all.into())
}
