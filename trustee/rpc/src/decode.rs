//! From the text fields of messages to typed arguments, and their bounds. gRPC and REST share it.

use std::collections::BTreeMap;

use cocoon_protocol::{Tee, b64};
use cocoon_stage::Code;
use serde_json::Value;

use crate::messages::{AttestationRequest, IndividualRequest, InitDataField, RuntimeField};
use crate::{EvaluateRequest, GrpcCode, Individual, InitData, RpcFailure, Runtime, json};

const MAX_INDIVIDUALS: usize = 32;
const MAX_POLICIES: usize = 16;
const MAX_ID: usize = 256;
const MAX_RAW: usize = 4096;
const MAX_DIGEST: usize = 64;
const MAX_TEXT: usize = 1 << 20;
const MAX_PARAMETERS: usize = 16;
const MAX_PARAMETER: usize = 64 * 1024;
const HASHES: [&str; 4] = ["sha256", "sha384", "sha512", "sm3"];

fn bad(what: &str, why: &str) -> RpcFailure {
    RpcFailure::malformed(format!("{what} {why}"))
}

/// An [`EvaluateRequest`] of gRPC's message.
pub(crate) fn evaluate(message: AttestationRequest) -> Result<EvaluateRequest, RpcFailure> {
    let each = message.verification_requests.into_iter().map(from_wire);
    bounded(each.collect::<Result<_, _>>()?, message.policy_ids)
}

fn from_wire(message: IndividualRequest) -> Result<Individual, RpcFailure> {
    let runtime = match message.runtime_data {
        None => None,
        Some(RuntimeField::Raw(text)) => Some(raw_runtime(&text)?),
        Some(RuntimeField::Structured(text)) => {
            let value =
                json::parse(text.as_bytes()).ok_or_else(|| bad("structured_runtime_data", "is not JSON"))?;
            Some(Runtime::Structured(value))
        }
    };
    let init_data = match message.init_data {
        None => None,
        Some(InitDataField::Digest(text)) => Some(init_digest(&text)?),
        Some(InitDataField::Toml(text)) => Some(init_toml(text)?),
    };
    individual(&message.tee, &message.evidence, runtime, init_data, &message.runtime_data_hash_algorithm)
}

/// Checks the counts and names of a request; an empty list of policies means `default`.
pub(crate) fn bounded(
    requests: Vec<Individual>,
    mut policy_ids: Vec<String>,
) -> Result<EvaluateRequest, RpcFailure> {
    if requests.is_empty() || requests.len() > MAX_INDIVIDUALS {
        return Err(bad("verification_requests", "must be 1 to 32"));
    }
    if policy_ids.len() > MAX_POLICIES {
        return Err(bad("policy_ids", "must be at most 16"));
    }
    policy_ids.iter().try_for_each(|id| policy_id(id))?;
    if policy_ids.is_empty() {
        policy_ids.push("default".into());
    }
    Ok(EvaluateRequest { requests, policy_ids })
}

/// One piece of evidence; `evidence` is base64url, an empty `hash` means sha384.
pub(crate) fn individual(
    tee: &str,
    evidence: &str,
    runtime: Option<Runtime>,
    init_data: Option<InitData>,
    hash: &str,
) -> Result<Individual, RpcFailure> {
    let tee = tee.parse::<Tee>().map_err(|_| bad("tee", "is not the name of a TEE"))?.name().to_owned();
    let evidence =
        b64::url_decode(evidence).map_err(|_| bad("evidence", "is not base64url without padding"))?;
    let evidence =
        json::parse(&evidence).ok_or_else(|| bad("evidence", "is not JSON, or has too many parts"))?;
    let hash = if hash.is_empty() { "sha384" } else { hash };
    let hash = HASHES.iter().find(|known| known.eq_ignore_ascii_case(hash));
    let hash =
        hash.ok_or_else(|| bad("runtime_data_hash_algorithm", "is none of sha256, sha384, sha512, sm3"))?;
    Ok(Individual { tee, evidence, runtime, init_data, hash: (*hash).to_owned() })
}

