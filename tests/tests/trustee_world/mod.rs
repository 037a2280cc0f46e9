//! A cluster, its operator, and one Trustee in it.

use std::time::Duration;

use cocoon_plan::{Plan, TrusteeConfig, workload_initdata};
use cocoon_tests::containerd::ANNOTATION;
use cocoon_tests::kubernetes::{Cluster, Installed, container, pod};
use serde_json::{Value, json};

/// The operator's namespace, and Trustee's.
pub const NS: &str = "cocoon-system";
const LONG: Duration = Duration::from_secs(180);

pub fn condition<'a>(object: &'a Value, kind: &str, field: &str) -> &'a str {
    let conditions = object.pointer("/status/conditions").and_then(Value::as_array);
    let found = conditions.into_iter().flatten().find(|c| c["type"] == kind);
    found.and_then(|c| c[field].as_str()).unwrap_or_default()
}

pub fn ready(object: &Value) -> bool {
    condition(object, "Ready", "status") == "True"
        && object["status"]["observedGeneration"] == object["metadata"]["generation"]
}

pub fn resource(kind: &str, name: &str, spec: Value) -> String {
    json!({"apiVersion": "cocoon.dev/v1alpha1", "kind": kind, "metadata": {"name": name, "namespace": NS}, "spec": spec})
        .to_string()
}

/// The cluster, its operator, and one Trustee in it.
pub struct World<'a> {
    pub installed: &'a Installed<'a>,
    pub cluster: &'a Cluster,
    pub name: &'static str,
}

impl World<'_> {
    pub fn apply(&self, kind: &str, name: &str, spec: Value) {
        self.cluster.apply(&resource(kind, name, spec)).unwrap();
    }

    pub fn wait(&self, plural: &str, name: &str, wished: impl FnMut(&Value) -> bool) -> Value {
        self.installed.wait(&[plural, "-n", NS], name, wished).unwrap()
    }

    pub fn reason(&self, plural: &str, name: &str, reason: &str) -> String {
        let found = self.wait(plural, name, |o| condition(o, "Ready", "reason") == reason);
        condition(&found, "Ready", "message").to_owned()
    }

    /// A command of the owner's, run where this Trustee is.
    pub fn cocoon(&self, args: &[&str]) -> Result<String, String> {
        let place = format!("deploy/{}-trustee", self.name);
        let common = [
            "--trustee",
            "https://localhost:8080",
            "--trustee-token",
            "/etc/trustee/admin/token",
            "--trustee-cert",
            "/etc/trustee/settings/bundle.pem",
        ];
        let exec = ["exec", "-n", NS, &place, "--", "/usr/bin/cocoon"];
        let all: Vec<&str> = exec.iter().chain(args).chain(&common).copied().collect();
        self.cluster.kubectl(&all).map_err(|e| e.to_string())
    }

    /// What a Trustee must be told of this test's nodes and guests.
    pub fn simulated(&self) -> (Vec<String>, Value) {
        let owner = self.cluster.owner().unwrap();
        let roots = owner.simulated_roots().unwrap().simulated;
        let pem = |der: &[u8]| {
            use base64::Engine;
            let text = base64::engine::general_purpose::STANDARD.encode(der);
            let lines: Vec<&str> =
                text.as_bytes().chunks(64).map(|l| std::str::from_utf8(l).unwrap()).collect();
            format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
        };
        let roots = roots.iter().map(|root| pem(&root.ark_der) + &pem(&root.ask_der)).collect();
        (roots, owner.reference_values().unwrap())
    }

    /// Plans a pod that asks this Trustee for a secret, registers it there, runs it to its end, and gives what it said.
    pub fn asks(&self, trustee: &Value, name: &str, path: &str) -> String {
        let script = "cat /run/secrets/token";
        let work = pod(name, vec![container("main", self.cluster.image(), script)]);
        let mut plan: Option<Plan> = None;
        let manifest = self.cluster.planned(work, &[], |wished| {
            let uri = format!("kbs:///{path}");
            wished.secrets =
                serde_json::from_value(json!([{"uri": uri, "file": "/run/secrets/token"}])).unwrap();
            plan = Some(wished.clone());
        });
        let mut manifest = manifest.unwrap();
        let text = |field: &str| trustee["status"][field].as_str().unwrap().to_owned();
        let config = TrusteeConfig { url: text("url"), certificate: Some(text("caBundle")) };
        let initdata = workload_initdata(&plan.unwrap(), &config).unwrap();
        manifest["metadata"]["annotations"][ANNOTATION] = initdata.to_annotation().unwrap().into();
        let digest = hex::encode(initdata.digest());
        self.cocoon(&["workload", "add", &digest, "--name", name, "--accept-simulated"]).unwrap();
        self.cluster.apply(&manifest.to_string()).unwrap();
        let ended = self.cluster.wait_for_end(name, LONG);
        let (phase, seen) = ended.unwrap_or_else(|e| panic!("{e}\n{}", self.installed.words()));
        assert_eq!(phase, "Succeeded", "{}\n{}", seen["status"], self.installed.words());
        self.cluster.kubectl(&["logs", name]).unwrap()
    }
}

/// A volume of the node, as an administrator makes one where there is no storage class.
pub fn volume(cluster: &Cluster, name: &str) {
    let path = format!("/var/lib/{name}");
    std::fs::create_dir_all(cluster.node().path(&path)).unwrap();
    let volume = json!({
        "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name},
        "spec": {
            "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "local": {"path": path},
            "persistentVolumeReclaimPolicy": "Retain",
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [
                {"key": "kubernetes.io/hostname", "operator": "In", "values": ["node"]},
            ]}]}},
        },
    });
    cluster.apply(&volume.to_string()).unwrap();
}
