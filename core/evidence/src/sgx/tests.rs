//! Real quotes, and enclaves of our own where no real evidence has what a test needs.

use cocoon_stage::Code;
use serde_json::{Value, json};

use super::*;
use crate::collateral::{Collateral, IntelTee};
use crate::dcap::simulator::Plan;
use crate::dcap::testing::{JUNE_2025, failed, sgx_collateral, tdx_collateral, vector};
use crate::dcap::{Rules, Trust};
use crate::{Error, Expectation, Verdict};

fn expect<'a>(report_data: Option<&'a [u8]>, init_data_digest: Option<&'a [u8]>) -> Expectation<'a> {
    Expectation { report_data, init_data_digest, now_unix: JUNE_2025 }
}

#[test]
fn a_real_quote_verifies_with_its_collateral() {
    let (Some(quote), Some(collateral)) = (vector("sgx/sgx_quote"), sgx_collateral()) else { return };
    let evidence = Evidence::new(&quote).unwrap();
    assert_eq!(needs(&evidence).len(), 4);
    let trust = Trust::default();
    let verdict = verify(&evidence, &trust, &collateral, &expect(Some(b"Hello, world!"), None));
    assert_eq!(failed(&verdict.checks), [""; 0], "{:#?}", verdict.checks);
    assert!(verdict.ok() && !verdict.simulated);
    for (name, value) in [
        ("tcb_status", json!("ConfigurationAndSWHardeningNeeded")),
        ("tcb_date", json!("2024-03-13T00:00:00Z")),
        ("advisory_ids", json!(["INTEL-SA-00289", "INTEL-SA-00615"])),
        ("collateral_expiration_status", json!("0")),
        ("sgx_type", json!("Standard")),
        ("fmspc", json!("00a067110000")),
        ("tcb_eval_num", json!(17)),
    ] {
        assert_eq!(verdict.claims[name], value, "{name}");
    }
    let absent = ["is_smt_enabled", "platform_instance_id", "tcb_status_current", "tdx_module_tcb_status"];
    assert!(absent.into_iter().all(|name| verdict.claims.get(name).is_none()));
    let verdict = verify(&evidence, &trust, &collateral, &expect(Some(b"Hello, World!"), None));
    assert_eq!(failed(&verdict.checks), ["quote.report-data"]);
    assert_eq!(verdict.claims, Value::Null);
    // Nothing can be bound to an enclave without KSS, not even zeros.
    let verdict = verify(&evidence, &trust, &collateral, &expect(None, Some(&[0; 32])));
    assert_eq!(failed(&verdict.checks), ["quote.config-id"]);
    assert_eq!(verdict.failure().unwrap().code, Code::AttestInitdataMismatch);
    // Collateral of another TEE is not for it.
    let Some(other) = tdx_collateral() else { return };
    let verdict = verify(&evidence, &trust, &other, &expect(None, None));
    assert_eq!(verdict.failure().unwrap().code, Code::AttestCollateralMissing);
}

/// The claims that upstream makes of a real enclave.
#[test]
fn claims_are_upstreams() {
    let Some(quote) = vector("sgx/occlum_quote.dat") else { return };
    let evidence = Evidence::new(&quote).unwrap();
    let report_data = format!("74657374{}", "00".repeat(60));
    let expected = json!({
        "header": {
            "version": "0300",
            "att_key_type": "0200",
            "att_key_data_0": "00000000",
            "qe_svn": "0800",
            "pce_svn": "0d00",
            "vendor_id": "939a7233f79c4ca9940a0db3957f0607",
            "user_data": "dccde9b31ce8860548173bb4a2a57a1600000000"
        },
        "body": {
            "cpu_svn": "06060c0cffff00000000000000000000",
            "misc_select": "01000000",
            "reserved1": "00".repeat(12),
            "isv_ext_prod_id": "00".repeat(16),
            "attributes.flags": "0700000000000000",
            "attributes.xfrm": "e700000000000000",
            "mr_enclave": "8f173e4613ff05c52aaf04162d234edae8c9977eae47eb2299ae16a553011c68",
            "reserved2": "00".repeat(32),
            "mr_signer": "83d719e77deaca1470f6baf62a4d774303c899db69020f9c70ee1dfc08c7ce9e",
            "reserved3": "00".repeat(32),
            "config_id": "00".repeat(64),
            "isv_prod_id": "0000",
            "isv_svn": "0000",
            "config_svn": "0000",
            "reserved4": "00".repeat(42),
            "isv_family_id": "00".repeat(16),
            "report_data": report_data
        },
        "report_data": report_data,
        "init_data": "00".repeat(64),
    });
    let mut ours = claims(&evidence);
    let attributes = ours.remove("attributes").unwrap();
    assert_eq!(Value::Object(ours), expected);
    assert_eq!(attributes["debug"], true);
    assert_eq!(attributes["mode64bit"], true);
    let checks = verify_offline(&evidence, &Trust::default(), &expect(Some(b"test"), None));
    assert_eq!(failed(&checks), ["enclave.debug"]);
}

