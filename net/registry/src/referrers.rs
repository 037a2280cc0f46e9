//! What is attached to a manifest: signatures, attestations, SBOMs (distribution-spec 1.1, "Listing Referrers").
//!
//! Registries without the referrers API keep the same list as an index under the tag `<algorithm>-<hex>`; clients
//! read it and, when they attach something, maintain it.

use std::collections::HashSet;

use bytes::Bytes;
use cocoon_image::{Descriptor, Digest, MAX_MANIFEST_BYTES, Manifest, Reference};
use http::{Method, StatusCode, Uri, header};
use serde::{Deserialize, Serialize};

use crate::challenge::query_value;
use crate::request::{Ask, join};
use crate::{Client, Error};

/// The media type of an OCI index, in which referrers are listed.
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// Pages followed.
const MAX_PAGES: usize = 32;
/// Entries over all pages, before the filter.
const MAX_ENTRIES: usize = 4096;
/// Bytes over all pages.
const MAX_BYTES: usize = 2 * MAX_MANIFEST_BYTES;
/// How often the fallback list is written anew where somebody else overwrote it meanwhile.
const WRITES: usize = 4;

/// An index as a list of referrers. Lenient where [`cocoon_image::Index`] is strict: it is only a hint where to look.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct List {
    schema_version: u32,
    #[serde(default)]
    media_type: String,
    #[serde(default)]
    manifests: Option<Vec<Descriptor>>,
}

