//! The launch digest against values that an independent implementation (virtee `sev` 8.0) computed of the same files.

use proptest::prelude::*;

use super::*;
use crate::Error;

/// Firmware made by the test itself: `pages` pages of a pattern, SEV metadata at 0x1000, GUIDed table at the end.
fn firmware(pages: usize) -> Vec<u8> {
    let mut file: Vec<u8> =
        (0..pages * PAGE).map(|i| u8::try_from((i * 7 + (i >> 8)) & 0xff).unwrap()).collect();
    let sections: [[u32; 3]; 6] = [
        [0x80_0000, 0x9000, 1],
        [0x80_a000, 0x3000, 1],
        [0x80_d000, 0x1000, 2],
        [0x80_e000, 0x1000, 3],
        [0x80_f000, 0x1000, 4],
        [0x81_0000, 0x1000, 0x10],
    ];
    let mut metadata = b"ASEV".to_vec();
    metadata.extend([16 + 12 * 6, 1_u32, 6].map(u32::to_le_bytes).concat());
    metadata.extend(sections.iter().flatten().flat_map(|v| v.to_le_bytes()));
    file[0x1000..0x1000 + metadata.len()].copy_from_slice(&metadata);

    let mut table = Vec::new();
    let mut entry = |data: &[u8], guid: &str| {
        table.extend(data);
        table.extend(u16::try_from(data.len() + 18).unwrap().to_le_bytes());
        table.extend(hex::decode(guid).unwrap());
    };
    entry(&0x0081_0400_u32.to_le_bytes(), "1f3755723b3a044b927b1da6efa8d454");
    entry(&0x0080_b004_u32.to_le_bytes(), "de71f7007e1acb4f890e68c77e2fb44e");
    let from_end = u32::try_from(file.len() - 0x1000).unwrap();
    entry(&from_end.to_le_bytes(), "666588dc4a989847a75e5585a7bf67cc");
    let length = u16::try_from(table.len() + 18).unwrap();
    table.extend(length.to_le_bytes());
    table.extend(hex::decode("de82b596b21ff745baeaa366c55a082d").unwrap());
    let end = file.len() - 32;
    file[end - table.len()..end].copy_from_slice(&table);
    file
}

fn hashes() -> KernelHashes {
    KernelHashes::of(b"a kernel", b"an initrd", "console=ttyS0 panic=1")
}

/// vCPUs, CPU signature, guest features, with kernel hashes; and the digest of `firmware(4)` so launched.
const GOLDEN: [(u32, u32, u64, bool, &str); 5] = [
    (
        1,
        EPYC_V4,
        1,
        true,
        "0a92bcd0374e06f17f60e3c29d5979414a59660add3b513143908de28119533d59b1370d334a3d4f7a0ce612030bad6e",
    ),
    (
        2,
        EPYC_V4,
        1,
        true,
        "4ca9a491cd7a8f092553528ed4211a2ec2812d64d95170a3f553fd03c131991cfb60a4cf1ff3d87dc58db7f4018804c7",
    ),
    (
        4,
        EPYC_V4,
        0x21,
        true,
        "f0b370f88955285214f293350b092e814fc16d8d0a3060df0c9cc2272aacf95c29998e111686e53a98980e5f0cc37c42",
    ),
    (
        1,
        EPYC_V4,
        1,
        false,
        "29e3658cf944b33aa461915a96967e29a477a8027a679165b693940cc1cb575d2757c6feb6768c0204f611e19b522883",
    ),
    (
        3,
        0x00a1_0f10,
        1,
        true,
        "f5ea5aa2db1ea50bf6a13321c51319e6e1136d2d830cb7d61b3a3d27d11b96e761f8be60d7734b9eea345349e9312553",
    ),
];

#[test]
fn digests_agree_with_an_independent_implementation() {
    let file = firmware(4);
    for (vcpus, signature, features, with_kernel, expected) in GOLDEN {
        let hashes = with_kernel.then(hashes);
        let digest = ovmf_launch_digest(&file, hashes.as_ref(), vcpus, signature, features).unwrap();
        assert_eq!(hex::encode(digest), expected, "{vcpus} vCPUs, kernel {with_kernel}");
    }
}

#[test]
fn cpu_signatures() {
    assert_eq!(cpu_signature(23, 1, 2), EPYC_V4);
    assert_eq!(cpu_signature(25, 17, 0), 0x00a1_0f10);
    assert_eq!(cpu_signature(6, 0x9e, 3), 0x0009_06e3);
}

