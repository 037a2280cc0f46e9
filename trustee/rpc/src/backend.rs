//! The work behind the interfaces, which the server does.

use std::collections::BTreeMap;

use async_trait::async_trait;
use serde_json::Value;

use crate::{Peer, RpcFailure};

/// Data that the evidence's report data is bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Runtime {
    /// Bytes that are the report data themselves; at most 4096.
    Raw(Vec<u8>),
    /// JSON whose canonical form is hashed into the report data.
    Structured(Value),
}

/// Data that the evidence's host data is bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InitData {
    /// Its digest; at most 64 bytes.
    Digest(Vec<u8>),
    /// The document itself, TOML; at most 1 MiB.
    Toml(String),
}

/// Evidence of one TEE or device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Individual {
    /// A name that `cocoon_protocol::Tee` knows, in its present spelling.
    pub tee: String,
    /// The evidence.
    pub evidence: Value,
    /// What the report data is bound to.
    pub runtime: Option<Runtime>,
    /// What the host data is bound to.
    pub init_data: Option<InitData>,
    /// The hash of structured runtime data: `sha256`, `sha384` (the default), `sha512` or `sm3`.
    pub hash: String,
}

/// Evidence to appraise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EvaluateRequest {
    /// 1 to 32 pieces of evidence, the CPU's and its devices'.
    pub requests: Vec<Individual>,
    /// 1 to 16 names of policies; `default` if the caller named none.
    pub policy_ids: Vec<String>,
}

/// What the server does for recognised callers.
///
/// Arguments are decoded and bounded, not otherwise checked. Policy ids and reference value ids are 1 to 256
/// characters without control characters; policy ids are also without `/` and do not start with a dot. A call's
/// future may be dropped at any await when its caller leaves or its time is up.
///
/// # Errors
/// Every method fails with an [`RpcFailure`] that is meant for the caller.
#[async_trait]
pub trait AttestationBackend: Send + Sync + 'static {
    /// Appraises evidence; gives the token, a JWT.
    async fn evaluate(&self, caller: &Peer, request: EvaluateRequest) -> Result<String, RpcFailure>;

    /// Sets an attestation policy; `text` is Rego, at most 1 MiB.
    async fn set_policy(&self, caller: &Peer, id: &str, text: &str) -> Result<(), RpcFailure>;

    /// The ids of the attestation policies.
    async fn list_policies(&self, caller: &Peer) -> Result<Vec<String>, RpcFailure>;

    /// An attestation policy's text, if there is one.
    async fn get_policy(&self, caller: &Peer, id: &str) -> Result<Option<String>, RpcFailure>;

    /// A challenge for a guest; upstream's parameters are `tee` and `tee_params`. At most 16, 64 KiB each.
    async fn challenge(
        &self,
        caller: &Peer,
        parameters: BTreeMap<String, String>,
    ) -> Result<String, RpcFailure>;

    /// A reference value, if there is one.
    async fn query_reference_value(&self, caller: &Peer, id: &str) -> Result<Option<Value>, RpcFailure>;

    /// Registers reference values; `message` is upstream's RVPS message, JSON text of at most 1 MiB.
    async fn register_reference_value(&self, caller: &Peer, message: String) -> Result<(), RpcFailure>;

    /// The public keys that verify tokens, as a JWK set. Served to everybody.
    fn jwks(&self) -> Value;
}
