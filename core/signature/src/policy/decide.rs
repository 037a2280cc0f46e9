//! The decision on one image.

use cocoon_image::Digest;

use super::error::line;
use super::{Error, NotationSigned, Requirement, SignedBy, SignedIdentity, SigstoreSigned};
use crate::{Found, Subject, notation, sigstore, simple};

/// Most signatures of one kind that are looked at.
pub const MAX_LOOKED_AT: usize = 64;
/// Most signatures whose faults are told.
const MAX_TOLD: usize = 8;
/// Longest text about one signature, in characters.
const MAX_TEXT: usize = 400;

/// Why an image was accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// One sentence for each requirement, in their order.
    pub by: Vec<String>,
}

/// Decides whether the image meets all requirements, at the time `now_unix` in Unix seconds.
///
/// # Errors
/// [`Error::Rejected`], [`Error::Missing`] or [`Error::Unsatisfied`] with the faults of every requirement that is not
/// met and of its signatures (bounded); [`Error::Invalid`] for no requirement at all or unusable keys. A requirement
/// that rejects goes before all else, then the first that is not met names the error.
pub fn decide(
    requirements: &[Requirement],
    subject: &Subject<'_>,
    found: &Found,
    now_unix: u64,
) -> Result<Decision, Error> {
    if requirements.is_empty() {
        return Err(Error::Invalid("no requirement holds for the image".to_owned()));
    }
    if requirements.iter().any(|r| matches!(r, Requirement::Reject)) {
        return Err(Error::Rejected(format!("the policy rejects {}", subject.reference)));
    }
    let mut by = Vec::new();
    let mut faults: Vec<Error> = Vec::new();
    for requirement in requirements {
        match one(requirement, subject, found, now_unix) {
            Ok(how) => by.push(how),
            Err(e) => faults.push(e),
        }
    }
    let Some(first) = faults.first() else { return Ok(Decision { by }) };
    let told: Vec<String> = faults.iter().take(MAX_TOLD).map(text_of).collect();
    let text = told.join("; and ");
    Err(match first {
        Error::Invalid(_) => Error::Invalid(text),
        Error::Rejected(_) => Error::Rejected(text),
        Error::Missing(_) => Error::Missing(text),
        Error::Unsatisfied(_) => Error::Unsatisfied(text),
    })
}

/// The text without the words that the variant puts before it.
fn text_of(e: &Error) -> String {
    match e {
        Error::Invalid(t) | Error::Rejected(t) | Error::Missing(t) | Error::Unsatisfied(t) => t.clone(),
    }
}

fn one(
    requirement: &Requirement,
    subject: &Subject<'_>,
    found: &Found,
    now_unix: u64,
) -> Result<String, Error> {
    match requirement {
        Requirement::InsecureAcceptAnything => {
            Ok("the policy accepts this image unsigned (insecureAcceptAnything)".to_owned())
        }
        Requirement::Reject => Err(Error::Rejected(format!("the policy rejects {}", subject.reference))),
        Requirement::SignedBy(signed) => signed_by(signed, subject, found, now_unix),
        Requirement::SigstoreSigned(signed) => sigstore_signed(signed, subject, found, now_unix),
        Requirement::NotationSigned(signed) => notation_signed(signed, subject, found, now_unix),
    }
}

fn signed_by(
    signed: &SignedBy,
    subject: &Subject<'_>,
    found: &Found,
    now_unix: u64,
) -> Result<String, Error> {
    let mut faults = Faults::new("signedBy", subject);
    if found.simple.is_empty() {
        return faults.verdict();
    }
    let keyring = signed
        .keyring()
        .map_err(|e| Error::Invalid(format!("signedBy: {}", line(&e.to_string(), MAX_TEXT))))?;
    for message in found.simple.iter().take(MAX_LOOKED_AT) {
        let outcome = simple::verify(&keyring, message, now_unix).map_err(|e| e.to_string());
        let checked = outcome.and_then(|claim| {
            is_subject(&claim.digest, subject)?;
            is_named(&signed.identity, &claim.reference, subject)?;
            Ok(format!(
                "signed with an OpenPGP key for {:?} (signedBy, {})",
                line(&claim.reference, MAX_TEXT),
                signed.identity.rule()
            ))
        });
        match checked {
            Ok(how) => return Ok(how),
            Err(why) => faults.add(&why),
        }
    }
    faults.verdict()
}