#[test]
fn firmware_that_is_not_for_snp_is_named_as_such() {
    let digest = |file: &[u8], vcpus| ovmf_launch_digest(file, Some(&hashes()), vcpus, EPYC_V4, 1);
    assert_eq!(digest(&[0; PAGE], 1), Err(Error::FirmwareLacks("GUIDed table")));
    assert_eq!(digest(&[], 1), Err(Error::FirmwareSize(0)));
    assert_eq!(digest(&[0; 5000], 1), Err(Error::FirmwareSize(5000)));
    assert_eq!(digest(&firmware(4), 0), Err(Error::Vcpus(0)));
    assert_eq!(digest(&firmware(4), 5000), Err(Error::Vcpus(5000)));
    assert_eq!(Ovmf::parse(&firmware(4)).unwrap().sections.len(), 6);

    // No section for kernel hashes, no hash table, table across the page's end, no start address for other vCPUs.
    let alter = |at: usize, bytes: &[u8]| {
        let mut file = firmware(4);
        file[at..at + bytes.len()].copy_from_slice(bytes);
        file
    };
    assert!(digest(&alter(0x1000 + 16 + 12 * 5 + 8, &[4]), 1).is_err());
    let table = 4 * PAGE - 32 - 18 - 3 * 22;
    assert_eq!(digest(&alter(table, &[0; 4]), 1), Err(Error::FirmwareLacks("kernel hash table")));
    assert!(digest(&alter(table, &[0xff, 0x0f, 0x81, 0]), 1).is_err());
    let no_reset = alter(table + 22, &[0; 4]);
    assert!(digest(&no_reset, 1).is_ok());
    assert_eq!(digest(&no_reset, 2), Err(Error::FirmwareLacks("SEV-ES reset block")));
}

#[test]
fn hostile_metadata_is_refused() {
    let parse = |at: usize, bytes: &[u8]| {
        let mut file = firmware(4);
        file[at..at + bytes.len()].copy_from_slice(bytes);
        Ovmf::parse(&file)
    };
    let section = 0x1000 + 16;
    assert!(parse(0x1000, b"BSEV").is_err());
    assert!(parse(0x1004, &[0xff; 4]).is_err());
    assert!(parse(0x1008, &[2]).is_err());
    assert!(parse(0x100c, &[0xff; 4]).is_err());
    assert!(parse(0x100c, &[7]).is_err(), "one section more than the length covers");
    assert!(parse(section, &[1]).is_err(), "unaligned");
    assert!(parse(section + 4, &[0, 0, 0, 0xff]).is_err(), "4 GiB of zero pages");
    assert!(parse(section + 8, &[9]).is_err(), "unknown type");
    assert!(parse(section + 12 * 2 + 5, &[0x20]).is_err(), "two secrets pages");
    let end = 4 * PAGE - 32;
    assert!(parse(end - 18, &[0, 0]).is_err(), "table shorter than its footer");
    assert!(parse(end - 18, &[0xff, 0xff]).is_err(), "table longer than the file");
    assert!(parse(end - 36, &[1, 0]).is_err(), "entry shorter than its tail");
    assert!(parse(end - 40, &[0xff; 4]).is_err(), "metadata before the file");
    assert!(parse(end - 40, &[8, 0, 0, 0]).is_err(), "metadata behind the file");
}

proptest! {
    #[test]
    fn any_altered_firmware_is_measured_or_refused(
        at in any::<prop::sample::Index>(), bytes in proptest::collection::vec(any::<u8>(), 1..8)
    ) {
        let mut file = firmware(3);
        // Only the tables matter to the parser: aim there.
        let targets: Vec<usize> = (0x1000..0x1060).chain(3 * PAGE - 140..3 * PAGE - 32).collect();
        let at = targets[at.index(targets.len())];
        for (slot, byte) in file.iter_mut().skip(at).zip(bytes) {
            *slot = byte;
        }
        let _ = ovmf_launch_digest(&file, Some(&hashes()), 2, EPYC_V4, 1);
    }

    #[test]
    fn any_file_is_parsed_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..9000)) {
        let _ = Ovmf::parse(&bytes);
    }

    #[test]
    fn the_chain_depends_on_every_page(content in proptest::collection::vec(any::<u8>(), 1..9000), flip in any::<prop::sample::Index>()) {
        let digest = |c: &[u8]| { let mut d = LaunchDigest::new(); d.update_pages(c, 0x1000); d.value() };
        let mut other = content.clone();
        let at = flip.index(other.len());
        other[at] ^= 1;
        prop_assert_ne!(digest(&content), digest(&other));
    }
}
