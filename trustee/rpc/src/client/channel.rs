//! One HTTP/2 connection to a peer, made when it is first needed and again when it broke.

use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, TE};
use http::uri::PathAndQuery;
use http::{HeaderValue, Request, Response, StatusCode, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use prost::Message;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::endpoint::{Endpoint, Target};
use crate::framing::{self, PREFIX};
use crate::{Error, status};

/// Most bytes of an answer's headers and of its trailers.
const MAX_HEADERS: u32 = 64 * 1024;
/// Flow-control windows.
const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;
/// Between pings while a call waits, and how long one may stay unanswered.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

type Sender = SendRequest<Full<Bytes>>;

/// A peer that unary calls are made to.
pub(crate) struct Channel {
    target: Target,
    authorization: Option<HeaderValue>,
    /// Most bytes of a message, either way.
    limit: usize,
    sender: Mutex<Option<Sender>>,
}

impl Channel {
    /// Checks the endpoint; connects on the first call.
    pub fn new(endpoint: Endpoint, limit: usize) -> Result<Self, Error> {
        Ok(Channel { target: endpoint.target()?, authorization: None, limit, sender: Mutex::new(None) })
    }

    /// Shows this token with each call.
    pub fn set_bearer(&mut self, bearer: &str) -> Result<(), Error> {
        let mut value = HeaderValue::from_str(&format!("Bearer {bearer}")).map_err(|_| Error::Endpoint {
            name: self.target.name.clone(),
            reason: "the token cannot be sent in a header".into(),
        })?;
        value.set_sensitive(true);
        self.authorization = Some(value);
        Ok(())
    }

    /// The peer's name.
    pub fn name(&self) -> &str {
        &self.target.name
    }

    /// Calls `path` within the endpoint's time.
    pub async fn unary<A: Message + Default>(
        &self,
        path: &'static str,
        message: &impl Message,
    ) -> Result<A, Error> {
        if message.encoded_len() > self.limit {
            return Err(Error::TooLarge { name: self.target.name.clone(), limit: self.limit });
        }
        let framed = framing::frame(message);
        let answer = match timeout(self.target.timeout, self.exchange(path, framed)).await {
            Ok(answer) => answer,
            Err(_) => Err(Error::Deadline { name: self.target.name.clone() }),
        };
        if matches!(answer, Err(Error::Deadline { .. } | Error::Unreachable { .. })) {
            // The next call tries a new connection; calls in progress keep this one.
            self.sender.lock().await.take();
        }
        let framed = answer?;
        let message = framing::unframe(framed, self.limit).and_then(|message| framing::decode(&message));
        message.map_err(|error| self.protocol(&error.to_string()))
    }

    async fn exchange(&self, path: &'static str, framed: Bytes) -> Result<Bytes, Error> {
        let mut request = self.request(path, framed)?;
        let mut sender = self.connected().await?;
        let response = match sender.try_send_request(request).await {
            Ok(response) => response,
            Err(mut failed) => match failed.take_message() {
                // It never left: the connection was at its end. Once more on a new one.
                Some(unsent) => {
                    request = unsent;
                    self.sender.lock().await.take();
                    let mut sender = self.connected().await?;
                    sender.send_request(request).await.map_err(|e| self.unreachable(&e))?
                }
                None => return Err(self.unreachable(failed.error())),
            },
        };
        self.answer(response).await
    }

    fn request(&self, path: &'static str, framed: Bytes) -> Result<Request<Full<Bytes>>, Error> {
        let uri = Uri::builder()
            .scheme(self.target.scheme.clone())
            .authority(self.target.authority.clone())
            .path_and_query(PathAndQuery::from_static(path))
            .build()
            .map_err(|e| self.unreachable(&e))?;
        let mut request = Request::post(uri)
            .header(CONTENT_TYPE, status::GRPC)
            .header(TE, "trailers")
            .header(status::GRPC_TIMEOUT, status::timeout_value(self.target.timeout));
        if let Some(value) = &self.authorization {
            request = request.header(AUTHORIZATION, value);
        }
        request.body(Full::new(framed)).map_err(|e| self.unreachable(&e))
    }

    async fn answer(&self, response: Response<Incoming>) -> Result<Bytes, Error> {
        let (head, body) = response.into_parts();
        if head.status != StatusCode::OK {
            return Err(self.protocol(&format!("HTTP status {}", head.status.as_u16())));
        }
        if !status::is_grpc(&head.headers) {
            return Err(self.protocol("something that is not gRPC"));
        }
        let early = status::outcome(&head.headers);
        if let Some(Err(refused)) = early {
            return Err(self.refused(refused));
        }
        let (framed, trailers) =
            framing::read(body, self.limit).await.map_err(|error| self.protocol(&error.to_string()))?;
        // A message counts only with the status after it: without one it was cut.
        match status::outcome(&trailers).or(early.filter(|_| framed.len() < PREFIX)) {
            Some(Ok(())) => Ok(framed),
            Some(Err(refused)) => Err(self.refused(refused)),
            None => Err(self.protocol("a message without a status")),
        }
    }

    /// A living connection: the present one or a new one.
    async fn connected(&self) -> Result<Sender, Error> {
        let mut kept = self.sender.lock().await;
        if let Some(sender) = kept.as_ref().filter(|sender| !sender.is_closed()) {
            return Ok(sender.clone());
        }
        let target = &self.target;
        let stream = TcpStream::connect((target.host.as_str(), target.port))
            .await
            .map_err(|e| self.unreachable(&e))?;
        let _ = stream.set_nodelay(true);
        let sender = match &target.tls {
            Some((name, config)) => {
                let connector = TlsConnector::from(config.clone());
                let server: ServerName<'static> = name.clone();
                let stream = connector.connect(server, stream).await.map_err(|e| self.unreachable(&e))?;
                if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
                    return Err(self.protocol("a TLS connection that does not offer HTTP/2"));
                }
                self.handshake(stream).await?
            }
            None => {
                // Whatever the name resolved to: in the clear nothing leaves this machine.
                let loopback = stream.peer_addr().is_ok_and(|peer| peer.ip().to_canonical().is_loopback());
                if !loopback {
                    return Err(self.unreachable(&"it is not on this machine's loopback"));
                }
                self.handshake(stream).await?
            }
        };
        *kept = Some(sender.clone());
        Ok(sender)
    }

    async fn handshake(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) -> Result<Sender, Error> {
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_header_list_size(MAX_HEADERS)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_concurrent_streams(0)
            .keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|e| self.unreachable(&e))?;
        let name = self.target.name.clone();
        // Ends with its last sender, or with the connection.
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(peer = name, %error, "connection ended");
            }
        });
        Ok(sender)
    }

    fn unreachable(&self, reason: &dyn std::fmt::Display) -> Error {
        let reason = crate::failure::plain(&reason.to_string());
        Error::Unreachable { name: self.target.name.clone(), reason }
    }

    pub fn protocol(&self, reason: &str) -> Error {
        Error::Protocol { name: self.target.name.clone(), reason: reason.to_owned() }
    }

    fn refused(&self, (status, message, code): status::Refused) -> Error {
        Error::Status { name: self.target.name.clone(), status, message, code }
    }
}
