use serde_json::{Value, json};

use crate::{digest, plan, pod};

/// Lines of the container, lines of the pod's spec, a place in the plan, and what is there.
fn holds(cases: &[(&str, &str, &str, Value)]) {
    for (container, spec, pointer, expected) in cases {
        let text = pod(container, spec);
        let plan = plan(&text);
        let found = plan.pointer(pointer).cloned().unwrap_or(Value::Null);
        assert_eq!(found, *expected, "{pointer} of\n{text}");
    }
}

const C: &str = "/containers/0";

#[test]
fn programs() {
    let args = &format!("{C}/args");
    holds(&[
        ("", "", args, json!(["/entry", "serve"])),
        ("args: [other, x]", "", args, json!(["/entry", "other", "x"])),
        ("command: [/bin/own]", "", args, json!(["/bin/own"])),
        ("command: [/bin/own]\nargs: [x]", "", args, json!(["/bin/own", "x"])),
        ("command: []\nargs: []", "", args, json!(["/entry", "serve"])),
        (
            "args: ['$(A)', '$$(A)', '$(NOPE)']\nenv: [{name: A, value: b}]",
            "",
            args,
            json!(["/entry", "b", "$(A)", "$(NOPE)"]),
        ),
        (
            "command: [sh, -c, 'echo $(A)$B']\nenv: [{name: A, value: a}]",
            "",
            args,
            json!(["sh", "-c", "echo a$B"]),
        ),
    ]);
}

#[test]
fn folders_and_files() {
    holds(&[
        ("", "", "/containers/0/cwd", json!("/srv")),
        ("workingDir: /elsewhere", "", "/containers/0/cwd", json!("/elsewhere")),
        ("", "", "/containers/0/termination_message", json!("/dev/termination-log")),
        ("terminationMessagePath: /tmp/last", "", "/containers/0/termination_message", json!("/tmp/last")),
        ("terminationMessagePolicy: FallbackToLogsOnError", "", "/containers/0/logs", json!(true)),
    ]);
}

#[test]
fn images_are_pinned_and_their_tags_kept() {
    let text = pod("", "");
    let plan = plan(&text);
    let reference = format!("registry.example/app:1@{}", digest('a'));
    assert_eq!(plan["containers"][0]["image"], json!({"digest": digest('a'), "reference": reference}));
    let by_digest = pod("", "").replace("app:1", &format!("app@{}", digest('a')));
    assert_eq!(
        crate::plan(&by_digest)["containers"][0]["image"]["reference"],
        json!(format!("registry.example/app@{}", digest('a')))
    );
}

#[test]
fn users() {
    let user = &format!("{C}/user");
    let context = |fields: &str| format!("securityContext: {{{fields}}}");
    let cases = [
        // Of an image's user kubelet passes on the user alone.
        ("", "", json!("1000")),
        ("runAsUser: 5", "", json!("5")),
        ("runAsUser: 5, runAsGroup: 6", "", json!("5:6")),
        ("runAsGroup: 6", "", json!("1000:6")),
        ("", "runAsUser: 7", json!("7")),
        ("", "runAsUser: 7, runAsGroup: 8", json!("7:8")),
        ("runAsUser: 5", "runAsUser: 7, runAsGroup: 8", json!("5:8")),
        ("runAsUser: 0", "runAsUser: 7", json!("0")),
    ];
    for (container, spec, expected) in cases {
        holds(&[(&context(container), &context(spec), user, expected)]);
    }
    let non_root = &format!("{C}/run_as_non_root");
    holds(&[
        ("", "securityContext: {runAsNonRoot: true}", non_root, json!(true)),
        (
            "securityContext: {runAsNonRoot: false}",
            "securityContext: {runAsNonRoot: true}",
            non_root,
            Value::Null,
        ),
        ("securityContext: {runAsNonRoot: true}", "", non_root, json!(true)),
        (
            "",
            "securityContext: {fsGroup: 9, supplementalGroups: [3, 9, 1]}",
            "/containers/0/groups",
            json!([1, 3, 9]),
        ),
        ("", "", "/containers/0/groups", Value::Null),
    ]);
}

