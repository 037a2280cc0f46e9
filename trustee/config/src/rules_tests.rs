//! Each rule over several keys, broken once.

use crate::*;

/// Text, key that is named, words of the message.
const BROKEN: &[(&str, &str, &str)] = &[
    ("server.tls_certificate = '/c'", "server.tls_certificate", "needs `server.tls_key`"),
    ("server.tls_key = '/k'", "server.tls_key", "needs `server.tls_certificate`"),
    (
        "server = {plain_http = true, tls_certificate = '/c', tls_key = '/k'}",
        "server.plain_http",
        "`server.tls_certificate`",
    ),
    ("server = {plain_http = true, client_ca = '/c'}", "server.plain_http", "`server.client_ca`"),
    ("server = {plain_http = true, self_signed = true}", "server.self_signed", "`server.plain_http`"),
    (
        "server = {self_signed = true, tls_certificate = '/c', tls_key = '/k'}",
        "server.self_signed",
        "`server.tls_certificate`",
    ),
    ("server.self_signed = false", "server.self_signed", "no TLS identity"),
    ("server = {plain_http = true, listen = ['127.0.0.1:1', '[::]:1']}", "server.plain_http", "[::]:1"),
    ("server = {plain_http = true, listen = ['[::ffff:10.0.0.1]:1']}", "server.plain_http", "readable"),
    ("server.listen = []", "server.listen", "0 items"),
    ("server.listen = ['1.1.1.1:1', '1.1.1.1:1']", "server.listen", "twice"),
    ("server.listen = ['localhost:1']", "server.listen", "not one of"),
    (
        "server.limits = {connections = 5, connections_per_peer = 6}",
        "server.limits.connections_per_peer",
        "`server.limits.connections`",
    ),
    (
        "server.limits = {header_seconds = 31}",
        "server.limits.header_seconds",
        "`server.limits.request_seconds` = 30",
    ),
    ("server.public_url = 'ftp://h'", "server.public_url", "scheme"),
    ("server.public_url = 'https://u:p@h'", "server.public_url", "password"),
    ("state.kind = 'postgres'", "state.postgres_url", "POSTGRES_URL"),
    (
        "state = {kind = 'postgres', postgres_url = 'postgres://h/d', postgres_url_file = '/f'}",
        "state.postgres_url",
        "`state.postgres_url_file`",
    ),
    ("state.pool_size = 3", "state.pool_size", "no meaning with `state.kind` = \"embedded\""),
    ("seal.kind = 'command'", "seal.command", "needed with `seal.kind` = \"command\""),
    ("seal = {kind = 'command', command = []}", "seal.command", "0 items"),
    ("seal.command = ['x']", "seal.command", "`seal.kind`"),
    (
        "seal = {kind = 'pkcs11', pkcs11 = {module = '/m', key_label = 'k', pin_file = '/p'}}",
        "seal.pkcs11.token_label",
        "`seal.pkcs11.slot`",
    ),
    (
        "seal = {kind = 'pkcs11', pkcs11 = {module = '/m', key_label = 'k', pin_file = '/p', slot = 1, token_label = 't'}}",
        "seal.pkcs11.token_label",
        "contradicts",
    ),
    ("tokens.certificate_chain = '/c'", "tokens.certificate_chain", "`tokens.signing_key`"),
    ("tokens.lifetime_seconds = 1000000", "tokens.lifetime_seconds", "out of range"),
    ("tokens.lifetime_seconds = -1", "tokens.lifetime_seconds", "out of range"),
    ("tokens.trusted.jwks = ['http://h/j']", "tokens.trusted.jwks", "cannot be trusted"),
    ("tokens.trusted.extra_key_pointers = ['a/b']", "tokens.trusted.extra_key_pointers", "not one of"),
    (
        "attestation = {offline_collateral = '/c', amd_kds_url = 'https://h'}",
        "attestation.amd_kds_url",
        "`attestation.offline_collateral`",
    ),
    ("server.listen = ['0.0.0.0:1']\nadmin.everybody = true", "admin.everybody", "0.0.0.0:1"),
    ("admin = {everybody = true, token_file = '/t'}", "admin.everybody", "`admin.token_file`"),
    (
        "admin = {everybody = true, acls = [{role = 'r', allowed_endpoints = '^/a$'}]}",
        "admin.everybody",
        "`admin.acls`",
    ),
    ("admin = {everybody = true, enabled = false}", "admin.everybody", "`admin.enabled`"),
    (
        "admin.identity_providers = [{issuer = 'i'}]",
        "admin.identity_providers[0].public_key_uri",
        "jwk_set_uri",
    ),
    (
        "admin.acls = [{role = 'r', allowed_endpoints = '^/kbs/a|.*$'}]",
        "admin.acls[0].allowed_endpoints",
        "anchors",
    ),
    ("admin.acls = [{role = 'r'}]", "admin.acls[0].allowed_endpoints", "missing"),
    (
        "server.client_ca = '/c'\nadmin.client_certificates = [{role = 'r'}]",
        "admin.client_certificates[0].common_name",
        "which certificate",
    ),
    (
        "server.client_ca = '/c'\nadmin.client_certificates = [{role = 'r', dns = 'a', uri = 'b:c'}]",
        "admin.client_certificates[0].dns",
        "contradicts",
    ),
    (
        "admin.client_certificates = [{role = 'r', dns = 'a'}]",
        "admin.client_certificates[0].role",
        "not asked for",
    ),
    ("secrets = {backend = 'vault', vault = {token_file = '/t'}}", "secrets.vault.url", "needed"),
    (
        "secrets = {backend = 'vault', vault = {url = 'https://h'}}",
        "secrets.vault.token_file",
        "`secrets.vault.token`",
    ),
    (
        "secrets = {backend = 'vault', vault = {url = 'http://vault:1', token_file = '/t'}}",
        "secrets.vault.url",
        "readable",
    ),
    (
        "secrets = {backend = 'vault', vault = {url = 'http://127.0.0.1:1', token_file = '/t', ca_file = '/c'}}",
        "secrets.vault.ca_file",
        "`secrets.vault.url`",
    ),
    (
        "plugins = [{kind = 'external', name = 'a', endpoint = 'http://h:1'}]",
        "plugins[0].endpoint",
        "readable",
    ),
    (
        "plugins = [{kind = 'external', endpoint = 'https://h:1'}]",
        "plugins[0].name",
        "needed with `plugins[0].kind`",
    ),
    (
        "plugins = [{kind = 'external', name = '..', endpoint = 'https://h:1'}]",
        "plugins[0].name",
        "not one of",
    ),
    (
        "plugins = [{kind = 'external', name = 'a', endpoint = 'https://h:1', client_key = '/k'}]",
        "plugins[0].client_key",
        "client_certificate",
    ),
    (
        "plugins = [{kind = 'external', name = 'a', endpoint = 'https://h:1'}, {kind = 'external', name = 'a', endpoint = 'https://h:2'}]",
        "plugins[1].name",
        "`plugins[0].name`",
    ),
    ("plugins = [{kind = 'provisioner'}, {kind = 'provisioner'}]", "plugins[1].kind", "`plugins[0].kind`"),
    ("plugins = [{kind = 'provisioner', name = 'a'}]", "plugins[0].name", "no meaning"),
    (
        "plugins = [{kind = 'pkcs11', module = '/m', slot = 1, pin = 'p', pin_file = '/p'}]",
        "plugins[0].pin_file",
        "contradicts",
    ),
    ("plugins = [{}]", "plugins[0].kind", "missing"),
    ("attestation_api.listen_rest = '127.0.0.1:1'", "attestation_api.listen_rest", "without authentication"),
    ("attestation_api.token_file = '/t'", "attestation_api.token_file", "nothing listens"),
    (
        "server.plain_http = true\nattestation_api = {listen_grpc = '0.0.0.0:1', token_file = '/t'}",
        "attestation_api.listen_grpc",
        "`server.plain_http`",
    ),
    (
        "server.plain_http = true\nattestation_api = {listen_grpc = '127.0.0.1:1', client_ca = '/c'}",
        "attestation_api.client_ca",
        "`server.plain_http`",
    ),
    ("metrics = {enabled = false, listen = '127.0.0.1:1'}", "metrics.listen", "`metrics.enabled`"),
    ("metrics.listen = '127.0.0.1:8080'", "metrics.listen", "`server.listen`"),
    ("metrics.listen = '0.0.0.0:8080'", "metrics.listen", "collides"),
    ("telemetry.sample_ratio = 1.5", "telemetry.sample_ratio", "out of range"),
    ("telemetry.sample_ratio = nan", "telemetry.sample_ratio", "out of range"),
    ("log.level = 2020-01-01", "log.level", "a date"),
    ("server.limits.connections = 99999999999999999999", "", "not TOML"),
];

