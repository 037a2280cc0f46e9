//! Pods prove what they are to their owner, whatever the control plane says of them; and what an owner sees of a cluster.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests

use std::fs;
use std::process::Output;
use std::time::Duration;

use cocoon_stage::Code;
use cocoon_tests::kubernetes::{Cluster, Options, tell};
use cocoon_tests::{Outcome, cocoon_program, wait_until};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(300);
const ANNOTATION: &str = "dev.cocoon.initdata";

const MANIFEST: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: NAME}
spec:
  replicas: REPLICAS
  selector: {matchLabels: {app: NAME}}
  template:
    metadata: {labels: {app: NAME}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: work
        image: IMAGE
        command: [/bin/sh, -c, "echo NAME works; exec sleep 100000"]
        readinessProbe: {exec: {command: [test, -d, /tmp]}, periodSeconds: 1, timeoutSeconds: 10}
        resources: {limits: {memory: 64Mi}}
"#;

fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn cocoon(cluster: &Cluster, args: &[&str]) -> Outcome {
    let kubeconfig = cluster.kubeconfig().display().to_string();
    let args: Vec<&str> = args.iter().copied().chain(["--kubeconfig", &kubeconfig]).collect();
    cluster.owner().unwrap().cocoon(&args, LIMIT).unwrap()
}

fn apply(cluster: &Cluster, name: &str, replicas: usize) {
    let file = cluster.node().folder().join("manifest.yaml");
    let manifest = MANIFEST.replace("NAME", name).replace("IMAGE", cluster.image());
    fs::write(&file, manifest.replace("REPLICAS", &replicas.to_string())).unwrap();
    let (file, registry) = (file.display().to_string(), cluster.registry().address());
    let said = cocoon(cluster, &["apply", "-f", &file, "--plain-http", &registry, "--accept-simulated"]);
    assert_eq!(said.status, Some(0), "{}", said.stderr);
}

/// What `cocoon verify` says of pods, accepting the simulated TEE, and its exit status.
fn verify(cluster: &Cluster, args: &[&str]) -> (Value, i32) {
    let args = [&["verify", "--accept-simulated", "--json"], args].concat();
    let said = cocoon(cluster, &args);
    let report = serde_json::from_str(&said.text()).unwrap_or_else(|_| panic!("{}", said.stderr));
    (report, said.status.unwrap())
}

/// The code with which a pod is refused, `proven`, or what else became of it.
fn verdict<'a>(report: &'a Value, pod: &str) -> &'a str {
    let pods = report["pods"].as_array().unwrap();
    let pod = pods.iter().find(|p| p["pod"] == pod).unwrap_or_else(|| panic!("{pod} is not in {report}"));
    match text(pod, "/failure/code") {
        "" => text(pod, "/verdict"),
        code => code,
    }
}

fn pods(cluster: &Cluster, app: &str) -> Vec<(String, String)> {
    let pods = cluster.get(&["pods", "-l", &format!("app={app}")]).unwrap();
    let annotation = |p: &Value| p["metadata"]["annotations"][ANNOTATION].as_str().unwrap().to_owned();
    let pods = pods["items"].as_array().unwrap().iter();
    pods.map(|p| (text(p, "/metadata/name").to_owned(), annotation(p))).collect()
}

/// What anybody may do who has the control plane.
fn annotate(cluster: &Cluster, pod: &str, initdata: &str) {
    cluster.kubectl(&["annotate", "pod", pod, "--overwrite", &format!("{ANNOTATION}={initdata}")]).unwrap();
}

fn is(code: Code) -> &'static str {
    code.as_str()
}

