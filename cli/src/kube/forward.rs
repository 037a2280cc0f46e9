//! A stream to a port of a pod, through the API server: what `kubectl port-forward` does, in this process.
//!
//! Kubernetes' WebSocket protocol `v4.channel.k8s.io`: for each port a channel for data and one for an error, both begun by the
//! server with the port's number. Server, node and pod are hostile: messages, and what they come to, are bounded.

use std::time::Duration;

use cocoon_stage::{Code, Failure};
use futures_util::{SinkExt as _, StreamExt as _};
use http::{HeaderValue, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use kube::client::Body;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::{client::generate_key, derive_accept_key};
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use super::cluster::{Cluster, failure};
use crate::client::segment;

/// The one subprotocol that is asked for.
const PROTOCOL: &str = "v4.channel.k8s.io";
/// Largest message.
const MAX_MESSAGE: usize = 1 << 20;
/// Most bytes of the pod's on one stream.
const MAX_BYTES: usize = 4 << 20;
/// Longest error text that is kept.
const MAX_WORDS: usize = 300;
/// How long the server may take to open the stream.
const OPEN_LIMIT: Duration = Duration::from_secs(30);

/// A stream to a port of a pod. It ends when it is dropped.
pub struct Forwarded {
    pub stream: DuplexStream,
    /// What the cluster says where the port could not be reached.
    pub trouble: oneshot::Receiver<String>,
}

impl Cluster {
    /// Opens a stream to a port of a pod's loopback.
    ///
    /// # Errors
    /// `CLUSTER-REFUSED` where the API does not let its caller, `VERIFY-NO-PROOF` where there is no way to this pod,
    /// `CLUSTER-UNREACHABLE` where the API does not speak the protocol.
    pub async fn forward(&self, namespace: &str, pod: &str, port: u16) -> Result<Forwarded, Failure> {
        let opened = timeout(OPEN_LIMIT, self.open_socket(namespace, pod, port)).await;
        let late = |_| Failure::new(Code::ClusterUnreachable, "port-forward: the API server took too long");
        let socket = opened.map_err(late)??;
        let (stream, other) = tokio::io::duplex(64 << 10);
        let (say, trouble) = oneshot::channel();
        tokio::spawn(async move {
            if let Err(words) = pump(socket, other, port).await {
                let plain = words.chars().filter(|c| !c.is_control()).take(MAX_WORDS).collect();
                let _ = say.send(plain);
            }
        });
        Ok(Forwarded { stream, trouble })
    }

    async fn open_socket(
        &self,
        namespace: &str,
        pod: &str,
        port: u16,
    ) -> Result<WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>, Failure> {
        let strange = |why: String| Failure::new(Code::ClusterUnreachable, format!("port-forward: {why}"));
        let path = format!(
            "/api/v1/namespaces/{}/pods/{}/portforward?ports={port}",
            segment(namespace),
            segment(pod)
        );
        let key = generate_key();
        let request = Request::get(path)
            .header(header::CONNECTION, "Upgrade")
            .header(header::UPGRADE, "websocket")
            .header(header::SEC_WEBSOCKET_VERSION, "13")
            .header(header::SEC_WEBSOCKET_PROTOCOL, PROTOCOL)
            .header(header::SEC_WEBSOCKET_KEY, &key)
            .body(Body::empty())
            .map_err(|e| Failure::new(Code::Internal, e.to_string()))?;
        let answer = self.client.send(request).await.map_err(|e| failure("port-forward", &e))?;
        let status = answer.status();
        if status != StatusCode::SWITCHING_PROTOCOLS {
            // Rights are its caller's to have; all else is about this pod: it does not run, or its node does not answer.
            let code = match status {
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Code::ClusterRefused,
                _ => Code::VerifyNoProof,
            };
            let body = http_body_util::Limited::new(answer.into_body(), 64 << 10);
            let body = http_body_util::BodyExt::collect(body).await.map(http_body_util::Collected::to_bytes);
            let words = body.map(|b| message(&b)).unwrap_or_default();
            return Err(Failure::new(code, format!("port-forward: {status} {words}")));
        }
        let accept = derive_accept_key(key.as_bytes());
        let has = |name, value: &str| {
            answer.headers().get(name).map(HeaderValue::as_bytes) == Some(value.as_bytes())
        };
        if !has(header::SEC_WEBSOCKET_ACCEPT, &accept) || !has(header::SEC_WEBSOCKET_PROTOCOL, PROTOCOL) {
            return Err(strange("the API server speaks another protocol than v4.channel.k8s.io".into()));
        }
        let upgraded = hyper::upgrade::on(answer).await.map_err(|e| strange(e.to_string()))?;
        let bounds =
            WebSocketConfig::default().max_message_size(Some(MAX_MESSAGE)).max_frame_size(Some(MAX_MESSAGE));
        Ok(WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Client, Some(bounds)).await)
    }
}

/// The words of a `Status`, or the text as it is.
fn message(body: &[u8]) -> String {
    let json: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    let words = json.as_ref().and_then(|v| v.get("message")).and_then(serde_json::Value::as_str);
    let words = words.map_or_else(|| String::from_utf8_lossy(body).into_owned(), str::to_owned);
    words.chars().filter(|c| !c.is_control()).take(MAX_WORDS).collect()
}

