//! Arrows between the trust domains point the right way.

use cocoon_tests::arrows::{Edge, TEST_EXCEPTIONS, allowed, edges, violations};
use cocoon_tests::run;

fn workspace_edges() -> anyhow::Result<Vec<Edge>> {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");
    let args = ["metadata", "--format-version=1", "--no-deps", "--offline", "--manifest-path", manifest];
    edges(&run(env!("CARGO"), args)?)
}

#[test]
fn guest_host_and_trustee_never_use_each_other() {
    let edges = workspace_edges().unwrap();
    // Not an empty list by accident.
    assert!(edges.iter().any(|e| e.from == "cocoon-guest" && e.to == "cocoon-pull"), "{edges:?}");
    assert!(edges.iter().any(|e| e.from == "cocoon" && e.to_domain == "trustee"));
    let broken: Vec<String> = violations(&edges, TEST_EXCEPTIONS)
        .into_iter()
        .map(|e| {
            format!(
                "{} ({}) -> {} ({}){}",
                e.from,
                e.from_domain,
                e.to,
                e.to_domain,
                if e.test_only { ", tests" } else { "" }
            )
        })
        .collect();
    assert!(broken.is_empty(), "these dependencies cross a trust boundary:\n{}", broken.join("\n"));
}

#[test]
fn a_bad_arrow_is_found() {
    const EXCEPTIONS: &[(&str, &str)] = &[("a", "b")];
    let bad = |from: &str, from_domain: &str, to: &str, to_domain: &str, test_only| {
        let edge = Edge {
            from: from.into(),
            from_domain: from_domain.into(),
            to: to.into(),
            to_domain: to_domain.into(),
            test_only,
        };
        violations(&[edge], EXCEPTIONS).len() == 1
    };
    assert!(bad("cocoon-guest", "guest", "cocoon-vmm", "host", false));
    assert!(bad("cocoon-guest", "guest", "cocoon-vmm", "host", true));
    assert!(bad("cocoon-vmm", "host", "cocoon-trustee", "trustee", false));
    assert!(bad("cocoon-trustee", "trustee", "cocoon-attest", "guest", false));
    assert!(bad("cocoon-stage", "core", "cocoon-http", "net", false));
    assert!(bad("cocoon-http", "net", "cocoon", "cli", false));
    assert!(bad("cocoon-guest-image", "guest-image", "cocoon-guest", "guest", false));
    assert!(bad("x", "new-folder", "cocoon-stage", "core", false), "unknown folders may use nothing");
    assert!(bad("a", "trustee", "b", "host", false), "an exception is for tests only");
    assert!(!bad("a", "trustee", "b", "host", true));
    assert!(!bad("cocoon-pull", "guest", "cocoon-registry", "net", false));
    assert!(!allowed("host", "trustee") && allowed("cli", "trustee"));
}

#[test]
fn edges_are_read_from_cargos_own_words() {
    let metadata =
        br#"{"workspace_root":"/w","packages":[{"name":"a","manifest_path":"/w/guest/a/Cargo.toml",
        "dependencies":[{"name":"b","path":"/w/host/b","kind":null},{"name":"serde","kind":null},
                        {"name":"c","path":"/w/core/c","kind":"dev"}]}]}"#;
    let edges = edges(metadata).unwrap();
    assert_eq!(edges.len(), 2);
    assert_eq!(violations(&edges, &[]), edges[..1]);
    assert!(edges[1].test_only && edges[1].to_domain == "core");
    assert!(cocoon_tests::arrows::edges(b"{}").is_err());
}
