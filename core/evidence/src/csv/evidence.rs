//! The evidence as CoCo's attester sends it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};

use super::certificate::{CaCertificate, ChipCertificate};
use super::chip::ChipId;
use super::report::Report;
use super::wire::{self, Bytes};
use crate::Error;
use crate::eventlog::MAX_LOG;

/// A report, the certificates sent along, and what leads to the missing ones.
///
/// JSON: `{"attestation_report": {"data": [4096 bytes], "magic": [16 bytes], "flags": n}, "cert_chain": {"hsk_cek": null |
/// {"hsk": {…}, "cek": {…}}, "pek": {…}}, "serial_number": [64 bytes], "cc_eventlog": null | "base64"}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// The report.
    pub report: Report,
    /// HSK and CEK, where the attester fetched them.
    pub hsk_cek: Option<(CaCertificate, ChipCertificate)>,
    /// The PEK certificate.
    pub pek: ChipCertificate,
    /// The chip's serial number, as the sender says.
    pub chip_id: ChipId,
    /// The event log; worth nothing until it is replayed.
    pub event_log: Option<Vec<u8>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireReport {
    data: Bytes<{ Report::SIZE }>,
    magic: Bytes<16>,
    flags: u32,
}

impl Evidence {
    /// Reads the JSON value.
    ///
    /// # Errors
    /// [`Error::Field`], [`Error::Json`], and those of [`Report::parse`] and the certificates.
    pub fn from_json(value: &Value) -> Result<Self, Error> {
        let WireReport { data, magic, flags } = wire::from_json(part(value, "attestation_report")?)?;
        let chain = part(value, "cert_chain")?;
        let hsk_cek = match chain.get("hsk_cek") {
            None | Some(Value::Null) => None,
            Some(both) => Some((
                CaCertificate::from_json(part(both, "hsk")?)?,
                ChipCertificate::from_json(part(both, "cek")?)?,
            )),
        };
        let serial_number: Bytes<64> = wire::from_json(part(value, "serial_number")?)?;
        let event_log = match value.get("cc_eventlog") {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => Some(log(text)?),
            Some(_) => {
                return Err(Error::Field { field: "cc_eventlog", reason: "neither null nor a string" });
            }
        };
        Ok(Evidence {
            report: Report::parse(&magic.0, flags, &data.0)?,
            hsk_cek,
            pek: ChipCertificate::from_json(part(chain, "pek")?)?,
            chip_id: ChipId::from_field(&serial_number.0)?,
            event_log,
        })
    }

    /// The JSON value.
    pub fn to_json(&self) -> Value {
        let report = &self.report;
        let mut chain = json!({ "pek": self.pek.to_json() });
        let mut value = json!({
            "attestation_report": {
                "data": report.to_bytes(), "magic": report.magic(), "flags": report.flags(),
            },
            "serial_number": self.chip_id.to_field().as_slice(),
            "cc_eventlog": self.event_log.as_ref().map(|log| STANDARD.encode(log)),
        });
        if let (Some((hsk, cek)), Some(chain)) = (&self.hsk_cek, chain.as_object_mut()) {
            chain.insert("hsk_cek".to_owned(), json!({ "hsk": hsk.to_json(), "cek": cek.to_json() }));
        }
        if let Some(value) = value.as_object_mut() {
            value.insert("cert_chain".to_owned(), chain);
        }
        value
    }
}

fn part<'a>(value: &'a Value, field: &'static str) -> Result<&'a Value, Error> {
    value.get(field).ok_or(Error::Field { field, reason: "missing" })
}

fn log(text: &str) -> Result<Vec<u8>, Error> {
    let wrong = |reason| Error::Field { field: "cc_eventlog", reason };
    if text.len() > MAX_LOG.div_ceil(3) * 4 {
        return Err(wrong("too long"));
    }
    STANDARD.decode(text).map_err(|_| wrong("not base64"))
}
