//! Hostile tokens against the parser and the verifier.

use proptest::prelude::*;

use super::cbor::{Decoder, Encoder};
use super::evidence::collection;
use super::tests::{CHALLENGE, example, expecting, failed};
use super::*;
use crate::Error;

fn parse(token: &[u8]) -> Result<Evidence, Error> {
    Evidence::parse(token.to_vec())
}

#[test]
fn a_token_cut_anywhere_or_with_more_behind_it_is_refused() {
    let Some((evidence, _)) = example() else { return };
    let token = evidence.token();
    for length in 0..token.len() {
        assert!(parse(&token[..length]).is_err(), "{length} bytes");
    }
    assert!(parse(&[token, &[0]].concat()).is_err());
    assert!(parse(&vec![0; MAX_TOKEN + 1]).unwrap_err().to_string().contains("64 KiB"));
}

/// Every bit of the token is covered: by its form, its signatures, or the binding.
#[test]
fn every_flipped_bit_is_refused() {
    let Some((evidence, store)) = example() else { return };
    let report_data = hex::decode(CHALLENGE).unwrap();
    let expectation = expecting(&report_data);
    let (mut unreadable, mut refused) = (0, 0);
    for at in 0..evidence.token().len() {
        for bit in 0..8 {
            let mut token = evidence.token().to_vec();
            token[at] ^= 1 << bit;
            match Evidence::parse(token) {
                Err(_) => unreadable += 1,
                Ok(altered) => {
                    let verdict = verify(&altered, &store, &Rules::default(), &expectation);
                    assert!(!failed(&verdict).is_empty(), "bit {bit} of byte {at}");
                    refused += 1;
                }
            }
        }
    }
    println!("{unreadable} flips unreadable, {refused} refused by a check");
    assert_eq!(unreadable + refused, 2234 * 8);
}

/// A COSE_Sign1 of these parts, each already encoded.
fn sign1(protected: &[u8], unprotected: &[u8], payload: &[u8], signature: &[u8]) -> Vec<u8> {
    let part = |bytes: &[u8]| {
        let mut e = Encoder::default();
        e.bytes(bytes);
        e.into_bytes()
    };
    [&[0xd2, 0x84][..], &part(protected), unprotected, &part(payload), &part(signature)].concat()
}

/// The example with its platform token's COSE_Sign1 put together anew.
fn resealed(protected: &str, unprotected: &str) -> Option<Result<Evidence, Error>> {
    let (evidence, _) = example()?;
    let payload = evidence.platform().to_payload();
    let hex = |text: &str| hex::decode(text).unwrap();
    let platform = sign1(&hex(protected), &hex(unprotected), &payload, &evidence.platform_signed.signature);
    let realm =
        sign1(&hex("a1013822"), &hex("a0"), &evidence.realm().to_payload(), &evidence.realm_signed.signature);
    Some(Evidence::parse(collection(&platform, &realm)))
}

#[test]
fn headers_are_what_they_must_be() {
    let accepted = [
        ("a1013822", "a0"),
        ("a1013822", "a10443616263"),
        ("a201382204426869", "a0"),
        ("a20138220300", "a0"),
    ];
    for (protected, unprotected) in accepted {
        let Some(result) = resealed(protected, unprotected) else { return };
        let evidence = result.unwrap();
        let (_, store) = example().unwrap();
        let report_data = hex::decode(CHALLENGE).unwrap();
        let verdict = verify(&evidence, &store, &Rules::default(), &expecting(&report_data));
        // What is protected is signed; the key identifier beside it is nobody's word and is not used.
        let expected: &[&str] = if protected == "a1013822" { &[] } else { &["platform.signature"] };
        assert_eq!(failed(&verdict), expected, "{protected} {unprotected}");
    }
    let refused = [
        ("", "a0"),
        ("a0", "a0"),
        ("a0", "a1013822"),
        ("a1013822", "a1013822"),
        ("a1013822", "a10440a0"),
        ("a201382202810a", "a0"),
        ("a2013822013822", "a0"),
        ("a1013822ff", "a0"),
        ("a101390022", "a0"),
        ("bf013822ff", "a0"),
        ("a1013822", "bfff"),
        ("a1013822", "80"),
        ("a201382218634100", "a0"),
        ("a101fb4041800000000000", "a0"),
    ];
    for (protected, unprotected) in refused {
        assert!(resealed(protected, unprotected).unwrap().is_err(), "{protected} {unprotected}");
    }
    // EdDSA, HMAC, RS256, and no number that could be one.
    for other in ["a10127", "a10105", "a101390100", "a1013bffffffffffffffff"] {
        let result = resealed(other, "a0").unwrap();
        assert!(matches!(result, Err(Error::Unsupported { .. })), "{other}: {result:?}");
    }
}

