//! A client of the OCI distribution API (distribution-spec 1.1): manifests, blobs, pushing.
//!
//! Contract: the registry is hostile. Manifests asked for by digest have that digest or are refused; blobs are *not*
//! verified here, because they stream: the reader that consumes them does (`cocoon_image::digest`). Answers are
//! bounded, retries are bounded, silence is bounded. Credentials go to the registry they belong to (and to the token
//! service it names, over TLS), never along a redirect to another host, never over plain HTTP except to this machine's own loopback
//! (a guest's is its host's, and gets none), and a mirror gets its own or none. Redirects and token services never lead to loopback, link-local or metadata addresses
//! unless the registry itself is on loopback. No policy is decided here: names stay those that the user wrote. Used in the guest to pull and on the owner's machine to inspect and push.

mod auth;
mod blob;
mod challenge;
mod client;
mod error;
mod manifests;
mod place;
mod planned;
mod push;
mod referrers;
mod request;
mod retry;
mod token;
mod upload;

pub use auth::{Auth, Credentials};
pub use blob::BlobStream;
pub use client::Client;
pub use error::Error;
pub use planned::{for_plan, http_for_plan};
pub use retry::Retry;
