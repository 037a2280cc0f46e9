//! A Trustee on loopback TLS, simulated guests that attest to it, and a plain HTTP/1.1 client that can misbehave.
#![allow(
    dead_code,
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

pub mod key;
pub mod speaker;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use cocoon_evidence::snp;
use cocoon_protocol::initdata::{InitData, host_data};
use cocoon_protocol::messages::Challenge;
use cocoon_protocol::{HashAlgorithm, TeeKeyPair, report_data};
use cocoon_sim::{GuestContext, SecureProcessor};
use cocoon_store::{MemoryStore, Sealer, Store};
use cocoon_trustee::{
    Config, Limits, MinStatus, Registration, ReloadableTls, ResourcePath, Tls, Trustee, self_signed,
    serve_with, system_clock,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use zeroize::Zeroizing;

pub const MEASUREMENT: [u8; 48] = [0xab; 48];
/// SMT allowed, reserved bit 17 set: an ordinary guest policy.
pub const POLICY: u64 = 0x30000;
pub const ADMIN: &str = "correct horse battery staple";

pub fn path(text: &str) -> ResourcePath {
    text.parse().unwrap()
}

pub fn init_data(name: &str) -> InitData {
    let plan = format!("{{\"name\":\"{name}\"}}");
    let data = BTreeMap::from([
        ("plan.json".to_owned(), plan),
        ("aa.toml".to_owned(), "[token_configs.kbs]\nurl = \"https://localhost\"\n".to_owned()),
    ]);
    InitData::new(HashAlgorithm::Sha384, data)
}

pub fn registration(init_data: &InitData) -> Registration {
    Registration {
        digest_hex: hex::encode(init_data.digest()),
        name: "web".into(),
        secrets: BTreeMap::from([(path("default/secret/own"), Zeroizing::new(b"s3cret".to_vec()))]),
        allow: BTreeSet::from([path("default/key/shared"), path("default/key/gone")]),
        min_status: MinStatus::Affirming,
        accept_simulated: true,
        expires_unix: None,
    }
}

/// Two simulated processors, made once: their RSA keys take seconds. They need no folder once they are open.
pub static PROCESSORS: LazyLock<[SecureProcessor; 2]> = LazyLock::new(|| {
    [(); 2].map(|()| SecureProcessor::open_or_create(tempfile::tempdir().unwrap().path()).unwrap())
});

/// One running Trustee with the secure processor whose guests it knows.
pub struct World {
    pub folder: tempfile::TempDir,
    pub processor: &'static SecureProcessor,
    pub trustee: Trustee,
    pub ahead: Arc<AtomicU64>,
    pub address: SocketAddr,
    tls: Tls,
    stop: Option<oneshot::Sender<()>>,
    server: Option<JoinHandle<Result<(), cocoon_trustee::Error>>>,
}

impl World {
    pub async fn new() -> World {
        World::with(|_| {}, Limits::default()).await
    }

    pub async fn with(change: impl FnOnce(&mut Config), limits: Limits) -> World {
        let folder = tempfile::tempdir().unwrap();
        let processor = &PROCESSORS[0];
        let ahead = Arc::new(AtomicU64::new(0));
        let mut config = Config::new(Arc::new(MemoryStore::new()), Arc::new(Sealer::ephemeral().unwrap()));
        config.live.simulated_roots = vec![processor.root()];
        config.live.access.token_sha256 = Some(sha256(ADMIN.as_bytes()));
        let (clock, clock_ahead) = (system_clock(), ahead.clone());
        config.clock = Arc::new(move || clock() + clock_ahead.load(Ordering::SeqCst));
        change(&mut config);
        let trustee = Trustee::new(config).unwrap();
        reference_values(&trustee, processor, "sim");
        let now = system_clock()();
        let tls = self_signed(&folder.path().join("tls"), &["127.0.0.1", "localhost"], now).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let reloadable = ReloadableTls::new(&tls).unwrap();
        let serving = serve_with(trustee.clone(), listener, Some(reloadable), limits, async {
            let _ = stopped.await;
        });
        let server = tokio::spawn(serving);
        World { folder, processor, trustee, ahead, address, tls, stop: Some(stop), server: Some(server) }
    }

    pub async fn stop(mut self) {
        drop(self.stop.take());
        self.server.take().unwrap().await.unwrap().unwrap();
    }

    /// The certificate that clients must know.
    pub fn certificate(&self) -> &str {
        &self.tls.cert_chain_pem
    }

    pub async fn client(&self) -> Client {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.tls.cert_chain_pem.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let stream = TcpStream::connect(self.address).await.unwrap();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let stream = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
        Client { stream: Box::new(stream) }
    }

    /// A guest of the given plan that has not spoken to Trustee yet.
    pub async fn guest(&self, init_data: Option<InitData>) -> Guest {
        Guest {
            client: self.client().await,
            key: TeeKeyPair::generate().unwrap(),
            cookie: String::new(),
            init_data,
            measurement: MEASUREMENT,
            policy: POLICY,
        }
    }

    pub fn register(&self, registration: &Registration) {
        self.trustee.register_workload(registration).unwrap();
    }

    /// The code and steps of the newest explanation, to which the reply's request id must lead.
    pub fn explain(&self, reply: &Reply) -> cocoon_trustee::Explanation {
        self.trustee.explain(reply.header("x-request-id").unwrap()).unwrap().unwrap()
    }

    /// Evidence of a guest as its attester sends it.
    pub fn evidence(&self, guest: &Guest, report_data: &[u8]) -> Value {
        let mut field = [0; 64];
        field[..report_data.len()].copy_from_slice(report_data);
        let bound = guest.init_data.as_ref().map_or([0; 32], |i| host_data(&i.digest()));
        evidence(self.processor, guest.measurement, bound, guest.policy, &field)
    }
}

pub fn evidence(
    processor: &SecureProcessor,
    measurement: [u8; 48],
    host_data: [u8; 32],
    policy: u64,
    report_data: &[u8; 64],
) -> Value {
    let context = GuestContext { measurement, host_data, policy };
    let report = snp::Report::parse(&processor.report(&context, report_data).unwrap()).unwrap();
    let vcek = snp::CertEntry { cert_type: "VCEK".into(), data: processor.vcek_der().to_vec() };
    snp::Evidence { report, cert_chain: vec![vcek] }.to_json()
}

/// Registers what the processor's guests measure to, under names with this prefix.
pub fn reference_values(trustee: &Trustee, processor: &SecureProcessor, prefix: &str) {
    let context = GuestContext { measurement: MEASUREMENT, host_data: [0; 32], policy: POLICY };
    let report = snp::Report::parse(&processor.report(&context, &[0; 64]).unwrap()).unwrap();
    let claims = snp::claims(&report);
    let values: BTreeMap<String, Vec<Value>> = [
        ("launch_measurement", "measurement"),
        ("bootloader", "reported_tcb_bootloader"),
        ("microcode", "reported_tcb_microcode"),
        ("snp_svn", "reported_tcb_snp"),
        ("tee_svn", "reported_tcb_tee"),
    ]
    .into_iter()
    .map(|(name, claim)| (format!("{prefix}_{name}"), vec![claims[claim].clone()]))
    .collect();
    trustee.put_reference_values("test", &values, None).unwrap();
}

pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref().try_into().unwrap()
}

