//! NVIDIA's remote attestation service played on loopback, with a key of our own. It believes every report.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use cocoon_evidence::nvidia::nras::ISSUER;
use cocoon_evidence::x509::Certificate;
use serde_json::{Value, json};

use super::NOW;

/// How it answers a request for a verdict.
#[derive(Clone, Copy, PartialEq)]
pub enum Mood {
    Honest,
    /// Honest, and only once requests of both classes are there.
    Both,
    /// Signs with a key that it does not publish, under the id of one that it does.
    Forged,
    /// Says nothing.
    Hang,
    /// As fast as it goes, for ever.
    Endless,
    Status(u16, &'static str, &'static str),
    Raw(&'static str),
}

/// The claims of an answer before they are signed.
pub struct Bundle {
    pub overall: Value,
    pub devices: Vec<(String, Value)>,
}

pub struct State {
    pub mood: Mood,
    /// The mood towards switches, if another.
    pub switches: Option<Mood>,
    /// Whether its keys can be had.
    pub keys: bool,
    pub alter: fn(&mut Bundle),
    kid: String,
    key: EcdsaKeyPair,
    /// Paths asked for.
    asked: Vec<String>,
    /// Bodies of the requests for verdicts.
    bodies: Vec<Value>,
}

pub struct Service {
    pub url: String,
    state: Arc<Mutex<State>>,
}

fn key() -> EcdsaKeyPair {
    EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap()
}

fn base64url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Service {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(State {
            mood: Mood::Honest,
            switches: None,
            keys: true,
            alter: |_| {},
            kid: "one".into(),
            key: key(),
            asked: Vec::new(),
            bodies: Vec::new(),
        }));
        let shared = state.clone();
        thread::spawn(move || {
            for tcp in listener.incoming().flatten() {
                let state = shared.clone();
                thread::spawn(move || serve(tcp, &state));
            }
        });
        Service { url, state }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Publishes another key, under another id, and signs with it.
    pub fn rotate(&self, kid: &str) {
        let mut state = self.state();
        (state.kid, state.key) = (kid.to_owned(), key());
    }

    /// What it was asked since the last call.
    pub fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.state().asked)
    }

    pub fn bodies(&self) -> Vec<Value> {
        std::mem::take(&mut self.state().bodies)
    }
}

impl State {
    fn jwks(&self) -> Value {
        let point = self.key.public_key().as_ref();
        json!({ "keys": [{
            "kty": "EC", "crv": "P-384", "kid": self.kid, "alg": "ES384", "use": "sig",
            "x": base64url(&point[1..49]), "y": base64url(&point[49..]),
        }] })
    }

    fn answer(&self, class: &str, request: &Value, signer: &EcdsaKeyPair) -> String {
        let token = |claims: &Value| {
            let header = json!({ "kid": self.kid, "alg": "ES384" });
            let signed = format!("{}.{}", base64url(header.to_string()), base64url(claims.to_string()));
            let signature = signer.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
            format!("{signed}.{}", base64url(signature))
        };
        let common = json!({
            "iss": ISSUER, "eat_nonce": request["nonce"], "nbf": NOW - 5, "iat": NOW - 5, "exp": NOW + 3600,
        });
        let mut overall = common.clone();
        overall["x-nvidia-overall-att-result"] = json!(true);
        let list = request["evidence_list"].as_array().unwrap();
        let devices = list.iter().enumerate().map(|(index, device)| {
            let mut claims = common.clone();
            let pem = STANDARD.decode(device["certificate"].as_str().unwrap()).unwrap();
            let leaf = &Certificate::parse_chain(&pem).unwrap()[0];
            claims["ueid"] = json!(decimal(leaf.serial()));
            device_claims(class, &mut claims);
            (format!("{}-{index}", class.to_uppercase()), claims)
        });
        let mut bundle = Bundle { overall, devices: devices.collect() };
        (self.alter)(&mut bundle);
        let Bundle { mut overall, devices } = bundle;
        let tokens: Vec<(String, String)> =
            devices.iter().map(|(name, claims)| (name.clone(), token(claims))).collect();
        let digest = |token: &str| hex::encode(digest(&SHA256, token.as_bytes()));
        overall["submods"] = tokens
            .iter()
            .map(|(name, token)| (name.clone(), json!(["DIGEST", ["SHA-256", digest(token)]])))
            .collect();
        let devices: Value = tokens.into_iter().map(|(name, token)| (name, json!(token))).collect();
        json!([["JWT", token(&overall)], devices]).to_string()
    }
}

