//! The attestation agent.

use std::sync::Arc;

use async_trait::async_trait;
use cocoon_attest::Aael;
use cocoon_datahub::DataHub;
use cocoon_services_api::attestation_agent::{
    ExtendRuntimeMeasurementRequest, ExtendRuntimeMeasurementResponse, GetAdditionalEvidenceRequest,
    GetAdditionalTeesRequest, GetAdditionalTeesResponse, GetEvidenceRequest, GetEvidenceResponse,
    GetTeeTypeRequest, GetTeeTypeResponse, GetTokenRequest, GetTokenResponse, RuntimeMeasurementResult,
};
use cocoon_services_api::attestation_agent_ttrpc::AttestationAgentService;
use cocoon_stage::{Code, Failure};
use ttrpc::r#async::TtrpcContext;

use crate::told;

pub(crate) struct Agent(pub(crate) Arc<DataHub>);

#[async_trait]
impl AttestationAgentService for Agent {
    /// Evidence of the platform over these bytes, which are the report data itself.
    async fn get_evidence(
        &self,
        _: &TtrpcContext,
        req: GetEvidenceRequest,
    ) -> ttrpc::Result<GetEvidenceResponse> {
        let evidence = self.0.attester().evidence(&req.RuntimeData).await.map_err(|f| told(&f))?;
        Ok(GetEvidenceResponse { Evidence: evidence.to_string().into_bytes(), ..Default::default() })
    }

    /// There are no further devices.
    async fn get_additional_evidence(
        &self,
        _: &TtrpcContext,
        _: GetAdditionalEvidenceRequest,
    ) -> ttrpc::Result<GetEvidenceResponse> {
        Ok(GetEvidenceResponse::default())
    }

    /// Trustee's token with the key that it speaks of (`kbs`).
    async fn get_token(&self, _: &TtrpcContext, req: GetTokenRequest) -> ttrpc::Result<GetTokenResponse> {
        if req.TokenType != "kbs" {
            let why = format!(
                "token type {:?}: only kbs is known",
                req.TokenType.chars().take(40).collect::<String>()
            );
            return Err(told(&Failure::new(Code::AttestProtocol, why)));
        }
        let (token, key) = self.0.token_and_key().await.map_err(|f| told(&f))?;
        let text = serde_json::json!({"token": token, "tee_keypair": key.as_str()}).to_string();
        Ok(GetTokenResponse { Token: text.into_bytes(), ..Default::default() })
    }

    /// Measures an event. The register is this platform's for such events, whichever is asked for.
    async fn extend_runtime_measurement(
        &self,
        _: &TtrpcContext,
        req: ExtendRuntimeMeasurementRequest,
    ) -> ttrpc::Result<ExtendRuntimeMeasurementResponse> {
        let words = Aael { domain: &req.Domain, operation: &req.Operation, content: &req.Content };
        let result = match self.0.attester().measure(&words).await.map_err(|f| told(&f))? {
            true => RuntimeMeasurementResult::OK,
            false => RuntimeMeasurementResult::NOT_SUPPORTED,
        };
        Ok(ExtendRuntimeMeasurementResponse { Result: result.into(), ..Default::default() })
    }

    async fn get_tee_type(
        &self,
        _: &TtrpcContext,
        _: GetTeeTypeRequest,
    ) -> ttrpc::Result<GetTeeTypeResponse> {
        let tee = serde_json::to_value(self.0.attester().tee()).ok();
        let tee = tee.as_ref().and_then(|t| t.as_str()).unwrap_or_default().to_owned();
        Ok(GetTeeTypeResponse { tee, ..Default::default() })
    }

    async fn get_additional_tees(
        &self,
        _: &TtrpcContext,
        _: GetAdditionalTeesRequest,
    ) -> ttrpc::Result<GetAdditionalTeesResponse> {
        Ok(GetAdditionalTeesResponse::default())
    }
}
