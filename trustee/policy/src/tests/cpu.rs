//! Each path of the default CPU policy, and that each single wrong field leaves it.

use serde_json::{Value, json};

use super::{appraise, spoiled, three};
use crate::{Compiled, Kind, default_policy};

/// An affirmed input must give `expected`; every spoiled leaf must make at least one of the three worse than affirming
/// or less sure than before.
fn affirmed(input: Value, values: Value, expected: [i8; 3]) {
    assert_eq!(three(&appraise("cpu", &input, &values).unwrap()), expected, "{input}");
    let compiled = Compiled::new(Kind::Attestation, default_policy("cpu").unwrap()).unwrap();
    for (pointer, wrong) in spoiled(&input) {
        let outcome = compiled.attestation(&wrong, &super::from(&values)).unwrap();
        let got = three(&outcome);
        assert_ne!(got, expected, "{pointer} is not looked at");
        let worse = got.iter().zip(expected).all(|(got, before)| *got >= before);
        assert!(worse, "{pointer}: {got:?} is better than {expected:?}");
    }
    // Nothing is affirmed without its reference values.
    let bare = appraise("cpu", &input, &json!({})).unwrap();
    assert!(bare.vector.executables == 33 && bare.vector.hardware == 97, "{:?}", bare.vector);
}

#[test]
fn sample() {
    let input = json!({"sample": {"svn": "1", "launch_digest": "abcde", "debug": false,
        "platform_version": {"major": 1, "minor": 4}}});
    let values =
        json!({"launch_digest": ["abcde"], "svn": ["1"], "major_version": 1, "minimum_minor_version": 2});
    // A larger minor version is as good; spoil it downwards only.
    let outcome = appraise("cpu", &input, &values).unwrap();
    assert_eq!(three(&outcome), [3, 2, 2]);
    assert_eq!(outcome.extensions["ear.trustee.simulated"], json!(true));
    for (pointer, wrong) in spoiled(&input) {
        if pointer != "/sample/platform_version/minor" {
            assert_ne!(three(&appraise("cpu", &wrong, &values).unwrap()), [3, 2, 2], "{pointer}");
        }
    }
    let mut old = input;
    old["sample"]["platform_version"]["minor"] = json!(1);
    assert_eq!(three(&appraise("cpu", &old, &values).unwrap()), [3, 97, 2]);
}

#[test]
fn snp() {
    let input = json!({"snp": {"measurement": "aa", "reported_tcb_bootloader": 3, "reported_tcb_microcode": 115,
        "reported_tcb_snp": 8, "reported_tcb_tee": 0, "policy_debug_allowed": false, "policy_migrate_ma": false,
        "platform_smt_enabled": true, "platform_tsme_enabled": false, "policy_abi_major": 0, "policy_abi_minor": 0,
        "policy_single_socket": false, "policy_smt_allowed": true}});
    let values = json!({"snp_launch_measurement": ["bb", "aa"], "snp_bootloader": [3], "snp_microcode": [115],
        "snp_snp_svn": [8], "snp_tee_svn": 0, "snp_smt_enabled": [true], "snp_tsme_enabled": [false],
        "snp_guest_abi_major": [0], "snp_guest_abi_minor": 0, "snp_single_socket": [false],
        "snp_smt_allowed": true});
    affirmed(input.clone(), values.clone(), [3, 2, 2]);
    let mut other = input.clone();
    other["snp"]["policy_smt_allowed"] = json!(false);
    assert_eq!(three(&appraise("cpu", &other, &values).unwrap()), [3, 2, 3]);
    let mut debug = input.clone();
    debug["snp"]["policy_debug_allowed"] = json!(true);
    assert_eq!(three(&appraise("cpu", &debug, &values).unwrap()), [3, 2, 36]);
    let trace = appraise("cpu", &input, &values).unwrap().trace;
    let asked: Vec<String> = trace.asked.iter().map(ToString::to_string).collect();
    assert!(asked.contains(&"policy asked snp_launch_measurement: 2 values".into()), "{asked:?}");
    // Numbers and texts are not the same.
    let texts =
        json!({"snp_bootloader": ["3"], "snp_microcode": [115], "snp_snp_svn": [8], "snp_tee_svn": 0});
    assert_eq!(three(&appraise("cpu", &input, &texts).unwrap()), [33, 97, 3]);
}

