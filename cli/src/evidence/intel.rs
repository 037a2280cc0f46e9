//! Intel's reports and documents, readable.

use cocoon_evidence::Error;
use cocoon_evidence::x509::{Certificate, Crl};
use cocoon_stage::Failure;
use serde_json::{Value, json};

use super::certificates::{certificate, revocations};
use super::parts::Part;

/// Length of a TD report.
pub const TD_REPORT: usize = 1024;

/// Longest text that is taken from a document into a line about it.
const MAX_WORD: usize = 40;

const DOCUMENT: &str = "verification takes it from a bundle or folder (--collateral)";

/// A TD report (Intel TDX module ABI, TDREPORT_STRUCT): the version of TDX, and what the report says. Its MAC can be
/// checked by the processor that made it alone.
pub fn td_report(report: &[u8]) -> Result<(&'static str, Value), Error> {
    let wrong = |reason: &str| Error::Malformed { what: "TD report", reason: reason.into() };
    if report.len() != TD_REPORT {
        return Err(wrong("not 1024 bytes"));
    }
    let field = |at: usize, length: usize| {
        hex::encode(report.get(at..).and_then(|rest| rest.get(..length)).unwrap_or_default())
    };
    // Type 0x81, subtype, version, reserved.
    let version = match report.first_chunk::<4>() {
        Some([0x81, 0, 0, 0]) => "TDX 1.0",
        Some([0x81, 0, 1, 0]) => "TDX 1.5",
        _ => return Err(wrong("neither version 0 nor version 1 of a report of a TD")),
    };
    let mut shown = json!({
        "report_data": field(128, 64),
        "cpu_svn": field(16, 16),
        "tcb_svn": field(264, 16),
        "mr_seam": field(280, 48),
        "mrsigner_seam": field(328, 48),
        "seam_attributes": field(376, 8),
        "td_attributes": field(512, 8),
        "xfam": field(520, 8),
        "mr_td": field(528, 48),
        "mr_config_id": field(576, 48),
        "mr_owner": field(624, 48),
        "mr_owner_config": field(672, 48),
        "rtmr_0": field(720, 48),
        "rtmr_1": field(768, 48),
        "rtmr_2": field(816, 48),
        "rtmr_3": field(864, 48),
    });
    if let (Value::Object(map), "TDX 1.5") = (&mut shown, version) {
        map.insert("tee_tcb_svn2".into(), json!(field(384, 16)));
        map.insert("mr_servicetd".into(), json!(field(912, 48)));
    }
    Ok((version, shown))
}

/// Signed documents of Intel's, and the object in which quote libraries hand out all of one quote; `None` for other JSON.
pub fn of_json(value: &Value) -> Option<Result<Part, Failure>> {
    for (name, kind, title) in [
        ("tcbInfo", "intel-tcb-info", "Intel TCB information"),
        ("enclaveIdentity", "intel-qe-identity", "Intel quoting enclave identity"),
    ] {
        if let Some(document) = value.get(name) {
            let format = format!("{title} (JSON, {})", summary(document));
            return Some(Ok(Part::new(kind, format, DOCUMENT, levelled(document))));
        }
    }
    value.get("tcb_info").and_then(Value::as_str).map(|_| quote_collateral(value))
}

/// Kind, version, platform and validity as a document gives them.
fn summary(document: &Value) -> String {
    let word = |name: &str| {
        let text = document.get(name).map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned));
        text.unwrap_or_default().chars().take(MAX_WORD).collect::<String>()
    };
    let fmspc = match word("fmspc") {
        fmspc if fmspc.is_empty() => String::new(),
        fmspc => format!(", FMSPC {fmspc}"),
    };
    let (id, version, from, to) = (word("id"), word("version"), word("issueDate"), word("nextUpdate"));
    format!("{id}, version {version}{fmspc}, {from} to {to}")
}

/// The document with each list of components as a row of numbers.
fn levelled(document: &Value) -> Value {
    match document {
        Value::Array(items) => {
            let svn = |item: &Value| item.get("svn").cloned();
            match items.iter().map(svn).collect::<Option<Vec<Value>>>() {
                Some(row) if !row.is_empty() => Value::Array(row),
                _ => items.iter().map(levelled).collect(),
            }
        }
        Value::Object(map) => map.iter().map(|(name, v)| (name.clone(), levelled(v))).collect(),
        other => other.clone(),
    }
}

/// Intel's `sgx_ql_qve_collateral_t` as JSON.
fn quote_collateral(value: &Value) -> Result<Part, Failure> {
    let bad =
        |what: &str| Error::Malformed { what: "quote collateral", reason: format!("`{what}` is no such") };
    let text = |name: &str| value.get(name).and_then(Value::as_str).ok_or_else(|| bad(name));
    let document = |name: &str| -> Result<Value, Error> {
        super::file::json(text(name)?.as_bytes()).map_err(|_| bad(name))
    };
    let list = |name: &str| -> Result<Value, Error> {
        let text = text(name)?;
        let bytes = hex::decode(text).unwrap_or_else(|_| text.as_bytes().to_vec());
        Ok(revocations(&Crl::parse(&bytes)?))
    };
    let chain = |name: &str| -> Result<Value, Error> {
        let chain = Certificate::parse_chain(text(name)?.as_bytes())?;
        Ok(chain.iter().map(certificate).collect())
    };
    let tcb_info = document("tcb_info")?;
    let identity = document("qe_identity")?;
    let format = format!("Intel quote collateral (JSON, {})", summary(&tcb_info));
    let contents = json!({
        "tcb_info": levelled(&tcb_info),
        "tcb_info_issuer_chain": chain("tcb_info_issuer_chain")?,
        "qe_identity": levelled(&identity),
        "qe_identity_issuer_chain": chain("qe_identity_issuer_chain")?,
        "pck_crl": list("pck_crl")?,
        "pck_crl_issuer_chain": chain("pck_crl_issuer_chain")?,
        "root_ca_crl": list("root_ca_crl")?,
    });
    Ok(Part::new("quote-collateral", format, "name it with --collateral beside the quote", contents))
}
