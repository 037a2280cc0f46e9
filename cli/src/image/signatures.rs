//! Signatures beside an image, as `inspect` lists them. None of them is verified there.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cocoon_http::Options;
use cocoon_image::Digest;
use cocoon_signature::{Found, Needs, Subject};
use cocoon_signatures::{Places, find};
use serde_json::{Value, json};

use super::place::Place;

/// Most hints of one kind.
const MAX_HINTS: usize = 8;

fn plain(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(120).collect()
}

/// What was found, by kind, with what each says of its key. A layout holds none; a registry that does not tell is said to.
pub async fn found(place: &Place, digest: &Digest) -> Vec<Value> {
    let Some((client, reference)) = place.registry() else { return Vec::new() };
    let subject = Subject { reference, digests: &[*digest] };
    let needs = Needs { cosign: true, simple: false, notation: true };
    let Ok(http) = cocoon_http::Client::new(Options::default()) else { return Vec::new() };
    match find(client, &http, &Places::default(), &subject, needs).await {
        Ok(found) => kinds(&found),
        Err(e) => vec![json!({"kind": "unknown", "count": 0, "hints": [plain(&e.to_string())]})],
    }
}

fn kinds(found: &Found) -> Vec<Value> {
    let cosign = found.cosign.iter().map(|s| match &s.certificate {
        Some(_) => "with a certificate".to_owned(),
        None => "with a key".to_owned(),
    });
    let notation = found.notation.iter().map(|envelope| plain(&envelope.media_type));
    let all = [
        ("cosign", found.cosign.len(), hints(cosign)),
        ("bundle", found.bundles.len(), hints(found.bundles.iter().map(|bundle| signer(bundle)))),
        ("notation", found.notation.len(), hints(notation)),
    ];
    let there = all.into_iter().filter(|(_, count, _)| *count > 0);
    there.map(|(kind, count, hints)| json!({"kind": kind, "count": count, "hints": hints})).collect()
}

/// Each hint once.
fn hints(all: impl Iterator<Item = String>) -> Vec<String> {
    let mut distinct: Vec<String> = Vec::new();
    for hint in all {
        if distinct.len() < MAX_HINTS && !distinct.contains(&hint) {
            distinct.push(hint);
        }
    }
    distinct
}

/// What a bundle says of its signer: the hint at a key, or that it has a certificate.
fn signer(bundle: &[u8]) -> String {
    let json: Value = serde_json::from_slice(bundle).unwrap_or_default();
    let material = json.get("verificationMaterial");
    let hint = material.and_then(|m| m.get("publicKey")?.get("hint")?.as_str());
    match hint {
        Some(hint) => match STANDARD.decode(hint) {
            Ok(hash) if hash.len() == 32 => format!("key SHA256:{}", hex::encode(hash)),
            _ => format!("key {}", plain(hint)),
        },
        None if material
            .is_some_and(|m| m.get("certificate").is_some() || m.get("x509CertificateChain").is_some()) =>
        {
            "with a certificate".to_owned()
        }
        None => "of an unknown signer".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bundles_hint_at_their_signer() {
        assert_eq!(signer(br#"{"verificationMaterial":{"publicKey":{"hint":"abc\n"}}}"#), "key abc");
        assert_eq!(signer(br#"{"verificationMaterial":{"certificate":{}}}"#), "with a certificate");
        for bad in [&b"x"[..], b"{}", b"[]"] {
            assert_eq!(signer(bad), "of an unknown signer");
        }
        let key = cocoon_signature::KeyPair::generate().unwrap();
        let key = cocoon_signature::SigningKey::from_pem(&key.private_pem).unwrap();
        let name = cocoon_image::Reference::parse("a.io/x").unwrap();
        let bundle = cocoon_signature::cosign::bundle_for_key(&key, &name, &Digest::sha256(b"")).unwrap();
        assert!(signer(&bundle).starts_with("key SHA256:"));
    }
}
