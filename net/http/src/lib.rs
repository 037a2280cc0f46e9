//! One small HTTP/1.1 client for everything that speaks HTTP: Trustee and registries.
//!
//! Contract: bytes in, bytes out, with limits. Every answer is hostile input: header sizes are bounded by hyper (100 fields, about 400 KiB),
//! bodies by the caller's limit, silence by [`Options::idle_timeout`]. It follows no redirect, keeps no cookie and
//! sends nothing that the caller did not put into the request, but for the user and password of a proxy, to the proxy.
//! Addresses that others chose (redirects, token services) are for [`Client::send_away`], which keeps off the machine's
//! own and its cloud's internal addresses. TLS is rustls with aws-lc-rs; a [`Roots::Pinned`]
//! client trusts the given certificates and nothing else. Used by all trust domains.

mod body;
mod client;
mod connect;
mod error;
mod no_proxy;
mod pool;
mod proxy;
mod resolve;
mod sending;

pub use body::Response;
pub use client::{Client, Options};
pub use connect::Roots;
pub use error::Error;
pub use proxy::Proxy;

pub use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