fn tdx_claims() -> Value {
    json!({"quote": {"header": {"tee_type": "81000000", "vendor_id": "939a7233f79c4ca9940a0db3957f0607"},
            "body": {"mr_td": "m", "xfam": "x", "rtmr_1": "r1", "rtmr_2": "r2"}},
        "tcb_status": "UpToDate", "collateral_expiration_status": "0", "td_attributes": {"debug": false},
        "uefi_event_logs": [
            {"type_name": "EV_EFI_BOOT_SERVICES_APPLICATION", "details": {"device_paths": ["File(kernel)"]},
                "digests": [{"digest": "k"}]},
            {"type_name": "EV_EVENT_TAG", "details": {"string": "LOADED_IMAGE::LoadOptions"},
                "digests": [{"digest": "p"}]}]})
}

#[test]
fn tdx() {
    let values = json!({"mr_td": ["m"], "xfam": ["x"], "rtmr_1": ["r1"], "rtmr_2": ["r2"], "tdvfkernel": ["k"],
        "tdvfkernelparams": "p"});
    let input = json!({"tdx": tdx_claims()});
    affirmed(input.clone(), values.clone(), [3, 2, 2]);
    let mut no_log = input;
    no_log["tdx"]["uefi_event_logs"] = json!([]);
    assert_eq!(three(&appraise("cpu", &no_log, &values).unwrap()), [4, 2, 2]);
}

#[test]
fn azure_snp() {
    let input = json!({"az-snp-vtpm": {"measurement": "bQ==", "tpm": {"pcr04": "04", "pcr11": "0b"},
        "reported_tcb_bootloader": "3", "reported_tcb_microcode": "115", "reported_tcb_snp": "8",
        "reported_tcb_tee": "0", "policy_debug_allowed": "false", "policy_migrate_ma": "false",
        "platform_smt_enabled": "true", "platform_tsme_enabled": "true", "policy_abi_major": "0",
        "policy_abi_minor": "31", "policy_single_socket": "false", "policy_smt_allowed": "true"}});
    let values = json!({"measurement": ["bQ=="], "snp_pcr04": "04", "snp_pcr11": ["0b"], "tcb_bootloader": ["3"],
        "tcb_microcode": ["115"], "tcb_snp": ["8"], "tcb_tee": ["0"], "smt_enabled": ["true"],
        "tsme_enabled": ["true"], "abi_major": ["0"], "abi_minor": ["31"], "single_socket": ["false"],
        "smt_allowed": ["true"]});
    affirmed(input, values, [3, 2, 2]);
}

#[test]
fn azure_tdx() {
    let mut claims = tdx_claims();
    claims["tpm"] = json!({"pcr04": "04", "pcr11": "0b"});
    claims.as_object_mut().unwrap().remove("uefi_event_logs");
    let body = claims["quote"]["body"].as_object_mut().unwrap();
    body.remove("rtmr_1");
    body.remove("rtmr_2");
    let values = json!({"az_tdx_mr_td": ["m"], "az_tdx_xfam": ["x"], "tdx_pcr04": "04", "tdx_pcr11": ["0b"]});
    affirmed(json!({"az-tdx-vtpm": claims}), values, [3, 2, 2]);
}

