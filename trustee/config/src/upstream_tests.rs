//! Tests of upstream's form.

use std::path::Path;
use std::time::Duration;

use crate::*;

pub(crate) const GOOD: &str = r#"
[http_server]
sockets = ["0.0.0.0:8080"]
private_key = "/k.pem"
certificate = "/c.pem"
payload_request_size = 4
worker_count = 2
tls_profile = "modern"
[attestation_token]
trusted_certs_paths = ["/a.pem"]
insecure_header_jwk = false
[attestation_service]
type = "coco_as_builtin"
timeout = 10
[attestation_service.attestation_token_broker]
duration_min = 15
issuer_name = "me"
[attestation_service.attestation_token_broker.signer]
key_path = "/s.pem"
cert_path = "/s-chain.pem"
[attestation_service.rvps_config]
type = "BuiltIn"
[attestation_service.verifier_config.tpm_verifier]
[[attestation_service.verifier_config.snp_verifier.vcek_sources]]
type = "KDS"
[admin]
authorization_mode = "AuthenticatedAuthorization"
[admin.authentication.bearer_jwt]
identity_providers = [{ issuer = "i", audience = "", public_key_uri = "/p.pem" }]
[admin.authorization.regex_acl]
acls = [{ role = "admin", allowed_endpoints = "^/kbs/.+$" }]
[storage_backend]
storage_type = "Postgres"
[storage_backend.backends.postgres]
db = "kbs"
username = "us er"
password = "Hush:/@"
host = "db.example"
[[plugins]]
name = "resource"
storage_backend_type = "Vault"
vault_url = "https://vault.example"
token = "Hush"
verify_ssl = true
[[plugins]]
name = "external"
backends = [{ name = "a", endpoint = "https://h:1", ca_cert_path = "/ca", timeout_ms = 100 }, { name = "b", endpoint = "http://[::1]:1" }]
[[plugins]]
name = "provisioner"
key_length = 64
[[plugins]]
name = "pkcs11"
module = "/m.so"
slot_index = 1
pin = "Hush"
rsa_mechanism = "RsaPkcsOaep"
lookup_label = "l"
[[plugins]]
name = "sample"
item = "x"
"#;

/// A small right file with one part replaced or added.
pub(crate) fn with(extra: &str) -> String {
    let mut text = String::new();
    for (table, body) in [
        ("[admin]", "authorization_mode = \"DenyAll\""),
        ("[attestation_service]", "type = \"coco_as_builtin\""),
        ("[storage_backend]", "storage_type = \"LocalFs\""),
    ] {
        if !extra.lines().any(|line| line == table) {
            text.push_str(&format!("{table}\n{body}\n"));
        }
    }
    // Keys outside of tables come first.
    if extra.starts_with('[') { text + extra } else { format!("{extra}\n{text}") }
}

#[test]
fn a_full_file_becomes_the_same_settings() {
    let (settings, notes) = from_upstream(GOOD, Format::Toml).unwrap();
    assert_eq!(
        settings.server.identity,
        ServerIdentity::Files { certificate: "/c.pem".into(), key: "/k.pem".into() }
    );
    assert_eq!(settings.server.tls_versions, [TlsVersion::Tls13]);
    assert_eq!(settings.server.limits.body_bytes, 4 << 20);
    assert_eq!(settings.attestation.session, Duration::from_secs(600));
    assert_eq!((settings.tokens.lifetime, settings.tokens.issuer.as_str()), (Duration::from_secs(900), "me"));
    let StateKind::Postgres { url: Given::Inline(url), .. } = &settings.state.kind else { panic!() };
    assert_eq!(url.expose(), "postgres://us%20er:Hush%3A%2F%40@db.example:5432/kbs");
    let Admin::Proven(admin) = &settings.admin else { panic!() };
    assert_eq!((admin.identity_providers[0].audience.as_deref(), admin.acls.len()), (None, 1));
    assert!(matches!(&settings.secrets, Secrets::Vault(v) if v.kv_version == KvVersion::V1));
    assert_eq!(settings.plugins.len(), 4);
    assert!(
        matches!(&settings.plugins[0], Plugin::External(p) if p.name == "a" && p.ca_file == Some("/ca".into()))
    );
    assert_eq!(settings.plugins[2], Plugin::Provisioner { key_bytes: 64 });
    assert!(notes.iter().any(|n| n.key == "http_server.worker_count" && n.line == Some(7)), "{notes:?}");
    assert!(notes.iter().any(|n| n.key == "plugins[4].name"), "{notes:?}");
    let shown = settings.show();
    assert!(
        shown.contains("body_bytes = 4194304  # file, line 6 (http_server.payload_request_size)"),
        "{shown}"
    );
    assert!(!format!("{shown}{settings:?}{notes:?}").contains("Hush"));
}

