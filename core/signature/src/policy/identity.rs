//! `signedIdentity`: which name a signature must carry for an image to be accepted under the name its user wrote.
//!
//! Source: containers-policy.json(5), "signedBy". Names are compared in their fully expanded form.

use serde::Deserialize;
use serde_json::Value;

use cocoon_image::{Digest, Reference};

/// The rule by which the name in a signature is compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignedIdentity {
    /// The same name with the same tag or digest.
    MatchExact,
    /// Where the image was named with a tag, the same name and tag; where by digest, the same repository.
    MatchRepoDigestOrExact,
    /// The same repository, whatever the tag.
    MatchRepository,
    /// Any name or none: the digest is enough. An extension, for bundles that name no image.
    MatchDigestOnly,
    /// This very name.
    ExactReference(Named),
    /// This repository, whatever the tag.
    ExactRepository(String),
    /// As `MatchRepoDigestOrExact`, after a prefix of the image's name was replaced.
    RemapIdentity {
        /// What the image's name starts with.
        prefix: String,
        /// What the signed name starts with instead.
        signed_prefix: String,
    },
}

/// A name that may lack both tag and digest, unlike [`Reference`], which completes it with `latest`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// `registry/repository`.
    pub name: String,
    /// The tag, if it was written.
    pub tag: Option<String>,
    /// The digest, if it was written.
    pub digest: Option<Digest>,
}

impl Named {
    /// Reads a name; `None` where it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let reference = Reference::parse(text).ok()?;
        let without_digest = text.split_once('@').map_or(text, |(name, _)| name);
        let last = without_digest.rsplit('/').next().unwrap_or_default();
        let tag = reference.tag.clone().filter(|_| last.contains(':'));
        Some(Named { name: reference.name(), tag, digest: reference.digest })
    }

    fn of(reference: &Reference) -> Self {
        Named { name: reference.name(), tag: reference.tag.clone(), digest: reference.digest }
    }

    fn is_bare(&self) -> bool {
        self.tag.is_none() && self.digest.is_none()
    }

    /// Whether a signature that carries `signed` speaks of exactly this name.
    fn is_exactly(&self, signed: &Named) -> bool {
        // Of `name:tag@digest` the tag is what a signature can know; the digest itself is checked against the payload.
        let digest = match (self.digest, signed.digest) {
            (Some(own), Some(signed)) => own == signed,
            (None, None) => true,
            (Some(_), None) => self.tag.is_some(),
            (None, Some(_)) => false,
        };
        !self.is_bare() && !signed.is_bare() && self.name == signed.name && self.tag == signed.tag && digest
    }

    fn repo_digest_or_exact(&self, signed: &Named) -> bool {
        if self.tag.is_some() { self.is_exactly(signed) } else { self.name == signed.name }
    }
}

#[derive(Deserialize)]
#[serde(tag = "type", deny_unknown_fields)]
enum Wire {
    #[serde(rename = "matchExact")]
    MatchExact {},
    #[serde(rename = "matchRepoDigestOrExact")]
    MatchRepoDigestOrExact {},
    #[serde(rename = "matchRepository")]
    MatchRepository {},
    #[serde(rename = "matchDigestOnly")]
    MatchDigestOnly {},
    #[serde(rename = "exactReference", rename_all = "camelCase")]
    ExactReference { docker_reference: String },
    #[serde(rename = "exactRepository", rename_all = "camelCase")]
    ExactRepository { docker_repository: String },
    #[serde(rename = "remapIdentity", rename_all = "camelCase")]
    RemapIdentity { prefix: String, signed_prefix: String },
}

