use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::{
    KeyPair, KeySize, OaepPrivateDecryptingKey, Pkcs1PrivateDecryptingKey, PrivateDecryptingKey,
};
use aws_lc_rs::signature::KeyPair as _;

use super::*;

fn open(jwe: &JweFlattened, cek: &[u8]) -> Vec<u8> {
    let mut text = b64::url_decode(&jwe.ciphertext).unwrap();
    text.extend(b64::url_decode(&jwe.tag).unwrap());
    let iv: [u8; 12] = b64::url_decode(&jwe.iv).unwrap().try_into().unwrap();
    content_key(cek.try_into().unwrap())
        .unwrap()
        .open_in_place(Nonce::assume_unique_for_key(iv), Aad::from(jwe.protected.as_bytes()), &mut text)
        .unwrap()
        .to_vec()
}

fn header(jwe: &JweFlattened) -> String {
    String::from_utf8(b64::url_decode(&jwe.protected).unwrap()).unwrap()
}

#[test]
fn rsa_keys_of_both_algorithms() {
    let private = PrivateDecryptingKey::generate(KeySize::Rsa2048).unwrap();
    let der: Pkcs8V1Der<'_> = private.as_der().unwrap();
    let pair = KeyPair::from_pkcs8(der.as_ref()).unwrap();
    // PKCS #1 RSAPublicKey of 2048 bits: 8 bytes of lengths and a zero before n, two bytes before e.
    let public = pair.public_key().as_ref();
    let (n, e) = (&public[9..265], &public[267..]);
    for alg in [RsaAlg::Oaep256, RsaAlg::Pkcs1v15] {
        let key = TeePublicKey::Rsa { alg, n: b64::url_encode(n), e: b64::url_encode(e) };
        key.validate().unwrap();
        let jwe = encrypt(&key, b"secret").unwrap();
        assert_eq!(header(&jwe), format!(r#"{{"alg":"{}","enc":"A256GCM"}}"#, alg.name()));
        let wrapped = b64::url_decode(&jwe.encrypted_key).unwrap();
        assert_eq!(wrapped.len(), 256);
        let mut out = [0; 256];
        let cek = match alg {
            RsaAlg::Oaep256 => OaepPrivateDecryptingKey::new(private.clone())
                .unwrap()
                .decrypt(&OAEP_SHA256_MGF1SHA256, &wrapped, &mut out, None)
                .unwrap(),
            RsaAlg::Pkcs1v15 => {
                Pkcs1PrivateDecryptingKey::new(private.clone()).unwrap().decrypt(&wrapped, &mut out).unwrap()
            }
        };
        assert_eq!(open(&jwe, cek), b"secret");
    }
}

#[test]
fn the_form_of_0_1_1() {
    let private = PrivateDecryptingKey::generate(KeySize::Rsa2048).unwrap();
    let der: Pkcs8V1Der<'_> = private.as_der().unwrap();
    let pair = KeyPair::from_pkcs8(der.as_ref()).unwrap();
    let public = pair.public_key().as_ref();
    let (n, e) = (b64::url_encode(&public[9..265]), b64::url_encode(&public[267..]));
    let key = TeePublicKey::Rsa { alg: RsaAlg::Pkcs1v15, n: n.clone(), e: e.clone() };
    let jwe = encrypt_0_1_1(&key, b"secret").unwrap();
    assert_eq!(jwe.protected, r#"{"alg":"RSA1_5","enc":"A256GCM"}"#);
    assert_eq!(jwe.tag, "");
    let mut out = [0; 256];
    let wrapped = b64::url_decode(&jwe.encrypted_key).unwrap();
    let cek = Pkcs1PrivateDecryptingKey::new(private).unwrap().decrypt(&wrapped, &mut out).unwrap();
    let mut text = b64::url_decode(&jwe.ciphertext).unwrap();
    assert_eq!(text.len(), 6 + TAG_LEN);
    let iv: [u8; 12] = b64::url_decode(&jwe.iv).unwrap().try_into().unwrap();
    let key_for_content = content_key((&*cek).try_into().unwrap()).unwrap();
    let plain =
        key_for_content.open_in_place(Nonce::assume_unique_for_key(iv), Aad::empty(), &mut text).unwrap();
    assert_eq!(plain, b"secret");
    let oaep = TeePublicKey::Rsa { alg: RsaAlg::Oaep256, n, e };
    assert!(matches!(encrypt_0_1_1(&oaep, b"x"), Err(Error::Algorithm(_))));
    let ec = crate::TeeKeyPair::generate().unwrap().public();
    assert!(matches!(encrypt_0_1_1(&ec, b"x"), Err(Error::Algorithm(_))));
}

#[test]
fn p_521_keys() {
    let crv = EcCurve::P521;
    let private = PrivateKey::generate(crv.agreement()).unwrap();
    let public = private.compute_public_key().unwrap();
    let (x, y) = jwk::point_coordinates(crv, public.as_ref()).unwrap();
    let jwe = encrypt(&TeePublicKey::Ec { crv, x, y }, b"secret").unwrap();
    let header: serde_json::Value = serde_json::from_str(&header(&jwe)).unwrap();
    assert_eq!(header["epk"]["crv"], "P-521");
    let text = |name: &str| header["epk"][name].as_str().unwrap().to_owned();
    let peer = jwk::ec_point(crv, &text("x"), &text("y")).unwrap();
    let kek = kdf::agree_kek(crv, &private, &peer).unwrap();
    let wrapped = b64::url_decode(&jwe.encrypted_key).unwrap().try_into().unwrap();
    assert_eq!(open(&jwe, kdf::unwrap(&kek, &wrapped).unwrap().as_slice()), b"secret");
}

#[test]
fn the_header_is_spelled_as_guests_spell_it_again() {
    let jwe = encrypt(&crate::TeeKeyPair::generate().unwrap().public(), b"").unwrap();
    let text = header(&jwe);
    let v: serde_json::Value = serde_json::from_str(&text).unwrap();
    let (x, y) = (v["epk"]["x"].as_str().unwrap(), v["epk"]["y"].as_str().unwrap());
    assert_eq!(
        text,
        format!(
            r#"{{"alg":"ECDH-ES+A256KW","enc":"A256GCM","epk":{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}}}"#
        )
    );
    assert!(!serde_json::to_string(&jwe).unwrap().contains("aad"));
}

#[test]
fn keys_and_ivs_are_fresh() {
    let key = crate::TeeKeyPair::generate().unwrap().public();
    let (a, b) = (encrypt(&key, b"same").unwrap(), encrypt(&key, b"same").unwrap());
    assert_ne!(a.iv, b.iv);
    assert_ne!(a.protected, b.protected);
    assert_ne!(a.encrypted_key, b.encrypted_key);
    assert_ne!(a.ciphertext, b.ciphertext);
}

#[test]
fn too_large_a_plaintext_is_refused() {
    let key = crate::TeeKeyPair::generate().unwrap().public();
    assert!(matches!(encrypt(&key, &vec![0; MAX_PLAINTEXT + 1]), Err(Error::TooLarge { .. })));
    assert!(encrypt(&key, &vec![0; MAX_PLAINTEXT]).is_ok());
}