fn pods_are_proven(cluster: &Cluster) {
    let (report, status) = verify(cluster, &["deploy/web"]);
    assert_eq!((status, &report["ok"], &report["proven"]), (0, &json!(true), &json!(2)), "{report}");
    let pods = report["pods"].as_array().unwrap();
    assert!(pods.iter().all(|p| p["simulated"] == true && p["registered_as"] == "web.default"), "{report}");
    // Two replicas, two guests.
    assert_ne!(pods[0]["guest"], pods[1]["guest"]);
    let words = cocoon(cluster, &["verify", "deployment.apps/web", "--accept-simulated"]);
    assert_eq!(words.status, Some(0), "{}", words.stderr);
    let last = words.text().trim_end().lines().last().unwrap().to_owned();
    assert!(last.starts_with("VERIFIED: 2 of 2 pods") && last.contains("SIMULATED"), "{last}");

    // Nobody said that a simulated TEE is good enough.
    let strict = cocoon(cluster, &["verify", "deploy/web", "--json"]);
    let strict_report: Value = serde_json::from_str(&strict.text()).unwrap();
    assert_eq!((strict.status, &strict_report["refused"]), (Some(1), &json!(2)), "{strict_report}");
    assert_eq!(verdict(&strict_report, text(&pods[0], "/pod")), is(Code::AttestSimulatedRefused));

    // Another guest image is the good one.
    let file = cluster.node().folder().join("references.json");
    fs::write(&file, r#"{"sim_launch_measurement": ["00"], "sim_bootloader": [0]}"#).unwrap();
    let (report, status) =
        verify(cluster, &["deploy/web", "--reference-values", &file.display().to_string()]);
    assert_eq!((status, &report["refused"]), (1, &json!(2)), "{report}");
    assert_eq!(verdict(&report, text(&pods[0], "/pod")), is(Code::AttestMeasurementUnknown));

    // This plan and no other.
    let plan = text(&pods[0], "/plan");
    assert_eq!(verify(cluster, &["deploy/web", "--plan", plan]).1, 0);
    let (report, status) = verify(cluster, &["deploy/web", "--plan", &"00".repeat(32)]);
    assert_eq!((status, verdict(&report, text(&pods[0], "/pod"))), (1, is(Code::VerifyPlanUnknown)));

    for (wrong, status) in [(&["verify", "service/web"][..], 2), (&["verify", "deploy/nothing"], 2)] {
        assert_eq!(cocoon(cluster, wrong).status, Some(status), "{wrong:?}");
    }
}

fn lies_are_refused(cluster: &Cluster) {
    let web = pods(cluster, "web");
    let (other, others_initdata) = pods(cluster, "other").remove(0);
    let [(first, initdata), (second, _)] = web.as_slice() else { panic!("{web:?}") };

    // The plan of another workload, registered all the same, in place of this one's.
    annotate(cluster, first, &others_initdata);
    let (report, status) = verify(cluster, &["deploy/web"]);
    assert_eq!((status, verdict(&report, first)), (1, is(Code::VerifyPlanUnknown)), "{report}");
    assert_eq!(verdict(&report, second), "proven");
    annotate(cluster, first, "bm90aGluZw==");
    assert_eq!(verdict(&verify(cluster, &[first]).0, first), is(Code::InitdataMalformed));
    annotate(cluster, first, initdata);
    assert_eq!(verify(cluster, &["deploy/web"]).1, 0);

    // A guest that was started with another plan than its annotation says now.
    annotate(cluster, &other, initdata);
    let (report, status) = verify(cluster, &[&other, "--as", "web.default"]);
    assert_eq!((status, verdict(&report, &other)), (1, is(Code::AttestInitdataMismatch)), "{report}");
    annotate(cluster, &other, &others_initdata);

    // A registration that its owner ended.
    let (report, status) = verify(cluster, &["-A"]);
    assert_eq!((status, &report["proven"]), (0, &json!(3)), "{report}");
    let plan = report["pods"].as_array().unwrap().iter().find(|p| p["pod"] == *other).unwrap();
    let removed = cluster.owner().unwrap().cocoon(&["workload", "rm", text(plan, "/plan")], LIMIT).unwrap();
    assert_eq!(removed.status, Some(0), "{}", removed.stderr);
    let (report, status) = verify(cluster, &["-A"]);
    assert_eq!((status, verdict(&report, &other)), (1, is(Code::VerifyPlanUnknown)), "{report}");
    cluster.kubectl(&["delete", "deployment", "other"]).unwrap();

    // A pod of another runtime beside them, and one that is not there.
    let plain = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "plain"},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [{"name": "c", "image": cluster.image()}]}});
    cluster.apply(&plain.to_string()).unwrap();
    cluster.wait_for_pod("plain", "Ready", LIMIT).unwrap();
    let (report, status) = verify(cluster, &["pod/plain"]);
    assert_eq!((status, verdict(&report, "plain")), (1, is(Code::VerifyNotConfidential)), "{report}");
    // With a plan's annotation, a class's name is not needed; but nobody answers.
    annotate(cluster, "plain", initdata);
    let (report, status) = verify(cluster, &["plain", "--as", "web.default"]);
    assert_eq!((status, verdict(&report, "plain")), (1, is(Code::VerifyNoProof)), "{report}");
    cluster.kubectl(&["annotate", "pod", "plain", &format!("{ANNOTATION}-")]).unwrap();
}