#[test]
fn a_tpm_needs_a_trusted_key() {
    let input = json!({"tpm": {"ak_public": "key", "pcr04": "04", "pcr11": "0b"}});
    for name in ["trusted_aks", "trusted_ak"] {
        affirmed(input.clone(), json!({name: ["key"], "tpm_pcr04": "04", "tpm_pcr11": ["0b"]}), [3, 2, 36]);
    }
    let stranger = appraise("cpu", &input, &json!({"tpm_pcr04": "04", "tpm_pcr11": ["0b"]})).unwrap();
    assert_eq!(three(&stranger), [33, 97, 36]);
    // A kernel that was started directly: register 9 in the place of 11, and never one of them alone.
    let direct = json!({"tpm": {"ak_trusted": true, "pcr00": "00", "pcr02": "02", "pcr04": "04", "pcr07": "07",
        "pcr09": "09", "pcr11": "0"}});
    let boot = json!({"tpm_pcr02": "02", "tpm_pcr04": ["04"], "tpm_pcr09": ["09"]});
    assert_eq!(three(&appraise("cpu", &direct, &boot).unwrap()), [3, 2, 36]);
    // Drivers and option ROMs of register 2 run before the kernel.
    for name in ["tpm_pcr02", "tpm_pcr04", "tpm_pcr09"] {
        let mut values = boot.clone();
        values[name] = json!("9");
        assert_eq!(three(&appraise("cpu", &direct, &values).unwrap()), [33, 2, 36], "{name}");
        values.as_object_mut().unwrap().remove(name);
        assert_eq!(three(&appraise("cpu", &direct, &values).unwrap()), [33, 2, 36], "{name}");
    }
    // Firmware that nobody knows is a warning; of a simulated TPM it is nothing.
    let firmware = json!({"tpm_pcr00": "00", "tpm_pcr02": "02", "tpm_pcr04": "04", "tpm_pcr07": "07",
        "tpm_pcr09": "09"});
    assert_eq!(three(&appraise("cpu", &direct, &firmware).unwrap()), [3, 2, 2]);
    for name in ["tpm_pcr00", "tpm_pcr07"] {
        let mut values = firmware.clone();
        values.as_object_mut().unwrap().remove(name);
        assert_eq!(three(&appraise("cpu", &direct, &values).unwrap()), [3, 2, 36], "{name}");
    }
    let mut simulated = direct;
    simulated["tpm"]["tpm_simulated"] = json!(true);
    assert_eq!(three(&appraise("cpu", &simulated, &json!({})).unwrap()), [33, 2, 0]);
    let unproved = json!({"tpm": {"ak_public": "key", "pcr00": "00", "pcr02": "02", "pcr04": "04", "pcr07": "07", "pcr09": "09"}});
    assert_eq!(three(&appraise("cpu", &unproved, &firmware).unwrap()), [33, 97, 36]);
}

#[test]
fn secure_execution_needs_its_keys_and_image() {
    let input = json!({"se": {"image_phkh": "i", "attestation_phkh": "a", "tag": "t"}});
    let values = json!({"se_image_phkh": ["i"], "se_attestation_phkh": ["a"], "se_tag": ["t"]});
    affirmed(input.clone(), values, [3, 2, 2]);
    assert_eq!(three(&appraise("cpu", &input, &json!({})).unwrap()), [33, 97, 36]);
}

#[test]
fn sgx_by_its_enclave() {
    let input = json!({"sgx": {
        "attributes": {"debug": false, "einittoken_key": false},
        "body": {"mr_enclave": "e", "mr_signer": "s", "isv_svn": "0100"},
        "tcb_status": "UpToDate", "collateral_expiration_status": "0"}});
    affirmed(
        input.clone(),
        json!({"sgx_mr_enclave": ["e"], "sgx_mr_signer": ["s"], "sgx_isv_svn": ["0100"]}),
        [3, 2, 2],
    );
    assert_eq!(three(&appraise("cpu", &input, &json!({})).unwrap()), [33, 97, 3]);
}

#[test]
fn cca_by_its_realm_and_platform() {
    let input = json!({"cca": {
        "realm": {"cca-realm-initial-measurement": "m", "cca-realm-extensible-measurements": ["AAAA=", "e"]},
        "platform": {"cca-platform-lifecycle-state": "secured", "cca-platform-config": "c"}}});
    let values = json!({"cca_realm_initial_measurement": ["m"], "cca_platform_config": ["c"],
        "cca_realm_extensible_measurements": ["e"]});
    affirmed(input.clone(), values, [3, 2, 0]);
    assert_eq!(three(&appraise("cpu", &input, &json!({})).unwrap()), [33, 97, 0]);
}

