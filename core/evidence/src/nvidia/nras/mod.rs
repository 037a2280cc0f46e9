//! NVIDIA's remote attestation service (NRAS): what to ask it, and whether to believe the answer. No network here.
//!
//! Request, `POST <service>/v4/attest/<gpu|switch>`: `{nonce: hex, arch, evidence_list: [{evidence: base64, certificate:
//! base64 of the PEM chain}], claims_version: "3.0"}`, all devices of one architecture at once. Answer:
//! `[["JWT", overall], {"GPU-0": token, …}]`, all tokens ES384 by a key of the service's JWKS; the overall token holds the
//! SHA-256 of each device's token (RFC 9711, detached claims). Source: NVIDIA Attestation documentation, NRAS API v4 and
//! claims guide 3.0; an answer of the service.
//!
//! Claims are the device token's as they are, and `x-nvidia-overall-att-result` of the overall token, as upstream's verifier
//! gives them. They say what NVIDIA found, good or bad: policies judge them. Only that the report was genuine and for this
//! challenge is a check here. Initdata: devices carry none.

mod token;

use std::collections::BTreeMap;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cocoon_stage::Code;
use serde_json::{Map, Value, json};

use super::evidence::{Architecture, Evidence};
use super::group;
use super::verify::Device;
use crate::expectation::padded;
use crate::{Check, Error, Verdict};

pub use token::Jwks;
use token::Token;

/// Issuer of NVIDIA's own service.
pub const ISSUER: &str = "https://nras.attestation.nvidia.com";
/// Longest answer; each device adds a token of about 3 kB.
const MAX_ANSWER: usize = 1024 * 1024;
/// Most tokens of devices in an answer.
const MAX_DEVICES: usize = 64;
/// Seconds that the service's clock may be ahead of ours.
const LEEWAY: u64 = 60;
const CLAIMS_VERSION: &str = "3.0";
const SERVICE: &str = "NRAS API v4";
const EAT: &str = "RFC 9711, detached claims; NRAS claims 3.0";
const CALLER: &str = "the challenge";

/// One request: all devices of an architecture.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// Their architecture.
    pub architecture: Architecture,
    /// Last part of the service's address: `gpu` or `switch`.
    pub endpoint: &'static str,
    /// Their places in the evidence, in the order of the request.
    pub devices: Vec<usize>,
    /// The challenge: report data, truncated or padded to 32 bytes.
    pub nonce: [u8; 32],
    /// The body, JSON.
    pub body: Value,
}

/// The requests for evidence, one for each architecture in it.
///
/// # Errors
/// [`Error::Field`] for empty report data, with which no device could have been challenged.
pub fn requests(evidence: &Evidence, report_data: &[u8]) -> Result<Vec<Request>, Error> {
    let empty = Error::Field { field: "report_data", reason: "empty" };
    let nonce: [u8; 32] = padded(report_data).ok_or(empty)?;
    let mut groups: BTreeMap<Architecture, Vec<usize>> = BTreeMap::new();
    for (index, device) in evidence.devices.iter().enumerate() {
        groups.entry(device.architecture).or_default().push(index);
    }
    let request = |(architecture, devices): (Architecture, Vec<usize>)| {
        let list = devices.iter().filter_map(|index| evidence.devices.get(*index)).map(|device| {
            json!({
                "evidence": STANDARD.encode(device.report.as_bytes()),
                "certificate": STANDARD.encode(device.pem()),
            })
        });
        let body = json!({
            "nonce": hex::encode(nonce),
            "arch": architecture.wire_name(),
            "evidence_list": list.collect::<Value>(),
            "claims_version": CLAIMS_VERSION,
        });
        Request { architecture, endpoint: architecture.class(), devices, nonce, body }
    };
    Ok(groups.into_iter().map(request).collect())
}

/// An answer of the service, of which nothing is believed yet.
#[derive(Clone, Debug)]
pub struct Answer {
    overall: Token,
    devices: BTreeMap<String, Token>,
}

