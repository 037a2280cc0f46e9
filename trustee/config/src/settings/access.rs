//! `[admin]` and `[attestation_api]`.

use std::net::SocketAddr;
use std::path::PathBuf;

/// Administration over HTTP.
#[derive(Clone, Debug, PartialEq)]
pub enum Admin {
    /// Nobody.
    Off,
    /// Everybody; all addresses of the server are loopback.
    Everybody,
    /// Who proves to be an administrator.
    Proven(AdminAccess),
}

/// The ways to prove it.
#[derive(Clone, Debug, PartialEq)]
pub struct AdminAccess {
    /// File of the admin token; `None`: `admin.token` in the state folder.
    pub token_file: Option<PathBuf>,
    /// Issuers of administrators' JWTs.
    pub identity_providers: Vec<IdentityProvider>,
    /// What roles may do.
    pub acls: Vec<AccessRule>,
    /// Administrators by client certificate.
    pub client_certificates: Vec<ClientCertificate>,
}

/// An issuer of administrators' JWTs. At least one of the two sources is given.
#[derive(Clone, Debug, PartialEq)]
pub struct IdentityProvider {
    /// Demanded `iss`.
    pub issuer: Option<String>,
    /// Demanded `aud`.
    pub audience: Option<String>,
    /// PEM public key: `https://…`, `file:///…` or a path.
    pub public_key_uri: Option<String>,
    /// JWKS: the same forms.
    pub jwk_set_uri: Option<String>,
}

/// What a role may do.
#[derive(Clone, Debug, PartialEq)]
pub struct AccessRule {
    /// The JWT's `role`.
    pub role: String,
    /// Regular expression over paths; checked to compile and to be anchored at both ends.
    pub allowed_endpoints: String,
}

/// An administrator by client certificate.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientCertificate {
    /// Which certificate.
    pub identity: CertificateIdentity,
    /// Its role.
    pub role: String,
    /// The only tenant it may touch.
    pub tenant: Option<String>,
}

/// How a client certificate is recognised.
#[derive(Clone, Debug, PartialEq)]
pub enum CertificateIdentity {
    /// Common name.
    CommonName(String),
    /// A DNS name among its alternative names.
    Dns(String),
    /// An URI among its alternative names.
    Uri(String),
    /// SHA-256 of its DER form, 64 lower-case hex digits.
    Sha256(String),
}

/// Attestation for other key brokers. At least one address and at least one proof.
#[derive(Clone, Debug, PartialEq)]
pub struct AttestationApi {
    /// Address of the REST form.
    pub listen_rest: Option<SocketAddr>,
    /// Address of the gRPC form.
    pub listen_grpc: Option<SocketAddr>,
    /// File of the bearer token.
    pub token_file: Option<PathBuf>,
    /// PEM file of the authorities of callers' certificates.
    pub client_ca: Option<PathBuf>,
}
