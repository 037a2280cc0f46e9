//! The key provider service of ocicrypt (`keyprovider.KeyProviderService`), which tools that encrypt and decrypt images
//! call: both methods carry one JSON text each way.
//!
//! There is no authentication in that protocol: who reaches the listener may use it. What may be asked is the
//! backend's decision.

use std::sync::Arc;

use async_trait::async_trait;
use axum::body::Body;
use bytes::Bytes;
use cocoon_stage::Code;
use http::{Method, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use crate::client::channel::Channel;
use crate::framing;
use crate::grpc::{plain, read};
use crate::messages::KeyProviderMessage;
use crate::serve::{Handler, listen};
use crate::{Door, Endpoint, Error, GrpcCode, RpcFailure, RpcLimits, status};

const WRAP: &str = "/keyprovider.KeyProviderService/WrapKey";
const UNWRAP: &str = "/keyprovider.KeyProviderService/UnWrapKey";

/// Who wraps and unwraps layer keys. The JSON is ocicrypt's, both ways, and may be secret.
#[async_trait]
pub trait KeyProviderBackend: Send + Sync {
    /// Answers a request `keywrap`.
    ///
    /// # Errors
    /// What the caller is told.
    async fn wrap(&self, json: Zeroizing<Vec<u8>>) -> Result<Zeroizing<Vec<u8>>, RpcFailure>;

    /// Answers a request `keyunwrap`.
    ///
    /// # Errors
    /// What the caller is told.
    async fn unwrap(&self, json: Zeroizing<Vec<u8>>) -> Result<Zeroizing<Vec<u8>>, RpcFailure>;
}

/// Serves `keyprovider.KeyProviderService` in the clear until `shutdown` resolves, within the same bounds as
/// [`crate::serve`].
///
/// # Errors
/// [`Error::Limits`] only.
pub async fn serve_key_provider(
    door: Door,
    backend: Arc<dyn KeyProviderBackend>,
    limits: RpcLimits,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), Error> {
    limits.check()?;
    let slots = Arc::new(Semaphore::new(limits.requests));
    let (limit, bytes) = (limits.request, limits.message_bytes);
    let handler: Handler = Box::new(move |request| {
        let (backend, slots) = (backend.clone(), slots.clone());
        Box::pin(async move {
            let answer = answer(backend.as_ref(), &slots, request, bytes);
            tokio::time::timeout(limit, answer).await.unwrap_or_else(|_| {
                let why = "the request took too long";
                status::refusal(RpcFailure::new(Code::AttestProtocol, GrpcCode::DeadlineExceeded, why))
            })
        })
    });
    listen(door, None, handler, limits, shutdown).await
}

async fn answer(
    backend: &dyn KeyProviderBackend,
    slots: &Semaphore,
    request: Request<Incoming>,
    limit: usize,
) -> Response<Body> {
    let (head, body) = request.into_parts();
    if head.method != Method::POST || head.version != Version::HTTP_2 {
        return plain(StatusCode::NOT_FOUND);
    }
    if !status::is_grpc(&head.headers) {
        return plain(StatusCode::UNSUPPORTED_MEDIA_TYPE);
    }
    let call = async {
        let path = head.uri.path();
        if path != WRAP && path != UNWRAP {
            let why = "there is no such method";
            return Err(RpcFailure::new(Code::AttestProtocol, GrpcCode::Unimplemented, why));
        }
        // Closed never; the permit bounds how many bodies are held.
        let _slot = slots.acquire().await;
        let mut message: KeyProviderMessage = read(body, limit).await?;
        let json = Zeroizing::new(std::mem::take(&mut message.json));
        let answer = if path == WRAP { backend.wrap(json).await } else { backend.unwrap(json).await };
        answer.map(|json| framing::frame(&KeyProviderMessage { json: json.to_vec() }))
    };
    let answered: Result<Bytes, RpcFailure> = call.await;
    answered.map_or_else(status::refusal, status::success)
}

/// A key provider elsewhere.
///
/// # Errors
/// Of each call: [`Error::Unreachable`], [`Error::Deadline`], [`Error::TooLarge`], [`Error::Protocol`],
/// [`Error::Status`].
pub struct KeyProviderClient {
    channel: Channel,
}

impl KeyProviderClient {
    /// Checks the endpoint; the connection is made with the first call.
    ///
    /// # Errors
    /// [`Error::Endpoint`].
    pub fn connect(endpoint: Endpoint) -> Result<Self, Error> {
        Ok(KeyProviderClient { channel: Channel::new(endpoint, RpcLimits::default().message_bytes)? })
    }

    /// Has a request `keywrap` answered.
    pub async fn wrap(&self, json: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
        self.call(WRAP, json).await
    }

    /// Has a request `keyunwrap` answered.
    pub async fn unwrap(&self, json: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
        self.call(UNWRAP, json).await
    }

    async fn call(&self, path: &'static str, json: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
        let request = KeyProviderMessage { json: json.to_vec() };
        let mut answer: KeyProviderMessage = self.channel.unary(path, &request).await?;
        Ok(Zeroizing::new(std::mem::take(&mut answer.json)))
    }
}
