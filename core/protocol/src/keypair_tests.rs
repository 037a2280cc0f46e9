use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn flip(text: &str, at: usize) -> String {
    let mut bytes = b64::url_decode(text).unwrap();
    bytes[at] ^= 1;
    b64::url_encode(&bytes)
}

#[test]
fn round_trip() {
    let key = TeeKeyPair::generate().unwrap();
    for plaintext in [&b""[..], b"secret", &[7; 70_000]] {
        let jwe = jwe::encrypt(&key.public(), plaintext).unwrap();
        let text = serde_json::to_string(&jwe).unwrap();
        let jwe: JweFlattened = serde_json::from_str(&text).unwrap();
        assert_eq!(key.decrypt(&jwe).unwrap().as_slice(), plaintext);
    }
}

#[test]
fn another_key_cannot_read_it() {
    let jwe = jwe::encrypt(&TeeKeyPair::generate().unwrap().public(), b"secret").unwrap();
    let other = TeeKeyPair::generate().unwrap();
    assert!(matches!(other.decrypt(&jwe), Err(Error::Undecryptable)));
}

#[test]
fn any_changed_part_is_refused() {
    let key = TeeKeyPair::generate().unwrap();
    let good = jwe::encrypt(&key.public(), b"secret").unwrap();
    let check = |change: &dyn Fn(&mut JweFlattened)| {
        let mut bad = good.clone();
        change(&mut bad);
        assert_ne!(bad, good);
        assert!(key.decrypt(&bad).is_err(), "{bad:?}");
    };
    check(&|j| j.encrypted_key = flip(&j.encrypted_key, 3));
    check(&|j| j.iv = flip(&j.iv, 0));
    check(&|j| j.ciphertext = flip(&j.ciphertext, 5));
    check(&|j| j.tag = flip(&j.tag, 15));
    check(&|j| j.aad = Some(String::new()));
    check(&|j| j.tag.clear());
    check(&|j| j.iv = b64::url_encode(&[0; 16]));
    check(&|j| j.tag = b64::url_encode(&[0; 12]));
    check(&|j| j.encrypted_key = b64::url_encode(&[0; 48]));
    check(&|j| j.encrypted_key.clear());
    check(&|j| j.ciphertext.push('='));
    check(&|j| j.ciphertext = "A".repeat(jwe::MAX_PLAINTEXT * 2));
    check(&|j| j.protected = "A".repeat(MAX_PROTECTED + 1));
    // Same JSON, other spelling: the header is authenticated as text.
    check(&|j| {
        let json = String::from_utf8(b64::url_decode(&j.protected).unwrap()).unwrap();
        j.protected = b64::url_encode(json.replace(':', ": ").as_bytes());
    });
}

#[test]
fn the_header_is_checked_strictly() {
    let key = TeeKeyPair::generate().unwrap();
    let good = jwe::encrypt(&key.public(), b"secret").unwrap();
    let header: Value = serde_json::from_slice(&b64::url_decode(&good.protected).unwrap()).unwrap();
    let refused = |change: &dyn Fn(&mut Value)| {
        let mut v = header.clone();
        change(&mut v);
        let protected = b64::url_encode(v.to_string().as_bytes());
        key.decrypt(&JweFlattened { protected, ..good.clone() }).unwrap_err()
    };
    assert!(matches!(refused(&|v| v["alg"] = json!("ECDH-ES")), Error::Algorithm(_)));
    assert!(matches!(refused(&|v| v["alg"] = json!("dir")), Error::Algorithm(_)));
    assert!(matches!(refused(&|v| v["enc"] = json!("A128CBC-HS256")), Error::Algorithm(_)));
    for member in ["crit", "zip", "apu", "apv"] {
        assert!(matches!(refused(&|v| v[member] = json!("x")), Error::Json { .. }), "{member}");
    }
    for member in ["alg", "enc", "epk"] {
        let e = refused(&|v| {
            v.as_object_mut().unwrap().remove(member);
        });
        assert!(matches!(e, Error::Json { .. }), "{member}");
    }
    assert!(matches!(refused(&|v| v["epk"]["crv"] = json!("P-521")), Error::Invalid { .. }));
    assert!(matches!(refused(&|v| v["epk"]["kty"] = json!("OKP")), Error::Invalid { .. }));
    // A point off the curve must not reach the agreement (invalid-curve attack).
    assert!(matches!(refused(&|v| v["epk"]["x"] = json!("A".repeat(43))), Error::Invalid { .. }));
}

#[test]
fn pem_round_trip() {
    let key = TeeKeyPair::generate().unwrap();
    let pem = key.to_pkcs8_pem();
    assert!(pem.starts_with(PEM_BEGIN) && pem.lines().all(|l| l.len() <= 64));
    let again = TeeKeyPair::from_pkcs8_pem(&pem).unwrap();
    assert_eq!(again.public(), key.public());
    let jwe = jwe::encrypt(&key.public(), b"secret").unwrap();
    assert_eq!(again.decrypt(&jwe).unwrap().as_slice(), b"secret");
}

#[test]
fn bad_pem_is_refused() {
    let pem = TeeKeyPair::generate().unwrap().to_pkcs8_pem();
    for bad in [
        String::new(),
        PEM_BEGIN.to_owned(),
        format!("{PEM_BEGIN}{PEM_END}"),
        pem.replace("PRIVATE", "PUBLIC"),
        format!("{}{}", pem.as_str(), pem.as_str()),
        pem[..100].to_owned(),
        " ".repeat(MAX_PEM + 1),
    ] {
        assert!(TeeKeyPair::from_pkcs8_pem(&bad).is_err(), "{bad:?}");
    }
}

#[test]
fn debug_does_not_print_the_key() {
    let key = TeeKeyPair::generate().unwrap();
    let der = pem_decode(&key.to_pkcs8_pem()).unwrap();
    let shown = format!("{key:?}");
    // The private scalar follows `04 20` in SEC 1's ECPrivateKey.
    let at = der.windows(2).position(|w| w == [4, 32]).unwrap() + 2;
    let d = &der[at..at + 32];
    assert!(!shown.contains(&b64::url_encode(d)) && !shown.contains(&hex::encode(d)));
    assert!(!shown.contains("private"));
}

proptest! {
    #[test]
    fn decrypt_never_panics(p in ".{0,80}", k in "[A-Za-z0-9_-]{0,60}", i in "[A-Za-z0-9_-]{0,20}",
                            c in "[A-Za-z0-9_-]{0,80}", t in "[A-Za-z0-9_-]{0,24}", pem in ".{0,200}") {
        let key = TeeKeyPair::generate().unwrap();
        let good = jwe::encrypt(&key.public(), b"x").unwrap();
        for protected in [b64::url_encode(p.as_bytes()), good.protected] {
            let jwe = JweFlattened { protected, encrypted_key: k.clone(), iv: i.clone(),
                                     ciphertext: c.clone(), tag: t.clone(), aad: None };
            prop_assert!(key.decrypt(&jwe).is_err());
        }
        prop_assert!(TeeKeyPair::from_pkcs8_pem(&pem).is_err());
    }
}
