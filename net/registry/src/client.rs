//! The client: what is shared by all requests, and manifests.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use cocoon_image::media_type::MANIFEST_TYPES;
use cocoon_image::{Descriptor, Digest, MAX_MANIFEST_BYTES, Reference};
use http::{Method, StatusCode, header};
use zeroize::Zeroizing;

use crate::blob::BlobStream;
use crate::request::Ask;
use crate::{Auth, Error};

/// How often and how fast something is tried again.
#[derive(Clone, Copy, Debug)]
pub struct Retry {
    /// Tries in a row without progress, the first included.
    pub attempts: u32,
    /// Pause after the first failure; it doubles each time, up to 5 seconds.
    pub pause: Duration,
    /// A transfer counts as stalled where it brings less than 16 KiB in this much waiting, however it drips.
    pub drip: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Retry { attempts: 5, pause: Duration::from_millis(100), drip: Duration::from_secs(60) }
    }
}

impl Retry {
    /// Waits before the try after `failures` failures.
    pub(crate) async fn wait(&self, failures: u32) {
        let factor = 2_u32.saturating_pow(failures.saturating_sub(1).min(10));
        tokio::time::sleep(self.pause.saturating_mul(factor).min(Duration::from_secs(5))).await;
    }
}

/// A registry client; cheap to clone, clones share connections and tokens.
#[derive(Clone)]
pub struct Client {
    pub(crate) http: cocoon_http::Client,
    pub(crate) auth: Arc<Auth>,
    pub(crate) plain: Arc<HashSet<String>>,
    pub(crate) retry: Retry,
    /// `Authorization` values by registry and scope.
    pub(crate) tokens: Arc<Mutex<HashMap<String, Zeroizing<String>>>>,
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

    /// The manifest or index that a reference names: by its digest where it has one (and then verified), else by tag.
    ///
    /// # Errors
    /// See [`Error`]; [`Error::Image`] where the bytes do not have the digest.
    pub async fn resolve(&self, reference: &Reference) -> Result<(Digest, Bytes), Error> {
        match (&reference.digest, &reference.tag) {
            (Some(digest), _) => Ok((*digest, self.manifest(reference, digest).await?)),
            (None, tag) => {
                let bytes = self.fetch_manifest(reference, tag.as_deref().unwrap_or("latest")).await?;
                Ok((Digest::sha256(&bytes), bytes))
            }
        }
    }

    /// The manifest or index of this digest in the reference's repository, verified.
    ///
    /// # Errors
    /// As [`Client::resolve`].
    pub async fn manifest(&self, reference: &Reference, digest: &Digest) -> Result<Bytes, Error> {
        let bytes = self.fetch_manifest(reference, &digest.to_string()).await?;
        digest.check(&bytes, "the manifest")?;
        Ok(bytes)
    }

    /// The manifest under a tag in the reference's repository, unverified; `None` where there is no such tag. Cosign
    /// keeps signatures this way.
    ///
    /// # Errors
    /// As [`Client::resolve`].
    pub async fn tagged(&self, reference: &Reference, tag: &str) -> Result<Option<Bytes>, Error> {
        match self.fetch_manifest(reference, tag).await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(e) => Err(e),
        }
    }

    async fn fetch_manifest(&self, reference: &Reference, name: &str) -> Result<Bytes, Error> {
        let what = format!("{}/manifests/{name}", reference.repository);
        let accept = MANIFEST_TYPES.join(", ");
        let ask = Ask::new(Method::GET, &what).header(header::ACCEPT, &accept);
        let registry = &reference.registry;
        let mut failures = 0;
        loop {
            // The answer's body may break off too, so the whole exchange is tried again.
            let problem = match self.send(reference, &ask).await {
                Err(e) => return Err(e),
                Ok(answer) if answer.status != StatusCode::OK => {
                    return Err(Error::status(registry, answer.status, &what));
                }
                Ok(answer) => {
                    let kind = answer.header("content-type").unwrap_or_default().to_owned();
                    match answer.bytes(MAX_MANIFEST_BYTES).await {
                        Ok(bytes) => return looks_like_json(registry, &kind, bytes),
                        Err(e @ cocoon_http::Error::TooLarge(_)) => {
                            return Err(Error::transport(registry, &e));
                        }
                        Err(e) => e,
                    }
                }
            };
            failures += 1;
            if failures >= self.retry.attempts {
                return Err(Error::transport(registry, &problem));
            }
            self.retry.wait(failures).await;
        }
    }

    /// A blob from byte `start` on; it resumes by itself where the transfer breaks. The content is **not** verified.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn blob(
        &self,
        reference: &Reference,
        blob: &Descriptor,
        start: u64,
    ) -> Result<BlobStream, Error> {
        BlobStream::open(self.clone(), reference.clone(), blob, start).await
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
        let mut stream = self.blob(reference, blob, 0).await?;
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
}

/// Told apart before digests are, because "this is a web page" helps and "digest mismatch" does not.
fn looks_like_json(registry: &str, kind: &str, bytes: Bytes) -> Result<Bytes, Error> {
    let is_json = bytes.iter().find(|b| !b.is_ascii_whitespace()) == Some(&b'{');
    if kind.starts_with("text/html") || !is_json {
        return Err(Error::answer(registry, format!("the manifest's answer is {kind:.80?}, not a manifest")));
    }
    Ok(bytes)
}
