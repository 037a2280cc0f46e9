use serde_json::{Value, json};

use super::*;

/// As containerd's CRI plugin writes it for a pod's container.
fn spec() -> Value {
    let bind = |destination: &str, source: &str| json!({"destination": destination, "type": "bind", "source": source, "options": ["rbind", "rprivate", "rw"]});
    let pod = "/var/lib/kubelet/pods/0c9a";
    json!({
        "ociVersion": "1.1.0",
        "process": {
            "user": {"uid": 1000, "gid": 2000, "additionalGids": [2000, 3000]},
            "args": ["/bin/app", "--serve"], "env": ["PATH=/bin", "A=b"], "cwd": "/srv", "noNewPrivileges": true,
            "capabilities": {"bounding": ["CAP_CHOWN", "CAP_KILL"], "effective": ["CAP_CHOWN"]},
            "oomScoreAdj": 1000, "apparmorProfile": "x", "rlimits": []
        },
        "root": {"path": "rootfs", "readonly": true},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts"},
            {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue"},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs"},
            {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup"},
            bind("/etc/hosts", &format!("{pod}/etc-hosts")),
            bind("/dev/termination-log", &format!("{pod}/containers/app/1a2b")),
            bind("/etc/hostname", "/var/lib/containerd/x/hostname"),
            bind("/etc/resolv.conf", "/var/lib/containerd/x/resolv.conf"),
            bind("/dev/shm", "/run/containerd/x/shm"),
            bind("/etc/config", &format!("{pod}/volumes/kubernetes.io~configmap/c")),
            bind("/cache", &format!("{pod}/volumes/kubernetes.io~empty-dir/e")),
            {"destination": "/scratch", "type": "tmpfs", "source": "tmpfs", "options": ["size=2m", "mode=755"]}
        ],
        "linux": {
            "maskedPaths": ["/proc/kcore"], "readonlyPaths": ["/proc/sys"], "namespaces": [{"type": "pid"}],
            "sysctl": {"net.core.somaxconn": "128"},
            "seccomp": {"defaultAction": "SCMP_ACT_ALLOW"}
        }
    })
}

fn mounts() -> Vec<OpenMount> {
    let mount = |target: &str, volume: &str, kind: &str| OpenMount {
        target: target.into(),
        volume: volume.into(),
        kind: kind.into(),
        read_only: kind == "files",
        ..OpenMount::default()
    };
    vec![
        mount("/etc/config", "c", "files"),
        mount("/cache", "e", "scratch"),
        mount("/dev/xvda", "d", "block"),
    ]
}

fn open(spec: &Value, mounts: &[OpenMount]) -> Result<OpenContainer, Failure> {
    let text = spec.to_string();
    container(&OpenRequest { name: "app", image: "docker.io/library/app:1", spec: text.as_bytes(), mounts })
}

fn why(spec: &Value, mounts: &[OpenMount]) -> String {
    let failure = open(spec, mounts).unwrap_err();
    assert_eq!(failure.code, Code::PlanRequestRefused);
    failure.reason
}

#[test]
fn a_kubelets_container_becomes_a_plans() {
    let OpenContainer { container, volumes, sysctls, shares_pids } = open(&spec(), &mounts()).unwrap();
    assert!(!shares_pids, "a namespace of its own");
    assert_eq!(container.args, ["/bin/app", "--serve"]);
    assert_eq!((container.user.as_str(), container.groups.as_slice()), ("1000:2000", &[2000, 3000][..]));
    assert_eq!(container.capabilities, ["CAP_CHOWN", "CAP_KILL"]);
    assert!(
        container.no_new_privileges && container.read_only_root && !container.unmasked && container.exec.any
    );
    assert_eq!(container.seccomp_profile, Some(json!({"defaultAction": "SCMP_ACT_ALLOW"})));
    assert_eq!(container.termination_message.as_deref(), Some("/dev/termination-log"));
    let targets: Vec<_> = container.mounts.iter().map(MountPlan::target).collect();
    assert_eq!(targets, ["/etc/config", "/cache", "/scratch"]);
    assert_eq!(container.mounts[2], MountPlan::Tmpfs { target: "/scratch".into(), size: 2 << 20 });
    assert_eq!(container.devices[0].path, "/dev/xvda");
    let names: Vec<_> = volumes.iter().map(|v| v.name.as_str()).collect();
    assert_eq!(names, ["c", "d", "e"]);
    assert_eq!(sysctls["net.core.somaxconn"], "128");
    assert_eq!(container.image.digest, "");
}

