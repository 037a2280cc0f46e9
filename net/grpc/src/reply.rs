//! The answer of a call as an HTTP/2 body: messages, then trailers.

use std::convert::Infallible;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use hyper::body::{Body, Frame, SizeHint};
use protobuf::Message;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::task::AbortHandle;

use crate::status::GRPC_STATUS;
use crate::{Code, Status, framing};

const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
const ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");
/// Messages of a stream that wait for the connection to take them.
const QUEUED: usize = 8;

/// The body.
pub(crate) enum Reply {
    /// Nothing: the status is in the headers.
    Empty,
    /// One message, then trailers.
    One { message: Option<Bytes>, trailers: Option<HeaderMap> },
    /// What a task sends.
    Stream { frames: mpsc::Receiver<Frame<Bytes>>, held: Held },
}

/// What a stream of answers holds as long as somebody takes them: the task that makes them, and its room.
pub(crate) struct Held {
    pub task: AbortHandle,
    pub room: Option<OwnedSemaphorePermit>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.task.abort();
        self.room.take();
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Reply::Empty => Poll::Ready(None),
            Reply::One { message, trailers } => {
                let next = message.take().map(Frame::data);
                Poll::Ready(next.or_else(|| trailers.take().map(Frame::trailers)).map(Ok))
            }
            Reply::Stream { frames, .. } => frames.poll_recv(cx).map(|frame| frame.map(Ok)),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Reply::Empty)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

/// Where a handler of a streaming method puts its answers.
pub struct Sink<A> {
    frames: mpsc::Sender<Frame<Bytes>>,
    kind: PhantomData<fn(A)>,
}

impl<A: Message> Sink<A> {
    /// Sends an answer; waits while the caller does not take them.
    ///
    /// # Errors
    /// [`Code::Cancelled`] when the caller is gone; what cannot be encoded.
    pub async fn send(&self, message: &A) -> Result<(), Status> {
        let framed = framing::frame(message)?;
        let gone = |_| Status::new(Code::Cancelled, "the caller is gone");
        self.frames.send(Frame::data(framed)).await.map_err(gone)
    }
}

/// A sink, the end for the trailers, and the frames that come out.
pub(crate) fn channel<A>() -> (Sink<A>, mpsc::Sender<Frame<Bytes>>, mpsc::Receiver<Frame<Bytes>>) {
    let (sender, frames) = mpsc::channel(QUEUED);
    (Sink { frames: sender.clone(), kind: PhantomData }, sender, frames)
}

/// The trailers that say how a call ended.
pub(crate) fn trailers(result: &Result<(), Status>) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    match result {
        Ok(()) => {
            trailers.insert(GRPC_STATUS, HeaderValue::from_static("0"));
        }
        Err(status) => status.put(&mut trailers),
    }
    trailers
}

/// An answer with this body.
pub(crate) fn response(body: Reply) -> Response<Reply> {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, GRPC);
    response
}

/// An answer of one message.
pub(crate) fn success(message: Bytes) -> Response<Reply> {
    response(Reply::One { message: Some(message), trailers: Some(trailers(&Ok(()))) })
}

/// An answer without a message: its status is in the headers, as gRPC wants it then.
pub(crate) fn refusal(status: &Status) -> Response<Reply> {
    let mut response = response(Reply::Empty);
    status.put(response.headers_mut());
    if status.code == Code::Unimplemented {
        response.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    }
    response
}

/// An answer to what is not gRPC.
pub(crate) fn plain(status: StatusCode) -> Response<Reply> {
    let mut response = Response::new(Reply::Empty);
    *response.status_mut() = status;
    response
}
