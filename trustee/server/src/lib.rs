//! Trustee: key broker, verification service, reference values and registrations behind one small HTTP server.
//!
//! Runs with the workload owner and is trusted by them; everything that arrives over HTTP is hostile until its
//! cookie, token or administrator's credentials have been checked. Speaks the KBS protocol 0.4.0, 0.2.0 and 0.1.1 as
//! existing guests do (`/kbs/v0/…`) and an admin API of its own (`/cocoon/v0/…`), for itself and for tenants
//! (`/t/NAME/…`). Programs that embed it call [`Trustee`]'s methods.
//!
//! It never releases a secret unencrypted to anything but the key that verified evidence binds, never lets a token or a
//! secret go that is not in the audit log, never tells a guest why it was refused beyond a code and a request id, never
//! keeps state for somebody who has not presented evidence, and denies when in doubt. The full reasons are kept for the
//! owner ([`Trustee::explain`]).

mod admin;
mod attestation_api;
mod broker;
mod config;
mod devices;
mod discovery;
mod error;
mod explanations;
mod foreign;
mod handshake;
mod inner;
mod keys;
mod local;
mod metrics;
mod nonces;
mod peers;
mod plugins;
mod reply;
mod request_id;
mod revocable;
mod router;
mod serve;
mod session;
mod telemetry;
mod tenants;
mod timed_io;
mod tls;
mod tokens;
mod tpm_enrolment;
mod trustee;
mod verdicts;

pub use admin::openapi;
pub use attestation_api::AttestationApi;
pub use cocoon_access as access;
pub use cocoon_attestation::{CollateralSource, Gathered, NoCollateral, RemoteVerifier, Trust};
pub use cocoon_reference::ReferenceValue;
pub use cocoon_release::{
    Explanation, MinStatus, PathPattern, Registration, ResourcePath, Rule, Selector, SharedSource, Step,
    Subject, Workload,
};
pub use config::{Clock, Config, Live, SecureExecution, TokenIdentity, TrustedIssuers, system_clock};
pub use error::Error;
pub use local::LocalAnswer;
pub use peers::PeerLimits;
pub use plugins::{
    External, Plugin, PluginAnswer, PluginError, PluginHandler, PluginRequest, Provisioner, WrapKey,
};
pub use serve::{Limits, serve, serve_with};
pub use telemetry::TelemetryConfig;
pub use tenants::{MAX_TENANTS, Quota, Tenant};
pub use tls::{ReloadableTls, Tls, self_signed};
pub use trustee::Trustee;