/// Claims of the third version, all as they should be.
fn device_claims(class: &str, claims: &mut Value) {
    let rims: &[&str] = if class == "gpu" { &["driver-rim", "vbios-rim"] } else { &["bios-rim"] };
    let mut put = |name: &str, value: Value| claims[name] = value;
    let chain = json!({ "x-nvidia-cert-status": "valid", "x-nvidia-cert-ocsp-status": "good" });
    let yes = json!(true);
    put("measres", json!("success"));
    put("secboot", yes.clone());
    put("dbgstat", json!("disabled"));
    put("hwmodel", json!("as the service names it"));
    put(&format!("x-nvidia-{class}-arch-check"), yes.clone());
    put(&format!("x-nvidia-{class}-attestation-report-cert-chain"), chain.clone());
    for name in ["cert-chain-fwid-match", "nonce-match", "parsed", "signature-verified"] {
        put(&format!("x-nvidia-{class}-attestation-report-{name}"), yes.clone());
    }
    for rim in rims {
        put(&format!("x-nvidia-{class}-{rim}-cert-chain"), chain.clone());
        for name in
            ["fetched", "measurements-available", "schema-validated", "signature-verified", "version-match"]
        {
            put(&format!("x-nvidia-{class}-{rim}-{name}"), yes.clone());
        }
    }
    if class == "gpu" {
        put("x-nvidia-gpu-vbios-index-no-conflict", yes);
        put("x-nvidia-gpu-driver-version", json!("550.90.07"));
        put("x-nvidia-gpu-vbios-version", json!("96.00.9F.00.01"));
    } else {
        put("x-nvidia-switch-bios-version", json!("96.10.55.00.01"));
    }
}

/// A big-endian number in decimal.
fn decimal(number: &[u8]) -> String {
    let mut digits = vec![0u32];
    for byte in number {
        let mut carry = u32::from(*byte);
        for digit in &mut digits {
            carry += *digit * 256;
            (*digit, carry) = (carry % 10, carry / 10);
        }
        while carry > 0 {
            digits.push(carry % 10);
            carry /= 10;
        }
    }
    digits.iter().rev().map(u32::to_string).collect()
}

/// The path and the body.
fn request(tcp: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        tcp.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    let mut body = vec![0; length.map_or(0, |length| length.trim().parse().unwrap())];
    tcp.read_exact(&mut body).ok()?;
    let first = head.lines().next().unwrap();
    let mut words = first.split(' ');
    let (method, path) = (words.next().unwrap(), words.next().unwrap());
    assert!(
        matches!((method, path), ("post", "/v4/attest/gpu" | "/v4/attest/switch") | ("get", _)),
        "{first}"
    );
    Some((path.to_owned(), body))
}

fn serve(mut tcp: TcpStream, state: &Mutex<State>) {
    let Some((path, body)) = request(&mut tcp) else { return };
    let mut now = state.lock().unwrap();
    now.asked.push(path.clone());
    let Some(class) = path.strip_prefix("/v4/attest/") else {
        let reply = match (path.as_str(), now.keys) {
            ("/.well-known/jwks.json", true) => http(200, "", &now.jwks().to_string()),
            _ => http(503, "", ""),
        };
        let _ = tcp.write_all(&reply);
        return;
    };
    let asked: Value = serde_json::from_slice(&body).unwrap();
    now.bodies.push(asked.clone());
    let mood = now.switches.filter(|_| class == "switch").unwrap_or(now.mood);
    let reply = match mood {
        Mood::Honest => http(200, "", &now.answer(class, &asked, &now.key)),
        Mood::Both => {
            let answer = now.answer(class, &asked, &now.key);
            drop(now);
            let end = Instant::now() + Duration::from_secs(2);
            while state.lock().unwrap().bodies.len() < 2 && Instant::now() < end {
                thread::sleep(Duration::from_millis(5));
            }
            let both = state.lock().unwrap().bodies.len() >= 2;
            if both { http(200, "", &answer) } else { http(500, "", "") }
        }
        Mood::Forged => http(200, "", &now.answer(class, &asked, &key())),
        Mood::Hang => {
            drop(now);
            return thread::sleep(Duration::from_secs(10));
        }
        Mood::Endless => {
            drop(now);
            let _ = tcp.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n");
            while tcp.write_all(&[b' '; 65536]).is_ok() {}
            return;
        }
        Mood::Status(status, field, body) => http(status, field, body),
        Mood::Raw(body) => http(200, "", body),
    };
    let _ = tcp.write_all(&reply);
}

fn http(status: u16, field: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status} X\r\n{field}connection: close\r\ncontent-length: {length}\r\n\r\n{body}")
        .into_bytes()
}
