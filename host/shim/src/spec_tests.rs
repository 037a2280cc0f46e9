use super::*;

fn bundle(json: &serde_json::Value) -> Result<Bundle, Failure> {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("config.json"), json.to_string()).unwrap();
    Bundle::read(dir.path())
}

fn spec(annotations: serde_json::Value) -> Spec {
    bundle(&serde_json::json!({ "annotations": annotations })).unwrap().spec
}

#[test]
fn a_specification_is_read_as_far_as_it_matters() {
    let read = bundle(&serde_json::json!({
        "ociVersion": "1.1.0",
        "hostname": "web-0",
        "process": {"env": ["A=b"], "oomScoreAdj": -998, "args": ["x"]},
        "mounts": [{"destination": "/etc/hosts", "type": "bind", "source": "/proc/version", "options": ["rbind", "ro"]}],
        "linux": {"namespaces": [{"type": "network", "path": "/run/netns/x"}], "cgroupsPath": "/a/b",
            "devices": [{"path": "/dev/x", "type": "b", "major": 8, "minor": 1}], "sysctl": {"net.a": "1"}},
        "unknown": {"x": 1}
    }))
    .unwrap()
    .spec;
    assert_eq!((read.hostname.as_str(), read.process.oom_score_adj), ("web-0", Some(-998)));
    assert_eq!(read.namespace("network").unwrap().path, "/run/netns/x");
    assert_eq!((read.linux.devices[0].major, read.linux.cgroups_path.as_str()), (8, "/a/b"));
    assert!(read.mounts[0].is_bind() && read.mounts[0].is_read_only());
    assert!(read.mounted_text("/etc/hosts").unwrap().contains("Linux"));
    assert_eq!(read.mounted_text("/etc/resolv.conf"), None);
}

#[test]
fn kinds_are_those_of_containerd_and_of_crio() {
    assert_eq!(spec(serde_json::json!({})).kind().unwrap(), Kind::Single);
    let sandbox = spec(serde_json::json!({"io.kubernetes.cri.container-type": "sandbox"}));
    assert_eq!(sandbox.kind().unwrap(), Kind::Sandbox);
    let member = spec(serde_json::json!({
        "io.kubernetes.cri-o.ContainerType": "container", "io.kubernetes.cri-o.SandboxID": "s1",
        "io.kubernetes.cri-o.ContainerName": "app"
    }));
    assert_eq!(member.kind().unwrap(), Kind::Member("s1".into()));
    assert_eq!(member.container_name(), Some("app"));
    for bad in ["", "../s"] {
        let bad = spec(serde_json::json!({
            "io.kubernetes.cri.container-type": "container", "io.kubernetes.cri.sandbox-id": bad
        }));
        assert_eq!(bad.kind().unwrap_err().code, Code::HostUnsupported);
    }
}

#[test]
fn our_initdata_wins_and_is_not_passed_on() {
    let ours = cocoon_protocol::initdata::InitData::new(
        cocoon_protocol::HashAlgorithm::Sha256,
        BTreeMap::from([("a".to_owned(), "ours".to_owned())]),
    );
    let read = bundle(&serde_json::json!({"annotations": {
        INITDATA: ours.to_annotation().unwrap(), COCO_INITDATA: "no base64", "keep": "me"
    }}))
    .unwrap();
    assert_eq!(read.spec.initdata().unwrap().unwrap().file("a"), Some("ours"));
    let passed = String::from_utf8(read.json).unwrap();
    assert!(passed.contains("keep") && !passed.contains("initdata") && !passed.contains("cc_init_data"));
    let coco = spec(serde_json::json!({ COCO_INITDATA: "no base64" }));
    // One of ours that says nothing does not hide CoCo's.
    let empty = spec(serde_json::json!({ INITDATA: "", COCO_INITDATA: "no base64" }));
    assert_eq!(empty.initdata().unwrap_err().code, Code::InitdataMalformed);
    assert_eq!(coco.initdata().unwrap_err().code, Code::InitdataMalformed);
    assert_eq!(spec(serde_json::json!({ COCO_INITDATA: "" })).initdata().unwrap(), None);
}

#[test]
fn the_hosts_namespaces_and_measured_settings_are_refused_by_name() {
    let own = serde_json::json!([{"type": "network"}, {"type": "pid"}, {"type": "ipc"}]);
    let pod = |annotations: serde_json::Value, namespaces: &serde_json::Value| {
        let json = serde_json::json!({"annotations": annotations, "linux": {"namespaces": namespaces}});
        bundle(&json).unwrap().spec.check_pod()
    };
    assert!(pod(serde_json::json!({}), &own).is_ok());
    let host =
        pod(serde_json::json!({}), &serde_json::json!([{"type": "pid"}, {"type": "ipc"}])).unwrap_err();
    assert!(host.code == Code::PlanRequestRefused && host.reason.contains("hostNetwork"));
    let host =
        pod(serde_json::json!({}), &serde_json::json!([{"type": "network"}, {"type": "ipc"}])).unwrap_err();
    assert!(host.reason.contains("hostPID"));
    let name = "io.katacontainers.config.hypervisor.kernel_params";
    let changed = pod(serde_json::json!({ name: "agent.log=debug" }), &own).unwrap_err();
    assert!(changed.code == Code::PlanRequestRefused && changed.reason.contains(name));
    let sized = pod(serde_json::json!({"io.katacontainers.config.hypervisor.default_vcpus": "2"}), &own);
    assert!(sized.is_ok());
}

#[test]
fn what_is_no_specification_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    assert!(Bundle::read(dir.path()).is_err());
    for bad in ["", "[]", "{\"annotations\": 1}", "{\"mounts\": {}}"] {
        std::fs::write(dir.path().join("config.json"), bad).unwrap();
        assert_eq!(Bundle::read(dir.path()).unwrap_err().code, Code::HostUnsupported, "{bad}");
    }
    std::fs::write(dir.path().join("config.json"), vec![b' '; 5 << 20]).unwrap();
    assert!(Bundle::read(dir.path()).unwrap_err().reason.contains("larger"));
}

#[test]
fn ports_of_a_pod_without_plan_are_in_an_annotation() {
    let ports = |text: &str| spec(serde_json::json!({ FORWARD_PORTS: text })).forward_ports();
    assert_eq!(ports("8080, 9090,").unwrap(), [8080, 9090]);
    assert_eq!(ports("").unwrap(), [0_u16; 0]);
    for bad in ["0", "70000", "http", "80;81", &"1,".repeat(65)] {
        assert_eq!(ports(bad).unwrap_err().code, Code::PlanRequestRefused, "{bad}");
    }
}