impl Answer {
    /// Reads an answer of at most 1 MiB.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn parse(text: &[u8]) -> Result<Self, Error> {
        let malformed = |reason: &str| Error::Malformed { what: "NRAS answer", reason: reason.to_owned() };
        if text.len() > MAX_ANSWER {
            return Err(malformed("longer than 1 MiB"));
        }
        let (overall, devices): ((String, String), Map<String, Value>) =
            serde_json::from_slice(text).map_err(|_| malformed("not [[\"JWT\", token], {name: token}]"))?;
        if overall.0 != "JWT" || !(1..=MAX_DEVICES).contains(&devices.len()) {
            return Err(malformed("no overall token, or not 1 to 64 devices"));
        }
        let token = |(name, token): (String, Value)| {
            let token = token.as_str().ok_or_else(|| malformed("a device's token is not a text"))?;
            Ok((name, Token::parse(token)?))
        };
        let devices = devices.into_iter().map(token).collect::<Result<_, Error>>()?;
        Ok(Answer { overall: Token::parse(&overall.1)?, devices })
    }

    /// The ids of the keys that the answer is signed with, to see whether a JWKS at hand is recent enough.
    pub fn key_ids(&self) -> Vec<&str> {
        let mut ids: Vec<&str> =
            self.devices.values().chain([&self.overall]).map(|token| token.kid.as_str()).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }
}

/// Verifies the answer to a request; one verdict for each device of the request.
///
/// `issuer` is [`ISSUER`] unless an operator says otherwise. Devices that the answer does not name have a failing verdict.
pub fn verify(request: &Request, answer: &Answer, jwks: &Jwks, issuer: &str, now_unix: u64) -> Vec<Device> {
    let judge = Judge { request, answer, jwks, issuer, now_unix };
    let overall = judge.overall();
    let mut named: BTreeMap<usize, (&str, &Token)> = BTreeMap::new();
    let mut complete = answer.devices.len() == request.devices.len();
    for (name, token) in &answer.devices {
        // Names end in the place in the request: `GPU-0`.
        let place = name.rsplit_once('-').and_then(|(_, n)| n.parse().ok());
        match place.filter(|place| *place < request.devices.len()) {
            Some(place) => complete &= named.insert(place, (name, token)).is_none(),
            None => complete = false,
        }
    }
    let verdict = |(place, index): (usize, &usize)| {
        let mut checks = overall.clone();
        checks.push(Check::new(
            "nras.devices",
            complete,
            Code::AttestEvidenceMalformed,
            format!("{} devices", request.devices.len()),
            format!("{} tokens", answer.devices.len()),
            SERVICE,
        ));
        let mut verdict = Verdict { checks, claims: Value::Null, simulated: false };
        match named.get(&place) {
            Some((name, token)) => {
                judge.device(name, token, &mut verdict.checks);
                if verdict.ok() {
                    verdict.claims = judge.claims(token);
                }
            }
            None => verdict.checks.push(Check::new(
                "token.signature",
                false,
                Code::AttestEvidenceMalformed,
                "a token for this device",
                "none",
                SERVICE,
            )),
        }
        Device { class: request.endpoint, index: Some(*index), verdict }
    };
    request.devices.iter().enumerate().map(verdict).collect()
}

/// The verdict of the group, where all eight GPUs and four switches of a machine were verified. How they are connected is
/// for NVIDIA's service to see.
pub fn group(devices: &[Device]) -> Option<Device> {
    group::of(devices)
}

struct Judge<'a> {
    request: &'a Request,
    answer: &'a Answer,
    jwks: &'a Jwks,
    issuer: &'a str,
    now_unix: u64,
}

