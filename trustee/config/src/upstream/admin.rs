//! `[admin]`.

use crate::node::{Node, Value};

use super::Acknowledged;
use super::source::{Source, Target};

const PROVIDERS: &str = "admin.identity_providers";
const ACLS: &str = "admin.acls";

pub(super) fn translate(root: &mut Source<'_>, out: &mut Target, acknowledged: &Acknowledged) {
    let Some(mut admin) = root.table("admin", out) else {
        if !root.has("admin") {
            out.wrong(&root.place("admin"), "missing", "write an [admin] table with `authorization_mode`");
        }
        return;
    };
    let place = admin.place("authorization_mode");
    let present = admin.has("authorization_mode");
    let mode = admin.text("authorization_mode", out);
    let proven = match mode {
        Some("AuthenticatedAuthorization") => true,
        Some("DenyAll") => {
            out.put("admin.enabled", Node { line: place.line, value: Value::Bool(false) }, &place);
            false
        }
        // Upstream's own default.
        Some("InsecureAllowAll") | None if mode.is_some() || !present => {
            if acknowledged.insecure_allow_all {
                out.put("admin.everybody", Node { line: place.line, value: Value::Bool(true) }, &place);
            } else if !admin.has("type") {
                out.wrong(
                    &place,
                    "\"InsecureAllowAll\" (also if it is missing) makes everybody an administrator",
                    "write \"AuthenticatedAuthorization\" or \"DenyAll\"; for tests on loopback add \
                     `acknowledge = [\"insecure_allow_all\"]` to a [cocoon] table",
                );
            }
            false
        }
        _ => {
            if present && mode.is_some() {
                let advice = "write \"AuthenticatedAuthorization\", \"DenyAll\" or \"InsecureAllowAll\"";
                out.wrong(&place, "unknown mode", advice);
            }
            false
        }
    };
    // Without proof their content is of no use, but must be right.
    let mut unused = Target::new(Default::default());
    let into = if proven { &mut *out } else { &mut unused };
    if let Some(mut authentication) = admin.table("authentication", into) {
        if let Some(bearer) = authentication.table("bearer_jwt", into) {
            providers(bearer, into);
        }
        authentication.finish(into);
    }
    if let Some(mut authorization) = admin.table("authorization", into) {
        if let Some(acl) = authorization.table("regex_acl", into) {
            acls(acl, into);
        }
        authorization.finish(into);
    }
    if !proven {
        let Err(problems) = unused.problems.finish() else { return admin.finish(out) };
        for problem in problems {
            out.problems.add(&problem.key, problem.line, problem.what, problem.advice);
        }
    }
    admin.finish(out);
}

fn providers(mut bearer: Source<'_>, out: &mut Target) {
    for mut provider in bearer.tables("identity_providers", out) {
        let at = out.another(PROVIDERS);
        if !provider.has("audience") {
            out.note(
                &provider.here(),
                "no audience: tokens that this issuer made for other services are accepted too",
            );
        }
        provider.pass_unless_empty("issuer", &format!("{at}.issuer"), out);
        provider.pass_unless_empty("audience", &format!("{at}.audience"), out);
        provider.pass("public_key_uri", &format!("{at}.public_key_uri"), out);
        provider.pass("jwk_set_uri", &format!("{at}.jwk_set_uri"), out);
        provider.finish(out);
    }
    bearer.finish(out);
}

fn acls(mut acl: Source<'_>, out: &mut Target) {
    for mut rule in acl.tables("acls", out) {
        let at = out.another(ACLS);
        rule.pass("role", &format!("{at}.role"), out);
        rule.pass("allowed_endpoints", &format!("{at}.allowed_endpoints"), out);
        rule.finish(out);
    }
    acl.finish(out);
}
