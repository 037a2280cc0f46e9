//! Upstream's `pkcs11` plugin: secrets in a hardware token, and `wrap-key`, which encrypts and decrypts small values with
//! the token's key.

use std::sync::Arc;

use async_trait::async_trait;
use cocoon_backends::{Pkcs11Source, Pkcs11Wrap};
use cocoon_release::{ResourcePath, SharedSource};
use zeroize::Zeroizing;

use super::{PluginAnswer, PluginError, PluginHandler, PluginRequest};
use crate::Trustee;

/// `/kbs/v0/pkcs11/resource/…` and `/kbs/v0/pkcs11/wrap-key`.
pub struct WrapKey {
    wrap: Arc<Pkcs11Wrap>,
    secrets: Arc<Pkcs11Source>,
}

enum Call {
    Wrap,
    Unwrap,
    Get(ResourcePath),
    Put(ResourcePath),
    Delete(ResourcePath),
}

impl WrapKey {
    /// With the token's key pair and its data objects.
    pub fn new(wrap: Pkcs11Wrap, secrets: Pkcs11Source) -> Self {
        WrapKey { wrap: Arc::new(wrap), secrets: Arc::new(secrets) }
    }
}

fn call(request: &PluginRequest) -> Result<Call, PluginError> {
    let path: Vec<&str> = request.path.iter().map(String::as_str).collect();
    let resource = || path.get(1..).unwrap_or_default().join("/").parse().map_err(|_| PluginError::NotFound);
    match (request.method.as_str(), path.as_slice()) {
        ("POST", ["wrap-key"]) => Ok(Call::Wrap),
        ("GET", ["wrap-key"]) => Ok(Call::Unwrap),
        ("GET", ["resource", ..]) => resource().map(Call::Get),
        ("POST" | "PUT", ["resource", ..]) => resource().map(Call::Put),
        ("DELETE", ["resource", ..]) => resource().map(Call::Delete),
        _ => Err(PluginError::NotFound),
    }
}

#[async_trait]
impl PluginHandler for WrapKey {
    async fn needs_admin(&self, request: &PluginRequest) -> Result<bool, PluginError> {
        Ok(!matches!(call(request)?, Call::Unwrap | Call::Get(_)))
    }

    async fn encrypted(&self, request: &PluginRequest) -> Result<bool, PluginError> {
        Ok(matches!(call(request)?, Call::Unwrap | Call::Get(_)))
    }

    async fn handle(&self, request: &PluginRequest, trustee: &Trustee) -> Result<PluginAnswer, PluginError> {
        let (call, body) = (call(request)?, request.body.clone());
        let (wrap, secrets) = (self.wrap.clone(), self.secrets.clone());
        let work = move |_: &Trustee| -> Result<Zeroizing<Vec<u8>>, PluginError> {
            let none = || Zeroizing::new(Vec::new());
            match call {
                Call::Wrap => Ok(Zeroizing::new(wrap.wrap(&body)?)),
                Call::Unwrap => Ok(wrap.unwrap(&body)?),
                Call::Get(path) => {
                    secrets.get(&path).map_err(PluginError::Failed)?.ok_or(PluginError::NotFound)
                }
                Call::Put(path) => secrets.put(&path, &body).map(|()| none()).map_err(PluginError::Failed),
                Call::Delete(path) => match secrets.delete(&path).map_err(PluginError::Failed)? {
                    true => Ok(none()),
                    false => Err(PluginError::NotFound),
                },
            }
        };
        let body = trustee.writing(work).await.map_err(|f| PluginError::Failed(f.reason))??;
        Ok(PluginAnswer { body, content_type: "application/octet-stream".into() })
    }
}
