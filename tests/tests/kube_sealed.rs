//! Secrets that the cluster keeps without being able to read them: sealed ones, in variables and in mounted files.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests

use std::fs;
use std::time::Duration;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cocoon_protocol::b64::url_encode;
use cocoon_protocol::sealed::{envelope, seal, vault};
use cocoon_protocol::uri::ResourceUri;
use cocoon_stage::Code;
use cocoon_tests::kubernetes::{Cluster, Options, tell};
use cocoon_tests::{Outcome, wait_until};

const LIMIT: Duration = Duration::from_secs(240);
const KEK: &str = "0123456789abcdef0123456789abcdef";

const WORKLOAD: &str = r#"
apiVersion: v1
kind: Pod
metadata:
  name: app
  annotations:
    cocoon.dev/sealing-key: default/sealing/signer
    cocoon.dev/sealed-secrets: db/password=default/db/password, db/token=default/sealing/kek
    cocoon.dev/trustee-env: API_KEY=default/db/api
spec:
  restartPolicy: Always
  terminationGracePeriodSeconds: 1
  containers:
  - name: app
    image: IMAGE
    command: [/bin/sh, -c]
    args:
    - |
      echo "env=$PASSWORD api=$API_KEY file=$(cat /db/password) token=$(cat /db/tok) plain=$(cat /db/plain)"
      while true; do
        new=$(cat /db/tok)
        test "$new" = "$old" || echo "token is $new"
        old=$new
        sleep 0.2
      done
    env:
    - {name: PASSWORD, valueFrom: {secretKeyRef: {name: db, key: password}}}
    volumeMounts: [{name: db, mountPath: /db}]
  volumes:
  - name: db
    secret:
      secretName: db
      items: [{key: password, path: password}, {key: token, path: tok}, {key: plain, path: plain}]
"#;

fn uri(path: &str) -> ResourceUri {
    format!("kbs:///{path}").parse().unwrap()
}

fn cocoon(cluster: &Cluster, args: &[&str]) -> Outcome {
    let done = cluster.owner().unwrap().cocoon(args, LIMIT).unwrap();
    assert_eq!(done.status, Some(0), "{args:?}: {}", done.stderr);
    done
}

/// Writes the cluster's Secret, as anybody may who has its control plane.
fn write(cluster: &Cluster, password: &str, token: &str) {
    let secret = serde_json::json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "db"},
        "stringData": {"password": password, "token": token, "plain": "in clear"},
    });
    cluster.apply(&secret.to_string()).unwrap();
}

fn says(cluster: &Cluster, what: &str) {
    let mut log = String::new();
    let said = wait_until(LIMIT, || {
        log = cluster.kubectl(&["logs", "app"]).unwrap_or_default();
        log.contains(what)
    });
    let events = cluster.kubectl(&["describe", "pod", "app"]).unwrap_or_default();
    assert!(said, "{what:?} is not in {log:?}\n{events}");
}

/// The pod made anew is refused, in words that hold no secret.
fn is_refused(cluster: &Cluster, pod: &serde_json::Value, why: &str) {
    cluster.kubectl(&["delete", "pod", "app", "--timeout=60s"]).unwrap();
    cluster.apply(&pod.to_string()).unwrap();
    let mut events = String::new();
    let refused = wait_until(LIMIT, || {
        events = cluster.kubectl(&["describe", "pod", "app"]).unwrap_or_default();
        events.contains(Code::SecretUnsealFailed.as_str())
    });
    assert!(refused, "{why}: {events}");
    for secret in ["hunter2", "swordfish", "a bait", "another workload's"] {
        assert!(!events.contains(secret), "{secret} is in {events}");
    }
}

fn story(cluster: &mut Cluster) {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let point = pair.public_key().as_ref().to_vec();
    let jwk = serde_json::json!({
        "kty": "EC", "crv": "P-256", "x": url_encode(&point[1..33]), "y": url_encode(&point[33..]),
    });
    for (path, value) in [
        ("default/sealing/signer", jwk.to_string().as_str()),
        ("default/sealing/kek", KEK),
        ("default/db/password", "hunter2"),
        ("default/db/api", "from Trustee"),
        ("default/db/other", "another workload's"),
    ] {
        cocoon(cluster, &["secret", "set", path, value]);
    }
    let signer = uri("default/sealing/signer");
    let vaulted = |path: &str| seal(&vault(&uri(path)), &signer, &pair).unwrap();
    let enclosed = |text: &str| {
        seal(&envelope(text.as_bytes(), &uri("default/sealing/kek"), KEK.as_bytes()).unwrap(), &signer, &pair)
            .unwrap()
    };
    // One as a person seals it.
    let pkcs8 = STANDARD.encode(pair.to_pkcs8v1().unwrap().as_ref());
    let key = cluster.node().folder().join("signer.pem");
    fs::write(&key, format!("-----BEGIN PRIVATE KEY-----\n{pkcs8}\n-----END PRIVATE KEY-----\n")).unwrap();
    let key = key.display().to_string();
    let kid = ["--key", &key, "--kid", "default/sealing/signer"];
    let sealed = [&["secret", "seal", "default/db/password"], &kid[..]].concat();
    let password = cocoon(cluster, &sealed).text().trim().to_owned();
    assert_eq!(password.split('.').count(), 4, "{password}");
    write(cluster, &password, &enclosed("swordfish"));
    let file = cluster.node().folder().join("app.yaml");
    fs::write(&file, WORKLOAD.replace("IMAGE", cluster.image())).unwrap();
    let (file, registry) = (file.display().to_string(), cluster.registry().address());
    let kubeconfig = cluster.kubeconfig().display().to_string();
    cocoon(
        cluster,
        &["apply", "-f", &file, "--plain-http", &registry, "--accept-simulated", "--kubeconfig", &kubeconfig],
    );
    says(cluster, "env=hunter2 api=from Trustee file=hunter2 token=swordfish plain=in clear");
    // An update reaches the file.
    write(cluster, &password, &enclosed("marlin"));
    // Kubelet looks for changes of Secrets about once a minute; a change of the pod makes it look at once.
    cluster.kubectl(&["annotate", "pod", "app", "looked=at"]).unwrap();
    says(cluster, "token is marlin");
    // What the cluster writes instead does not: the file stays what it was.
    let pods = cluster.node().path("/var/lib/kubelet").join("pods");
    let kept = cocoon_tests::run("grep", ["-rlE", "hunter2|swordfish|marlin", &pods.display().to_string()]);
    assert!(kept.is_err(), "a secret is on the node: {kept:?}");

    let pod = cluster.get(&["pod", "app"]).unwrap();
    let mut pod = serde_json::json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "app", "annotations": pod["metadata"]["annotations"]},
        "spec": pod["spec"],
    });
    pod["spec"].as_object_mut().unwrap().remove("nodeName");
    // Another secret of Trustee's, rightly signed, in the place of this one.
    write(cluster, &vaulted("default/db/other"), &enclosed("swordfish"));
    is_refused(cluster, &pod, "a deputy that is confused");
    let stranger = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let forged = seal(&vault(&uri("default/db/password")), &signer, &stranger).unwrap();
    write(cluster, &forged, &enclosed("swordfish"));
    is_refused(cluster, &pod, "another's signature");
    // Text of the cluster's own.
    write(cluster, &password, "a bait");
    is_refused(cluster, &pod, "no sealed secret at all");
}

#[test]
fn sealed_secrets_are_unsealed_in_the_guest_alone() {
    tell(Options::cocoon(), story);
}
