//! Who calls: what a connection shows, and what it was recognised as.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use zeroize::Zeroizing;

use crate::{Operation, RpcFailure};

/// What is known of a connection. A server that mounts [`crate::rest_router`] itself puts it into each request's
/// extensions; without it a request has neither address nor certificate.
#[derive(Clone, Debug)]
pub struct Connection {
    /// The peer's address.
    pub remote: SocketAddr,
    /// The peer's own certificate as DER, if TLS asked for one and verified it.
    pub client_certificate: Option<Arc<[u8]>>,
}

/// What a request shows to be recognised by. Nothing of it is verified but the certificate.
#[derive(Clone)]
pub struct Credentials {
    /// The value of `Authorization: Bearer`.
    pub bearer: Option<Zeroizing<String>>,
    /// The peer's own certificate as DER; TLS verified it and that the peer has its key.
    pub client_certificate: Option<Arc<[u8]>>,
    /// The peer's address.
    pub remote: Option<SocketAddr>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("bearer", &self.bearer.as_ref().map(|_| "…"))
            .field("client_certificate", &self.client_certificate.as_ref().map(|der| der.len()))
            .field("remote", &self.remote)
            .finish()
    }
}

/// A caller that was recognised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its name, for the audit log.
    pub name: String,
    /// The tenant it works for; none where there is only one.
    pub tenant: Option<String>,
    /// Its address.
    pub remote: Option<SocketAddr>,
}

/// Recognises callers and says what they may do. Asked before a request's body is read.
#[async_trait]
pub trait Authenticate: Send + Sync + 'static {
    /// The caller behind these credentials, if it may do `operation`.
    ///
    /// # Errors
    /// [`RpcFailure::unauthenticated`] for nobody, [`RpcFailure::denied`] for somebody who may not.
    async fn authenticate(&self, credentials: &Credentials, operation: Operation)
    -> Result<Peer, RpcFailure>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bearer_is_never_shown() {
        let bearer = Some(Zeroizing::new("hunter2".to_owned()));
        let credentials = Credentials { bearer, client_certificate: None, remote: None };
        assert!(!format!("{credentials:?}").contains("hunter2"));
    }
}
