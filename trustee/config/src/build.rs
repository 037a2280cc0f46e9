//! From the settings in force to the typed ones. Nothing is decided here.

use std::cell::RefCell;
use std::time::Duration;

use crate::effective::Effective;
use crate::error::Problem;
use crate::reader::Reader;
use crate::settings::*;

mod verifiers;

/// Makes the typed settings.
///
/// # Errors
/// If the table lacks a key that is read here, which tests rule out.
pub(crate) fn build(effective: Effective) -> Result<Settings, Vec<Problem>> {
    let missing = RefCell::new(Vec::new());
    let at = |section: &str| Reader::new(&effective, section, &missing);
    let each = |section: &'static str| {
        let (effective, missing) = (&effective, &missing);
        (0..effective.count(section)).map(move |i| Reader::new(effective, format!("{section}[{i}]"), missing))
    };
    let settings = Settings {
        server: server(&at("server"), &at("server.limits")),
        state: state(&at("state")),
        seal: seal(&at("seal"), &at("seal.pkcs11")),
        tokens: tokens(&at("tokens"), &at("tokens.trusted")),
        attestation: attestation(&at("attestation"), verifiers::verifiers(at)),
        admin: admin(
            &at("admin"),
            each("admin.identity_providers").map(|r| provider(&r)).collect(),
            each("admin.acls").map(|r| rule(&r)).collect(),
            each("admin.client_certificates").map(|r| certificate(&r)).collect(),
        ),
        secrets: secrets(&at("secrets"), &at("secrets.vault"), &at("secrets.pkcs11")),
        plugins: each("plugins").map(|r| plugin(&r)).collect(),
        attestation_api: attestation_api(&at("attestation_api")),
        explain: Explain { keep: at("explain").size("keep") },
        metrics: metrics(&at("metrics")),
        telemetry: telemetry(&at("telemetry")),
        log: log(&at("log")),
        effective: Effective::default(),
    };
    let missing: Vec<Problem> = missing
        .take()
        .into_iter()
        .map(|key| Problem {
            key,
            line: None,
            what: "the table of settings lacks it".into(),
            advice: "this is a defect of the program".into(),
        })
        .collect();
    if missing.is_empty() { Ok(Settings { effective, ..settings }) } else { Err(missing) }
}

fn server(r: &Reader<'_>, limits: &Reader<'_>) -> Server {
    let identity = if r.flag("plain_http") {
        ServerIdentity::PlainHttp
    } else if let (Some(certificate), Some(key)) = (r.maybe_path("tls_certificate"), r.maybe_path("tls_key"))
    {
        ServerIdentity::Files { certificate, key }
    } else {
        ServerIdentity::SelfSigned
    };
    Server {
        listen: r.texts("listen").iter().filter_map(|text| text.parse().ok()).collect(),
        identity,
        tls_versions: r
            .texts("tls_versions")
            .iter()
            .map(|version| if version == "1.2" { TlsVersion::Tls12 } else { TlsVersion::Tls13 })
            .collect(),
        client_ca: r.maybe_path("client_ca"),
        public_url: r.maybe_text("public_url"),
        limits: Limits {
            connections: limits.size("connections"),
            connections_per_peer: limits.size("connections_per_peer"),
            handshakes_per_peer_per_minute: limits.int("handshakes_per_peer_per_minute"),
            body_bytes: limits.size("body_bytes"),
            header_bytes: limits.size("header_bytes"),
            header_time: limits.seconds("header_seconds"),
            request_time: limits.seconds("request_seconds"),
            idle_time: limits.seconds("idle_seconds"),
            drain_time: limits.seconds("drain_seconds"),
        },
    }
}

fn state(r: &Reader<'_>) -> State {
    let kind = match r.text("kind").as_str() {
        "postgres" => StateKind::Postgres {
            url: r.secret("postgres_url", "postgres_url_file"),
            pool_size: r.size("pool_size"),
        },
        "memory" => StateKind::Memory,
        _ => StateKind::Embedded,
    };
    State { folder: r.maybe_path("folder"), kind }
}

fn seal(r: &Reader<'_>, token: &Reader<'_>) -> Seal {
    match r.text("kind").as_str() {
        "command" => Seal::Command { command: r.texts("command"), time: r.seconds("command_seconds") },
        "pkcs11" => Seal::Pkcs11(SealToken {
            module: token.path("module"),
            token: token.token(),
            key_label: token.text("key_label"),
            pin_file: token.path("pin_file"),
        }),
        _ => Seal::File(r.maybe_path("file")),
    }
}

fn tokens(r: &Reader<'_>, trusted: &Reader<'_>) -> Tokens {
    Tokens {
        issuer: r.text("issuer"),
        lifetime: r.seconds("lifetime_seconds"),
        signing_key: r.maybe_path("signing_key"),
        certificate_chain: r.maybe_path("certificate_chain"),
        verbose: r.flag("verbose"),
        trusted: TrustedTokens {
            jwks: trusted.texts("jwks"),
            certificates: trusted.texts("certificates").into_iter().map(Into::into).collect(),
            extra_key_pointers: trusted.texts("extra_key_pointers"),
        },
    }
}

