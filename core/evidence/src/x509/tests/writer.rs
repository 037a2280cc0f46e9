//! A writer of DER, right and wrong, for what no library would make.

use rcgen::{KeyPair, SigningKey};

pub const SEQUENCE: u8 = 0x30;
pub const SET: u8 = 0x31;
pub const INTEGER: u8 = 0x02;
pub const OID: u8 = 0x06;
pub const UTF8: u8 = 0x0c;
pub const UTC_TIME: u8 = 0x17;
pub const OCTETS: u8 = 0x04;

pub fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).unwrap().to_be_bytes();
    let mut out = vec![tag];
    match length {
        [0, 0, 0, short @ 0..0x80] => out.push(short),
        [0, 0, 0, a] => out.extend([0x81, a]),
        [0, 0, a, b] => out.extend([0x82, a, b]),
        [0, a, b, c] => out.extend([0x83, a, b, c]),
        [..] => unreachable!("tests make no more than 16 MiB"),
    }
    out.extend_from_slice(content);
    out
}

pub fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    tlv(SEQUENCE, &parts.concat())
}

/// ecdsa-with-SHA256.
pub fn ecdsa() -> Vec<u8> {
    sequence(&[&tlv(OID, &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2])])
}

pub fn name(common_name: &str) -> Vec<u8> {
    let attribute = sequence(&[&tlv(OID, &[0x55, 4, 3]), &tlv(UTF8, common_name.as_bytes())]);
    sequence(&[&tlv(SET, &attribute)])
}

/// An extension of the arc 2.5.29.
pub fn extension(number: u8, critical: bool, content: &[u8]) -> Vec<u8> {
    let critical: &[u8] = if critical { &[1, 1, 0xff] } else { &[] };
    sequence(&[&tlv(OID, &[0x55, 0x1d, number]), critical, &tlv(OCTETS, content)])
}

/// Signed part, algorithm, and a signature of a P-256 key.
pub fn signed(tbs: &[u8], algorithm: &[u8], key: &KeyPair) -> Vec<u8> {
    let signature = key.sign(tbs).unwrap();
    sequence(&[tbs, algorithm, &tlv(3, &[&[0], &signature[..]].concat())])
}
