//! Tokens: signing them, and remembering those that were checked until they expire.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use aws_lc_rs::digest::{SHA256, digest};
use cocoon_protocol::jwk::TeePublicKey;
use cocoon_protocol::messages::ProtocolVersion;
use cocoon_protocol::token::{self, Signer};
use cocoon_stage::{Code, Failure};
use cocoon_store::{Sealer, Store};
use serde_json::{Value, json};

use crate::keys::{self, Signers};
use crate::{Error, TokenIdentity, TrustedIssuers, foreign};

/// Longest token taken.
const MAX_TOKEN: usize = 48 * 1024;
/// Most tokens remembered.
const MAX_REMEMBERED: usize = 2048;
/// How often (seconds) another replica's rotation is looked for.
const REFRESH: u64 = 5;
/// How long (seconds) a retired key stays published beyond the life of the last token it signed.
const GRACE: u64 = 3600;
/// After this time (seconds) a remembered token is checked again: its key may have had its time.
const RECHECK: u64 = 600;
/// Claim that names the protocol of a guest older than 0.4.0, so that it gets its secrets in its own form.
const PROTOCOL: &str = "ear.cocoon.kbs-protocol";
/// Claim of tokens that a relying party asked for. It chose nonce and policy itself, so they release nothing.
pub(crate) const RELYING_PARTY: &str = "ear.cocoon.relying-party";

/// A token with a good signature.
pub(crate) struct Verified {
    /// Its payload.
    pub claims: Value,
    /// The guest's key, to which secrets are encrypted.
    pub key: TeePublicKey,
    /// In whose form.
    pub version: ProtocolVersion,
    end_unix: u64,
    recheck_unix: u64,
    /// Failure reports that its guest has sent.
    pub reports: AtomicU8,
}

/// Signs and checks tokens.
pub(crate) struct Tokens {
    store: Arc<dyn Store>,
    sealer: Arc<Sealer>,
    keys: RwLock<Arc<Keys>>,
    looked_unix: AtomicU64,
    remembered: Mutex<Remembered>,
}

struct Keys {
    signer: Arc<Signer>,
    retired: Vec<(Value, u64)>,
    stored: Vec<u8>,
    identity: Option<Arc<Signer>>,
    trusted: TrustedIssuers,
    /// Own keys and trusted ones, as a JWK set.
    accepted: Value,
    published: Value,
}

/// By SHA-256 of the token, so that nobody can make look-ups collide or take long; the oldest goes first.
#[derive(Default)]
struct Remembered {
    by_hash: HashMap<[u8; 32], Arc<Verified>>,
    order: VecDeque<[u8; 32]>,
}

impl Tokens {
    /// With the keys of the store, or with a configured one in front of them.
    pub fn new(
        store: Arc<dyn Store>,
        sealer: Arc<Sealer>,
        identity: Option<&TokenIdentity>,
        trusted: &TrustedIssuers,
        now_unix: u64,
    ) -> Result<Self, Error> {
        let signers = keys::signers(store.as_ref(), &sealer, now_unix)?;
        let keys = RwLock::new(Arc::new(Keys::new(signers, identity_signer(identity)?, trusted.clone())));
        Ok(Tokens {
            store,
            sealer,
            keys,
            looked_unix: AtomicU64::new(now_unix),
            remembered: Mutex::default(),
        })
    }

    /// Takes over a changed configuration; tokens that were checked by the old one are checked again.
    pub fn reload(&self, identity: Option<&TokenIdentity>, trusted: &TrustedIssuers) -> Result<(), Error> {
        let signers = keys::changed_signers(self.store.as_ref(), &self.sealer, b"")?
            .ok_or(Error::Key("token signing key"))?;
        self.replace(Keys::new(signers, identity_signer(identity)?, trusted.clone()));
        Ok(())
    }