fn judge(change: impl FnOnce(&mut Plan), rules: Rules, expectation: &Expectation<'_>) -> Verdict {
    let mut plan = Plan::new(IntelTee::Sgx);
    change(&mut plan);
    let mut platform = plan.build();
    platform.trust.rules = rules;
    let evidence = Evidence::new(&platform.quote).unwrap();
    verify(&evidence, &platform.trust, &platform.collateral, expectation)
}

#[test]
fn attributes_are_looked_at() {
    let rules = Rules::default;
    let flags = |low: u8, high: u8| {
        move |p: &mut Plan| {
            p.body[48] = low;
            p.body[49] = high;
        }
    };
    let verdict = judge(flags(7, 0), rules(), &expect(None, None));
    assert_eq!(failed(&verdict.checks), ["enclave.debug"]);
    assert_eq!(verdict.failure().unwrap().code, Code::AttestDebugEnabled);
    let allowed = Rules { allow_debug: true, ..rules() };
    let verdict = judge(flags(7, 0), allowed, &expect(None, None));
    assert_eq!(verdict.claims["attributes"]["debug"], true);
    for (low, high) in [(4, 0), (0x0d, 0), (5, 1), (5, 8)] {
        let verdict = judge(flags(low, high), rules(), &expect(None, None));
        assert_eq!(failed(&verdict.checks), ["enclave.attributes"], "{low} {high}");
    }
    let verdict = judge(flags(0xf5, 4), rules(), &expect(None, None));
    let names = ["provision_key", "einittoken_key", "cet", "kss", "aex_notify"];
    assert!(names.into_iter().all(|name| verdict.claims["attributes"][name] == true));
}

#[test]
fn initdata_is_bound_by_config_id_with_kss() {
    let bound = |kss: u8| {
        move |p: &mut Plan| {
            p.body[48] = 5 | kss;
            p.body[192..240].fill(3);
        }
    };
    let verdict = judge(bound(0x80), Rules::default(), &expect(None, Some(&[3; 48])));
    assert_eq!(failed(&verdict.checks), [""; 0]);
    assert_eq!(verdict.claims["init_data"], format!("{}{}", "03".repeat(48), "00".repeat(16)));
    for (kss, digest) in [(0, &[3; 48][..]), (0x80, &[3; 47]), (0x80, &[3; 49]), (0x80, &[])] {
        let verdict = judge(bound(kss), Rules::default(), &expect(None, Some(digest)));
        assert_eq!(failed(&verdict.checks), ["quote.config-id"]);
    }
}

#[test]
fn the_json_is_that_of_attesters() {
    let Some(quote) = vector("sgx/sgx_quote") else { return };
    let evidence = Evidence::new(&quote).unwrap();
    assert_eq!(Evidence::from_json(&evidence.to_json()).unwrap(), evidence);
    for wrong in [json!({}), json!({ "quote": null }), json!({ "quote": 3 }), json!({ "quote": "?" })] {
        assert!(matches!(Evidence::from_json(&wrong), Err(Error::Field { field: "quote", .. })));
    }
}

#[test]
fn only_enclaves_of_version_3_are_taken() {
    let Some(quote) = vector("tdx/tdx_quote") else { return };
    assert!(matches!(Evidence::new(&quote), Err(Error::Unsupported { .. })));
    let mut plan = Plan::new(IntelTee::Sgx);
    plan.version = 5;
    assert!(matches!(Evidence::new(&plan.build().quote), Err(Error::Unsupported { .. })));
}

#[test]
fn without_collateral_there_are_no_claims() {
    let Some(quote) = vector("sgx/sgx_quote") else { return };
    let evidence = Evidence::new(&quote).unwrap();
    let verdict = verify(&evidence, &Trust::default(), &Collateral::none(), &expect(None, None));
    assert_eq!(verdict.failure().unwrap().code, Code::AttestCollateralMissing);
    assert_eq!(verdict.claims, Value::Null);
    assert_eq!(failed(&verify_offline(&evidence, &Trust::default(), &expect(None, None))), [""; 0]);
}
