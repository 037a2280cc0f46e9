//! The first attested pod on a real cluster, and what a person does with it through kubectl.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

use cocoon_plan::SecretPlan;
use cocoon_tests::kubernetes::{Cluster, Options, container, pod, tell};
use cocoon_tests::run;
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(180);

const WORK: &str = r#"
echo "to stdout"; echo "to stderr" >&2
mkdir -p /www; echo content >/www/index.html; busybox httpd -p 8080 -h /www
busybox httpd -p 127.0.0.1:8081 -h /www
echo ready
while read -r line; do echo "got $line"; done
sleep 100000
"#;

fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// What any cluster does, so that what fails below is not the harness's fault: a pod of runc, a service, a name.
fn a_pod_of_runc(cluster: &Cluster) {
    let script = "mkdir /www; echo of runc >/www/index.html; exec busybox httpd -f -p 80 -h /www";
    let mut plain = pod("plain", vec![container("web", cluster.image(), script)]);
    plain["metadata"]["labels"] = json!({"app": "plain"});
    cluster.apply(&plain.to_string()).unwrap();
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "plain"},
        "spec": {"selector": {"app": "plain"}, "ports": [{"port": 8000, "targetPort": 80}]},
    });
    cluster.apply(&service.to_string()).unwrap();
    cluster.wait_for_pod("plain", "Ready", LIMIT).unwrap();
    assert_eq!(cluster.kubectl(&["exec", "plain", "--", "cat", "/www/index.html"]).unwrap(), "of runc\n");
    let ready = |slice: &Value| slice.pointer("/endpoints/0/conditions/ready") == Some(&json!(true));
    let slices = cluster.get(&["endpointslices", "-l", "kubernetes.io/service-name=plain"]).unwrap();
    cluster.wait_for(&["endpointslices"], text(&slices, "/items/0/metadata/name"), LIMIT, ready).unwrap();
    cluster.kubectl(&["delete", "pod", "plain", "--wait=false"]).unwrap();
}

fn a_pod_of_cocoon(cluster: &mut Cluster) {
    a_pod_of_runc(cluster);
    let mut work = container("work", cluster.image(), WORK);
    work["stdin"] = json!(true);
    work["env"] = json!([{"name": "GREETING", "value": "hello"}]);
    let mut manifest = pod("first", vec![work]);
    manifest["metadata"]["labels"] = json!({"app": "first"});
    manifest["spec"]["hostname"] = json!("anchor");
    let secret = [("default/secret/token", "hunter2")];
    let manifest = cluster.planned(manifest, &secret, |plan| {
        let file = Some("/run/secrets/token".to_owned());
        plan.secrets = vec![SecretPlan { uri: "kbs:///default/secret/token".into(), file }];
        plan.forward_ports = vec![8081];
    });
    cluster.apply(&manifest.unwrap().to_string()).unwrap();
    let running = cluster.wait_for_pod("first", "Ready", LIMIT).unwrap();
    let ip = text(&running, "/status/podIP").to_owned();

    // The secret, what the plan sets, what kubelet and the cluster add.
    let sh = |script: &str| cluster.kubectl(&["exec", "first", "--", "/bin/sh", "-c", script]);
    assert_eq!(sh("cat /run/secrets/token").unwrap(), "hunter2");
    assert_eq!(sh("echo $GREETING $(busybox hostname)").unwrap(), "hello anchor\n");
    assert_eq!(sh("echo $KUBERNETES_SERVICE_HOST").unwrap(), "10.96.0.1\n");
    assert!(sh("cat /etc/hosts").unwrap().contains(&ip), "kubelet's hosts file");
    let names = sh("cat /etc/resolv.conf").unwrap();
    assert!(names.contains("nameserver 10.96.0.10") && names.contains("svc.cluster.local"), "{names}");
    // The name server's address is one that the proxy's rules make, which may come after the pod.
    let mut api = String::new();
    let found = || {
        api = sh("busybox nslookup kubernetes.default.svc.cluster.local").unwrap_or_default();
        api.contains("10.96.0.1\n")
    };
    assert!(cocoon_tests::wait_until(LIMIT, found), "the name of the API server");
    // The plan has no service account's token: the guest does without.
    assert!(sh("ls /var/run/secrets/kubernetes.io").is_err());
    let secret = cluster.node().path("/var/lib/kubelet").join("pods");
    let held = run("grep", ["-rl", "hunter2", &secret.display().to_string()]);
    assert!(held.is_err(), "the secret is on the node: {held:?}");

    logs_and_streams(cluster);
    reached(cluster, &ip);

    let described = cluster.kubectl(&["describe", "pod", "first"]).unwrap();
    for part in ["Runtime Class Name:  cocoon", "Started container work", "Ready            True"] {
        let plain = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(plain(&described).contains(&plain(part)), "{part} is not in\n{described}");
    }
    stats(cluster, "first");
    cluster.kubectl(&["delete", "pod", "first", "--timeout=60s"]).unwrap();
    assert!(cluster.get(&["pod", "first"]).is_err());
}