/// The example with one claim of a token replaced, left out or added, unsigned.
fn with_claims(
    platform: bool,
    alter: impl Fn(&mut Vec<(Vec<u8>, Vec<u8>)>),
) -> Option<Result<Evidence, Error>> {
    let (evidence, _) = example()?;
    let (p, r) = (evidence.platform().to_payload(), evidence.realm().to_payload());
    let altered = |payload: &[u8]| {
        let value: ciborium::Value = ciborium::from_reader(payload).unwrap();
        let encode = |v: &ciborium::Value| {
            let mut out = Vec::new();
            ciborium::into_writer(v, &mut out).unwrap();
            out
        };
        let mut pairs: Vec<_> = value.as_map().unwrap().iter().map(|(k, v)| (encode(k), encode(v))).collect();
        alter(&mut pairs);
        let mut e = Encoder::default();
        e.map(pairs.len());
        [e.into_bytes(), pairs.into_iter().flat_map(|(k, v)| [k, v]).flatten().collect()].concat()
    };
    let (p, r) = if platform { (altered(&p), r) } else { (p, altered(&r)) };
    let header = [0xa1, 1, 0x38, 0x22];
    let token = collection(
        &sign1(&header, &[0xa0], &p, &evidence.platform_signed.signature),
        &sign1(&header, &[0xa0], &r, &evidence.realm_signed.signature),
    );
    Some(Evidence::parse(token))
}

#[test]
fn every_claim_is_needed_once_and_of_its_type() {
    let Some(same) = with_claims(true, |_| ()) else { return };
    assert_eq!(same.unwrap(), example().unwrap().0);
    for (platform, count) in [(true, 9), (false, 7)] {
        for at in 0..count {
            let (is_lifecycle, is_service) = (platform && at == 5, platform && at == 7);
            let without = with_claims(platform, |claims| drop(claims.remove(at))).unwrap();
            assert_eq!(without.is_ok(), is_service, "claim {at}");
            let twice = with_claims(platform, |claims| claims.push(claims[at].clone())).unwrap();
            assert!(twice.unwrap_err().to_string().contains("twice"));
            for other in
                ["00", "20", "40", "60", "80", "a0", "c100", "f5", "f6", "fb7ff0000000000000", "420102"]
            {
                let value = hex::decode(other).unwrap();
                let changed = with_claims(platform, |claims| claims[at].1 = value.clone()).unwrap();
                let fits = (is_lifecycle && other == "00")
                    || (is_service && other == "60")
                    || (platform && at == 4 && other == "420102");
                assert_eq!(changed.is_ok(), fits, "claim {at} as {other}");
            }
        }
    }
    // Unknown claims are passed over where they are well formed.
    let add = |key: &str, value: &str| {
        let (key, value) = (hex::decode(key).unwrap(), hex::decode(value).unwrap());
        with_claims(true, |claims| claims.push((key.clone(), value.clone()))).unwrap()
    };
    let known = add("190963", "8301a20102030482f6fb7ff0000000000000").unwrap();
    assert_eq!(known.platform(), example().unwrap().0.platform());
    assert!(add("6161", "f5").is_ok());
    for (key, value) in [
        ("4161", "f5"),
        ("f5", "f5"),
        ("190963", "9fff"),
        ("190963", "ff"),
        ("190963", "5fff"),
        ("190963", "1800"),
        ("190963", "62c328"),
        ("190963", "f814"),
        ("190963", "1c"),
        ("190963", "9bffffffffffffffff"),
        ("190963", "bbffffffffffffffff"),
        ("190963", "5bffffffffffffffff"),
        ("190963", "7bffffffffffffffff"),
    ] {
        assert!(add(key, value).is_err(), "{key}: {value}");
    }
    assert!(add("190963", &format!("{}00", "81".repeat(8))).is_ok());
    assert!(add("190963", &format!("{}00", "81".repeat(9))).is_err());
    assert!(add("190963", &format!("{}00", "c1".repeat(30_000))).is_err());
    let many = |n: u32| {
        with_claims(true, |claims| {
            claims.extend((0..n).map(|i| ([&[0x1a][..], &(0x10000 + i).to_be_bytes()].concat(), vec![0xf6])));
        })
    };
    assert!(many(64 - 9).unwrap().is_ok());
    assert!(many(64 - 8).unwrap().is_err());
}

