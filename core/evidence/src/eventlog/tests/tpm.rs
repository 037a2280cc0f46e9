//! A TPM's log as firmware wrote it: OVMF 2022.11 in QEMU with a software TPM (swtpm) booted a Linux kernel directly; the log is
//! `binary_bios_measurements`, the values are what the kernel then read from the TPM. The kernel's IMA had extended PCR 10.

use super::*;

const LOG: &[u8] = include_bytes!("ovmf-vtpm.bin");

/// PCR 0 to 10 of the SHA-256 bank.
const SHA256: [&str; 11] = [
    "177e29c417b6b61c7cf46ed30b4468931f58642527a268b556254e39b941ec6a",
    "8e9d1fe23131f12d6a523e9c32eb3223d4dc25e14eb5fd60163e7ba8de0f248c",
    "7283db88208a98a77b841934355d717e583235fa544a682bdaafb2232278ea36",
    "3d458cfe55cc03ea1f443f1562beec8df51c75e14a9fcf9a7234a13f198e7969",
    "b8c8dc98edc4077b3dd85a9185c9eccdc8b02a95873c7eba4459f4bca8f9155f",
    "a5ceb755d043f32431d63e39f5161464620a3437280494b5850dc1b47cc074e0",
    "3d458cfe55cc03ea1f443f1562beec8df51c75e14a9fcf9a7234a13f198e7969",
    "65caf8dd1e0ea7a6347b635d2b379c93b9a1351edc2afc3ecda700e534eb3068",
    "0000000000000000000000000000000000000000000000000000000000000000",
    "3b60940df27f6e185bde0ba914be91da22487c1ced6695060239d15114ea6c85",
    "79bd3df54cf42f156c3a069f54eb4a42de474f18ad438b6c7e0dce8518e7cba9",
];

/// PCR 0, 4 and 9 of two other banks.
const OTHERS: [(Algorithm, u32, &str); 6] = [
    (Algorithm::Sha1, 0, "5ca4ef5fbe527bef22bfe4d3a1b9a36a71753de9"),
    (Algorithm::Sha1, 4, "79bd791f285fdb8cf23ae9b3e8e7f1860ed66a78"),
    (Algorithm::Sha1, 9, "3dad206e26c9b33feac8e43009f8d72990323065"),
    (
        Algorithm::Sha384,
        0,
        "f4428d8c085a90327e84ec8a82b582776de009bf0865b0276620545d213a7d97528e6dd8643104a1f64c67fbbd8d5e4f",
    ),
    (
        Algorithm::Sha384,
        4,
        "9678e7ce23752fcf7b084a0cdcbbaf022873aea9b0e9c154c442a03a95473cca1194e985d17e80b94cf6349410dc15f8",
    ),
    (
        Algorithm::Sha384,
        9,
        "c8a6b84d8321b9a2b5fa2a2493b5e20926c172f81bf21b6ff74a2edc9fad10dbb105d197d5dc447ed04551ea94e82561",
    ),
];

#[test]
fn a_tpms_log_replays_to_its_pcrs() {
    let log = EventLog::parse(LOG).unwrap();
    assert_eq!(log.banks(), [Algorithm::Sha1, Algorithm::Sha256, Algorithm::Sha384, Algorithm::Sha512]);
    assert_eq!(log.events().len(), 25);
    let pcrs = log.pcrs(Algorithm::Sha256);
    for (index, value) in (0..10).zip(SHA256) {
        assert_eq!(hex::encode(&pcrs[&index]), value, "PCR {index}");
    }
    for (bank, index, value) in OTHERS {
        assert_eq!(hex::encode(&log.pcrs(bank)[&index]), value, "{bank:?} PCR {index}");
    }
    let used: Vec<u32> = log.replay(Algorithm::Sha256).into_keys().collect();
    assert_eq!(used, [0, 1, 2, 3, 4, 5, 6, 7, 9]);
}

#[test]
fn a_tpms_log_is_checked_against_its_quote() {
    let log = EventLog::parse(LOG).unwrap();
    let quoted: Vec<(u32, Vec<u8>)> =
        (0..).zip(SHA256).map(|(index, value)| (index, hex::decode(value).unwrap())).collect();
    let check = |indexes: &[u32]| {
        let quoted = quoted.iter().filter(|(index, _)| indexes.contains(index));
        let expected = quoted.map(|(index, value)| (*index, "pcr", value.as_slice()));
        failed(&log.check_registers(Algorithm::Sha256, "TPM quote", expected))
    };
    assert_eq!(check(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]), Vec::<&str>::new());
    // What the running system extended is not in the firmware's log.
    assert_eq!(check(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]), ["eventlog.replay"]);
    assert_eq!(check(&[0, 1, 2, 3, 4, 5, 6, 7]), ["eventlog.registers"]);
}

#[test]
fn a_tpms_log_has_the_same_claims() {
    let claims = EventLog::parse(LOG).unwrap().claims(Algorithm::Sha256);
    let find = |name: &str| {
        let mut found = claims.as_array().unwrap().iter().filter(move |e| e["type_name"] == name);
        found.next().unwrap().clone()
    };
    assert_eq!(find("EV_EFI_VARIABLE_DRIVER_CONFIG")["details"]["unicode_name"], "SecureBoot");
    assert_eq!(find("EV_EFI_VARIABLE_DRIVER_CONFIG")["digest_matches_event"], true);
    assert_eq!(find("EV_EFI_BOOT_SERVICES_APPLICATION")["details"]["device_paths"][1], "File(kernel)");
    assert_eq!(find("EV_EVENT_TAG")["details"]["string"], "LOADED_IMAGE::LoadOptions");
    assert_eq!(find("EV_SEPARATOR")["digests"].as_array().unwrap().len(), 1);
}
