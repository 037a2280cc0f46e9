//! Tests of Cocoon's own form: table, example, reading, showing, comparing.

use std::time::Duration;

use proptest::prelude::*;

use crate::node::toml_value;
use crate::table::keys;
use crate::*;

/// The problems of a text, one a line.
fn problems(text: &str) -> String {
    parse(text).map(|_| ()).unwrap_err().iter().map(|p| format!("{p}\n")).collect()
}

const FULL: &str = r#"
[server]
listen = ["0.0.0.0:8443", "[::1]:8443"]
tls_certificate = "/c.pem"
tls_key = "/k.pem"
tls_versions = ["1.3"]
client_ca = "/ca.pem"
public_url = "https://trustee.example"
[server.limits]
body_bytes = 8_388_608
drain_seconds = 0
[state]
kind = "postgres"
folder = "/srv/a \"quoted\" \\ folder"
postgres_url = "postgres://u:Pa55word@db/t"
[seal]
kind = "pkcs11"
[seal.pkcs11]
module = "/m.so"
slot = 3
key_label = "seal"
pin_file = "/pin"
[tokens]
signing_key = "/s.pem"
certificate_chain = "/s-chain.pem"
[tokens.trusted]
jwks = ["https://a.example/jwks", "file:///b.json", "/c.json"]
extra_key_pointers = ["/a/b~1c"]
[attestation]
policy_ids = ["strict"]
[admin]
token_file = "/t"
[[admin.identity_providers]]
issuer = "me"
public_key_uri = "/p.pem"
[[admin.acls]]
role = "operator"
allowed_endpoints = "^/kbs/v0/resource/.+$"
[[admin.client_certificates]]
sha256 = "ABCDEF00ABCDEF00ABCDEF00ABCDEF00ABCDEF00ABCDEF00ABCDEF00ABCDEF00"
role = "operator"
tenant = "team"
[secrets]
backend = "vault"
[secrets.vault]
url = "https://vault.example"
token = "hvs.Hush"
[[plugins]]
kind = "external"
name = "a"
endpoint = "http://127.0.0.1:50051"
[[plugins]]
kind = "provisioner"
[[plugins]]
kind = "pkcs11"
module = "/m.so"
token_label = "t"
pin = "Hush1234"
[attestation_api]
listen_grpc = "127.0.0.1:50004"
token_file = "/at"
[metrics]
listen = "127.0.0.1:9090"
[telemetry]
otlp_endpoint = "http://127.0.0.1:4318"
sample_ratio = 0.25
[log]
level = "warn"
format = "json"
"#;

#[test]
fn an_empty_file_gives_safe_defaults() {
    let settings = parse("").unwrap();
    assert_eq!(settings.server.listen, ["127.0.0.1:8080".parse().unwrap()]);
    assert_eq!(settings.server.identity, ServerIdentity::SelfSigned);
    assert_eq!(settings.server.limits.body_bytes, 2 * 1024 * 1024);
    assert_eq!(settings.state, State { folder: None, kind: StateKind::Embedded });
    assert_eq!(settings.seal, Seal::File(None));
    assert_eq!(settings.tokens.lifetime, Duration::from_secs(300));
    assert!(!settings.attestation.accept_simulated && !settings.attestation.accept_sample);
    assert!(!settings.attestation.issue_contraindicated);
    assert!(matches!(settings.admin, Admin::Proven(ref a) if a.token_file.is_none() && a.acls.is_empty()));
    assert!(settings.attestation_api.is_none() && settings.telemetry.is_none());
}

