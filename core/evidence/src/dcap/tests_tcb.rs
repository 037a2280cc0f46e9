//! Levels, statuses and the operator's rules, on platforms of our own.

use cocoon_stage::Code;
use serde_json::{Value, json};

use super::simulator::{FMSPC, Plan, level, svn_level, td};
use super::testing::{JUNE_2025, failed, vector};
use super::verify::{Outcome, verify};
use super::*;
use crate::collateral::IntelTee;

fn judge(plan: &Plan, rules: Rules) -> Outcome {
    let mut platform = plan.build();
    platform.trust.rules = rules;
    verify(&Quote::parse(&platform.quote).unwrap(), &platform.trust, &platform.collateral, JUNE_2025)
}

fn status(plan: &Plan) -> String {
    let outcome = judge(plan, Rules::default());
    let failures = failed(&outcome.checks);
    match failures.first() {
        None => outcome.claims["tcb_status"].as_str().unwrap().to_owned(),
        Some(_) => failures.join(" "),
    }
}

fn tdx(change: impl FnOnce(&mut Plan)) -> Plan {
    let mut plan = Plan::new(IntelTee::Tdx);
    change(&mut plan);
    plan
}

fn sgx(change: impl FnOnce(&mut Plan)) -> Plan {
    let mut plan = Plan::new(IntelTee::Sgx);
    change(&mut plan);
    plan
}

#[test]
fn the_first_level_that_fits_counts() {
    assert_eq!(status(&sgx(|_| ())), "UpToDate");
    assert_eq!(status(&sgx(|p| p.components[15] = 4)), "OutOfDate", "one component is enough");
    assert_eq!(status(&sgx(|p| p.pce_svn = 9)), "OutOfDate");
    assert_eq!(status(&sgx(|p| p.pce_svn = 300)), "UpToDate");
    assert_eq!(status(&sgx(|p| p.components[0] = 3)), "tcb.status", "revoked");
    assert_eq!(status(&sgx(|p| p.components[0] = 0)), "tcb.status", "older than all");
    assert_eq!(status(&tdx(|_| ())), "UpToDate");
    assert_eq!(status(&tdx(|p| p.pce_svn = 9)), "OutOfDate");
    assert_eq!(status(&tdx(|p| p.body = td([6, 1, 2]))), "OutOfDate", "the module's loader");
    assert_eq!(status(&tdx(|p| p.body = td([6, 1, 0]))), "tcb.status");
}

/// The levels of real TCB information, on a platform of our own with the security versions of a real one.
#[test]
fn levels_of_real_tcb_information() {
    let Some(text) = vector("tdx/tcbInfo.json") else { return };
    let mut info: Value = serde_json::from_slice::<Value>(&text).unwrap()["tcbInfo"].take();
    for (field, value) in [
        ("fmspc", hex::encode(FMSPC)),
        ("issueDate", "2025-06-01T00:00:00Z".to_owned()),
        ("nextUpdate", "2025-07-01T00:00:00Z".to_owned()),
    ] {
        info[field] = json!(value);
    }
    let plan = |pce_svn| {
        tdx(|p| {
            p.tcb_info = info.clone();
            p.components = [2, 2, 7, 7, 4, 1, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0];
            p.pce_svn = pce_svn;
            p.body = td([5, 3, 2]);
        })
    };
    for (pce_svn, status, date) in [(11, "OutOfDate", "2018-01-04"), (13, "UpToDate", "2024-03-13")] {
        let outcome = judge(&plan(pce_svn), Rules::default());
        assert_eq!(outcome.claims["tcb_status"], status);
        assert_eq!(outcome.claims["tcb_date"], format!("{date}T00:00:00Z"));
        assert_eq!(outcome.claims["tdx_module_tcb_status"], "UpToDate");
    }
    assert_eq!(status(&plan(4)), "tcb.status");
}

