//! Rego policies: stored in versions, tried before they take effect, rolled back.

use std::time::{Duration, Instant};

use cocoon_policy::{
    Compiled, Kind, PolicyVersion, RESOURCE_POLICY_ID, RESOURCE_SAMPLES, default_policy, resource_sample,
};
use cocoon_stage::{Code, Failure};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Answer, Call, Refusal, missing, refusal};
use crate::Trustee;
use crate::reply::Variant::PolicyEngineError;

/// After this time a dry run ends with what it has: a slow policy on many verdicts would outlast its request.
const DRY_RUN_TIME: Duration = Duration::from_secs(8);

/// A policy on the wire.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WirePolicy {
    /// Rego text.
    policy: String,
    #[serde(default)]
    note: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Choice {
    version: u64,
}

fn failed(error: impl Into<crate::Error>) -> Refusal {
    refusal(PolicyEngineError, error)
}

/// The resource policy has an id of its own; every other policy judges attestations.
fn kind(id: &str) -> Kind {
    if id == RESOURCE_POLICY_ID { Kind::Resource } else { Kind::Attestation }
}

fn shown(version: &PolicyVersion) -> Value {
    json!({
        "id": version.id,
        "kind": version.kind.name(),
        "version": version.version,
        "sha256": version.sha256,
        "size": version.size,
        "author": version.author,
        "note": version.note,
        "created_unix": version.created_unix,
        "active": version.active,
    })
}

impl Trustee {
    /// Checks and stores a policy, which then is in force.
    pub(crate) fn put_policy(
        &self,
        id: &str,
        text: &str,
        author: &str,
        note: &str,
    ) -> Result<PolicyVersion, crate::Error> {
        if self.policies().history(id)?.is_empty() {
            self.quota("policies", |q| q.policies, || Ok((self.policies().list()?.len(), 1)))?;
        }
        Ok(self.policies().put(id, kind(id), text, author, note, self.inner.now())?)
    }
}

pub(super) fn list(t: &Trustee, call: &Call) -> Answer {
    let all = t.policies().list().map_err(failed)?;
    call.ok(&all.iter().map(shown).collect::<Vec<_>>())
}

pub(super) fn put(t: &Trustee, call: &Call) -> Answer {
    let wire: WirePolicy = call.json()?;
    let stored =
        t.put_policy(call.param("id"), &wire.policy, &call.admin.name, &wire.note).map_err(failed)?;
    tracing::info!(request_id = %call.id, id = %stored.id, version = stored.version, "policy set");
    call.ok(&shown(&stored))
}

pub(super) fn get(t: &Trustee, call: &Call) -> Answer {
    let id = call.param("id");
    let wanted = match call.number("version")? {
        Some(version) => version,
        None => {
            let history = t.policies().history(id).map_err(failed)?;
            history.iter().find(|v| v.active).ok_or_else(missing)?.version
        }
    };
    let (version, text) = t.policies().get(id, wanted).map_err(failed)?.ok_or_else(missing)?;
    let mut answer = shown(&version);
    if let Some(members) = answer.as_object_mut() {
        members.insert("policy".into(), text.into());
    }
    call.ok(&answer)
}

pub(super) fn history(t: &Trustee, call: &Call) -> Answer {
    let history = t.policies().history(call.param("id")).map_err(failed)?;
    if history.is_empty() {
        return Err(missing());
    }
    call.ok(&history.iter().map(shown).collect::<Vec<_>>())
}

pub(super) fn activate(t: &Trustee, call: &Call) -> Answer {
    let choice: Choice = call.json()?;
    let active = t.policies().activate(call.param("id"), choice.version).map_err(failed)?;
    tracing::info!(request_id = %call.id, id = %active.id, version = active.version, "policy activated");
    call.ok(&shown(&active))
}

pub(super) fn delete(t: &Trustee, call: &Call) -> Answer {
    call.done_if(t.policies().delete(call.param("id")).map_err(failed)?)
}

