//! Headers and measurements.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use serde_json::json;

use super::header_bytes;
use crate::se::measurement::Items;
use crate::se::{Evidence, Header, HeaderTags};

#[test]
fn a_measurement_covers_what_s390_tools_says() {
    // Known answer from s390-tools (rust/pv, tests of the attestation measurement).
    let tags = HeaderTags { page_list: [1; 64], address_list: [2; 64], tweak_list: [3; 64], tag: [4; 16] };
    let (user_data, additional_data) = ([7; 256], [9; 128]);
    let items = Items {
        tags: &tags,
        cuid: &[5; 16],
        user_data: &user_data,
        nonce: &[8; 16],
        additional_data: &additional_data,
    };
    let expected = "88794c62cce7bcf26216deb3f48f13fea6374b6d7e35bcc5c2ce68121db6f45d\
                    fc8c171856463549408bf8e7d1aca11efad0a878af97dc9e21a1fc2a32f3a675";
    assert_eq!(hex::encode(items.measure(&[0x41; 64])), expected);
    assert!(items.are_measured_by(&[0x41; 64], &hex::decode(expected).unwrap()));
    assert!(!items.are_measured_by(&[0x42; 64], &hex::decode(expected).unwrap()));
    assert!(!items.are_measured_by(&[0x41; 64], &hex::decode(&expected[..126]).unwrap()));
    assert!(!items.are_measured_by(&[0x41; 64], &[]));
}

#[test]
fn a_header_is_read_whole_or_not_at_all() {
    let bytes = header_bytes(0);
    let header = Header::parse(&bytes).unwrap();
    assert_eq!(header.tags.page_list, [1; 64]);
    assert_eq!(header.tags.address_list, [2; 64]);
    assert_eq!(header.tags.tweak_list, [3; 64]);
    assert_eq!(header.tags.tag, [4; 16]);
    assert_eq!(HeaderTags::parse(&header.tags.to_bytes()).unwrap(), header.tags);
    for length in 0..bytes.len() {
        assert!(Header::parse(&bytes[..length]).is_err(), "{length} bytes");
    }
    assert!(Header::parse(&[&bytes[..], &[0]].concat()).is_err());
    assert!(Header::parse(&vec![0; 1 << 20]).is_err());
    let with = |at: usize, value: &[u8]| {
        let mut bytes = bytes.clone();
        bytes[at..at + value.len()].copy_from_slice(value);
        Header::parse(&bytes)
    };
    assert!(with(0, b"X").is_err(), "magic");
    assert!(with(8, &[0, 0, 2, 0]).is_err(), "version");
    assert!(with(12, &[0, 0, 2, 0x7f]).is_err(), "size");
    assert!(with(12, &[0xff; 4]).is_err(), "size");
    assert!(with(28, &[1]).is_err(), "reserved");
    assert!(with(32, &[0xff; 8]).is_err(), "key slots");
    assert!(with(32, &0u64.to_be_bytes()).is_err(), "key slots");
    assert!(with(32, &2u64.to_be_bytes()).is_err(), "key slots");
    assert!(with(40, &[0xff; 8]).is_err(), "encrypted size");
    // No key slot and as much more of the encrypted part: nobody could boot it.
    let mut slotless = header_bytes(0);
    slotless[32..40].copy_from_slice(&0u64.to_be_bytes());
    slotless[40..48].copy_from_slice(&208u64.to_be_bytes());
    assert!(Header::parse(&slotless).is_err());
}

proptest! {
    #[test]
    fn parsers_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..700)) {
        let _ = Header::parse(&bytes);
        let _ = HeaderTags::parse(&bytes);
        let mut head = header_bytes(0);
        head.iter_mut().skip(12).zip(&bytes).for_each(|(out, byte)| *out ^= byte);
        let _ = Header::parse(&head);
    }

    #[test]
    fn evidence_is_what_it_was(measurement: [u8; 32], user_data in proptest::collection::vec(any::<u8>(), 0..300), text in "\\PC{0,40}") {
        let long = user_data.len() > 256;
        let evidence = json!({
            "measurement": STANDARD.encode([measurement, measurement].concat()),
            "additional_data": STANDARD.encode([1; 64]),
            "user_data": STANDARD.encode(&user_data),
            "cuid": STANDARD.encode([2; 16]),
            "encr_measurement_key": STANDARD.encode(&user_data),
            "encr_request_nonce": "",
            "image_hdr_tags": STANDARD.encode([4; 208]),
        });
        match Evidence::from_json(&evidence) {
            Ok(parsed) => prop_assert_eq!(parsed.to_json(), evidence.clone()),
            Err(_) => prop_assert!(long),
        }
        let mut other = evidence;
        other["cuid"] = text.into();
        let _ = Evidence::from_json(&other);
    }
}