#[test]
fn other_profiles_and_shapes_are_named() {
    let profile = |platform, name: &str| {
        let mut e = Encoder::default();
        e.text(name);
        let name = e.into_bytes();
        with_claims(platform, |claims| {
            claims.retain(|(key, _)| *key != [0x19, 1, 9]);
            claims.push((vec![0x19, 1, 9], name.clone()));
        })
    };
    let Some(result) = profile(true, "tag:arm.com,2024:cca_platform#2.0.0") else { return };
    let error = result.unwrap_err();
    assert_eq!(
        error.to_string(),
        "CCA platform profile: tag:arm.com,2024:cca_platform#2.0.0 is not supported"
    );
    assert!(profile(true, "tag:arm.com,2023:cca_platform#1.0.0").unwrap().is_ok());
    assert!(matches!(profile(false, "tag:arm.com,2024:realm#2.0.0"), Some(Err(Error::Unsupported { .. }))));
    // A realm that names the profile must carry a COSE_Key; the example's key is a bare point.
    assert!(profile(false, "tag:arm.com,2023:realm#1.0.0").unwrap().is_err());
    let hostile = profile(true, &"\u{202e}é\"<".repeat(40)).unwrap().unwrap_err().to_string();
    assert!(hostile.is_ascii() && hostile.len() < 120, "{hostile}");

    let (evidence, _) = example().unwrap();
    let token = evidence.token();
    // Another tag, an untagged map, one token only, a third token, both tokens under one key.
    let other = parse(&[&[0xd9, 3, 0x8b], &token[3..]].concat()).unwrap_err();
    assert_eq!(other.to_string(), "CCA token's CBOR tag: 907 is not supported");
    assert!(parse(&token[3..]).is_err());
    let single = |count: usize, keys: &[i64]| {
        let mut e = Encoder::default();
        e.tag(399).map(count);
        for key in keys {
            e.int(*key).bytes(&[0]);
        }
        parse(&e.into_bytes()).unwrap_err().to_string()
    };
    assert!(single(1, &[44234]).contains("missing"));
    assert!(single(2, &[44234, 44234]).contains("twice"));
    assert!(single(2, &[44234, 44235]).contains("unknown member"));
    assert!(single(3, &[44234, 44241, 1]).contains("more than 2"));
}

#[test]
fn both_halves_of_the_codec_agree_at_every_width() {
    for n in [0, 23, 24, 255, 256, 65_535, 65_536, 4_294_967_295, 4_294_967_296, i64::MAX] {
        for n in [n, -n, -n - 1] {
            let mut e = Encoder::default();
            e.int(n);
            let bytes = e.into_bytes();
            let mut d = Decoder::new("a test", &bytes);
            assert_eq!(d.int("it").unwrap(), i128::from(n));
            assert!(d.finish().is_ok());
            // ciborium is another's reading of the same specification.
            let theirs: i64 = ciborium::from_reader(bytes.as_slice()).unwrap();
            assert_eq!(theirs, n);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _ = parse(&bytes);
        let _ = parse(&collection(&bytes, &bytes));
        let sealed = sign1(&[0xa1, 1, 0x38, 0x22], &[0xa0], &bytes, &bytes);
        let _ = parse(&collection(&sealed, &sealed));
        let _ = Platform::parse(&bytes);
        let _ = Realm::parse(&bytes);
        let mut decoder = Decoder::new("a test", &bytes);
        // What is well formed here is so for another reader too (which looks into the tags of bignums).
        if decoder.skip().is_ok() && !bytes.iter().any(|b| matches!(b, 0xc2 | 0xc3)) {
            let theirs: Result<ciborium::Value, _> = ciborium::from_reader(bytes.as_slice());
            prop_assert!(theirs.is_ok());
        }
    }

    #[test]
    fn an_example_overwritten_anywhere_never_panics(
        at in 0usize..2234,
        patch in proptest::collection::vec(any::<u8>(), 1..40),
    ) {
        if let Some((evidence, store)) = example() {
            let mut token = evidence.token().to_vec();
            token.iter_mut().skip(at).zip(&patch).for_each(|(t, p)| *t = *p);
            if let Ok(altered) = Evidence::parse(token) {
                let report_data = hex::decode(CHALLENGE).unwrap();
                let verdict = verify(&altered, &store, &Rules::default(), &expecting(&report_data));
                prop_assert_eq!(verdict.ok(), altered == evidence);
            }
        }
    }
}
