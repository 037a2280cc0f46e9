//! What a Trustee is made of.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cocoon_access::AccessConfig;
use cocoon_attestation::{CollateralSource, NoCollateral, RemoteVerifier, Trust};
use cocoon_evidence::se;
use cocoon_release::SharedSource;
use cocoon_store::{Sealer, Store};
use serde_json::Value;
use zeroize::Zeroizing;

use crate::plugins::Plugin;

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
    /// What is decided from the state; may change while serving, see [`crate::Trustee::reload`].
    pub live: Live,
    /// A file of this Trustee's own beside a store that outlives the process: entries of the audit log become durable in
    /// it at less cost. It goes with the store: whoever opens one opens the other.
    pub journal: Option<PathBuf>,
    /// The time.
    pub clock: Clock,
}

/// The part of the configuration that may change while serving.
#[derive(Clone)]
pub struct Live {
    /// Accept the TEE vendors' own roots.
    pub vendor_roots: bool,
    /// Simulated roots to accept, as DER (ARK, ASK). None by default; tokens of such guests say `simulated`.
    pub simulated_roots: Vec<(Vec<u8>, Vec<u8>)>,
    /// Accept evidence of the kind `sample`, which proves nothing. Off by default; tokens say `simulated`.
    pub accept_sample: bool,
    /// What is asked of evidence, and whom to trust besides the vendors. Its SNP roots and `accept_sample` are those above.
    pub trust: Trust,
    /// Guests of IBM Secure Execution: which machines are trusted, and which image. None by default.
    pub secure_execution: Option<Arc<SecureExecution>>,
    /// Where the documents come from that vendors publish of their platforms. Nowhere by default: then only what comes
    /// with the evidence is used.
    pub collateral: Arc<dyn CollateralSource>,
    /// Who judges NVIDIA's devices beside the verification here. Nobody by default.
    pub nvidia_remote: Option<Arc<dyn RemoteVerifier>>,
    /// Who may administer over HTTP. Nobody by default.
    pub access: AccessConfig,
    /// How long a challenge may be answered.
    pub session_lifetime: Duration,
    /// How long a token is good.
    pub token_lifetime: Duration,
    /// Give tokens to guests whose measurement or TCB is no reference value too; see
    /// [`cocoon_attestation::Config`].
    pub issue_contraindicated: bool,
    /// Keep evidence of additional devices in tokens; without it large evidence fits no request header.
    pub verbose_tokens: bool,
    /// `iss` of tokens.
    pub issuer: String,
    /// URL under which clients reach this Trustee, for discovery documents.
    pub public_url: Option<String>,
    /// The key that signs tokens, instead of the one kept in the state.
    pub token_identity: Option<TokenIdentity>,
    /// Whose tokens are accepted besides our own.
    pub trusted: TrustedIssuers,
    /// Where shared secrets live instead of the store.
    pub source: Option<Arc<dyn SharedSource>>,
    /// Plugins by their name in paths.
    pub plugins: Vec<(String, Plugin)>,
    /// Largest request body in bytes.
    pub body_limit: usize,
    /// Serve `/metrics`.
    pub metrics: bool,
    /// Name of the attestation policies that guests are appraised by; the class is appended.
    pub policy_id: String,
    /// How many verdicts the state keeps.
    pub verdicts_kept: usize,
}

/// What is expected of guests of IBM Secure Execution. They are challenged with a request that only these machines can read.
#[derive(Debug)]
pub struct SecureExecution {
    /// Keys of the machines.
    pub host_keys: Vec<se::HostKey>,
    /// Header of the image.
    pub header: se::Header,
}

/// A signing key for tokens with the certificates that vouch for it.
#[derive(Clone)]
pub struct TokenIdentity {
    /// PKCS#8 DER, curve P-256.
    pub key_pkcs8: Zeroizing<Vec<u8>>,
    /// DER, the key's own first; may be empty.
    pub certificates: Vec<Vec<u8>>,
}

/// Foreign attestation services whose tokens are as good as our own.
#[derive(Clone, Default)]
pub struct TrustedIssuers {
    /// JWK sets.
    pub key_sets: Vec<Value>,
    /// CA certificates, DER: a token whose header carries a chain to one of them is accepted.
    pub certificates: Vec<Vec<u8>>,
    /// JSON pointers under which tokens may carry the guest's key, before the usual ones.
    pub key_pointers: Vec<String>,
}

impl TrustedIssuers {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.key_sets.is_empty() && self.certificates.is_empty()
    }
}

/// Largest request body by default, as upstream's.
pub(crate) const BODY_LIMIT: usize = 2 * 1024 * 1024;

impl Config {
    /// The safe defaults: vendor roots only, no administration over HTTP, five minutes for challenge and token.
    pub fn new(store: Arc<dyn Store>, sealer: Arc<Sealer>) -> Self {
        Config { store, sealer, live: Live::default(), journal: None, clock: system_clock() }
    }
}

impl Default for Live {
    fn default() -> Self {
        Live {
            vendor_roots: true,
            simulated_roots: Vec::new(),
            accept_sample: false,
            trust: Trust::default(),
            secure_execution: None,
            collateral: Arc::new(NoCollateral),
            nvidia_remote: None,
            access: AccessConfig::default(),
            session_lifetime: Duration::from_secs(300),
            token_lifetime: Duration::from_secs(300),
            issue_contraindicated: false,
            verbose_tokens: true,
            issuer: "CoCo-Attestation-Service".into(),
            public_url: None,
            token_identity: None,
            trusted: TrustedIssuers::default(),
            source: None,
            plugins: Vec::new(),
            body_limit: BODY_LIMIT,
            metrics: true,
            policy_id: "default".into(),
            verdicts_kept: 1000,
        }
    }
}
