//! All places, all kinds.

use cocoon_image::Digest;
use cocoon_signature::simple::SigstoreD;
use cocoon_signature::{Found, Needs, Subject};

use crate::{Error, attached, lookaside, tagged};

/// Where detached signatures lie.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// Look-aside places by scope; without one there are no signatures of "simple signing".
    pub lookaside: Option<SigstoreD>,
    /// Whether `file://` places are read. For the owner's command line; a guest has no such files, and one that is named
    /// there is an error.
    pub files: bool,
}

/// What was found, and what is wrong with that which could not be used.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    pub(crate) found: Found,
    pub(crate) faults: Vec<String>,
}

/// Finds the signatures of the kinds needed: cosign's under tags and among referrers, Notation's among referrers,
/// "simple signing" in the look-aside place of the image's name, each for all of the image's digests. Nothing is verified.
///
/// Where a look-aside document says `use-sigstore-attachments: false` for the image, cosign's are not looked for.
///
/// # Errors
/// See [`Error`]; whatever could hide a signature.
pub async fn find(
    registry: &cocoon_registry::Client,
    http: &cocoon_http::Client,
    places: &Places,
    subject: &Subject<'_>,
    needs: Needs,
) -> Result<Found, Error> {
    gather(registry, http, places, subject, needs).await.map(|gathered| gathered.found)
}

pub(crate) async fn gather(
    registry: &cocoon_registry::Client,
    http: &cocoon_http::Client,
    places: &Places,
    subject: &Subject<'_>,
    mut needs: Needs,
) -> Result<Gathered, Error> {
    let said = places.lookaside.as_ref().and_then(|l| l.attachments(subject.reference));
    needs.cosign &= said != Some(false);
    let digests = distinct(subject.digests);
    let (tagged, attached, detached) = tokio::try_join!(
        tagged::find(registry, subject.reference, &digests, needs),
        attached::find(registry, subject.reference, &digests, needs),
        lookaside::find(http, places, subject.reference, &digests, needs),
    )?;
    let mut all = tagged;
    all.faults.extend(attached.faults);
    all.faults.extend(detached.faults);
    all.found.bundles = attached.found.bundles;
    all.found.notation = attached.found.notation;
    all.found.simple = detached.found.simple;
    for fault in &all.faults {
        tracing::warn!(image = %subject.reference.name(), %fault, "a signature cannot be used");
    }
    Ok(all)
}

fn distinct(digests: &[Digest]) -> Vec<Digest> {
    let mut all = Vec::with_capacity(digests.len());
    for digest in digests {
        if !all.contains(digest) {
            all.push(*digest);
        }
    }
    all
}

/// Whether a registry's error is about one document alone: it is absent, or not what its digest says.
pub(crate) fn is_of_one(e: &cocoon_registry::Error) -> bool {
    matches!(e, cocoon_registry::Error::Image(_) | cocoon_registry::Error::NotFound { .. })
}
