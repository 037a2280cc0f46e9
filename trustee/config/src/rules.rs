//! Rules over several keys: what contradicts, and what would be unsafe together. This file: server, state, seal.

use std::net::SocketAddr;

use crate::effective::{Effective, Origin};
use crate::error::Problems;
use crate::kind::{Kind, Set};
use crate::node::{Node, Value};
use crate::parse::Inputs;
use crate::rules_more;

use zeroize::Zeroizing;

/// Settings in force and what is wrong with them.
pub(crate) struct Check<'a> {
    pub settings: &'a Effective,
    pub problems: &'a mut Problems,
}

impl Check<'_> {
    /// Adds a problem with a key.
    pub fn wrong(&mut self, path: &str, what: impl Into<String>, advice: impl Into<String>) {
        let (name, line) = self.settings.place(path);
        self.problems.add(&name, line, what, advice);
    }

    /// The path as the file writes it.
    pub fn name(&self, path: &str) -> String {
        self.settings.place(path).0
    }

    /// Two keys that exclude each other.
    pub fn not_both(&mut self, one: &str, other: &str) {
        if self.settings.given(one) && self.settings.given(other) {
            let other_name = self.name(other);
            self.wrong(one, format!("it contradicts `{other_name}`"), "remove one of them");
        }
    }

    /// A key that needs another.
    pub fn needs(&mut self, one: &str, other: &str) {
        if self.settings.given(one) && !self.settings.given(other) {
            self.wrong(one, format!("it needs `{other}`"), "add that or remove this");
        }
    }

    /// Exactly one of two.
    pub fn one_of(&mut self, one: &str, other: &str) {
        self.not_both(one, other);
        if !self.settings.given(one) && !self.settings.given(other) {
            self.wrong(one, format!("neither it nor `{other}` is given"), "give one of them");
        }
    }
}

/// All rules. Sets what follows from other keys.
pub(crate) fn check(effective: &mut Effective, inputs: &Inputs, problems: &mut Problems) {
    environment(effective, inputs, problems);
    derive(effective);
    let mut check = Check { settings: effective, problems };
    tls(&mut check);
    limits(&mut check);
    storage(&mut check);
    rules_more::check(&mut check);
}

/// The database's URL from the environment.
fn environment(effective: &mut Effective, inputs: &Inputs, problems: &mut Problems) {
    const URL: &str = "state.postgres_url";
    let Some(secret) = &inputs.postgres_url else { return };
    if effective.text("state.kind") != Some("postgres") {
        return;
    }
    for path in [URL, "state.postgres_url_file"] {
        if effective.given(path) {
            let (name, line) = effective.place(path);
            problems.add(&name, line, "it contradicts the environment's POSTGRES_URL", "remove one of them");
            return;
        }
    }
    let node = Node { line: None, value: Value::Text(Zeroizing::new(secret.expose().to_owned())) };
    match Kind::SecretUrl(&["postgres", "postgresql"]).accept(&node, true) {
        Err(why) => problems.add("POSTGRES_URL", None, why, "write postgres://USER:PASSWORD@HOST/DATABASE"),
        Ok(value) => {
            if let Some(entry) = effective.entries.get_mut(URL) {
                entry.value = Some(value);
                entry.origin = Origin::Environment;
            }
        }
    }
}

/// `server.self_signed` follows from the other ways, unless it is given.
fn derive(effective: &mut Effective) {
    const SELF_SIGNED: &str = "server.self_signed";
    let other = effective.given("server.tls_certificate") || effective.flag("server.plain_http");
    if !effective.given(SELF_SIGNED)
        && let Some(entry) = effective.entries.get_mut(SELF_SIGNED)
    {
        entry.value = Some(Set::Bool(!other));
        entry.origin = if other { Origin::Derived("another identity is given") } else { Origin::Default };
    }
}

/// Addresses in a key that do not parse are told elsewhere.
pub(crate) fn sockets(effective: &Effective, path: &str) -> Vec<SocketAddr> {
    let mut texts = effective.texts(path);
    texts.extend(effective.text(path));
    texts.into_iter().filter_map(|text| text.parse().ok()).collect()
}

/// An address that other machines reach, if there is one.
pub(crate) fn exposed(effective: &Effective, path: &str) -> Option<SocketAddr> {
    sockets(effective, path).into_iter().find(|s| !s.ip().to_canonical().is_loopback())
}

fn tls(check: &mut Check<'_>) {
    let settings = check.settings;
    check.needs("server.tls_certificate", "server.tls_key");
    check.needs("server.tls_key", "server.tls_certificate");
    let plain = settings.flag("server.plain_http");
    for other in ["server.tls_certificate", "server.client_ca"] {
        if plain {
            check.not_both("server.plain_http", other);
        }
    }
    if settings.flag("server.self_signed") {
        check.not_both("server.self_signed", "server.tls_certificate");
        if plain {
            check.not_both("server.self_signed", "server.plain_http");
        }
    } else if settings.given("server.self_signed") && !plain && !settings.given("server.tls_certificate") {
        let advice = "give `server.tls_certificate` and `server.tls_key`, or remove it";
        check.wrong("server.self_signed", "false leaves no TLS identity", advice);
    }
    if plain
        && !settings.flag("server.plain_http_anywhere")
        && let Some(address) = exposed(settings, "server.listen")
    {
        let listen = check.name("server.listen");
        let what = format!(
            "`{listen}` has {address}, where credentials and tokens would cross the network readable"
        );
        let advice = "listen on a loopback address, use TLS, or set `server.plain_http_anywhere = true`";
        check.wrong("server.plain_http", what, advice);
    }
}

fn limits(check: &mut Check<'_>) {
    for (less, more) in [
        ("server.limits.connections_per_peer", "server.limits.connections"),
        ("server.limits.header_seconds", "server.limits.request_seconds"),
    ] {
        if let (Some(a), Some(b)) = (check.settings.int(less), check.settings.int(more))
            && a > b
            && check.settings.given(less)
        {
            let other = check.name(more);
            check.wrong(less, format!("{a} is more than `{other}` = {b}"), "lower it or raise the other");
        }
    }
}

fn storage(check: &mut Check<'_>) {
    if check.settings.text("state.kind") == Some("postgres") {
        check.not_both("state.postgres_url", "state.postgres_url_file");
        if !check.settings.given("state.postgres_url") && !check.settings.given("state.postgres_url_file") {
            let what = "neither it nor `state.postgres_url_file` nor the environment's POSTGRES_URL is given";
            check.wrong("state.postgres_url", what, "give one of them");
        }
    }
    if check.settings.text("seal.kind") == Some("pkcs11") {
        check.one_of("seal.pkcs11.token_label", "seal.pkcs11.slot");
    }
}
