//! Credential activation against an independent other side, and what must not be challenged.

use super::super::algorithm::id_of;
use super::super::{Challenge, Public, fresh_secret, is_secret, make_credential};
use super::soft::{AK, EK, Endorsement, Key, public_area};
use crate::Error;

#[test]
fn only_the_tpm_with_both_keys_returns_the_secret() {
    let ak = Public::parse(&public_area(&Key::rsa().public(), AK)).unwrap();
    let other = Public::parse(&public_area(&Key::p256().public(), AK)).unwrap();
    for make in [Endorsement::rsa, Endorsement::p256] {
        let (tpm, elsewhere) = (make(), make());
        let ek = Public::parse(&public_area(&tpm.public(), EK)).unwrap();
        let secret = fresh_secret().unwrap();
        let challenge = make_credential(&ek, &ak.name(), &secret).unwrap();
        let returned = tpm.activate(&challenge, &ak.name()).unwrap();
        assert!(is_secret(&returned, &secret));
        // Without the attestation key, or without the endorsement key.
        assert_eq!(tpm.activate(&challenge, &other.name()), None);
        assert_eq!(elsewhere.activate(&challenge, &ak.name()), None);
        // Parts of two challenges.
        let second = make_credential(&ek, &ak.name(), &secret).unwrap();
        assert_ne!(challenge, second, "a fresh seed every time");
        let mixed = Challenge { credential_blob: second.credential_blob, ..challenge.clone() };
        assert_eq!(tpm.activate(&mixed, &ak.name()), None);
        let mut changed = challenge.clone();
        *changed.credential_blob.last_mut().unwrap() ^= 1;
        assert_eq!(tpm.activate(&changed, &ak.name()), None);
    }
}

#[test]
fn a_wrong_secret_is_none() {
    let secret = fresh_secret().unwrap();
    assert_ne!(secret, fresh_secret().unwrap());
    let mut wrong = secret;
    wrong[31] ^= 1;
    assert!(!is_secret(&wrong, &secret) && !is_secret(&[], &secret) && !is_secret(&secret[..31], &secret));
    assert!(!is_secret(&[secret.as_slice(), &[0]].concat(), &secret));
}

#[test]
fn what_is_no_endorsement_key_gets_no_challenge() {
    let secret = [1; 32];
    for attributes in [AK, EK & !(1 << 16), EK & !(1 << 1), EK & !(1 << 4), EK & !(1 << 5), EK | 1 << 18] {
        let key = Public::parse(&public_area(&Endorsement::rsa().public(), attributes)).unwrap();
        assert!(key.not_endorsement_key().is_some());
        assert!(make_credential(&key, &[0, 11], &secret).is_err(), "{attributes:#x}");
    }
    // A curve, a cipher and a name hash that the two templates do not have.
    let p384 = Public::parse(&public_area(&Key::p384().public(), EK)).unwrap();
    let area = public_area(&Endorsement::rsa().public(), EK);
    let mut aes256 = area.clone();
    let at = area.windows(6).position(|w| w == [0, 6, 0, 128, 0, 0x43]).unwrap();
    aes256[at + 2..at + 4].copy_from_slice(&256u16.to_be_bytes());
    let mut sha384 = area.clone();
    sha384[4..6].copy_from_slice(&[0, 0x0c]);
    for key in [p384, Public::parse(&aes256).unwrap(), Public::parse(&sha384).unwrap()] {
        let refused = make_credential(&key, &[0, 11], &secret).unwrap_err();
        assert!(matches!(refused, Error::Unsupported { .. }), "{refused}");
    }
    assert_eq!(Public::parse(&sha384).unwrap().name().len(), 50);
    assert_eq!(id_of(crate::x509::Hash::Sha512), 0x000d);
}