#[test]
fn json_is_the_same_and_yaml_is_refused_by_name() {
    let value: toml::Table = toml::from_str(GOOD).unwrap();
    let json = serde_json::to_string_pretty(&value).unwrap();
    let (from_json, _) = from_upstream(&json, Format::Json).unwrap();
    let (from_toml, _) = from_upstream(GOOD, Format::Toml).unwrap();
    assert_eq!(format!("{from_json:?}"), format!("{from_toml:?}"));
    assert_eq!(changed(&from_json, &from_toml), Changes::default());
    assert_eq!(detect(&json), Ok(Dialect::Upstream(Format::Json)));
    assert_eq!(detect(GOOD), Ok(Dialect::Upstream(Format::Toml)));
    assert_eq!(detect("[http_servr]"), Ok(Dialect::Upstream(Format::Toml)));
    assert_eq!(detect("[admin]\nauthorization_mode = 'DenyAll'"), Ok(Dialect::Upstream(Format::Toml)));
    assert_eq!(detect("[admin]\nenabled = false\n[[plugins]]\nkind = 'provisioner'"), Ok(Dialect::Cocoon));
    for name in ["a.yaml", "a.YML"] {
        let told = read(GOOD, Path::new(name), &Inputs::default()).unwrap_err();
        assert!(told[0].what.contains("YAML") && told[0].advice.contains("TOML"));
    }
    assert!(read(&json, Path::new("a.json"), &Inputs::default()).is_ok());
    assert!(detect("http_server:\n  sockets: []\n").unwrap_err()[0].advice.contains("YAML"));
    let twice = from_upstream("{\"admin\":{},\"admin\":{}}", Format::Json).unwrap_err();
    assert!(twice[0].what.contains("twice"), "{twice:?}");
}

