//! The header of an encrypted volume: the disk is the host's.
#![no_main]

use cocoon_blockdev::luks::{Found, find};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // As it lies on the disk; and as the host, who can compute checksums, would write it around any JSON.
    let _ = find(bytes, 64 << 20);
    let mut copy = vec![0; 32 << 10];
    for (at, magic) in [(0, b"LUKS\xba\xbe"), (16 << 10, b"SKUL\xba\xbe")] {
        let copy = &mut copy[at..at + (16 << 10)];
        copy[..6].copy_from_slice(magic);
        copy[6..8].copy_from_slice(&2_u16.to_be_bytes());
        copy[8..16].copy_from_slice(&(16_u64 << 10).to_be_bytes());
        copy[72..78].copy_from_slice(b"sha256");
        copy[256..264].copy_from_slice(&(at as u64).to_be_bytes());
        let length = bytes.len().min((12 << 10) - 1);
        copy[4096..4096 + length].copy_from_slice(&bytes[..length]);
        let sum = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, copy);
        copy[448..480].copy_from_slice(sum.as_ref());
    }
    if let Ok(found) = find(&copy, 64 << 20) {
        assert!(matches!(found, Found::Header(_)), "a header with a right checksum is one");
    }
});
