//! Whole chains of our own, and every rule broken once.

use cocoon_stage::Code;
use serde_json::json;

use super::*;
use crate::csv::certificate::usage;
use crate::csv::testing::*;
use crate::eventlog::{Algorithm, EventLog};

#[test]
fn a_whole_chain_of_our_own_verifies() {
    let machine = Machine::new();
    let fields = Fields::new();
    for report in [fields.v1(&machine, [9, 8, 7, 6]), fields.v1(&machine, [0; 4]), fields.v2(&machine)] {
        let evidence = evidence(&machine, report);
        assert_eq!(Evidence::from_json(&evidence.to_json()).unwrap(), evidence);
        assert!(needs(&evidence).is_empty());
        let expectation = Expectation { report_data: Some(&[0x11; 64]), ..NOBODY };
        let verdict =
            verify(&evidence, &machine.roots(), &Rules::default(), &Collateral::none(), &expectation);
        assert_eq!(failed(&verdict), []);
        assert!(verdict.ok() && verdict.simulated);
        assert_eq!(verdict.claims["simulated"], json!(true));
        let chip = hex::encode(machine.cek_certificate.signer().key.digest());
        assert_eq!(verdict.claims["cek_key_digest"], json!(chip));

        let verdict = judge(&evidence, &Roots::default());
        assert_eq!(failed(&verdict), [("hsk.chain", Code::AttestSimulatedRefused)]);
        assert!(verdict.simulated && verdict.claims.is_null());
        let nobody = Roots { hygon: false, simulated: Vec::new() };
        assert_eq!(names(&judge(&evidence, &nobody)), ["hsk.chain"]);
    }
}

#[test]
fn claims_have_upstreams_names_and_types() {
    let machine = Machine::new();
    let fields = Fields::new();
    let digest = hex::encode(machine.cek_certificate.signer().key.digest());
    let mut expected = json!({
        "version": "1",
        "policy": {
            "nodbg": 1, "noks": 0, "es": 1, "nosend": 0, "domain": 0, "csv": 0, "csv3": 1, "asid_reuse": 0,
            "hsk_version": 0, "cek_version": 0, "api_major": 3, "api_minor": 1,
        },
        "user_pubkey_digest": "00".repeat(32),
        "vm_id": hex::encode("vm-id-of-a-guest"),
        "vm_version": hex::encode("version-1.2.3.45"),
        "report_data": "11".repeat(64),
        "mnonce": hex::encode("mnonce-16-bytes!"),
        "measure": "5a".repeat(32),
        "sig_usage": "02100000",
        "sig_algo": "04000000",
        "anonce": "01020304",
        "serial_number": CHIP,
        "serial_number_verified": false,
        "cek_key_digest": digest,
        "simulated": true,
    });
    let verdict = judge(&evidence(&machine, fields.v1(&machine, [1, 2, 3, 4])), &machine.roots());
    assert_eq!(verdict.claims, expected);

    let map = expected.as_object_mut().unwrap();
    map.remove("anonce");
    map.insert("version".to_owned(), json!("2"));
    map.insert("build".to_owned(), json!(2337));
    map.insert("rtmr_version".to_owned(), json!(1));
    map.insert("reserved0".to_owned(), json!("00".repeat(14)));
    map.insert("reserved1".to_owned(), json!("00".repeat(656)));
    map.insert("rtmr0".to_owned(), json!("5a".repeat(32)));
    for i in 1..5 {
        map.insert(format!("rtmr{i}"), json!(format!("0{i}").repeat(32)));
    }
    let verdict = judge(&evidence(&machine, fields.v2(&machine)), &machine.roots());
    assert_eq!(verdict.claims, expected);
}

