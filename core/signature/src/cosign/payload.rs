//! The simple signing payload (containers/image, signature.md) as cosign writes it.

use serde::Deserialize;
use serde_json::{Map, Value};

use cocoon_image::{Digest, Error, Reference};

use crate::policy::line;

/// What is signed.
#[derive(Clone, Debug, PartialEq)]
pub struct Payload {
    /// `critical.identity.docker-reference`: the repository, in cosign's or Docker's spelling.
    pub reference: String,
    /// `critical.image.docker-manifest-digest`: the manifest or index signed.
    pub manifest_digest: Digest,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    critical: Critical,
    /// Remarks, signed but without meaning for a decision.
    #[serde(rename = "optional", default)]
    _optional: Option<Map<String, Value>>,
}

// What is critical must be understood: any further member is an error.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Critical {
    identity: Identity,
    image: Image,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Identity {
    #[serde(rename = "docker-reference")]
    docker_reference: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Image {
    #[serde(rename = "docker-manifest-digest")]
    docker_manifest_digest: String,
}

const COSIGN: &str = "cosign container image signature";

impl Payload {
    /// The payload for an image in the reference's repository.
    pub fn new(reference: &Reference, manifest_digest: Digest) -> Self {
        Payload { reference: reference.name(), manifest_digest }
    }

    /// The payload's bytes: always the same for the same payload.
    pub fn to_json(&self) -> Vec<u8> {
        // `name()` and digests need no escaping, but a payload parsed from elsewhere may.
        let reference = Value::from(self.reference.as_str());
        format!(
            r#"{{"critical":{{"identity":{{"docker-reference":{reference}}},"image":{{"docker-manifest-digest":"{}"}},"type":"{COSIGN}"}},"optional":null}}"#,
            self.manifest_digest
        )
        .into_bytes()
    }

    /// Parses a payload.
    ///
    /// # Errors
    /// [`Error::SignatureInvalid`].
    pub fn parse(json: &[u8]) -> Result<Self, Error> {
        let invalid =
            |why: String| Error::SignatureInvalid(format!("the signed payload is malformed: {why}"));
        let wire: Wire = serde_json::from_slice(json).map_err(|e| invalid(line(&e.to_string(), 200)))?;
        // "Simple signing" has a type of its own: what was signed as the one must not pass as the other.
        if wire.critical.kind != COSIGN {
            return Err(invalid(format!("its type is not {COSIGN:?}")));
        }
        let digest = wire.critical.image.docker_manifest_digest.parse();
        Ok(Payload {
            reference: wire.critical.identity.docker_reference,
            manifest_digest: digest.map_err(|_| invalid("it names no digest".to_owned()))?,
        })
    }

    /// Whether the payload was made for the reference's repository (tags and digests aside).
    pub fn names_repository_of(&self, reference: &Reference) -> bool {
        Reference::parse(&self.reference)
            .is_ok_and(|r| r.registry == reference.registry && r.repository == reference.repository)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_are_cosigns() {
        let digest = Digest::sha256(b"");
        let p = Payload::new(&Reference::parse("ghcr.io/a/b:t").unwrap(), digest);
        let json = p.to_json();
        assert_eq!(
            String::from_utf8(json.clone()).unwrap(),
            r#"{"critical":{"identity":{"docker-reference":"ghcr.io/a/b"},"image":{"docker-manifest-digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},"type":"cosign container image signature"},"optional":null}"#
        );
        assert_eq!(Payload::parse(&json).unwrap(), p);
    }

    #[test]
    fn only_what_is_understood_is_taken() {
        let p = Payload::new(&Reference::parse("ghcr.io/a/b").unwrap(), Digest::sha256(b""));
        let good = String::from_utf8(p.to_json()).unwrap();
        let remarks = good.replace("null", r#"{"creator":"x","timestamp":1}"#);
        assert_eq!(Payload::parse(remarks.as_bytes()).unwrap(), p);
        for bad in [
            good.replace(COSIGN, "atomic container signature"),
            good.replace(COSIGN, "Cosign container image signature"),
            good.replace(COSIGN, ""),
            good.replace("\"type\"", "\"expires\":1,\"type\""),
            good.replace("\"docker-reference\"", "\"more\":1,\"docker-reference\""),
            good.replace("\"docker-manifest-digest\"", "\"more\":1,\"docker-manifest-digest\""),
            good.replace("\"optional\"", "\"further\""),
            good.replace("\"type\"", "\"type\":\"x\",\"type\""),
            good.replace("null", "[]"),
        ] {
            assert_ne!(bad, good);
            assert!(matches!(Payload::parse(bad.as_bytes()), Err(Error::SignatureInvalid(_))), "{bad}");
        }
        let long = good.replace("\"type\"", &format!("\"{}\":1,\"type\"", "x".repeat(50_000)));
        assert!(Payload::parse(long.as_bytes()).unwrap_err().to_string().len() < 512);
    }

    #[test]
    fn docker_hub_has_two_spellings() {
        let digest = Digest::sha256(b"");
        let p = Payload { reference: "index.docker.io/library/busybox".into(), manifest_digest: digest };
        assert!(p.names_repository_of(&Reference::parse("busybox:1").unwrap()));
        assert!(!p.names_repository_of(&Reference::parse("ghcr.io/library/busybox").unwrap()));
        let empty = Payload { reference: String::new(), manifest_digest: digest };
        assert!(!empty.names_repository_of(&Reference::parse("busybox").unwrap()));
    }

    proptest::proptest! {
        #[test]
        fn parsing_never_panics(text in "\\PC{0,200}") {
            let _ = Payload::parse(text.as_bytes());
        }
    }
}
