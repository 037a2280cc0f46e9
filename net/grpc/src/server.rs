//! The server: a table of methods, and what happens to a call before and after its handler.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::{Frame, Incoming};
use protobuf::Message;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout, timeout_at};

use crate::framing::{self, Messages};
use crate::reply::{self, Held, Reply};
use crate::{Call, Code, Limits, Listener, Sink, Status, serve, timeout as time};

const ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");

type Answer = Pin<Box<dyn Future<Output = Result<Response<Reply>, Status>> + Send>>;
type Handler = Arc<dyn Fn(Call, Messages<Incoming>) -> Answer + Send + Sync>;

/// A server under construction: methods are added, then it serves.
pub struct Server {
    pub(crate) methods: HashMap<&'static str, Handler>,
    pub(crate) limits: Limits,
}

impl Server {
    /// A server without methods.
    pub fn new(limits: Limits) -> Self {
        Server { methods: HashMap::new(), limits }
    }

    /// Adds a method of one answer; `path` is `/package.Service/Method`.
    ///
    /// A handler's future is dropped when its caller leaves or its time is up.
    #[must_use]
    pub fn unary<Q, A, F, R>(mut self, path: &'static str, handler: F) -> Self
    where
        Q: Message,
        A: Message,
        F: Fn(Call, Q) -> R + Send + Sync + 'static,
        R: Future<Output = Result<A, Status>> + Send + 'static,
    {
        let handler = Arc::new(handler);
        let whole: Handler = Arc::new(move |call, mut request| {
            let handler = handler.clone();
            Box::pin(async move {
                let message = parse(&mut request).await?;
                let answer = handler(call, message).await?;
                Ok(reply::success(framing::frame(&answer)?))
            })
        });
        self.methods.insert(path, whole);
        self
    }

    /// Adds a method that answers with a stream of messages, which the handler sends.
    #[must_use]
    pub fn streaming<Q, A, F, R>(mut self, path: &'static str, handler: F) -> Self
    where
        Q: Message,
        A: Message,
        F: Fn(Call, Q, Sink<A>) -> R + Send + Sync + 'static,
        R: Future<Output = Result<(), Status>> + Send + 'static,
    {
        let handler = Arc::new(handler);
        let whole: Handler = Arc::new(move |call, mut request| {
            let handler = handler.clone();
            Box::pin(async move {
                let until = Instant::now().checked_add(call.time);
                let message = parse(&mut request).await?;
                let (sink, ending, frames) = reply::channel();
                let work = handler(call, message, sink);
                let task = tokio::spawn(async move {
                    let result = match until {
                        Some(until) => timeout_at(until, work).await.unwrap_or_else(|_| Err(too_slow())),
                        None => work.await,
                    };
                    let ended = Frame::trailers(reply::trailers(&result));
                    // A caller that takes nothing gets no status: for it the answer is cut, not complete.
                    let _ = timeout(ENDING, ending.send(ended)).await;
                });
                let held = Held { task: task.abort_handle(), room: None };
                Ok(reply::response(Reply::Stream { frames, held }))
            })
        });
        self.methods.insert(path, whole);
        self
    }

    /// Serves until `shutdown` resolves. Calls in progress then have [`Limits::drain`] to end.
    ///
    /// # Errors
    /// [`std::io::ErrorKind::InvalidInput`] for a TCP socket that is not on loopback; nothing after that.
    pub async fn serve(
        self,
        listener: Listener,
        shutdown: impl Future<Output = ()> + Send,
    ) -> std::io::Result<()> {
        listener.check()?;
        let calls = Arc::new(Semaphore::new(self.limits.calls));
        serve::listen(listener, Arc::new(Table { server: self, calls }), shutdown).await;
        Ok(())
    }
}

/// How long trailers may wait for a caller that takes nothing.
const ENDING: Duration = Duration::from_secs(5);

async fn parse<Q: Message>(request: &mut Messages<Incoming>) -> Result<Q, Status> {
    let message = request.only().await.and_then(|message| framing::parse(&message));
    message.map_err(framing::FrameError::of_request)
}

fn too_slow() -> Status {
    Status::new(Code::DeadlineExceeded, "the call took too long")
}

/// The methods, and the room for calls.
pub(crate) struct Table {
    pub server: Server,
    calls: Arc<Semaphore>,
}

impl Table {
    /// Answers one request.
    pub async fn answer(&self, request: Request<Incoming>) -> Response<Reply> {
        let (head, body) = request.into_parts();
        if head.method != Method::POST {
            return reply::plain(StatusCode::METHOD_NOT_ALLOWED);
        }
        if !is_grpc(&head.headers) {
            return reply::plain(StatusCode::UNSUPPORTED_MEDIA_TYPE);
        }
        let answer = async {
            let handler = self.server.methods.get(head.uri.path()).ok_or_else(|| {
                Status::new(Code::Unimplemented, format!("there is no method {}", head.uri.path()))
            })?;
            if let Some(encoding) = head.headers.get(&ENCODING).filter(|e| *e != "identity") {
                let name = String::from_utf8_lossy(encoding.as_bytes());
                return Err(Status::new(
                    Code::Unimplemented,
                    format!("the encoding {name} is not supported"),
                ));
            }
            let limits = &self.server.limits;
            let asked = time::read(&head.headers)?;
            let time = asked.map_or(limits.call, |asked| asked.min(limits.call));
            let call = Call { headers: head.headers.clone(), time };
            let work = async {
                // Before the body is read: what waits holds nothing but its headers.
                let room = self.calls.clone().acquire_owned().await.map_err(|_| too_slow())?;
                let mut response = handler(call, Messages::new(body, limits.message_bytes)).await?;
                if let Reply::Stream { held, .. } = response.body_mut() {
                    held.room = Some(room);
                }
                Ok(response)
            };
            timeout(time, work).await.unwrap_or_else(|_| Err(too_slow()))
        };
        answer.await.unwrap_or_else(|status| reply::refusal(&status))
    }
}

/// Whether a content type is gRPC's with protobuf.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).map_or(&[][..], HeaderValue::as_bytes);
    matches!(kind.strip_prefix(b"application/grpc"), Some(b"" | b"+proto"))
        || kind.starts_with(b"application/grpc;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_types_are_told_apart() {
        for (kind, yes) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc;x=y", true),
            ("application/grpc+json", false),
            ("application/grpc-web", false),
            ("application/json", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
            assert_eq!(is_grpc(&headers), yes, "{kind}");
        }
        assert!(!is_grpc(&HeaderMap::new()));
    }
}
