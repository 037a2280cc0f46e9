//! Signatures among the image's referrers: Sigstore bundles and Notation's envelopes.
//!
//! A list of referrers names artifact types, but not always well: registries without the API hold a list that clients
//! write, and cosign 3.1 enters its bundles there under the type of their empty config. So entries without a telling
//! type are opened too, after those with one, and only the manifest itself counts.

use cocoon_image::{Descriptor, Digest, Manifest, Reference};
use cocoon_registry::Client;
use cocoon_signature::notation::{COSE_TYPE, JWS_TYPE, MAX_ENVELOPE_BYTES};
use cocoon_signature::{Needs, NotationEnvelope};

use crate::find::{Gathered, is_of_one};
use crate::{Error, MAX_SIGNATURES};

/// Every version of the bundle; which are understood is for the verifier to say.
const BUNDLE: &str = "application/vnd.dev.sigstore.bundle";
const NOTATION: &str = "application/vnd.cncf.notary.signature";
/// The type of a config that says nothing.
const EMPTY: &str = "application/vnd.oci.empty.v1+json";
/// Most manifests opened for one digest: signatures of both kinds, and others that do not say what they are.
const MAX_OPENED: usize = 4 * MAX_SIGNATURES;
/// The largest bundle, in bytes.
const MAX_BUNDLE_BYTES: usize = 512 * 1024;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Bundle,
    Notation,
    Unknown,
}

impl Kind {
    /// By an artifact type; `None` for what is certainly something else.
    fn of(artifact_type: Option<&str>) -> Option<Kind> {
        match artifact_type.filter(|t| !t.is_empty()) {
            None | Some(EMPTY) => Some(Kind::Unknown),
            Some(NOTATION) => Some(Kind::Notation),
            Some(other) if is_bundle(other) => Some(Kind::Bundle),
            Some(_) => None,
        }
    }

    fn is_needed(self, needs: Needs) -> bool {
        match self {
            Kind::Bundle => needs.cosign,
            Kind::Notation => needs.notation,
            Kind::Unknown => true,
        }
    }
}

/// `application/vnd.dev.sigstore.bundle.v0.3+json`, and its elder spelling `…bundle+json;version=0.2`.
fn is_bundle(media_type: &str) -> bool {
    media_type.strip_prefix(BUNDLE).is_some_and(|rest| rest.starts_with(['.', '+']))
}

pub(crate) async fn find(
    registry: &Client,
    reference: &Reference,
    digests: &[Digest],
    needs: Needs,
) -> Result<Gathered, Error> {
    let mut all = Gathered::default();
    if !needs.cosign && !needs.notation {
        return Ok(all);
    }
    for digest in digests {
        let listed = registry.referrers(reference, digest, None).await?;
        let mut entries: Vec<(Kind, Descriptor)> = listed
            .into_iter()
            .filter_map(|d| Kind::of(d.artifact_type.as_deref()).map(|kind| (kind, d)))
            .filter(|(kind, _)| kind.is_needed(needs))
            .collect();
        // Stable: those that say what they are come first, so that others cannot crowd them out.
        entries.sort_by_key(|(kind, _)| *kind == Kind::Unknown);
        for (_, entry) in entries.iter().take(MAX_OPENED) {
            match open(registry, reference, digest, entry, needs, &mut all).await {
                Ok(()) => {}
                Err(Problem::One(why)) => all.faults.add(format_args!("referrer {}", entry.digest), why),
                Err(Problem::All(e)) => return Err(e.into()),
            }
        }
    }
    Ok(all)
}

/// What is wrong: one document, or the registry.
enum Problem {
    One(String),
    All(cocoon_registry::Error),
}

impl From<cocoon_registry::Error> for Problem {
    fn from(e: cocoon_registry::Error) -> Problem {
        if is_of_one(&e) { Problem::One(e.to_string()) } else { Problem::All(e) }
    }
}

/// Takes the signature of one referrer, where it is one.
async fn open(
    registry: &Client,
    reference: &Reference,
    subject: &Digest,
    entry: &Descriptor,
    needs: Needs,
    all: &mut Gathered,
) -> Result<(), Problem> {
    let full = |n: usize| n >= MAX_SIGNATURES;
    let bytes = registry.manifest(reference, &entry.digest).await?;
    let manifest = Manifest::parse(&bytes).map_err(|e| Problem::One(e.to_string()))?;
    let of_config = Some(manifest.config.media_type.as_str());
    // Notation's type is its config's; a bundle's manifest may have only its layer's.
    let kind = match Kind::of(manifest.artifact_type.as_deref().filter(|t| !t.is_empty()).or(of_config)) {
        Some(Kind::Unknown) if manifest.layers.iter().any(|l| is_bundle(&l.media_type)) => Kind::Bundle,
        Some(kind) => kind,
        None => return Ok(()),
    };
    if kind == Kind::Unknown || !kind.is_needed(needs) {
        return Ok(());
    }
    if manifest.subject.as_ref().map(|s| s.digest) != Some(*subject) {
        return Err(Problem::One("it is listed for the image, but says that it is another's".to_owned()));
    }
    let [layer] = manifest.layers.as_slice() else {
        return Err(Problem::One("it has not one layer".to_owned()));
    };
    match kind {
        Kind::Bundle if is_bundle(&layer.media_type) && !full(all.found.bundles.len()) => {
            let bundle = registry.blob_bytes(reference, layer, MAX_BUNDLE_BYTES).await?;
            all.found.bundles.push(bundle.to_vec());
        }
        Kind::Notation
            if [JWS_TYPE, COSE_TYPE].contains(&layer.media_type.as_str())
                && !full(all.found.notation.len()) =>
        {
            let envelope = registry.blob_bytes(reference, layer, MAX_ENVELOPE_BYTES).await?;
            let media_type = layer.media_type.clone();
            all.found.notation.push(NotationEnvelope { media_type, bytes: envelope.to_vec() });
        }
        _ => {
            return Err(Problem::One(
                "its layer is of another type, or there are too many signatures".to_owned(),
            ));
        }
    }
    Ok(())
}