impl SignedIdentity {
    /// Reads the member `signedIdentity`; says why not.
    pub(super) fn parse(value: &Value) -> Result<Self, String> {
        let wrong = |why: String| format!("signedIdentity: {why}");
        Ok(match Wire::deserialize(value).map_err(|e| wrong(e.to_string()))? {
            Wire::MatchExact {} => SignedIdentity::MatchExact,
            Wire::MatchRepoDigestOrExact {} => SignedIdentity::MatchRepoDigestOrExact,
            Wire::MatchRepository {} => SignedIdentity::MatchRepository,
            Wire::MatchDigestOnly {} => SignedIdentity::MatchDigestOnly,
            Wire::ExactReference { docker_reference } => {
                let named = Named::parse(&docker_reference).filter(|n| !n.is_bare());
                SignedIdentity::ExactReference(named.ok_or_else(|| {
                    wrong(format!("{docker_reference:?} is not an image name with a tag or a digest"))
                })?)
            }
            Wire::ExactRepository { docker_repository } => {
                let named = Named::parse(&docker_repository).filter(Named::is_bare);
                let named = named
                    .ok_or_else(|| wrong(format!("{docker_repository:?} is not a repository's name")))?;
                SignedIdentity::ExactRepository(named.name)
            }
            Wire::RemapIdentity { prefix, signed_prefix } => {
                for text in [&prefix, &signed_prefix] {
                    if !is_prefix(text) {
                        return Err(wrong(format!("{text:?} is not a host[:port], namespace or repository")));
                    }
                }
                SignedIdentity::RemapIdentity { prefix, signed_prefix }
            }
        })
    }

    /// Whether a signature that carries the name `signed` vouches for the image under the name its user wrote.
    pub fn accepts(&self, reference: &Reference, signed: &str) -> bool {
        if *self == SignedIdentity::MatchDigestOnly {
            return true;
        }
        let Some(signed) = Named::parse(signed) else { return false };
        let intended = Named::of(reference);
        match self {
            SignedIdentity::MatchExact => intended.is_exactly(&signed),
            SignedIdentity::MatchRepoDigestOrExact => intended.repo_digest_or_exact(&signed),
            SignedIdentity::MatchRepository => intended.name == signed.name,
            SignedIdentity::MatchDigestOnly => true,
            SignedIdentity::ExactReference(expected) => *expected == signed,
            SignedIdentity::ExactRepository(expected) => *expected == signed.name,
            SignedIdentity::RemapIdentity { prefix, signed_prefix } => {
                let Some(name) = remap(&intended.name, prefix, signed_prefix) else { return false };
                Named { name, ..intended }.repo_digest_or_exact(&signed)
            }
        }
    }

    /// The rule as the policy spells it.
    pub fn rule(&self) -> &'static str {
        match self {
            SignedIdentity::MatchExact => "matchExact",
            SignedIdentity::MatchRepoDigestOrExact => "matchRepoDigestOrExact",
            SignedIdentity::MatchRepository => "matchRepository",
            SignedIdentity::MatchDigestOnly => "matchDigestOnly",
            SignedIdentity::ExactReference(_) => "exactReference",
            SignedIdentity::ExactRepository(_) => "exactRepository",
            SignedIdentity::RemapIdentity { .. } => "remapIdentity",
        }
    }
}

/// A `host[:port]`, a namespace or a repository: what becomes a name when something is added below.
fn is_prefix(text: &str) -> bool {
    !text.contains('@') && Reference::parse(&format!("{text}/x")).is_ok()
}

