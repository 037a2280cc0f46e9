//! A client of the attestation service: this one's or upstream's.

use std::collections::BTreeMap;

use cocoon_protocol::b64;
use serde_json::Value;

use super::channel::Channel;
use super::endpoint::Endpoint;
use crate::messages::{
    AttestationRequest, AttestationResponse, ChallengeRequest, ChallengeResponse, HealthCheckRequest,
    HealthCheckResponse, IndividualRequest, InitDataField, Nothing, QueryRequest, QueryResponse,
    RegisterRequest, RuntimeField, SERVING, SetPolicyRequest,
};
use crate::{Error, EvaluateRequest, Individual, InitData, Operation, Runtime, json};

/// Most bytes of a message, either way.
const MAX_MESSAGE: usize = 4 << 20;

/// An attestation service that is called over gRPC.
///
/// # Errors
/// Of each call: [`Error::Unreachable`], [`Error::Deadline`], [`Error::TooLarge`], [`Error::Protocol`],
/// [`Error::Status`].
pub struct AttestationClient {
    channel: Channel,
}

impl AttestationClient {
    /// Checks the settings; `bearer` is shown with each call. The connection is made with the first call.
    ///
    /// # Errors
    /// [`Error::Endpoint`].
    pub fn connect(endpoint: Endpoint, bearer: Option<&str>) -> Result<Self, Error> {
        let mut channel = Channel::new(endpoint, MAX_MESSAGE)?;
        if let Some(bearer) = bearer {
            channel.set_bearer(bearer)?;
        }
        Ok(AttestationClient { channel })
    }

    /// Has evidence appraised; gives the token.
    pub async fn evaluate(&self, request: EvaluateRequest) -> Result<String, Error> {
        let EvaluateRequest { requests, policy_ids } = request;
        let verification_requests = requests.into_iter().map(to_wire).collect();
        let message = AttestationRequest { verification_requests, policy_ids };
        let answer: AttestationResponse = self.call(Operation::Evaluate, &message).await?;
        Ok(answer.attestation_token)
    }

    /// Sets an attestation policy, Rego.
    pub async fn set_policy(&self, id: &str, text: &str) -> Result<(), Error> {
        let message = SetPolicyRequest { policy_id: id.to_owned(), policy: b64::url_encode(text.as_bytes()) };
        let Nothing {} = self.call(Operation::SetPolicy, &message).await?;
        Ok(())
    }

    /// A challenge; upstream's parameters are `tee` and `tee_params`.
    pub async fn challenge(&self, parameters: BTreeMap<String, String>) -> Result<String, Error> {
        let answer: ChallengeResponse =
            self.call(Operation::Challenge, &ChallengeRequest { inner: parameters }).await?;
        Ok(answer.attestation_challenge)
    }

    /// A reference value, if there is one.
    pub async fn query_reference_value(&self, id: &str) -> Result<Option<Value>, Error> {
        let message = QueryRequest { reference_value_id: id.to_owned() };
        let answer: QueryResponse = self.call(Operation::QueryReference, &message).await?;
        let parse = |text: String| {
            json::parse(text.as_bytes())
                .ok_or_else(|| self.channel.protocol("a reference value that is not JSON"))
        };
        answer.reference_value_results.map(parse).transpose()
    }

    /// Registers reference values; `message` is upstream's RVPS message, JSON text.
    pub async fn register_reference_value(&self, message: String) -> Result<(), Error> {
        let Nothing {} = self.call(Operation::RegisterReference, &RegisterRequest { message }).await?;
        Ok(())
    }

    /// Whether the service says that it serves.
    pub async fn healthy(&self) -> Result<bool, Error> {
        let message = HealthCheckRequest { service: "attestation.AttestationService".into() };
        let answer: HealthCheckResponse =
            self.channel.unary("/grpc.health.v1.Health/Check", &message).await?;
        Ok(answer.status == SERVING)
    }

    async fn call<A: prost::Message + Default>(
        &self,
        operation: Operation,
        message: &impl prost::Message,
    ) -> Result<A, Error> {
        let path = operation.grpc_path().ok_or_else(|| self.channel.protocol("no such method in gRPC"))?;
        self.channel.unary(path, message).await
    }
}

fn to_wire(individual: Individual) -> IndividualRequest {
    IndividualRequest {
        tee: individual.tee,
        evidence: b64::url_encode(individual.evidence.to_string().as_bytes()),
        runtime_data: individual.runtime.map(|runtime| match runtime {
            Runtime::Raw(bytes) => RuntimeField::Raw(b64::url_encode(&bytes)),
            Runtime::Structured(value) => RuntimeField::Structured(value.to_string()),
        }),
        init_data: individual.init_data.map(|data| match data {
            InitData::Digest(bytes) => InitDataField::Digest(b64::url_encode(&bytes)),
            InitData::Toml(text) => InitDataField::Toml(text),
        }),
        runtime_data_hash_algorithm: individual.hash,
    }
}