fn logs_and_streams(cluster: &Cluster) {
    let logs = cluster.kubectl(&["logs", "first"]).unwrap();
    let mut lines: Vec<&str> = logs.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["ready", "to stderr", "to stdout"]);

    // Attached: what is typed comes to the workload, what it says comes back.
    let mut attached = cluster
        .kubectl_command(["attach", "first", "-i", "--quiet"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    attached.stdin.as_mut().unwrap().write_all(b"one\n").unwrap();
    let mut said = BufReader::new(attached.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(said.any(|line| line == "got one"));
    attached.kill().unwrap();
    attached.wait().unwrap();

    // Exec: streams apart, the exit status, input to its end, a terminal.
    let out =
        cluster.try_kubectl(&["exec", "first", "--", "/bin/sh", "-c", "echo a; echo b >&2; exit 7"]).unwrap();
    assert_eq!(out.status.code(), Some(7));
    assert_eq!(out.stdout, b"a\n");
    assert!(String::from_utf8_lossy(&out.stderr).starts_with("b\n"));
    let big: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).take(4 << 20).collect();
    let sum = cluster.kubectl_with(&["exec", "-i", "first", "--", "busybox", "sha256sum"], &big).unwrap();
    assert_eq!(sum.split(' ').next(), cocoon_image::Digest::sha256(&big).to_string().strip_prefix("sha256:"));

    // Copied in and out, which is tar over exec.
    let file = cluster.node().folder().join("big");
    fs::write(&file, &big).unwrap();
    cluster.kubectl(&["exec", "first", "--", "busybox", "mkdir", "-p", "/data"]).unwrap();
    let path = file.display().to_string();
    cluster.kubectl(&["cp", &path, "first:/data/big"]).unwrap();
    fs::remove_file(&file).unwrap();
    cluster.kubectl(&["cp", "first:/data/big", &path]).unwrap();
    assert!(fs::read(&file).unwrap() == big, "what was copied out is not what was copied in");
}

/// By its address, by a service, by a forwarded port.
fn reached(cluster: &Cluster, ip: &str) {
    let get = |url: &str| run("timeout", ["10", "busybox", "wget", "-q", "-O", "-", url]).unwrap();
    assert_eq!(get(&format!("http://{ip}:8080/")), b"content\n");
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "first"},
        "spec": {"clusterIP": "10.96.0.77", "selector": {"app": "first"}, "ports": [{"port": 80, "targetPort": 8080}]},
    });
    cluster.apply(&service.to_string()).unwrap();
    // The proxy's rules follow the endpoint; nobody announces them.
    let reach = |from: &mut Command| from.output().is_ok_and(|out| out.stdout == b"content\n");
    let wget = ["10", "busybox", "wget", "-q", "-O", "-", "http://10.96.0.77/"];
    let from_node = || reach(Command::new("timeout").args(wget));
    assert!(cocoon_tests::wait_until(LIMIT, from_node), "the service from the node");
    let inside = [&["exec", "first", "--", "busybox", "timeout"], &wget[..]].concat();
    let from_pod = || reach(&mut cluster.kubectl_command(&inside));
    assert!(cocoon_tests::wait_until(LIMIT, from_pod), "the service from its own pod");

    let mut forward = cluster
        .kubectl_command(["port-forward", "pod/first", ":8081", "--address=127.0.0.1"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(forward.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let port = line.split(" -> ").next().and_then(|l| l.rsplit(':').next()).unwrap().to_owned();
    assert_eq!(get(&format!("http://127.0.0.1:{port}/")), b"content\n");
    forward.kill().unwrap();
    forward.wait().unwrap();
}

/// What kubelet knows of a pod's use of the node, which is what `kubectl top` and eviction read. It looks every few seconds:
/// what it has not seen yet is left out or null.
fn stats(cluster: &Cluster, name: &str) {
    let bytes =
        |of: &Value| of.pointer("/memory/workingSetBytes").and_then(Value::as_u64).unwrap_or_default();
    let mut seen = (0, 0);
    let known = || {
        let summary = cluster.kubectl(&["get", "--raw", "/api/v1/nodes/node/proxy/stats/summary"]).unwrap();
        let summary: Value = serde_json::from_str(&summary).unwrap();
        let pods = summary["pods"].as_array().unwrap();
        let Some(own) = pods.iter().find(|p| p.pointer("/podRef/name") == Some(&json!(name))) else {
            return false;
        };
        let work = own["containers"].as_array().into_iter().flatten().find(|c| c["name"] == "work");
        seen = (bytes(own), work.map(bytes).unwrap_or_default());
        // The VM's memory counts as the pod's.
        seen.0 > 64 << 20 && seen.1 > 0
    };
    let there = cocoon_tests::wait_until(LIMIT, known);
    assert!(there, "{seen:?}");
    assert!(seen.1 < seen.0, "{seen:?}");
    // What metrics-server reads.
    let raw = cluster.kubectl(&["get", "--raw", "/api/v1/nodes/node/proxy/metrics/resource"]).unwrap();
    for metric in [
        "container_memory_working_set_bytes",
        "container_cpu_usage_seconds_total",
        "pod_memory_working_set_bytes",
    ] {
        let of_pod = |line: &str| line.starts_with(metric) && line.contains(&format!("pod=\"{name}\""));
        assert!(raw.lines().any(of_pod), "{metric} is not in\n{raw}");
    }
}

#[test]
fn a_pod_with_a_secret_and_all_that_kubectl_does_with_it() {
    tell(Options::cocoon(), a_pod_of_cocoon);
}
