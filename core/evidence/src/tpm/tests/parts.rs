//! The parsers: quotes, signatures, public areas.

use proptest::prelude::*;

use super::super::{Public, Quote, Registers, Signature};
use super::soft::{AK, EK, Endorsement, Key, Platform, public_area, two_byte};
use crate::x509::Hash;

#[test]
fn quotes_cut_or_longer_are_refused() {
    let message = Platform::new(&[9; 32]).message(Hash::Sha256);
    let quote = Quote::parse(&message).unwrap();
    assert_eq!(quote.extra_data, [9; 32]);
    assert_eq!((quote.clock.milliseconds, quote.clock.resets, quote.clock.restarts), (77_000, 3, 4));
    assert!(quote.clock.safe);
    assert_eq!(quote.selections[0].registers, (0..24).collect::<Vec<u32>>());
    for length in 0..message.len() {
        assert!(Quote::parse(&message[..length]).is_err(), "{length}");
    }
    assert!(Quote::parse(&[message.as_slice(), &[0]].concat()).is_err());
    assert!(Quote::parse(&[message.as_slice(), &[0; 2000]].concat()).is_err());
}

#[test]
fn other_attestations_and_impossible_values_are_refused() {
    let message = Platform::new(&[]).message(Hash::Sha256);
    let at_safe = 6 + 2 + 34 + 2 + 8 + 4 + 4;
    let at_count = at_safe + 1 + 8;
    let changes: [(usize, &[u8]); 10] = [
        (0, &[0xfe]),               // no TPM's structure
        (4, &[0x80, 0x17]),         // TPM_ST_ATTEST_CERTIFY
        (4, &[0x80, 0x14]),         // TPM_ST_ATTEST_NV
        (6, &[0xff, 0xff]),         // a signer of 64 KiB
        (6 + 36, &[0, 67]),         // more qualifying data than there can be
        (at_safe, &[2]),            // neither yes nor no
        (at_count, &[0xff; 4]),     // 2^32 banks
        (at_count, &[0, 0, 0, 17]), // more than any TPM
        (at_count + 6, &[5]),       // a bitmap of 40 registers
        (at_count + 6, &[2]),       // a bitmap of 16: what follows is read as the digest's length
    ];
    for (at, bytes) in changes {
        let mut message = message.clone();
        message[at..at + bytes.len()].copy_from_slice(bytes);
        assert!(Quote::parse(&message).is_err(), "{at} {bytes:?}");
    }
}

#[test]
fn signatures_are_read_strictly() {
    let (key, message) = (Key::rsa(), b"message");
    let signature = key.sign(message, Hash::Sha256, false);
    assert!(Signature::parse(&signature).unwrap().check(&key.public(), message).code.is_none());
    for length in 0..signature.len() {
        assert!(Signature::parse(&signature[..length]).is_err());
    }
    assert!(Signature::parse(&[signature.as_slice(), &[0]].concat()).is_err());
    for (scheme, hash) in
        [(0x0014u16, 0x0004u16), (0x0014, 0x0012), (0x0010, 0x000b), (0x001a, 0x000b), (5, 11)]
    {
        let bytes = [&scheme.to_be_bytes(), hash.to_be_bytes().as_slice(), &two_byte(&[1; 256])].concat();
        assert!(Signature::parse(&bytes).is_err(), "{scheme:#x} {hash:#x}");
    }
    let ecdsa = |r: &[u8], s: &[u8]| {
        let bytes = [&[0, 0x18, 0, 0x0b], two_byte(r).as_slice(), &two_byte(s)].concat();
        Signature::parse(&bytes)
    };
    assert!(ecdsa(&[1; 67], &[1; 32]).is_err());
    let p256 = Key::p256().public();
    for (r, s) in [(&[][..], &[][..]), (&[0; 32], &[0; 32]), (&[1; 32], &[0]), (&[0xff; 66], &[0xff; 66])] {
        // What is no signature is refused by one of the two.
        assert!(ecdsa(r, s).map_or(true, |s| s.check(&p256, message).code.is_some()));
    }
}

