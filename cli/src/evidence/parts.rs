//! What is no evidence on its own but belongs to some: recognised by its first bytes or members, and made readable.

use cocoon_evidence::Error;
use cocoon_evidence::azure::{Hardware, HclReport};
use cocoon_evidence::eventlog::{Algorithm, EventLog};
use cocoon_evidence::nvidia::{Architecture, Report};
use cocoon_evidence::snp;
use cocoon_evidence::tpm::Quote;
use cocoon_evidence::x509::{Certificate, Crl};
use cocoon_stage::Failure;
use serde_json::{Map, Value, json};

use super::describe::{self, counted};
use super::{certificates, intel};

/// A part of evidence, or a document that is needed to judge some. Nothing of it is verified.
pub struct Part {
    /// Stable name of its kind.
    pub kind: &'static str,
    /// A line about its form.
    pub format: String,
    /// What it is a part of, or how it is used.
    pub belongs_to: &'static str,
    /// What it says.
    pub contents: Value,
    /// The bytes of a report which, with certificates, is evidence.
    pub device_report: Option<Vec<u8>>,
}

impl Part {
    /// A part that never becomes evidence.
    pub fn new(kind: &'static str, format: String, belongs_to: &'static str, contents: Value) -> Self {
        Part { kind, format, belongs_to, contents, device_report: None }
    }
}

const CERTIFICATES: &str = "name a chip's or a device's with --certificate beside its report";
const LISTS: &str = "verification takes them from a bundle or folder (--collateral)";
const AZURE: &str =
    "it belongs to the evidence of an Azure guest (az-snp-vtpm or az-tdx-vtpm), which is JSON";

/// Certificates or a revocation list.
pub fn of_pem(text: &[u8]) -> Result<Part, Failure> {
    if text.starts_with(b"-----BEGIN X509 CRL") {
        return Ok(revocation_list(&Crl::parse(text)?, "PEM"));
    }
    if text.starts_with(b"-----BEGIN CERTIFICATE-----") {
        return Ok(chain(&Certificate::parse_chain(text)?, "PEM"));
    }
    let error = Error::Malformed { what: "PEM", reason: "neither certificates nor a revocation list".into() };
    Err(error.into())
}

fn chain(chain: &[Certificate], form: &str) -> Part {
    let shown: Vec<Value> = chain.iter().map(certificates::certificate).collect();
    let format = format!("{} ({form})", counted(chain.len(), "certificate"));
    Part::new("certificates", format, CERTIFICATES, Value::Array(shown))
}

fn revocation_list(crl: &Crl, form: &str) -> Part {
    let format = format!("revocation list ({form}, {})", certificates::valid(crl.validity()));
    Part::new("revocation-list", format, LISTS, certificates::revocations(crl))
}

/// Binary forms; `None` where the first bytes are those of none.
pub fn of_binary(bytes: &[u8], form: &str) -> Option<Result<Part, Error>> {
    let first = bytes.first_chunk::<4>()?;
    Some(match first {
        [0x30, 0x81..=0x84, ..] => der(bytes, form),
        b"HCLA" => HclReport::parse(bytes).map(|report| hcl(&report, form)),
        [0xff, b'T', b'C', b'G'] => Quote::parse(bytes).map(|quote| {
            Part::new("tpm-quote", format!("TPM 2.0 quote ({form}, TPMS_ATTEST)"), AZURE, tpm_quote(&quote))
        }),
        [0x11, 0xe0, 0x01, 0xff] => device(bytes).ok_or_else(|| not_a_device(bytes)).map(|(a, report)| {
            let kind = if a == Architecture::Ls10 { "switch" } else { "GPU" };
            let format = format!("NVIDIA attestation report ({form}, SPDM 1.1, {kind})");
            let part = Part::new("nvidia-report", format, "", nvidia(&report));
            Part { device_report: Some(bytes.to_vec()), ..part }
        }),
        [0x81, _, _, 0] if bytes.len() == intel::TD_REPORT => {
            intel::td_report(bytes).map(|(version, contents)| {
                let belongs_to = "no other machine can verify it: a quoting enclave makes a quote of it";
                Part::new("td-report", format!("TD report ({form}, {version})"), belongs_to, contents)
            })
        }
        // The header of a log stands where a report has its version: register 0 or 1, type EV_NO_ACTION.
        [0 | 1, 0, 0, 0] if bytes.get(4..8) == Some(&[3, 0, 0, 0]) => {
            EventLog::parse(bytes).map(|log| event_log(&log, form))
        }
        _ => return legacy_quote(bytes).map(Ok),
    })
}

fn der(bytes: &[u8], form: &str) -> Result<Part, Error> {
    let form = if form == "binary" { "DER" } else { form };
    Certificate::parse(bytes).map(|one| chain(&[one], form)).or_else(|error| match Crl::parse(bytes) {
        Ok(crl) => Ok(revocation_list(&crl, form)),
        Err(_) => Err(error),
    })
}

fn hcl(report: &HclReport, form: &str) -> Part {
    let (hardware, inner) = match report.hardware() {
        Hardware::Snp => {
            let inner = snp::Report::parse(report.report());
            let name = inner.as_ref().map_or("malformed report".into(), describe::snp);
            (format!("snp, {name}"), inner.map_or_else(|e| json!(e.to_string()), |r| snp::claims(&r)))
        }
        Hardware::Tdx => {
            let inner = report.report().get(..intel::TD_REPORT).unwrap_or_default();
            match intel::td_report(inner) {
                Ok((version, contents)) => (format!("tdx, {version}"), contents),
                Err(e) => ("tdx, malformed report".into(), json!(e.to_string())),
            }
        }
    };
    let data = serde_json::from_slice(report.data()).unwrap_or_else(|_| json!(hex::encode(report.data())));
    let format = format!("HCL report ({form}, version {}, {hardware})", report.version());
    let contents = json!({
        "hardware_report": inner,
        "report_data_of_runtime_data": hex::encode(report.report_data()),
        "runtime_data": data,
    });
    Part::new("hcl-report", format, AZURE, contents)
}

