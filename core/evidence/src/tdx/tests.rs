//! Real quotes, and TDs of our own where no real evidence has what a test needs.

use cocoon_stage::Code;
use serde_json::{Value, json};

use super::*;
use crate::collateral::{Collateral, IntelTee};
use crate::dcap::simulator::{Plan, td};
use crate::dcap::testing::{JUNE_2025, failed, pck, tdx_collateral, vector};
use crate::dcap::{Body, Quote, Rules, Trust};
use crate::eventlog::{Algorithm, EventLog};
use crate::{Error, Expectation, Verdict};

fn expect<'a>(report_data: Option<&'a [u8]>, init_data_digest: Option<&'a [u8]>) -> Expectation<'a> {
    Expectation { report_data, init_data_digest, now_unix: JUNE_2025 }
}

fn real(trust: &Trust, expectation: &Expectation<'_>) -> Option<Verdict> {
    let evidence = Evidence::new(&vector("tdx/tdx_quote")?, None).unwrap();
    Some(verify(&evidence, trust, &tdx_collateral()?, expectation))
}

const REPORT_DATA: &str = "9a9d48e7f6799642d3d1b34e1e5e1742d4bb02dd6ddd551862c1211d35c304f9\
                           eca3efdbb481601c163cf52493d6e44aed55d51ec39b7e518fadb92c2b523f20";

#[test]
fn a_real_quote_verifies_with_its_collateral() {
    let report_data = hex::decode(REPORT_DATA).unwrap();
    let Some(verdict) = real(&Trust::default(), &expect(Some(&report_data), Some(&[0; 48]))) else { return };
    assert_eq!(failed(&verdict.checks), [""; 0], "{:#?}", verdict.checks);
    assert!(verdict.ok() && !verdict.simulated);
    let claims = &verdict.claims;
    for (name, value) in [
        ("tcb_status", json!("UpToDate")),
        ("tcb_date", json!("2024-03-13T00:00:00Z")),
        ("advisory_ids", json!([])),
        ("collateral_expiration_status", json!("0")),
        ("earliest_issue_date", json!("2018-05-21T10:45:10Z")),
        ("latest_issue_date", json!("2025-06-19T10:32:27Z")),
        ("earliest_expiration_date", json!("2025-07-19T10:00:35Z")),
        ("pck_crl_num", json!(1)),
        ("root_ca_crl_num", json!(1)),
        ("tcb_eval_num", json!(17)),
        ("sgx_type", json!("Scalable")),
        ("is_smt_enabled", json!(true)),
        ("fmspc", json!("b0c06f000000")),
        ("report_data", json!(REPORT_DATA)),
        ("init_data", json!("00".repeat(48))),
        (
            "root_key_id",
            json!(
                "46e403bd34f05a3f2817ab9badcaacc7ffc98e0f261008cd30dae936cace18d5\
                 dcf58eef31463613de1570d516200993"
            ),
        ),
        ("simulated", json!(false)),
    ] {
        assert_eq!(claims[name], value, "{name}");
    }
    assert_eq!(claims["quote"]["body"]["tcb_svn"], "06010300000000000000000000000000");
    assert!(claims.get("uefi_event_logs").is_none() && claims.get("tcb_status_current").is_none());
    let names: Vec<_> = verdict.checks.iter().map(|c| c.name).collect();
    let mut once = names.clone();
    once.sort_unstable();
    once.dedup();
    assert_eq!(once.len(), names.len(), "{names:?}");
    assert!(verdict.checks.iter().all(|c| c.expected.len() <= 200 && c.got.len() <= 200));
}

#[test]
fn report_data_and_initdata_must_be_those_presented() {
    let trust = Trust::default();
    let good = hex::decode(REPORT_DATA).unwrap();
    let mut other = good.clone();
    other[63] ^= 1;
    let longer = [&good[..], &[0]].concat();
    for report_data in [&[][..], &good[..63], &other, &longer] {
        let Some(verdict) = real(&trust, &expect(Some(report_data), None)) else { return };
        assert_eq!(failed(&verdict.checks), ["quote.report-data"]);
        assert_eq!(verdict.failure().unwrap().code, Code::AttestReportDataMismatch);
        assert_eq!(verdict.claims, Value::Null);
    }
    for digest in [&[][..], &[1; 48]] {
        let Some(verdict) = real(&trust, &expect(None, Some(digest))) else { return };
        assert_eq!(failed(&verdict.checks), ["quote.mr-config-id"]);
        assert_eq!(verdict.failure().unwrap().code, Code::AttestInitdataMismatch);
    }
}

