//! The verification service of a Trustee on loopback, and how its callers speak to it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use cocoon_protocol::token;
use cocoon_rpc::{AttestationClient, Endpoint, Error, RpcLimits, serve, serve_rest};
use cocoon_trustee::AttestationApi;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::administration::exchange;
use crate::support::*;

/// The administrator's token: gRPC takes none with spaces.
pub const TOKEN: &str = "correct-horse-battery-staple";

/// Both interfaces of a Trustee on loopback.
pub struct Api {
    rest: SocketAddr,
    grpc: SocketAddr,
    stops: Vec<oneshot::Sender<()>>,
    tasks: Vec<JoinHandle<Result<(), Error>>>,
}

impl Api {
    pub async fn start(world: &World) -> Api {
        let api = Arc::new(AttestationApi::new(world.trustee.clone()));
        let (rest, grpc) = (
            TcpListener::bind("127.0.0.1:0").await.unwrap(),
            TcpListener::bind("127.0.0.1:0").await.unwrap(),
        );
        let (rest_at, grpc_at) = (rest.local_addr().unwrap(), grpc.local_addr().unwrap());
        let (stop_rest, rest_stopped) = oneshot::channel::<()>();
        let (stop_grpc, grpc_stopped) = oneshot::channel::<()>();
        let ended = |stopped: oneshot::Receiver<()>| async { drop(stopped.await) };
        let tasks = vec![
            tokio::spawn(serve_rest(
                rest,
                None,
                api.clone(),
                api.clone(),
                RpcLimits::default(),
                ended(rest_stopped),
            )),
            tokio::spawn(serve(grpc, None, api.clone(), api, RpcLimits::default(), ended(grpc_stopped))),
        ];
        Api { rest: rest_at, grpc: grpc_at, stops: vec![stop_rest, stop_grpc], tasks }
    }

    pub async fn stop(mut self) {
        self.stops.clear();
        for task in self.tasks {
            task.await.unwrap().unwrap();
        }
    }

    pub async fn ask(&self, method: &str, path: &str, token: Option<&str>, body: &Value) -> Reply {
        let bearer = format!("Bearer {}", token.unwrap_or_default());
        let headers: &[(&str, &str)] = if token.is_some() { &[("authorization", &bearer)] } else { &[] };
        let text = if body.is_null() { String::new() } else { body.to_string() };
        let stream = TcpStream::connect(self.rest).await.unwrap();
        exchange(stream, method, path, headers, text.as_bytes()).await.unwrap()
    }

    /// As the administrator; the text of a success.
    pub async fn rest(&self, method: &str, path: &str, body: Value) -> String {
        let reply = self.ask(method, path, Some(TOKEN), &body).await;
        assert_eq!(reply.status, 200, "{method} {path}: {}", reply.text());
        reply.text()
    }

    /// As the administrator; the code of a refusal.
    pub async fn refused(&self, method: &str, path: &str, body: &Value) -> (u16, String) {
        let reply = self.ask(method, path, Some(TOKEN), body).await;
        assert!(reply.status >= 400, "{method} {path} {body}");
        let body = reply.json();
        assert_eq!(body["request_id"].as_str().unwrap().len(), 24);
        assert!(body["detail"].is_string());
        (reply.status, body["code"].as_str().unwrap().to_owned())
    }

    pub fn client(&self, bearer: Option<&str>) -> AttestationClient {
        let endpoint = Endpoint {
            name: "trustee".into(),
            endpoint: format!("http://{}", self.grpc),
            ca_pem: None,
            identity: None,
            timeout: Duration::from_secs(20),
        };
        AttestationClient::connect(endpoint, bearer).unwrap()
    }

    /// The claims of a token, checked with the keys that anybody may fetch.
    pub async fn verified(&self, token: &str) -> Value {
        let keys = self.ask("GET", "/.well-known/jwks.json", None, &Value::Null).await;
        assert_eq!(keys.status, 200);
        token::verify(token.trim(), &keys.json(), cocoon_trustee::system_clock()()).unwrap()
    }
}