#[test]
fn capabilities() {
    let kept = |fields: &str| {
        let text = pod(&format!("securityContext: {{capabilities: {{{fields}}}}}"), "");
        let caps: Vec<String> = plan(&text)["containers"][0]["capabilities"]
            .as_array()
            .unwrap()
            .iter()
            .map(|c| c.as_str().unwrap().to_owned())
            .collect();
        caps
    };
    assert_eq!(kept("").len(), 14);
    assert_eq!(kept("drop: [ALL]"), Vec::<String>::new());
    assert_eq!(kept("drop: [ALL], add: [NET_BIND_SERVICE]"), ["CAP_NET_BIND_SERVICE"]);
    assert_eq!(kept("drop: [all], add: [CAP_CHOWN, KILL]"), ["CAP_CHOWN", "CAP_KILL"]);
    assert_eq!(kept("add: [ALL]").len(), 41);
    assert_eq!(kept("add: [ALL], drop: [SYS_MODULE]").len(), 40);
    assert_eq!(kept("drop: [MKNOD, NET_RAW]").len(), 12);
    assert_eq!(kept("add: [CHOWN]").len(), 14);
}

#[test]
fn what_the_kernel_allows() {
    holds(&[
        ("", "", "/containers/0/seccomp", json!("runtime-default")),
        (
            "securityContext: {seccompProfile: {type: Unconfined}}",
            "",
            "/containers/0/seccomp",
            json!("unconfined"),
        ),
        (
            "",
            "securityContext: {seccompProfile: {type: Unconfined}}",
            "/containers/0/seccomp",
            json!("unconfined"),
        ),
        (
            "securityContext: {seccompProfile: {type: RuntimeDefault}}",
            "securityContext: {seccompProfile: {type: Unconfined}}",
            "/containers/0/seccomp",
            json!("runtime-default"),
        ),
        (
            "securityContext: {allowPrivilegeEscalation: false}",
            "",
            "/containers/0/no_new_privileges",
            json!(true),
        ),
        (
            "securityContext: {allowPrivilegeEscalation: true}",
            "",
            "/containers/0/no_new_privileges",
            json!(false),
        ),
        ("", "", "/containers/0/no_new_privileges", json!(false)),
        ("securityContext: {readOnlyRootFilesystem: true}", "", "/containers/0/read_only_root", json!(true)),
        ("securityContext: {procMount: Unmasked}", "", "/containers/0/unmasked", json!(true)),
        ("securityContext: {procMount: Default}", "", "/containers/0/unmasked", Value::Null),
        ("securityContext: {privileged: false}", "", "/containers/0/unmasked", Value::Null),
        (
            "",
            "securityContext: {sysctls: [{name: net.core.somaxconn, value: '1024'}]}",
            "/sysctls",
            json!({"net.core.somaxconn": "1024"}),
        ),
        (
            "",
            "securityContext: {sysctls: [{name: net/ipv4/ip_unprivileged_port_start, value: '0'}]}",
            "/sysctls",
            json!({"net.ipv4.ip_unprivileged_port_start": "0"}),
        ),
        ("", "shareProcessNamespace: true", "/share_process_namespace", json!(true)),
    ]);
}

#[test]
fn restarts() {
    holds(&[
        ("", "", "/containers/0/restart", json!("always")),
        ("", "restartPolicy: OnFailure", "/containers/0/restart", json!("on-failure")),
        ("", "restartPolicy: Never", "/containers/0/restart", json!("never")),
        ("restartPolicy: Never", "", "/containers/0/restart", json!("never")),
        ("lifecycle: {stopSignal: SIGQUIT}", "", "/containers/0/stop_signal", json!(3)),
        ("", "", "/containers/0/stop_signal", json!(15)),
        ("", "terminationGracePeriodSeconds: 5", "/containers/0/stop_signal", json!(15)),
    ]);
}

#[test]
fn init_containers_come_first_and_sidecars_run_on() {
    let text = pod(
        "",
        "initContainers:\n- {name: prepare, image: a}\n- {name: mesh, image: b, restartPolicy: Always}\n- {name: migrate, image: c}",
    );
    let plan = plan(&text);
    let seen: Vec<_> = plan["containers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| {
            (c["name"].as_str().unwrap(), c["kind"].as_str().unwrap_or("app"), c["restart"].as_str().unwrap())
        })
        .collect();
    assert_eq!(
        seen,
        [
            ("prepare", "init", "on-failure"),
            ("mesh", "sidecar", "always"),
            ("migrate", "init", "on-failure"),
            ("app", "app", "always")
        ]
    );
    let never = pod("", "restartPolicy: Never\ninitContainers: [{name: prepare, image: a}]");
    assert_eq!(crate::plan(&never)["containers"][0]["restart"], "never");
}