/// `kubectl` with this program as its plugin.
fn plugin(cluster: &Cluster, args: &[&str]) -> Output {
    let folder = cluster.node().folder().join("plugins");
    if !folder.exists() {
        fs::create_dir(&folder).unwrap();
        let program = fs::canonicalize(cocoon_program().unwrap()).unwrap();
        for name in ["kubectl-cocoon", "kubectl_complete-cocoon"] {
            std::os::unix::fs::symlink(&program, folder.join(name)).unwrap();
        }
    }
    let kubectl = cluster.programs().path("kubectl");
    let folders = [folder.as_path(), kubectl.parent().unwrap()].map(ToOwned::to_owned);
    let old = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths(folders.into_iter().chain(std::env::split_paths(&old))).unwrap();
    cluster.kubectl_command(args).env("PATH", path).output().unwrap()
}

fn said(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn kubectl_does_as_the_plan_allows(cluster: &Cluster) {
    let pod = pods(cluster, "web").remove(0).0;
    let (status, out, err) = said(&plugin(cluster, &["cocoon", "logs", &pod, "--tail", "1"]));
    assert_eq!((status, out.as_str()), (Some(0), "web works\n"), "{err}");
    let (status, _, err) = said(&plugin(cluster, &["cocoon", "exec", &pod, "--", "cat", "/etc/hostname"]));
    assert_eq!(status, Some(1), "{err}");
    assert!(err.contains(is(Code::PlanRequestRefused)) && err.contains("cocoon.dev/exec"), "{err}");
    // The probe's own command is the plan's.
    let (status, _, err) = said(&plugin(cluster, &["cocoon", "exec", &pod, "--", "test", "-d", "/tmp"]));
    assert_eq!(status, Some(0), "{err}");
    // Status 1 where a probe was late once.
    let (status, out, err) = said(&plugin(cluster, &["cocoon", "explain", &pod]));
    assert!(matches!(status, Some(0 | 1)), "{err}");
    assert!(out.contains(&format!("pod default/{pod} is Running")), "{out}");
    let (_, out, err) = said(&plugin(cluster, &["__complete", "cocoon", "ver"]));
    assert!(out.starts_with("verify"), "{out} {err}");
}

fn the_doctor_looks_at_it(cluster: &Cluster) {
    let doctor = || {
        let said = cocoon(cluster, &["doctor", "--cluster", "--json"]);
        let report: Value = serde_json::from_str(&said.text()).unwrap_or_else(|_| panic!("{}", said.stderr));
        (report, said.status)
    };
    let state = |report: &Value, about: &str| {
        let checks = report["checks"].as_array().unwrap();
        let check =
            checks.iter().find(|c| c["about"] == about).unwrap_or_else(|| panic!("{about}: {report}"));
        text(check, "/state").to_owned()
    };
    let (report, status) = doctor();
    assert_eq!(status, Some(0), "{report}");
    for (about, wished) in [
        ("API", "ok"),
        ("clock of the API", "ok"),
        ("operator", "warn"),
        ("runtime class cocoon", "ok"),
        ("TEEs", "warn"),
        ("other webhooks", "ok"),
        ("pods", "ok"),
        ("Trustee", "ok"),
        ("clock of Trustee", "ok"),
        ("reference values", "ok"),
        ("simulated TEEs", "warn"),
    ] {
        assert_eq!(state(&report, about), wished, "{about}: {report}");
    }
    // As kubectl's plugin it needs no flag; without Trustee it says so.
    let (status, out, err) = said(&plugin(cluster, &["cocoon", "doctor"]));
    assert_eq!(status, Some(0), "{out} {err}");
    assert!(out.contains("Trustee") && out.contains("not asked"), "{out}");
    cluster.kubectl(&["delete", "runtimeclass", "cocoon"]).unwrap();
    let (report, status) = doctor();
    assert_eq!((status, state(&report, "runtime classes").as_str()), (Some(1), "fail"), "{report}");
}

fn story(cluster: &mut Cluster) {
    apply(cluster, "web", 2);
    apply(cluster, "other", 1);
    pods_are_proven(cluster);
    lies_are_refused(cluster);
    kubectl_does_as_the_plan_allows(cluster);
    the_doctor_looks_at_it(cluster);
    cluster
        .kubectl(&["delete", "deployment,pod", "web", "plain", "--ignore-not-found", "--wait=false"])
        .unwrap();
    let gone = wait_until(LIMIT, || cluster.get(&["pods"]).unwrap()["items"].as_array().unwrap().is_empty());
    assert!(gone, "pods are left");
}

#[test]
fn pods_prove_themselves_and_a_lying_control_plane_is_found_out() {
    tell(Options::cocoon(), story);
}
