//! `[[plugins]]`.

use crate::node::{Node, Value};

use super::source::{Source, Target};

const PLUGINS: &str = "plugins";

pub(super) fn translate(root: &mut Source<'_>, out: &mut Target) {
    let mut resources = 0usize;
    for mut plugin in root.tables(PLUGINS, out) {
        let place = plugin.place("name");
        match plugin.text("name", out) {
            Some("resource") => {
                resources += 1;
                if resources > 1 {
                    out.wrong(&place, "the plugin \"resource\" is there already", "remove one of them");
                }
                resource(plugin, out);
            }
            Some("sample") => {
                out.note(&place, "not there: it only demonstrates; requests to it are answered 404");
                plugin.skip("item", "not used", out);
                plugin.finish(out);
            }
            Some("provisioner") => provisioner(plugin, out),
            Some("pkcs11") => pkcs11(plugin, out),
            Some("external") => external(plugin, out),
            Some("nebula-ca") => {
                out.unsupported(
                    &place,
                    "the plugin \"nebula-ca\"",
                    "run it as an external plugin, or remove it",
                );
            }
            Some(_) => {
                let advice = "write \"resource\", \"provisioner\", \"pkcs11\" or \"external\"";
                out.wrong(&place, "unknown plugin", advice);
            }
            None if plugin.has("name") => {}
            None => out.wrong(&place, "missing", "name the plugin"),
        }
    }
}

fn resource(mut plugin: Source<'_>, out: &mut Target) {
    let place = plugin.place("storage_backend_type");
    match plugin.text("storage_backend_type", out) {
        None | Some("kvstorage") => {
            for name in ["type", "dir_path"] {
                let place = plugin.place(name);
                if plugin.node(name).is_some() {
                    let what = "obsolete: it said where secrets are kept, and upstream ignores it";
                    out.wrong(
                        &place,
                        what,
                        "set [storage_backend], or `storage_backend_type`, and remove it",
                    );
                }
            }
            plugin.finish(out);
        }
        Some("Vault") => vault(plugin, out),
        Some(other @ ("Aliyun" | "Aws" | "Gcp")) => {
            let what = format!("secrets in {other}");
            out.unsupported(
                &place,
                &what,
                "write \"kvstorage\" or \"Vault\", or run it as an external plugin",
            );
        }
        Some(_) => out.wrong(&place, "unknown backend", "write \"kvstorage\" or \"Vault\""),
    }
}

fn vault(mut plugin: Source<'_>, out: &mut Target) {
    let here = plugin.here();
    out.put_text("secrets.backend", "vault", &plugin.place("storage_backend_type"));
    // Upstream speaks version 1 only.
    out.put("secrets.vault.kv_version", Node { line: here.line, value: Value::Int(1) }, &here);
    plugin.pass("vault_url", "secrets.vault.url", out);
    plugin.pass("token", "secrets.vault.token", out);
    plugin.pass("mount_path", "secrets.vault.mount", out);
    let place = plugin.place("verify_ssl");
    match plugin.flag("verify_ssl", out) {
        Some(true) => {}
        Some(false) => {
            out.wrong(
                &place,
                "anybody on the way could read all secrets and replace them",
                "remove it or write true",
            );
        }
        None => {
            out.note(&place, "upstream's default is not to check the Vault's certificate; here it is checked")
        }
    }
    let place = plugin.place("ca_certs");
    match plugin.texts("ca_certs", out).as_slice() {
        [] => {}
        [file] => out.put_text("secrets.vault.ca_file", *file, &place),
        _ => {
            out.unsupported(&place, "several files of certificate authorities", "put them into one PEM file")
        }
    }
    plugin.finish(out);
}

fn provisioner(mut plugin: Source<'_>, out: &mut Target) {
    let at = out.another(PLUGINS);
    out.put_text(&format!("{at}.kind"), "provisioner", &plugin.place("name"));
    plugin.pass("key_length", &format!("{at}.key_bytes"), out);
    plugin.finish(out);
}

fn pkcs11(mut plugin: Source<'_>, out: &mut Target) {
    let at = out.another(PLUGINS);
    out.put_text(&format!("{at}.kind"), "pkcs11", &plugin.place("name"));
    plugin.pass("module", &format!("{at}.module"), out);
    plugin.pass("slot_index", &format!("{at}.slot"), out);
    plugin.pass("pin", &format!("{at}.pin"), out);
    plugin.pass("lookup_label", &format!("{at}.key_label"), out);
    let place = plugin.place("rsa_mechanism");
    match plugin.text("rsa_mechanism", out) {
        None | Some("RsaPkcsOaep") => {}
        Some(_) => out.unsupported(&place, "RSA without OAEP", "write \"RsaPkcsOaep\""),
    }
    plugin.finish(out);
}

fn external(mut plugin: Source<'_>, out: &mut Target) {
    for mut backend in plugin.tables("backends", out) {
        let at = out.another(PLUGINS);
        out.put_text(&format!("{at}.kind"), "external", &backend.here());
        backend.pass("name", &format!("{at}.name"), out);
        backend.pass("endpoint", &format!("{at}.endpoint"), out);
        backend.pass("ca_cert_path", &format!("{at}.ca_file"), out);
        backend.pass("timeout_ms", &format!("{at}.timeout_ms"), out);
        let place = backend.place("tls_mode");
        let endpoint = backend.text("endpoint", &mut Target::new(Default::default()));
        match (backend.text("tls_mode", out), endpoint) {
            (None, _) | (_, None) => {}
            (Some("tls"), Some(url)) if url.starts_with("https:") => {}
            (Some("insecure"), Some(url)) if url.starts_with("http:") => {}
            _ => out.wrong(&place, "it contradicts the scheme of `endpoint`, which decides", "remove it"),
        }
        backend.finish(out);
    }
    plugin.finish(out);
}
