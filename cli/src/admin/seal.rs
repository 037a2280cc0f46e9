//! `cocoon secret seal`: the text by which a Kubernetes Secret names a secret that never is in the cluster.
//!
//! CoCo's sealed secrets, vault form: `sealed.HEADER.PAYLOAD.SIGNATURE`, each base64url without padding. The payload names a resource;
//! whoever reads it learns the name alone, and the guest gets the value of Trustee. The signature (JWS, ES256 over
//! `HEADER.PAYLOAD`) is by a key whose public half Trustee gives guests as a resource, the header's `kid`.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use cocoon_protocol::uri::ResourceUri;
use cocoon_protocol::{b64, sealed};
use cocoon_stage::{Code, Failure};
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::json;

use super::{content, usage};
use crate::args::SealArgs;
use crate::embedded::resource_path;

/// The text.
pub fn seal(args: &SealArgs) -> Result<String, Failure> {
    let uri = |text: &str| -> Result<ResourceUri, Failure> {
        let path = resource_path(text.trim_start_matches("kbs:///"))?;
        format!("kbs:///{}", path.as_str()).parse().map_err(|e: cocoon_protocol::Error| usage(e.to_string()))
    };
    let payload = sealed::vault(&uri(&args.path)?);
    let (Some(file), Some(kid)) = (&args.key, &args.kid) else {
        // The form that CoCo's guests take where they verify no signature; Cocoon's take none that is not signed.
        let payload = b64::url_encode(payload.to_string().as_bytes());
        return Ok(format!("sealed.fakejwsheader.{payload}.fakesignature"));
    };
    let pair = key(&content(file)?).map_err(|why| usage(format!("{}: {why}", file.display())))?;
    sealed::seal(&payload, &uri(kid)?, &pair).map_err(|e| Failure::new(Code::Internal, e.to_string()))
}

fn key(pem: &[u8]) -> Result<EcdsaKeyPair, &'static str> {
    let key = PrivatePkcs8KeyDer::from_pem_slice(pem).map_err(|_| "no PKCS#8 private key in PEM")?;
    EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, key.secret_pkcs8_der())
        .map_err(|_| "it is no P-256 key")
}

/// The public half of a key as the JWK that Trustee is to keep at the `kid`.
///
/// # Errors
/// Where the file holds no such key.
pub fn public_jwk(args: &SealArgs) -> Result<Option<String>, Failure> {
    let Some(file) = args.key.as_ref().filter(|_| args.public) else { return Ok(None) };
    let pair = key(&content(file)?).map_err(|why| usage(format!("{}: {why}", file.display())))?;
    let point = pair.public_key().as_ref();
    let [4, xy @ ..] = point else { return Err(Failure::new(Code::Internal, "a compressed point")) };
    let Some((x, y)) = xy.split_at_checked(32) else {
        return Err(Failure::new(Code::Internal, "a short point"));
    };
    Ok(Some(json!({"kty": "EC", "crv": "P-256", "alg": "ES256", "x": b64::url_encode(x), "y": b64::url_encode(y)}).to_string()))
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
    use serde_json::Value;

    use super::*;

    fn args(path: &str) -> SealArgs {
        SealArgs { path: path.into(), key: None, kid: None, public: false, common: Default::default() }
    }

    fn decoded(part: &str) -> Value {
        serde_json::from_slice(&b64::url_decode(part).unwrap()).unwrap()
    }

    #[test]
    fn the_sealed_text_names_the_resource_and_nothing_else() {
        for path in ["default/db/password", "kbs:///default/db/password"] {
            let text = seal(&args(path)).unwrap();
            let parts: Vec<&str> = text.split('.').collect();
            assert_eq!(
                (parts.len(), parts[0], parts[1], parts[3]),
                (4, "sealed", "fakejwsheader", "fakesignature")
            );
            assert_eq!(
                decoded(parts[2]),
                json!({"version": "0.1.0", "type": "vault", "name": "kbs:///default/db/password", "provider": "kbs",
                    "provider_settings": {}, "annotations": {}})
            );
        }
        for bad in ["", "a/b", "a/b/../c", "kbs://host/a/b/c"] {
            assert!(seal(&args(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_signature_is_one_of_the_key_that_the_header_names() {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key.pem");
        std::fs::write(&file, key.serialize_pem()).unwrap();
        let args = SealArgs {
            key: Some(file.clone()),
            kid: Some("default/sealing/key".into()),
            public: true,
            ..args("default/db/password")
        };
        let text = seal(&args).unwrap();
        let parts: Vec<&str> = text.split('.').collect();
        assert_eq!(decoded(parts[1]), json!({"alg": "ES256", "kid": "kbs:///default/sealing/key"}));
        let jwk: Value = serde_json::from_str(&public_jwk(&args).unwrap().unwrap()).unwrap();
        let part = |name: &str| b64::url_decode(jwk[name].as_str().unwrap()).unwrap();
        let point = [vec![4], part("x"), part("y")].concat();
        let signature = b64::url_decode(parts[3]).unwrap();
        let message = format!("{}.{}", parts[1], parts[2]);
        let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
        public.verify(message.as_bytes(), &signature).unwrap();
        assert!(public.verify(b"other", &signature).is_err());
        std::fs::write(&file, "no key").unwrap();
        assert_eq!(seal(&args).unwrap_err().code, Code::UsageInvalid);
    }
}