#[test]
fn every_link_of_the_chain_is_checked() {
    let machine = Machine::new();
    let report = Fields::new().v2(&machine);
    let stranger = Key::new(9, "SIMULATED-HSK");
    let roots = machine.roots();
    let base = evidence(&machine, report);
    let with = |hsk: Option<CaCertificate>, cek: Option<ChipCertificate>, pek: Option<ChipCertificate>| {
        let mut evidence = base.clone();
        let hsk = hsk.unwrap_or(machine.hsk_certificate.clone());
        evidence.hsk_cek = Some((hsk, cek.unwrap_or(machine.cek_certificate.clone())));
        evidence.pek = pek.unwrap_or(evidence.pek);
        names(&judge(&evidence, &roots))
    };
    let ids = ("SIMULATED-HSK", "SIMULATED-HRK");
    assert_eq!(with(Some(ca(&machine.hsk, usage::HSK, ids, &stranger)), None, None), ["hsk.chain"]);
    assert_eq!(with(Some(ca(&machine.hsk, usage::HRK, ids, &machine.hrk)), None, None), ["hsk.chain"]);
    assert_eq!(with(Some(machine.root.clone()), None, None), ["hsk.chain", "cek.chain"]);
    let foreign = ca(&stranger, usage::HSK, ids, &machine.hrk);
    assert_eq!(with(Some(foreign), None, None), ["cek.chain"]);
    let cek = |usage, issuer, issuer_usage| Some(chip(&machine.cek, usage, issuer, issuer_usage));
    assert_eq!(with(None, cek(usage::CEK, &stranger, usage::HSK), None), ["cek.chain"]);
    assert_eq!(with(None, cek(usage::PEK, &machine.hsk, usage::HSK), None), ["cek.chain"]);
    assert_eq!(with(None, cek(usage::CEK, &machine.hsk, usage::CEK), None), ["cek.chain"]);
    let pek = |key, usage, issuer, issuer_usage| Some(chip(key, usage, issuer, issuer_usage));
    let two = ["pek.chain", "report.pek"];
    assert_eq!(with(None, None, pek(&machine.pek, usage::PEK, &stranger, usage::CEK)), two);
    assert_eq!(with(None, None, pek(&machine.pek, usage::CEK, &machine.cek, usage::CEK)), two);
    // Signed by its owner alone.
    assert_eq!(with(None, None, pek(&machine.pek, usage::PEK, &stranger, 0x1001)), two);
    let other = pek(&stranger, usage::PEK, &machine.cek, usage::CEK);
    assert_eq!(with(None, None, other), ["report.signature", "report.pek"]);
    // The same key under another id is another signer.
    let renamed = Key::new(4, "SIMULATED-CEK");
    let other = pek(&renamed, usage::PEK, &machine.cek, usage::CEK);
    assert_eq!(with(None, None, other), ["report.signature", "report.pek"]);
}

#[test]
fn every_rule_of_the_report_is_checked() {
    let machine = Machine::new();
    let roots = machine.roots();
    let good = Fields::new();
    let judged = |fields: &Fields| names(&judge(&evidence(&machine, fields.v2(&machine)), &roots));
    assert_eq!(judged(&Fields { policy: 0x44, ..good.clone() }), ["report.debug"]);
    assert_eq!(judged(&Fields { sig_usage: usage::CEK, ..good.clone() }), ["report.signing-key"]);
    assert_eq!(judged(&Fields { sig_algo: 2, ..good.clone() }), ["report.signing-key"]);
    assert_eq!(judged(&Fields { rtmr_version: 2, ..good.clone() }), ["report.rtmr-version"]);
    assert_eq!(judged(&Fields { rtmr_version: 0, ..good.clone() }), ["report.rtmr-version"]);
    assert_eq!(judged(&Fields { measure: [0; 32], ..good.clone() }), ["report.rtmr0"]);
    let unused = Fields { rtmr_version: 0, rtmr: [[0; 32]; 5], ..good.clone() };
    assert!(judged(&unused).is_empty());

    let debuggable = evidence(&machine, Fields { policy: 0x44, ..good.clone() }.v2(&machine));
    let rules = Rules { allow_debug: true, ..Rules::default() };
    assert!(verify(&debuggable, &roots, &rules, &Collateral::none(), &NOBODY).ok());

    let old = evidence(&machine, good.v1(&machine, [1, 2, 3, 4]));
    let rules = Rules { allow_v1: false, ..Rules::default() };
    let verdict = verify(&old, &roots, &rules, &Collateral::none(), &NOBODY);
    assert_eq!(failed(&verdict), [("report.version", Code::AttestTeeUnsupported)]);

    let mut elsewhere = evidence(&machine, good.v2(&machine));
    elsewhere.chip_id = ChipId::new("SIM0000000002").unwrap();
    assert_eq!(names(&judge(&elsewhere, &roots)), ["report.serial-number"]);
}

/// The mask is not signed. A guest without session cannot use that; one with a session can, and its measurement changes
/// with it: that is what the module's documentation warns of.
#[test]
fn a_changed_mask_shows_or_changes_the_measurement() {
    let machine = Machine::new();
    let forge = |fields: Fields| {
        let mut page = fields.v1(&machine, [1, 2, 3, 4]).to_bytes().to_vec();
        for at in [0xb4, 0xb8, 0xbc] {
            page[at] ^= 1;
        }
        evidence(&machine, Report::parse(&[0; 16], 0, &page).unwrap())
    };
    let debuggable = Fields { policy: 0x44, ..Fields::new() };
    assert_eq!(names(&judge(&forge(debuggable.clone()), &machine.roots())), ["report.mask"]);
    let mut user_pubkey_digest = [7; 32];
    user_pubkey_digest[31] = 8;
    let session = forge(Fields { user_pubkey_digest, ..debuggable.clone() });
    let verdict = judge(&session, &machine.roots());
    assert!(verdict.ok());
    assert_ne!(verdict.claims["measure"], json!(hex::encode(debuggable.measure)));
    // Version 2 has no mask.
    let mut page = debuggable.v2(&machine).to_bytes().to_vec();
    page[0xb0] ^= 1;
    let flipped = evidence(&machine, Report::parse(b"ATTESTATION_EXT\0", 1, &page).unwrap());
    assert_eq!(names(&judge(&flipped, &machine.roots())), ["report.signature"]);
}

