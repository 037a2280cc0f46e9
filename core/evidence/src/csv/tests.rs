//! A real report without its HSK and CEK; whole chains of our own are in `chains`, malformed and changed ones in `hostile`.

mod chains;
mod hostile;

use cocoon_stage::Code;
use serde_json::Value;

use super::*;
use crate::collateral::Collateral;
use crate::testing::vector;
use crate::{Expectation, Verdict};

const NOBODY: Expectation<'_> = Expectation { report_data: None, init_data_digest: None, now_unix: 0 };

fn real() -> Option<Evidence> {
    let value: Value = serde_json::from_slice(&vector("csv/csv_evidence.json")?).unwrap();
    Some(Evidence::from_json(&value).unwrap())
}

fn judge(evidence: &Evidence, roots: &Roots) -> Verdict {
    verify(evidence, roots, &Rules::default(), &Collateral::none(), &NOBODY)
}

fn failed(verdict: &Verdict) -> Vec<(&'static str, Code)> {
    verdict.checks.iter().filter_map(|c| c.code.map(|code| (c.name, code))).collect()
}

fn names(verdict: &Verdict) -> Vec<&'static str> {
    failed(verdict).into_iter().map(|(name, _)| name).collect()
}

#[test]
fn the_real_report_is_signed_by_its_pek_and_lacks_the_chain() {
    let Some(evidence) = real() else { return };
    assert_eq!(evidence.chip_id.as_str(), "KPA64911240507");
    assert_eq!(evidence.pek.user_id(), "HYGON-SSD-PEK");
    let expectation = Expectation { report_data: Some(&[0; 64]), ..NOBODY };
    let verdict = verify(&evidence, &Roots::default(), &Rules::default(), &Collateral::none(), &expectation);
    let missing = Code::AttestCollateralMissing;
    assert_eq!(failed(&verdict), [("hsk.chain", missing), ("cek.chain", missing), ("pek.chain", missing)]);
    assert!(verdict.checks.iter().any(|c| c.name == "report.signature" && c.got == "valid"));
    assert!(verdict.claims.is_null());
    let need = crate::collateral::Need::HygonCertificates { chip_id: "KPA64911240507".to_owned() };
    assert_eq!(needs(&evidence), [need]);

    let report = &evidence.report;
    assert_eq!(
        hex::encode(report.measure),
        "ae2a2cf1f41a485fa37bf9ae92f678783c59fbc79de7b5d237743d58f5538034"
    );
    assert_eq!(report.policy, 0x45);
    assert_eq!(hex::encode(report.mnonce), "ad998a845c45cf30944d1c285629e768");
    assert_eq!(report.version, Version::V1 { anonce: [0x26, 0xd7, 0xc7, 0x5d] });
}

#[test]
fn the_real_evidence_survives_a_round_trip() {
    let Some(text) = vector("csv/csv_evidence.json") else { return };
    let value: Value = serde_json::from_slice(&text).unwrap();
    let evidence = Evidence::from_json(&value).unwrap();
    assert_eq!(evidence.to_json(), value);
    assert_eq!(Evidence::from_json(&evidence.to_json()).unwrap(), evidence);
}

/// Every bit of the real report matters but those that no signature covers: signature key's usage, mask and MAC.
#[test]
fn flipped_bits_of_the_real_report_are_found() {
    let Some(evidence) = real() else { return };
    let good = names(&judge(&evidence, &Roots::default()));
    let page = evidence.report.to_bytes();
    // Every bit of what is signed, of the mask and of the signature; of the rest, which is only compared, one in 16 bytes.
    let bits = (0..0x150 * 8).chain((0x150 * 8..Report::SIZE * 8).step_by(16 * 8 + 1));
    for bit in bits {
        let at = bit / 8;
        let mut flipped = page.to_vec();
        flipped[at] ^= 1 << (bit % 8);
        let mut evidence = evidence.clone();
        evidence.report = match Report::parse(&[0; 16], 0, &flipped) {
            Ok(report) => report,
            Err(_) => continue,
        };
        let verdict = judge(&evidence, &Roots::default());
        // The mask alone is not signed: it shows in the key's usage, and in the owner's digest where there is none.
        let unsigned = (0x9b4..0x9f4).contains(&at);
        assert_eq!(names(&verdict) == good, unsigned, "byte {at:#x}");
    }
}

#[test]
fn a_changed_mask_of_the_real_report_is_found() {
    let Some(evidence) = real() else { return };
    // What a sender could do to change the debug bit: bit 0 of the mask, and of what is masked and not signed.
    let mut page = evidence.report.to_bytes().to_vec();
    for at in [0xb4, 0xb8, 0xbc] {
        page[at] ^= 1;
    }
    let mut evidence = evidence;
    evidence.report = Report::parse(&[0; 16], 0, &page).unwrap();
    let found = names(&judge(&evidence, &Roots::default()));
    assert_eq!(found, ["hsk.chain", "cek.chain", "pek.chain", "report.debug", "report.mask"]);
}
