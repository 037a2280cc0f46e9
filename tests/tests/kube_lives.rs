//! How pods of Cocoon live and end on a real cluster: probes, hooks, exits, restarts, limits, jobs, changes, refusals.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests

use std::time::Duration;

use cocoon_plan::pod::{VolumePlan, VolumeSource};
use cocoon_plan::{MountPlan, Plan};
use cocoon_tests::kubernetes::{Cluster, Options, container, pod, tell};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(240);

fn apply(cluster: &Cluster, manifest: Value, change: impl FnOnce(&mut Plan)) {
    let planned = cluster.planned(manifest, &[], change).unwrap();
    cluster.apply(&planned.to_string()).unwrap();
}

/// The status of a pod's container.
fn status<'a>(pod: &'a Value, list: &str, name: &str) -> &'a Value {
    let all = pod.pointer(&format!("/status/{list}")).and_then(Value::as_array);
    all.into_iter().flatten().find(|c| c["name"] == name).unwrap_or(&Value::Null)
}

fn delete(cluster: &Cluster, names: &[&str]) {
    cluster.kubectl(&[&["delete", "pod", "--timeout=120s"], names].concat()).unwrap();
}

/// Init containers in their order, a sidecar beside them, hooks, probes of each kind that the plan knows.
fn probes_and_hooks(cluster: &Cluster) {
    let image = cluster.image();
    let mut side = container("side", image, "echo side >/side; busybox httpd -f -p 8090 -h /");
    side["restartPolicy"] = json!("Always");
    let mut work = container(
        "work",
        image,
        "trap 'echo asked; exit 0' TERM; touch /up; while :; do [ ! -e /hooked ] || echo hooked; sleep 0.2; done",
    );
    let exec = |command: &[&str]| json!({"exec": {"command": command}});
    work["lifecycle"] = json!({
        "postStart": exec(&["/bin/sh", "-c", "echo yes >/hooked"]),
        "preStop": exec(&["/bin/sh", "-c", "echo stopping >/proc/1/fd/1"]),
    });
    work["startupProbe"] =
        json!({"exec": {"command": ["test", "-e", "/up"]}, "periodSeconds": 1, "failureThreshold": 60});
    work["readinessProbe"] = json!({"exec": {"command": ["test", "-e", "/hooked"]}, "periodSeconds": 1});
    let mut manifest = pod("probed", vec![work]);
    manifest["spec"]["terminationGracePeriodSeconds"] = json!(30);
    manifest["spec"]["initContainers"] = json!([container("first", image, "echo init; exit 0"), side]);
    apply(cluster, manifest, |plan| {
        let work = plan.containers.iter_mut().find(|c| c.name == "work").unwrap();
        let exec = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
        work.exec.any = false;
        work.exec.commands = vec![
            exec(&["/bin/sh", "-c", "echo yes >/hooked"]),
            exec(&["/bin/sh", "-c", "echo stopping >/proc/1/fd/1"]),
            exec(&["test", "-e", "/up"]),
            exec(&["test", "-e", "/hooked"]),
        ];
    });
    let ready = cluster.wait_for_pod("probed", "Ready", LIMIT).unwrap();
    assert_eq!(
        status(&ready, "initContainerStatuses", "first")["state"]["terminated"]["reason"],
        "Completed"
    );
    assert_eq!(status(&ready, "initContainerStatuses", "side")["ready"], true);
    assert_eq!(cluster.kubectl(&["logs", "probed", "-c", "first"]).unwrap(), "init\n");
    // What is no probe and no hook of the plan is refused, with the code.
    let refused = cluster.try_kubectl(&["exec", "probed", "-c", "work", "--", "cat", "/hooked"]).unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("PLAN-"), "{said}");
    // At its end: the hook first, then the signal.
    let mut logs = cluster.kubectl_command(["logs", "-f", "probed", "-c", "work", "--tail=1"]);
    let logs = logs.stdout(std::process::Stdio::piped()).spawn().unwrap();
    delete(cluster, &["probed"]);
    let logs = logs.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&logs.stdout).into_owned();
    let (stopping, asked) = (said.find("stopping"), said.find("asked"));
    assert!(stopping.is_some() && asked.is_some() && stopping < asked, "{said}");
}

