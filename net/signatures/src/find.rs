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
    pub(crate) faults: Faults,
}

/// Most faults that are kept of one image, and most characters of each: both are a registry's to choose.
const MAX_FAULTS: usize = 16;
const MAX_FAULT: usize = 300;

/// What is wrong with signatures, bounded and fit for a line of a log.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    told: Vec<String>,
    count: usize,
}

impl Faults {
    pub(crate) fn add(&mut self, what: impl std::fmt::Display, why: impl std::fmt::Display) {
        self.count += 1;
        if self.told.len() < MAX_FAULTS {
            let text = format!("{what}: {why}");
            let clean = text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c });
            self.told.push(clean.take(MAX_FAULT).collect());
        }
    }

    pub(crate) fn extend(&mut self, other: Faults) {
        self.count += other.count;
        let room = MAX_FAULTS.saturating_sub(self.told.len());
        self.told.extend(other.told.into_iter().take(room));
    }

    /// The first ones.
    pub(crate) fn told(&self) -> &[String] {
        &self.told
    }

    /// How many there were.
    pub(crate) fn count(&self) -> usize {
        self.count
    }
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
    for fault in all.faults.told() {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_bounded_in_number_and_length() {
        let mut all = Faults::default();
        for _ in 0..3 {
            let mut some = Faults::default();
            for _ in 0..100 {
                some.add("referrer", "\u{1b}\n".repeat(1 << 12));
            }
            all.extend(some);
        }
        let bytes: usize = all.told().iter().map(String::len).sum();
        assert_eq!((all.count(), all.told().len()), (300, MAX_FAULTS));
        assert!(bytes <= MAX_FAULTS * MAX_FAULT * 4, "{bytes}");
        assert!(!all.told().iter().any(|t| t.contains(['\u{1b}', '\n'])));
    }
}