#[test]
fn a_digest_in_the_name_is_the_images() {
    let digest = format!("sha256:{}", "a".repeat(64));
    let image = format!("x/y:1@{digest}");
    let text = spec().to_string();
    let request = OpenRequest { name: "a_B.c", image: &image, spec: text.as_bytes(), mounts: &mounts() };
    assert_eq!(container(&request).unwrap().container.image.digest, digest);
}

#[test]
fn privileged_ones_see_everything() {
    let mut spec = spec();
    spec["linux"]["maskedPaths"] = json!([]);
    spec["linux"]["seccomp"] = Value::Null;
    let open = open(&spec, &mounts()).unwrap().container;
    assert!(open.unmasked && open.seccomp_profile.is_none() && open.seccomp == Seccomp::Unconfined);
}

#[test]
fn the_termination_message_is_where_the_pod_wants_it() {
    let mut spec = spec();
    spec["mounts"][7]["destination"] = json!("/var/last-words");
    let open = open(&spec, &mounts()).unwrap().container;
    assert_eq!(open.termination_message.as_deref(), Some("/var/last-words"));
}

#[test]
fn what_the_guest_cannot_do_is_refused() {
    assert!(why(&spec(), &mounts()[1..]).contains("/etc/config"), "a host path of which nothing is here");
    let with = |pointer: &str, value: Value| {
        let mut spec = spec();
        *spec.pointer_mut(pointer).unwrap() = value;
        why(&spec, &mounts())
    };
    assert!(with("/process/args", json!([])).contains("no program"));
    assert!(with("/process/cwd", json!("relative")).contains("cwd"));
    assert!(with("/process/env", json!(["x"])).contains("NAME=value"));
    assert!(with("/process/args", json!(["a\0b"])).contains("NUL"));
    assert!(with("/process/user/uid", json!(-1)).contains("runtime-spec"));
    assert!(with("/linux/sysctl", json!({"kernel.modprobe": "/x"})).contains("kernel.modprobe"));
    assert!(with("/mounts/13/destination", json!("/")).contains("root"));
    assert!(with("/mounts/13/destination", json!("/a/../b")).contains("target"));
    // A host's own /proc or /dev is nothing to pass in.
    assert!(
        with("/mounts/0", json!({"destination": "/proc", "type": "bind", "source": "/proc"}))
            .contains("/proc")
    );
    let mut twice = mounts();
    twice.push(OpenMount { target: "/cache/".into(), ..twice[1].clone() });
    assert!(why(&spec(), &twice).contains("twice"));
    let mut kinds = mounts();
    kinds[1].volume = "c".into();
    assert!(why(&spec(), &kinds).contains("two kinds"));
    kinds[1].kind = "virtiofs".into();
    assert!(why(&spec(), &kinds).contains("virtiofs"));
    for bad in ["", "a/b", ".", "-x", &"n".repeat(129)] {
        let text = spec().to_string();
        let request = OpenRequest { name: bad, image: "x", spec: text.as_bytes(), mounts: &mounts() };
        assert!(container(&request).is_err(), "{bad}");
    }
    let huge = vec![b' '; MAX_SPEC + 1];
    let request = OpenRequest { name: "a", image: "x", spec: &huge, mounts: &[] };
    assert!(container(&request).unwrap_err().reason.contains("bytes"));
    let nested = "[".repeat(1 << 20);
    let request = OpenRequest { name: "a", image: "x", spec: nested.as_bytes(), mounts: &[] };
    assert!(container(&request).is_err(), "depth is bounded by the reader");
}

#[test]
fn sizes_as_tmpfs_reads_them() {
    let of = |option: &str| size_of(&["nosuid".to_owned(), option.to_owned()]);
    assert_eq!(of("size=4096"), 4096);
    assert_eq!(of("size=65536k"), 64 << 20);
    assert_eq!(of("size=1G"), 1 << 30);
    for odd in ["size=", "size=0", "size=50%", "size=99999999999g", "mode=755"] {
        assert_eq!(of(odd), TMPFS, "{odd}");
    }
}

#[test]
fn an_open_pod_has_nothing_of_its_own() {
    let plan = Plan::open(BTreeMap::from([("net.core.somaxconn".into(), "1".into())]), true).unwrap();
    assert!(plan.containers.is_empty() && plan.secrets.is_empty() && plan.share_process_namespace);
    let bad = BTreeMap::from([("vm.overcommit_memory".into(), "1".into())]);
    assert_eq!(Plan::open(bad, false).unwrap_err().code, Code::PlanRequestRefused);
}

#[test]
fn volumes_have_plain_names() {
    assert_eq!(files_volume("a.b-1").unwrap().name, "a.b-1");
    for bad in ["", "..", ".", "a/b", "A", "a\0", &"n".repeat(64)] {
        assert_eq!(files_volume(bad).unwrap_err().code, Code::PlanRequestRefused, "{bad:?}");
    }
}
