//! Claims of a report, under the names and types that CoCo's policies read, and more.

use serde_json::{Map, Value, json};

use super::report::{FirmwareVersion, Report};
use super::tcb::Tcb;

/// The claims of a report.
///
/// Upstream's: `policy_*`, `reported_tcb_*`, `platform_*`, `measurement`, `report_data`, `init_data` (the HOST_DATA),
/// `chip_id`; numbers, booleans and lower-case hex. The others are ours: every field a policy may want. It says nothing of
/// whether the report is genuine; [`super::verify`] does and adds `simulated`.
pub fn claims(report: &Report) -> Value {
    let bit = |value: u64, n: u32| Value::Bool(value.checked_shr(n).is_some_and(|v| v & 1 == 1));
    let (policy, platform, key) = (report.policy, report.plat_info, u64::from(report.key_info));
    let mut map = Map::new();
    let mut put = |name: &str, value: Value| map.insert(name.to_owned(), value);

    put("policy_abi_major", json!((policy >> 8) & 0xff));
    put("policy_abi_minor", json!(policy & 0xff));
    put("policy_smt_allowed", bit(policy, 16));
    put("policy_migrate_ma", bit(policy, 18));
    put("policy_debug_allowed", bit(policy, 19));
    put("policy_single_socket", bit(policy, 20));
    put("policy_cxl_allowed", bit(policy, 21));
    put("policy_mem_aes_256_xts", bit(policy, 22));
    put("policy_rapl_disabled", bit(policy, 23));
    put("policy_ciphertext_hiding", bit(policy, 24));
    put("policy_page_swap_disabled", bit(policy, 25));

    put("platform_smt_enabled", bit(platform, 0));
    put("platform_tsme_enabled", bit(platform, 1));
    put("platform_ecc_enabled", bit(platform, 2));
    put("platform_rapl_disabled", bit(platform, 3));
    put("platform_ciphertext_hiding_enabled", bit(platform, 4));
    put("platform_alias_check_complete", bit(platform, 5));

    let tcbs: [(&str, &Tcb); 4] = [
        ("reported", &report.reported_tcb),
        ("current", &report.current_tcb),
        ("committed", &report.committed_tcb),
        ("launch", &report.launch_tcb),
    ];
    for (name, tcb) in tcbs {
        put(&format!("{name}_tcb_bootloader"), json!(tcb.bootloader));
        put(&format!("{name}_tcb_tee"), json!(tcb.tee));
        put(&format!("{name}_tcb_snp"), json!(tcb.snp));
        put(&format!("{name}_tcb_microcode"), json!(tcb.microcode));
        if let Some(fmc) = tcb.fmc {
            put(&format!("{name}_tcb_fmc"), json!(fmc));
        }
    }
    let version = |v: &FirmwareVersion| json!(format!("{}.{}.{}", v.major, v.minor, v.build));
    put("current_firmware", version(&report.current));
    put("committed_firmware", version(&report.committed));

    put("measurement", hex(&report.measurement));
    put("report_data", hex(&report.report_data));
    put("init_data", hex(&report.host_data));
    put("chip_id", hex(&report.chip_id));
    put("family_id", hex(&report.family_id));
    put("image_id", hex(&report.image_id));
    put("id_key_digest", hex(&report.id_key_digest));
    put("author_key_digest", hex(&report.author_key_digest));
    put("author_key_enabled", bit(key, 0));
    put("report_id", hex(&report.report_id));

    put(
        "signing_key",
        json!(match (report.key_info >> 2) & 7 {
            0 => "VCEK",
            1 => "VLEK",
            _ => "none",
        }),
    );
    put("chip_key_masked", bit(key, 1));
    put("report_version", json!(report.version));
    put("guest_svn", json!(report.guest_svn));
    put("vmpl", json!(report.vmpl));
    put("processor", report.generation().map_or(Value::Null, |g| json!(g.name())));
    if let Some(vector) = report.launch_mit_vector {
        put("launch_mit_vector", json!(vector));
    }
    if let Some(vector) = report.current_mit_vector {
        put("current_mit_vector", json!(vector));
    }
    Value::Object(map)
}

fn hex(bytes: &[u8]) -> Value {
    Value::String(hex::encode(bytes))
}
