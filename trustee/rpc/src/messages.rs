//! The protobuf messages, written by hand; field numbers are upstream's. Golden bytes are in `golden_tests`.

mod attestation;
#[cfg(test)]
mod golden_tests;
mod health;
mod key_provider;
mod plugin;
mod reference;

pub(crate) use attestation::{
    AttestationRequest, AttestationResponse, ChallengeRequest, ChallengeResponse, IndividualRequest,
    InitDataField, RuntimeField, SetPolicyRequest,
};
pub(crate) use health::{HealthCheckRequest, HealthCheckResponse, SERVING};
pub(crate) use key_provider::KeyProviderMessage;
pub(crate) use plugin::{NeedsEncryptionResponse, PluginRequest, PluginResponse, ValidateAuthResponse};
pub(crate) use reference::{QueryRequest, QueryResponse, RegisterRequest};

/// A message without fields: the answer of `SetAttestationPolicy` and `RegisterReferenceValue`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Nothing {}