#[test]
fn the_example_is_the_tables_and_parses_to_the_defaults() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/trustee.example.toml");
    if std::env::var_os("COCOON_REGENERATE").is_some() {
        std::fs::write(path, render_example()).unwrap();
    }
    let file = std::fs::read_to_string(path).unwrap();
    assert_eq!(file, render_example(), "run this test with COCOON_REGENERATE=1");
    assert_eq!(EXAMPLE, file);
    assert_eq!(format!("{:?}", parse(EXAMPLE).unwrap()), format!("{:?}", parse("").unwrap()));
    for key in keys() {
        let lines: Vec<&str> = EXAMPLE.lines().collect();
        assert!(
            lines.iter().any(|l| l.trim_start_matches('#').starts_with(&format!("{} = ", key.name()))),
            "{}",
            key.path
        );
    }
    assert_eq!(detect(EXAMPLE), Ok(Dialect::Cocoon));
}

#[test]
fn every_default_and_sample_is_of_its_keys_kind() {
    for key in keys() {
        for text in [key.default, key.sample].into_iter().filter(|t| !t.is_empty()) {
            let node = toml_value(text).unwrap_or_else(|| panic!("{}: {text}", key.path));
            assert_eq!(key.kind.accept(&node, false).map(|_| ()), Ok(()), "{}", key.path);
        }
    }
}

#[test]
fn the_reference_page_is_checked_in() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/trustee-settings.md");
    if std::env::var_os("COCOON_REGENERATE").is_some() {
        std::fs::write(&path, reference_markdown()).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == reference_markdown(),
        "docs/trustee-settings.md differs: run this test with COCOON_REGENERATE=1"
    );
}

#[test]
fn the_reference_page_names_every_key() {
    let page = reference_markdown();
    for key in keys() {
        assert!(page.contains(&format!("| `{}` |", key.name())), "{}", key.path);
    }
    assert!(
        page.lines().filter(|l| l.starts_with("| `")).all(|l| l.replace("\\|", "").matches('|').count() == 6)
    );
}

#[test]
fn a_full_file_is_read_to_the_letter() {
    let settings = parse(FULL).unwrap();
    assert_eq!(settings.server.listen.len(), 2);
    assert_eq!(settings.server.tls_versions, [TlsVersion::Tls13]);
    assert_eq!(
        settings.server.identity,
        ServerIdentity::Files { certificate: "/c.pem".into(), key: "/k.pem".into() }
    );
    let StateKind::Postgres { url: Given::Inline(url), pool_size: 16 } = &settings.state.kind else {
        panic!()
    };
    assert_eq!(url.expose(), "postgres://u:Pa55word@db/t");
    assert!(matches!(&settings.seal, Seal::Pkcs11(token) if token.token == TokenChoice::Slot(3)));
    let Admin::Proven(admin) = &settings.admin else { panic!() };
    assert_eq!(admin.identity_providers[0].issuer.as_deref(), Some("me"));
    let digest = "abcdef00".repeat(8);
    assert_eq!(admin.client_certificates[0].identity, CertificateIdentity::Sha256(digest));
    assert!(
        matches!(&settings.secrets, Secrets::Vault(v) if v.kv_version == KvVersion::V2 && v.mount == "secret")
    );
    assert!(matches!(&settings.plugins[0], Plugin::External(p) if p.time == Duration::from_millis(5000)));
    assert_eq!(settings.plugins[1], Plugin::Provisioner { key_bytes: 32 });
    assert_eq!(settings.metrics, Metrics::At("127.0.0.1:9090".parse().unwrap()));
    assert_eq!(settings.log, Log { level: LogLevel::Warn, format: LogFormat::Json });
}

#[test]
fn what_is_shown_hides_secrets_and_means_the_same() {
    let settings = parse(FULL).unwrap();
    let shown = settings.show();
    for text in [shown.clone(), format!("{settings:?}")] {
        for secret in ["Pa55word", "Hush"] {
            assert!(!text.contains(secret), "{text}");
        }
    }
    assert!(shown.contains("postgres_url = \"(hidden)\"  # file, line 15\n"), "{shown}");
    assert!(shown.contains("pool_size = 16  # default\n"), "{shown}");
    assert!(shown.contains("self_signed = false  # another identity is given\n"), "{shown}");
    let again = shown.replace("postgres_url = \"(hidden)\"", "postgres_url = \"postgres://(hidden)\"");
    assert_eq!(format!("{:?}", parse(&again).unwrap()), format!("{settings:?}"));
    assert_eq!(
        format!("{:?}", parse(&parse("").unwrap().show()).unwrap()),
        format!("{:?}", parse("").unwrap())
    );
}