fn attestation(r: &Reader<'_>, verifiers: Verifiers) -> Attestation {
    Attestation {
        accept_simulated: r.flag("accept_simulated"),
        simulated_roots: r.texts("simulated_roots").into_iter().map(Into::into).collect(),
        accept_sample: r.flag("accept_sample"),
        issue_contraindicated: r.flag("issue_contraindicated"),
        session: r.seconds("session_seconds"),
        policy_ids: r.texts("policy_ids"),
        verifiers,
    }
}

fn admin(
    r: &Reader<'_>,
    identity_providers: Vec<IdentityProvider>,
    acls: Vec<AccessRule>,
    client_certificates: Vec<ClientCertificate>,
) -> Admin {
    if !r.flag("enabled") {
        return Admin::Off;
    }
    if r.flag("everybody") {
        return Admin::Everybody;
    }
    let token_file = r.maybe_path("token_file");
    Admin::Proven(AdminAccess { token_file, identity_providers, acls, client_certificates })
}

fn provider(r: &Reader<'_>) -> IdentityProvider {
    IdentityProvider {
        issuer: r.maybe_text("issuer"),
        audience: r.maybe_text("audience"),
        public_key_uri: r.maybe_text("public_key_uri"),
        jwk_set_uri: r.maybe_text("jwk_set_uri"),
    }
}

fn rule(r: &Reader<'_>) -> AccessRule {
    AccessRule { role: r.text("role"), allowed_endpoints: r.text("allowed_endpoints") }
}

fn certificate(r: &Reader<'_>) -> ClientCertificate {
    let identity = if let Some(name) = r.maybe_text("common_name") {
        CertificateIdentity::CommonName(name)
    } else if let Some(name) = r.maybe_text("dns") {
        CertificateIdentity::Dns(name)
    } else if let Some(uri) = r.maybe_text("uri") {
        CertificateIdentity::Uri(uri)
    } else {
        CertificateIdentity::Sha256(r.text("sha256").to_ascii_lowercase())
    };
    ClientCertificate { identity, role: r.text("role"), tenant: r.maybe_text("tenant") }
}

fn secrets(r: &Reader<'_>, vault: &Reader<'_>, token: &Reader<'_>) -> Secrets {
    match r.text("backend").as_str() {
        "vault" => Secrets::Vault(Vault {
            url: vault.text("url"),
            kv_version: if vault.int("kv_version") == 1 { KvVersion::V1 } else { KvVersion::V2 },
            mount: vault.text("mount"),
            token: vault.secret("token", "token_file"),
            ca_file: vault.maybe_path("ca_file"),
            namespace: vault.maybe_text("namespace"),
            prefix: vault.maybe_text("prefix"),
        }),
        "pkcs11" => Secrets::Pkcs11(Pkcs11Secrets {
            module: token.path("module"),
            token: token.token(),
            pin_file: token.path("pin_file"),
        }),
        _ => Secrets::Store,
    }
}

fn plugin(r: &Reader<'_>) -> Plugin {
    match r.text("kind").as_str() {
        "provisioner" => Plugin::Provisioner { key_bytes: r.size("key_bytes") },
        "pkcs11" => Plugin::Pkcs11(Pkcs11Plugin {
            module: r.path("module"),
            token: r.token(),
            key_label: r.maybe_text("key_label"),
            pin: r.secret("pin", "pin_file"),
        }),
        _ => Plugin::External(ExternalPlugin {
            name: r.text("name"),
            endpoint: r.text("endpoint"),
            ca_file: r.maybe_path("ca_file"),
            time: Duration::from_millis(r.int("timeout_ms")),
            client: r.maybe_path("client_certificate").zip(r.maybe_path("client_key")),
        }),
    }
}

fn attestation_api(r: &Reader<'_>) -> Option<AttestationApi> {
    let api = AttestationApi {
        listen_rest: r.maybe_socket("listen_rest"),
        listen_grpc: r.maybe_socket("listen_grpc"),
        token_file: r.maybe_path("token_file"),
        client_ca: r.maybe_path("client_ca"),
    };
    (api.listen_rest.is_some() || api.listen_grpc.is_some()).then_some(api)
}

fn metrics(r: &Reader<'_>) -> Metrics {
    match (r.flag("enabled"), r.maybe_socket("listen")) {
        (false, _) => Metrics::Off,
        (true, None) => Metrics::WithServer,
        (true, Some(address)) => Metrics::At(address),
    }
}

fn telemetry(r: &Reader<'_>) -> Option<Telemetry> {
    Some(Telemetry {
        otlp_endpoint: r.maybe_text("otlp_endpoint")?,
        service_name: r.text("service_name"),
        sample_ratio: r.ratio("sample_ratio"),
    })
}

fn log(r: &Reader<'_>) -> Log {
    Log {
        level: match r.text("level").as_str() {
            "error" => LogLevel::Error,
            "warn" => LogLevel::Warn,
            "debug" => LogLevel::Debug,
            "trace" => LogLevel::Trace,
            _ => LogLevel::Info,
        },
        format: if r.text("format") == "json" { LogFormat::Json } else { LogFormat::Text },
    }
}
