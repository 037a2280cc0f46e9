//! Guests on AMD.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE;
use cocoon_stage::Code;
use serde_json::{Value, json};

use super::super::snp::{Evidence, needs, unverified, verify};
use super::{JUNE_2025, failed, json_vector, vector};
use crate::collateral::Collateral;
use crate::snp::{Roots, Rules};
use crate::{Expectation, Verdict};

const NONCE_V2: &str =
    "982f5c6e45df0ed3f10b6f60b02f0c8390e281300f3805e2279c16168cd6ae9aa398f647caa2338748cd0fd9f5f819ef";

fn judge(value: &Value, report_data: Option<&[u8]>, init_data_digest: Option<&[u8]>) -> Verdict {
    let evidence = Evidence::from_json(value).unwrap();
    let expectation = Expectation { report_data, init_data_digest, now_unix: JUNE_2025 };
    verify(&evidence, &Roots::default(), &Rules::default(), &Collateral::none(), &expectation)
}

/// Name of a vector, its challenge, and its register 0.
fn vectors() -> [(&'static str, Vec<u8>, &'static str); 3] {
    [
        ("az-snp-vtpm/evidence-v0.json", b"challenge".to_vec(), "e15c4479"),
        ("az-snp-vtpm/evidence-v1.json", b"challenge".to_vec(), "e15c4479"),
        ("az-snp-vtpm/evidence-v2.json", hex::decode(NONCE_V2).unwrap(), "84275b2f"),
    ]
}

#[test]
fn evidence_of_every_version_verifies_offline_to_amds_root() {
    for (name, nonce, pcr00) in vectors() {
        let Some(value) = json_vector(name) else { return };
        let verdict = judge(&value, Some(&nonce), None);
        assert_eq!(failed(&verdict), Vec::<&str>::new(), "{name} {:#?}", verdict.checks);
        assert!(!verdict.simulated);
        let claims = &verdict.claims;
        assert!(claims["tpm"]["pcr00"].as_str().unwrap().starts_with(pcr00));
        assert_eq!(claims["tpm"].as_object().unwrap().len(), 24);
        assert_eq!(claims["report_data"], hex::encode(&nonce));
        assert_eq!(claims["init_data"], claims["tpm"]["pcr08"]);
        for name in
            ["reported_tcb_bootloader", "reported_tcb_tee", "reported_tcb_snp", "reported_tcb_microcode"]
        {
            assert!(claims[name].as_str().unwrap().parse::<u8>().is_ok(), "{name} {}", claims[name]);
        }
        assert_eq!(claims["policy_debug_allowed"], "false");
        assert_eq!(claims["policy_migrate_ma"], "false");
        for name in
            ["platform_smt_enabled", "platform_tsme_enabled", "policy_single_socket", "policy_smt_allowed"]
        {
            assert!(["true", "false"].contains(&claims[name].as_str().unwrap()), "{name}");
        }
        assert!(claims["policy_abi_major"].is_string() && claims["policy_abi_minor"].is_string());
        let measurement = claims["measurement"].as_str().unwrap();
        assert_eq!(base64::engine::general_purpose::STANDARD.decode(measurement).unwrap().len(), 48);
        assert!(claims.get("chip_id").is_none());
        assert_eq!(claims["vm_configuration"]["secure-boot"], true);
    }
}

#[test]
fn the_json_form_is_kept() {
    for (name, ..) in vectors() {
        let Some(value) = json_vector(name) else { return };
        let evidence = Evidence::from_json(&value).unwrap();
        assert_eq!(evidence.to_json(), value, "{name}");
        assert_eq!(Evidence::from_json(&evidence.to_json()).unwrap(), evidence);
    }
}

#[test]
fn another_challenge_is_refused() {
    for (name, nonce, _) in vectors() {
        let Some(value) = json_vector(name) else { return };
        let longer = [nonce.as_slice(), &[0]].concat();
        for wrong in [&b"Challenge"[..], &[], &nonce[1..], &nonce[..nonce.len() - 1], &longer] {
            let verdict = judge(&value, Some(wrong), None);
            assert!(failed(&verdict).contains(&"tpm.report-data"), "{name}");
            assert!(verdict.claims.is_null());
        }
        assert!(judge(&value, None, None).ok(), "a caller that expects nothing");
    }
}

#[test]
fn version_2_binds_the_challenge_in_the_paravisors_data_too() {
    // Version 1's paravisor data holds no challenge: relabelled, it is refused by that check alone.
    let Some(mut value) = json_vector("az-snp-vtpm/evidence-v1.json") else { return };
    value["version"] = json!(2);
    let verdict = judge(&value, Some(b"challenge"), None);
    assert_eq!(failed(&verdict), ["hcl.user-data"]);
    assert_eq!(verdict.failure().unwrap().code, Code::AttestReportDataMismatch);
}