/// What is added to a right file, key that is named, words of the message.
const BROKEN: &[(&str, &str, &str)] = &[
    ("[http_server]\nsockts = []", "http_server.sockts", "unknown key"),
    ("[http_server]\nsockets = 3", "http_server.sockets", "wrong type"),
    ("[http_server]\nsockets = ['0.0.0.0:1']\ninsecure_http = true", "http_server.insecure_http", "readable"),
    ("[http_server]\nprivate_key = '/k'", "http_server.private_key", "needs"),
    ("[http_server]\npayload_request_size = 0", "http_server.payload_request_size", "out of range"),
    (
        "[http_server]\npayload_request_size = 9223372036854775807",
        "http_server.payload_request_size",
        "too large",
    ),
    ("[http_server]\ntls_ciphers = 'a'", "http_server.tls_ciphers", "not supported"),
    (
        "[http_server]\ntls_min_version = '1.3'\ntls_max_version = '1.2'",
        "http_server.tls_min_version",
        "0 items",
    ),
    ("[attestation_token]\ninsecure_header_jwk = true", "attestation_token.insecure_header_jwk", "anybody"),
    ("[attestation_token]\ninsecure_key = true", "attestation_token.insecure_key", "obsolete"),
    (
        "[attestation_token]\nattestation_token_type = 'CoCo'",
        "attestation_token.attestation_token_type",
        "obsolete",
    ),
    ("[attestation_token_config]", "attestation_token_config", "obsolete"),
    ("[policy_engine]\npolicy_path = '/p'", "policy_engine", "obsolete"),
    ("insecure_api = true", "insecure_api", "obsolete"),
    ("[admin]\nauthorization_mode = 'DenyAll'\nauth_public_key = '/p'", "admin.auth_public_key", "obsolete"),
    ("[admin]\ntype = 'DenyAll'", "admin.type", "obsolete"),
    ("[admin]", "admin.authorization_mode", "everybody"),
    ("[admin]\nauthorization_mode = 'InsecureAllowAll'", "admin.authorization_mode", "everybody"),
    ("[admin]\nauthorization_mode = 'denyall'", "admin.authorization_mode", "unknown mode"),
    (
        "[attestation_service]\ntype = 'coco_as_grpc'\nas_addr = 'x'",
        "attestation_service.type",
        "not supported",
    ),
    (
        "[attestation_service]\ntype = 'intel_ta'\napi_key = 'Hush'",
        "attestation_service.type",
        "not supported",
    ),
    ("[attestation_service]", "attestation_service.type", "missing"),
    (
        "[attestation_service.verifier_config.tpm_verifier]\ntrusted_ak_keys_dir = '/d'",
        "attestation_service.verifier_config.tpm_verifier.trusted_ak_keys_dir",
        "software key",
    ),
    (
        "[attestation_service.verifier_config.tpm_verifier]\nmax_trusted_ak_keys = 1",
        "attestation_service.verifier_config.tpm_verifier.max_trusted_ak_keys",
        "obsolete",
    ),
    (
        "[attestation_service.verifier_config.dcap_verifier]\nuse_secure_cert = false",
        "attestation_service.verifier_config.dcap_verifier.use_secure_cert",
        "off",
    ),
    (
        "[attestation_service.verifier_config.nvidia_verifier]\ntype = 'Elsewhere'\nverifier_url = 'https://h'",
        "attestation_service.verifier_config.nvidia_verifier.type",
        "unknown type",
    ),
    (
        "[attestation_service.rvps_config]\nstore_type = 'LocalFs'",
        "attestation_service.rvps_config.store_type",
        "lost at exit",
    ),
    (
        "[attestation_service.rvps_config]\ntype = 'GrpcRemote'",
        "attestation_service.rvps_config.type",
        "not supported",
    ),
    (
        "[attestation_service.attestation_token_broker.signer]\nkey_path = '/k'\ncert_url = 'https://h'",
        "attestation_service.attestation_token_broker.signer.cert_url",
        "not supported",
    ),
    ("[storage_backend]\nstorage_type = 'Redis'", "storage_backend.storage_type", "not supported: Redis"),
    (
        "[storage_backend]\nstorage_type = 'LocalFs'\nsession_storage_type = 'Redis'",
        "storage_backend.session_storage_type",
        "Redis",
    ),
    ("[storage_backend]\nstorage_type = 'Postgres'", "state.postgres_url", "POSTGRES_URL"),
    (
        "[[plugins]]\nname = 'resource'\nstorage_backend_type = 'Aws'",
        "plugins[0].storage_backend_type",
        "not supported",
    ),
    ("[[plugins]]\nname = 'resource'\ntype = 'LocalFs'", "plugins[0].type", "obsolete"),
    (
        "[[plugins]]\nname = 'resource'\nstorage_backend_type = 'Vault'\nvault_url = 'https://h'\ntoken = 't'\nverify_ssl = false",
        "plugins[0].verify_ssl",
        "anybody",
    ),
    (
        "[[plugins]]\nname = 'resource'\nstorage_backend_type = 'Vault'\nvault_url = 'http://h'\ntoken = 't'",
        "plugins[0].vault_url",
        "readable",
    ),
    ("[[plugins]]\nname = 'nebula-ca'\nwork_dir = '/w'", "plugins[0].name", "not supported"),
    (
        "[[plugins]]\nname = 'pkcs11'\nmodule = '/m'\nslot_index = 0\npin = 'p'\nrsa_mechanism = 'RsaPkcsTest'",
        "plugins[0].rsa_mechanism",
        "OAEP",
    ),
    (
        "[[plugins]]\nname = 'external'\nbackends = [{name = 'a', endpoint = 'http://h:1'}]",
        "plugins[0].backends[0].endpoint",
        "readable",
    ),
    ("[[plugins]]\nname = 'provisioner'\nkey_length = 1", "plugins[0].key_length", "out of range"),
    ("[cocoon]\nacknowledge = ['all']", "cocoon.acknowledge[0]", "unknown word"),
    ("[server]", "server", "unknown key"),
];

