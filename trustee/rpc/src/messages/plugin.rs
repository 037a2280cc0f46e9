//! Package `kbs.plugin.v1`. Bodies may be secrets, so these messages are not `Debug` by derive.

use std::collections::BTreeMap;
use std::fmt;

use zeroize::Zeroize;

/// The request of all three methods.
#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
pub(crate) struct PluginRequest {
    #[prost(bytes = "vec", tag = "1")]
    pub body: Vec<u8>,
    #[prost(btree_map = "string, string", tag = "2")]
    pub query: BTreeMap<String, String>,
    #[prost(string, repeated, tag = "3")]
    pub path: Vec<String>,
    #[prost(string, tag = "4")]
    pub method: String,
}

impl fmt::Debug for PluginRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PluginRequest")
    }
}

impl Drop for PluginRequest {
    fn drop(&mut self) {
        self.body.zeroize();
    }
}

/// `PluginResponse`.
#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
pub(crate) struct PluginResponse {
    #[prost(bytes = "vec", tag = "1")]
    pub body: Vec<u8>,
    #[prost(int32, tag = "2")]
    pub status_code: i32,
    #[prost(string, tag = "3")]
    pub content_type: String,
}

impl fmt::Debug for PluginResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PluginResponse")
    }
}

impl Drop for PluginResponse {
    fn drop(&mut self) {
        self.body.zeroize();
    }
}

/// `ValidateAuthResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ValidateAuthResponse {
    #[prost(bool, tag = "1")]
    pub requires_admin_auth: bool,
}

/// `NeedsEncryptionResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct NeedsEncryptionResponse {
    #[prost(bool, tag = "1")]
    pub requires_payload_encryption: bool,
}
