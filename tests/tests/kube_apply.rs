//! An ordinary manifest becomes attested pods with one command, and whoever edits it in the cluster is refused by name.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests

use std::fs;
use std::time::Duration;

use cocoon_stage::Code;
use cocoon_tests::kubernetes::{Cluster, Options, tell};
use cocoon_tests::{Outcome, run, wait_until};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(300);

/// What a person has who never heard of Cocoon.
const MANIFEST: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata: {name: web-config}
data: {greeting: hello}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  clusterIP: 10.96.0.80
  selector: {app: web}
  ports: [{port: 80, targetPort: http}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 1
  strategy: {rollingUpdate: {maxUnavailable: 0, maxSurge: 1}}
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: web
        image: IMAGE
        command: [/bin/sh, -c]
        args:
        - |
          mkdir -p /www
          echo "$(busybox cat /etc/web/greeting) $MODE $(busybox sha256sum </run/secrets/token)" >/www/index.html
          exec busybox httpd -f -p 8080 -h /www
        env:
        - {name: MODE, valueFrom: {configMapKeyRef: {name: web-config, key: greeting}}}
        - {name: POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
        ports: [{name: http, containerPort: 8080}]
        readinessProbe: {exec: {command: [busybox, test, -s, /www/index.html]}, periodSeconds: 1}
        resources: {limits: {memory: 64Mi}}
        securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
        volumeMounts:
        - {name: config, mountPath: /etc/web}
        - {name: www, mountPath: /www}
      volumes:
      - {name: config, configMap: {name: web-config}}
      - {name: www, emptyDir: {}}
"#;

fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn cocoon(cluster: &Cluster, args: &[&str]) -> Outcome {
    let kubeconfig = cluster.kubeconfig().display().to_string();
    let args: Vec<&str> = args.iter().copied().chain(["--kubeconfig", &kubeconfig]).collect();
    cluster.owner().unwrap().cocoon(&args, LIMIT).unwrap()
}

fn apply(cluster: &Cluster, more: &[&str]) -> Outcome {
    let file = cluster.node().folder().join("web.yaml");
    fs::write(&file, MANIFEST.replace("IMAGE", cluster.image())).unwrap();
    let (file, registry) = (file.display().to_string(), cluster.registry().address());
    let usual = ["apply", "-f", &file, "--secret", "token=hunter2", "--plain-http", &registry];
    let args: Vec<&str> =
        usual.into_iter().chain(["--accept-simulated"]).chain(more.iter().copied()).collect();
    cocoon(cluster, &args)
}

/// The newest pod of the Deployment: its name, once there is one that was not there before.
fn newest(cluster: &Cluster, known: &[String]) -> String {
    let mut found = None;
    let there = wait_until(LIMIT, || {
        let pods = cluster.get(&["pods", "-l", "app=web"]).unwrap();
        let names = pods["items"].as_array().unwrap().iter().map(|p| text(p, "/metadata/name").to_owned());
        found = names.into_iter().find(|n| !known.contains(n));
        found.is_some()
    });
    assert!(there, "there is no new pod");
    found.unwrap()
}

/// Edits the Deployment in the cluster, as anybody may who has its control plane; the new pod is refused, naming the field,
/// the old one goes on.
fn edited(cluster: &Cluster, patch: &Value, field: &str, known: &mut Vec<String>) {
    cluster.kubectl(&["patch", "deployment", "web", "--type=json", "-p", &patch.to_string()]).unwrap();
    let pod = newest(cluster, known);
    let mut events = String::new();
    let refused = wait_until(LIMIT, || {
        events = cluster.kubectl(&["describe", "pod", &pod]).unwrap();
        events.contains(Code::PlanRequestRefused.as_str())
    });
    assert!(refused && events.contains(field), "{field} is not named in\n{events}");
    let status = cluster.get(&["pod", &pod]).unwrap();
    let containers = status["status"]["containerStatuses"].as_array().unwrap();
    let strange = containers.iter().filter(|c| !text(c, "/state/waiting/reason").is_empty()).count();
    assert!(strange > 0, "{status}");
    assert!(!cluster.kubectl(&["logs", &pod, "--all-containers"]).unwrap_or_default().contains("hunter2"));
    let told = cocoon(cluster, &["explain", &format!("pod/{pod}")]);
    assert_eq!(told.status, Some(1), "{}", told.stderr);
    assert!(
        told.text().contains(Code::PlanRequestRefused.as_str()) && told.text().contains(field),
        "{}",
        told.text()
    );
    known.push(pod);
    cluster.kubectl(&["rollout", "undo", "deployment/web"]).unwrap();
    cluster.kubectl(&["rollout", "status", "deployment/web", "--timeout=120s"]).unwrap();
}

fn story(cluster: &mut Cluster) {
    let first = apply(cluster, &["--json"]);
    assert_eq!(first.status, Some(0), "{}", first.stderr);
    let said: Value = serde_json::from_str(&first.text()).unwrap();
    let web = &said["workloads"][0];
    assert_eq!(web["pods"]["ready"], 1, "{said}");
    assert_eq!(web["verified"]["guests"], 1, "{said}");
    assert_eq!(web["verified"]["simulated"], true, "{said}");
    assert_eq!(web["verified"]["secrets"], json!(["default/secret/token"]), "{said}");
    assert!(text(web, "/images/0").contains(":1@sha256:"), "{said}");

    // It answers by its Service: what the ConfigMap and the secret say.
    let sum = run("/bin/sh", ["-c", "printf hunter2 | sha256sum"]).unwrap();
    let expected = format!("hello hello {}", String::from_utf8_lossy(&sum));
    let get = || run("busybox", ["wget", "-q", "-O", "-", "http://10.96.0.80/"]).unwrap_or_default();
    let mut answer = String::new();
    let answered = wait_until(LIMIT, || {
        answer = String::from_utf8_lossy(&get()).into_owned();
        answer == expected
    });
    assert!(answered, "{answer:?} is not {expected:?}");

    // The same again changes nothing.
    let mut known = vec![newest(cluster, &[])];
    let again = apply(cluster, &["--json"]);
    assert_eq!(again.status, Some(0), "{}", again.stderr);
    let said: Value = serde_json::from_str(&again.text()).unwrap();
    assert_eq!(said["workloads"][0]["plan"], web["plan"]);
    assert_eq!(said["workloads"][0]["pods"]["names"], json!(known));
    let diff = apply(cluster, &["--diff"]);
    assert_eq!((diff.status, diff.text().as_str()), (Some(0), ""), "{}", diff.stderr);

    let image = cluster.registry().reference("other:1");
    let flags = ["copy", "--quiet", "--insecure-policy", "--src-tls-verify=false", "--dest-tls-verify=false"];
    let (from, to) = (format!("docker://{}", cluster.image()), format!("docker://{image}"));
    run("skopeo", flags.iter().copied().chain([from.as_str(), to.as_str()])).unwrap();
    const AT: &str = "/spec/template/spec/containers/0";
    let steal = "cat /run/secrets/token";
    edited(
        cluster,
        &json!([{"op": "replace", "path": format!("{AT}/image"), "value": image}]),
        "image",
        &mut known,
    );
    edited(
        cluster,
        &json!([{"op": "replace", "path": format!("{AT}/args/0"), "value": steal}]),
        "args[2]",
        &mut known,
    );
    let env = json!({"name": "LD_PRELOAD", "value": "/www/x.so"});
    edited(
        cluster,
        &json!([{"op": "add", "path": format!("{AT}/env/-"), "value": env}]),
        "env LD_PRELOAD",
        &mut known,
    );
    let sidecar = json!({"name": "stranger", "image": cluster.image(), "command": ["/bin/sh", "-c", steal]});
    let injected = json!([{"op": "add", "path": "/spec/template/spec/containers/-", "value": sidecar}]);
    edited(cluster, &injected, "stranger", &mut known);

    assert_eq!(String::from_utf8_lossy(&get()), expected);
    let pods = cluster.node().path("/var/lib/kubelet").join("pods");
    let held = run("grep", ["-rl", "hunter2", &pods.display().to_string()]);
    assert!(held.is_err(), "the secret is on the node: {held:?}");
    let status = cocoon(cluster, &["status"]);
    assert!(status.text().contains("web.default"), "{}", status.text());
    cluster
        .kubectl(&["delete", "deployment,service,configmap", "web", "web-config", "--ignore-not-found"])
        .unwrap();
}

#[test]
fn an_ordinary_manifest_is_applied_attested_and_guarded() {
    tell(Options::cocoon(), story);
}
