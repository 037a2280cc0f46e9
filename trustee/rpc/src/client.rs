//! Calling others: external plugins, and another attestation service.

mod attestation;
pub(crate) mod channel;
mod endpoint;
mod plugin;

pub use attestation::AttestationClient;
pub use endpoint::{ClientIdentity, Endpoint};
pub use plugin::{ExternalPlugin, PluginAnswer, PluginCall};