/// Copies both ways until one end is gone. `Err` with the cluster's words, or with what was wrong with what it sent.
async fn pump<S>(socket: WebSocketStream<S>, own: DuplexStream, port: u16) -> Result<(), String>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let (mut to_pod, mut from_pod) = socket.split();
    let (mut read, mut write) = tokio::io::split(own);
    let mut begun = [false; 2];
    let mut left = MAX_BYTES;
    let mut buffer = vec![0; 16 << 10];
    let mut sending = true;
    loop {
        tokio::select! {
            came = from_pod.next() => match came {
                None => return Ok(()),
                Some(Err(e)) => return Err(e.to_string()),
                Some(Ok(Message::Close(_))) => return Ok(()),
                Some(Ok(Message::Binary(bytes))) => {
                    let Some((channel, data)) = bytes.split_first() else { continue };
                    let Some(begun) = begun.get_mut(usize::from(*channel)) else {
                        return Err("the API server wrote on a channel that was not opened".into());
                    };
                    if !std::mem::replace(begun, true) {
                        if data != port.to_le_bytes() {
                            return Err("the API server opened another port".into());
                        }
                    } else if *channel == 1 {
                        return Err(String::from_utf8_lossy(data).into_owned());
                    } else {
                        left = left.checked_sub(data.len()).ok_or("the pod's answer is too long")?;
                        if write.write_all(data).await.is_err() {
                            return Ok(());
                        }
                    }
                }
                // Pings are answered below us.
                Some(Ok(_)) => {}
            },
            got = read.read(&mut buffer), if sending => match got {
                Ok(0) | Err(_) => sending = false,
                Ok(length) => {
                    let mut frame = vec![0];
                    frame.extend_from_slice(buffer.get(..length).unwrap_or_default());
                    to_pod.send(Message::binary(frame)).await.map_err(|e| e.to_string())?;
                }
            },
        }
        // With nobody to hear it, the rest need not come.
        if !sending {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An end that says this to one who asks, and what came of it.
    async fn told(messages: Vec<Message>) -> (Result<(), String>, Vec<u8>) {
        let (ours, theirs) = tokio::io::duplex(8 << 20);
        let server = tokio::spawn(async move {
            let mut server = WebSocketStream::from_raw_socket(theirs, Role::Server, None).await;
            for message in messages {
                if server.send(message).await.is_err() {
                    break;
                }
            }
            let _ = server.close(None).await;
        });
        let bounds = WebSocketConfig::default().max_message_size(Some(MAX_MESSAGE));
        let client = WebSocketStream::from_raw_socket(ours, Role::Client, Some(bounds)).await;
        let (mut stream, other) = tokio::io::duplex(64 << 10);
        let pump = tokio::spawn(pump(client, other, 8007));
        let mut got = Vec::new();
        stream.read_to_end(&mut got).await.unwrap();
        server.await.unwrap();
        (pump.await.unwrap(), got)
    }

    fn frame(channel: u8, data: &[u8]) -> Message {
        Message::binary([&[channel], data].concat())
    }

    #[tokio::test]
    async fn data_come_after_the_ports_number() {
        let port = 8007_u16.to_le_bytes();
        let (end, got) =
            told(vec![frame(0, &port), frame(1, &port), frame(0, b"HTTP"), frame(0, b"/1.1")]).await;
        assert_eq!((end, got.as_slice()), (Ok(()), b"HTTP/1.1".as_slice()));
    }

    #[tokio::test]
    async fn what_is_out_of_order_or_too_much_ends_it() {
        let port = 8007_u16.to_le_bytes();
        for (messages, words) in [
            (vec![frame(0, b"HTTP")], "another port"),
            (vec![frame(0, &80_u16.to_le_bytes())], "another port"),
            (vec![frame(2, &port)], "a channel"),
            (vec![frame(255, b"")], "a channel"),
            (vec![frame(1, &port), frame(1, b"connection refused")], "connection refused"),
            (vec![frame(0, &vec![0; MAX_MESSAGE + 1])], "Space limit"),
        ] {
            let (end, _) = told(messages).await;
            let said = end.unwrap_err();
            assert!(said.to_lowercase().contains(&words.to_lowercase()), "{said:?} is not {words:?}");
        }
        let mut flood = vec![frame(0, &port)];
        flood.extend((0..6).map(|_| frame(0, &vec![7; MAX_MESSAGE - 10])));
        let (end, got) = told(flood).await;
        assert_eq!(end.unwrap_err(), "the pod's answer is too long");
        assert!(got.len() <= MAX_BYTES);
    }

    #[test]
    fn refusals_are_read_as_plain_words() {
        assert_eq!(
            message(br#"{"kind":"Status","message":"pods \u001b[1m forbidden"}"#),
            "pods [1m forbidden"
        );
        assert_eq!(message(b"no\nroute"), "noroute");
        assert!(message(&[b'x'; 9000]).len() <= MAX_WORDS);
    }
}