#[test]
fn each_rule_names_both_keys() {
    for (text, key, words) in BROKEN {
        let told = parse(text).map(|_| ()).expect_err(text);
        let found = told.iter().any(|p| p.key == *key && p.what.contains(words));
        assert!(found || (key.is_empty() && told.len() == 1), "{text}\n{told:?}");
        assert_eq!(told.len(), 1, "one cause, one problem: {text}\n{told:?}");
        assert!(told[0].advice.len() > 8, "{told:?}");
    }
}

#[test]
fn what_is_safe_is_allowed() {
    for text in [
        "server.plain_http = true",
        "server = {plain_http = true, plain_http_anywhere = true, listen = ['0.0.0.0:1']}",
        "server = {self_signed = true, plain_http = false}",
        "server = {self_signed = false, tls_certificate = '/c', tls_key = '/k'}",
        "server.listen = ['127.0.0.1:0', '[::1]:0']\nmetrics.listen = '127.0.0.1:0'",
        "server.limits.connections = 5",
        "admin.everybody = true",
        "admin = {enabled = false, token_file = '/t'}",
        "state = {kind = 'memory', folder = '/f'}",
        "plugins = [{kind = 'external', name = 'pkcs11', endpoint = 'https://h'}, {kind = 'pkcs11', module = '/m', slot = 0, pin_file = '/p'}]",
        "attestation_api = {listen_rest = '0.0.0.0:1', client_ca = '/c'}",
        "secrets = {backend = 'vault', vault = {url = 'http://localhost:1', token_file = '/t', kv_version = 1}}",
        "telemetry.sample_ratio = 1",
    ] {
        if let Err(problems) = parse(text) {
            panic!("{text}\n{problems:?}");
        }
    }
}
