//! Upstream's `provisioner` plugin: a disk key for a VM before it boots.

use async_trait::async_trait;
use cocoon_backends::{ProvisionRequest, Provisioner as Keys, ProvisionerCall};
use serde_json::json;
use zeroize::Zeroizing;

use super::{PluginAnswer, PluginError, PluginHandler, PluginRequest};
use crate::Trustee;

/// Makes keys of this many random bytes.
pub struct Provisioner {
    key_length: usize,
}

impl Provisioner {
    /// `key_length` is 16 to 512.
    pub fn new(key_length: usize) -> Self {
        Provisioner { key_length }
    }
}

fn call(request: &PluginRequest) -> Result<ProvisionerCall, PluginError> {
    let path: Vec<&str> = request.path.iter().map(String::as_str).collect();
    ProvisionerCall::of(&request.method, &path).ok_or(PluginError::NotFound)
}

impl From<cocoon_backends::Error> for PluginError {
    fn from(error: cocoon_backends::Error) -> Self {
        match error {
            cocoon_backends::Error::Request(reason) => PluginError::Invalid(reason),
            cocoon_backends::Error::NotBound => PluginError::Denied(error.to_string()),
            other => PluginError::Failed(other.to_string()),
        }
    }
}

#[async_trait]
impl PluginHandler for Provisioner {
    async fn needs_admin(&self, request: &PluginRequest) -> Result<bool, PluginError> {
        Ok(call(request)?.is_admin())
    }

    async fn encrypted(&self, request: &PluginRequest) -> Result<bool, PluginError> {
        Ok(!call(request)?.is_admin())
    }

    async fn handle(&self, request: &PluginRequest, trustee: &Trustee) -> Result<PluginAnswer, PluginError> {
        let (call, body, claims) = (call(request)?, request.body.clone(), request.init_data_claims.clone());
        let key_length = self.key_length;
        let work = move |t: &Trustee| -> Result<PluginAnswer, PluginError> {
            let keys = Keys::new(t.inner.store.clone(), t.inner.sealer.clone(), key_length)?;
            let json = |value: serde_json::Value| PluginAnswer {
                body: Zeroizing::new(value.to_string().into_bytes()),
                content_type: "application/json".into(),
            };
            match call {
                ProvisionerCall::Provision => {
                    let made = keys.provision(&ProvisionRequest::parse(&body)?)?;
                    Ok(json(json!({"uuid": made.uuid, "resource_path": made.resource_path})))
                }
                ProvisionerCall::Delete { uuid } => {
                    keys.delete(&uuid)?;
                    Ok(json(json!({"status": "deleted"})))
                }
                ProvisionerCall::Get { uuid } => {
                    let document = keys.get(&uuid, claims.as_ref())?.ok_or(PluginError::NotFound)?;
                    Ok(PluginAnswer { body: document, content_type: "application/toml".into() })
                }
            }
        };
        trustee.writing(work).await.map_err(|f| PluginError::Failed(f.reason))?
    }
}
