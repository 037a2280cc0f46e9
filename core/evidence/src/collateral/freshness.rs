//! From when to when a document says it holds, and whether it is the one that was asked for.
//!
//! This is housekeeping for whoever fetches and keeps documents: it tells a document from an error page and says when to
//! ask again. It checks no signature, so what it accepts is still hostile.

use const_oid::ObjectIdentifier;
use der::Decode;
use der::asn1::OctetStringRef;
use serde::Deserialize;

use super::{Document, IntelTee, Need};
use crate::Error;
use crate::snp::{Tcb, oid};
use crate::x509::{Certificate, Crl, Validity};

/// HSK and CEK one after the other, as Hygon's service sends them: 832 and 2084 bytes.
const HYGON_SIZE: usize = 0x340 + 0x824;

/// The dates that a document gives itself; `None` where its kind has none (manifests, Hygon's certificates). With an issuer
/// chain it holds no longer than the chain does.
///
/// # Errors
/// Where the document is not of the need's kind, is for another platform, or is larger than its kind may be.
pub fn freshness(need: &Need, document: &Document) -> Result<Option<Validity>, Error> {
    let body = document.body.as_slice();
    if body.len() > need.max_body() || document.issuer_chain.len() > Need::MAX_ISSUER_CHAIN {
        return Err(malformed(need, "larger than any document of its kind"));
    }
    let own = match need {
        Need::AmdVcek { chip_id, tcb, .. } => {
            let certificate = Certificate::parse(body)?;
            if !endorses(&certificate, chip_id, tcb) {
                return Err(malformed(need, "the certificate is of another chip or TCB"));
            }
            Some(certificate.validity())
        }
        Need::AmdCrl { .. } | Need::IntelPckCrl { .. } | Need::IntelRootCrl => {
            Some(Crl::parse(body)?.validity())
        }
        Need::IntelTcbInfo { tee, fmspc } => {
            let signed: SignedTcbInfo = json(body)?;
            let about = &signed.tcb_info;
            let id = match tee {
                IntelTee::Sgx => "SGX",
                IntelTee::Tdx => "TDX",
            };
            if about.id != id || !about.fmspc.eq_ignore_ascii_case(fmspc) {
                return Err(malformed(need, "the TCB information is of another platform"));
            }
            Some(about.dates.validity(need)?)
        }
        Need::IntelQeIdentity { tee } => {
            let signed: SignedIdentity = json(body)?;
            let id = match tee {
                IntelTee::Sgx => "QE",
                IntelTee::Tdx => "TD_QE",
            };
            if signed.enclave_identity.id != id {
                return Err(malformed(need, "the identity is of another enclave"));
            }
            Some(signed.enclave_identity.dates.validity(need)?)
        }
        Need::NvidiaRim { .. } => {
            let text = std::str::from_utf8(body).map_err(|_| malformed(need, "not text"))?;
            let text = text.trim_start_matches('\u{feff}').trim_start();
            if !text.starts_with('<') || !text.contains("SoftwareIdentity") {
                return Err(malformed(need, "not a software identity in XML"));
            }
            None
        }
        Need::HygonCertificates { .. } => match body.len() {
            HYGON_SIZE => None,
            _ => return Err(malformed(need, "not an HSK of 832 and a CEK of 2084 bytes")),
        },
    };
    let mut own = own;
    if !document.issuer_chain.is_empty() {
        for certificate in Certificate::parse_chain(document.issuer_chain.as_bytes())? {
            if let Some(own) = own.as_mut() {
                own.not_after = own.not_after.min(certificate.validity().not_after);
            }
        }
    }
    Ok(own)
}

/// Whether the certificate's extensions name this chip and these levels.
fn endorses(certificate: &Certificate, chip_id: &str, tcb: &Tcb) -> bool {
    let level = |id: ObjectIdentifier| {
        certificate.extension(id).and_then(|value| {
            // Bare in older certificates, in an OCTET STRING in newer ones.
            let value = <&OctetStringRef>::from_der(value).map_or(value, OctetStringRef::as_bytes);
            u8::from_der(value).ok()
        })
    };
    let hwid = certificate.extension(oid::HWID).map(|value| match value.len() {
        8 | 64 => value,
        _ => <&OctetStringRef>::from_der(value).map_or(value, OctetStringRef::as_bytes),
    });
    hwid.is_some_and(|hwid| hex::encode(hwid) == chip_id)
        && level(oid::BOOTLOADER) == Some(tcb.bootloader)
        && level(oid::TEE) == Some(tcb.tee)
        && level(oid::SNP) == Some(tcb.snp)
        && level(oid::MICROCODE) == Some(tcb.microcode)
        && (tcb.fmc.is_none() || level(oid::FMC) == tcb.fmc)
}

#[derive(Deserialize)]
struct Dates {
    #[serde(rename = "issueDate")]
    issued: String,
    #[serde(rename = "nextUpdate")]
    next: String,
}

impl Dates {
    fn validity(&self, need: &Need) -> Result<Validity, Error> {
        match (from_rfc3339(&self.issued), from_rfc3339(&self.next)) {
            (Some(not_before), Some(not_after)) => Ok(Validity { not_before, not_after }),
            _ => Err(malformed(need, "issueDate or nextUpdate is no time")),
        }
    }
}

#[derive(Deserialize)]
struct TcbInfo {
    id: String,
    fmspc: String,
    #[serde(flatten)]
    dates: Dates,
}

#[derive(Deserialize)]
struct SignedTcbInfo {
    #[serde(rename = "tcbInfo")]
    tcb_info: TcbInfo,
}

#[derive(Deserialize)]
struct Identity {
    id: String,
    #[serde(flatten)]
    dates: Dates,
}

#[derive(Deserialize)]
struct SignedIdentity {
    #[serde(rename = "enclaveIdentity")]
    enclave_identity: Identity,
}

fn json<T: for<'de> Deserialize<'de>>(body: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(body).map_err(|e| Error::Json(e.to_string()))
}

/// Unix seconds of a time as Intel's documents write it, `YYYY-MM-DDTHH:MM:SSZ`. `None` for any other form, and before 1970.
pub fn from_rfc3339(text: &str) -> Option<u64> {
    let text = text.strip_suffix('Z')?;
    let (date, clock) = text.split_once('T')?;
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let [hour, minute, second] = numbers(clock, ':', [2, 2, 2])?;
    let leap = |y: u64| y.is_multiple_of(4) && (!y.is_multiple_of(100) || y.is_multiple_of(400));
    let days_of = |m: u64| match m {
        2 if leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    let valid = year >= 1970
        && (1..=12).contains(&month)
        && (1..=days_of(month)).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60;
    if !valid {
        return None;
    }
    let years: u64 = (1970..year).map(|y| if leap(y) { 366 } else { 365 }).sum();
    let months: u64 = (1..month).map(days_of).sum();
    Some((years + months + day - 1) * 86_400 + hour * 3600 + minute * 60 + second)
}

fn numbers(text: &str, separator: char, lengths: [usize; 3]) -> Option<[u64; 3]> {
    let mut parts = text.split(separator);
    let mut all = [0; 3];
    for (number, length) in all.iter_mut().zip(lengths) {
        let part = parts.next().filter(|p| p.len() == length && p.bytes().all(|b| b.is_ascii_digit()))?;
        *number = part.parse().ok()?;
    }
    parts.next().is_none().then_some(all)
}

fn malformed(need: &Need, reason: &str) -> Error {
    Error::Malformed { what: need.kind(), reason: reason.to_owned() }
}
