//! Tokens that were checked, remembered until they expire.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::AtomicU8;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::digest::{SHA256, digest};
use cocoon_protocol::jwk::TeePublicKey;
use cocoon_protocol::token::{self, Signer};
use cocoon_stage::{Code, Failure};
use serde_json::Value;

/// Longest token taken.
const MAX_TOKEN: usize = 48 * 1024;
/// Most tokens remembered.
const MAX_REMEMBERED: usize = 2048;

/// A token of ours with a good signature.
pub(crate) struct Verified {
    /// Its payload.
    pub claims: Value,
    /// The guest's key, to which secrets are encrypted.
    pub key: TeePublicKey,
    end_unix: u64,
    /// Failure reports that its guest has sent.
    pub reports: AtomicU8,
}

/// Signs and checks tokens.
pub(crate) struct Tokens {
    signer: Signer,
    jwks: Value,
    remembered: Mutex<Remembered>,
}

/// By SHA-256 of the token, so that nobody can make look-ups collide or take long; the oldest goes first.
#[derive(Default)]
struct Remembered {
    by_hash: HashMap<[u8; 32], Arc<Verified>>,
    order: VecDeque<[u8; 32]>,
}

impl Tokens {
    pub fn new(signer: Signer) -> Self {
        let jwks = signer.jwks();
        Tokens { signer, jwks, remembered: Mutex::default() }
    }

    /// The public key as a JWK set.
    pub fn jwks(&self) -> &Value {
        &self.jwks
    }

    /// Signs claims to a token and remembers it as checked.
    pub fn issue(&self, claims: Value) -> Result<String, Failure> {
        let token = self.signer.sign(&claims)?;
        if token.len() > MAX_TOKEN {
            return Err(Failure::new(Code::AttestProtocol, format!("a token of {} bytes", token.len())));
        }
        self.remember(&token, claims)?;
        Ok(token)
    }

    /// Checks a token from a guest: ours, unaltered, not expired, with a key.
    pub fn verify(&self, token: &str, now_unix: u64) -> Result<Arc<Verified>, Failure> {
        let refused = |reason: &str| Failure::new(Code::ReleaseTokenInvalid, reason);
        if token.len() > MAX_TOKEN {
            return Err(refused("too long"));
        }
        let known = self.lock().by_hash.get(&hash(token)).cloned();
        let verified = match known {
            Some(verified) => verified,
            None => {
                let claims =
                    token::verify(token, &self.jwks, now_unix).map_err(|e| refused(&e.to_string()))?;
                self.remember(token, claims)?
            }
        };
        if now_unix >= verified.end_unix {
            return Err(refused("expired"));
        }
        Ok(verified)
    }

    fn remember(&self, token: &str, claims: Value) -> Result<Arc<Verified>, Failure> {
        let missing =
            |what: &str| Failure::new(Code::ReleaseTokenInvalid, format!("the token has no {what}"));
        let key = token::tee_public_key(&claims).ok_or_else(|| missing("guest key"))?;
        let end_unix = claims.get("exp").and_then(Value::as_u64).ok_or_else(|| missing("expiry"))?;
        let verified = Arc::new(Verified { claims, key, end_unix, reports: AtomicU8::new(0) });
        let mut remembered = self.lock();
        let hash = hash(token);
        if remembered.by_hash.insert(hash, verified.clone()).is_none() {
            remembered.order.push_back(hash);
        }
        while remembered.order.len() > MAX_REMEMBERED {
            if let Some(oldest) = remembered.order.pop_front() {
                remembered.by_hash.remove(&oldest);
            }
        }
        Ok(verified)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Remembered> {
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn hash(token: &str) -> [u8; 32] {
    let mut out = [0; 32];
    out.iter_mut().zip(digest(&SHA256, token.as_bytes()).as_ref()).for_each(|(o, d)| *o = *d);
    out
}
