//! What else a manifest may say, on a real cluster: identity, variables, names, volumes of each kind, probes over the network.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests

use std::time::Duration;

use cocoon_plan::pod::{VolumePlan, VolumeSource};
use cocoon_plan::{MountPlan, Plan};
use cocoon_tests::kubernetes::{Cluster, Options, container, pod, tell};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(240);

const WORK: &str = r#"
echo "user=$(id -u):$(id -g) groups=$(id -G)"
echo "from=$FROM_CONFIG ip=$POD_IP all=$ALL_LEVEL other=[$UNPLANNED]"
echo "sysctl=$(cat /proc/sys/net/ipv4/ip_unprivileged_port_start)"
echo "config=$(cat /config/app) part=$(cat /part) secret=$(cat /secret/key) projected=$(cat /projected/a/app)/$(cat /projected/name)"
echo "optional=$(ls /optional | wc -l)"
if touch /x 2>/dev/null; then echo "root=writable"; else echo "root=read-only"; fi
echo shared >/shared/file
exec busybox httpd -f -p 80 -h /shared
"#;

fn manifest(image: &str) -> Value {
    let mut work = container("work", image, WORK);
    work["securityContext"] = json!({"runAsUser": 1234, "runAsGroup": 99, "readOnlyRootFilesystem": true});
    let of_config = |key: &str| json!({"configMapKeyRef": {"name": "settings", "key": key}});
    work["env"] = json!([
        {"name": "FROM_CONFIG", "valueFrom": of_config("app")},
        {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "UNPLANNED", "valueFrom": of_config("app")},
    ]);
    work["envFrom"] = json!([{"prefix": "ALL_", "configMapRef": {"name": "levels"}}]);
    work["readinessProbe"] = json!({"httpGet": {"path": "/file", "port": 80}, "periodSeconds": 1});
    work["livenessProbe"] = json!({"tcpSocket": {"port": 80}, "initialDelaySeconds": 30});
    let mount = |name: &str, path: &str| json!({"name": name, "mountPath": path});
    work["volumeMounts"] = json!([
        mount("config", "/config"), {"name": "config", "mountPath": "/part", "subPath": "app"}, mount("secret", "/secret"),
        mount("projected", "/projected"), mount("optional", "/optional"), mount("shared", "/shared"),
    ]);
    let mut other = container("other", image, "sleep 100000");
    other["volumeMounts"] = json!([mount("shared", "/there")]);
    let mut pod = pod("said", vec![work, other]);
    let spec = &mut pod["spec"];
    spec["shareProcessNamespace"] = json!(true);
    spec["securityContext"] = json!({
        "supplementalGroups": [2000],
        "sysctls": [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "80"}],
    });
    spec["hostAliases"] = json!([{"ip": "192.0.2.7", "hostnames": ["elsewhere.test"]}]);
    spec["dnsPolicy"] = json!("None");
    spec["dnsConfig"] = json!({"nameservers": ["192.0.2.53"], "searches": ["example.test"]});
    let projected = json!([
        {"configMap": {"name": "settings", "items": [{"key": "app", "path": "a/app"}]}},
        {"downwardAPI": {"items": [{"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}]}},
    ]);
    spec["volumes"] = json!([
        {"name": "config", "configMap": {"name": "settings"}},
        {"name": "secret", "secret": {"secretName": "keys"}},
        {"name": "projected", "projected": {"sources": projected}},
        {"name": "optional", "configMap": {"name": "absent", "optional": true}},
        {"name": "shared", "emptyDir": {"medium": "Memory"}},
    ]);
    pod
}

fn plan(plan: &mut Plan) {
    let files = |name: &str| VolumePlan { name: name.into(), source: VolumeSource::Files { digests: None } };
    plan.volumes = ["config", "secret", "projected", "optional"].map(files).to_vec();
    let source = VolumeSource::Memory { size: 1 << 20, gid: Some(2000) };
    plan.volumes.push(VolumePlan { name: "shared".into(), source });
    plan.sysctls.insert("net.ipv4.ip_unprivileged_port_start".into(), "80".into());
    plan.share_process_namespace = true;
    let mount = |target: &str, volume: &str, sub_path: &str| MountPlan::Volume {
        target: target.into(),
        volume: volume.into(),
        sub_path: sub_path.into(),
        read_only: volume != "shared",
    };
    let work = &mut plan.containers[0];
    work.user = "1234:99".into();
    work.groups = vec![2000];
    work.read_only_root = true;
    work.host_env = ["FROM_*", "ALL_*", "POD_IP"].map(str::to_owned).to_vec();
    work.mounts = vec![
        mount("/config", "config", ""),
        mount("/part", "config", "app"),
        mount("/secret", "secret", ""),
        mount("/projected", "projected", ""),
        mount("/optional", "optional", ""),
        mount("/shared", "shared", ""),
    ];
    plan.containers[1].mounts = vec![mount("/there", "shared", "")];
}

fn said(cluster: &mut Cluster) {
    let objects = json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {"app": "set"}},
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "levels"}, "data": {"LEVEL": "high"}},
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys"}, "stringData": {"key": "the cluster's"}},
    ]});
    cluster.apply(&objects.to_string()).unwrap();
    let planned = cluster.planned(manifest(cluster.image()), &[], plan).unwrap();
    cluster.apply(&planned.to_string()).unwrap();
    let running = cluster.wait_for_pod("said", "Ready", LIMIT).unwrap();
    let ip = running.pointer("/status/podIP").and_then(Value::as_str).unwrap();
    let logs = cluster.kubectl(&["logs", "said", "-c", "work"]).unwrap();
    for line in [
        "user=1234:99 groups=99 2000",
        &format!("from=set ip={ip} all=high other=[]"),
        "sysctl=80",
        "config=set part=set secret=the cluster's projected=set/said",
        "optional=0",
        "root=read-only",
    ] {
        assert!(logs.lines().any(|l| l == line), "{line:?} is not in\n{logs}");
    }
    let sh = |script: &str| {
        cluster.kubectl(&["exec", "said", "-c", "other", "--", "/bin/sh", "-c", script]).unwrap()
    };
    assert_eq!(sh("cat /there/file"), "shared\n");
    assert!(sh("ps").contains("httpd"), "the other container's process is not seen");
    assert!(sh("cat /etc/hosts").contains("elsewhere.test"));
    let names = sh("cat /etc/resolv.conf");
    assert!(names.contains("nameserver 192.0.2.53") && names.contains("search example.test"), "{names}");
    cluster.kubectl(&["delete", "pod", "said", "--timeout=60s"]).unwrap();
}

/// The pods that a CronJob makes carry its template's annotation.
fn a_cron_job(cluster: &mut Cluster) {
    let planned =
        cluster.planned(pod("tick", vec![container("work", cluster.image(), "echo tick")]), &[], |_| {});
    let planned = planned.unwrap();
    let cron = json!({
        "apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "tick"},
        "spec": {"schedule": "* * * * *", "concurrencyPolicy": "Forbid", "jobTemplate": {"spec": {"template": {
            "metadata": {"annotations": planned["metadata"]["annotations"]}, "spec": planned["spec"],
        }}}},
    });
    cluster.apply(&cron.to_string()).unwrap();
    let ticked = |cron: &Value| cron.pointer("/status/lastSuccessfulTime").is_some();
    cluster.wait_for(&["cronjobs"], "tick", LIMIT, ticked).unwrap();
    cluster.kubectl(&["delete", "cronjob", "tick", "--cascade=foreground", "--timeout=120s"]).unwrap();
}

#[test]
fn manifests_say_more_than_an_image() {
    tell(Options::cocoon(), |cluster| {
        said(cluster);
        a_cron_job(cluster);
    });
}
