//! The signed JSON of "simple signing" (containers/image, "atomic container signature").

use cocoon_image::{Digest, Error};
use serde::Deserialize;

const KIND: &str = "atomic container signature";
const MAX_BYTES: usize = 64 * 1024;
const MAX_REFERENCE: usize = 1024;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    critical: Critical,
    /// Remarks, signed but without meaning for a decision.
    #[serde(rename = "optional", default)]
    _optional: Option<serde_json::Map<String, serde_json::Value>>,
}

// What is critical must be understood: any further member is an error.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Critical {
    #[serde(rename = "type")]
    kind: String,
    image: Image,
    identity: Identity,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Image {
    #[serde(rename = "docker-manifest-digest")]
    digest: Digest,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Identity {
    #[serde(rename = "docker-reference")]
    reference: String,
}

/// The reference and the digest that a payload is about.
pub(super) fn parse(json: &[u8]) -> Result<(String, Digest), Error> {
    let invalid = |why: &str| Error::SignatureInvalid(format!("the signed payload is malformed: {why}"));
    if json.len() > MAX_BYTES {
        return Err(invalid("it is too long"));
    }
    let wire: Wire = serde_json::from_slice(json).map_err(|e| {
        let text: String = e.to_string().chars().filter(|c| !c.is_control()).take(200).collect();
        invalid(&text)
    })?;
    if wire.critical.kind != KIND {
        return Err(invalid("its type is not \"atomic container signature\""));
    }
    let reference = wire.critical.identity.reference;
    if reference.is_empty() || reference.len() > MAX_REFERENCE || reference.chars().any(char::is_control) {
        return Err(invalid("its docker-reference is empty, too long or not printable"));
    }
    Ok((reference, wire.critical.image.digest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(kind: &str, reference: &str, extra: &str) -> String {
        let digest = Digest::sha256(b"");
        format!(
            r#"{{"critical":{{"type":{kind:?},"image":{{"docker-manifest-digest":"{digest}"}},"identity":{{"docker-reference":{reference:?}}}{extra}}},"optional":{{"creator":"x","timestamp":1}}}}"#
        )
    }

    #[test]
    fn only_what_is_understood_is_taken() {
        let good = json(KIND, "a.example/b:1", "");
        assert_eq!(parse(good.as_bytes()).unwrap(), ("a.example/b:1".into(), Digest::sha256(b"")));
        for bad in [
            json("cosign container image signature", "a", ""),
            json(KIND, "", ""),
            json(KIND, "a\nb", ""),
            json(KIND, &"a".repeat(1025), ""),
            json(KIND, "a", r#","more":1"#),
            json(KIND, "a", r#","type":"atomic container signature""#),
            good.replace("\"optional\"", "\"further\""),
            good.replace("sha256:", "sha256:0"),
            format!("{good}x"),
            " ".repeat(MAX_BYTES) + &good,
            String::new(),
        ] {
            assert!(matches!(parse(bad.as_bytes()), Err(Error::SignatureInvalid(_))), "{bad:.200}");
        }
    }

    proptest::proptest! {
        #[test]
        fn parsing_never_panics(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let _ = parse(&bytes);
        }
    }
}
