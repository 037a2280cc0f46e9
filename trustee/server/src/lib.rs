//! Trustee: key broker, verification service, reference values and registrations behind one small HTTP server.
//!
//! Runs with the workload owner and is trusted by them; everything that arrives over HTTP is hostile until its
//! cookie, token or admin token has been checked. Speaks the KBS protocol 0.4.0 as existing guests do
//! (`/kbs/v0/…`) and an admin API of its own (`/cocoon/v0/…`). Programs that embed it call [`Trustee`]'s methods.
//!
//! It never releases a secret unencrypted to anything but the key that verified evidence binds, never tells a guest
//! why it was refused beyond a code and a request id, never keeps state for somebody who has not presented
//! evidence, and denies when in doubt. The full reasons are kept for the owner ([`Trustee::explain`]).

mod admin;
mod broker;
mod config;
mod error;
mod explanations;
mod handshake;
mod keys;
mod nonces;
mod reply;
mod request_id;
mod router;
mod serve;
mod session;
mod timed_io;
mod tls;
mod tokens;
mod trustee;

pub use cocoon_attestation::ReferenceValue;
pub use cocoon_release::{Explanation, MinStatus, Registration, ResourcePath, Step, Subject, Workload};
pub use config::{Clock, Config, system_clock};
pub use error::Error;
pub use serve::{Limits, serve, serve_with};
pub use tls::{Tls, self_signed};
pub use trustee::Trustee;
