//! One HTTP/2 connection to a peer, made when it is first needed and again when it broke.

use std::fmt::Display;
use std::net::SocketAddr;
use std::path::PathBuf;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Mutex;

use crate::{Code, Status};

/// Most bytes of an answer's headers and of its trailers.
const MAX_HEADERS: u32 = 64 * 1024;
/// Flow-control windows.
const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;

type Sender = SendRequest<Full<Bytes>>;

/// Where a peer listens.
#[derive(Debug)]
pub(crate) enum Target {
    Unix(PathBuf),
    Loopback(SocketAddr),
}

#[derive(Debug)]
pub(crate) struct Connection {
    target: Target,
    sender: Mutex<Option<Sender>>,
}

impl Connection {
    pub fn new(target: Target) -> Self {
        Connection { target, sender: Mutex::new(None) }
    }

    /// Sends a request; once more, on a new connection, where the present one was at its end before it left.
    pub async fn send(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, Status> {
        let mut sender = self.connected().await?;
        let unsent = match sender.try_send_request(request).await {
            Ok(response) => return Ok(response),
            Err(mut failed) => match failed.take_message() {
                Some(unsent) => unsent,
                None => return Err(self.unreachable(failed.error())),
            },
        };
        self.sender.lock().await.take();
        let mut sender = self.connected().await?;
        sender.send_request(unsent).await.map_err(|e| self.unreachable(&e))
    }

    /// A living connection: the present one or a new one.
    async fn connected(&self) -> Result<Sender, Status> {
        let mut kept = self.sender.lock().await;
        if let Some(sender) = kept.as_ref().filter(|sender| !sender.is_closed()) {
            return Ok(sender.clone());
        }
        let sender = match &self.target {
            Target::Unix(path) => {
                self.handshake(UnixStream::connect(path).await.map_err(|e| self.unreachable(&e))?).await?
            }
            Target::Loopback(address) => {
                let stream = TcpStream::connect(address).await.map_err(|e| self.unreachable(&e))?;
                let _ = stream.set_nodelay(true);
                self.handshake(stream).await?
            }
        };
        *kept = Some(sender.clone());
        Ok(sender)
    }

    async fn handshake(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) -> Result<Sender, Status> {
        // No pings: a local peer's end is seen at once, and gRPC servers take frequent ones for an attack.
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_header_list_size(MAX_HEADERS)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_concurrent_streams(0)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|e| self.unreachable(&e))?;
        // Ends with its last sender, or with the connection.
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection ended");
            }
        });
        Ok(sender)
    }

    fn unreachable(&self, reason: &dyn Display) -> Status {
        let message = match &self.target {
            Target::Unix(path) => format!("{} cannot be reached: {reason}", path.display()),
            Target::Loopback(address) => format!("{address} cannot be reached: {reason}"),
        };
        Status::new(Code::Unavailable, message)
    }
}