#[test]
fn a_revoked_platform_is_not_saved_by_its_module() {
    // The TDX components fit the second level only; the platform itself is at the first.
    let plan = tdx(|p| {
        let date = "2025-01-01T00:00:00Z";
        p.tcb_info["tcbLevels"] = json!([
            level(5, 10, Some([5, 0, 9]), "Revoked", date),
            level(4, 9, Some([5, 0, 3]), "UpToDate", date),
        ]);
    });
    assert_eq!(status(&plan), "tcb.status");
}

#[test]
fn modules_have_levels_of_their_own_but_the_first() {
    // Major version 0: the platform's level counts the first components.
    assert_eq!(status(&tdx(|p| p.body = td([5, 0, 3]))), "UpToDate");
    assert_eq!(status(&tdx(|p| p.body = td([4, 0, 3]))), "OutOfDate");
    assert_eq!(status(&tdx(|p| p.body = td([0, 0, 3]))), "tcb.status");
    // Major version 1 and 3: only the module's own.
    assert_eq!(status(&tdx(|p| p.body = td([6, 3, 3]))), "UpToDate");
    assert_eq!(status(&tdx(|p| p.body = td([5, 1, 3]))), "OutOfDate");
    assert_eq!(status(&tdx(|p| p.body = td([3, 1, 3]))), "tcb.status", "revoked");
    assert_eq!(status(&tdx(|p| p.body = td([1, 1, 3]))), "tcb.status", "older than all");
    let unknown = "tdx-module.mrsigner tdx-module.attributes tcb.status";
    assert_eq!(status(&tdx(|p| p.body = td([6, 2, 3]))), unknown);
    assert_eq!(status(&tdx(|p| p.body[64] = 1)), "tdx-module.mrsigner");
    assert_eq!(status(&tdx(|p| p.body[112] = 1)), "tdx-module.attributes");
    let ones = json!("01".repeat(8));
    let allowed = tdx(|p| {
        p.body[112..120].fill(1);
        p.tcb_info["tdxModuleIdentities"][0]["attributes"] = ones;
    });
    assert_eq!(status(&allowed), "tdx-module.attributes", "zero in any case");
}

#[test]
fn the_quoting_enclave_counts() {
    assert_eq!(status(&tdx(|p| p.qe_isv_svn = 9)), "UpToDate");
    assert_eq!(status(&tdx(|p| p.qe_isv_svn = 3)), "OutOfDate");
    assert_eq!(status(&sgx(|p| p.qe_isv_svn = 2)), "tcb.status", "revoked");
    assert_eq!(status(&sgx(|p| p.qe_isv_svn = 1)), "tcb.status", "older than all");
    assert_eq!(status(&tdx(|p| p.qe_flags = 0x13)), "qe.attributes", "a debug quoting enclave");
    assert_eq!(status(&tdx(|p| p.qe_flags = 0x15)), "UpToDate", "not under the mask");
    assert_eq!(status(&tdx(|p| p.identity["mrsigner"] = json!("AC".repeat(32)))), "qe.mrsigner");
    assert_eq!(status(&tdx(|p| p.identity["isvprodid"] = json!(1))), "qe.product");
    assert_eq!(status(&tdx(|p| p.identity["miscselect"] = json!("01000000"))), "qe.miscselect");
}

#[test]
fn what_is_not_mitigated_is_the_union() {
    let outcome = judge(&tdx(|p| p.qe_isv_svn = 3), Rules::default());
    let expected = ["SIM-PART-OutOfDate", "SIM-PART-UpToDate", "SIM-UpToDate"];
    assert_eq!(outcome.claims["advisory_ids"], json!(expected));
    assert_eq!(outcome.claims["qe_tcb_status"], "OutOfDate");
    assert_eq!(outcome.claims["tdx_module_tcb_status"], "UpToDate");
    let refused = |id: &str| Rules { refused_advisories: vec![id.to_owned()], ..Rules::default() };
    let outcome = judge(&tdx(|_| ()), refused("SIM-UpToDate"));
    assert_eq!(failed(&outcome.checks), ["tcb.advisories"]);
    let outcome = judge(&tdx(|_| ()), refused("SIM-OutOfDate"));
    assert_eq!(failed(&outcome.checks), [""; 0]);
}

