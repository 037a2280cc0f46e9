//! Package `attestation`.

use std::collections::BTreeMap;

/// `AttestationRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct AttestationRequest {
    #[prost(message, repeated, tag = "1")]
    pub verification_requests: Vec<IndividualRequest>,
    #[prost(string, repeated, tag = "2")]
    pub policy_ids: Vec<String>,
}

/// `IndividualAttestationRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct IndividualRequest {
    #[prost(string, tag = "1")]
    pub tee: String,
    /// The evidence's JSON in base64url.
    #[prost(string, tag = "3")]
    pub evidence: String,
    #[prost(oneof = "RuntimeField", tags = "4, 5")]
    pub runtime_data: Option<RuntimeField>,
    #[prost(oneof = "InitDataField", tags = "6, 7")]
    pub init_data: Option<InitDataField>,
    #[prost(string, tag = "8")]
    pub runtime_data_hash_algorithm: String,
}

/// `IndividualAttestationRequest.runtime_data`.
#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum RuntimeField {
    /// Base64url.
    #[prost(string, tag = "4")]
    Raw(String),
    /// JSON text.
    #[prost(string, tag = "5")]
    Structured(String),
}

/// `IndividualAttestationRequest.init_data`.
#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum InitDataField {
    /// Base64url.
    #[prost(string, tag = "6")]
    Digest(String),
    #[prost(string, tag = "7")]
    Toml(String),
}

/// `AttestationResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct AttestationResponse {
    #[prost(string, tag = "1")]
    pub attestation_token: String,
}

/// `SetPolicyRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct SetPolicyRequest {
    #[prost(string, tag = "1")]
    pub policy_id: String,
    /// Rego in base64url.
    #[prost(string, tag = "2")]
    pub policy: String,
}

/// `ChallengeRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ChallengeRequest {
    #[prost(btree_map = "string, string", tag = "1")]
    pub inner: BTreeMap<String, String>,
}

/// `ChallengeResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ChallengeResponse {
    #[prost(string, tag = "1")]
    pub attestation_challenge: String,
}
