//! The typed settings. Plain data; only this crate makes a [`Settings`], so that its fields agree.

mod access;
mod observe;
mod secrets;
mod server;
mod state;
mod trust;
mod verifiers;

pub use access::{
    AccessRule, Admin, AdminAccess, AttestationApi, CertificateIdentity, ClientCertificate, IdentityProvider,
};
pub use observe::{Explain, Log, LogFormat, LogLevel, Metrics, Telemetry};
pub use secrets::{ExternalPlugin, KvVersion, Pkcs11Plugin, Pkcs11Secrets, Plugin, Secrets, Vault};
pub use server::{Limits, Server, ServerIdentity, TlsVersion};
pub use state::{Given, Seal, SealToken, State, StateKind, TokenChoice};
pub use trust::{Attestation, Tokens, TrustedTokens};
pub use verifiers::{CcaSettings, CollateralSettings, IntelSettings, SeSettings, SnpSettings, Verifiers};

use crate::effective::Effective;

/// Everything that Trustee can be told.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Settings {
    /// `[server]`.
    pub server: Server,
    /// `[state]`.
    pub state: State,
    /// `[seal]`.
    pub seal: Seal,
    /// `[tokens]`.
    pub tokens: Tokens,
    /// `[attestation]`.
    pub attestation: Attestation,
    /// `[admin]`.
    pub admin: Admin,
    /// `[secrets]`.
    pub secrets: Secrets,
    /// `[[plugins]]`, in the order of the file.
    pub plugins: Vec<Plugin>,
    /// `[attestation_api]`; `None` if it listens nowhere.
    pub attestation_api: Option<AttestationApi>,
    /// `[explain]`.
    pub explain: Explain,
    /// `[metrics]`.
    pub metrics: Metrics,
    /// `[telemetry]`; `None` without an endpoint.
    pub telemetry: Option<Telemetry>,
    /// `[log]`.
    pub log: Log,
    /// The same with origins, for [`Settings::show`] and [`crate::changed`].
    pub(crate) effective: Effective,
}