#[test]
fn a_scheme_that_the_key_does_not_have_verifies_nothing() {
    let (rsa, p256) = (Key::rsa(), Key::p256());
    let check = |signature: &[u8], key: &Key| Signature::parse(signature).unwrap().check(&key.public(), b"m");
    for (signer, pss) in [(&rsa, false), (&rsa, true), (&p256, false)] {
        let signature = signer.sign(b"m", Hash::Sha256, pss);
        assert!(check(&signature, signer).code.is_none());
        let other = if std::ptr::eq(signer, &raw const rsa) { &p256 } else { &rsa };
        assert!(check(&signature, other).code.is_some());
        assert!(Signature::parse(&signature).unwrap().check(&signer.public(), b"n").code.is_some());
    }
    // PSS relabelled as PKCS #1 and with another hash.
    let mut relabelled = rsa.sign(b"m", Hash::Sha256, true);
    relabelled[1] = 0x14;
    assert!(check(&relabelled, &rsa).code.is_some());
    let mut relabelled = rsa.sign(b"m", Hash::Sha256, false);
    relabelled[3] = 0x0c;
    assert!(check(&relabelled, &rsa).code.is_some());
}

#[test]
fn public_areas_are_read_strictly() {
    let keys = [
        (Key::rsa().public(), AK),
        (Key::p256().public(), AK),
        (Key::p384().public(), AK),
        (Endorsement::rsa().public(), EK),
        (Endorsement::p256().public(), EK),
    ];
    for (key, attributes) in keys {
        let bytes = public_area(&key, attributes);
        let public = Public::parse(&bytes).unwrap();
        assert_eq!(public.key(), &key);
        assert_eq!(public.to_bytes(), bytes);
        assert_eq!(public.attributes().bits(), attributes);
        assert_eq!(public.not_attestation_key().is_none(), attributes == AK);
        assert_eq!(public.not_endorsement_key().is_none(), attributes == EK);
        assert_eq!(public.name()[..2], [0, 0x0b]);
        assert_eq!(public.name()[2..], *crate::tpm::hashed(Hash::Sha256, &[&bytes[2..]]));
        for length in 0..bytes.len() {
            assert!(Public::parse(&bytes[..length]).is_err());
            assert!(Public::parse(&two_byte(&bytes[2..length.max(2)])).is_err());
        }
        assert!(Public::parse(&[bytes.as_slice(), &[0]].concat()).is_err());
        assert!(Public::parse(&two_byte(&[&bytes[2..], &[0]].concat())).is_err());
        for (at, value) in [(2, 0u8), (3, 8), (5, 4), (6, 0x80), (9, 1), (9, 8), (8, 0x80)] {
            let mut bytes = bytes.clone();
            bytes[at] |= value;
            if value == 0 {
                bytes[at] = 0xff;
            }
            assert!(Public::parse(&bytes).is_err(), "byte {at}");
        }
    }
}

#[test]
fn a_key_that_could_sign_made_up_quotes_is_no_attestation_key() {
    let key = Key::rsa().public();
    for attributes in [AK & !(1 << 16), AK & !(1 << 18), AK & !(1 << 1), AK & !(1 << 4), AK & !(1 << 5), EK] {
        let public = Public::parse(&public_area(&key, attributes)).unwrap();
        assert!(public.not_attestation_key().is_some(), "{attributes:#x}");
    }
    let both = Public::parse(&public_area(&key, AK | 1 << 17)).unwrap();
    assert!(both.not_attestation_key().is_some());
}

#[test]
fn registers_have_a_number_and_a_length() {
    assert!(Registers::new(Hash::Sha256, vec![]).is_err());
    assert!(Registers::new(Hash::Sha256, vec![vec![0; 32]; 25]).is_err());
    assert!(Registers::new(Hash::Sha256, vec![vec![0; 48]]).is_err());
    assert!(Registers::new(Hash::Sha384, vec![vec![0; 48]; 24]).is_ok());
}

proptest! {
    #[test]
    fn nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _ = Quote::parse(&bytes);
        let _ = Quote::parse(&[&[0xff, 0x54, 0x43, 0x47, 0x80, 0x18], bytes.as_slice()].concat());
        let _ = Signature::parse(&bytes);
        let _ = Signature::parse(&[&[0, 0x18, 0, 0x0b], bytes.as_slice()].concat());
        let _ = Public::parse(&two_byte(&bytes));
        let _ = Public::parse_area(&[&[0, 1, 0, 0x0b, 0, 5, 0, 0x72], bytes.as_slice()].concat());
        let _ = Public::parse_area(&[&[0, 0x23, 0, 0x0b, 0, 5, 0, 0x72], bytes.as_slice()].concat());
    }
}
