//! The JSON bodies of REST (upstream's `restful-as`). Unknown members are refused: a misspelt binding must not
//! pass as an absent one.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::{EvaluateRequest, Individual, RpcFailure, Runtime, decode};

/// Body of `POST /attestation`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AttestationBody {
    verification_requests: Vec<IndividualBody>,
    #[serde(default)]
    policy_ids: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct IndividualBody {
    tee: String,
    evidence: String,
    #[serde(default)]
    runtime_data: Option<RuntimeBody>,
    #[serde(default)]
    init_data: Option<InitDataBody>,
    #[serde(default)]
    runtime_data_hash_algorithm: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum RuntimeBody {
    Raw(String),
    Structured(Value),
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum InitDataBody {
    InitDataDigest(String),
    InitDataToml(String),
}

impl AttestationBody {
    /// The typed request.
    pub fn decode(self) -> Result<EvaluateRequest, RpcFailure> {
        let requests = self.verification_requests.into_iter().map(IndividualBody::decode);
        decode::bounded(requests.collect::<Result<_, _>>()?, self.policy_ids)
    }
}

impl IndividualBody {
    fn decode(self) -> Result<Individual, RpcFailure> {
        let runtime = match self.runtime_data {
            None => None,
            Some(RuntimeBody::Raw(text)) => Some(decode::raw_runtime(&text)?),
            Some(RuntimeBody::Structured(value)) => Some(Runtime::Structured(value)),
        };
        let init_data = match self.init_data {
            None => None,
            Some(InitDataBody::InitDataDigest(text)) => Some(decode::init_digest(&text)?),
            Some(InitDataBody::InitDataToml(text)) => Some(decode::init_toml(text)?),
        };
        let hash = self.runtime_data_hash_algorithm.unwrap_or_default();
        decode::individual(&self.tee, &self.evidence, runtime, init_data, &hash)
    }
}

/// Body of `POST /policy`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PolicyBody {
    /// The policy's id.
    pub policy_id: String,
    /// Rego in base64url.
    pub policy: String,
}

/// The parameters in the body of `POST /challenge`, an object; values that are no strings count as their JSON text.
pub(crate) fn challenge(body: BTreeMap<String, Value>) -> Result<BTreeMap<String, String>, RpcFailure> {
    let text = |value: Value| match value {
        Value::String(text) => text,
        other => other.to_string(),
    };
    decode::parameters(body.into_iter().map(|(key, value)| (key, text(value))).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::InitData;

    fn decoded(body: Value) -> Result<EvaluateRequest, String> {
        let body: AttestationBody = serde_json::from_value(body).map_err(|e| e.to_string())?;
        body.decode().map_err(|f| f.message)
    }

    #[test]
    fn upstreams_bodies_are_read() {
        let body = json!({"verification_requests": [
            {"tee": "tpm", "evidence": "e30", "runtime_data": {"raw": "AA"}, "init_data": {"init_data_digest": "AQ"},
             "runtime_data_hash_algorithm": "sha512"},
            {"tee": "nvidia", "evidence": "e30", "runtime_data": {"structured": {"a": 1}},
             "init_data": {"init_data_toml": "x = 1"}},
            {"tee": "sample", "evidence": "e30", "runtime_data": null, "init_data": null},
        ], "policy_ids": []});
        let request = decoded(body).unwrap();
        assert_eq!(request.policy_ids, ["default"]);
        assert_eq!(request.requests[0].runtime, Some(Runtime::Raw(vec![0])));
        assert_eq!(request.requests[0].init_data, Some(InitData::Digest(vec![1])));
        assert_eq!(request.requests[0].hash, "sha512");
        assert_eq!(request.requests[1].runtime, Some(Runtime::Structured(json!({"a": 1}))));
        assert_eq!(request.requests[1].init_data, Some(InitData::Toml("x = 1".into())));
        assert_eq!((&request.requests[2].runtime, &request.requests[2].init_data), (&None, &None));
    }

    #[test]
    fn other_bodies_are_refused() {
        let with = |member: &str, value: Value| {
            let mut individual = json!({"tee": "snp", "evidence": "e30"});
            individual[member] = value;
            decoded(json!({"verification_requests": [individual]}))
        };
        with("tee", json!("tdx")).unwrap();
        assert!(with("init_daat", json!({})).is_err());
        assert!(with("runtime_data", json!({"raw": "AA", "structured": {}})).is_err());
        assert!(with("runtime_data", json!({"cooked": "AA"})).is_err());
        assert!(with("init_data", json!("AA")).is_err());
        assert!(with("evidence", json!({})).is_err());
        assert!(decoded(json!({"policy_ids": []})).is_err());
        assert!(decoded(json!([])).is_err());
    }

    #[test]
    fn parameters_may_be_objects() {
        let body = [("tee".to_owned(), json!("tdx")), ("tee_params".to_owned(), json!({"a": 1}))].into();
        assert_eq!(challenge(body).unwrap()["tee_params"], r#"{"a":1}"#);
    }
}
