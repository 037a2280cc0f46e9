//! Claims of a report, under the names and types that CoCo's policies read, and more.

use serde_json::{Map, Value, json};

use super::chip::ChipId;
use super::evidence::Evidence;
use super::report::{Report, Version};

/// The claims of a report: upstream's, and `serial_number_verified`, which is always false because nobody signs that number.
/// It says nothing of whether the report is genuine; [`super::verify`] does, and adds `cek_key_digest` (SM3 of the CEK's
/// coordinates: what names the chip), `simulated`, and `uefi_event_logs` where there is a log.
pub(super) fn claims(report: &Report, chip: &ChipId) -> Map<String, Value> {
    let mut map = Map::new();
    let mut put = |name: &str, value: Value| map.insert(name.to_owned(), value);
    let hex = |bytes: &[u8]| Value::String(hex::encode(bytes));

    put("policy", policy(report.policy));
    put("user_pubkey_digest", hex(&report.user_pubkey_digest));
    put("vm_id", hex(&report.vm_id));
    put("vm_version", hex(&report.vm_version));
    put("report_data", hex(&report.report_data));
    put("mnonce", hex(&report.mnonce));
    put("measure", hex(&report.measure));
    put("sig_usage", hex(&report.sig_usage.to_le_bytes()));
    put("sig_algo", hex(&report.sig_algo.to_le_bytes()));
    put("serial_number", json!(chip.as_str()));
    put("serial_number_verified", json!(false));
    match &report.version {
        Version::V1 { anonce } => {
            put("version", json!("1"));
            put("anonce", hex(anonce));
        }
        Version::V2(extended) => {
            put("version", json!("2"));
            put("build", json!(extended.build));
            put("rtmr_version", json!(extended.rtmr_version));
            put("reserved0", hex(&extended.reserved0));
            for (i, register) in extended.rtmr.iter().enumerate() {
                put(&format!("rtmr{i}"), hex(register));
            }
            put("reserved1", hex(&extended.reserved1));
        }
    }
    map
}

/// What the evidence says; **nothing of it is verified**.
pub fn unverified(evidence: &Evidence) -> Value {
    Value::Object(claims(&evidence.report, &evidence.chip_id))
}

/// The policy's bits, as numbers.
fn policy(policy: u32) -> Value {
    let bits = |from: u32, mask: u32| (policy >> from) & mask;
    json!({
        "nodbg": bits(0, 1),
        "noks": bits(1, 1),
        "es": bits(2, 1),
        "nosend": bits(3, 1),
        "domain": bits(4, 1),
        "csv": bits(5, 1),
        "csv3": bits(6, 1),
        "asid_reuse": bits(7, 1),
        "hsk_version": bits(8, 0xf),
        "cek_version": bits(12, 0xf),
        "api_major": bits(16, 0xff),
        "api_minor": bits(24, 0xff),
    })
}
