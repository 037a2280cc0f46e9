//! External plugins (upstream's `kbs.plugin.v1.KbsPlugin`).

use std::collections::BTreeMap;
use std::fmt;

use zeroize::Zeroizing;

use super::channel::Channel;
use super::endpoint::Endpoint;
use crate::Error;
use crate::messages::{NeedsEncryptionResponse, PluginRequest, PluginResponse, ValidateAuthResponse};

/// Most bytes of a body, either way.
const MAX_BODY: usize = 8 << 20;
/// Room for the other fields of a message.
const MAX_MESSAGE: usize = MAX_BODY + 64 * 1024;
/// What a body is if the plugin does not say, or says something that is no media type.
const BYTES: &str = "application/octet-stream";

/// A request for a plugin: what came after `/kbs/v0/external/<name>/`.
#[derive(Clone, Default)]
pub struct PluginCall {
    /// The request's body, at most 8 MiB.
    pub body: Zeroizing<Vec<u8>>,
    /// The query's parameters.
    pub query: BTreeMap<String, String>,
    /// The path's segments, without the plugin's name.
    pub path: Vec<String>,
    /// `GET`, `POST`, `PUT` or `DELETE`.
    pub method: String,
}

impl fmt::Debug for PluginCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PluginCall")
            .field("body", &self.body.len())
            .field("path", &self.path)
            .field("method", &self.method)
            .finish_non_exhaustive()
    }
}

/// A plugin's answer.
pub struct PluginAnswer {
    /// The body, at most 8 MiB; to be encrypted for the guest if [`ExternalPlugin::needs_encryption`] says so.
    pub body: Zeroizing<Vec<u8>>,
    /// A media type that may go into a header: at most 256 visible ASCII characters and spaces.
    pub content_type: String,
}

impl fmt::Debug for PluginAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let body = self.body.len();
        f.debug_struct("PluginAnswer").field("body", &body).field("content_type", &self.content_type).finish()
    }
}

/// An external plugin.
///
/// # Errors
/// Of each call: [`Error::Unreachable`], [`Error::Deadline`], [`Error::TooLarge`], [`Error::Protocol`],
/// [`Error::Status`]. A caller that gets none of the answers must take the strict one: administrators only, and
/// encrypted.
pub struct ExternalPlugin {
    channel: Channel,
}

impl ExternalPlugin {
    /// Checks the settings. The connection is made with the first call, and anew after it broke.
    ///
    /// # Errors
    /// [`Error::Endpoint`].
    pub fn connect(endpoint: Endpoint) -> Result<Self, Error> {
        Ok(ExternalPlugin { channel: Channel::new(endpoint, MAX_MESSAGE)? })
    }

    /// The plugin's name.
    pub fn name(&self) -> &str {
        self.channel.name()
    }

    /// Has the request handled.
    ///
    /// # Errors
    /// Also [`Error::Plugin`] for a status other than 0 and 2xx.
    pub async fn handle(&self, call: &PluginCall) -> Result<PluginAnswer, Error> {
        let request = self.request(call)?;
        let mut answer: PluginResponse =
            self.channel.unary("/kbs.plugin.v1.KbsPlugin/Handle", &request).await?;
        let body = Zeroizing::new(std::mem::take(&mut answer.body));
        if !matches!(answer.status_code, 0 | 200..=299) {
            return Err(Error::Plugin { name: self.name().to_owned(), status: answer.status_code });
        }
        if body.len() > MAX_BODY {
            return Err(self.channel.protocol("a body larger than 8 MiB"));
        }
        let kind = std::mem::take(&mut answer.content_type);
        let sound = (1..=256).contains(&kind.len())
            && kind.bytes().all(|b| matches!(b, b' '..=b'~'))
            && kind.contains('/')
            && kind.trim() == kind;
        Ok(PluginAnswer { body, content_type: if sound { kind } else { BYTES.to_owned() } })
    }

    /// Whether the request is for administrators (true) or for attested guests (false).
    pub async fn validate_auth(&self, call: &PluginCall) -> Result<bool, Error> {
        let request = self.request(call)?;
        let answer: ValidateAuthResponse =
            self.channel.unary("/kbs.plugin.v1.KbsPlugin/ValidateAuth", &request).await?;
        Ok(answer.requires_admin_auth)
    }

    /// Whether the answer is to be encrypted for the guest.
    pub async fn needs_encryption(&self, call: &PluginCall) -> Result<bool, Error> {
        let request = self.request(call)?;
        let answer: NeedsEncryptionResponse =
            self.channel.unary("/kbs.plugin.v1.KbsPlugin/NeedsEncryption", &request).await?;
        Ok(answer.requires_payload_encryption)
    }

    fn request(&self, call: &PluginCall) -> Result<PluginRequest, Error> {
        if call.body.len() > MAX_BODY {
            return Err(Error::TooLarge { name: self.name().to_owned(), limit: MAX_BODY });
        }
        Ok(PluginRequest {
            body: call.body.to_vec(),
            query: call.query.clone(),
            path: call.path.clone(),
            method: call.method.clone(),
        })
    }
}