/// A guest as Trustee sees it.
pub struct Guest {
    pub client: Client,
    pub key: TeeKeyPair,
    /// The last cookie received, `name=value`.
    pub cookie: String,
    pub init_data: Option<InitData>,
    pub measurement: [u8; 48],
    pub policy: u64,
}

impl Guest {
    pub async fn auth(&mut self) -> Challenge {
        let body = json!({"version": "0.4.0", "tee": "snp", "extra-params": {"supported-hash-algorithms": ["sha384"]}});
        let reply = self.post("/kbs/v0/auth", &body).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        serde_json::from_slice(&reply.body).unwrap()
    }

    /// The message that answers a challenge.
    pub fn attestation(&self, world: &World, challenge: &Challenge) -> Value {
        let public = self.key.public();
        let data = report_data(HashAlgorithm::Sha384, &challenge.nonce, &public, "").unwrap();
        let body = self.init_data.as_ref().map(|i| json!({"format": "toml", "body": i.text()}));
        json!({
            "init-data": body,
            "runtime-data": {"nonce": challenge.nonce, "tee-pubkey": public},
            "tee-evidence": {"primary_evidence": world.evidence(self, &data), "additional_evidence": ""},
        })
    }

    /// The whole handshake; the token or the refusal.
    pub async fn attest(&mut self, world: &World) -> Result<String, Reply> {
        let challenge = self.auth().await;
        let message = self.attestation(world, &challenge);
        let reply = self.post("/kbs/v0/attest", &message).await;
        if reply.status != 200 {
            return Err(reply);
        }
        Ok(reply.json()["token"].as_str().unwrap().to_owned())
    }

    pub async fn post(&mut self, path: &str, body: &Value) -> Reply {
        let cookie = self.cookie.clone();
        let headers: &[(&str, &str)] = if cookie.is_empty() { &[] } else { &[("cookie", &cookie)] };
        let reply = self.client.request("POST", path, headers, body.to_string().as_bytes()).await;
        if let Some(cookie) = reply.header("set-cookie") {
            self.cookie = cookie.split(';').next().unwrap().to_owned();
        }
        reply
    }

    pub async fn get(&mut self, token: &str, path: &str) -> Reply {
        let bearer = format!("Bearer {token}");
        let path = format!("/kbs/v0/resource/{path}");
        self.client.request("GET", &path, &[("authorization", &bearer)], b"").await
    }

    pub async fn get_by_cookie(&mut self, path: &str) -> Reply {
        let (cookie, path) = (self.cookie.clone(), format!("/kbs/v0/resource/{path}"));
        self.client.request("GET", &path, &[("cookie", &cookie)], b"").await
    }

