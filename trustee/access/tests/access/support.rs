//! An identity provider: it signs tokens with every algorithm and serves its keys on loopback.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaPair, KeySize};
use aws_lc_rs::signature::{self, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair, RsaEncoding};
use cocoon_access::{Access, AccessConfig, AclRule, Admin, Caller, Denied, IdentityProvider, KeySource};
use cocoon_protocol::b64;
use der::Decode;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

pub const NOW: u64 = 1_800_000_000;
pub const PATH: &str = "/kbs/v0/resource/a/b/c";

pub enum Pair {
    Ec(EcdsaKeyPair),
    Rsa(Box<RsaPair>),
    Ed(Ed25519KeyPair),
}

impl Pair {
    pub fn ec(algorithm: &'static EcdsaSigningAlgorithm) -> Self {
        Pair::Ec(EcdsaKeyPair::generate(algorithm).unwrap())
    }

    pub fn p256() -> Self {
        Pair::ec(&signature::ECDSA_P256_SHA256_FIXED_SIGNING)
    }

    pub fn rsa() -> Self {
        Pair::Rsa(Box::new(RsaPair::generate(KeySize::Rsa2048).unwrap()))
    }

    pub fn ed25519() -> Self {
        Pair::Ed(Ed25519KeyPair::generate().unwrap())
    }

    pub fn jwk(&self, kid: Option<&str>) -> Value {
        let mut jwk = match self {
            Pair::Ec(pair) => {
                let point = &pair.public_key().as_ref()[1..];
                let (x, y) = point.split_at(point.len() / 2);
                let crv = if x.len() == 32 { "P-256" } else { "P-384" };
                json!({"kty": "EC", "crv": crv, "x": b64::url_encode(x), "y": b64::url_encode(y)})
            }
            Pair::Rsa(pair) => {
                // PKCS #1: a sequence of modulus and exponent.
                let numbers = Vec::<der::asn1::Uint>::from_der(pair.public_key().as_ref()).unwrap();
                let (n, e) = (numbers[0].as_bytes(), numbers[1].as_bytes());
                json!({"kty": "RSA", "n": b64::url_encode(n), "e": b64::url_encode(e)})
            }
            Pair::Ed(pair) => {
                json!({"kty": "OKP", "crv": "Ed25519", "x": b64::url_encode(pair.public_key().as_ref())})
            }
        };
        if let Some(kid) = kid {
            jwk["kid"] = kid.into();
        }
        jwk
    }

    /// SubjectPublicKeyInfo in PEM.
    pub fn pem(&self) -> String {
        let der = match self {
            Pair::Ec(pair) => pair.public_key().as_der().unwrap().as_ref().to_vec(),
            Pair::Rsa(pair) => pair.public_key().as_der().unwrap().as_ref().to_vec(),
            Pair::Ed(pair) => pair.public_key().as_der().unwrap().as_ref().to_vec(),
        };
        der::pem::encode_string("PUBLIC KEY", der::pem::LineEnding::LF, &der).unwrap()
    }

    /// Signs with the algorithm of that name as far as this key can; else with one it can.
    fn sign(&self, alg: &str, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Pair::Ec(pair) => pair.sign(&random, message).unwrap().as_ref().to_vec(),
            Pair::Ed(pair) => pair.sign(message).as_ref().to_vec(),
            Pair::Rsa(pair) => {
                let encoding: &'static dyn RsaEncoding = match alg {
                    "RS384" => &signature::RSA_PKCS1_SHA384,
                    "RS512" => &signature::RSA_PKCS1_SHA512,
                    "PS256" => &signature::RSA_PSS_SHA256,
                    "PS384" => &signature::RSA_PSS_SHA384,
                    "PS512" => &signature::RSA_PSS_SHA512,
                    _ => &signature::RSA_PKCS1_SHA256,
                };
                let mut out = vec![0; pair.public_modulus_len()];
                pair.sign(encoding, &random, message, &mut out).unwrap();
                out
            }
        }
    }

    pub fn token(&self, header: &Value, claims: &Value) -> String {
        let part = |value: &Value| b64::url_encode(value.to_string().as_bytes());
        let signed = format!("{}.{}", part(header), part(claims));
        let signature = self.sign(header["alg"].as_str().unwrap_or_default(), signed.as_bytes());
        format!("{signed}.{}", b64::url_encode(&signature))
    }
}