/// A report of TDX 1.5 whose module was `launch` at launch and is `now` now.
fn updated(launch: [u8; 3], now: [u8; 3]) -> Plan {
    tdx(|p| {
        p.version = 5;
        p.body = td(launch);
        p.body.extend(now);
        p.body.extend([0; 13 + 48]);
    })
}

#[test]
fn a_relaunch_is_advised_after_an_update() {
    assert_eq!(status(&updated([6, 1, 3], [6, 1, 3])), "UpToDate");
    let plan = updated([5, 1, 3], [6, 1, 3]);
    assert_eq!(status(&plan), "TDRelaunchAdvised");
    let outcome = judge(&plan, Rules::default());
    assert_eq!(outcome.claims["tcb_status_current"], "UpToDate");
    assert_eq!(outcome.claims["tcb_date_current"], "2025-01-01T00:00:00Z");
    assert!(outcome.claims["advisory_ids_current"].is_array());
    assert_eq!(status(&updated([5, 1, 3], [6, 3, 3])), "TDRelaunchAdvised", "another major version");
    assert_eq!(status(&updated([5, 1, 3], [5, 1, 3])), "OutOfDate", "not updated");
    assert_eq!(status(&updated([5, 1, 3], [6, 1, 2])), "OutOfDate", "the loader is old");
    let mut plan = updated([5, 1, 3], [6, 1, 3]);
    plan.qe_isv_svn = 3;
    assert_eq!(status(&plan), "OutOfDate", "the quoting enclave is old");
    let mut plan = updated([5, 1, 3], [6, 1, 3]);
    plan.tcb_info["tcbLevels"][0]["tcbStatus"] = json!("ConfigurationNeeded");
    assert_eq!(status(&plan), "TDRelaunchAdvisedConfigurationNeeded");
    // What runs now must do as well.
    assert_eq!(status(&updated([6, 1, 3], [3, 1, 3])), "tcb.status-current");
    assert_eq!(status(&updated([6, 1, 3], [6, 2, 3])), "tcb.status-current");
    let outcome = judge(&updated([6, 1, 3], [5, 1, 3]), Rules::default());
    assert_eq!(outcome.claims["tcb_status"], "UpToDate");
    assert_eq!(outcome.claims["tcb_status_current"], "OutOfDate");
    let strict = Rules { accept: vec![TcbStatus::UpToDate], ..Rules::default() };
    let outcome = judge(&updated([6, 1, 3], [5, 1, 3]), strict);
    assert_eq!(failed(&outcome.checks), ["tcb.status-current"]);
}

#[test]
fn rules_can_be_stricter() {
    let old = tdx(|p| p.pce_svn = 9);
    let strict = Rules { accept: vec![TcbStatus::UpToDate], ..Rules::default() };
    let outcome = judge(&old, strict.clone());
    let failure = outcome.checks.iter().find(|c| c.code.is_some()).unwrap();
    assert_eq!((failure.name, failure.code), ("tcb.status", Some(Code::AttestTcbOutdated)));
    // The level is of 2024-01-01, the instant 2025-06-25: 541 days.
    let days = |days: u64| Rules { out_of_date_grace_seconds: days * 86_400, ..strict.clone() };
    assert_eq!(failed(&judge(&old, days(541)).checks), [""; 0]);
    assert_eq!(failed(&judge(&old, days(540)).checks), ["tcb.status"]);
    let least = |n| Rules { minimum_tcb_evaluation_data_number: Some(n), ..Rules::default() };
    assert_eq!(failed(&judge(&tdx(|_| ()), least(17)).checks), [""; 0]);
    let outcome = judge(&tdx(|p| p.identity["tcbEvaluationDataNumber"] = json!(16)), least(17));
    assert_eq!(failed(&outcome.checks), ["tcb.evaluation-data-number"]);
    let revoked = judge(&sgx(|p| p.components[0] = 3), Rules::default());
    let failure = revoked.checks.iter().find(|c| c.code.is_some()).unwrap();
    assert_eq!(failure.code, Some(Code::AttestTcbRevoked));
}

