//! `[storage_backend]`.

use url::Url;

use crate::node::{Node, Value};
use crate::parse::Inputs;

use super::source::{Source, Target};

const REDIS: &str = "Redis";

pub(super) fn translate(root: &mut Source<'_>, out: &mut Target, inputs: &Inputs) {
    let present = root.has("storage_backend");
    let Some(mut storage) = root.table("storage_backend", out) else {
        if !present {
            let place = root.place("storage_backend");
            out.put_text("state.kind", "memory", &place);
            out.note(&place, "not there, so everything is lost at exit, as upstream does");
        }
        return;
    };
    let place = storage.place("storage_type");
    let kind = storage.text("storage_type", out).map(str::to_ascii_lowercase);
    let mut backends = storage.table("backends", out);
    match kind.as_deref() {
        None if storage.has("storage_type") => {}
        None => {
            out.put_text("state.kind", "memory", &place);
            out.note(&place, "not there, so everything is lost at exit, as upstream does");
        }
        Some("memory") => out.put_text("state.kind", "memory", &place),
        Some("localfs" | "localjson") => {
            out.put_text("state.kind", "embedded", &place);
            let old = if kind.as_deref() == Some("localfs") {
                "the old folder has a file per value, `repository/A\\x2FB\\x2FC` for the secret A/B/C"
            } else {
                "the old folder has a JSON file per namespace, `repository.json` with base64url values for the secrets"
            };
            let how = "the state is in Trustee's own folder, sealed; the old one is not read. Import what it holds \
                       through the admin API (POST /kbs/v0/resource/A/B/C)";
            out.note(&place, format!("{how}: {old}"));
        }
        Some("postgres") => {
            out.put_text("state.kind", "postgres", &place);
            let how = "the tables are Trustee's own, sealed; upstream's are not read. Import what they hold through \
                       the admin API";
            out.note(&place, how);
            if inputs.postgres_url.is_none() {
                postgres(backends.as_mut(), out);
            }
        }
        Some("redis") => {
            out.unsupported(&place, REDIS, "write \"Postgres\" to share the state between servers")
        }
        Some(_) => out.wrong(&place, "unknown type", "write \"LocalFs\", \"Postgres\" or \"Memory\""),
    }
    sessions(&mut storage, out);
    if let Some(mut backends) = backends {
        for name in ["local_fs", "local_json", "postgres", "redis"] {
            // Those of other types than the chosen one are of no use; upstream ignores them too.
            let _ = backends.node(name);
        }
        backends.finish(out);
    }
    storage.finish(out);
}

fn sessions(storage: &mut Source<'_>, out: &mut Target) {
    let place = storage.place("session_storage_type");
    match storage.text("session_storage_type", out).map(str::to_ascii_lowercase).as_deref() {
        None => {}
        Some("redis") => out.unsupported(
            &place,
            REDIS,
            "remove it: sessions are in the state, or write \"Postgres\" for all",
        ),
        Some(_) => out.note(&place, "not used: sessions are where the rest of the state is"),
    }
}

/// Puts the parts of the database's address into one URL. It holds the password, so it is never shown.
fn postgres(backends: Option<&mut Source<'_>>, out: &mut Target) {
    let Some(mut table) = backends.and_then(|b| b.table("postgres", out)) else { return };
    let here = table.here();
    let mut part = |name: &'static str, otherwise: Option<&'static str>| {
        let place = table.place(name);
        let text = table.text(name, out).or(if table.has(name) { None } else { otherwise });
        if text.is_none() && !table.has(name) {
            out.wrong(&place, "missing", "write it, or give the environment's POSTGRES_URL");
        }
        text
    };
    let database = part("db", None);
    let user = part("username", None);
    let password = part("password", Some(""));
    let host = part("host", Some("localhost"));
    let port_place = table.place("port");
    let port = match table.node("port") {
        None => Some(5432),
        Some(Node { value: Value::Int(number), .. }) => u16::try_from(*number).ok(),
        Some(_) => None,
    };
    if port.is_none() {
        out.wrong(&port_place, "it is not a port", "write 1 to 65535");
    }
    table.finish(out);
    let (Some(database), Some(user), Some(password), Some(host), Some(port)) =
        (database, user, password, host, port)
    else {
        return;
    };
    match address(database, user, password, host, port) {
        Some(url) => out.put_text("state.postgres_url", String::from(url), &here),
        None => out.wrong(&here, "its parts do not make an URL", "check host, user and database"),
    }
}

fn address(database: &str, user: &str, password: &str, host: &str, port: u16) -> Option<Url> {
    let mut url = Url::parse("postgres://localhost/").ok()?;
    url.set_host(Some(host)).ok()?;
    url.set_port(Some(port)).ok()?;
    url.set_username(user).ok()?;
    if !password.is_empty() {
        url.set_password(Some(password)).ok()?;
    }
    url.path_segments_mut().ok()?.clear().push(database);
    Some(url)
}
