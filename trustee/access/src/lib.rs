//! Who may administer a Trustee.
//!
//! Contract: given what a request carries (a bearer token, a TLS client certificate, its path), [`Access`] names the
//! administrator or refuses. Nothing is open by default: with nothing configured everybody is refused. It never
//! looks at a request's query or body, never keeps a token, and never trusts a key that a token brings along.
//! Runs on the Trustee only. All of [`Caller`] is hostile input; key sets fetched from an identity provider are
//! bounded in size and time and are believed only as far as TLS names the server.
//!
//! Three kinds of credentials: the local token made at first start (role `admin`, everything), JWTs of configured
//! identity providers, and client certificates that TLS has verified. The latter two may do what the access rules
//! give their role, and may be bound to one tenant.

mod access;
mod acl;
mod certificate;
mod config;
mod denied;
mod error;
mod fetch;
mod jwks;
mod jwt;
mod key;
mod path;
mod provider;
mod remote;
mod strict;
mod token;

pub use access::{Access, Admin, Caller, How};
pub use config::{
    AccessConfig, AclRule, CertificateMatch, CertificateRule, Clock, IdentityProvider, KeySource,
};
pub use denied::{Denied, Refusal};
pub use error::Error;
pub use jwt::{LEEWAY_SECONDS, MAX_TOKEN};
pub use token::{make_token, token_sha256};

/// Role of the local token; access rules do not apply to it. The same word in a JWT or a certificate rule is a role
/// like any other.
pub const ADMIN_ROLE: &str = "admin";