    pub fn decrypt(&self, reply: &Reply) -> Vec<u8> {
        assert_eq!(reply.status, 200, "{}", reply.text());
        self.key.decrypt(&serde_json::from_slice(&reply.body).unwrap()).unwrap().to_vec()
    }
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// One kept-alive connection.
pub struct Client {
    stream: Box<dyn Stream>,
}

impl Client {
    pub async fn request(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Reply {
        let mut text =
            format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n", body.len());
        for (name, value) in headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str("\r\n");
        // A server that refuses a large body may close before all of it is sent.
        let _ = self.send(&[text.as_bytes(), body].concat()).await;
        self.receive().await.expect("an answer")
    }

    pub async fn admin(&mut self, method: &str, path: &str, body: &[u8]) -> Reply {
        let bearer = format!("Bearer {ADMIN}");
        self.request(method, path, &[("authorization", &bearer)], body).await
    }

    pub async fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    pub async fn close(mut self) {
        let _ = self.stream.shutdown().await;
    }

    /// The next answer; `None` if the server closed the connection.
    pub async fn receive(&mut self) -> Option<Reply> {
        let mut received = Vec::new();
        loop {
            if let Some(end) = received.windows(4).position(|w| w == b"\r\n\r\n") {
                let head = String::from_utf8(received[..end].to_vec()).unwrap();
                let mut lines = head.split("\r\n");
                let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
                let headers: Vec<(String, String)> = lines
                    .filter_map(|l| l.split_once(':'))
                    .map(|(n, v)| (n.to_ascii_lowercase(), v.trim().to_owned()))
                    .collect();
                let mut reply = Reply { status, headers, body: received[end + 4..].to_vec() };
                if reply.header("transfer-encoding") == Some("chunked") {
                    reply.body = self.pieces(reply.body).await?;
                    return Some(reply);
                }
                let length: usize = reply.header("content-length").map_or(0, |l| l.parse().unwrap());
                while reply.body.len() < length {
                    let mut rest = vec![0; length - reply.body.len()];
                    let n = self.stream.read(&mut rest).await.ok().filter(|n| *n > 0)?;
                    reply.body.extend_from_slice(&rest[..n]);
                }
                return Some(reply);
            }
            let mut part = [0; 4096];
            let n = self.stream.read(&mut part).await.ok().filter(|n| *n > 0)?;
            received.extend_from_slice(&part[..n]);
        }
    }

    /// A body that comes in chunks (RFC 9112, 7.1), of which the beginning is there.
    async fn pieces(&mut self, mut received: Vec<u8>) -> Option<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            if let Some(end) = received.windows(2).position(|w| w == b"\r\n") {
                let size = usize::from_str_radix(std::str::from_utf8(&received[..end]).unwrap(), 16).unwrap();
                if received.len() >= end + 2 + size + 2 {
                    body.extend_from_slice(&received[end + 2..end + 2 + size]);
                    received.drain(..end + 2 + size + 2);
                    if size == 0 {
                        return Some(body);
                    }
                    continue;
                }
            }
            let mut part = [0; 4096];
            let n = self.stream.read(&mut part).await.ok().filter(|n| *n > 0)?;
            received.extend_from_slice(&part[..n]);
        }
    }
}

#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The refusal's code, after checking that the body has upstream's form and tells no more than the code.
    pub fn code(&self) -> &str {
        let (code, words) = self.refusal();
        assert_eq!(words, None, "{code}");
        code
    }

    /// The refusal's code and the words that the caller may read, in upstream's form.
    pub fn refusal(&self) -> (&str, Option<String>) {
        let code = self.header("x-cocoon-code").unwrap_or("none");
        let id = self.header("x-request-id").unwrap();
        let body = self.json();
        let detail = body["detail"].as_str().unwrap();
        let rest = detail.strip_prefix(&format!("{code} (request {id})")).expect(detail);
        let words = (!rest.is_empty()).then(|| rest.strip_prefix(": ").expect(rest).to_owned());
        let kind = body["type"].as_str().unwrap();
        assert!(kind.starts_with("https://github.com/confidential-containers/kbs/errors/"), "{kind}");
        (code, words)
    }

    /// The last part of the refusal's type, as upstream names it.
    pub fn kind(&self) -> String {
        self.json()["type"].as_str().unwrap().rsplit('/').next().unwrap().to_owned()
    }

    /// The reply without what differs between any two: id and date.
    pub fn shape(&self) -> (u16, Vec<(String, String)>, String) {
        let id = self.header("x-request-id").unwrap();
        let headers =
            self.headers.iter().filter(|(n, _)| n != "x-request-id" && n != "date").cloned().collect();
        (self.status, headers, self.text().replace(id, ""))
    }
}

pub fn shared_store(folder: &tempfile::TempDir) -> Arc<dyn Store> {
    let path: PathBuf = folder.path().join("state.redb");
    Arc::new(cocoon_store::RedbStore::open_shared(&path).unwrap())
}
