//! Upstream's remote interfaces of the attestation service: gRPC and REST towards other programs, and gRPC towards
//! external plugins; and the key provider service that image tools call on their own machine.
//!
//! Runs inside Trustee, on the workload owner's side; everything that arrives here is hostile until [`Authenticate`]
//! has named its sender, and malformed until it is decoded. This crate carries messages only: it decides nothing
//! about evidence, policies or secrets, and keeps no state beyond connections. The work is behind
//! [`AttestationBackend`].
//!
//! Unlike upstream's, nothing of it but health and the public keys is served without authentication, the caller is told
//! one short sentence and a code instead of a chain of internal errors, and a client is bounded in connections,
//! streams, bytes and time. The wire format (paths, field numbers) is upstream's; golden tests hold it.
//!
//! gRPC is unary here, so the framing is written out on hyper's HTTP/2 (`framing`, `status`) and needs neither
//! protoc nor a gRPC library.

mod admission;
mod backend;
mod client;
mod decode;
mod error;
mod failure;
mod framing;
mod gate;
mod grpc;
mod json;
mod key_provider;
mod limits;
mod messages;
mod operation;
mod peer;
mod rest;
mod rest_body;
mod serve;
mod status;

pub use backend::{AttestationBackend, EvaluateRequest, Individual, InitData, Runtime};
pub use client::{AttestationClient, ClientIdentity, Endpoint, ExternalPlugin, PluginAnswer, PluginCall};
pub use error::Error;
pub use failure::{GrpcCode, RpcFailure};
pub use key_provider::{KeyProviderBackend, KeyProviderClient, serve_key_provider};
pub use limits::RpcLimits;
pub use operation::Operation;
pub use peer::{Authenticate, Connection, Credentials, Peer};
pub use rest::rest_router;
pub use serve::{Door, serve, serve_rest};