#[test]
fn all_problems_are_told_at_once_with_line_and_advice() {
    let text = "[server]\nlsiten = [\"127.0.0.1:1\"]\ntls_versions = [\"1.1\"]\n[server.limits]\nbody_bytes = \"2\"\n\
                idle_seconds = 0\n[log]\nlevel = \"loud\"\n[sevrer]\n[state]\nname = 1\nlisten = 1\n[plugins]\n";
    let told = problems(text);
    let expected = [
        "line 2: `server.lsiten`: unknown key \"lsiten\"; did you mean `listen`?",
        "line 3: `server.tls_versions`: item 1: \"1.1\": it is not one of the values allowed here; write list of at \
         least 1: \"1.2\" or \"1.3\"",
        "line 5: `server.limits.body_bytes`: a text is the wrong type; write integer, 65536 to 67108864",
        "line 6: `server.limits.idle_seconds`: 0 is out of range; write integer, 1 to 3600",
        "line 8: `log.level`: \"loud\": it is not one of",
        "line 9: `sevrer`: unknown key \"sevrer\"; did you mean `server`?",
        "line 11: `state.name`: unknown key \"name\"; it belongs to [[plugins]]",
        "line 12: `state.listen`: unknown key \"listen\"; it belongs to [server]",
        "line 13: `plugins`: a table is the wrong type; write [[plugins]]",
    ];
    for line in expected {
        assert!(told.contains(line), "{line}\n---\n{told}");
    }
    assert_eq!(told.lines().count(), expected.len(), "{told}");
    let failure = cocoon_stage::Failure::from(Error::from(parse(text).unwrap_err()));
    assert_eq!(failure.code, cocoon_stage::Code::ConfigInvalid);
}

#[test]
fn wrong_values_of_secrets_are_not_repeated() {
    for text in [
        "[state]\nkind = \"postgres\"\npostgres_url = \"mysql://u:Hush@h/d\"",
        "[state]\nkind = \"postgres\"\npostgres_url = \"Hush\"",
        "[state]\nkind = \"postgres\"\npostgres_url = \"Hush",
        "[secrets]\nbackend = \"vault\"\n[secrets.vault]\nurl = \"https://h\"\ntoken = \"Hush\\u0001\"",
        "postgres_url = Hush",
    ] {
        assert!(!problems(text).contains("Hush"), "{}", problems(text));
    }
    let inputs = Inputs { postgres_url: Some(Secret::new("http://u:Hush@h/d")), flags: vec![] };
    let told = parse_with("[state]\nkind = \"postgres\"", &inputs).unwrap_err();
    assert!(told.iter().any(|p| p.key == "POSTGRES_URL") && !format!("{told:?}{inputs:?}").contains("Hush"));
}

#[test]
fn flags_and_environment_come_after_the_file() {
    let flags =
        [("server.listen", "[::1]:1"), ("attestation.accept_simulated", "true"), ("explain.keep", "7")];
    let inputs = Inputs {
        postgres_url: Some(Secret::new("postgres://u:p@h/d")),
        flags: flags.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect(),
    };
    let settings =
        parse_with("[server]\nlisten = [\"127.0.0.1:2\"]\n[state]\nkind = \"postgres\"", &inputs).unwrap();
    assert_eq!(settings.server.listen, ["[::1]:1".parse().unwrap()]);
    assert!(settings.attestation.accept_simulated && settings.explain.keep == 7);
    assert!(
        settings.show().contains("listen = [\"[::1]:1\"]  # flag")
            && settings.show().contains("# environment")
    );
    let wrong = |key: &str, value: &str| {
        let inputs = Inputs { postgres_url: None, flags: vec![(key.into(), value.into())] };
        parse_with("", &inputs).unwrap_err()[0].key.clone()
    };
    assert_eq!(wrong("server.listn", "[::1]:1"), "server.listn");
    assert_eq!(wrong("explain.keep", "many"), "explain.keep");
    assert_eq!(wrong("plugins[].kind", "external"), "plugins[].kind");
}