#[test]
fn report_data_and_initdata() {
    let machine = Machine::new();
    let mut fields = Fields::new();
    fields.report_data = [0; 64];
    fields.report_data[..48].copy_from_slice(&[7; 48]);
    let evidence = evidence(&machine, fields.v2(&machine));
    let with = |report_data: Option<&[u8]>, init_data_digest: Option<&[u8]>| {
        let expectation = Expectation { report_data, init_data_digest, now_unix: 0 };
        failed(&verify(&evidence, &machine.roots(), &Rules::default(), &Collateral::none(), &expectation))
    };
    assert_eq!(with(None, None), []);
    assert_eq!(with(Some(&[7; 48]), None), []);
    let wrong = [("report.report-data", Code::AttestReportDataMismatch)];
    for other in [&[7; 47][..], &[7; 49], &[], &[0; 64], &[7; 65]] {
        assert_eq!(with(Some(other), None), wrong);
    }
    let mut long = [0; 65];
    long[..48].copy_from_slice(&[7; 48]);
    assert_eq!(with(Some(&long), None), wrong, "longer than the field, if only by zeros");
    let unbound = [("report.init-data", Code::AttestInitdataMismatch)];
    assert_eq!(with(None, Some(&[0; 32])), unbound);
    assert_eq!(with(None, Some(&[])), unbound);
}

#[test]
fn the_event_log_is_replayed_into_the_signed_registers() {
    let Some(bytes) = vector("eventlog/CCEL_data_csv") else { return };
    let log = EventLog::parse(&bytes).unwrap();
    let machine = Machine::new();
    let mut fields = Fields::new();
    fields.rtmr[1..].fill([0; 32]);
    for (index, value) in log.replay(Algorithm::Sm3) {
        fields.rtmr[usize::try_from(index).unwrap()] = value.try_into().unwrap();
    }
    let mut good = evidence(&machine, fields.v2(&machine));
    good.event_log = Some(bytes.clone());
    let verdict = judge(&good, &machine.roots());
    assert_eq!(failed(&verdict), []);
    assert_eq!(verdict.claims["uefi_event_logs"].as_array().unwrap().len(), log.events().len());

    for register in 1..5 {
        let mut fields = fields.clone();
        fields.rtmr[register][0] ^= 1;
        let mut bad = evidence(&machine, fields.v2(&machine));
        bad.event_log = Some(bytes.clone());
        let verdict = judge(&bad, &machine.roots());
        assert!(failed(&verdict).iter().any(|(_, code)| *code == Code::AttestEventLogMismatch), "{register}");
        assert!(verdict.claims.is_null());
    }
    let mut bad = good.clone();
    bad.event_log = Some(b"no log".to_vec());
    assert_eq!(failed(&judge(&bad, &machine.roots())), [("eventlog.format", Code::AttestEvidenceMalformed)]);

    // A version 1 report has no registers: its log is not claimed.
    let mut old = evidence(&machine, fields.v1(&machine, [1, 2, 3, 4]));
    old.event_log = Some(bytes);
    let verdict = judge(&old, &machine.roots());
    assert!(verdict.ok() && verdict.claims.get("uefi_event_logs").is_none());
}

#[test]
fn a_simulated_root_says_so_and_signs_itself() {
    let machine = Machine::new();
    let root = |certificate: &CaCertificate| SimulatedRoot { hrk: certificate.to_bytes().to_vec() };
    assert_eq!(root(&machine.root).check(), Ok(()));
    let ids = ("SIMULATED-HRK", "SIMULATED-HRK");
    let unmarked = Key::new(1, "HYGON-SSD-HRK");
    assert!(root(&ca(&unmarked, usage::HRK, ids, &unmarked)).check().is_err());
    assert!(root(&ca(&machine.hrk, usage::HRK, ids, &machine.hsk)).check().is_err());
    assert!(root(&ca(&machine.hrk, usage::HSK, ids, &machine.hrk)).check().is_err());
    assert!(SimulatedRoot { hrk: vec![0; 832] }.check().is_err());
    // A root that is no proper one is trusted with nothing.
    let roots = Roots { hygon: true, simulated: vec![root(&ca(&unmarked, usage::HRK, ids, &unmarked))] };
    let evidence = evidence(&machine, Fields::new().v2(&machine));
    assert_eq!(names(&judge(&evidence, &roots)), ["hsk.chain"]);
}