#[test]
fn initdata_must_stand_in_register_8() {
    for (name, nonce, _) in vectors() {
        let Some(value) = json_vector(name) else { return };
        // No vector has any, so every digest is refused, of whatever length; none panics.
        for length in [0, 1, 31, 32, 33, 48, 64, 1000] {
            let verdict = judge(&value, Some(&nonce), Some(&vec![0; length]));
            assert_eq!(failed(&verdict), ["tpm.init-data"], "{name} {length}");
            assert_eq!(verdict.failure().unwrap().code, Code::AttestInitdataMismatch);
        }
    }
}

fn with_report(value: &Value, change: impl Fn(&mut Vec<u8>)) -> Value {
    let mut value = value.clone();
    let mut report = URL_SAFE.decode(value["hcl_report"].as_str().unwrap()).unwrap();
    change(&mut report);
    value["hcl_report"] = json!(URL_SAFE.encode(report));
    value
}

#[test]
fn every_tampered_part_fails_its_own_check() {
    let Some(value) = json_vector("az-snp-vtpm/evidence-v1.json") else { return };
    let nonce: Option<&[u8]> = Some(b"challenge");
    // The SNP level of the reported TCB: neither the certificate's, nor what was signed.
    let verdict = judge(&with_report(&value, |r| r[0x1a6] = 0), nonce, None);
    assert_eq!(failed(&verdict), ["report.signature", "certificate.tcb"]);
    // The paravisor's data behind the attestation key.
    let verdict = judge(&with_report(&value, |r| r[0x6e0] ^= 1), nonce, None);
    assert_eq!(failed(&verdict), ["hcl.runtime-data"]);
    assert_eq!(verdict.failure().unwrap().code, Code::AttestSignatureInvalid);
    // The attestation key itself.
    let verdict = judge(&with_report(&value, |r| r[0x540] = 0), nonce, None);
    assert_eq!(failed(&verdict), ["hcl.runtime-data", "hcl.attestation-key", "tpm.signature"]);

    let flipped = |path: &str| {
        let mut value = value.clone();
        let text = value.pointer(path).unwrap().as_str().unwrap();
        let mut bytes = hex::decode(text).unwrap();
        bytes[0] ^= 1;
        *value.pointer_mut(path).unwrap() = json!(hex::encode(bytes));
        value
    };
    for pcr in [0, 8, 23] {
        let verdict = judge(&flipped(&format!("/tpm_quote/pcrs/{pcr}")), nonce, None);
        assert_eq!(failed(&verdict), ["tpm.pcr-digest"]);
    }
    let mut swapped = value.clone();
    let pcrs = swapped["tpm_quote"]["pcrs"].as_array_mut().unwrap();
    pcrs.swap(0, 1);
    assert_eq!(failed(&judge(&swapped, nonce, None)), ["tpm.pcr-digest"]);
    assert_eq!(failed(&judge(&flipped("/tpm_quote/signature"), nonce, None)), ["tpm.signature"]);
    assert!(Evidence::from_json(&flipped("/tpm_quote/message")).is_err(), "no longer a TPM's structure");
}

#[test]
fn parts_of_another_guest_are_refused() {
    let (Some(one), Some(two)) =
        (json_vector("az-snp-vtpm/evidence-v1.json"), json_vector("az-snp-vtpm/evidence-v2.json"))
    else {
        return;
    };
    let nonce = hex::decode(NONCE_V2).unwrap();
    let replaced = |member: &str| {
        let mut value = two.clone();
        value[member] = one[member].clone();
        failed(&judge(&value, Some(&nonce), None))
    };
    assert_eq!(replaced("tpm_quote"), ["tpm.signature", "tpm.report-data"]);
    assert_eq!(replaced("hcl_report")[..2], ["report.signature", "certificate.chip-id"]);
    assert!(replaced("vcek").contains(&"report.signature"));
    // A certificate that is none, and AMD's own intermediate in place of the chip's.
    let mut value = two.clone();
    value["vcek"] = json!("AAAA");
    assert!(failed(&judge(&value, Some(&nonce), None)).contains(&"certificate.chain"));
    let Some(pem) = vector("az-snp-vtpm/vcek.pem") else { return };
    let mut zero = json_vector("az-snp-vtpm/evidence-v0.json").unwrap();
    let text = String::from_utf8(pem).unwrap();
    let second = text.match_indices("-----BEGIN").nth(1).unwrap().0;
    zero["vcek"] = json!(&text[second..]);
    assert!(!judge(&zero, Some(b"challenge"), None).ok());
    // Nothing verifies without AMD's roots.
    let evidence = Evidence::from_json(&one).unwrap();
    let none = Roots { vendor: false, simulated: Vec::new() };
    let expectation = Expectation { report_data: None, init_data_digest: None, now_unix: JUNE_2025 };
    assert!(
        failed(&verify(&evidence, &none, &Rules::default(), &Collateral::none(), &expectation))
            .contains(&"certificate.chain")
    );
}

