use super::*;
use cocoon_stage::Code;

const POD: &str = "/var/lib/kubelet/pods/2f6c";

fn spec(mounts: &[(&str, &str)], devices: serde_json::Value) -> Spec {
    let mounts: Vec<_> = mounts
        .iter()
        .map(|(source, destination)| {
            // As kubelet does it: what takes the last message is writable.
            let access = if source.contains("/containers/") { "rw" } else { "ro" };
            serde_json::json!({
                "type": "bind", "source": source, "destination": destination, "options": ["rbind", access]
            })
        })
        .collect();
    serde_json::from_value(serde_json::json!({"mounts": mounts, "linux": {"devices": devices}})).unwrap()
}

fn plan() -> Plan {
    let plan = serde_json::json!({
        "version": 1, "name": "web",
        "containers": [{
            "name": "app", "image": {"reference": "x", "digest": format!("sha256:{}", "a".repeat(64))},
            "args": ["x"], "cwd": "/", "no_new_privileges": true, "seccomp": "runtime-default", "logs": true,
            "restart": "never", "stop_signal": 15, "termination_message": "/tmp/last",
            "mounts": [
                {"kind": "volume", "target": "/config", "volume": "config", "read_only": true},
                {"kind": "volume", "target": "/one.txt", "volume": "config", "sub_path": "a/one.txt"},
                {"kind": "volume", "target": "/data", "volume": "data"}
            ],
            "devices": [{"path": "/dev/xvda", "volume": "disk", "read_only": true}]
        }],
        "volumes": [
            {"name": "config", "source": {"kind": "files"}},
            {"name": "data", "source": {"kind": "scratch"}},
            {"name": "disk", "source": {"kind": "block"}}
        ]
    });
    Plan::parse(plan.to_string().as_bytes()).unwrap()
}

fn sorted(mounts: &[(&str, &str)], devices: serde_json::Value) -> Result<Arranged, Failure> {
    let plan = plan();
    planned(&spec(mounts, devices), &plan, &plan.containers[0])
}

#[test]
fn the_plans_volumes_get_the_hosts_content() {
    let config = format!("{POD}/volumes/kubernetes.io~configmap/c");
    let sub = format!("{POD}/volume-subpaths/c/app/1");
    let data = format!("{POD}/volumes/kubernetes.io~empty-dir/data");
    let last = format!("{POD}/containers/app/0a1b2c3d");
    let token = format!("{POD}/volumes/kubernetes.io~projected/kube-api-access");
    let mounts = [
        (config.as_str(), "/config/"),
        (&sub, "/one.txt"),
        (&data, "/data"),
        (&last, "/tmp/last"),
        (&token, "/var/run/secrets/kubernetes.io/serviceaccount"),
        ("/x/hosts", "/etc/hosts"),
        ("/x/shm", "/dev/shm"),
    ];
    let devices = serde_json::json!([
        {"path": "/dev/xvda", "type": "b", "major": 7, "minor": 3}, {"path": "/dev/null", "type": "c"}
    ]);
    let arranged = sorted(&mounts, devices).unwrap();
    let part = |sub_path: &str, source: &str| Part {
        volume: "config".into(),
        sub_path: sub_path.into(),
        source: source.into(),
    };
    assert_eq!(arranged.parts, [part("", &config), part("a/one.txt", &sub)]);
    assert_eq!(arranged.termination_message, Some(last.into()));
    let disk = BlockDevice { volume: "disk".into(), device: "/dev/block/7:3".into(), read_only: true };
    assert_eq!((arranged.devices, arranged.mounts), (vec![disk], vec![]));
}

#[test]
fn what_the_plan_lacks_is_refused_by_name() {
    let refused = sorted(&[("/var/run/docker.sock", "/sock")], serde_json::json!([])).unwrap_err();
    assert_eq!(refused.code, Code::PlanRequestRefused);
    assert!(refused.reason.contains("/var/run/docker.sock at /sock"), "{}", refused.reason);
    let device = serde_json::json!([{"path": "/dev/sda", "type": "b"}]);
    assert!(sorted(&[], device).unwrap_err().reason.contains("/dev/sda"));
    // A path that only looks like kubelet's is the host's.
    let fake = sorted(&[("/pods/x/../../etc", "/x")], serde_json::json!([]));
    assert_eq!(fake.unwrap_err().code, Code::PlanRequestRefused);
}

