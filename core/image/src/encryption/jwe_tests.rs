use aws_lc_rs::agreement::PrivateKey;

use super::*;

fn ec(curve: Curve) -> (RecipientKey, OpeningKey) {
    let key = PrivateKey::generate(curve.agreement()).unwrap();
    let point = key.compute_public_key().unwrap().as_ref().to_vec();
    (RecipientKey(Public::Ec { curve, point }), OpeningKey(Private::Ec { curve, key }))
}

fn altered(jwe: &Jwe, change: impl Fn(&mut Value)) -> Result<Jwe, Error> {
    let mut value: Value = serde_json::from_slice(jwe.json()).unwrap();
    change(&mut value);
    Jwe::parse(value.to_string().as_bytes())
}

#[test]
fn only_the_right_key_opens() {
    for curve in Curve::ALL {
        let (public, private) = ec(curve);
        let jwe = Jwe::seal(&public, b"secret").unwrap();
        assert_eq!(jwe.recipients(), [format!("ECDH-ES+A256KW {}", curve.name())]);
        let others: Vec<OpeningKey> = Curve::ALL.into_iter().map(|c| ec(c).1).collect();
        assert!(matches!(jwe.open(&others), Err(Error::Undecryptable(_))));
        assert!(jwe.open(&[]).is_err());
        let keys: Vec<OpeningKey> = others.into_iter().chain([private]).collect();
        assert_eq!(&jwe.open(&keys).unwrap()[..], b"secret");
    }
}

/// go-jose's form for several recipients: `alg` and `epk` stand in each one's own header, and the first one's key once
/// more at the top.
#[test]
fn the_general_form_is_read() {
    let (public, private) = ec(Curve::P256);
    let (strange, _) = ec(Curve::P384);
    let cek = [9; KEY_LEN];
    let protected = URL_SAFE_NO_PAD.encode(r#"{"enc":"A256GCM"}"#);
    let mut data = b"secret".to_vec();
    let (nonce, aad) = (Nonce::assume_unique_for_key([1; 12]), Aad::from(protected.as_bytes()));
    let tag = content_key(&cek).unwrap().seal_in_place_separate_tag(nonce, aad, &mut data).unwrap();
    let recipient = |key: &RecipientKey| {
        let Public::Ec { curve, point } = &key.0 else { panic!() };
        let (own, wrapped) = ecdh::wrap(*curve, point, &cek).unwrap();
        let (x, y) = own[1..].split_at(curve.coordinate_len());
        let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
        json!({"header": {"alg": ecdh::ALG, "epk": {"kty": "EC", "crv": curve.name(), "x": x, "y": y}},
               "encrypted_key": URL_SAFE_NO_PAD.encode(wrapped)})
    };
    let (first, second) = (recipient(&strange), recipient(&public));
    let message = json!({"protected": protected, "recipients": [first, second],
        "encrypted_key": first["encrypted_key"], "iv": URL_SAFE_NO_PAD.encode([1; 12]),
        "ciphertext": URL_SAFE_NO_PAD.encode(&data), "tag": URL_SAFE_NO_PAD.encode(tag.as_ref())});
    let jwe = Jwe::parse(message.to_string().as_bytes()).unwrap();
    assert_eq!(jwe.recipients().len(), 2);
    assert_eq!(&jwe.open(&[private]).unwrap()[..], b"secret");

    let mut many = message.clone();
    many["recipients"] = json!(vec![second.clone(); MAX_JWE_RECIPIENTS + 1]);
    let mut both = message.clone();
    both["header"] = json!({"kid": "x"});
    let mut none = message;
    none["recipients"] = json!([]);
    assert!(Jwe::parse(many.to_string().as_bytes()).is_err());
    assert!(Jwe::parse(both.to_string().as_bytes()).is_err());
    assert!(Jwe::parse(none.to_string().as_bytes()).is_ok_and(|jwe| jwe.open(&[ec(Curve::P256).1]).is_err()));
}

#[test]
fn every_altered_member_is_seen() {
    let (public, private) = ec(Curve::P256);
    let jwe = Jwe::seal(&public, b"secret").unwrap();
    let keys = [private];
    for member in ["protected", "encrypted_key", "iv", "ciphertext", "tag"] {
        let flipped = altered(&jwe, |v| {
            let mut bytes = URL_SAFE_NO_PAD.decode(v[member].as_str().unwrap()).unwrap();
            let last = bytes.len() - 3;
            bytes[last] ^= 1;
            v[member] = json!(URL_SAFE_NO_PAD.encode(bytes));
        });
        assert!(flipped.and_then(|jwe| jwe.open(&keys)).is_err(), "{member}");
        let short = altered(&jwe, |v| v[member] = json!(v[member].as_str().unwrap()[4..]));
        assert!(short.and_then(|jwe| jwe.open(&keys)).is_err(), "{member}");
        assert!(altered(&jwe, |v| v[member] = json!("*")).is_err(), "{member}");
        assert!(
            altered(&jwe, |v| drop(v.as_object_mut().unwrap().remove(member)))
                .and_then(|jwe| jwe.open(&keys))
                .is_err()
        );
    }
}

#[test]
fn what_changes_the_meaning_is_refused() {
    let (public, _) = ec(Curve::P256);
    let jwe = Jwe::seal(&public, b"secret").unwrap();
    let header =
        |text: &'static str| altered(&jwe, move |v| v["protected"] = json!(URL_SAFE_NO_PAD.encode(text)));
    for bad in [
        r#"{"alg":"ECDH-ES+A256KW","enc":"A128GCM"}"#,
        r#"{"alg":"ECDH-ES+A256KW"}"#,
        r#"{"alg":"dir","enc":"A256GCM","zip":"DEF"}"#,
        r#"{"alg":"dir","enc":"A256GCM","crit":["exp"]}"#,
        "[]",
    ] {
        assert!(header(bad).is_err(), "{bad}");
    }
    assert!(altered(&jwe, |v| v["aad"] = json!("AAAA")).is_err());
    assert!(altered(&jwe, |v| v["unprotected"] = json!({"alg": "RSA-OAEP"})).is_err());
    assert!(Jwe::parse(&vec![b' '; MAX_TEXT + 1]).is_err());
    // A direct key is no way in.
    let direct = header(r#"{"alg":"dir","enc":"A256GCM"}"#).unwrap();
    assert!(direct.open(&[ec(Curve::P256).1]).is_err());
}

proptest::proptest! {
    #[test]
    fn parsing_never_panics(text in "[\\[\\]{}\",:a-zA-Z0-9_ ]{0,300}") {
        let _ = Jwe::parse(text.as_bytes());
    }
}
