//! What a Trustee is made of.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cocoon_store::{Sealer, Store};

/// Tells the time in seconds since 1970.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// The machine's clock.
pub fn system_clock() -> Clock {
    Arc::new(|| SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs()))
}

/// Configuration of a [`crate::Trustee`].
#[derive(Clone)]
pub struct Config {
    /// All state. One that several processes share makes handshakes movable among them.
    pub store: Arc<dyn Store>,
    /// Seals secrets and keys in the store.
    pub sealer: Arc<Sealer>,
    /// Accept the TEE vendors' own roots.
    pub vendor_roots: bool,
    /// Simulated roots to accept, as DER (ARK, ASK). None by default; tokens of such guests say `simulated`.
    pub simulated_roots: Vec<(Vec<u8>, Vec<u8>)>,
    /// SHA-256 of the admin token. `None` switches all administration over HTTP off.
    pub admin_token_hash: Option<[u8; 32]>,
    /// How long a challenge may be answered.
    pub session_lifetime: Duration,
    /// How long a token is good.
    pub token_lifetime: Duration,
    /// Give tokens to guests whose measurement or TCB is no reference value too; see
    /// [`cocoon_attestation::Config`].
    pub issue_contraindicated: bool,
    /// `iss` of tokens.
    pub issuer: String,
    /// The time.
    pub clock: Clock,
}

impl Config {
    /// The safe defaults: vendor roots only, no administration over HTTP, five minutes for challenge and token.
    pub fn new(store: Arc<dyn Store>, sealer: Arc<Sealer>) -> Self {
        Config {
            store,
            sealer,
            vendor_roots: true,
            simulated_roots: Vec::new(),
            admin_token_hash: None,
            session_lifetime: Duration::from_secs(300),
            token_lifetime: Duration::from_secs(300),
            issue_contraindicated: false,
            issuer: "CoCo-Attestation-Service".into(),
            clock: system_clock(),
        }
    }
}