/// Claims that [`provider`]s accept.
pub fn claims() -> Value {
    json!({"iss": "idp", "aud": "trustee", "sub": "ann", "role": "tester", "exp": NOW + 300})
}

pub fn provider(keys: KeySource) -> IdentityProvider {
    IdentityProvider { issuer: Some("idp".into()), audience: Some("trustee".into()), keys }
}

pub fn jwks(keys: &[Value]) -> Value {
    json!({"keys": keys})
}

pub fn config() -> AccessConfig {
    let allowed_endpoints = vec!["^/kbs/v0/resource/.*$".into()];
    AccessConfig {
        acl: vec![AclRule { role: "tester".into(), allowed_endpoints }],
        ..AccessConfig::default()
    }
}

pub fn access(config: AccessConfig) -> Access {
    Access::new(config, Arc::new(|| NOW)).unwrap()
}

/// An access that knows one provider with these keys.
pub fn with_keys(keys: KeySource) -> Access {
    access(AccessConfig { identity_providers: vec![provider(keys)], ..config() })
}

pub fn caller<'a>(bearer: Option<&'a str>) -> Caller<'a> {
    Caller { method: "POST", path: PATH, bearer, client_certificate: None, tenant: None }
}

pub async fn ask(access: &Access, token: &str) -> Result<Admin, Denied> {
    ask_at(access, token, NOW).await
}

pub async fn ask_at(access: &Access, token: &str, now: u64) -> Result<Admin, Denied> {
    access.authorize(&caller(Some(token)), now).await
}

/// A reason that begins with the words clients look for and ends with the given ones.
pub fn is_unverified(answer: Result<Admin, Denied>, why: &str) -> bool {
    answer.is_err_and(|denied| {
        denied.status() == 401
            && denied.reason() == format!("Cannot verify token with any of the issuers: {why}")
    })
}

/// An HTTP server on loopback: JSON by path, else 404.
#[derive(Clone)]
pub struct Server {
    pub url: String,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    pages: HashMap<String, String>,
    hits: Vec<String>,
    broken: bool,
    slow: bool,
}

impl Server {
    /// Ends with the test's runtime.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(State::default()));
        let server = Server { url, state };
        let this = server.clone();
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                tokio::spawn(this.clone().serve(tcp));
            }
        });
        server
    }

    async fn serve(self, mut tcp: tokio::net::TcpStream) {
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            match tcp.read(&mut byte).await {
                Ok(1) => request.push(byte[0]),
                _ => return,
            }
        }
        let text = String::from_utf8(request).unwrap();
        let path = text.split(' ').nth(1).unwrap().to_owned();
        let (answer, slow) = {
            let mut state = self.state.lock().unwrap();
            state.hits.push(path.clone());
            if state.broken {
                (Some(("503 Down", String::new())), false)
            } else {
                let page = state.pages.get(&path).map(|body| ("200 OK", body.clone()));
                (Some(page.unwrap_or(("404 Nothing", "<html>".into()))), state.slow)
            }
        };
        if slow {
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
        if let Some((status, body)) = answer {
            let head =
                format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
            let _ = tcp.write_all(format!("{head}{body}").as_bytes()).await;
        }
    }

    pub fn set(&self, path: &str, body: impl ToString) {
        self.state.lock().unwrap().pages.insert(path.to_owned(), body.to_string());
    }

    pub fn break_down(&self, broken: bool) {
        self.state.lock().unwrap().broken = broken;
    }

    pub fn slow_down(&self) {
        self.state.lock().unwrap().slow = true;
    }

    pub fn hits(&self) -> usize {
        self.state.lock().unwrap().hits.len()
    }
}