/// A liveness probe that fails has the container restarted; one that fails by itself too, and it is told apart.
fn restarts(cluster: &Cluster) {
    let image = cluster.image();
    let mut dies = container("dies", image, "echo life; touch /alive; sleep 2; rm /alive; sleep 100000");
    dies["livenessProbe"] = json!({"exec": {"command": ["test", "-e", "/alive"]}, "periodSeconds": 1, "failureThreshold": 2, "initialDelaySeconds": 1});
    let fails = container("fails", image, "echo failing; echo why >/dev/termination-log; exit 3");
    let mut manifest = pod("restarts", vec![dies, fails]);
    manifest["spec"]["restartPolicy"] = json!("Always");
    apply(cluster, manifest, |_| {});
    let again =
        |pod: &Value, name: &str| status(pod, "containerStatuses", name)["restartCount"].as_u64() >= Some(1);
    let seen = cluster
        .wait_for(&["pods"], "restarts", LIMIT, |pod| again(pod, "dies") && again(pod, "fails"))
        .unwrap();
    let last = &status(&seen, "containerStatuses", "fails")["lastState"]["terminated"];
    assert_eq!((last["exitCode"].as_i64(), last["message"].as_str()), (Some(3), Some("why\n")), "{last}");
    let last = &status(&seen, "containerStatuses", "dies")["lastState"]["terminated"];
    assert_eq!(last["exitCode"], 137, "{last}");
    assert_eq!(cluster.kubectl(&["logs", "restarts", "-c", "fails", "--previous"]).unwrap(), "failing\n");
    delete(cluster, &["restarts"]);
}

/// How containers end: by themselves, by memory, by the end of their grace.
fn ends(cluster: &Cluster) {
    let image = cluster.image();
    let done = container("done", image, "echo finished >/dev/termination-log; exit 0");
    let fails = container("fails", image, "exit 42");
    let mut eats = container(
        "eats",
        image,
        "echo eating; head -c 200000000 /dev/zero | tail -c 100000000 | busybox sha256sum",
    );
    eats["resources"] = json!({"limits": {"memory": "32Mi"}});
    apply(cluster, pod("ends", vec![done, fails, eats]), |_| {});
    let stubborn = container("stubborn", image, "trap '' TERM; echo deaf; while :; do sleep 0.2; done");
    apply(cluster, pod("stubborn", vec![stubborn]), |_| {});

    let (phase, ended) = cluster.wait_for_end("ends", LIMIT).unwrap();
    assert_eq!(phase, "Failed");
    let end = |name: &str| status(&ended, "containerStatuses", name)["state"]["terminated"].clone();
    assert_eq!(
        (end("done")["exitCode"].as_i64(), end("done")["message"].as_str()),
        (Some(0), Some("finished\n"))
    );
    assert_eq!(
        (end("fails")["exitCode"].as_i64(), end("fails")["reason"].as_str()),
        (Some(42), Some("Error"))
    );
    assert_eq!(
        (end("eats")["exitCode"].as_i64(), end("eats")["reason"].as_str()),
        (Some(137), Some("OOMKilled"))
    );

    cluster.wait_for_pod("stubborn", "Ready", LIMIT).unwrap();
    // Deaf to the signal, it is killed a second later.
    let began = std::time::Instant::now();
    delete(cluster, &["stubborn", "ends"]);
    assert!(began.elapsed() > Duration::from_millis(900), "it was not given its second");
}

