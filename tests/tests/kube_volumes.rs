//! A StatefulSet's disk of the node becomes a file system that the guest encrypts: it outlives pods, and the node sees nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests

use std::fs;
use std::time::Duration;

use cocoon_stage::Code;
use cocoon_tests::containerd::Disk;
use cocoon_tests::kubernetes::{Cluster, Options, tell};
use cocoon_tests::{Outcome, wait_until};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(240);
const DISK: usize = 64 << 20;
const KEY: &str = "default/volume-key/db";
/// What must not be seen on the node.
const MARK: &str = "a record that nobody else may read";

const VOLUMES: &str = r#"
apiVersion: v1
kind: PersistentVolume
metadata: {name: db}
spec:
  capacity: {storage: 64Mi}
  accessModes: [ReadWriteOnce]
  volumeMode: Block
  persistentVolumeReclaimPolicy: Retain
  storageClassName: by-hand
  local: {path: DEVICE}
  nodeAffinity: {required: {nodeSelectorTerms: [{matchExpressions: [{key: kubernetes.io/hostname, operator: Exists}]}]}}
"#;

/// Each life of the pod adds a line, and says what it found.
const DATABASE: &str = r#"
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  serviceName: db
  replicas: 1
  selector: {matchLabels: {app: db}}
  template:
    metadata:
      labels: {app: db}
      annotations: {cocoon.dev/encrypted-volumes: data=default/volume-key/dbINTEGRITY}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: db
        image: IMAGE
        command: [/bin/sh, -c]
        args:
        - |
          echo "MARK" >>/var/lib/db/records
          echo "lives=$(busybox wc -l </var/lib/db/records) kind=$(busybox awk '$2 == "/var/lib/db" {print $3}' /proc/mounts)"
          exec sleep 100000
        volumeDevices: [{name: data, devicePath: /var/lib/db}]
  volumeClaimTemplates:
  - metadata: {name: data}
    spec:
      accessModes: [ReadWriteOnce]
      volumeMode: Block
      storageClassName: by-hand
      resources: {requests: {storage: 64Mi}}
"#;

fn cocoon(cluster: &Cluster, args: &[&str]) -> Outcome {
    cluster.owner().unwrap().cocoon(args, LIMIT).unwrap()
}

fn apply(cluster: &Cluster, integrity: &str) -> Outcome {
    let file = cluster.node().folder().join("db.yaml");
    let text =
        DATABASE.replace("IMAGE", cluster.image()).replace("MARK", MARK).replace("INTEGRITY", integrity);
    fs::write(&file, text).unwrap();
    let (file, registry) = (file.display().to_string(), cluster.registry().address());
    let kubeconfig = cluster.kubeconfig().display().to_string();
    let usual =
        ["apply", "-f", &file, "--plain-http", &registry, "--accept-simulated", "--kubeconfig", &kubeconfig];
    cocoon(cluster, &usual)
}

/// What the pod's present life has said.
fn says(cluster: &Cluster, what: &str) {
    let mut log = String::new();
    let said = wait_until(LIMIT, || {
        log = cluster.kubectl(&["logs", "db-0"]).unwrap_or_default();
        log.contains(what)
    });
    let events = cluster.kubectl(&["describe", "pod", "db-0"]).unwrap_or_default();
    assert!(said, "{what:?} is not in {log:?}\n{events}");
}

fn is_refused(cluster: &Cluster, code: Code) -> String {
    let mut events = String::new();
    let refused = wait_until(LIMIT, || {
        events = cluster.kubectl(&["describe", "pod", "db-0"]).unwrap_or_default();
        events.contains(code.as_str())
    });
    assert!(refused, "{code} is not in\n{events}");
    events
}

fn again(cluster: &Cluster) {
    cluster.kubectl(&["delete", "pod", "db-0", "--timeout=60s"]).unwrap();
}

fn key(cluster: &Cluster, letter: &str) {
    let set = cocoon(cluster, &["secret", "set", KEY, &letter.repeat(48)]);
    assert_eq!(set.status, Some(0), "{}", set.stderr);
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|w| w == text.as_bytes())
}

fn story(cluster: &mut Cluster) {
    let file = cluster.node().folder().join("disk");
    let Some(mut disk) = Disk::of(file.clone(), &vec![0; DISK]).unwrap() else { return };
    key(cluster, "k");
    cluster.apply(&VOLUMES.replace("DEVICE", disk.device())).unwrap();
    let applied = apply(cluster, "");
    assert_eq!(applied.status, Some(0), "{}{}", applied.text(), applied.stderr);
    says(cluster, "lives=1 kind=ext4");
    // It is there after the pod is gone.
    again(cluster);
    says(cluster, "lives=2 kind=ext4");
    let seen = disk.content().unwrap();
    assert!(seen.starts_with(b"LUKS\xba\xbe") && !holds(&seen, MARK) && !holds(&seen, "records"));
    assert!(!holds(&seen, &"k".repeat(48)));

    // Another key does not open it, and nothing is written.
    key(cluster, "x");
    again(cluster);
    let events = is_refused(cluster, Code::VolumeKeyWrong);
    assert!(!events.contains("kkkk") && !events.contains("xxxx"), "{events}");
    key(cluster, "k");
    again(cluster);
    says(cluster, "lives=3 kind=ext4");

    // A plan that asks for integrity takes no volume without.
    let refused = apply(cluster, ":integrity");
    assert_ne!(refused.status, Some(0), "{}", refused.text());
    is_refused(cluster, Code::VolumeForeign);

    cluster.kubectl(&["delete", "statefulset", "db", "--timeout=60s"]).unwrap();
    cluster.kubectl(&["delete", "pod", "db-0", "--ignore-not-found", "--timeout=60s"]).unwrap();
    cluster.kubectl(&["delete", "pvc", "data-db-0", "--timeout=60s"]).unwrap();
    cluster.kubectl(&["delete", "pv", "db", "--timeout=60s"]).unwrap();
    assert!(disk.release(), "{} is still in use", disk.device());
    let left: Value = cluster.get(&["pods"]).unwrap();
    assert_eq!(left["items"].as_array().map(Vec::len), Some(0));
}

#[test]
fn a_statefulsets_volume_is_encrypted_and_outlives_its_pods() {
    tell(Options::cocoon(), story);
}
