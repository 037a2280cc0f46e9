//! Rules over several keys: tokens, administration, secrets, plugins, the attestation API, addresses.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::kind::stays_here;
use crate::rules::{Check, exposed, sockets};

pub(crate) fn check(check: &mut Check<'_>) {
    check.needs("tokens.certificate_chain", "tokens.signing_key");
    offline(check);
    admin(check);
    secrets(check);
    plugins(check);
    attestation_api(check);
    if !check.settings.flag("metrics.enabled") {
        check.not_both("metrics.listen", "metrics.enabled");
    }
    addresses(check);
}

fn offline(check: &mut Check<'_>) {
    for url in ["attestation.amd_kds_url", "attestation.intel_collateral_url", "attestation.nvidia_rim_url"] {
        check.not_both(url, "attestation.offline_collateral");
    }
}

fn admin(check: &mut Check<'_>) {
    let settings = check.settings;
    if settings.flag("admin.everybody") {
        if !settings.flag("admin.enabled") {
            check.not_both("admin.everybody", "admin.enabled");
        }
        check.not_both("admin.everybody", "admin.token_file");
        for section in ["admin.identity_providers", "admin.acls", "admin.client_certificates"] {
            if settings.count(section) > 0 {
                check.wrong("admin.everybody", format!("it contradicts `{section}`"), "remove one of them");
            }
        }
        if let Some(address) = exposed(settings, "server.listen") {
            let listen = check.name("server.listen");
            let what =
                format!("`{listen}` has {address}: anybody who reaches it could read and change everything");
            check.wrong(
                "admin.everybody",
                what,
                "remove it and use the admin token, or listen on loopback only",
            );
        }
    }
    for i in 0..settings.count("admin.identity_providers") {
        let at = |name: &str| format!("admin.identity_providers[{i}].{name}");
        let (key, set) = (at("public_key_uri"), at("jwk_set_uri"));
        if !settings.given(&key) && !settings.given(&set) {
            check.wrong(&key, format!("neither it nor `{set}` is given"), "give one of them");
        }
    }
    for i in 0..settings.count("admin.client_certificates") {
        let at = |name: &str| format!("admin.client_certificates[{i}].{name}");
        let selectors: Vec<String> = ["common_name", "dns", "uri", "sha256"]
            .into_iter()
            .map(at)
            .filter(|p| settings.given(p))
            .collect();
        match selectors.as_slice() {
            [_] => {}
            [] => check.wrong(
                &at("common_name"),
                "nothing tells which certificate",
                "give one of common_name, dns, uri, sha256",
            ),
            [one, other, ..] => check.not_both(one, other),
        }
        if !settings.given("server.client_ca") {
            let what = "client certificates are not asked for";
            check.wrong(&at("role"), what, "set `server.client_ca` or remove `admin.client_certificates`");
        }
    }
}

fn secrets(check: &mut Check<'_>) {
    match check.settings.text("secrets.backend") {
        Some("vault") => {
            check.one_of("secrets.vault.token_file", "secrets.vault.token");
            endpoint(check, "secrets.vault.url", "secrets.vault.ca_file");
        }
        Some("pkcs11") => check.one_of("secrets.pkcs11.token_label", "secrets.pkcs11.slot"),
        _ => {}
    }
}

/// What carries secrets goes over TLS, or stays on this machine.
fn endpoint(check: &mut Check<'_>, url: &str, ca_file: &str) {
    let Some(text) = check.settings.text(url) else { return };
    if text.starts_with("https:") {
        return;
    }
    if !stays_here(text) {
        check.wrong(url, "secrets would cross the network readable", "use an https URL");
    }
    check.not_both(ca_file, url);
}

fn plugins(check: &mut Check<'_>) {
    let settings = check.settings;
    let mut names: BTreeMap<&str, String> = BTreeMap::new();
    for i in 0..settings.count("plugins") {
        let at = |name: &str| format!("plugins[{i}].{name}");
        let kind = settings.text(&at("kind"));
        let (key, name) = match kind {
            Some("external") => {
                endpoint(check, &at("endpoint"), &at("ca_file"));
                check.needs(&at("client_certificate"), &at("client_key"));
                check.needs(&at("client_key"), &at("client_certificate"));
                (at("name"), settings.text(&at("name")))
            }
            Some("pkcs11") => {
                check.one_of(&at("token_label"), &at("slot"));
                check.one_of(&at("pin_file"), &at("pin"));
                (at("kind"), kind)
            }
            _ => (at("kind"), kind),
        };
        // An external plugin's name and the kinds of the others are different name spaces.
        let Some(name) = name else { continue };
        if let Some(first) = names.get(name).filter(|first| first.ends_with("name") == key.ends_with("name"))
        {
            let what = format!("\"{name}\" is there already, in `{}`", check.name(first));
            check.wrong(&key, what, "remove one of them or give it another name");
        }
        names.insert(name, key);
    }
}

fn attestation_api(check: &mut Check<'_>) {
    const LISTEN: [&str; 2] = ["attestation_api.listen_rest", "attestation_api.listen_grpc"];
    const PROOF: [&str; 2] = ["attestation_api.token_file", "attestation_api.client_ca"];
    let settings = check.settings;
    let listens = LISTEN.iter().any(|key| settings.given(key));
    let proves = PROOF.iter().any(|key| settings.given(key));
    let plain = settings.flag("server.plain_http");
    for key in LISTEN.into_iter().filter(|key| settings.given(key)) {
        if !proves {
            let what = "it would listen without authentication";
            check.wrong(key, what, "set `attestation_api.token_file` or `attestation_api.client_ca`");
        }
        if plain && !settings.flag("server.plain_http_anywhere") && exposed(settings, key).is_some() {
            let other = check.name("server.plain_http");
            let what = format!("with `{other}` its token and tokens would cross the network readable");
            check.wrong(key, what, "use a loopback address or TLS");
        }
    }
    for key in PROOF.into_iter().filter(|key| settings.given(key)) {
        if !listens {
            check.wrong(
                key,
                "nothing listens",
                "set `attestation_api.listen_rest` or `listen_grpc`, or remove it",
            );
        }
    }
    if plain {
        check.not_both("attestation_api.client_ca", "server.plain_http");
    }
}

/// No two listeners at one address.
fn addresses(check: &mut Check<'_>) {
    let mut seen: Vec<(SocketAddr, &str)> = Vec::new();
    for key in
        ["server.listen", "attestation_api.listen_rest", "attestation_api.listen_grpc", "metrics.listen"]
    {
        for address in sockets(check.settings, key) {
            let taken = |(other, _): &&(SocketAddr, &str)| {
                other.port() == address.port()
                    && (other.ip() == address.ip()
                        || other.ip().is_unspecified()
                        || address.ip().is_unspecified())
                    && other.is_ipv4() == address.is_ipv4()
            };
            if address.port() != 0
                && let Some((_, first)) = seen.iter().find(taken)
            {
                let what = format!("{address} collides with an address of `{}`", check.name(first));
                check.wrong(key, what, "use another port");
            }
            seen.push((address, key));
        }
    }
}
