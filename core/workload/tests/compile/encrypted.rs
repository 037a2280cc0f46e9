//! Disks that the guest encrypts, sealed secrets, variables from Trustee.

use serde_json::json;

use crate::{plan, pod, workload};

const CLAIM: &str =
    "volumes: [{name: data, persistentVolumeClaim: {claimName: c}}]\nsecurityContext: {fsGroup: 7}";
const DEVICE: &str = "volumeDevices: [{name: data, devicePath: /var/lib/db}]";

fn noted(text: &str, annotations: &str) -> String {
    text.replace("annotations: {note: hello}", &format!("annotations: {{note: hello, {annotations}}}"))
}

fn said(text: &str) -> String {
    workload(text).plan().unwrap_err().to_string()
}

#[test]
fn a_disk_that_is_encrypted_is_mounted_where_the_device_would_be() {
    let text = pod(DEVICE, CLAIM);
    assert_eq!(plan(&text)["containers"][0]["devices"][0]["path"], "/var/lib/db");
    let plan = plan(&noted(&text, "cocoon.dev/encrypted-volumes: data=a/key/db:integrity"));
    let volumes = plan["volumes"].as_array().unwrap();
    let data = volumes.iter().find(|v| v["name"] == "data").unwrap();
    assert_eq!(
        data["source"],
        json!({"kind": "encrypted", "key": "kbs:///a/key/db", "integrity": true, "gid": 7})
    );
    let container = &plan["containers"][0];
    assert!(container.get("devices").is_none());
    let mount = json!({"kind": "volume", "target": "/var/lib/db", "volume": "data"});
    assert!(container["mounts"].as_array().unwrap().contains(&mount), "{container}");
    // The key is the guest's alone.
    assert!(plan.get("secrets").is_none_or(|s| s.as_array().is_some_and(Vec::is_empty)));
}

#[test]
fn what_cannot_be_encrypted_is_named() {
    let text = pod(DEVICE, CLAIM);
    for (annotation, why) in [
        ("other=a/key/db", "no volume \"other\""),
        ("data=a/key", "must be VOLUME="),
        ("data=a/key/db:authentic", "must be VOLUME="),
        ("data", "must be VOLUME="),
    ] {
        let said = said(&noted(&text, &format!("cocoon.dev/encrypted-volumes: \"{annotation}\"")));
        assert!(said.contains(why), "{annotation}: {said}");
    }
    let note = "cocoon.dev/encrypted-volumes: data=a/key/db";
    let mounted = noted(&pod("volumeMounts: [{name: data, mountPath: /d}]", CLAIM), note);
    assert!(said(&mounted).contains("volumeDevices"), "{}", said(&mounted));
    let folder = noted(
        &pod("volumeMounts: [{name: data, mountPath: /d}]", "volumes: [{name: data, emptyDir: {}}]"),
        note,
    );
    assert!(said(&folder).contains("volumeMode: Block"), "{}", said(&folder));
    let escaping = noted(&pod("volumeDevices: [{name: data, devicePath: /a/../b}]", CLAIM), note);
    assert!(said(&escaping).contains("devicePath"), "{}", said(&escaping));
}

const SEALED: &str = "cocoon.dev/sealing-key: a/key/signer, cocoon.dev/sealed-secrets: \"db/password=a/db/password, db/token=a/key/kek\"";

#[test]
fn sealed_secrets_are_fixed_to_their_resources_place_by_place() {
    let container = "env: [{name: PASSWORD, valueFrom: {secretKeyRef: {name: db, key: password}}}]\n\
                     volumeMounts: [{name: db, mountPath: /db}]";
    let spec = "automountServiceAccountToken: false\n\
                volumes: [{name: db, secret: {secretName: db, items: [{key: token, path: t}, {key: plain, path: p}]}}]";
    let plan = plan(&noted(&pod(container, spec), SEALED));
    let signer = "kbs:///a/key/signer";
    assert_eq!(
        plan["sealed"],
        json!([
            {"place": {"kind": "variable", "container": "app", "name": "PASSWORD"}, "signer": signer,
             "resource": "kbs:///a/db/password"},
            {"place": {"kind": "file", "volume": "db", "path": "t"}, "signer": signer, "resource": "kbs:///a/key/kek"},
        ])
    );
    assert_eq!(plan["volumes"][0]["source"], json!({"kind": "files"}));
    let unused = said(&noted(&pod("", ""), SEALED));
    assert!(unused.contains("\"password\" of Secret \"db\""), "{unused}");
    let unsigned = SEALED.split_once(", ").unwrap().1;
    let unsigned = said(&noted(&pod(container, spec), unsigned));
    assert!(unsigned.contains("sealing-key"), "{unsigned}");
}

#[test]
fn variables_come_from_trustee() {
    let plan = plan(&noted(&pod("", ""), "cocoon.dev/trustee-env: \"API_KEY=a/b/c\""));
    assert_eq!(plan["secret_env"], json!([{"name": "API_KEY", "uri": "kbs:///a/b/c"}]));
    let bad = said(&noted(&pod("", ""), "cocoon.dev/trustee-env: API_KEY"));
    assert!(bad.contains("NAME=repository"), "{bad}");
}
