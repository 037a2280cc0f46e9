//! Claims of a device, under the names and types that CoCo's policies read, and more.

use serde_json::{Map, Value, json};

use super::certificate::Firmware;
use super::evidence::{DeviceEvidence, Evidence};
use super::rim::Outcome;
use crate::x509::Certificate;

/// Longest serial number of a certificate that is shown in decimal, bytes.
const MAX_SERIAL: usize = 32;

/// The claims of a device whose checks passed.
///
/// Upstream's: `arch`, `measurements` (SPDM's index to hex), `config` (the opaque data by name). Upstream also gives `uuid`,
/// which its sender makes up; here it is `uuid_unverified`. Ours: `measres` (`success` where all reference manifests were
/// compared and equal, else `not-compared`), `rims` (ids of those compared), `driver_version`, `vbios_version`, `fwid`,
/// `nonce`, `hwmodel` and `ueid` (the boot ROM's name and the leaf's serial number, as NVIDIA's own verifiers tell them).
pub(super) fn claims(device: &DeviceEvidence, firmware: &Firmware, outcome: &Outcome) -> Value {
    let report = &device.report;
    let mut measurements = Map::new();
    for measurement in &report.measurements {
        measurements.insert(measurement.index.to_string(), json!(hex::encode(&measurement.value)));
    }
    let certificate = |n: usize| device.certificates.get(n);
    let mut map = Map::new();
    let mut put = |name: &str, value: Value| map.insert(name.to_owned(), value);
    put("arch", json!(device.architecture.name()));
    put("measurements", Value::Object(measurements));
    put("config", Value::Object(report.opaque.fields.clone()));
    put("measres", json!(if outcome.compared { "success" } else { "not-compared" }));
    put("rims", json!(outcome.ids));
    put("driver_version", json!(report.opaque.driver_version));
    put("vbios_version", json!(report.opaque.vbios_version));
    put("fwid", json!(hex::encode(firmware.fwid)));
    put("nonce", json!(hex::encode(report.nonce)));
    put("hwmodel", json!(certificate(1).map(Certificate::subject)));
    put("ueid", json!(certificate(0).map(|leaf| decimal(leaf.serial()))));
    if let Some(uuid) = &device.uuid {
        put("uuid_unverified", json!(uuid));
    }
    Value::Object(map)
}

/// A big-endian number in decimal, as certificates' serial numbers are written; hex for a very long one.
pub(super) fn decimal(number: &[u8]) -> String {
    if number.len() > MAX_SERIAL {
        return hex::encode(number);
    }
    let mut digits = Vec::new();
    let mut rest = number.to_vec();
    while rest.iter().any(|b| *b != 0) {
        let mut remainder = 0u16;
        for byte in &mut rest {
            let value = remainder * 256 + u16::from(*byte);
            *byte = u8::try_from(value / 10).unwrap_or_default();
            remainder = value % 10;
        }
        digits.push(char::from(b'0' + u8::try_from(remainder).unwrap_or_default()));
    }
    if digits.is_empty() { "0".to_owned() } else { digits.iter().rev().collect() }
}

/// What the evidence says, device by device; **nothing of it is verified**.
pub fn unverified(evidence: &Evidence) -> Value {
    let one = |device: &DeviceEvidence| {
        let report = &device.report;
        let measurements: Map<String, Value> =
            report.measurements.iter().map(|m| (m.index.to_string(), json!(hex::encode(&m.value)))).collect();
        json!({
            "arch": device.architecture.name(),
            "nonce": hex::encode(report.nonce),
            "driver_version": report.opaque.driver_version,
            "vbios_version": report.opaque.vbios_version,
            "certificates": device.certificates.iter().map(Certificate::subject).collect::<Vec<_>>(),
            "measurements": measurements,
            "config": report.opaque.fields,
        })
    };
    Value::Array(evidence.devices.iter().map(one).collect())
}