fn judge(change: impl FnOnce(&mut Plan), rules: Rules, expectation: &Expectation<'_>) -> Verdict {
    let mut plan = Plan::new(IntelTee::Tdx);
    change(&mut plan);
    let mut platform = plan.build();
    platform.trust.rules = rules;
    let quote = Quote::parse(&platform.quote).unwrap();
    verify_quote(&quote, &platform.trust, &platform.collateral, expectation)
}

#[test]
fn digests_are_padded_and_truncated_to_the_field() {
    let body = |digest: &'static [u8]| {
        move |p: &mut Plan| {
            p.body[184..232].fill(0);
            p.body[184..184 + digest.len().min(48)].copy_from_slice(&digest[..digest.len().min(48)]);
        }
    };
    for digest in [&[3; 32][..], &[3; 48], &[3; 64]] {
        let verdict = judge(body(digest), Rules::default(), &expect(None, Some(digest)));
        assert_eq!(failed(&verdict.checks), [""; 0]);
        assert!(verdict.simulated);
    }
    let verdict = judge(body(&[3; 48]), Rules::default(), &expect(None, Some(&[3; 32])));
    assert_eq!(failed(&verdict.checks), ["quote.mr-config-id"]);
    let verdict = judge(|p| p.body[520] = 5, Rules::default(), &expect(Some(&[5]), None));
    assert_eq!(failed(&verdict.checks), [""; 0]);
}

#[test]
fn debug_and_unknown_attributes_are_refused() {
    let rules = Rules::default;
    let debug = |p: &mut Plan| p.body[120] = 1;
    let verdict = judge(debug, rules(), &expect(None, None));
    assert_eq!(failed(&verdict.checks), ["td.debug"]);
    assert_eq!(verdict.failure().unwrap().code, Code::AttestDebugEnabled);
    let allowed = Rules { allow_debug: true, ..rules() };
    let verdict = judge(debug, allowed.clone(), &expect(None, None));
    assert_eq!(verdict.claims["td_attributes"]["debug"], true);
    let verdict = judge(|p| p.body[120] = 3, allowed, &expect(None, None));
    assert_eq!(failed(&verdict.checks), ["td.debug"], "other ways to open a TD stay closed");
    for reserved in [(121, 1), (123, 1), (124, 1), (127, 0x20)] {
        let verdict = judge(|p| p.body[reserved.0] |= reserved.1, rules(), &expect(None, None));
        assert_eq!(failed(&verdict.checks), ["td.attributes"], "{reserved:?}");
    }
    let verdict = judge(|p| p.body[127] = 0x80, rules(), &expect(None, None));
    assert_eq!(verdict.claims["td_attributes"]["perfmon"], true);
    let verdict = judge(|p| p.body[119] = 1, rules(), &expect(None, None));
    assert_eq!(failed(&verdict.checks), ["tdx-module.attributes", "td.seam-attributes"]);
}

/// A TD of our own with the registers that a real log leads to.
fn measured(log: &[u8], change: impl FnOnce(&mut Plan)) -> (Evidence, Trust, Collateral) {
    let replayed = EventLog::parse(log).unwrap().replay(Algorithm::Sha384);
    let mut plan = Plan::new(IntelTee::Tdx);
    for (index, value) in replayed {
        let at = 328 + 48 * (usize::try_from(index).unwrap() - 1);
        plan.body[at..at + 48].copy_from_slice(&value);
    }
    change(&mut plan);
    let platform = plan.build();
    (Evidence::new(&platform.quote, Some(log)).unwrap(), platform.trust, platform.collateral)
}

#[test]
fn an_event_log_must_lead_to_all_registers() {
    for name in ["CCEL_data", "CCEL_data_ovmf"] {
        let Some(log) = vector(&format!("tdx/{name}")) else { return };
        let (evidence, trust, collateral) = measured(&log, |_| ());
        let verdict = verify(&evidence, &trust, &collateral, &expect(None, None));
        assert_eq!(failed(&verdict.checks), [""; 0], "{:#?}", verdict.checks);
        assert!(!verdict.claims["uefi_event_logs"].as_array().unwrap().is_empty());
        for register in 0..4 {
            let (evidence, trust, collateral) = measured(&log, |p| p.body[328 + 48 * register] ^= 1);
            let verdict = verify(&evidence, &trust, &collateral, &expect(None, None));
            assert_eq!(failed(&verdict.checks), ["eventlog.replay"], "RTMR{register}");
            assert_eq!(verdict.failure().unwrap().code, Code::AttestEventLogMismatch);
            assert_eq!(verdict.claims, Value::Null);
        }
    }
}

#[test]
fn an_absent_event_log_can_be_refused() {
    let trust = |require_event_log| {
        let rules = Rules { require_event_log, ..Rules::default() };
        Trust { rules, ..Trust::default() }
    };
    let Some(verdict) = real(&trust(true), &expect(None, None)) else { return };
    assert_eq!(failed(&verdict.checks), ["eventlog.present"]);
    assert_eq!(verdict.claims, Value::Null);
    assert!(real(&trust(false), &expect(None, None)).unwrap().ok());
}

