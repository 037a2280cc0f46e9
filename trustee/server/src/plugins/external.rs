//! Plugins in other processes, by gRPC (`kbs.plugin.v1`): `/kbs/v0/external/NAME/…`.

use std::collections::BTreeMap;

use async_trait::async_trait;
use cocoon_rpc::{ExternalPlugin, PluginCall};
use zeroize::Zeroizing;

use super::{PluginAnswer, PluginError, PluginHandler, PluginRequest};
use crate::Trustee;

/// All external plugins, by their names.
pub struct External(BTreeMap<String, ExternalPlugin>);

impl External {
    /// With these plugins.
    pub fn new(plugins: impl IntoIterator<Item = ExternalPlugin>) -> Self {
        External(plugins.into_iter().map(|plugin| (plugin.name().to_owned(), plugin)).collect())
    }

    fn call(&self, request: &PluginRequest) -> Result<(&ExternalPlugin, PluginCall), PluginError> {
        let (name, path) = request.path.split_first().ok_or(PluginError::NotFound)?;
        let plugin = self.0.get(name).ok_or(PluginError::NotFound)?;
        let call = PluginCall {
            body: Zeroizing::new(request.body.to_vec()),
            query: request.query.clone(),
            path: path.to_vec(),
            method: request.method.clone(),
        };
        Ok((plugin, call))
    }
}

impl From<cocoon_rpc::Error> for PluginError {
    fn from(error: cocoon_rpc::Error) -> Self {
        match error {
            cocoon_rpc::Error::Plugin { status: 404, .. } => PluginError::NotFound,
            cocoon_rpc::Error::Plugin { status: 401 | 403, .. } => PluginError::Denied(error.to_string()),
            cocoon_rpc::Error::Plugin { status: 400..=499, .. } => PluginError::Invalid(error.to_string()),
            other => PluginError::Failed(other.to_string()),
        }
    }
}

#[async_trait]
impl PluginHandler for External {
    async fn needs_admin(&self, request: &PluginRequest) -> Result<bool, PluginError> {
        let (plugin, call) = self.call(request)?;
        Ok(plugin.validate_auth(&call).await?)
    }

    async fn encrypted(&self, request: &PluginRequest) -> Result<bool, PluginError> {
        let (plugin, call) = self.call(request)?;
        Ok(plugin.needs_encryption(&call).await?)
    }

    async fn handle(&self, request: &PluginRequest, _: &Trustee) -> Result<PluginAnswer, PluginError> {
        let (plugin, call) = self.call(request)?;
        let answer = plugin.handle(&call).await?;
        Ok(PluginAnswer { body: answer.body, content_type: answer.content_type })
    }
}
