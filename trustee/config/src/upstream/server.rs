//! `[http_server]` and `[attestation_token]`.

use std::net::SocketAddr;

use crate::node::{Node, Value};

use super::Acknowledged;
use super::source::{Place, Source, Target};

use zeroize::Zeroizing;

const MIB: i64 = 1024 * 1024;

pub(super) fn translate(root: &mut Source<'_>, out: &mut Target, acknowledged: &Acknowledged) {
    if let Some(http) = root.table("http_server", out) {
        http_server(http, out, acknowledged);
    }
    if let Some(token) = root.table("attestation_token", out) {
        attestation_token(token, out);
    }
}

fn http_server(mut http: Source<'_>, out: &mut Target, acknowledged: &Acknowledged) {
    let exposed = http
        .texts("sockets", &mut Target::new(Default::default()))
        .into_iter()
        .any(|text| text.parse::<SocketAddr>().is_ok_and(|s| !s.ip().to_canonical().is_loopback()));
    http.pass("sockets", "server.listen", out);
    let place = http.place("insecure_http");
    if http.flag("insecure_http", out) == Some(true) {
        if exposed && !acknowledged.insecure_http {
            out.wrong(
                &place,
                "credentials and tokens would cross the network readable, for a socket is not on a loopback address",
                "give `certificate` and `private_key`, or add `acknowledge = [\"insecure_http\"]` to a [cocoon] table",
            );
        }
        out.put("server.plain_http", Node { line: place.line, value: Value::Bool(true) }, &place);
        // Told above, in upstream's words.
        out.put("server.plain_http_anywhere", Node { line: place.line, value: Value::Bool(exposed) }, &place);
        for name in ["private_key", "certificate"] {
            if http.has(name) {
                let unused = http.place(name);
                out.note(&unused, "not used, for `insecure_http` is true");
            }
        }
        let _ = (http.node("private_key"), http.node("certificate"));
    } else {
        http.pass("private_key", "server.tls_key", out);
        http.pass("certificate", "server.tls_certificate", out);
        if !http.has("private_key") && !http.has("certificate") {
            out.note(&http.here(), "no certificate: a self-signed one is made and kept in the state folder");
        }
    }
    http.pass_times("payload_request_size", MIB, "server.limits.body_bytes", out);
    http.skip("worker_count", "not used: there is one thread per processor", out);
    tls_versions(&mut http, out);
    for name in ["tls_ciphers", "tls_groups"] {
        let advice = "remove it; ciphers are AEAD with forward secrecy only, and X25519MLKEM768 is offered";
        http.refuse(name, "lists of ciphers and groups", advice, out);
    }
    http.finish(out);
}

fn tls_versions(http: &mut Source<'_>, out: &mut Target) {
    let profile_place = http.place("tls_profile");
    let profile = http.text("tls_profile", out);
    match profile {
        None | Some("intermediate" | "modern" | "custom") => {}
        Some("old") => out.note(&profile_place, "the same as \"intermediate\": TLS 1.2 and 1.3"),
        Some(_) => out.wrong(&profile_place, "unknown profile", "write \"intermediate\" or \"modern\""),
    }
    let mut bound = |name: &'static str, otherwise: &'static str| {
        let place = http.place(name);
        match http.text(name, out) {
            None => otherwise,
            Some("1.2") => "1.2",
            Some("1.3") => "1.3",
            Some(_) => {
                out.wrong(&place, "unknown version", "write \"1.2\" or \"1.3\"");
                otherwise
            }
        }
    };
    let least = bound("tls_min_version", if profile == Some("modern") { "1.3" } else { "1.2" });
    let most = bound("tls_max_version", "1.3");
    let place = ["tls_min_version", "tls_max_version", "tls_profile"].into_iter().find(|name| http.has(name));
    let Some(place) = place.map(|name| http.place(name)) else { return };
    let versions: Vec<Node> = ["1.2", "1.3"]
        .into_iter()
        .filter(|version| (least..=most).contains(version))
        .map(|version| Node { line: place.line, value: Value::Text(Zeroizing::new(version.to_owned())) })
        .collect();
    out.put("server.tls_versions", Node { line: place.line, value: Value::List(versions) }, &place);
}

fn attestation_token(mut token: Source<'_>, out: &mut Target) {
    token.pass("trusted_jwk_sets", "tokens.trusted.jwks", out);
    token.pass("trusted_certs_paths", "tokens.trusted.certificates", out);
    token.pass("extra_teekey_paths", "tokens.trusted.extra_key_pointers", out);
    let place: Place = token.place("insecure_header_jwk");
    if token.flag("insecure_header_jwk", out) == Some(true) {
        out.wrong(
            &place,
            "a token would be trusted with whatever key it brings along, so anybody could make one",
            "remove it; Trustee trusts its own tokens, others by `trusted_certs_paths` or `trusted_jwk_sets`",
        );
    }
    token.finish(out);
}