/// Base64url of at most 4096 bytes.
pub(crate) fn raw_runtime(text: &str) -> Result<Runtime, RpcFailure> {
    decoded("raw runtime data", text, MAX_RAW).map(Runtime::Raw)
}

/// Base64url of at most 64 bytes.
pub(crate) fn init_digest(text: &str) -> Result<InitData, RpcFailure> {
    decoded("init_data_digest", text, MAX_DIGEST).map(InitData::Digest)
}

/// TOML of at most 1 MiB; whether it is TOML is the backend's to see.
pub(crate) fn init_toml(text: String) -> Result<InitData, RpcFailure> {
    if text.len() > MAX_TEXT {
        Err(bad("init_data_toml", "is larger than 1 MiB"))
    } else {
        Ok(InitData::Toml(text))
    }
}

fn decoded(what: &str, text: &str, limit: usize) -> Result<Vec<u8>, RpcFailure> {
    let bytes = if text.len() > 2 * limit { None } else { b64::url_decode(text).ok() };
    bytes
        .filter(|bytes| bytes.len() <= limit)
        .ok_or_else(|| bad(what, &format!("is not base64url without padding of at most {limit} bytes")))
}

/// Checks a policy's id: it may become part of a file name.
pub(crate) fn policy_id(id: &str) -> Result<(), RpcFailure> {
    name("policy_id", id)?;
    if id.contains(['/', '\\']) || id.starts_with('.') {
        return Err(bad("policy_id", "may not hold a slash or start with a dot"));
    }
    Ok(())
}

/// Checks a reference value's id.
pub(crate) fn reference_id(id: &str) -> Result<(), RpcFailure> {
    name("reference_value_id", id)
}

fn name(what: &str, id: &str) -> Result<(), RpcFailure> {
    if id.is_empty() || id.chars().count() > MAX_ID || id.chars().any(char::is_control) {
        return Err(bad(what, "must be 1 to 256 characters without control characters"));
    }
    Ok(())
}

/// A policy's text from its base64url.
pub(crate) fn policy_text(policy: &str) -> Result<String, RpcFailure> {
    let wrong = |why: &str| RpcFailure::new(Code::PolicyInvalid, GrpcCode::InvalidArgument, why);
    if policy.len() > 2 * MAX_TEXT {
        return Err(wrong("policy is larger than 1 MiB"));
    }
    let bytes = b64::url_decode(policy).map_err(|_| wrong("policy is not base64url without padding"))?;
    let text = String::from_utf8(bytes).map_err(|_| wrong("policy is not UTF-8"))?;
    if text.len() > MAX_TEXT { Err(wrong("policy is larger than 1 MiB")) } else { Ok(text) }
}

/// Checks a challenge's parameters.
pub(crate) fn parameters(given: BTreeMap<String, String>) -> Result<BTreeMap<String, String>, RpcFailure> {
    if given.len() > MAX_PARAMETERS {
        return Err(bad("challenge", "has more than 16 parameters"));
    }
    for (key, value) in &given {
        name("a parameter's name", key)?;
        if value.len() > MAX_PARAMETER {
            return Err(bad("a parameter", "is larger than 64 KiB"));
        }
    }
    if let Some(tee) = given.get("tee") {
        tee.parse::<Tee>().map_err(|_| bad("tee", "is not the name of a TEE"))?;
    }
    Ok(given)
}

/// Checks the size and form of a message about reference values.
pub(crate) fn reference_message(message: String) -> Result<String, RpcFailure> {
    if message.len() > MAX_TEXT || json::parse::<Value>(message.as_bytes()).is_none() {
        let why = "message is not JSON of at most 1 MiB";
        return Err(RpcFailure::new(Code::ReferenceInvalid, GrpcCode::InvalidArgument, why));
    }
    Ok(message)
}

#[cfg(test)]
#[path = "decode_tests.rs"]
mod tests;
