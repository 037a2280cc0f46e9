//! What the operator sets.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use cocoon_http::Roots;
use serde_json::Value;

/// Gives the current Unix time in seconds.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// Who may administer. The default refuses everybody.
#[derive(Clone, Default)]
pub struct AccessConfig {
    /// SHA-256 of the local token, see [`crate::token_sha256`]. Who has it may do everything, for all tenants.
    pub token_sha256: Option<[u8; 32]>,
    /// Whose JWTs are looked at; at most 16.
    pub identity_providers: Vec<IdentityProvider>,
    /// What the roles of JWTs and certificates may do; without any rule they may do nothing.
    pub acl: Vec<AclRule>,
    /// Client certificates that administer; the first rule that matches counts. At most 1024.
    pub client_certificates: Vec<CertificateRule>,
    /// Whom to trust for `https` key sets; `None`: the machine's bundle.
    pub roots: Option<Roots>,
    /// Everybody may do everything. Only with `insecure_allow_all_acknowledged`; each start logs a warning.
    pub insecure_allow_all: bool,
    /// The second setting without which `insecure_allow_all` is an error.
    pub insecure_allow_all_acknowledged: bool,
}

impl fmt::Debug for AccessConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessConfig")
            .field("token", &self.token_sha256.is_some())
            .field("identity_providers", &self.identity_providers)
            .field("acl", &self.acl)
            .field("client_certificates", &self.client_certificates)
            .field("insecure_allow_all", &self.insecure_allow_all)
            .finish_non_exhaustive()
    }
}

/// One source of JWTs.
#[derive(Clone, Debug)]
pub struct IdentityProvider {
    /// The `iss` its tokens must have, character for character; `None`: not looked at.
    pub issuer: Option<String>,
    /// What the `aud` of its tokens must be or contain; `None`: not looked at.
    pub audience: Option<String>,
    /// Keys that sign its tokens.
    pub keys: KeySource,
}

/// Where an identity provider's public keys are. Files, texts and answers may have 256 KiB, key sets 64 keys;
/// private or symmetric keys among them are an error.
#[derive(Clone)]
pub enum KeySource {
    /// A `PUBLIC KEY` in PEM (SubjectPublicKeyInfo): P-256, P-384, RSA of 2048 to 8192 bits, or Ed25519.
    PublicKeyPem(Vec<u8>),
    /// A file with such a text.
    PublicKeyFile(PathBuf),
    /// A file with a JSON Web Key Set (RFC 7517).
    JwksFile(PathBuf),
    /// URL of a key set, of an OpenID Connect discovery document, or of an issuer that has one at
    /// `<url>/.well-known/openid-configuration`. `https`, or `http` on loopback.
    JwksUrl(String),
    /// The key set itself.
    Jwks(Value),
}

impl fmt::Debug for KeySource {
    /// Names the source; its content is left out, since it may be a private key put here by mistake.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeySource::PublicKeyPem(_) => f.write_str("PublicKeyPem(..)"),
            KeySource::PublicKeyFile(path) => f.debug_tuple("PublicKeyFile").field(path).finish(),
            KeySource::JwksFile(path) => f.debug_tuple("JwksFile").field(path).finish(),
            KeySource::JwksUrl(_) => f.write_str("JwksUrl(..)"),
            KeySource::Jwks(_) => f.write_str("Jwks(..)"),
        }
    }
}

/// What one role may do; several rules of one role add up.
#[derive(Clone, Debug)]
pub struct AclRule {
    /// The role.
    pub role: String,
    /// Regular expressions over the whole path. Each begins with `^/kbs`, `^/cocoon` or `^/t/` and ends with `$`.
    /// At most 1024 in all rules, 1024 bytes each.
    pub allowed_endpoints: Vec<String>,
}

/// Which client certificate a [`CertificateRule`] speaks of. All are compared exactly; there are no wildcards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertificateMatch {
    /// The subject has this common name and no other.
    SubjectCn(String),
    /// One of the subject alternative names is this DNS name.
    SanDns(String),
    /// One of the subject alternative names is this URI (a SPIFFE id, for instance).
    SanUri(String),
    /// SHA-256 of the certificate's DER.
    Sha256([u8; 32]),
}

/// A client certificate that administers.
#[derive(Clone, Debug)]
pub struct CertificateRule {
    /// Which certificate.
    pub certificate: CertificateMatch,
    /// Its role.
    pub role: String,
    /// The one tenant it administers; `None`: all.
    pub tenant: Option<String>,
}
