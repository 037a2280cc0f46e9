//! Tokens of attestation services that are trusted by a CA: the certificate chain travels in the token's header.
//!
//! The key in the header is believed only if the chain's leaf carries the very same key and the chain ends at a
//! configured certificate (RFC 7517 §4.7, RFC 5280 path validation by rustls-webpki).

use std::time::Duration;

use cocoon_protocol::{Error, b64, token};
use rustls_pki_types::{CertificateDer, UnixTime};
use serde_json::{Value, json};
use webpki::{ALL_VERIFICATION_ALGS, EndEntityCert, KeyUsage, anchor_from_trusted_cert};

use crate::TrustedIssuers;

/// Most certificates of one chain, and their length in base64.
const MAX_CHAIN: usize = 6;
const MAX_CERTIFICATE: usize = 16 * 1024;

/// Checks a token whose header carries a chain; `None` if none is configured to be trusted or the token carries none.
pub(crate) fn verify(token: &str, trusted: &TrustedIssuers, now_unix: u64) -> Option<Result<Value, Error>> {
    if trusted.certificates.is_empty() {
        return None;
    }
    let header = b64::url_decode(token.split('.').next()?).ok()?;
    let header: Value = serde_json::from_slice(&header).ok()?;
    let jwk = header.get("jwk")?;
    let chain = jwk.get("x5c")?.as_array()?;
    if !trusted_leaf(jwk, chain, &trusted.certificates, now_unix).unwrap_or(false) {
        return Some(Err(Error::Signature("its certificate chain does not lead to a trusted one")));
    }
    Some(token::verify(token, &json!({ "keys": [jwk] }), now_unix))
}

fn trusted_leaf(jwk: &Value, chain: &[Value], roots: &[Vec<u8>], now_unix: u64) -> Option<bool> {
    if chain.is_empty() || chain.len() > MAX_CHAIN {
        return None;
    }
    let mut certificates = Vec::with_capacity(chain.len());
    for text in chain {
        let text = text.as_str().filter(|t| t.len() <= MAX_CERTIFICATE)?;
        certificates.push(CertificateDer::from(b64::std_decode(text).ok()?));
    }
    let (leaf, intermediates) = certificates.split_first()?;
    let end_entity = EndEntityCert::try_from(leaf).ok()?;
    if !carries(leaf, jwk)? {
        return Some(false);
    }
    let roots: Vec<CertificateDer<'_>> =
        roots.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
    // A certificate that is itself configured needs no issuer, but must be of its time.
    let anchors: Vec<_> = roots.iter().filter_map(|root| anchor_from_trusted_cert(root).ok()).collect();
    let time = UnixTime::since_unix_epoch(Duration::from_secs(now_unix));
    let path = end_entity.verify_for_usage(
        ALL_VERIFICATION_ALGS,
        &anchors,
        intermediates,
        time,
        KeyUsage::required_if_present(&[]),
        None,
        None,
    );
    Some(
        path.is_ok() || (roots.iter().any(|root| root.as_ref() == leaf.as_ref()) && in_time(leaf, now_unix)?),
    )
}

/// Whether the leaf's public key is the P-256 point of the JWK.
fn carries(leaf: &CertificateDer<'_>, jwk: &Value) -> Option<bool> {
    use x509_cert::der::Decode;
    let certificate = x509_cert::Certificate::from_der(leaf.as_ref()).ok()?;
    let key = certificate.tbs_certificate().subject_public_key_info().subject_public_key.as_bytes()?;
    let coordinate = |name: &str| b64::url_decode(jwk.get(name)?.as_str()?).ok();
    let point = [vec![4], coordinate("x")?, coordinate("y")?].concat();
    Some(key == point)
}

fn in_time(leaf: &CertificateDer<'_>, now_unix: u64) -> Option<bool> {
    use x509_cert::der::Decode;
    let certificate = x509_cert::Certificate::from_der(leaf.as_ref()).ok()?;
    let validity = certificate.tbs_certificate().validity();
    let from = validity.not_before.to_unix_duration().as_secs();
    let to = validity.not_after.to_unix_duration().as_secs();
    Some((from..=to).contains(&now_unix))
}

#[cfg(test)]
mod tests {
    use super::*;
    use cocoon_protocol::token::Signer;
    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};

    const NOW: u64 = 1_800_000_000;

    fn params(ca: bool, days: (i64, i64)) -> CertificateParams {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        let at =
            |day: i64| std::time::UNIX_EPOCH + Duration::from_secs(NOW.saturating_add_signed(day * 86_400));
        (params.not_before, params.not_after) = (at(days.0).into(), at(days.1).into());
        if ca {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        }
        params
    }

    #[test]
    fn a_chain_to_a_trusted_ca_is_enough_and_nothing_less() {
        let ca_key = KeyPair::generate().unwrap();
        let ca = params(true, (-1, 100));
        let ca_der = ca.self_signed(&ca_key).unwrap().der().to_vec();
        let issuer = rcgen::Issuer::new(ca, ca_key);
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let leaf = |days| params(false, days).signed_by(&key, &issuer).unwrap().der().to_vec();
        let signer = |chain: &[Vec<u8>]| {
            Signer::from_pkcs8_der(&key.serialize_der()).unwrap().with_certificates(chain)
        };
        let claims = json!({"iat": NOW, "exp": NOW + 60});
        let trusted =
            |certificates: Vec<Vec<u8>>| TrustedIssuers { certificates, ..TrustedIssuers::default() };
        let fine = signer(&[leaf((-1, 10))]).sign(&claims).unwrap();
        let check = |token: &str, roots: Vec<Vec<u8>>| verify(token, &trusted(roots), NOW);
        assert_eq!(check(&fine, vec![ca_der.clone()]).unwrap().unwrap()["exp"], NOW + 60);
        assert!(check(&fine, vec![]).is_none(), "no CA is trusted");
        let other =
            params(true, (-1, 100)).self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec();
        assert!(check(&fine, vec![other]).unwrap().is_err());
        let late = signer(&[leaf((-9, -1))]).sign(&claims).unwrap();
        assert!(check(&late, vec![ca_der.clone()]).unwrap().is_err(), "the leaf has expired");
        let none = signer(&[]).sign(&claims).unwrap();
        assert!(check(&none, vec![ca_der.clone()]).is_none());
        // Somebody else's key beside a good chain.
        let stolen = Signer::generate().unwrap().with_certificates(&[leaf((-1, 10))]).sign(&claims).unwrap();
        assert!(check(&stolen, vec![ca_der.clone()]).unwrap().is_err());
        let own = leaf((-1, 10));
        assert!(
            check(&signer(std::slice::from_ref(&own)).sign(&claims).unwrap(), vec![own]).unwrap().is_ok(),
            "itself trusted"
        );
        // The first character of the signature, whatever it is, becomes another.
        let (signed, signature) = fine.rsplit_once('.').unwrap();
        let other = if signature.starts_with('A') { "B" } else { "A" };
        let altered = format!("{signed}.{other}{}", &signature[1..]);
        assert!(check(&altered, vec![ca_der]).unwrap().is_err());
    }
}
