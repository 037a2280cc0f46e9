//! One pod's proof against what its owner expects.

use cocoon_attestation::{AppraisalRequest, Binding, Item};
use cocoon_evidence::Check;
use cocoon_protocol::initdata::InitData;
use cocoon_protocol::token::Status;
use cocoon_protocol::{Proof, proof_report_data};
use cocoon_stage::{Code, Failure};
use serde_json::Value;

use super::expected::{Expected, Registered};
use crate::moments;

/// What a proof has shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The TEE.
    pub platform: String,
    pub simulated: bool,
    /// The guest image's measurement, where it is one value.
    pub measurement: Option<String>,
    /// The plan's digest, hex.
    pub plan: String,
    /// Under which name it is registered.
    pub registered: Option<String>,
    /// When, if a newer plan is registered by the same name.
    pub superseded_unix: Option<u64>,
    /// The appraisal.
    pub status: String,
    /// What tells this guest from every other: the report's own id, where the TEE has one.
    pub guest: Option<String>,
}

/// Why a pod is refused: the failure, and every check that was made of its evidence.
#[derive(Clone, Debug)]
pub struct Refusal {
    pub failure: Failure,
    pub checks: Vec<Check>,
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Refusal { failure, checks: Vec::new() }
    }
}

fn refused(code: Code, why: impl Into<String>) -> Refusal {
    Failure::new(code, why).into()
}

/// Whose plan a pod may have.
pub struct Claim<'a> {
    /// The annotation, as the cluster shows it now.
    pub initdata: &'a str,
    /// The name under which the plan of what the pod belongs to is registered.
    pub workload: &'a str,
}

/// The plan that a pod claims, if it may have it; before anything is asked of the pod.
pub fn plan<'e>(
    claim: &Claim<'_>,
    expected: &'e Expected,
    now_unix: u64,
) -> Result<(InitData, &'e Registered), Refusal> {
    let document = InitData::from_annotation(claim.initdata)
        .map_err(|e| refused(Code::InitdataMalformed, format!("the pod's annotation: {e}")))?;
    let digest = hex::encode(document.digest());
    let short = digest.get(..16).unwrap_or_default();
    let Some(registered) = expected.plans.get(&digest) else {
        let whose = if expected.given { "none of those given" } else { "registered for nothing" };
        return Err(refused(Code::VerifyPlanUnknown, format!("its plan {short} is {whose}")));
    };
    if let Some(end) = registered.expires_unix.filter(|end| now_unix >= *end) {
        let why = format!("the registration of its plan {short} ended at {}", moments::shown(end));
        return Err(refused(Code::VerifyPlanUnknown, why));
    }
    match &registered.name {
        Some(name) if name != claim.workload => {
            let why = format!("its plan {short} is registered as {name:?}, not as {:?}", claim.workload);
            Err(refused(Code::VerifyPlanUnknown, why))
        }
        _ => Ok((document, registered)),
    }
}

/// Judges the answer to a nonce.
pub fn judge(
    proof: &Proof,
    nonce: &[u8],
    (document, registered): (&InitData, &Registered),
    expected: &Expected,
    now_unix: u64,
) -> Result<Facts, Refusal> {
    let report_data = proof_report_data(nonce);
    let item = Item {
        tee: proof.tee,
        evidence: &proof.evidence,
        report_data: Some(&report_data),
        init_data: Binding::Document(document),
        runtime_data: None,
        activated: None,
    };
    let request = AppraisalRequest { items: vec![item], policy_id: "default", now_unix };
    let appraisal = expected.appraiser.appraise(&request).map_err(Failure::from)?;
    let checks = appraisal.checks;
    let with = |failure: Failure| Refusal { failure, checks: checks.clone() };
    let submods = appraisal.outcome.map_err(&with)?;
    let digest = hex::encode(document.digest());
    // A TEE that binds no plan, such as a device alone, proves none.
    let bound = appraisal.init_data.as_deref().is_some_and(|got| binds(got, &digest));
    let Some(submod) = submods.get("cpu0").filter(|_| bound) else {
        let why = format!("evidence of {} does not bind the plan", proof.tee);
        return Err(with(Failure::new(Code::AttestInitdataMismatch, why)));
    };
    let status = submods.values().map(|s| s.status).max().unwrap_or_default();
    if !(Status::Affirming..=registered.least).contains(&status) {
        let why = format!("the appraisal is {status}; at least {} is asked for", registered.least);
        return Err(with(Failure::new(Code::VerifyStatusLow, why)));
    }
    if appraisal.simulated && !registered.simulated {
        let why = "the registration of its plan accepts no simulated TEE";
        return Err(with(Failure::new(Code::AttestSimulatedRefused, why)));
    }
    let evidence = submod.annotated_evidence.get(proof.tee.name()).unwrap_or(&Value::Null);
    let claim = |name: &str| evidence.get(name).and_then(Value::as_str).map(str::to_owned);
    Ok(Facts {
        platform: proof.tee.to_string(),
        simulated: appraisal.simulated,
        measurement: claim("measurement").or_else(|| claim("mr_td")),
        superseded_unix: superseded(&digest, registered, expected),
        registered: registered.name.clone(),
        plan: digest,
        status: status.to_string(),
        guest: claim("report_id"),
    })
}

/// Whether what the hardware holds is the digest: a longer field pads it with zeros, a shorter one (of 32 bytes at least) has
/// its beginning.
fn binds(got: &str, digest: &str) -> bool {
    let padded = got.strip_prefix(digest).is_some_and(|rest| rest.bytes().all(|b| b == b'0'));
    padded || (got.len() >= 64 && digest.starts_with(got))
}

/// When the plan was registered, if another was later by the same name.
fn superseded(digest: &str, registered: &Registered, expected: &Expected) -> Option<u64> {
    let name = registered.name.as_ref()?;
    let newer = |(other, plan): (&String, &Registered)| {
        other != digest && plan.name.as_ref() == Some(name) && plan.at_unix > registered.at_unix
    };
    expected.plans.iter().any(newer).then_some(registered.at_unix)
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
