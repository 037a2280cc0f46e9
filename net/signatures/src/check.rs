//! The whole question: may this image be used?

use cocoon_signature::Subject;
use cocoon_signature::policy::{self, Decision, Requirement};
use cocoon_stage::{Code, Failure};

use crate::Places;
use crate::find::{Faults, gather};

/// Most broken signatures that are told.
const MAX_TOLD: usize = 4;
/// Longest text about one, in characters.
const MAX_TEXT: usize = 200;

/// Finds the signatures that the requirements ask for and decides on them, at the time `now_unix` in Unix seconds. What
/// needs no signature (a rejection, an acceptance of anything) asks nobody.
///
/// `subject` must have the name that its user wrote, whatever mirror or cache the image comes from; `requirements` are
/// those of the policy for that name ([`policy::Policy::for_image`]) or a plan's own.
///
/// # Errors
/// A failure with the policy's code (`IMAGE-POLICY-…`, `IMAGE-SIGNATURE-…`) where they are not all met, or the code of what
/// kept signatures from being found. No requirement at all is one too.
pub async fn check(
    registry: &cocoon_registry::Client,
    http: &cocoon_http::Client,
    places: &Places,
    subject: &Subject<'_>,
    requirements: &[Requirement],
    now_unix: u64,
) -> Result<Decision, Failure> {
    let needs = policy::needs(requirements);
    let gathered = gather(registry, http, places, subject, needs).await?;
    // Hostile certificates can cost many signatures' worth of work, which must not stop other tasks.
    let (requirements, reference) = (requirements.to_vec(), subject.reference.clone());
    let digests = subject.digests.to_vec();
    let decided = tokio::task::spawn_blocking(move || {
        let subject = Subject { reference: &reference, digests: &digests };
        policy::decide(&requirements, &subject, &gathered.found, now_unix)
            .map_err(|e| with_faults(e, &gathered.faults).into())
    });
    decided.await.unwrap_or_else(|e| {
        Err(Failure::new(Code::ImageSignatureInvalid, format!("the signatures could not be checked: {e}")))
    })
}

/// The refusal with what was found and could not be used: then a signature is not missing, it is broken.
fn with_faults(e: policy::Error, faults: &Faults) -> policy::Error {
    if faults.count() == 0 {
        return e;
    }
    let told = faults.told().iter().take(MAX_TOLD).map(|fault| fault.chars().take(MAX_TEXT).collect());
    let told: Vec<String> = told.collect();
    match e {
        policy::Error::Missing(text) | policy::Error::Unsatisfied(text) => policy::Error::Unsatisfied(
            format!("{text}; {} more cannot be used: {}", faults.count(), told.join("; ")),
        ),
        other => other,
    }
}
