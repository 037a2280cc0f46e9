//! Who may call the attestation API: other key brokers by a token or certificate of their own, administrators as ever.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use cocoon_config::AttestationApi as ApiSettings;
use cocoon_rpc::{Authenticate, Credentials, Operation, Peer, RpcFailure};
use cocoon_stage::Failure;
use cocoon_trustee::AttestationApi;

use super::access::kept_token;

/// Callers of the attestation API.
pub struct Callers {
    api: AttestationApi,
    token_sha256: Option<[u8; 32]>,
}

impl Callers {
    /// As the settings say.
    pub fn new(api: AttestationApi, settings: &ApiSettings) -> Result<Arc<Self>, Failure> {
        let key = "attestation_api.token_file";
        let token = settings.token_file.as_deref().map(|file: &Path| kept_token(key, file)).transpose()?;
        let token_sha256 = token.map(|token| cocoon_access::token_sha256(&token));
        Ok(Arc::new(Callers { api, token_sha256 }))
    }

    fn knows(&self, bearer: &str) -> bool {
        let expected = self.token_sha256.as_ref();
        expected.is_some_and(|expected| {
            let found = cocoon_access::token_sha256(bearer);
            aws_lc_rs::constant_time::verify_slices_are_equal(&found, expected).is_ok()
        })
    }
}

/// What another key broker needs. To change policies and reference values is for administrators.
fn for_brokers(operation: Operation) -> bool {
    matches!(operation, Operation::Evaluate | Operation::Challenge | Operation::QueryReference)
}

#[async_trait]
impl Authenticate for Callers {
    async fn authenticate(
        &self,
        credentials: &Credentials,
        operation: Operation,
    ) -> Result<Peer, RpcFailure> {
        let name = match (&credentials.bearer, &credentials.client_certificate) {
            (Some(bearer), _) if self.knows(bearer) => "attestation token",
            // Administrators' certificates come from another authority, so here only tokens prove one.
            (Some(_), _) => {
                let bearer = Credentials { client_certificate: None, ..credentials.clone() };
                return self.api.authenticate(&bearer, operation).await;
            }
            (None, Some(_)) => "attestation certificate",
            (None, None) => return Err(RpcFailure::unauthenticated()),
        };
        if !for_brokers(operation) {
            return Err(RpcFailure::denied());
        }
        Ok(Peer { name: name.into(), tenant: None, remote: credentials.remote })
    }
}