#[test]
fn what_would_be_ignored_or_unsafe_is_an_error_that_names_it() {
    assert!(from_upstream(&with(""), Format::Toml).is_ok());
    for (extra, key, words) in BROKEN {
        let text = with(extra);
        let told = from_upstream(&text, Format::Toml).map(|_| ()).expect_err(extra);
        let found = told.iter().any(|p| p.key == *key && p.what.contains(words));
        assert!(found, "{extra}\n{told:?}");
        assert_eq!(told.len(), 1, "one cause, one problem: {extra}\n{told:?}");
        assert!(!format!("{told:?}").contains("Hush"));
    }
}

#[test]
fn acknowledged_dangers_are_accepted_within_limits() {
    let http = "[http_server]\nsockets = ['0.0.0.0:1']\ninsecure_http = true\n";
    let (settings, _) =
        from_upstream(&with(&format!("{http}[cocoon]\nacknowledge = ['insecure_http']")), Format::Toml)
            .unwrap();
    assert_eq!(settings.server.identity, ServerIdentity::PlainHttp);
    let admin =
        "[admin]\nauthorization_mode = 'InsecureAllowAll'\n[cocoon]\nacknowledge = ['insecure_allow_all']\n";
    let (settings, _) = from_upstream(&with(admin), Format::Toml).unwrap();
    assert_eq!(settings.admin, Admin::Everybody);
    let exposed =
        from_upstream(&with(&format!("{admin}[http_server]\nsockets = ['0.0.0.0:1']")), Format::Toml);
    assert_eq!(exposed.unwrap_err()[0].key, "admin.authorization_mode");
    let (settings, _) = from_upstream(&with(""), Format::Toml).unwrap();
    assert_eq!(settings.admin, Admin::Off);
}

#[test]
fn storage_is_mapped_and_told() {
    let kind = |text: &str| {
        let (settings, notes) = from_upstream(&with(text), Format::Toml).unwrap();
        (settings.state.kind, notes.into_iter().map(|n| n.text).collect::<String>())
    };
    let (state, notes) = kind("[storage_backend]\nstorage_type = 'LocalJson'");
    assert!(
        state == StateKind::Embedded && notes.contains("Import") && notes.contains("repository.json"),
        "{notes}"
    );
    assert_eq!(kind("[storage_backend]\nstorage_type = 'memory'").0, StateKind::Memory);
    let (settings, notes) = from_upstream(
        "[admin]\nauthorization_mode = 'DenyAll'\n[attestation_service]\ntype = 'coco_as_builtin'",
        Format::Toml,
    )
    .unwrap();
    assert!(
        settings.state.kind == StateKind::Memory && notes.iter().any(|n| n.text.contains("lost at exit"))
    );
    let inputs = Inputs { postgres_url: Some(Secret::new("postgres://h/d")), flags: vec![] };
    let text = with("[storage_backend]\nstorage_type = 'Postgres'");
    let (settings, _) = from_upstream_with(&text, Format::Toml, &inputs).unwrap();
    assert!(matches!(settings.state.kind, StateKind::Postgres { url: Given::Inline(_), .. }));
}