impl Judge<'_> {
    fn overall(&self) -> Vec<Check> {
        let token = &self.answer.overall;
        let names = ["overall.signature", "overall.issuer", "overall.dates", "overall.nonce"];
        self.token(token, names)
    }

    /// What holds of every token.
    fn token(&self, token: &Token, names: [&'static str; 4]) -> Vec<Check> {
        let [signature, issuer, dates, nonce] = names;
        let good = self.jwks.verifies(token);
        let got_issuer = token.text("iss");
        let (from, until) = (token.number("nbf").max(token.number("iat")), token.number("exp"));
        // A token without dates is not one of the service.
        let valid = from.is_some_and(|from| from <= self.now_unix.saturating_add(LEEWAY))
            && until.is_some_and(|until| self.now_unix < until);
        let shown = |time: Option<u64>| time.map_or("none".to_owned(), |time| time.to_string());
        let wanted = hex::encode(self.request.nonce);
        let got_nonce = token.text("eat_nonce");
        vec![
            Check::new(
                signature,
                good,
                Code::AttestSignatureInvalid,
                "ES384 by a key of the service",
                if good { "good" } else { "not by one of its keys" },
                SERVICE,
            ),
            Check::new(
                issuer,
                got_issuer == Some(self.issuer),
                Code::AttestChainUntrusted,
                self.issuer,
                printable(got_issuer),
                SERVICE,
            ),
            Check::new(
                dates,
                valid,
                Code::AttestCertificateExpired,
                format!("valid at {}", self.now_unix),
                format!("{} to {}", shown(from), shown(until)),
                SERVICE,
            ),
            Check::new(
                nonce,
                got_nonce.is_some_and(|got| got.eq_ignore_ascii_case(&wanted)),
                Code::AttestReportDataMismatch,
                wanted,
                printable(got_nonce),
                CALLER,
            ),
        ]
    }

    fn device(&self, name: &str, token: &Token, checks: &mut Vec<Check>) {
        let names = ["token.signature", "token.issuer", "token.dates", "token.nonce"];
        checks.extend(self.token(token, names));
        let own = hex::encode(digest(&SHA256, token.text.as_bytes()));
        let committed = self.committed(name);
        checks.push(Check::new(
            "token.digest",
            committed.is_some_and(|digest| digest.eq_ignore_ascii_case(&own)),
            Code::AttestSignatureInvalid,
            own,
            printable(committed),
            EAT,
        ));
        for (check, code, claim) in [
            ("report.nonce", Code::AttestReportDataMismatch, "attestation-report-nonce-match"),
            ("report.signature", Code::AttestSignatureInvalid, "attestation-report-signature-verified"),
        ] {
            let claim = format!("x-nvidia-{}-{claim}", self.request.endpoint);
            let holds = token.claims.get(&claim) == Some(&Value::Bool(true));
            let got = if holds { "true" } else { "not true" };
            checks.push(Check::new(check, holds, code, format!("{claim} is true"), got, EAT));
        }
        checks.push(self.unique(token));
    }

    /// The digest of a device's token that the overall token holds: `["DIGEST", ["SHA-256", hex]]`.
    fn committed(&self, name: &str) -> Option<&str> {
        let submods = self.answer.overall.claims.get("submods")?.as_object()?;
        if submods.len() != self.answer.devices.len() {
            return None;
        }
        match submods.get(name)?.as_array()?.as_slice() {
            [Value::String(kind), Value::Array(digest)] if kind == "DIGEST" => match digest.as_slice() {
                [Value::String(hash), Value::String(hex)]
                    if matches!(hash.as_str(), "SHA-256" | "SHA256") =>
                {
                    Some(hex)
                }
                _ => None,
            },
            _ => None,
        }
    }

    /// One device must not count as two: their own ids differ.
    fn unique(&self, token: &Token) -> Check {
        let own = token.text("ueid");
        let same = self.answer.devices.values().filter(|other| other.text("ueid") == own).count();
        let alone = same == 1 && (own.is_some() || self.answer.devices.len() == 1);
        Check::new(
            "device.unique",
            alone,
            Code::AttestEvidenceMalformed,
            "a device with an id of its own",
            if alone { "one" } else { "another with the same id, or none" },
            "each report stands for a device of its own",
        )
    }

    fn claims(&self, token: &Token) -> Value {
        const OVERALL: &str = "x-nvidia-overall-att-result";
        let mut claims = token.claims.clone();
        if let Some(result) = self.answer.overall.claims.get(OVERALL) {
            claims.insert(OVERALL.to_owned(), result.clone());
        }
        Value::Object(claims)
    }
}

/// A text of a token, fit to print.
fn printable(text: Option<&str>) -> String {
    let plain = |c: char| if c.is_ascii_graphic() || c == ' ' { c } else { '?' };
    text.map_or("none".to_owned(), |text| text.chars().take(128).map(plain).collect())
}
