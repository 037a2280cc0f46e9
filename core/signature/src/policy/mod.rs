//! Signature policies in the format of containers-policy.json(5): which images are accepted, decided on the name that
//! the user wrote.
//!
//! Nothing is accepted because something is absent: an unknown member or type, an empty list of requirements, a key
//! file that is not at hand, an unknown scope rule are errors. Images in a cache, mirrors and loopback registries get
//! no other treatment than any image.
//!
//! Beyond the manual page, for what it does not cover:
//! * `keyDatas` beside `keyPaths`, so that files can be inlined ([`Policy::inlined`]);
//! * `sigstoreSigned` may name a `fulcio.trustedRootData` (a Sigstore trusted root, JSON, base64) instead of
//!   `fulcio.caData`, a `fulcio.subjectURI` instead of `fulcio.subjectEmail`, and `fulcio.ctLogPublicKeyData(s)`;
//! * the requirement `notationSigned`: `{"type": "notationSigned", "trustStoreData": base64 of PEM,
//!   "trustedIdentities": ["x509.subject: C=…" | "*"]}`;
//! * the `signedIdentity` of `sigstoreSigned` may be `{"type": "matchDigestOnly"}`: the digest is enough, whatever name
//!   is signed. The bundles of cosign 3 name no repository and count under this rule alone; where the statement in a
//!   bundle names its subject, that name is compared as any other.
//!
//! As there, no `signedIdentity` means `matchRepoDigestOrExact`. What cosign signs names no tag, so that images named
//! by tag need `matchRepository`.

mod decide;
mod error;
mod identity;
mod inline;
mod parse;
mod requirement;
mod scope;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde_json::Value;

use cocoon_image::Reference;

pub use decide::{Decision, decide};
pub use error::Error;
pub(crate) use error::line;
pub use identity::{Named, SignedIdentity};
pub use requirement::{NotationSigned, Requirement, SignedBy, SigstoreSigned, needs};

/// The longest policy, in bytes.
pub const MAX_POLICY_BYTES: usize = 1 << 20;
/// Most values of a policy's JSON.
const MAX_VALUES: usize = 50_000;
/// The longest file that a policy may name, in bytes.
pub const MAX_FILE_BYTES: usize = 256 * 1024;

/// Gives the content of a file that a policy names, or says why not. What `keyPath` and its like hold may also be a
/// URI: whoever gives the files decides what they mean.
pub type Files<'a> = &'a dyn Fn(&str) -> Result<Vec<u8>, String>;

/// A policy, complete with all its keys.
#[derive(Clone, Debug)]
pub struct Policy {
    default: Vec<Requirement>,
    /// Transport, scope, requirements. Only `docker` is ever asked; the others were checked all the same.
    transports: BTreeMap<String, BTreeMap<String, Vec<Requirement>>>,
}

impl Policy {
    /// Reads a policy that holds all its keys itself.
    ///
    /// # Errors
    /// [`Error::Invalid`], naming the member; also where a file is named.
    pub fn parse(json: &[u8]) -> Result<Policy, Error> {
        Policy::parse_with(json, &|_| {
            Err("there are no files here; put the content into the policy (…Data, base64)".to_owned())
        })
    }

    /// Reads a policy; files that it names are taken from `files`.
    ///
    /// # Errors
    /// [`Error::Invalid`], naming the member.
    pub fn parse_with(json: &[u8], files: Files<'_>) -> Result<Policy, Error> {
        parse::policy(&Policy::inline(json, files)?).map_err(Error::Invalid)
    }

    /// The same policy with the content of its files in place of their paths: what can be sent to a place without
    /// those files. It was parsed in full, so it can be used there.
    ///
    /// # Errors
    /// [`Error::Invalid`], naming the member.
    pub fn inlined(json: &[u8], files: Files<'_>) -> Result<Value, Error> {
        let value = Policy::inline(json, files)?;
        let text = value.to_string();
        if text.len() > MAX_POLICY_BYTES {
            return Err(Error::Invalid(format!("with its files it is longer than {MAX_POLICY_BYTES} bytes")));
        }
        parse::policy(&value).map_err(Error::Invalid)?;
        Ok(value)
    }

    /// The paths of all files that a policy names, each once, in the order of the text.
    ///
    /// # Errors
    /// [`Error::Invalid`] where it is no JSON object within bounds.
    pub fn paths(json: &[u8]) -> Result<Vec<String>, Error> {
        let paths = std::cell::RefCell::new(Vec::<String>::new());
        Policy::inline(json, &|path| {
            let mut paths = paths.borrow_mut();
            if !paths.iter().any(|p| p == path) {
                paths.push(path.to_owned());
            }
            Ok(Vec::new())
        })?;
        Ok(paths.into_inner())
    }

    fn inline(json: &[u8], files: Files<'_>) -> Result<Value, Error> {
        let mut value = crate::strict::parse(json, MAX_POLICY_BYTES, MAX_VALUES).map_err(Error::Invalid)?;
        inline::files(&mut value, files).map_err(Error::Invalid)?;
        Ok(value)
    }

    /// The requirements for an image under the name that its user wrote: those of the most specific scope alone, which
    /// are all to be met. Never empty.
    pub fn for_image(&self, reference: &Reference) -> &[Requirement] {
        let docker = self.transports.get("docker");
        let scoped = docker.and_then(|scopes| scope::of(reference).iter().find_map(|s| scopes.get(s)));
        scoped.unwrap_or(&self.default)
    }
}