#[test]
fn without_a_plan_everything_is_named_for_the_guest() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("one.txt");
    std::fs::write(&file, "x").unwrap();
    let config = format!("{POD}/volumes/kubernetes.io~configmap/c");
    let data = format!("{POD}/volumes/kubernetes.io~empty-dir/data");
    let file = file.display().to_string();
    let last = format!("{POD}/containers/app/0a1b2c3d");
    let mounts =
        [(config.as_str(), "/config"), (&data, "/data"), (&file, "/f"), (&last, "/dev/termination-log")];
    let arranged = open(&spec(&mounts, serde_json::json!([]))).unwrap();
    let seen: Vec<_> =
        arranged.mounts.iter().map(|m| (m.target.as_str(), m.kind.as_str(), m.sub_path.as_str())).collect();
    assert_eq!(seen, [("/config", "files", ""), ("/data", "scratch", ""), ("/f", "files", "one.txt")]);
    assert_eq!((arranged.mounts[0].volume.as_str(), arranged.mounts[1].volume.as_str()), ("c", "data"));
    assert!(arranged.mounts[2].volume.starts_with("host-") && arranged.mounts[2].read_only);
    assert_eq!(arranged.parts[1].sub_path, "one.txt");
    assert_eq!(arranged.termination_message, Some(last.into()));
}

#[test]
fn the_last_message_goes_into_kubelets_writable_file_alone() {
    let file = |source: &str, access: &str| {
        let options = vec!["rbind".to_owned(), access.to_owned()];
        may_take_message(&Mount { source: source.into(), options, ..Mount::default() })
    };
    let good = format!("{POD}/containers/app/0a1b2c3d");
    assert!(file(&good, "rw") && !file(&good, "ro"));
    for bad in [
        "/etc/shadow".into(),
        "/pods/u/containers/app/x".into(),
        format!("{POD}/containers/app/../x"),
        format!("{POD}/containers/app/x/y"),
        format!("{POD}/containers//x"),
        format!("/x/{POD}/volumes/containers/a/b"),
        good.trim_start_matches('/').into(),
    ] {
        assert!(!file(&bad, "rw"), "{bad}");
    }
    let other = sorted(&[("/etc/shadow", "/tmp/last")], serde_json::json!([])).unwrap_err();
    assert_eq!(other.code, Code::PlanRequestRefused);
    // Such a mount of a developer's guest is a volume like another.
    let arranged = open(&spec(&[("/etc/shadow", "/dev/termination-log")], serde_json::json!([]))).unwrap();
    assert!(arranged.termination_message.is_none() && arranged.mounts.len() == 1);
}

#[test]
fn a_disk_is_read_only_where_plan_or_host_say_so() {
    let disk = |planned: bool, access: &str| {
        let mut plan = plan();
        plan.containers[0].devices[0].read_only = planned;
        let device = serde_json::json!({"path": "/dev/xvda", "type": "b", "major": 7, "minor": 3});
        let rule = serde_json::json!({"allow": true, "type": "b", "major": 7, "minor": 3, "access": access});
        let linux = serde_json::json!({
            "devices": [device], "resources": {"devices": [{"allow": false, "access": "rwm"}, rule]}
        });
        let spec: Spec = serde_json::from_value(serde_json::json!({ "linux": linux })).unwrap();
        planned_disk(&spec, &plan)
    };
    assert!(!disk(false, "mrw") && disk(false, "r") && disk(true, "mrw") && disk(true, "r"));
}

fn planned_disk(spec: &Spec, plan: &Plan) -> bool {
    planned(spec, plan, &plan.containers[0]).unwrap().devices[0].read_only
}