#[test]
fn probes_and_hooks_by_exec_are_all_that_the_host_may_run() {
    let commands = "/containers/0/exec/commands";
    holds(&[
        ("", "", "/containers/0/exec", Value::Null),
        ("livenessProbe: {exec: {command: [cat, /ok]}}", "", commands, json!([["cat", "/ok"]])),
        (
            "livenessProbe: {exec: {command: [cat, /ok]}}\nreadinessProbe: {exec: {command: [cat, /ok]}}\n\
             startupProbe: {exec: {command: [up]}, failureThreshold: 30}",
            "",
            commands,
            json!([["cat", "/ok"], ["up"]]),
        ),
        (
            "lifecycle: {postStart: {exec: {command: [a]}}, preStop: {exec: {command: [b, c]}}}",
            "",
            commands,
            json!([["a"], ["b", "c"]]),
        ),
        // Commands of probes know variables as written; hooks know none.
        (
            "env: [{name: A, value: x}, {name: B, value: '$(A)y'}]\nlivenessProbe: {exec: {command: ['$(A)', '$(B)', '$(C)']}}\n\
             lifecycle: {preStop: {exec: {command: ['$(A)']}}}",
            "",
            commands,
            json!([["x", "$(A)y", "$(C)"], ["$(A)"]]),
        ),
        ("livenessProbe: {httpGet: {path: /, port: 80}}", "", "/containers/0/exec", Value::Null),
        (
            "ports: [{name: web, containerPort: 80}]\nlivenessProbe: {httpGet: {path: /, port: web}}",
            "",
            "/containers/0/exec",
            Value::Null,
        ),
        ("livenessProbe: {tcpSocket: {port: 80}}", "", "/containers/0/exec", Value::Null),
        ("livenessProbe: {grpc: {port: 80, service: x}}", "", "/containers/0/exec", Value::Null),
        ("lifecycle: {preStop: {sleep: {seconds: 5}}}", "", "/containers/0/exec", Value::Null),
    ]);
}

#[test]
fn streams_and_ports() {
    holds(&[
        ("", "", "/containers/0/stdin", json!(false)),
        ("stdin: true\nstdinOnce: true", "", "/containers/0/stdin", json!(true)),
        ("tty: true", "", "/containers/0/terminal", json!(true)),
        (
            "ports: [{containerPort: 8080}, {containerPort: 443, hostPort: 443}, {containerPort: 53, protocol: UDP}]",
            "",
            "/forward_ports",
            json!([443, 8080]),
        ),
        ("ports: [{containerPort: 8006}]", "", "/forward_ports", Value::Null),
        ("", "", "/forward_ports", Value::Null),
    ]);
}

#[test]
fn folders_of_the_guests_own() {
    let mount = |volume: &str| {
        let text =
            pod("volumeMounts: [{name: v, mountPath: /v}]", &format!("volumes: [{{name: v, {volume}}}]\n"));
        let plan = plan(&text);
        plan["volumes"].as_array().unwrap().iter().find(|v| v["name"] == "v").unwrap()["source"].clone()
    };
    assert_eq!(mount("emptyDir: {}"), json!({"kind": "scratch", "size": 0}));
    assert_eq!(mount("emptyDir: {sizeLimit: 1Gi}"), json!({"kind": "scratch", "size": 1 << 30}));
    assert_eq!(
        mount("emptyDir: {medium: Memory, sizeLimit: 64Mi}"),
        json!({"kind": "memory", "size": 64 << 20})
    );
    assert_eq!(mount("emptyDir: {medium: Memory}"), json!({"kind": "memory", "size": 1_u64 << 44}));
    let grouped = pod(
        "volumeMounts: [{name: v, mountPath: /v}]",
        "securityContext: {fsGroup: 1001}\nvolumes: [{name: v, emptyDir: {}}]",
    );
    assert_eq!(plan(&grouped)["volumes"][1]["source"], json!({"kind": "scratch", "size": 0, "gid": 1001}));
}

#[test]
fn mounts() {
    let volumes = "volumes: [{name: v, emptyDir: {}}, {name: unused, emptyDir: {}}]\nautomountServiceAccountToken: false";
    let at = "/containers/0/mounts/0";
    let base = json!({"kind": "volume", "target": "/v", "volume": "v"});
    let with = |more: Value| {
        let mut value = base.clone();
        value.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        value
    };
    holds(&[
        ("volumeMounts: [{name: v, mountPath: /v}]", volumes, at, base.clone()),
        (
            "volumeMounts: [{name: v, mountPath: /v, readOnly: true}]",
            volumes,
            at,
            with(json!({"read_only": true})),
        ),
        (
            "volumeMounts: [{name: v, mountPath: /v, subPath: a/b}]",
            volumes,
            at,
            with(json!({"sub_path": "a/b"})),
        ),
        (
            "volumeMounts: [{name: v, mountPath: /v, subPath: ./a//b/}]",
            volumes,
            at,
            with(json!({"sub_path": "a/b"})),
        ),
        (
            "env: [{name: P, value: x}]\nvolumeMounts: [{name: v, mountPath: /v, subPathExpr: 'logs/$(P)'}]",
            volumes,
            at,
            with(json!({"sub_path": "logs/x"})),
        ),
        (
            "volumeMounts: [{name: v, mountPath: /v, mountPropagation: None}]",
            volumes,
            "/volumes",
            json!([{"name": "v", "source": {"kind": "scratch", "size": 0}}]),
        ),
        ("", volumes, "/volumes", Value::Null),
    ]);
}