fn sigstore_signed(
    signed: &SigstoreSigned,
    subject: &Subject<'_>,
    found: &Found,
    now_unix: u64,
) -> Result<String, Error> {
    let mut faults = Faults::new("sigstoreSigned", subject);
    let named = |name: Option<&str>| match (&signed.identity, name) {
        (SignedIdentity::MatchDigestOnly, _) => Ok(()),
        (rule, Some(name)) => is_named(rule, name, subject),
        (rule, None) => Err(format!(
            "it names no repository, so another repository's image could be put in this one's place ({}); sign \
             with a payload that names it (`cocoon image sign`, or cosign's older format), or accept digests alone \
             (signedIdentity matchDigestOnly)",
            rule.rule()
        )),
    };
    let tagged =
        found.cosign.iter().take(MAX_LOOKED_AT).map(|s| sigstore::verify_legacy(&signed.trust, s, now_unix));
    let bundles = found
        .bundles
        .iter()
        .take(MAX_LOOKED_AT)
        .map(|bundle| sigstore::verify_bundle(&signed.trust, bundle, subject.digests, now_unix));
    for outcome in tagged.chain(bundles) {
        let checked = outcome.map_err(|e| e.to_string()).and_then(|claim| {
            is_subject(&claim.digest, subject)?;
            named(claim.reference.as_deref())?;
            Ok(format!("signed by {} (sigstoreSigned)", line(&claim.by, MAX_TEXT)))
        });
        match checked {
            Ok(how) => return Ok(how),
            Err(why) => faults.add(&why),
        }
    }
    faults.verdict()
}

fn notation_signed(
    signed: &NotationSigned,
    subject: &Subject<'_>,
    found: &Found,
    now_unix: u64,
) -> Result<String, Error> {
    let mut faults = Faults::new("notationSigned", subject);
    if found.notation.is_empty() {
        return faults.verdict();
    }
    let trust = signed
        .trust()
        .map_err(|e| Error::Invalid(format!("notationSigned: {}", line(&e.to_string(), MAX_TEXT))))?;
    for envelope in found.notation.iter().take(MAX_LOOKED_AT) {
        let claim = notation::verify(&trust, envelope, now_unix).map_err(|e| e.to_string());
        match claim.and_then(|claim| is_subject(&claim.digest, subject)) {
            Ok(()) => return Ok("signed under a trusted certificate (notationSigned)".to_owned()),
            Err(why) => faults.add(&why),
        }
    }
    faults.verdict()
}

fn is_subject(digest: &Digest, subject: &Subject<'_>) -> Result<(), String> {
    if subject.digests.contains(digest) { Ok(()) } else { Err(format!("it is for {digest}, another image")) }
}

fn is_named(rule: &SignedIdentity, name: &str, subject: &Subject<'_>) -> Result<(), String> {
    if rule.accepts(subject.reference, name) {
        return Ok(());
    }
    Err(format!(
        "it is for the name {:?}, which is not {} by {}",
        line(name, 200),
        subject.reference,
        rule.rule()
    ))
}

/// What is wrong with the signatures that one requirement looked at.
struct Faults<'a> {
    kind: &'static str,
    subject: &'a Subject<'a>,
    count: usize,
    told: Vec<String>,
}

impl<'a> Faults<'a> {
    fn new(kind: &'static str, subject: &'a Subject<'a>) -> Self {
        Faults { kind, subject, count: 0, told: Vec::new() }
    }

    fn add(&mut self, why: &str) {
        self.count += 1;
        if self.told.len() < MAX_TOLD {
            self.told.push(format!("signature {}: {}", self.count, line(why, MAX_TEXT)));
        }
    }

    fn verdict(self) -> Result<String, Error> {
        let Faults { kind, subject, count, told } = self;
        if count == 0 {
            return Err(Error::Missing(format!(
                "{kind}: no such signature was found for {}",
                subject.reference
            )));
        }
        let more =
            if count > told.len() { format!("; and {} more", count - told.len()) } else { String::new() };
        Err(Error::Unsatisfied(format!(
            "{kind}: no signature of {} satisfies it: {}{more}",
            subject.reference,
            told.join("; ")
        )))
    }
}