#[test]
fn every_status_of_a_platform_is_known_and_no_other() {
    for known in TcbStatus::ACCEPTABLE.into_iter().filter(|s| s.is_of_platform()) {
        let plan = sgx(|p| {
            p.tcb_info["tcbLevels"] = json!([level(5, 10, None, known.name(), "2025-01-01T00:00:00Z")]);
        });
        assert_eq!(status(&plan), known.name());
    }
    for unknown in ["TDRelaunchAdvised", "Fine", "uptodate"] {
        let plan = sgx(|p| p.tcb_info["tcbLevels"][0]["tcbStatus"] = json!(unknown));
        assert_eq!(status(&plan), "tcb-info.document tcb.status", "{unknown}");
    }
    for unknown in ["SWHardeningNeeded", "TDRelaunchAdvised", "Fine"] {
        let plan = sgx(|p| p.identity["tcbLevels"][0] = svn_level(4, unknown));
        assert_eq!(status(&plan), "qe-identity.document tcb.status", "{unknown}");
    }
}

#[test]
fn malformed_collateral_is_refused_although_signed() {
    type Change = fn(&mut Value);
    let changes: [(&str, Change); 14] = [
        ("version", |v| v["version"] = json!(4)),
        ("version 2 of TDX", |v| v["version"] = json!(2)),
        ("id", |v| v["id"] = json!("SEV")),
        ("type", |v| v["tcbType"] = json!(1)),
        ("date", |v| v["nextUpdate"] = json!("2025-07-01")),
        ("fmspc", |v| v["fmspc"] = json!("0102")),
        ("no levels", |v| v["tcbLevels"] = json!([])),
        ("many levels", |v| v["tcbLevels"] = json!(vec![v["tcbLevels"][0].clone(); 257])),
        ("15 components", |v| {
            v["tcbLevels"][0]["tcb"]["sgxtcbcomponents"].as_array_mut().unwrap().pop();
        }),
        ("no TDX components", |v| {
            v["tcbLevels"][0]["tcb"].as_object_mut().unwrap().remove("tdxtcbcomponents");
        }),
        ("svn", |v| v["tcbLevels"][0]["tcb"]["sgxtcbcomponents"][0]["svn"] = json!(256)),
        ("no module", |v| v["tdxModule"] = Value::Null),
        ("module id", |v| v["tdxModuleIdentities"][0]["id"] = json!("TDX_1")),
        ("two of a kind", |v| v["tdxModuleIdentities"][0]["id"] = json!("TDX_03")),
    ];
    for (what, change) in changes {
        let plan = tdx(|p| change(&mut p.tcb_info));
        assert_eq!(status(&plan), "tcb-info.document tcb.status", "{what}");
    }
    let long = json!(["<script>"]);
    let plan = tdx(|p| p.tcb_info["tcbLevels"][0]["advisoryIDs"] = long);
    assert_eq!(status(&plan), "tcb-info.document tcb.status");
}

#[test]
fn version_2_of_tcb_information_is_read_for_sgx() {
    let plan = sgx(|p| {
        let mut tcb = json!({ "pcesvn": 10 });
        (1..=16).for_each(|n| tcb[format!("sgxtcbcomp{n:02}svn")] = json!(5));
        p.tcb_info["tcbLevels"] =
            json!([{ "tcb": tcb, "tcbDate": "2025-01-01T00:00:00Z", "tcbStatus": "SWHardeningNeeded" }]);
        p.tcb_info["version"] = json!(2);
        p.tcb_info.as_object_mut().unwrap().remove("id");
    });
    assert_eq!(status(&plan), "SWHardeningNeeded");
}

#[test]
fn quotes_of_version_5_are_read_for_all_bodies() {
    let enclave = sgx(|p| p.version = 5);
    assert_eq!(status(&enclave), "UpToDate");
    let td10 = tdx(|p| p.version = 5);
    assert_eq!(status(&td10), "UpToDate");
    assert!(Quote::parse(&sgx(|p| p.version = 4).build().quote).is_err());
}
