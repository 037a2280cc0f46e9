//! Manifests, by tag and by digest.

use bytes::Bytes;
use cocoon_image::media_type::MANIFEST_TYPES;
use cocoon_image::{Digest, MAX_MANIFEST_BYTES, Reference};
use http::{Method, StatusCode, header};

use crate::place::Place;
use crate::request::Ask;
use crate::{Client, Error};

impl Client {
    /// The manifest or index that a reference names: by its digest where it has one (and then verified), else by tag.
    ///
    /// # Errors
    /// See [`Error`]; [`Error::Image`] where the bytes do not have the digest.
    pub async fn resolve(&self, reference: &Reference) -> Result<(Digest, Bytes), Error> {
        if let Some(digest) = &reference.digest {
            return Ok((*digest, self.manifest(reference, digest).await?));
        }
        let tag = reference.tag.as_deref().unwrap_or("latest");
        let bytes = self.manifest_named(reference, tag, None).await?;
        Ok((Digest::sha256(&bytes), bytes))
    }

    /// The manifest or index of this digest in the reference's repository, verified.
    ///
    /// # Errors
    /// As [`Client::resolve`].
    pub async fn manifest(&self, reference: &Reference, digest: &Digest) -> Result<Bytes, Error> {
        self.manifest_named(reference, &digest.to_string(), Some(digest)).await
    }

    /// The manifest under a tag in the reference's repository, unverified; `None` where there is no such tag. Cosign
    /// keeps signatures this way.
    ///
    /// # Errors
    /// As [`Client::resolve`].
    pub async fn tagged(&self, reference: &Reference, tag: &str) -> Result<Option<Bytes>, Error> {
        found(self.manifest_named(reference, tag, None).await)
    }

    /// As [`Client::tagged`], of one place.
    pub(crate) async fn tagged_at(&self, place: &Place, tag: &str) -> Result<Option<Bytes>, Error> {
        found(self.fetch_manifest(place, tag).await)
    }

    async fn manifest_named(
        &self,
        reference: &Reference,
        name: &str,
        digest: Option<&Digest>,
    ) -> Result<Bytes, Error> {
        let mut tour = self.tour(reference)?;
        while let Some((client, place)) = tour.next() {
            let got = client.fetch_manifest(&place, name).await;
            let got = got.and_then(|bytes| match digest {
                Some(digest) => Ok(digest.check(&bytes, "the manifest").map(|()| bytes)?),
                None => Ok(bytes),
            });
            match got {
                Ok(bytes) => return Ok(bytes),
                Err(e) => tour.failed(e)?,
            }
        }
        Err(Error::Transport(format!("there is no place to ask for {reference}")))
    }

    async fn fetch_manifest(&self, place: &Place, name: &str) -> Result<Bytes, Error> {
        let what = format!("{}/manifests/{name}", place.reference.repository);
        let accept = MANIFEST_TYPES.join(", ");
        let ask = Ask::new(Method::GET, &what).header(header::ACCEPT, &accept);
        let registry = &place.reference.registry;
        let mut failures = 0;
        loop {
            // The answer's body may break off too, so the whole exchange is tried again.
            let problem = match self.send(place, &ask).await {
                Err(e) => return Err(e),
                Ok(answer) if answer.status != StatusCode::OK => {
                    return Err(Error::status(registry, answer.status, &what));
                }
                Ok(answer) => {
                    // It was not asked for, and what it unpacks to has no digest.
                    if let Some(coding) = answer.header("content-encoding").filter(|c| *c != "identity") {
                        return Err(Error::answer(registry, format!("the manifest comes as {coding:.40?}")));
                    }
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
            self.retry.wait(failures, None).await;
        }
    }
}

fn found(got: Result<Bytes, Error>) -> Result<Option<Bytes>, Error> {
    match got {
        Ok(bytes) => Ok(Some(bytes)),
        Err(Error::NotFound { .. }) => Ok(None),
        Err(e) => Err(e),
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
