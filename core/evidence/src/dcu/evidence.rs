//! The evidence as CoCo's attester sends it.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::Error;
use crate::csv::wire::{self, Bytes, Layout};
use crate::csv::{ChipId, Signature};
use crate::reader::Reader;

/// Most reports of one piece of evidence; a machine has at most a few dozen devices.
pub const MAX_REPORTS: usize = 64;

/// The reports of a machine's devices.
///
/// JSON: `{"attestation_reports": [{"body": {"version", "chip_id": [16 bytes], "user_data": [64 bytes], "measure": [32
/// bytes], "reserved": [128 bytes], "sig_usage", "sig_algo"}, "sig": {"r": [72 bytes], "s": [72 bytes]}}]}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// One per device, in the sender's order; at least one.
    pub reports: Vec<Report>,
}

/// One device's report; nothing of it is verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    bytes: Vec<u8>,
    /// Version of the format.
    pub version: u32,
    /// The chip's serial number, filled up with zeros.
    pub chip_id: [u8; 16],
    /// The same, checked to be a plain word.
    pub chip: ChipId,
    /// What the requester put in.
    pub user_data: [u8; 64],
    /// Measurement of the device's firmware.
    pub measure: [u8; 32],
    /// Not used yet.
    pub reserved: [u8; 128],
    /// Usage of the key that signs.
    pub sig_usage: u32,
    /// Algorithm of the signature.
    pub sig_algo: u32,
    pub(super) signature: Option<Signature>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireReport {
    body: WireBody,
    sig: wire::Signature,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireBody {
    version: u32,
    chip_id: Bytes<16>,
    user_data: Bytes<64>,
    measure: Bytes<32>,
    reserved: Bytes<128>,
    sig_usage: u32,
    sig_algo: u32,
}

impl Evidence {
    /// Reads the JSON value.
    ///
    /// # Errors
    /// [`Error::Field`] where there is no report, or more than [`MAX_REPORTS`], or a chip id is no plain word;
    /// [`Error::Json`].
    pub fn from_json(value: &Value) -> Result<Self, Error> {
        let wrong = |reason| Error::Field { field: "attestation_reports", reason };
        let reports = value.get("attestation_reports").and_then(Value::as_array);
        let reports = reports.ok_or_else(|| wrong("missing or no array"))?;
        match reports.len() {
            0 => Err(wrong("empty")),
            1..=MAX_REPORTS => {
                let reports = reports.iter().map(Report::from_json).collect::<Result<_, _>>()?;
                Ok(Evidence { reports })
            }
            _ => Err(wrong("too many")),
        }
    }

    /// The JSON value.
    pub fn to_json(&self) -> Value {
        let reports: Value = self.reports.iter().map(Report::to_json).collect();
        json!({ "attestation_reports": reports })
    }
}

impl Report {
    /// Length of a report with its signature.
    pub const SIZE: usize = Report::SIGNED + 144;
    /// Length of what is signed.
    const SIGNED: usize = 252;

    /// Reads one report as the device gives it.
    ///
    /// # Errors
    /// [`Error::Malformed`] for another length, [`Error::Field`] for a chip id that is no plain word.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let mut r = Reader::new("DCU report", bytes);
        let report = WireReport {
            body: WireBody {
                version: r.u32_le()?,
                chip_id: Bytes::read(&mut r)?,
                user_data: Bytes::read(&mut r)?,
                measure: Bytes::read(&mut r)?,
                reserved: Bytes::read(&mut r)?,
                sig_usage: r.u32_le()?,
                sig_algo: r.u32_le()?,
            },
            sig: Layout::read(&mut r)?,
        };
        r.finish()?;
        Report::of(&report)
    }

    fn from_json(value: &Value) -> Result<Self, Error> {
        Report::of(&wire::from_json(value)?)
    }

    fn of(WireReport { body, sig }: &WireReport) -> Result<Self, Error> {
        let mut bytes = body.version.to_le_bytes().to_vec();
        bytes.extend_from_slice(&body.chip_id.0);
        bytes.extend_from_slice(&body.user_data.0);
        bytes.extend_from_slice(&body.measure.0);
        bytes.extend_from_slice(&body.reserved.0);
        bytes.extend_from_slice(&body.sig_usage.to_le_bytes());
        bytes.extend_from_slice(&body.sig_algo.to_le_bytes());
        bytes.extend(wire::to_bytes(sig));
        Ok(Report {
            bytes,
            version: body.version,
            chip_id: body.chip_id.0,
            chip: ChipId::from_field(&body.chip_id.0)?,
            user_data: body.user_data.0,
            measure: body.measure.0,
            reserved: body.reserved.0,
            sig_usage: body.sig_usage,
            sig_algo: body.sig_algo,
            signature: Signature::of(sig),
        })
    }

    fn to_json(&self) -> Value {
        let sig = self.bytes.get(Report::SIGNED..).unwrap_or_default();
        let sig = wire::from_bytes::<wire::Signature>("DCU report", sig).ok();
        json!({
            "body": {
                "version": self.version,
                "chip_id": self.chip_id,
                "user_data": self.user_data.as_slice(),
                "measure": self.measure,
                "reserved": self.reserved.as_slice(),
                "sig_usage": self.sig_usage,
                "sig_algo": self.sig_algo,
            },
            "sig": sig,
        })
    }

    /// The report as the device gives it.
    pub fn to_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What the signature is over.
    pub fn signed_bytes(&self) -> &[u8] {
        self.bytes.get(..Report::SIGNED).unwrap_or_default()
    }
}