    /// Makes a new signing key; gives its id. Tokens signed before stay good until they expire.
    pub fn rotate(&self, now_unix: u64, lifetime: u64) -> Result<String, Error> {
        let keep = lifetime.saturating_add(GRACE);
        let signers = keys::rotate(self.store.as_ref(), &self.sealer, now_unix, keep)?;
        let kid = signers.current.kid().to_owned();
        let old = self.keys();
        self.replace(Keys::new(signers, old.identity.clone(), old.trusted.clone()));
        Ok(kid)
    }

    /// The public keys as a JWK set.
    pub fn jwks(&self, now_unix: u64) -> Value {
        let keys = self.refreshed(now_unix);
        if keys.retired.iter().all(|(_, until)| now_unix <= *until) {
            return keys.published.clone();
        }
        keys.published_at(now_unix)
    }

    /// Signs claims to a token and remembers it as checked.
    pub fn issue(
        &self,
        mut claims: Value,
        version: ProtocolVersion,
        now_unix: u64,
    ) -> Result<String, Failure> {
        if version == ProtocolVersion::V0_1_1
            && let Some(members) = claims.as_object_mut()
        {
            members.insert(PROTOCOL.into(), version.to_string().into());
        }
        let keys = self.refreshed(now_unix);
        let signer = keys.identity.as_ref().unwrap_or(&keys.signer);
        let token = signer.sign(&claims)?;
        if token.len() > MAX_TOKEN {
            return Err(Failure::new(Code::AttestProtocol, format!("a token of {} bytes", token.len())));
        }
        // A token for a caller of the verification service may have no key; nobody will come back with it.
        let _ = self.remember(&token, claims, &keys, now_unix);
        Ok(token)
    }

    /// Checks a token from a guest: ours or a trusted issuer's, unaltered, not expired, with a key.
    pub fn verify(&self, token: &str, now_unix: u64) -> Result<Arc<Verified>, Failure> {
        let refused = |reason: &str| Failure::new(Code::ReleaseTokenInvalid, reason);
        if token.len() > MAX_TOKEN {
            return Err(refused("too long"));
        }
        let known = self.lock().by_hash.get(&hash(token)).cloned();
        let verified = match known.filter(|known| now_unix < known.recheck_unix) {
            Some(verified) => verified,
            None => {
                let mut keys = self.refreshed(now_unix);
                let mut claims = keys.check(token, now_unix);
                // Another replica may have signed it with a key that it made since the last look.
                if claims.is_err() && self.store.shared() {
                    keys = self.look(keys);
                    claims = keys.check(token, now_unix);
                }
                let claims = claims.map_err(|e| refused(&e.to_string()))?;
                self.remember(token, claims, &keys, now_unix)?
            }
        };
        if now_unix >= verified.end_unix {
            return Err(refused("expired"));
        }
        Ok(verified)
    }

    fn keys(&self) -> Arc<Keys> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The keys, after a look for another replica's rotation where there may be one.
    fn refreshed(&self, now_unix: u64) -> Arc<Keys> {
        let keys = self.keys();
        let looked = self.looked_unix.load(Ordering::Relaxed);
        if !self.store.shared() || now_unix < looked.saturating_add(REFRESH) {
            return keys;
        }
        self.looked_unix.store(now_unix, Ordering::Relaxed);
        self.look(keys)
    }

    /// The keys as they are in the store now; `keys` are those in use.
    fn look(&self, keys: Arc<Keys>) -> Arc<Keys> {
        match keys::changed_signers(self.store.as_ref(), &self.sealer, &keys.stored) {
            Ok(Some(signers)) => {
                self.replace(Keys::new(signers, keys.identity.clone(), keys.trusted.clone()));
                self.keys()
            }
            Ok(None) => keys,
            Err(error) => {
                tracing::warn!(%error, "the token keys could not be looked at");
                keys
            }
        }
    }

    fn replace(&self, keys: Keys) {
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
        *self.lock() = Remembered::default();
    }

