//! The client: calls of one request, with one answer or a bounded stream of them.

use std::marker::PhantomData;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, TE};
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use protobuf::Message;
use tokio::time::{Instant, timeout_at};

use crate::connection::{Connection, Target};
use crate::framing::{self, Messages};
use crate::{Code, FrameError, Status, server, status, timeout};

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
/// From here on a time is none that `grpc-timeout` can say.
const LONGEST: Duration = Duration::from_millis(99_999_999);

/// A peer to call. Clones share one connection, which is made at the first call and again when it broke; the server may
/// be started and restarted at any time.
#[derive(Clone, Debug)]
pub struct Client {
    connection: Arc<Connection>,
    metadata: HeaderMap,
    timeout: Duration,
}

impl Client {
    /// The server on a unix socket.
    pub fn unix(path: impl Into<PathBuf>) -> Self {
        Client::to(Target::Unix(path.into()))
    }

    /// The server on an address of this machine's loopback.
    ///
    /// # Errors
    /// [`Code::InvalidArgument`] for another address: it would be spoken to in the clear.
    pub fn loopback(address: SocketAddr) -> Result<Self, Status> {
        if address.ip().to_canonical().is_loopback() {
            Ok(Client::to(Target::Loopback(address)))
        } else {
            Err(Status::new(Code::InvalidArgument, format!("{address} is not on this machine's loopback")))
        }
    }

    fn to(target: Target) -> Self {
        let connection = Arc::new(Connection::new(target));
        Client { connection, metadata: HeaderMap::new(), timeout: DEFAULT_TIMEOUT }
    }

    /// Sends this metadata with each call, such as `containerd-namespace`.
    ///
    /// # Errors
    /// [`Code::InvalidArgument`] for what cannot be a header.
    pub fn with_metadata(mut self, name: &str, value: &str) -> Result<Self, Status> {
        let unfit = || Status::new(Code::InvalidArgument, format!("{name} cannot be sent as metadata"));
        let name = HeaderName::try_from(name).map_err(|_| unfit())?;
        let value = HeaderValue::try_from(value).map_err(|_| unfit())?;
        self.metadata.insert(name, value);
        Ok(self)
    }

    /// How long a call may take in all, 30 s unless told; of a stream all of it. More than a day is no limit.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Calls `method` (`/package.Service/Method`), whose answer is one message of at most `limit` bytes.
    ///
    /// # Errors
    /// The peer's status; [`Code::Unavailable`] where it is not there or the connection broke,
    /// [`Code::DeadlineExceeded`], [`Code::ResourceExhausted`] for a larger answer, [`Code::Internal`] for what is no
    /// proper answer.
    pub async fn unary<Q: Message, A: Message>(
        &self,
        method: &str,
        request: &Q,
        limit: usize,
    ) -> Result<A, Status> {
        let mut answers = self.streaming::<Q, A>(method, request, limit, 1).await?;
        let answer = answers.next().await?.ok_or_else(|| FrameError::Missing.of_answer())?;
        match answers.next().await? {
            None => Ok(answer),
            Some(_) => Err(FrameError::Trailing.of_answer()),
        }
    }

    /// Calls `method`, whose answer is a stream of at most `count` messages of at most `limit` bytes each.
    ///
    /// # Errors
    /// As [`Client::unary`]; what goes wrong later is said by [`Streaming::next`].
    pub async fn streaming<Q: Message, A: Message>(
        &self,
        method: &str,
        request: &Q,
        limit: usize,
        count: usize,
    ) -> Result<Streaming<A>, Status> {
        let until = Instant::now().checked_add(self.timeout);
        let request = self.request(method, framing::frame(request)?)?;
        let (head, body) = in_time(until, self.connection.send(request)).await?.into_parts();
        match status::outcome(&head.headers) {
            Some(Err(refused)) => return Err(refused),
            _ if head.status != StatusCode::OK => return Err(Status::of_http(head.status)),
            _ if !server::is_grpc(&head.headers) => {
                return Err(Status::new(Code::Unknown, "the answer is not gRPC"));
            }
            early => {
                let messages = Messages::new(body, limit);
                Ok(Streaming { messages, left: count, until, early: early.is_some(), kind: PhantomData })
            }
        }
    }

    fn request(&self, method: &str, framed: Bytes) -> Result<Request<Full<Bytes>>, Status> {
        let unfit = |e: http::Error| Status::new(Code::InvalidArgument, format!("{method}: {e}"));
        let mut request =
            Request::post(format!("http://localhost{method}")).body(Full::new(framed)).map_err(unfit)?;
        let headers = request.headers_mut();
        headers.extend(self.metadata.clone());
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(TE, HeaderValue::from_static("trailers"));
        if self.timeout <= LONGEST {
            headers.insert(timeout::GRPC_TIMEOUT, timeout::write(self.timeout));
        }
        Ok(request)
    }
}

async fn in_time<T>(
    until: Option<Instant>,
    work: impl Future<Output = Result<T, Status>>,
) -> Result<T, Status> {
    match until {
        Some(until) => timeout_at(until, work)
            .await
            .unwrap_or_else(|_| Err(Status::new(Code::DeadlineExceeded, "the peer did not answer in time"))),
        None => work.await,
    }
}

/// Answers that are still coming.
pub struct Streaming<A> {
    messages: Messages<Incoming>,
    left: usize,
    until: Option<Instant>,
    /// The status, success, came before the messages; then there may be none.
    early: bool,
    kind: PhantomData<fn() -> A>,
}

impl<A: Message> Streaming<A> {
    /// The next answer; `None` after the last. Only then is it certain that none was cut off.
    ///
    /// # Errors
    /// As [`Client::unary`]; [`Code::ResourceExhausted`] for more answers than wanted. Nothing comes after an error.
    pub async fn next(&mut self) -> Result<Option<A>, Status> {
        let message = match in_time(self.until, async { Ok(self.messages.next().await) }).await? {
            Ok(message) => message,
            // The peer's own words, where it left any, say more than that the stream broke.
            Err(error) => match status::outcome(self.messages.trailers()) {
                Some(Err(refused)) => return Err(refused),
                _ => return Err(error.of_answer()),
            },
        };
        match message {
            Some(_) if self.early => Err(FrameError::Trailing.of_answer()),
            Some(_) if self.left == 0 => {
                Err(Status::new(Code::ResourceExhausted, "the answer has more messages than wanted"))
            }
            Some(message) => {
                self.left = self.left.saturating_sub(1);
                framing::parse(&message).map(Some).map_err(FrameError::of_answer)
            }
            None if self.early => Ok(None),
            None => match status::outcome(self.messages.trailers()) {
                Some(Ok(())) => Ok(None),
                Some(Err(refused)) => Err(refused),
                None => Err(Status::new(Code::Internal, "the answer ended without a status")),
            },
        }
    }

    /// All answers.
    ///
    /// # Errors
    /// As [`Streaming::next`].
    pub async fn all(mut self) -> Result<Vec<A>, Status> {
        let mut answers = Vec::new();
        while let Some(answer) = self.next().await? {
            answers.push(answer);
        }
        Ok(answers)
    }
}
