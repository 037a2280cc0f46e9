//! What every request passes before its body is read: who is it, may they, and is there room.

use std::sync::Arc;

use cocoon_stage::Code;
use http::header::AUTHORIZATION;
use http::request::Parts;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use zeroize::Zeroizing;

use crate::{
    AttestationBackend, Authenticate, Connection, Credentials, GrpcCode, Operation, Peer, RpcFailure,
    RpcLimits,
};

/// The way to the backend.
pub(crate) struct Gate {
    pub backend: Arc<dyn AttestationBackend>,
    auth: Arc<dyn Authenticate>,
    slots: Arc<Semaphore>,
    /// Most bytes of a message.
    pub message_bytes: usize,
}

impl Gate {
    pub fn new(
        backend: Arc<dyn AttestationBackend>,
        auth: Arc<dyn Authenticate>,
        limits: &RpcLimits,
    ) -> Self {
        let slots = Arc::new(Semaphore::new(limits.requests));
        Gate { backend, auth, slots, message_bytes: limits.message_bytes }
    }

    /// The caller, and the right to hold one body, which ends with the permit.
    ///
    /// # Errors
    /// Of a failed recognition the caller learns its status and fixed words only.
    pub async fn admit(
        &self,
        head: &Parts,
        operation: Operation,
    ) -> Result<(Peer, OwnedSemaphorePermit), RpcFailure> {
        let credentials = credentials(head)?;
        let caller = self.auth.authenticate(&credentials, operation).await.map_err(|failure| {
            tracing::info!(?operation, remote = ?credentials.remote, code = %failure.code, "a caller was refused");
            let shown = match failure.status {
                GrpcCode::PermissionDenied => RpcFailure::denied(),
                GrpcCode::Unavailable | GrpcCode::ResourceExhausted => RpcFailure::new(
                    Code::ServerBusy,
                    failure.status,
                    Code::ServerBusy.summary(),
                ),
                _ => RpcFailure::unauthenticated(),
            };
            RpcFailure { request_id: failure.request_id, ..shown }
        })?;
        let busy = |_| RpcFailure::new(Code::ServerBusy, GrpcCode::Unavailable, "stopping");
        let slot = self.slots.clone().acquire_owned().await.map_err(busy)?;
        Ok((caller, slot))
    }
}

/// What the request shows. One `Authorization` at most, and a bearer or nothing.
fn credentials(head: &Parts) -> Result<Credentials, RpcFailure> {
    let connection = head.extensions.get::<Connection>();
    let mut values = head.headers.get_all(AUTHORIZATION).iter();
    let bearer = match (values.next(), values.next()) {
        (None, _) => None,
        (Some(value), None) => Some(bearer(value.as_bytes()).ok_or_else(RpcFailure::unauthenticated)?),
        (Some(_), Some(_)) => return Err(RpcFailure::unauthenticated()),
    };
    Ok(Credentials {
        bearer,
        client_certificate: connection.and_then(|c| c.client_certificate.clone()),
        remote: connection.map(|c| c.remote),
    })
}

fn bearer(value: &[u8]) -> Option<Zeroizing<String>> {
    let (scheme, token) = std::str::from_utf8(value).ok()?.split_once(' ')?;
    let token = token.trim();
    let sound = scheme.eq_ignore_ascii_case("bearer")
        && !token.is_empty()
        && token.bytes().all(|b| b.is_ascii_graphic());
    sound.then(|| Zeroizing::new(token.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(values: &[&str]) -> Result<Option<String>, RpcFailure> {
        let mut request = http::Request::builder();
        for value in values {
            request = request.header(AUTHORIZATION, *value);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        credentials(&head).map(|c| c.bearer.map(|b| b.to_string()))
    }

    #[test]
    fn one_well_formed_bearer_or_none() {
        assert_eq!(shown(&[]).unwrap(), None);
        assert_eq!(shown(&["Bearer abc.def"]).unwrap().as_deref(), Some("abc.def"));
        assert_eq!(shown(&["bearer  abc"]).unwrap().as_deref(), Some("abc"));
        for bad in [&["Basic abc"][..], &["Bearer"], &["Bearer "], &["Bearer a b"], &["Bearer a", "Bearer b"]]
        {
            assert_eq!(shown(bad).unwrap_err().status, GrpcCode::Unauthenticated, "{bad:?}");
        }
    }
}