/// The claims of a real debug TD of TDX 1.0, against those that upstream makes of it.
#[test]
fn claims_are_upstreams() {
    let (Some(quote), Some(log), Some(expected)) = (
        vector("tdx/tdx_quote_4.dat"),
        vector("tdx/CCEL_data"),
        vector("tdx/parse_tdx_claims_expected.json"),
    ) else {
        return;
    };
    let expected: Value = serde_json::from_slice(&expected).unwrap();
    let evidence = Evidence::new(&quote, Some(&log)).unwrap();
    let Body::Td(report) = &evidence.quote.body else { panic!() };
    let mut ours = Value::Object(claims(&evidence.quote, report));
    ours["platform_instance_id"] = json!(pck(&evidence.quote).platform_instance_text());
    ours["uefi_event_logs"] = evidence.event_log.as_ref().unwrap().claims(Algorithm::Sha384);
    for (name, value) in expected.as_object().unwrap() {
        match name.as_str() {
            // Ours names more attributes.
            "td_attributes" => {
                for (name, value) in value.as_object().unwrap() {
                    assert_eq!(&ours["td_attributes"][name], value, "{name}");
                }
            }
            _ => assert_eq!(&ours[name], value, "{name}"),
        }
    }
    // The log is of another TD, and the TD is a debug one.
    let checks = verify_offline(&evidence, &Trust::default(), &expect(None, None));
    let mut names = failed(&checks);
    names.dedup();
    assert_eq!(names, ["td.debug", "eventlog.replay"]);
}

#[test]
fn version_5_has_more_claims() {
    let Some(quote) = vector("tdx/tdx_quote_5.dat") else { return };
    let evidence = Evidence::new(&quote, None).unwrap();
    let Body::Td(report) = &evidence.quote.body else { panic!() };
    let claims = Value::Object(claims(&evidence.quote, report));
    assert_eq!(claims["quote"]["type"], "0300");
    assert_eq!(claims["quote"]["size"], "88020000");
    assert_eq!(claims["quote"]["header"]["version"], "0500");
    assert_eq!(claims["quote"]["body"]["tee_tcb_svn2"], "05010200000000000000000000000000");
    assert!(claims["quote"]["body"]["mr_servicetd"].as_str().unwrap().starts_with("383c87d3"));
    assert!(claims["quote"]["body"]["mr_td"].as_str().unwrap().starts_with("dfba221b"));
}

#[test]
fn the_json_is_that_of_attesters() {
    let (Some(quote), Some(log)) = (vector("tdx/tdx_quote_4.dat"), vector("tdx/CCEL_data_ovmf")) else {
        return;
    };
    let evidence = Evidence::new(&quote, Some(&log)).unwrap();
    let json = evidence.to_json();
    let again = Evidence::from_json(&json).unwrap();
    assert_eq!(again.quote, evidence.quote);
    assert_eq!(again.to_json(), json);
    for absent in [json!(null), json!("")] {
        let mut json = json.clone();
        json["cc_eventlog"] = absent;
        assert!(Evidence::from_json(&json).unwrap().event_log.is_none());
    }
    let field = |json: Value| match Evidence::from_json(&json) {
        Err(Error::Field { field, .. }) => field,
        other => panic!("{other:?}"),
    };
    assert_eq!(field(json!({})), "quote");
    assert_eq!(field(json!({ "quote": 1 })), "quote");
    assert_eq!(field(json!({ "quote": "***" })), "quote");
    assert_eq!(field(json!({ "quote": "A".repeat(200_000) })), "quote");
    assert_eq!(field(json!({ "quote": json["quote"], "cc_eventlog": [1] })), "cc_eventlog");
    assert_eq!(field(json!({ "quote": json["quote"], "cc_eventlog": "A".repeat(4_000_000) })), "cc_eventlog");
    let broken = json!({ "quote": json["quote"], "cc_eventlog": "AAAA" });
    assert!(Evidence::from_json(&broken).is_err(), "a log that cannot be read is no absent log");
}

#[test]
fn an_enclave_is_no_td() {
    let Some(quote) = vector("sgx/sgx_quote") else { return };
    assert!(matches!(Evidence::new(&quote, None), Err(Error::Unsupported { .. })));
    let quote = Quote::parse(&quote).unwrap();
    let verdict = verify_quote(&quote, &Trust::default(), &Collateral::none(), &expect(None, None));
    assert_eq!(verdict.failure().unwrap().code, Code::AttestTeeUnsupported);
    assert_eq!(td([1, 2, 3]).len(), 584);
}
