//! `[server]` and `[server.limits]`.

use crate::key::Key;
use crate::kind::Kind;

const SOCKET: Kind = Kind::Socket;
const TLS: Kind = Kind::Choice(&["1.2", "1.3"]);

pub(super) const KEYS: &[Key] = &[
    Key::new("server.listen", Kind::List(&SOCKET, 1), "Addresses to listen on for guests and administrators.")
        .default(r#"["127.0.0.1:8080"]"#)
        .restart(),
    Key::new("server.tls_certificate", Kind::Path, "Certificate chain, PEM, own certificate first.")
        .sample(r#""/etc/trustee/chain.pem""#),
    Key::new("server.tls_key", Kind::Path, "Its private key, PEM (PKCS#8). Needed with `tls_certificate`.")
        .sample(r#""/etc/trustee/key.pem""#),
    Key::new(
        "server.self_signed",
        Kind::Bool,
        "Make a certificate and keep it in the state folder. True unless `tls_certificate` or `plain_http` is given.",
    )
    .sample("true"),
    Key::new(
        "server.plain_http",
        Kind::Bool,
        "Serve without TLS, behind a proxy that ends it. Only on loopback addresses unless `plain_http_anywhere`.",
    )
    .default("false")
    .restart(),
    Key::new(
        "server.plain_http_anywhere",
        Kind::Bool,
        "Allow `plain_http` on any address. Admin credentials and tokens then cross the network readable.",
    )
    .default("false")
    .restart(),
    Key::new("server.tls_versions", Kind::List(&TLS, 1), "TLS versions to speak.").default(r#"["1.2", "1.3"]"#),
    Key::new(
        "server.client_ca",
        Kind::Path,
        "Certificate authorities, PEM, whose client certificates are asked for (not demanded). \
         See `admin.client_certificates`.",
    )
    .sample(r#""/etc/trustee/client-ca.pem""#),
    Key::new("server.public_url", Kind::Url(&["https", "http"]), "URL under which guests reach this Trustee.")
        .sample(r#""https://trustee.example:8080""#),
    Key::new("server.limits.connections", Kind::Int(1, 100_000), "Connections at a time; more wait.").default("1024"),
    Key::new("server.limits.connections_per_peer", Kind::Int(1, 100_000), "Connections at a time from one address.")
        .default("256"),
    Key::new(
        "server.limits.handshakes_per_peer_per_minute",
        Kind::Int(1, 1_000_000),
        "Attestation handshakes one address may begin.",
    )
    .default("600")
    .unit("per minute"),
    Key::new("server.limits.body_bytes", Kind::Int(65_536, 64 * 1024 * 1024), "Largest request body.")
        .default("2097152")
        .unit("bytes"),
    Key::new("server.limits.header_bytes", Kind::Int(8192, 1024 * 1024), "Most headers of a request.")
        .default("131072")
        .unit("bytes"),
    Key::new(
        "server.limits.header_seconds",
        Kind::Int(1, 600),
        "From a connection to the end of its TLS handshake, and for the headers of each request.",
    )
    .default("10")
    .unit("seconds"),
    Key::new("server.limits.request_seconds", Kind::Int(1, 3600), "From a request's headers to its answer.")
        .default("30")
        .unit("seconds"),
    Key::new("server.limits.idle_seconds", Kind::Int(1, 3600), "Without a byte in either direction.")
        .default("60")
        .unit("seconds"),
    Key::new("server.limits.drain_seconds", Kind::Int(0, 3600), "For requests in progress when it is told to stop.")
        .default("5")
        .unit("seconds"),
];