#[test]
fn block_volumes() {
    let device = "volumeDevices: [{name: d, devicePath: /dev/xvda}]";
    let plan = plan(&pod(device, "volumes: [{name: d, persistentVolumeClaim: {claimName: c}}]"));
    assert_eq!(plan["containers"][0]["devices"], json!([{"path": "/dev/xvda", "volume": "d"}]));
    assert_eq!(plan["volumes"][0], json!({"name": "d", "source": {"kind": "block"}}));
    let read_only =
        pod(device, "volumes: [{name: d, persistentVolumeClaim: {claimName: c, readOnly: true}}]");
    assert_eq!(crate::plan(&read_only)["containers"][0]["devices"][0]["read_only"], true);
    let ephemeral =
        pod(device, "volumes: [{name: d, ephemeral: {volumeClaimTemplate: {spec: {volumeMode: Block}}}}]");
    assert_eq!(crate::plan(&ephemeral)["volumes"][0]["source"]["kind"], "block");
}

#[test]
fn the_clusters_token() {
    const TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
    let mounted =
        json!([{"kind": "volume", "target": TOKEN, "volume": "kube-api-access", "read_only": true}]);
    holds(&[
        ("", "", "/containers/0/mounts", mounted.clone()),
        ("", "", "/volumes/0", json!({"name": "kube-api-access", "source": {"kind": "files"}})),
        ("", "automountServiceAccountToken: true", "/containers/0/mounts", mounted.clone()),
        ("", "automountServiceAccountToken: false", "/containers/0/mounts", json!([])),
        ("", "automountServiceAccountToken: false", "/volumes", Value::Null),
    ]);
    // A mount of the manifest's own there takes its place, as in admission.
    let own = pod(
        &format!("volumeMounts: [{{name: kube-api-access, mountPath: {TOKEN}}}]"),
        "volumes: [{name: kube-api-access, emptyDir: {}}]",
    );
    let plan = plan(&own);
    assert_eq!(plan["containers"][0]["mounts"].as_array().unwrap().len(), 1);
    assert_eq!(
        plan["volumes"],
        json!([{"name": "kube-api-access", "source": {"kind": "scratch", "size": 0}}])
    );
}

#[test]
fn what_is_the_clusters_changes_nothing() {
    let plain = plan(&pod("", ""));
    for spec in [
        "affinity: {nodeAffinity: {}}",
        "nodeName: n",
        "nodeSelector: {a: b}",
        "tolerations: [{operator: Exists}]",
        "priorityClassName: high",
        "priority: 5",
        "schedulerName: x",
        "topologySpreadConstraints: [{maxSkew: 1}]",
        "hostAliases: [{ip: 10.0.0.1, hostnames: [a]}]",
        "dnsPolicy: None",
        "dnsConfig: {nameservers: [10.0.0.1]}",
        "hostname: h",
        "subdomain: s",
        "setHostnameAsFQDN: true",
        "imagePullSecrets: [{name: x}]",
        "runtimeClassName: cocoon",
        "activeDeadlineSeconds: 60",
        "readinessGates: [{conditionType: x}]",
        "overhead: {memory: 1Mi}",
        "resources: {limits: {cpu: 1}}",
        "hostNetwork: false\nhostPID: false\nhostIPC: false",
        "hostUsers: true",
        "os: {name: linux}",
        "preemptionPolicy: Never",
        "volumes: []",
        "initContainers: []",
        "securityContext: {fsGroupChangePolicy: OnRootMismatch}",
        "securityContext: {seLinuxOptions: {level: s0}}",
        "securityContext: {supplementalGroupsPolicy: Merge}",
        "securityContext: {appArmorProfile: {type: RuntimeDefault}}",
        "affinity: null",
    ] {
        assert_eq!(plan(&pod("", spec)), plain, "{spec}");
    }
    for container in [
        "imagePullPolicy: Always",
        "resources: {limits: {cpu: 500m, memory: 64Mi}, requests: {cpu: 1m}}",
        "resizePolicy: [{resourceName: cpu, restartPolicy: NotRequired}]",
        "terminationMessagePolicy: File",
        "securityContext: null",
        "env: []",
    ] {
        assert_eq!(plan(&pod(container, "")), plain, "{container}");
    }
}
