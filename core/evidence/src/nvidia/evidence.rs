//! The evidence as CoCo's attesters send it: one report and one certificate chain per device.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::spdm::{MAX_REPORT, Report};
use crate::Error;
use crate::x509::Certificate;

/// Most devices; the largest machines have 8 GPUs and 4 switches.
const MAX_DEVICES: usize = 32;
/// Longest certificate chain as PEM; real ones have about 5 kB.
const MAX_CHAIN: usize = 32 * 1024;
/// Longest name that a sender may give a device.
const MAX_UUID: usize = 64;

/// A device's architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Architecture {
    /// GPU GH100 (H100, H200, GH200).
    Hopper,
    /// GPUs GB1xx and GB2xx.
    Blackwell,
    /// NVSwitch LS10.
    Ls10,
}

impl Architecture {
    fn parse(name: &str) -> Result<Self, Error> {
        let all = [Architecture::Hopper, Architecture::Blackwell, Architecture::Ls10];
        let known = all.into_iter().find(|a| a.wire_name().eq_ignore_ascii_case(name));
        let got = name.chars().take(32).map(|c| if c.is_ascii_graphic() { c } else { '?' }).collect();
        known.ok_or(Error::Unsupported { what: "NVIDIA architecture", got })
    }

    /// As attesters and NVIDIA's service write it: `HOPPER`, `BLACKWELL`, `LS10`.
    pub fn wire_name(self) -> &'static str {
        match self {
            Architecture::Hopper => "HOPPER",
            Architecture::Blackwell => "BLACKWELL",
            Architecture::Ls10 => "LS10",
        }
    }

    /// As in the claim `arch`.
    pub fn name(self) -> &'static str {
        match self {
            Architecture::Hopper => "Hopper",
            Architecture::Blackwell => "Blackwell",
            Architecture::Ls10 => "LS10",
        }
    }

    /// Which policy appraises it: `gpu` or `switch`.
    pub fn class(self) -> &'static str {
        if self.is_gpu() { "gpu" } else { "switch" }
    }

    pub(super) fn is_gpu(self) -> bool {
        self != Architecture::Ls10
    }
}

/// One device's report with the certificates sent along.
#[derive(Clone, Debug)]
pub struct DeviceEvidence {
    /// The architecture as its sender says; checked against the certificates.
    pub architecture: Architecture,
    /// A name by the sender, printable. Nothing vouches for it.
    pub uuid: Option<String>,
    /// The report.
    pub report: Report,
    /// The certificates in the sender's order. Nothing about them is trusted.
    pub certificates: Vec<Certificate>,
    pem: Vec<u8>,
}

impl DeviceEvidence {
    /// Parses a report and a PEM chain.
    ///
    /// # Errors
    /// As [`Report::parse`]; [`Error::Certificate`].
    pub fn new(
        architecture: Architecture,
        uuid: Option<String>,
        report: &[u8],
        pem: &[u8],
    ) -> Result<Self, Error> {
        let report = Report::parse(report, architecture)?;
        if pem.len() > MAX_CHAIN {
            return Err(Error::Certificate("a chain of more than 32 KiB"));
        }
        let certificates = Certificate::parse_chain(pem)?;
        Ok(DeviceEvidence { architecture, uuid, report, certificates, pem: pem.to_vec() })
    }

    /// The chain as it came, PEM.
    pub fn pem(&self) -> &[u8] {
        &self.pem
    }
}

/// Evidence of all devices of a guest.
///
/// JSON: `{"device_evidence_list": [{"arch": "HOPPER" | "BLACKWELL" | "LS10", "uuid"?: text, "evidence": hex or base64,
/// "certificate": base64 of a PEM chain}]}`, 1 to 32 devices.
#[derive(Clone, Debug)]
pub struct Evidence {
    /// The devices in the sender's order.
    pub devices: Vec<DeviceEvidence>,
}

impl Evidence {
    /// Reads the JSON value.
    ///
    /// # Errors
    /// [`Error::Field`], or as [`DeviceEvidence::new`]: one malformed device makes all the evidence malformed.
    pub fn from_json(value: &Value) -> Result<Self, Error> {
        let field = "device_evidence_list";
        let list = value.get(field).and_then(Value::as_array);
        let list = list.ok_or(Error::Field { field, reason: "missing or not an array" })?;
        if !(1..=MAX_DEVICES).contains(&list.len()) {
            return Err(Error::Field { field, reason: "not 1 to 32 devices" });
        }
        let devices = list.iter().map(device).collect::<Result<_, _>>()?;
        Ok(Evidence { devices })
    }

    /// The JSON value.
    pub fn to_json(&self) -> Value {
        let device = |device: &DeviceEvidence| {
            let mut json = json!({
                "arch": device.architecture.wire_name(),
                "evidence": STANDARD.encode(device.report.as_bytes()),
                "certificate": STANDARD.encode(&device.pem),
            });
            if let (Some(map), Some(uuid)) = (json.as_object_mut(), &device.uuid) {
                map.insert("uuid".to_owned(), json!(uuid));
            }
            json
        };
        json!({ "device_evidence_list": self.devices.iter().map(device).collect::<Value>() })
    }
}

fn device(value: &Value) -> Result<DeviceEvidence, Error> {
    let text = |field: &'static str, limit: usize| match value.get(field) {
        Some(Value::String(text)) if text.len() <= limit => Ok(text.as_str()),
        Some(Value::String(_)) => Err(Error::Field { field, reason: "too long" }),
        _ => Err(Error::Field { field, reason: "missing or not a text" }),
    };
    let architecture = Architecture::parse(text("arch", MAX_UUID)?)?;
    let uuid = match value.get("uuid") {
        None | Some(Value::Null) => None,
        Some(_) => Some(text("uuid", MAX_UUID)?.to_owned()),
    };
    if uuid.as_ref().is_some_and(|uuid| uuid.bytes().any(|b| !b.is_ascii_graphic())) {
        return Err(Error::Field { field: "uuid", reason: "not printable" });
    }
    let report = encoded(text("evidence", 2 * MAX_REPORT)?);
    let report = report.ok_or(Error::Field { field: "evidence", reason: "neither hex nor base64" })?;
    let pem = STANDARD.decode(text("certificate", 2 * MAX_CHAIN)?).ok();
    let pem = pem.ok_or(Error::Field { field: "certificate", reason: "not base64" })?;
    DeviceEvidence::new(architecture, uuid, &report, &pem)
}

/// Hex, which older attesters send, or base64. Text that could be both is hex, as upstream reads it.
fn encoded(text: &str) -> Option<Vec<u8>> {
    hex::decode(text).or_else(|_| STANDARD.decode(text)).ok()
}