/// The name after the prefix was replaced, unchanged where it does not start with it; `None` where no name results.
fn remap(name: &str, prefix: &str, signed_prefix: &str) -> Option<String> {
    let Some(rest) = name.strip_prefix(prefix).filter(|rest| rest.is_empty() || rest.starts_with('/')) else {
        return Some(name.to_owned());
    };
    let mapped = format!("{signed_prefix}{rest}");
    // What results must be a complete name by itself; `example/app` would silently become Docker Hub's.
    Reference::parse(&mapped).ok().map(|r| r.name()).filter(|name| *name == mapped)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn accepts(rule: Value, intended: &str, signed: &str) -> bool {
        let reference = Reference::parse(intended).unwrap();
        SignedIdentity::parse(&rule).unwrap().accepts(&reference, signed)
    }

    #[test]
    fn rules_compare_as_the_manual_says() {
        let d = format!("@{}", Digest::sha256(b"a"));
        let other = format!("@{}", Digest::sha256(b"b"));
        let table = [
            // rule, intended, signed, verdict
            ("matchExact", "a.io/x:1".to_owned(), "a.io/x:1".to_owned(), true),
            ("matchExact", "a.io/x:1".into(), "a.io/x:2".into(), false),
            ("matchExact", "a.io/x:1".into(), "a.io/x".into(), false),
            ("matchExact", "a.io/x".into(), "a.io/x:latest".into(), true),
            ("matchExact", "a.io/x".into(), "a.io/x".into(), false),
            ("matchExact", format!("a.io/x{d}"), "a.io/x:1".into(), false),
            ("matchExact", format!("a.io/x{d}"), format!("a.io/x{d}"), true),
            ("matchExact", format!("a.io/x{d}"), format!("a.io/x{other}"), false),
            ("matchExact", format!("a.io/x:1{d}"), "a.io/x:1".into(), true),
            ("matchExact", format!("a.io/x:1{d}"), format!("a.io/x:1{other}"), false),
            ("matchRepoDigestOrExact", "a.io/x:1".into(), "a.io/x:1".into(), true),
            ("matchRepoDigestOrExact", "a.io/x:1".into(), "a.io/x".into(), false),
            ("matchRepoDigestOrExact", "a.io/x:1".into(), "a.io/x:2".into(), false),
            ("matchRepoDigestOrExact", format!("a.io/x{d}"), "a.io/x:2".into(), true),
            ("matchRepoDigestOrExact", format!("a.io/x{d}"), "a.io/y:2".into(), false),
            ("matchRepository", "a.io/x:1".into(), "a.io/x".into(), true),
            ("matchRepository", "a.io/x:1".into(), "a.io/x:9".into(), true),
            ("matchRepository", "a.io/x:1".into(), "a.io/x/y".into(), false),
            ("matchRepository", "busybox".into(), "index.docker.io/library/busybox".into(), true),
            ("matchRepository", "a.io/x:1".into(), "".into(), false),
            ("matchRepository", "a.io/x:1".into(), "a.io/X".into(), false),
        ];
        for (rule, intended, signed, verdict) in table {
            assert_eq!(
                accepts(json!({"type": rule}), &intended, &signed),
                verdict,
                "{rule} {intended} {signed}"
            );
        }
    }

    #[test]
    fn names_given_by_the_policy() {
        let exact = json!({"type": "exactReference", "dockerReference": "busybox:1"});
        assert!(accepts(exact.clone(), "mirror.io/b:9", "docker.io/library/busybox:1"));
        assert!(!accepts(exact.clone(), "mirror.io/b:9", "docker.io/library/busybox:2"));
        assert!(!accepts(exact, "mirror.io/b:9", "mirror.io/b:9"));
        let repository = json!({"type": "exactRepository", "dockerRepository": "a.io/x"});
        assert!(accepts(repository.clone(), "mirror.io/b:9", "a.io/x:5"));
        assert!(!accepts(repository, "mirror.io/b:9", "a.io/xy:5"));
    }

    #[test]
    fn prefixes_are_remapped_at_their_borders() {
        let rule = |p: &str, s: &str| json!({"type": "remapIdentity", "prefix": p, "signedPrefix": s});
        assert!(accepts(rule("m.io/ns", "a.io/s"), "m.io/ns/x:1", "a.io/s/x:1"));
        assert!(!accepts(rule("m.io/ns", "a.io/s"), "m.io/ns/x:1", "m.io/ns/x:1"));
        assert!(!accepts(rule("m.io/ns", "a.io/s"), "m.io/nsx/x:1", "a.io/sx/x:1"));
        assert!(accepts(rule("m.io/ns", "a.io/s"), "m.io/nsx/x:1", "m.io/nsx/x:1"));
        assert!(accepts(rule("m.io:5000", "a.io"), "m.io:5000/x:1", "a.io/x:1"));
        assert!(!accepts(rule("m.io", "a.io"), "m.io:5000/x:1", "a.io:5000/x:1"));
        // The whole name replaced by a host alone is no name.
        assert!(!accepts(rule("m.io/x", "a.io"), "m.io/x:1", "a.io:1"));
    }

    #[test]
    fn what_is_no_rule_is_refused() {
        for bad in [
            json!(null),
            json!({}),
            json!({"type": "matchAnything"}),
            json!({"type": "matchExact", "x": 1}),
            json!({"type": "exactReference"}),
            json!({"type": "exactReference", "dockerReference": "busybox"}),
            json!({"type": "exactReference", "dockerReference": "UPPER:1"}),
            json!({"type": "exactRepository", "dockerRepository": "busybox:1"}),
            json!({"type": "exactRepository", "dockerRepository": ""}),
            json!({"type": "remapIdentity", "prefix": "a.io"}),
            json!({"type": "remapIdentity", "prefix": "a.io/x:1", "signedPrefix": "b.io"}),
            json!({"type": "remapIdentity", "prefix": "", "signedPrefix": "b.io"}),
        ] {
            assert!(SignedIdentity::parse(&bad).is_err(), "{bad}");
        }
    }
}
