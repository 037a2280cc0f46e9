//! What the administrative tests share on top of `support`: JSON calls with any token, and guests of any tenant.
#![allow(
    dead_code,
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::collections::BTreeMap;

use cocoon_evidence::snp;
use cocoon_protocol::b64;
use cocoon_protocol::initdata::InitData;
use cocoon_protocol::messages::Challenge;
use cocoon_sim::GuestContext;
use serde_json::{Value, json};

use crate::support::*;

/// One request with a bearer token and a JSON body (`null`: none).
pub async fn with_token(client: &mut Client, token: &str, method: &str, path: &str, body: &Value) -> Reply {
    let bearer = format!("Bearer {token}");
    let text = if body.is_null() { String::new() } else { body.to_string() };
    client.request(method, path, &[("authorization", &bearer)], text.as_bytes()).await
}

/// One request as the administrator.
pub async fn admin(client: &mut Client, method: &str, path: &str, body: Value) -> Reply {
    with_token(client, ADMIN, method, path, &body).await
}

/// The answer's JSON, after a look at its status.
pub async fn read(client: &mut Client, path: &str) -> Value {
    let reply = admin(client, "GET", path, Value::Null).await;
    assert_eq!(reply.status, 200, "{path}: {}", reply.text());
    reply.json()
}

/// An administrator's request that must be done.
pub async fn done(client: &mut Client, method: &str, path: &str, body: Value) -> Reply {
    let reply = admin(client, method, path, body).await;
    assert_eq!(reply.status, 200, "{method} {path}: {}", reply.text());
    reply
}

/// An administrator's request that must be refused so.
pub async fn refused(
    client: &mut Client,
    method: &str,
    path: &str,
    body: Value,
    status: u16,
    code: &str,
) -> Reply {
    let reply = admin(client, method, path, body.clone()).await;
    assert_eq!(
        (reply.status, reply.header("x-cocoon-code")),
        (status, Some(code)),
        "{method} {path} {body}: {}",
        reply.text()
    );
    assert_eq!(reply.refusal().0, code);
    reply
}

/// The body of upstream's client for a policy.
pub fn upstream_policy(text: &str) -> Value {
    json!({"policy": b64::url_encode(text.as_bytes())})
}

/// Claims of a guest of this processor, with another measurement than the usual one if asked.
pub fn claims(world: &World, measurement: [u8; 48]) -> Value {
    let context = GuestContext { measurement, host_data: [0; 32], policy: POLICY };
    let report = snp::Report::parse(&world.processor.report(&context, &[0; 64]).unwrap()).unwrap();
    snp::claims(&report)
}

/// The values by which the processor's guests are affirmed, without the measurement.
pub fn tcb_values(world: &World) -> BTreeMap<String, Value> {
    let claims = claims(world, MEASUREMENT);
    [
        ("sim_bootloader", "reported_tcb_bootloader"),
        ("sim_microcode", "reported_tcb_microcode"),
        ("sim_snp_svn", "reported_tcb_snp"),
        ("sim_tee_svn", "reported_tcb_tee"),
    ]
    .into_iter()
    .map(|(name, claim)| (name.to_owned(), json!([claims[claim]])))
    .collect()
}

/// The value of `measurement` as reference values have it.
pub fn measured(world: &World, measurement: [u8; 48]) -> Value {
    claims(world, measurement)["measurement"].clone()
}

/// All values by which the processor's guests are affirmed, as the API takes them.
pub fn all_values(world: &World) -> Value {
    let mut values = tcb_values(world);
    values.insert("sim_launch_measurement".into(), json!([measured(world, MEASUREMENT)]));
    json!({"source": "test", "values": values})
}

/// A guest of a tenant (or with an empty prefix of the Trustee itself).
pub struct Visitor {
    pub guest: Guest,
    pub prefix: String,
}

impl Visitor {
    pub async fn new(world: &World, prefix: &str, plan: Option<InitData>) -> Visitor {
        Visitor { guest: world.guest(plan).await, prefix: prefix.to_owned() }
    }

    pub async fn auth(&mut self) -> Challenge {
        let body = json!({"version": "0.4.0", "tee": "snp", "extra-params": ""});
        let reply = self.guest.post(&format!("{}/kbs/v0/auth", self.prefix), &body).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        serde_json::from_slice(&reply.body).unwrap()
    }

    pub async fn answer(&mut self, world: &World, challenge: &Challenge) -> Reply {
        let message = self.guest.attestation(world, challenge);
        self.guest.post(&format!("{}/kbs/v0/attest", self.prefix), &message).await
    }

    /// The whole handshake; the token or the refusal.
    pub async fn attest(&mut self, world: &World) -> Result<String, Reply> {
        let challenge = self.auth().await;
        let reply = self.answer(world, &challenge).await;
        if reply.status != 200 {
            return Err(reply);
        }
        Ok(reply.json()["token"].as_str().unwrap().to_owned())
    }

    pub async fn get(&mut self, token: &str, path: &str) -> Reply {
        let bearer = format!("Bearer {token}");
        let path = format!("{}/kbs/v0/resource/{path}", self.prefix);
        self.guest.client.request("GET", &path, &[("authorization", &bearer)], b"").await
    }
}

/// The claims of a token, unchecked.
pub fn payload(token: &str) -> Value {
    serde_json::from_slice(&b64::url_decode(token.split('.').nth(1).unwrap()).unwrap()).unwrap()
}

/// One request on a stream of any kind, to the end of the connection; `None` if there was no answer.
pub async fn exchange(
    mut stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Option<Reply> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut text = format!(
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {}\r\n",
        body.len()
    );
    headers.iter().for_each(|(name, value)| text.push_str(&format!("{name}: {value}\r\n")));
    text.push_str("\r\n");
    stream.write_all(&[text.as_bytes(), body].concat()).await.ok()?;
    let mut received = Vec::new();
    // A peer may close without TLS's good-bye; what came before counts.
    let _ = stream.read_to_end(&mut received).await;
    let end = received.windows(4).position(|w| w == b"\r\n\r\n")?;
    let head = String::from_utf8(received[..end].to_vec()).unwrap();
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers = lines
        .filter_map(|l| l.split_once(':'))
        .map(|(n, v)| (n.to_ascii_lowercase(), v.trim().to_owned()))
        .collect();
    Some(Reply { status, headers, body: received[end + 4..].to_vec() })
}