    fn remember(
        &self,
        token: &str,
        claims: Value,
        keys: &Arc<Keys>,
        now_unix: u64,
    ) -> Result<Arc<Verified>, Failure> {
        if claims.get(RELYING_PARTY).is_some() {
            let reason = "made for a relying party, not for a guest";
            return Err(Failure::new(Code::ReleaseTokenInvalid, reason));
        }
        let missing =
            |what: &str| Failure::new(Code::ReleaseTokenInvalid, format!("the token has no {what}"));
        let key = guest_key(&claims, &keys.trusted).ok_or_else(|| missing("guest key"))?;
        let end_unix = claims.get("exp").and_then(Value::as_u64).ok_or_else(|| missing("expiry"))?;
        let version = claims.get(PROTOCOL).and_then(Value::as_str).and_then(|v| v.parse().ok());
        let version = version.unwrap_or(ProtocolVersion::V0_4_0);
        let (recheck_unix, reports) = (now_unix.saturating_add(RECHECK), AtomicU8::new(0));
        let verified = Arc::new(Verified { claims, key, version, end_unix, recheck_unix, reports });
        let mut remembered = self.lock();
        // Keys that were replaced meanwhile vouch for nothing any more.
        if !Arc::ptr_eq(keys, &self.keys()) {
            return Ok(verified);
        }
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

    fn lock(&self) -> MutexGuard<'_, Remembered> {
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Keys {
    fn new(signers: Signers, identity: Option<Arc<Signer>>, trusted: TrustedIssuers) -> Self {
        let retired: Vec<(Value, u64)> =
            signers.retired.iter().map(|(signer, end)| (signer.public_jwk(), *end)).collect();
        let mut keys = Keys {
            signer: Arc::new(signers.current),
            retired,
            stored: signers.stored,
            identity,
            trusted,
            accepted: Value::Null,
            published: Value::Null,
        };
        keys.published = keys.published_at(0);
        keys.accepted = keys.accepted_at(0);
        keys
    }

    /// The claims of a token that one of the accepted keys, or a key of a trusted CA, signed.
    fn check(&self, token: &str, now_unix: u64) -> Result<Value, cocoon_protocol::Error> {
        // A retired key that had its time signs no more, in whosever hands it is.
        let ended = self.retired.iter().any(|(_, until)| now_unix > *until);
        let fewer = ended.then(|| self.accepted_at(now_unix));
        token::verify(token, fewer.as_ref().unwrap_or(&self.accepted), now_unix)
            .or_else(|error| foreign::verify(token, &self.trusted, now_unix).unwrap_or(Err(error)))
    }

    fn accepted_at(&self, now_unix: u64) -> Value {
        let mut accepted = array(&self.published_at(now_unix));
        for set in &self.trusted.key_sets {
            accepted.extend(array(set));
        }
        json!({ "keys": accepted })
    }

    fn published_at(&self, now_unix: u64) -> Value {
        let own = self.identity.iter().chain([&self.signer]).map(|s| s.public_jwk());
        let retired = self.retired.iter().filter(|(_, until)| now_unix <= *until);
        json!({ "keys": own.chain(retired.map(|(jwk, _)| jwk.clone())).collect::<Vec<_>>() })
    }
}

fn array(set: &Value) -> Vec<Value> {
    set.get("keys").and_then(Value::as_array).cloned().unwrap_or_default()
}

fn identity_signer(identity: Option<&TokenIdentity>) -> Result<Option<Arc<Signer>>, Error> {
    let Some(identity) = identity else { return Ok(None) };
    let signer = Signer::from_pkcs8_der(&identity.key_pkcs8).map_err(|_| Error::Key("token signing key"))?;
    Ok(Some(Arc::new(signer.with_certificates(&identity.certificates))))
}

/// The guest's key: under a configured pointer, else at one of the usual places.
fn guest_key(claims: &Value, trusted: &TrustedIssuers) -> Option<TeePublicKey> {
    match trusted.key_pointers.iter().find_map(|pointer| claims.pointer(pointer)) {
        Some(found) => serde_json::from_value(found.clone()).ok(),
        None => token::tee_public_key(claims),
    }
}

fn hash(token: &str) -> [u8; 32] {
    let mut out = [0; 32];
    out.iter_mut().zip(digest(&SHA256, token.as_bytes()).as_ref()).for_each(|(o, d)| *o = *d);
    out
}
