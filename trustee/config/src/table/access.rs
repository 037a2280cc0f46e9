//! `[admin]`, its lists, and `[attestation_api]`.

use crate::key::Key;
use crate::kind::Kind;

pub(super) const KEYS: &[Key] = &[
    Key::new("admin.enabled", Kind::Bool, "False: nobody administers over HTTP.").default("true"),
    Key::new(
        "admin.token_file",
        Kind::Path,
        "File of the admin token, 64 hex digits. Without it `admin.token` in the state folder, made at first start.",
    )
    .sample(r#""/run/secrets/admin-token""#),
    Key::new(
        "admin.everybody",
        Kind::Bool,
        "Every caller is an administrator. For tests; refused unless all addresses are loopback.",
    )
    .default("false"),
    Key::new("admin.identity_providers[].issuer", Kind::Text, "Demanded `iss`; not checked without it.")
        .sample(r#""https://login.example""#),
    Key::new("admin.identity_providers[].audience", Kind::Text, "Demanded `aud`; not checked without it.")
        .sample(r#""trustee""#),
    Key::new("admin.identity_providers[].public_key_uri", Kind::Location, "Its public key, PEM.")
        .sample(r#""/etc/trustee/admin.pub""#),
    Key::new("admin.identity_providers[].jwk_set_uri", Kind::Location, "Its keys, JWKS.")
        .sample(r#""https://login.example/jwks.json""#),
    Key::new("admin.acls[].role", Kind::Text, "The JWT's `role`.").sample(r#""operator""#).required(),
    Key::new(
        "admin.acls[].allowed_endpoints",
        Kind::PathRegex,
        "Paths it may use, without the query. One expression, `^/…$`.",
    )
    .sample(r#""^/kbs/v0/resource/.+$""#)
    .required(),
    Key::new("admin.client_certificates[].common_name", Kind::Text, "The certificate by its common name.")
        .sample(r#""alice""#),
    Key::new("admin.client_certificates[].dns", Kind::Text, "By a DNS name of its alternative names.")
        .sample(r#""ci.example""#),
    Key::new("admin.client_certificates[].uri", Kind::Text, "By an URI of its alternative names.")
        .sample(r#""spiffe://example/ci""#),
    Key::new("admin.client_certificates[].sha256", Kind::Sha256, "By the SHA-256 of its DER form.")
        .sample(r#""0000000000000000000000000000000000000000000000000000000000000000""#),
    Key::new("admin.client_certificates[].role", Kind::Text, "Its role.").sample(r#""operator""#).required(),
    Key::new("admin.client_certificates[].tenant", Kind::Name, "The only tenant it may touch; all without it.")
        .sample(r#""team""#),
    Key::new("attestation_api.listen_rest", Kind::Socket, "Address of the REST form.")
        .sample(r#""127.0.0.1:50005""#)
        .restart(),
    Key::new("attestation_api.listen_grpc", Kind::Socket, "Address of the gRPC form.")
        .sample(r#""127.0.0.1:50004""#)
        .restart(),
    Key::new("attestation_api.token_file", Kind::Path, "File of the bearer token that callers must show.")
        .sample(r#""/run/secrets/attestation-token""#),
    Key::new("attestation_api.client_ca", Kind::Path, "Certificate authorities, PEM, of callers' certificates.")
        .sample(r#""/etc/trustee/callers-ca.pem""#),
];
