//! A verification service that admits everybody and answers everything.

use std::collections::BTreeMap;

use async_trait::async_trait;
use cocoon_rpc::{
    AttestationBackend, Authenticate, Credentials, EvaluateRequest, Operation, Peer, RpcFailure,
};
use serde_json::{Value, json};

/// Both the service and who admits its callers.
pub struct Backend;

#[async_trait]
impl Authenticate for Backend {
    async fn authenticate(&self, credentials: &Credentials, _: Operation) -> Result<Peer, RpcFailure> {
        Ok(Peer { name: "somebody".into(), tenant: None, remote: credentials.remote })
    }
}

#[async_trait]
impl AttestationBackend for Backend {
    async fn evaluate(&self, _: &Peer, request: EvaluateRequest) -> Result<String, RpcFailure> {
        Ok(format!("{} {}", request.requests.len(), request.policy_ids.len()))
    }

    async fn set_policy(&self, _: &Peer, id: &str, _: &str) -> Result<(), RpcFailure> {
        assert!(!id.is_empty() && !id.contains(['/', '\\']), "an id that is a path: {id:?}");
        Ok(())
    }

    async fn list_policies(&self, _: &Peer) -> Result<Vec<String>, RpcFailure> {
        Ok(vec!["default".into()])
    }

    async fn get_policy(&self, _: &Peer, id: &str) -> Result<Option<String>, RpcFailure> {
        Ok((id.len() % 2 == 0).then(|| id.to_owned()))
    }

    async fn challenge(&self, _: &Peer, parameters: BTreeMap<String, String>) -> Result<String, RpcFailure> {
        Ok(parameters.into_values().collect())
    }

    async fn query_reference_value(&self, _: &Peer, id: &str) -> Result<Option<Value>, RpcFailure> {
        Ok((id.len() % 2 == 0).then(|| json!([id])))
    }

    async fn register_reference_value(&self, _: &Peer, _: String) -> Result<(), RpcFailure> {
        Ok(())
    }

    fn jwks(&self) -> Value {
        json!({ "keys": [] })
    }
}