#[test]
fn changes_are_told_by_what_they_take() {
    let old = parse("").unwrap();
    assert_eq!(changed(&old, &parse(EXAMPLE).unwrap()), Changes::default());
    let new = parse(
        "[server]\nlisten = [\"127.0.0.1:1\"]\n[seal]\nfile = \"/k\"\n[state]\nkind = \"memory\"\n[log]\nlevel = \"warn\"\n\
         [[plugins]]\nkind = \"provisioner\"",
    )
    .unwrap();
    let changes = changed(&old, &new);
    assert_eq!(changes.needs_restart, ["seal.file", "server.listen", "state.kind"]);
    assert_eq!(changes.reloadable, ["log.level", "plugins[0].key_bytes", "plugins[0].kind"]);
    let back = changed(&new, &old);
    assert_eq!((back.needs_restart.len(), back.reloadable.len()), (3, 3));
}

#[test]
fn hostile_files_end_soon_and_shortly() {
    let many: String = (0..60_000).map(|i| format!("listne{i}=1\n")).collect();
    let told = parse(&many).unwrap_err();
    assert_eq!(told.len(), 101);
    assert!(told[100].what.starts_with("59900 more"));
    assert!(from_upstream(&many, Format::Toml).unwrap_err().len() <= 102);
    assert!(parse(&"#".repeat(MAX_TEXT)).is_ok());
    assert!(problems(&"#".repeat(MAX_TEXT + 1)).contains("at most 1048576"));
    let long = format!("{} = 1", "k".repeat(500_000));
    assert!(problems(&long).len() < 1000);
    assert!(parse(&"[".repeat(MAX_TEXT)).is_err());
    assert!(parse(&format!("a={}", "[".repeat(100_000))).is_err());
    assert!(from_upstream(&"{\"a\":".repeat(100_000), Format::Json).is_err());
    assert!(problems(&"[[plugins]]\n".repeat(300)).contains("at most 256"));
}

/// A file with a few of its bytes replaced.
fn damaged() -> impl Strategy<Value = String> {
    let base = prop_oneof![
        Just(FULL.to_owned()),
        Just(EXAMPLE.to_owned()),
        Just(crate::upstream_tests::GOOD.to_owned())
    ];
    (base, proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8)).prop_map(
        |(base, edits)| {
            let mut bytes = base.into_bytes();
            for (at, byte) in edits {
                let at = at.index(bytes.len());
                bytes[at] = byte % 128;
            }
            String::from_utf8_lossy(&bytes).into_owned()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn no_text_makes_it_panic(text in prop_oneof![".{0,200}", "(\\PC|\n|=|\\[|\\]|\"){0,200}", damaged()]) {
        for format in [Format::Toml, Format::Json] {
            if let Err(problems) = from_upstream(&text, format) {
                prop_assert!(!problems.is_empty());
            }
        }
        let _ = detect(&text);
        match parse(&text) {
            Ok(settings) => {
                // What is accepted shows as something that is accepted, secrets aside.
                let shown = settings.show();
                prop_assert!(toml_value_table(&shown), "{}", shown);
            }
            Err(problems) => prop_assert!(!problems.is_empty() && problems.len() <= 101),
        }
    }

    #[test]
    fn json_of_any_shape_is_told_apart(text in "[\\{\\}\\[\\]\":,a-z0-9 ]{0,100}") {
        let _ = from_upstream(&text, Format::Json);
        let _ = from_upstream(&format!("{{\"http_server\":{text}}}"), Format::Json);
    }
}

fn toml_value_table(text: &str) -> bool {
    toml::from_str::<toml::Table>(text).is_ok()
}
