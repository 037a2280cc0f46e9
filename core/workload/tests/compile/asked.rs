//! What kubelet makes of a manifest is what its plan expects; what somebody changed afterwards is named.

use cocoon_plan::{Plan, asked};
use cocoon_stage::Code;
use serde_json::{Value, json};

use crate::{digest, pod, workload};

fn planned() -> Plan {
    let text = pod(
        "env: [{name: MODE, value: fast}, {name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}]\n\
         volumeMounts: [{name: v, mountPath: /v}]\nsecurityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}",
        "volumes: [{name: v, emptyDir: {}}]",
    );
    workload(&text).plan().unwrap().clone()
}

/// As containerd writes it for the pod above.
fn spec() -> Value {
    let bind =
        |at: &str| json!({"destination": at, "type": "bind", "source": "/x", "options": ["rbind", "rw"]});
    json!({
        "ociVersion": "1.2.0",
        "process": {
            "user": {"uid": 1000, "gid": 0, "additionalGids": [0]}, "args": ["/entry", "serve"], "cwd": "/srv",
            "env": ["PATH=/image/bin", "HOSTNAME=p", "FROM_IMAGE=yes", "MODE=fast", "IP=10.0.0.7", "KUBERNETES_SERVICE_PORT=443",
                "OTHER_SERVICE_HOST=10.96.3.4", "OTHER_PORT_80_TCP_ADDR=10.96.3.4"],
            "capabilities": {"bounding": []}, "noNewPrivileges": true, "oomScoreAdj": 1000
        },
        "root": {"path": "rootfs"}, "hostname": "p",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            bind("/v"), bind("/etc/hosts"), bind("/dev/termination-log"), bind("/etc/hostname"), bind("/etc/resolv.conf"),
            bind("/dev/shm"), bind("/var/run/secrets/kubernetes.io/serviceaccount")
        ]
    })
}

fn said(image: &str, change: impl Fn(&mut Value)) -> String {
    let (plan, mut spec) = (planned(), spec());
    assert!(plan.exact);
    change(&mut spec);
    match asked::check(&plan, plan.container("app").unwrap(), image, spec.to_string().as_bytes()) {
        Ok(()) => String::new(),
        Err(failure) => {
            assert_eq!(failure.code, Code::PlanRequestRefused);
            failure.for_host().reason.unwrap()
        }
    }
}

#[test]
fn an_untouched_pod_is_what_the_plan_expects() {
    for image in [
        format!("registry.example/app:1@{}", digest('a')),
        format!("registry.example/app@{}", digest('a')),
        "registry.example/app:1".into(),
    ] {
        assert_eq!(said(&image, |_| {}), "", "{image}");
    }
}

#[test]
fn a_touched_pod_is_refused_by_the_fields_name() {
    let push = |spec: &mut Value, pointer: &str, value: Value| {
        spec.pointer_mut(pointer).unwrap().as_array_mut().unwrap().push(value);
    };
    assert!(said("registry.example/app:2", |_| {}).contains("image"));
    assert!(said(&format!("registry.example/app:1@{}", digest('b')), |_| {}).contains("image"));
    assert!(said("", |s| push(s, "/process/args", "--debug".into())).contains("args[2]"));
    assert!(said("", |s| push(s, "/process/env", "LD_PRELOAD=/x".into())).contains("env LD_PRELOAD"));
    assert!(said("", |s| s["process"]["env"][3] = "MODE=slow".into()).contains("env MODE"));
    assert!(said("", |s| s["process"]["user"]["uid"] = 0.into()).contains("runAsUser"));
    assert!(
        said("", |s| push(s, "/process/capabilities/bounding", "CAP_SYS_ADMIN".into()))
            .contains("CAP_SYS_ADMIN")
    );
    assert!(
        said("", |s| s["process"]["noNewPrivileges"] = false.into()).contains("allowPrivilegeEscalation")
    );
    assert!(said("", |s| s["process"]["terminal"] = true.into()).contains("tty"));
    assert!(said("", |s| s["process"]["cwd"] = "/tmp".into()).contains("workingDir"));
    let mount = json!({"destination": "/etc/ssl", "type": "bind", "source": "/x"});
    assert!(said("", |s| push(s, "/mounts", mount.clone())).contains("mount /etc/ssl"));
    assert!(said("", |s| *s = json!({})).contains("specification"));
}
