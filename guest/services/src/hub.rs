//! The data hub: resources, sealed secrets, keys of image layers.

use std::sync::Arc;

use async_trait::async_trait;
use cocoon_datahub::DataHub;
use cocoon_image::encryption::{AnnotationPacket, KeyProviderInput, KeyProviderOutput};
use cocoon_pull::KeyProvider;
use cocoon_services_api::api::{
    GetResourceRequest, GetResourceResponse, UnsealSecretInput, UnsealSecretOutput,
};
use cocoon_services_api::api_ttrpc::{GetResourceService, SealedSecretService};
use cocoon_services_api::keyprovider::{KeyProviderKeyWrapProtocolInput, KeyProviderKeyWrapProtocolOutput};
use cocoon_services_api::keyprovider_ttrpc::KeyProviderService;
use cocoon_stage::{Code, Failure};
use ttrpc::r#async::TtrpcContext;

use crate::told;

pub(crate) struct Hub {
    pub(crate) hub: Arc<DataHub>,
    pub(crate) sealing_key: Option<String>,
}

#[async_trait]
impl GetResourceService for Hub {
    /// A resource by its `kbs:///…` URI.
    async fn get_resource(
        &self,
        _: &TtrpcContext,
        req: GetResourceRequest,
    ) -> ttrpc::Result<GetResourceResponse> {
        let secret = self.hub.resource(&req.ResourcePath).await.map_err(|f| told(&f))?;
        Ok(GetResourceResponse { Resource: secret.to_vec(), ..Default::default() })
    }
}

#[async_trait]
impl SealedSecretService for Hub {
    /// What a sealed secret stands for, where it is signed by the key that was set.
    async fn unseal_secret(
        &self,
        _: &TtrpcContext,
        req: UnsealSecretInput,
    ) -> ttrpc::Result<UnsealSecretOutput> {
        let none = || Failure::new(Code::SecretUnsealFailed, "no key was set that signs sealed secrets");
        let signer = self.sealing_key.as_deref().ok_or_else(|| told(&none()))?;
        let secret = self.hub.unseal(&req.secret, signer, None).await.map_err(|f| told(&f))?;
        Ok(UnsealSecretOutput { plaintext: secret.to_vec(), ..Default::default() })
    }
}

#[async_trait]
impl KeyProviderService for Hub {
    /// Unwraps a layer's private options with the key in Trustee that its annotation names.
    async fn un_wrap_key(
        &self,
        _: &TtrpcContext,
        req: KeyProviderKeyWrapProtocolInput,
    ) -> ttrpc::Result<KeyProviderKeyWrapProtocolOutput> {
        let failed = |e: cocoon_image::Error| told(&Failure::from(e));
        let input = KeyProviderInput::parse(&req.KeyProviderKeyWrapProtocolInput).map_err(failed)?;
        let KeyProviderInput::KeyUnwrap { annotation } = input else {
            return Err(told(&Failure::new(Code::ImageKeyUnavailable, "only unwrapping is done here")));
        };
        let packet = AnnotationPacket::parse(&annotation).map_err(failed)?;
        let options = self.hub.unwrap(&packet).await.map_err(|f| told(&f))?;
        let output = KeyProviderOutput::KeyUnwrap { options }.to_json().map_err(failed)?;
        Ok(KeyProviderKeyWrapProtocolOutput {
            KeyProviderKeyWrapProtocolOutput: output.to_vec(),
            ..Default::default()
        })
    }
}
