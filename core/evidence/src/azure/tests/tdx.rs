//! Guests on Intel. The vectors come without Intel's collateral, so these verdicts are not ok: what fails must be the
//! collateral, and nothing but that.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE;
use cocoon_stage::Code;
use serde_json::{Value, json};

use super::super::hcl::HclReport;
use super::super::tdx::{Evidence, needs, verify};
use super::{JUNE_2025, json_vector, vector};
use crate::collateral::{Collateral, Need};
use crate::dcap::Trust;
use crate::{Expectation, Verdict};

const VECTORS: [&str; 2] = ["az-tdx-vtpm/evidence-v0.json", "az-tdx-vtpm/evidence-v1.json"];

fn judge(value: &Value, report_data: Option<&[u8]>, init_data_digest: Option<&[u8]>) -> Verdict {
    let evidence = Evidence::from_json(value).unwrap();
    let expectation = Expectation { report_data, init_data_digest, now_unix: JUNE_2025 };
    verify(&evidence, &Trust::default(), &Collateral::none(), &expectation)
}

/// Failed checks but those for want of collateral.
fn failed(verdict: &Verdict) -> Vec<&'static str> {
    assert!(!verdict.ok() && verdict.claims.is_null());
    let failed = verdict.checks.iter().filter(|c| c.code.is_some_and(|c| c != Code::AttestCollateralMissing));
    failed.map(|c| c.name).collect()
}

#[test]
fn evidence_of_every_version_lacks_nothing_but_collateral() {
    for name in VECTORS {
        let Some(value) = json_vector(name) else { return };
        let verdict = judge(&value, Some(b"challenge"), None);
        assert_eq!(failed(&verdict), Vec::<&str>::new(), "{name} {:#?}", verdict.checks);
        let evidence = Evidence::from_json(&value).unwrap();
        assert_eq!(evidence.to_json(), value, "{name}");
        let fmspc = "00806f050000";
        assert!(
            needs(&evidence).iter().any(|n| matches!(n, Need::IntelTcbInfo { fmspc: f, .. } if f == fmspc))
        );
        let first = &evidence.quoted().registers().values()[0];
        assert!(hex::encode(first).starts_with("782b20b1") && hex::encode(first).ends_with("a273"));
        let passed: Vec<_> = verdict.checks.iter().filter(|c| c.code.is_none()).map(|c| c.name).collect();
        for name in [
            "tpm.signature",
            "tpm.pcr-selection",
            "tpm.pcr-digest",
            "tpm.report-data",
            "hcl.runtime-data",
            "hcl.td-report",
            "quote.signature",
            "td.debug",
        ] {
            assert!(passed.contains(&name), "{name} {passed:?}");
        }
    }
}

fn with(value: &Value, member: &str, change: impl Fn(&mut Vec<u8>)) -> Value {
    let mut value = value.clone();
    let mut bytes = URL_SAFE.decode(value[member].as_str().unwrap()).unwrap();
    change(&mut bytes);
    value[member] = json!(URL_SAFE.encode(bytes));
    value
}

#[test]
fn every_tampered_part_fails_its_own_check() {
    let Some(value) = json_vector(VECTORS[1]) else { return };
    let nonce: Option<&[u8]> = Some(b"challenge");
    let judged = |value: &Value| failed(&judge(value, nonce, None));
    assert_eq!(judged(&with(&value, "hcl_report", |r| r[0x880] ^= 1)), ["hcl.runtime-data"]);
    // Measurement of the TD, in the paravisor's copy and in the quote.
    assert_eq!(judged(&with(&value, "hcl_report", |r| r[0x20 + 512 + 16] ^= 1)), ["hcl.td-report"]);
    assert_eq!(judged(&with(&value, "td_quote", |q| q[48 + 136] ^= 1)), ["quote.signature", "hcl.td-report"]);
    // REPORTDATA.
    let changed = judged(&with(&value, "td_quote", |q| q[48 + 520] ^= 1));
    assert_eq!(changed, ["quote.signature", "hcl.runtime-data", "hcl.td-report"]);
    // Debug.
    let changed = judged(&with(&value, "td_quote", |q| q[48 + 120] |= 1));
    assert_eq!(changed, ["quote.signature", "td.debug", "hcl.td-report"]);
    assert_eq!(failed(&judge(&value, Some(b"another"), None)), ["tpm.report-data"]);
    for length in [0, 31, 32, 48, 64] {
        assert_eq!(failed(&judge(&value, nonce, Some(&vec![0; length]))), ["tpm.init-data"]);
    }
    let mut pcr = value.clone();
    pcr["tpm_quote"]["pcrs"][11] = json!("ff".repeat(32));
    assert_eq!(judged(&pcr), ["tpm.pcr-digest"]);
    let mut version = value.clone();
    version["version"] = json!(2);
    assert_eq!(judged(&version), ["hcl.user-data"]);
}

#[test]
fn no_bit_of_the_report_can_be_flipped_but_what_quotes_lack() {
    let Some(value) = json_vector(VECTORS[1]) else { return };
    let report = URL_SAFE.decode(value["hcl_report"].as_str().unwrap()).unwrap();
    // The report's version, CPUSVN and hashes, MAC, which fields are valid, TEE_TCB_SVN2, SERVTD_HASH: nothing is concluded
    // from them.
    let free = [2..3, 16..128, 224..264, 384..400, 912..960];
    for at in 0..report.len() {
        if at.checked_sub(0x20).is_some_and(|at| free.iter().any(|range| range.contains(&at))) {
            continue;
        }
        let mut report = report.clone();
        report[at] ^= 1 << (at % 8);
        if HclReport::parse(&report).is_ok() {
            let value = with(&value, "hcl_report", |r| *r = report.clone());
            assert!(!failed(&judge(&value, Some(b"challenge"), None)).is_empty(), "byte {at:#x}");
        }
    }
}

#[test]
fn malformed_evidence_is_refused() {
    let Some(value) = json_vector(VECTORS[1]) else { return };
    for member in ["tpm_quote", "hcl_report", "td_quote"] {
        for wrong in [json!(null), json!(7), json!("%"), json!("A".repeat(1 << 20)), json!("AAAA")] {
            let mut value = value.clone();
            value[member] = wrong;
            assert!(Evidence::from_json(&value).is_err());
        }
    }
    let longer = with(&value, "td_quote", |q| *q.last_mut().unwrap() = 1);
    assert!(Evidence::from_json(&longer).is_err(), "something hidden behind the quote");
    // A guest on AMD.
    let (Some(snp), Some(_)) = (vector("az-snp-vtpm/hcl-report.bin"), vector(VECTORS[0])) else { return };
    let other = with(&value, "hcl_report", |r| *r = snp.clone());
    let failed = failed(&judge(&other, None, None));
    assert!(failed.contains(&"hcl.hardware") && failed.contains(&"hcl.td-report"), "{failed:?}");
}