/// Evaluates a policy on what policies were asked lately; nothing changes. For an attestation policy the answer is the
/// appraisal, for the resource policy whether it would have allowed each secret that was asked for lately.
pub(super) fn dry_run(t: &Trustee, call: &Call) -> Answer {
    let wire: WirePolicy = call.json()?;
    let id = call.param("id");
    let compiled = Compiled::new(kind(id), &wire.policy).map_err(failed)?;
    let limit = call.number("limit")?.unwrap_or(20).min(200);
    let runs = match kind(id) {
        Kind::Attestation => attestations(t, call, &compiled, id, limit)?,
        Kind::Resource => resources(t, call, &compiled, limit)?,
    };
    call.ok(&json!({ "runs": runs }))
}

fn attestations(
    t: &Trustee,
    call: &Call,
    compiled: &Compiled,
    id: &str,
    limit: usize,
) -> Result<Vec<Value>, Refusal> {
    let judge = t.inner.judge();
    let seen = t.inner.explanations.with_inputs(limit).map_err(failed)?;
    let begun = Instant::now();
    let mut runs = Vec::new();
    for verdict in &seen {
        for (class, input) in &verdict.inputs {
            if !id.ends_with(&format!("_{class}")) {
                continue;
            }
            if begun.elapsed() > DRY_RUN_TIME {
                return Ok(runs);
            }
            let outcome = judge.appraiser.dry_run(compiled, input, verdict.simulated, call.now);
            runs.push(match outcome {
                Ok((vector, extensions)) => json!({
                    "request_id": verdict.request_id,
                    "status": vector.status(),
                    "trustworthiness-vector": vector,
                    "extensions": extensions,
                }),
                Err(failure) => failed_run(&verdict.request_id, &failure),
            });
        }
    }
    Ok(runs)
}

fn resources(t: &Trustee, call: &Call, compiled: &Compiled, limit: usize) -> Result<Vec<Value>, Refusal> {
    use cocoon_release::Subject;
    let verdicts = t.latest_explanations(1000).map_err(failed)?;
    // What a policy reads of a token beside the evidence is not kept; the newest evidence of the same plan stands in.
    let inputs = t.inner.explanations.with_inputs(200).map_err(failed)?;
    let begun = Instant::now();
    let mut runs = Vec::new();
    for verdict in verdicts {
        let Subject::Release { path } = &verdict.subject else { continue };
        let Some(seen) = inputs.iter().find(|seen| seen.init_data == verdict.init_data) else { continue };
        let submods: serde_json::Map<String, Value> = seen
            .inputs
            .iter()
            .map(|(class, input)| {
                let status = if seen.code.is_none() { "affirming" } else { "contraindicated" };
                (format!("{class}0"), json!({"ear.status": status, "ear.veraison.annotated-evidence": input}))
            })
            .collect();
        let data = json!({
            "plugin": "resource",
            "resource-path": path.split('/').collect::<Vec<_>>(),
            "query": {},
        });
        runs.push(match compiled.resource(&data, &json!({ "submods": submods })) {
            Ok(allow) => json!({"request_id": verdict.request_id, "path": path, "allow": allow}),
            Err(error) => failed_run(&verdict.request_id, &Failure::from(error)),
        });
        if runs.len() >= limit || begun.elapsed() > DRY_RUN_TIME {
            break;
        }
    }
    tracing::debug!(request_id = %call.id, runs = runs.len(), "resource policy tried");
    Ok(runs)
}

fn failed_run(request_id: &str, failure: &Failure) -> Value {
    json!({"request_id": request_id, "code": failure.code, "reason": failure.reason})
}

pub(super) fn defaults(_: &Trustee, call: &Call) -> Answer {
    let classes = ["cpu", "gpu", "switch", "ppcie", "dcu", "nvidia-dpu"];
    let attestation = classes
        .iter()
        .filter_map(|class| Some((format!("default_{class}"), Value::from(default_policy(class)?))));
    let resource = RESOURCE_SAMPLES.iter().filter_map(|name| {
        Some((format!("{RESOURCE_POLICY_ID}:{name}"), Value::from(resource_sample(name)?)))
    });
    call.ok(&attestation.chain(resource).collect::<serde_json::Map<_, _>>())
}

/// A policy that its owner could not have meant to store.
pub(super) fn invalid(reason: impl Into<String>) -> Refusal {
    Refusal::coded(PolicyEngineError, Code::PolicyInvalid, reason).with_status(http::StatusCode::BAD_REQUEST)
}
