//! The simple signing payload (containers/image, signature.md) as cosign writes it.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use cocoon_image::{Digest, Error, Reference};

/// What is signed.
#[derive(Clone, Debug, PartialEq)]
pub struct Payload {
    /// `critical.identity.docker-reference`: the repository, in cosign's or Docker's spelling.
    pub reference: String,
    /// `critical.image.docker-manifest-digest`: the manifest or index signed.
    pub manifest_digest: Digest,
}

#[derive(Serialize, Deserialize)]
struct Wire {
    critical: Critical,
    #[serde(default)]
    optional: Value,
}

// Members are in the order in which cosign writes them.
#[derive(Serialize, Deserialize)]
struct Critical {
    identity: Identity,
    image: Image,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Serialize, Deserialize)]
struct Identity {
    #[serde(rename = "docker-reference")]
    docker_reference: String,
}

#[derive(Serialize, Deserialize)]
struct Image {
    #[serde(rename = "docker-manifest-digest")]
    docker_manifest_digest: String,
}

const COSIGN: &str = "cosign container image signature";
const ATOMIC: &str = "atomic container signature";

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
        let wire: Wire = serde_json::from_slice(json).map_err(|e| invalid(e.to_string()))?;
        if wire.critical.kind != COSIGN && wire.critical.kind != ATOMIC {
            return Err(invalid("its type is not a container image signature".to_owned()));
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