/// Files of the cluster, which the plan declares untrusted, follow the cluster.
fn config_follows(cluster: &Cluster) {
    let config = |value: &str| {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "config"}, "data": {"app": value}}).to_string()
    };
    cluster.apply(&config("old")).unwrap();
    let script = "last=; while :; do now=$(cat /config/app); [ \"$now\" = \"$last\" ] || echo \"$now\"; last=$now; sleep 0.2; done";
    let mut work = container("work", cluster.image(), script);
    work["volumeMounts"] =
        json!([{"name": "config", "mountPath": "/config"}, {"name": "shared", "mountPath": "/shared"}]);
    let mut manifest = pod("config", vec![work]);
    manifest["spec"]["volumes"] = json!([
        {"name": "config", "configMap": {"name": "config"}}, {"name": "shared", "emptyDir": {}},
    ]);
    apply(cluster, manifest, |plan| {
        plan.volumes = vec![
            VolumePlan { name: "config".into(), source: VolumeSource::Files { digests: None } },
            VolumePlan { name: "shared".into(), source: VolumeSource::Scratch { size: 0, gid: None } },
        ];
        let mount = |target: &str, volume: &str, read_only| {
            let (target, volume, sub_path) = (target.into(), volume.into(), String::new());
            MountPlan::Volume { target, volume, sub_path, read_only }
        };
        plan.containers[0].mounts = vec![mount("/config", "config", true), mount("/shared", "shared", false)];
    });
    cluster.wait_for_pod("config", "Ready", LIMIT).unwrap();
    cluster.apply(&config("new")).unwrap();
    let logs = || cluster.kubectl(&["logs", "config"]).unwrap_or_default();
    assert!(cocoon_tests::wait_until(LIMIT, || logs() == "old\nnew\n"), "{}", logs());
    delete(cluster, &["config"]);
}

/// A job with three pods to complete, two at a time, each of which is attested.
fn a_job(cluster: &Cluster) {
    let template = pod("job", vec![container("work", cluster.image(), "echo done")]);
    let planned = cluster.planned(template, &[], |_| {}).unwrap();
    let job = json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "job"},
        "spec": {"completions": 3, "parallelism": 2, "backoffLimit": 0, "template": {
            "metadata": {"annotations": planned["metadata"]["annotations"]}, "spec": planned["spec"],
        }},
    });
    cluster.apply(&job.to_string()).unwrap();
    let over = cluster.wait_for(&["jobs"], "job", LIMIT, |job| {
        job.pointer("/status/succeeded") == Some(&json!(3)) || job.pointer("/status/failed").is_some()
    });
    assert_eq!(over.unwrap().pointer("/status/succeeded"), Some(&json!(3)));
    cluster.kubectl(&["delete", "job", "job", "--cascade=foreground", "--timeout=60s"]).unwrap();
}

/// What the cluster changes after the plan was made does not start, and `kubectl describe` says why.
fn refused(cluster: &Cluster) {
    let planned =
        cluster.planned(pod("changed", vec![container("work", cluster.image(), "sleep 1000")]), &[], |_| {});
    let mut edited = planned.unwrap();
    let other = container("injected", cluster.image(), "sleep 1000");
    edited["spec"]["containers"].as_array_mut().unwrap().push(other);
    cluster.apply(&edited.to_string()).unwrap();
    let waits = |pod: &Value| {
        status(pod, "containerStatuses", "injected").pointer("/state/waiting/message").is_some()
    };
    cluster.wait_for(&["pods"], "changed", LIMIT, waits).unwrap();
    let described = cluster.kubectl(&["describe", "pod", "changed"]).unwrap();
    assert!(described.contains("PLAN-REQUEST-REFUSED"), "{described}");
    // No plan at all.
    let mut bare = pod("bare", vec![container("work", cluster.image(), "sleep 1000")]);
    bare["spec"]["runtimeClassName"] = json!("cocoon");
    cluster.apply(&bare.to_string()).unwrap();
    let said = || cluster.kubectl(&["describe", "pod", "bare"]).unwrap_or_default();
    assert!(cocoon_tests::wait_until(LIMIT, || said().contains("INITDATA-MISSING")), "{}", said());
    delete(cluster, &["changed", "bare"]);
}

#[test]
fn pods_live_and_end_as_kubernetes_has_it() {
    tell(Options::cocoon(), |cluster| {
        probes_and_hooks(cluster);
        restarts(cluster);
        ends(cluster);
        config_follows(cluster);
        a_job(cluster);
        refused(cluster);
    });
}
