//! Documents, right and wrong.

use super::*;
use serde_json::{Value, json};

fn descriptor(kind: &str) -> Value {
    json!({"mediaType": kind, "digest": Digest::sha256(b"x"), "size": 1})
}

fn manifest(layer_type: &str, layers: usize) -> Value {
    json!({"schemaVersion": 2, "config": descriptor("application/vnd.oci.image.config.v1+json"),
           "layers": vec![descriptor(layer_type); layers]})
}

fn parse(v: &Value) -> Result<Document, Error> {
    Document::parse(v.to_string().as_bytes())
}

#[test]
fn tells_manifests_from_indexes() {
    let m = manifest("application/vnd.oci.image.layer.v1.tar", 1);
    assert!(matches!(parse(&m).unwrap(), Document::Manifest(_)));
    assert!(matches!(parse(&json!({"schemaVersion": 2, "manifests": []})).unwrap(), Document::Index(_)));

    let mut both = m.clone();
    both["manifests"] = json!([]);
    let mut lying = m.clone();
    lying["mediaType"] = json!("application/vnd.oci.image.index.v1+json");
    let mut old = m.clone();
    old["schemaVersion"] = json!(1);
    for bad in [both, lying, old, json!({}), json!([]), json!({"schemaVersion": 2})] {
        assert!(matches!(parse(&bad), Err(Error::Manifest(_))), "{bad}");
    }
}

#[test]
fn bounds_hold() {
    let kind = "application/vnd.oci.image.layer.v1.tar";
    assert!(parse(&manifest(kind, MAX_LAYERS)).is_ok());
    assert!(parse(&manifest(kind, MAX_LAYERS + 1)).is_err());
    assert!(Document::parse(&vec![b' '; MAX_MANIFEST_BYTES + 1]).is_err());
    let mut negative = manifest(kind, 1);
    negative["layers"][0]["size"] = json!(-1);
    assert!(parse(&negative).is_err());
}

#[test]
fn artifacts_and_foreign_layers_are_named() {
    let check = |v: &Value| Manifest::parse(v.to_string().as_bytes()).unwrap().check_image();
    assert!(check(&manifest("application/vnd.oci.image.layer.v1.tar+zstd+encrypted", 2)).is_ok());
    let foreign = check(&manifest("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", 1));
    assert!(foreign.unwrap_err().to_string().contains("foreign"));
    assert!(check(&manifest("application/vnd.in-toto+json", 1)).is_err());
    let mut artifact = manifest("application/vnd.oci.image.layer.v1.tar", 1);
    artifact["artifactType"] = json!("application/x");
    assert!(check(&artifact).is_err());
    let mut signature = manifest("application/x", 1);
    signature["subject"] = descriptor("application/vnd.oci.image.manifest.v1+json");
    let parsed = Manifest::parse(signature.to_string().as_bytes()).unwrap();
    assert_eq!(parsed.subject.unwrap().digest, Digest::sha256(b"x"));
    let mut helm = manifest("application/vnd.oci.image.layer.v1.tar", 1);
    helm["config"]["mediaType"] = json!("application/vnd.cncf.helm.config.v1+json");
    assert!(check(&helm).is_err());
}

#[test]
fn errors_quote_little() {
    let long = "\u{1F600}".repeat(1 << 18);
    let kind = "application/vnd.oci.image.layer.v1.tar";
    let told = |e: Error| e.to_string().len();
    let mut bad = manifest(kind, 1);
    bad["schemaVersion"] = json!(long);
    let e = Manifest::parse(bad.to_string().as_bytes()).unwrap_err();
    assert!(e.to_string().contains("malformed"), "{}", told(e));
    for (member, value) in
        [("schemaVersion", json!(long)), ("mediaType", json!(long)), ("config", json!(long))]
    {
        let mut bad = manifest(kind, 1);
        bad[member] = value;
        let refused = [parse(&bad).err(), Manifest::parse(bad.to_string().as_bytes()).err()];
        assert!(refused.into_iter().flatten().all(|e| told(e) < 2048), "{member}");
    }
    for change in [
        |m: &mut Value, long: &str| m["artifactType"] = json!(long),
        |m: &mut Value, long: &str| m["config"]["mediaType"] = json!(long),
        |m: &mut Value, long: &str| m["layers"][0]["mediaType"] = json!(long),
    ] {
        let mut bad = manifest(kind, 1);
        change(&mut bad, &long);
        let e = Manifest::parse(bad.to_string().as_bytes()).unwrap().check_image().unwrap_err();
        assert!(told(e) < 2048, "{bad:.100}");
    }
    let config = json!({"rootfs": {"type": "layers", "diff_ids": [long]}});
    assert!(told(Config::parse(config.to_string().as_bytes()).unwrap_err()) < 2048);
}

#[test]
fn config_reads_gos_nulls() {
    let c = Config::parse(
        br#"{"architecture":"amd64","os":"linux","config":{"Env":null,"Cmd":["sh"],"Labels":null},
            "rootfs":{"type":"layers","diff_ids":null},"history":[]}"#,
    )
    .unwrap();
    assert_eq!(c.config.cmd, ["sh"]);
    assert!(Config::parse(br#"{"config":null,"rootfs":{"type":"layers"}}"#).is_ok());
    assert!(Config::parse(br#"{"config":{},"rootfs":{"type":"x"}}"#).is_err());
}

proptest::proptest! {
    #[test]
    fn parsing_never_panics(text in "[\\[\\]{}\",:a-z0-9 ]{0,200}") {
        let _ = Document::parse(text.as_bytes());
        let _ = Config::parse(text.as_bytes());
    }
}
