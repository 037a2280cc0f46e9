//! Exec, attach and port forwarding through containerd's streaming server, as Kubernetes' API server does it: WebSocket
//! messages whose first byte is a channel (`v4.channel.k8s.io`).

use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const STATUS: u8 = 3;
const RESIZE: u8 = 4;

/// How long to wait for the next message.
const LIMIT: Duration = Duration::from_secs(120);

/// The streams of a program in a container.
pub struct Stream {
    socket: WebSocketStream<TcpStream>,
    /// What it wrote to standard output so far.
    pub stdout: Vec<u8>,
    /// What it wrote to standard error so far.
    pub stderr: Vec<u8>,
    status: Option<Value>,
}

impl Stream {
    /// Opens what an exec or attach request answered. The calling thread must be in the node's network.
    ///
    /// # Errors
    /// Where nobody listens there or the other side speaks another protocol.
    pub async fn open(url: &str) -> Result<Self> {
        let socket = open(url).await?;
        Ok(Stream { socket, stdout: Vec::new(), stderr: Vec::new(), status: None })
    }

    /// Writes to its standard input.
    ///
    /// # Errors
    /// Where the connection is gone.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        send(&mut self.socket, STDIN, bytes).await
    }

    /// Tells it the terminal's size.
    ///
    /// # Errors
    /// Where the connection is gone.
    pub async fn resize(&mut self, columns: u16, rows: u16) -> Result<()> {
        let size = json!({"Width": columns, "Height": rows}).to_string();
        send(&mut self.socket, RESIZE, size.as_bytes()).await
    }

    /// Reads until standard output holds this text.
    ///
    /// # Errors
    /// Where it ends before: with all that came.
    pub async fn wait_for(&mut self, text: &str) -> Result<()> {
        let holds = |all: &[u8]| String::from_utf8_lossy(all).contains(text);
        while !holds(&self.stdout) {
            if !self.take().await? {
                bail!("it ended before {text:?} came: {:?}", String::from_utf8_lossy(&self.stdout));
            }
        }
        Ok(())
    }

    /// Reads to the end; gives the exit status.
    ///
    /// # Errors
    /// Where it does not end, or does without saying how; what containerd says where it did not run.
    pub async fn finish(&mut self) -> Result<i32> {
        while self.take().await? {}
        let status = self.status.as_ref().context("it ended without a status")?;
        if status.get("status").and_then(Value::as_str) == Some("Success") {
            return Ok(0);
        }
        let causes = status.pointer("/details/causes").and_then(Value::as_array).into_iter().flatten();
        let mut codes = causes
            .filter(|c| c.get("reason").and_then(Value::as_str) == Some("ExitCode"))
            .filter_map(|c| c.get("message").and_then(Value::as_str)?.parse().ok());
        codes.next().with_context(|| status.to_string())
    }

    /// Takes the next message in; false at the end.
    async fn take(&mut self) -> Result<bool> {
        let Some((channel, bytes)) = receive(&mut self.socket).await? else { return Ok(false) };
        match channel {
            STDOUT => self.stdout.extend_from_slice(&bytes),
            STDERR => self.stderr.extend_from_slice(&bytes),
            STATUS if !bytes.is_empty() => self.status = Some(serde_json::from_slice(&bytes)?),
            _ => {}
        }
        Ok(true)
    }
}

/// A connection to one port of a pod.
pub struct Forward {
    socket: WebSocketStream<TcpStream>,
    heads: usize,
}

impl Forward {
    /// Opens what a port-forward request for one port answered. The calling thread must be in the node's network.
    ///
    /// # Errors
    /// As [`Stream::open`].
    pub async fn open(url: &str) -> Result<Self> {
        Ok(Forward { socket: open(url).await?, heads: 0 })
    }

    /// Sends bytes.
    ///
    /// # Errors
    /// Where the connection is gone.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        send(&mut self.socket, 0, bytes).await
    }

    /// Reads until the bytes that came hold this text.
    ///
    /// # Errors
    /// What the other side says went wrong; where it ends before.
    pub async fn wait_for(&mut self, text: &str) -> Result<Vec<u8>> {
        let mut all = Vec::new();
        while !String::from_utf8_lossy(&all).contains(text) {
            let Some((channel, bytes)) = receive(&mut self.socket).await? else {
                bail!("it ended before {text:?} came: {:?}", String::from_utf8_lossy(&all))
            };
            // The first message of each of the two channels is the port.
            if self.heads < 2 && bytes.len() == 2 {
                self.heads += 1;
            } else if channel == 0 {
                all.extend_from_slice(&bytes);
            } else {
                bail!("{}", String::from_utf8_lossy(&bytes));
            }
        }
        Ok(all)
    }
}

async fn open(url: &str) -> Result<WebSocketStream<TcpStream>> {
    let address =
        url.strip_prefix("http://").and_then(|rest| rest.split('/').next()).context(url.to_owned())?;
    let tcp = TcpStream::connect(address).await.with_context(|| format!("cannot connect to {address}"))?;
    let mut request = url.replacen("http://", "ws://", 1).into_client_request()?;
    request.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static("v4.channel.k8s.io"));
    let (socket, _) = timeout(LIMIT, tokio_tungstenite::client_async(request, tcp)).await??;
    Ok(socket)
}

async fn send(socket: &mut WebSocketStream<TcpStream>, channel: u8, bytes: &[u8]) -> Result<()> {
    let message = [&[channel], bytes].concat();
    Ok(timeout(LIMIT, socket.send(Message::binary(message))).await.context("nobody reads")??)
}

async fn receive(socket: &mut WebSocketStream<TcpStream>) -> Result<Option<(u8, Vec<u8>)>> {
    loop {
        let next = timeout(LIMIT, socket.next()).await.context("nothing came in time")?;
        match next {
            Some(Ok(Message::Binary(bytes))) => {
                if let Some((channel, rest)) = bytes.split_first() {
                    return Ok(Some((*channel, rest.to_vec())));
                }
            }
            Some(Ok(Message::Close(_))) | None => return Ok(None),
            Some(Ok(_)) => {}
            // The server hangs up without a farewell.
            Some(Err(_)) => return Ok(None),
        }
    }
}