impl Client {
    /// The manifests that name `digest` as their subject, of `artifact_type` where one is given, each once, in the
    /// registry's order. Not verified: a registry can hide entries or invent them, so whoever uses one fetches it by
    /// its digest and looks at its `subject`. An image without referrers, or a registry without any, gives none.
    ///
    /// Follows the API's pages (same host only; at most 32 pages, 4096 entries and 8 MiB), else reads the list under
    /// the fallback tag.
    ///
    /// # Errors
    /// See [`Error`]; [`Error::Answer`] where a list is malformed, leads to another host or is longer than that.
    pub async fn referrers(
        &self,
        reference: &Reference,
        digest: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<Vec<Descriptor>, Error> {
        let found = match self.referrers_by_api(reference, digest, artifact_type).await? {
            Some(found) => found,
            None => self.referrers_by_tag(reference, digest).await?,
        };
        let mut seen = HashSet::new();
        let wanted = |d: &Descriptor| artifact_type.is_none_or(|t| d.artifact_type.as_deref() == Some(t));
        Ok(found.into_iter().filter(|d| wanted(d) && seen.insert(d.digest)).collect())
    }

    /// `None` where the registry does not have the API.
    async fn referrers_by_api(
        &self,
        reference: &Reference,
        digest: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<Option<Vec<Descriptor>>, Error> {
        let registry = &reference.registry;
        let mut what = format!("{}/referrers/{digest}", reference.repository);
        if let Some(kind) = artifact_type {
            what.push_str(&format!("?artifactType={}", query_value(kind)));
        }
        let mut page = self.url(reference, &what)?;
        let (mut found, mut bytes) = (Vec::new(), 0_usize);
        for number in 0..MAX_PAGES {
            let ask = Ask::new(Method::GET, &page.to_string()).header(header::ACCEPT, INDEX);
            let answer = self.send(reference, &ask).await?;
            let is_index = answer.header("content-type").is_some_and(is_index_type);
            match answer.status {
                StatusCode::OK if is_index => {}
                // Routes unknown to a registry, or to the web server before it, end in one of these.
                StatusCode::OK
                | StatusCode::NOT_FOUND
                | StatusCode::BAD_REQUEST
                | StatusCode::METHOD_NOT_ALLOWED
                | StatusCode::NOT_ACCEPTABLE
                | StatusCode::NOT_IMPLEMENTED
                    if number == 0 =>
                {
                    return Ok(None);
                }
                other => return Err(Error::status(registry, other, &what)),
            }
            let next = match answer.headers.get(header::LINK) {
                None => None,
                Some(link) => next_page(&page, link.to_str().unwrap_or_default())
                    .map_err(|problem| Error::answer(registry, problem))?,
            };
            let body = answer
                .bytes(MAX_MANIFEST_BYTES.min(MAX_BYTES.saturating_sub(bytes)))
                .await
                .map_err(|e| Error::transport(registry, &e))?;
            bytes = bytes.saturating_add(body.len());
            found.extend(parse(registry, &body)?);
            if found.len() > MAX_ENTRIES {
                return Err(Error::answer(registry, format!("it lists more than {MAX_ENTRIES} referrers")));
            }
            match next {
                None => return Ok(Some(found)),
                Some(next) => page = next,
            }
        }
        Err(Error::answer(registry, format!("it has more than {MAX_PAGES} pages of referrers")))
    }

    async fn referrers_by_tag(
        &self,
        reference: &Reference,
        digest: &Digest,
    ) -> Result<Vec<Descriptor>, Error> {
        match self.tagged(reference, &fallback_tag(digest)).await? {
            None => Ok(Vec::new()),
            Some(bytes) => parse(&reference.registry, &bytes),
        }
    }

    /// Pushes a manifest that has a `subject`, by its digest, into the reference's repository, and gives the
    /// descriptor under which it is listed. Where the registry does not say that it keeps referrers itself
    /// (`OCI-Subject`), the list under the fallback tag is extended. Config and layers must have been pushed before;
    /// the subject need not exist.
    ///
    /// # Errors
    /// See [`Error`]; [`Error::Image`] where `manifest` is not a manifest or has no subject.
    pub async fn push_referrer(
        &self,
        reference: &Reference,
        kind: &str,
        manifest: Bytes,
    ) -> Result<Descriptor, Error> {
        let parsed = Manifest::parse(&manifest)?;
        let subject = parsed
            .subject
            .ok_or_else(|| cocoon_image::Error::Manifest("the manifest has no subject".to_owned()))?;
        let size = u64::try_from(manifest.len()).unwrap_or(u64::MAX);
        let artifact = parsed.artifact_type.filter(|t| !t.is_empty()).unwrap_or(parsed.config.media_type);
        let entry = Descriptor {
            artifact_type: Some(artifact),
            annotations: parsed.annotations,
            ..Descriptor::new(kind, Digest::sha256(&manifest), size)
        };
        let answer = self.put_manifest(reference, &entry.digest.to_string(), kind, manifest).await?;
        if answer.headers.contains_key("oci-subject") {
            return Ok(entry);
        }
        self.extend_fallback(reference, &subject.digest, &entry).await?;
        Ok(entry)
    }

    /// Adds the entry to the list under the fallback tag. Registries have no conditional writes, so it looks
    /// afterwards whether somebody else's list took the place of ours.
    async fn extend_fallback(
        &self,
        reference: &Reference,
        subject: &Digest,
        entry: &Descriptor,
    ) -> Result<(), Error> {
        let tag = fallback_tag(subject);
        for _ in 0..WRITES {
            let mut listed = self.referrers_by_tag(reference, subject).await?;
            if listed.iter().any(|d| d.digest == entry.digest) {
                return Ok(());
            }
            listed.push(entry.clone());
            if listed.len() > MAX_ENTRIES {
                return Err(Error::answer(&reference.registry, "the image has too many referrers"));
            }
            let list = List { schema_version: 2, media_type: INDEX.to_owned(), manifests: Some(listed) };
            let list = serde_json::to_vec(&list).map_err(|e| Error::Transport(e.to_string()))?;
            self.put_manifest(reference, &tag, INDEX, list.into()).await?;
        }
        let listed = self.referrers_by_tag(reference, subject).await?;
        match listed.iter().any(|d| d.digest == entry.digest) {
            true => Ok(()),
            false => Err(Error::answer(&reference.registry, format!("it does not keep the list {tag}"))),
        }
    }
}

/// The tag of the list: algorithm and encoded part, cut to 32 and 64 characters (distribution-spec 1.1).
fn fallback_tag(digest: &Digest) -> String {
    let text = digest.to_string();
    let (algorithm, encoded) = text.split_once(':').unwrap_or((&text, ""));
    format!("{algorithm:.32}-{encoded:.64}")
}

fn is_index_type(field: &str) -> bool {
    let kind = field.split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case(INDEX) || kind.eq_ignore_ascii_case("application/json")
}

fn parse(registry: &str, bytes: &[u8]) -> Result<Vec<Descriptor>, Error> {
    let list: List = serde_json::from_slice(bytes)
        .map_err(|e| Error::answer(registry, format!("its list of referrers is malformed: {e}")))?;
    let kind_is_right = list.media_type.is_empty() || list.media_type == INDEX;
    let found = list.manifests.unwrap_or_default();
    if list.schema_version != 2 || !kind_is_right {
        return Err(Error::answer(registry, "its list of referrers is not an index"));
    }
    if found.len() > MAX_ENTRIES {
        return Err(Error::answer(registry, format!("it lists more than {MAX_ENTRIES} referrers")));
    }
    Ok(found)
}

/// The target of `<URL>; rel="next"` (RFC 8288); it must be of the same scheme and host as the page itself.
fn next_page(page: &Uri, link: &str) -> Result<Option<Uri>, &'static str> {
    const BAD: &str = "its list of referrers goes on at another host or nowhere";
    if link.len() > 4096 {
        return Err(BAD);
    }
    // Addresses in `<>` may hold commas, so links are cut at '<' rather than at commas.
    for part in link.split('<').skip(1) {
        let (target, parameters) = part.split_once('>').ok_or(BAD)?;
        let is_next = parameters.split([';', ',']).any(|p| {
            p.trim().split_once('=').is_some_and(|(k, v)| {
                k.trim().eq_ignore_ascii_case("rel")
                    && v.trim().trim_matches('"').split(' ').any(|r| r.eq_ignore_ascii_case("next"))
            })
        });
        if is_next {
            let next = join(page, target).ok_or(BAD)?;
            let same = next.scheme() == page.scheme() && next.authority() == page.authority();
            return if same && next != *page { Ok(Some(next)) } else { Err(BAD) };
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_lead_on_only_at_the_same_host() {
        let page: Uri = "https://r.io/v2/a/referrers/x?n=1".parse().unwrap();
        let next = |link: &str| next_page(&page, link).map(|u| u.map(|u| u.to_string()));
        for (link, expected) in [
            ("</v2/a?n=2>; rel=\"next\"", Some("https://r.io/v2/a?n=2")),
            ("<https://r.io/b,c>; rel=next", Some("https://r.io/b,c")),
            ("</first>; rel=\"first\", </z>; title=\"x\"; rel=\"last next\"", Some("https://r.io/z")),
            ("</v2/a>; rel=\"prev\"", None),
            ("", None),
        ] {
            assert_eq!(next(link).unwrap().as_deref(), expected, "{link}");
        }
        for bad in [
            "<https://evil.io/x>; rel=next",
            "<http://r.io/x>; rel=next",
            "<https://r.io:444/x>; rel=next",
            "<//evil.io/x>; rel=next",
            "<>; rel=next",
            "</v2/a/referrers/x?n=1>; rel=next",
            "</x; rel=next",
        ] {
            assert!(next(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_fallback_tag_is_a_tag() {
        let digest = Digest::sha256(b"");
        assert_eq!(fallback_tag(&digest), digest.to_string().replace(':', "-"));
        let long: Digest = format!("sha512:{}", "a".repeat(128)).parse().unwrap();
        assert_eq!(fallback_tag(&long), format!("sha512-{}", "a".repeat(64)));
    }

    #[test]
    fn lists_are_read_leniently_but_not_blindly() {
        assert!(parse("r", br#"{"schemaVersion":2,"manifests":null}"#).unwrap().is_empty());
        for bad in ["", "[]", "{}", r#"{"schemaVersion":1}"#, r#"{"schemaVersion":2,"mediaType":"x"}"#] {
            assert!(parse("r", bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