#[test]
fn csv_by_its_measurement_and_firmware() {
    let policy = json!({"nodbg": 1, "noks": 1, "nosend": 1, "es": 1, "csv3": 1});
    let input = json!({"csv": {"version": "2", "measure": "m", "build": 2337, "policy": policy,
        "rtmr1": "aa", "rtmr2": "0000", "rtmr3": "00", "rtmr4": "00"}});
    let values = json!({"csv_measure": ["m"], "csv_build": [2337], "csv_rtmr1": "aa"});
    affirmed(input, values.clone(), [3, 2, 2]);
    let first = json!({"csv": {"version": "1", "measure": "m", "policy": policy}});
    assert_eq!(three(&appraise("cpu", &first, &values).unwrap()), [3, 32, 2]);
    assert_eq!(three(&appraise("cpu", &first, &json!({})).unwrap()), [33, 97, 2]);
    for bit in ["nodbg", "noks", "nosend", "es"] {
        let mut open = first.clone();
        open["csv"]["policy"][bit] = json!(0);
        assert_eq!(three(&appraise("cpu", &open, &values).unwrap()), [3, 97, 36], "{bit}");
    }
}

#[test]
fn null_claims_match_nothing() {
    let input = json!({"snp": {"measurement": null, "reported_tcb_bootloader": null, "reported_tcb_microcode": null,
        "reported_tcb_snp": null, "reported_tcb_tee": null, "policy_debug_allowed": null,
        "policy_migrate_ma": null}});
    assert_eq!(three(&appraise("cpu", &input, &json!({})).unwrap()), [33, 97, 36]);
    let nulls = json!({"snp_launch_measurement": [null], "snp_bootloader": null});
    assert_eq!(three(&appraise("cpu", &input, &nulls).unwrap()), [33, 97, 36]);
}

#[test]
fn other_tees_are_not_recognised() {
    for tee in ["cca", "csv", "sgx", "nvidia", "unheard-of"] {
        let outcome = appraise("cpu", &json!({tee: {"debug": false}}), &json!({})).unwrap();
        assert_eq!(three(&outcome), [33, 97, 36], "{tee}");
    }
}

#[test]
fn containers_of_the_agent_policy_are_identified() {
    let container = |image: &str, user: u32| json!({"OCI": {"Annotations": {"io.kubernetes.cri.image-name": image}, "Process": {"User": {"UID": user}}}});
    let pause = json!({"OCI": {"Annotations": {}, "Process": {"User": {"UID": 65535}}}});
    let input = json!({"init_data_claims": {"agent_policy_claims":
        {"containers": [pause, container("bitnami/nginx:latest", 1001)]}}});
    let outcome = appraise("cpu", &input, &json!({})).unwrap();
    let expected = json!({"validated": {"container_images": ["bitnami/nginx:latest"],
        "container_uids": [65535, 1001]}});
    assert_eq!(outcome.extensions["ear.trustee.identifiers"], expected);
}

/// Prints how long one evaluation takes; asserts nothing about it.
#[test]
fn duration() {
    let compiled = Compiled::new(Kind::Attestation, default_policy("cpu").unwrap()).unwrap();
    let input = json!({"snp": {"measurement": "aa", "reported_tcb_bootloader": 3, "reported_tcb_microcode": 115,
        "reported_tcb_snp": 8, "reported_tcb_tee": 0, "policy_debug_allowed": false, "policy_migrate_ma": false}});
    let values = json!({"snp_launch_measurement": ["aa"], "snp_bootloader": [3], "snp_microcode": [115],
        "snp_snp_svn": [8], "snp_tee_svn": [0]});
    let begun = std::time::Instant::now();
    for _ in 0..200 {
        let got = compiled.attestation(&input, &super::from(&values)).unwrap();
        assert_eq!(three(&got), [3, 2, 3]);
    }
    println!("one evaluation of default_cpu: {:?}", begun.elapsed() / 200);
}