fn tpm_quote(quote: &Quote) -> Value {
    let selection = |s: &cocoon_evidence::tpm::Selection| {
        let bank = Algorithm::from_id(s.bank).map_or_else(|| format!("{:#06x}", s.bank), |a| a.name().into());
        json!({ "bank": bank, "registers": s.registers })
    };
    json!({
        "report_data": hex::encode(&quote.extra_data),
        "qualified_signer": hex::encode(&quote.qualified_signer),
        "clock": quote.clock.milliseconds,
        "clock_safe": quote.clock.safe,
        "reset_count": quote.clock.resets,
        "restart_count": quote.clock.restarts,
        "firmware_version": format!("{:016x}", quote.firmware_version),
        "selections": quote.selections.iter().map(selection).collect::<Vec<_>>(),
        "pcr_digest": hex::encode(&quote.pcr_digest),
    })
}

/// A quote with its registers, as Azure's attesters send it.
fn vtpm_quote(message: &[u8], registers: &[Vec<u8>], form: &str) -> Result<Part, Error> {
    let quote = Quote::parse(message)?;
    let pcrs: Map<String, Value> =
        registers.iter().enumerate().map(|(i, v)| (format!("pcr{i:02}"), json!(hex::encode(v)))).collect();
    let contents = json!({ "quote": tpm_quote(&quote), "registers": pcrs });
    let format = format!("vTPM quote ({form}, {})", counted(registers.len(), "register"));
    Ok(Part::new("vtpm-quote", format, AZURE, contents))
}

/// The same in the form of old attesters: lengths of eight bytes before signature, message and 24 registers.
fn legacy_quote(bytes: &[u8]) -> Option<Part> {
    fn sized(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
        let (length, rest) = bytes.split_first_chunk::<8>()?;
        rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)
    }
    let (_, rest) = sized(bytes)?;
    let (message, rest) = sized(rest)?;
    let (count, rest) = rest.split_first_chunk::<8>()?;
    if u64::from_le_bytes(*count) != 24 || rest.len() != 24 * 32 {
        return None;
    }
    let registers: Vec<Vec<u8>> = rest.chunks(32).map(<[u8]>::to_vec).collect();
    vtpm_quote(message, &registers, "bincode").ok()
}

/// What is read in this order; the first that fits.
pub const ARCHITECTURES: [Architecture; 3] =
    [Architecture::Hopper, Architecture::Blackwell, Architecture::Ls10];

/// A device's report, read as that of the first architecture whose it can be.
pub fn device(bytes: &[u8]) -> Option<(Architecture, Report)> {
    ARCHITECTURES.into_iter().find_map(|a| Report::parse(bytes, a).ok().map(|report| (a, report)))
}

fn not_a_device(bytes: &[u8]) -> Error {
    let other = Error::Malformed { what: "NVIDIA attestation report", reason: "of no architecture".into() };
    Report::parse(bytes, Architecture::Hopper).err().unwrap_or(other)
}

fn nvidia(report: &Report) -> Value {
    let measurements: Map<String, Value> =
        report.measurements.iter().map(|m| (m.index.to_string(), json!(hex::encode(&m.value)))).collect();
    json!({
        "nonce": hex::encode(report.nonce),
        "driver_version": report.opaque.driver_version,
        "vbios_version": report.opaque.vbios_version,
        "measurements": measurements,
        "config": report.opaque.fields,
    })
}

/// The log by its strongest bank, and what it leads to.
fn event_log(log: &EventLog, form: &str) -> Part {
    let bank = log.banks().iter().copied().max_by_key(|bank| bank.length()).unwrap_or(Algorithm::Sha384);
    let registers: Map<String, Value> =
        log.replay(bank).into_iter().map(|(i, value)| (i.to_string(), json!(hex::encode(value)))).collect();
    let format = format!("event log ({form}, {}, {})", bank.name(), counted(log.events().len(), "event"));
    let contents = json!({ "bank": bank.name(), "registers": registers, "events": log.claims(bank) });
    let belongs_to = "name it with --event-log beside the TDX quote whose registers it leads to";
    Part::new("event-log", format, belongs_to, contents)
}

/// JSON forms; `None` where its members are those of none.
pub fn of_json(value: &Value) -> Option<Result<Part, Failure>> {
    if let Some(part) = intel::of_json(value) {
        return Some(part);
    }
    if value.get("format").and_then(Value::as_str) == Some("cocoon-collateral") {
        return Some(certificates::bundle(value));
    }
    let members = (value.get("message")?, value.get("signature")?, value.get("pcrs")?.as_array()?);
    let (message, _, pcrs) = members;
    let registers: Option<Vec<Vec<u8>>> = pcrs.iter().map(octets).collect();
    let bad = Error::Field { field: "tpm_quote", reason: "neither hex nor arrays of bytes" };
    let (Some(message), Some(registers)) = (octets(message), registers) else { return Some(Err(bad.into())) };
    Some(vtpm_quote(&message, &registers, "JSON").map_err(Failure::from))
}

/// Hex text or an array of numbers.
fn octets(value: &Value) -> Option<Vec<u8>> {
    let byte = |n: &Value| n.as_u64().and_then(|n| u8::try_from(n).ok());
    match value {
        Value::String(text) => hex::decode(text).ok(),
        Value::Array(numbers) => numbers.iter().map(byte).collect(),
        _ => None,
    }
}