#[test]
fn a_report_of_another_time_or_kind_is_refused() {
    let Some(value) = json_vector("az-snp-vtpm/evidence-v2.json") else { return };
    let evidence = Evidence::from_json(&value).unwrap();
    let expectation = Expectation { report_data: None, init_data_digest: None, now_unix: 1_000_000_000 };
    let verdict = verify(&evidence, &Roots::default(), &Rules::default(), &Collateral::none(), &expectation);
    assert!(failed(&verdict).contains(&"certificate.validity"));
    let Some(tdx) = vector("az-tdx-vtpm/hcl-report.bin") else { return };
    let mut value = value;
    value["hcl_report"] = json!(URL_SAFE.encode(tdx));
    let verdict = judge(&value, None, None);
    assert!(failed(&verdict).contains(&"hcl.hardware"));
    assert!(failed(&verdict).contains(&"hcl.snp-report"));
}

#[test]
fn malformed_evidence_is_refused() {
    let Some(value) = json_vector("az-snp-vtpm/evidence-v2.json") else { return };
    let refused = |change: &dyn Fn(&mut Value)| {
        let mut value = value.clone();
        change(&mut value);
        assert!(Evidence::from_json(&value).is_err(), "{value}");
    };
    for member in ["tpm_quote", "hcl_report", "vcek"] {
        refused(&|v| drop(v.as_object_mut().unwrap().remove(member)));
        refused(&|v| v[member] = json!(7));
        refused(&|v| v[member] = json!("%"));
        refused(&|v| v[member] = json!("A".repeat(1 << 20)));
    }
    for member in ["message", "signature", "pcrs"] {
        refused(&|v| drop(v["tpm_quote"].as_object_mut().unwrap().remove(member)));
        refused(&|v| v["tpm_quote"][member] = json!("zz"));
        refused(&|v| v["tpm_quote"][member] = json!([]));
    }
    refused(&|v| v["tpm_quote"]["pcrs"].as_array_mut().unwrap().truncate(23));
    refused(&|v| v["tpm_quote"]["pcrs"].as_array_mut().unwrap().push(json!("00".repeat(32))));
    refused(&|v| v["tpm_quote"]["pcrs"][3] = json!("00"));
    refused(&|v| v["version"] = json!(3));
    refused(&|v| v["version"] = json!(0));
    refused(&|v| v["version"] = json!("2"));
    refused(&|v| drop(v.as_object_mut().unwrap().remove("version")));
    refused(&|v| *v = json!([]));
    let Some(value) = json_vector("az-snp-vtpm/evidence-v0.json") else { return };
    let refused = |change: &dyn Fn(&mut Value)| {
        let mut value = value.clone();
        change(&mut value);
        assert!(Evidence::from_json(&value).is_err());
    };
    refused(&|v| v["report"][0] = json!(256));
    refused(&|v| v["report"][0] = json!(-1));
    refused(&|v| v["report"] = json!(vec![0; 100_000]));
    refused(&|v| v["vcek"] = json!("no PEM"));
}

#[test]
fn only_the_paravisors_own_level_is_taken_whatever_the_rules_are() {
    // At VMPL 2 runs the guest: it could have any key vouched for.
    let Some(value) = json_vector("az-snp-vtpm/evidence-v1.json") else { return };
    let evidence = Evidence::from_json(&with_report(&value, |r| r[0x20 + 0x30] = 2)).unwrap();
    let rules = Rules { max_vmpl: 3, ..Rules::default() };
    let expectation = Expectation { report_data: None, init_data_digest: None, now_unix: JUNE_2025 };
    let verdict = verify(&evidence, &Roots::default(), &rules, &Collateral::none(), &expectation);
    assert_eq!(failed(&verdict), ["report.signature", "report.vmpl"]);
}

#[test]
fn unverified_claims_have_the_same_names() {
    let Some(value) = json_vector("az-snp-vtpm/evidence-v2.json") else { return };
    let evidence = Evidence::from_json(&value).unwrap();
    let mut verified = judge(&value, None, None).claims;
    for of_the_verdict in ["simulated", "revocation_list_expires"] {
        assert!(verified.as_object_mut().unwrap().shift_remove(of_the_verdict).is_some());
    }
    assert_eq!(unverified(&evidence), verified);
    assert!(!needs(&evidence).is_empty());
}
