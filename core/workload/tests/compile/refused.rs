use cocoon_stage::Code;

use crate::{pod, workload};

/// Lines of the container, lines of the pod's spec, the field that is named, what is said of it, and whether the manifest
/// is sound but nothing that a confidential pod can have.
fn said(cases: &[(&str, &str, &str, &str, bool)]) {
    for (container, spec, field, words, unsupported) in cases {
        let text = pod(container, spec);
        let found = workload(&text);
        let problem = found.problems.iter().find(|p| p.field == *field);
        let problem = problem.unwrap_or_else(|| panic!("{field}: {:#?}\n{text}", found.problems));
        assert!(problem.problem.contains(words), "{problem}\n{text}");
        assert_eq!(problem.unsupported, *unsupported, "{problem}\n{text}");
        assert!(found.plan.is_none(), "{text}");
        let failure = found.plan().unwrap_err();
        let code = if *unsupported { Code::PlanFieldUnsupported } else { Code::PlanManifestInvalid };
        assert_eq!(failure.code(), code, "{text}");
        assert!(failure.to_string().contains(field), "{failure}");
    }
}

const C: &str = "spec.containers[app]";

#[test]
fn what_no_pod_in_a_vm_can_have() {
    said(&[
        ("", "hostNetwork: true", "spec.hostNetwork", "the node's network", true),
        ("", "hostPID: true", "spec.hostPID", "the node's processes", true),
        ("", "hostIPC: true", "spec.hostIPC", "the node's IPC", true),
        ("", "hostUsers: false", "spec.hostUsers", "leave it out", true),
        (
            "securityContext: {privileged: true}",
            "",
            &format!("{C}.securityContext.privileged"),
            "privileged",
            true,
        ),
        (
            "",
            "volumes: [{name: v, hostPath: {path: /etc}}]",
            "spec.volumes[v].hostPath",
            "a path of the node",
            true,
        ),
        (
            "",
            "volumes: [{name: v, nfs: {server: a, path: /}}]",
            "spec.volumes[v].nfs",
            "use a block volume",
            true,
        ),
        ("", "volumes: [{name: v, csi: {driver: x}}]", "spec.volumes[v].csi", "use a block volume", true),
        ("", "volumes: [{name: v, image: {reference: a}}]", "spec.volumes[v].image", "init container", true),
        (
            "",
            "volumes: [{name: v, emptyDir: {medium: HugePages}}]",
            "spec.volumes[v].emptyDir",
            "huge pages",
            true,
        ),
        (
            "volumeMounts: [{name: v, mountPath: /v}]",
            "volumes: [{name: v, persistentVolumeClaim: {claimName: c}}]",
            &format!("{C}.volumeMounts[/v]"),
            "volumeMode: Block",
            true,
        ),
        (
            "volumeMounts: [{name: v, mountPath: /v, mountPropagation: Bidirectional}]",
            "volumes: [{name: v, emptyDir: {}}]",
            &format!("{C}.volumeMounts[/v].mountPropagation"),
            "cannot reach the guest",
            true,
        ),
        (
            "resources: {limits: {nvidia.com/gpu: 1}}",
            "",
            &format!("{C}.resources.limits[nvidia.com/gpu]"),
            "device",
            true,
        ),
        (
            "resources: {limits: {hugepages-2Mi: 1Gi}}",
            "",
            &format!("{C}.resources.limits[hugepages-2Mi]"),
            "huge page",
            true,
        ),
        ("resources: {claims: [{name: x}]}", "", &format!("{C}.resources.claims"), "device", true),
        ("", "resourceClaims: [{name: x}]", "spec.resourceClaims", "device", true),
        ("", "ephemeralContainers: [{name: x}]", "spec.ephemeralContainers", "debug-image", true),
        ("", "os: {name: windows}", "spec.os", "Linux", true),
        (
            "restartPolicyRules: [{action: Restart}]",
            "",
            &format!("{C}.restartPolicyRules"),
            "leave them out",
            true,
        ),
        (
            "securityContext: {seccompProfile: {type: Localhost, localhostProfile: x}}",
            "",
            &format!("{C}.securityContext.seccompProfile"),
            "RuntimeDefault",
            true,
        ),
        (
            "",
            "securityContext: {appArmorProfile: {type: Localhost, localhostProfile: x}}",
            "spec.securityContext.appArmorProfile",
            "RuntimeDefault",
            true,
        ),
        (
            "",
            "securityContext: {windowsOptions: {hostProcess: true}}",
            "spec.securityContext.windowsOptions",
            "Linux",
            true,
        ),
        (
            "",
            "securityContext: {supplementalGroupsPolicy: Strict}",
            "spec.securityContext.supplementalGroupsPolicy",
            "Merge",
            true,
        ),
        (
            "",
            "securityContext: {sysctls: [{name: kernel.modprobe, value: x}]}",
            "spec.securityContext.sysctls[kernel.modprobe]",
            "no setting of a pod's own",
            true,
        ),
        (
            "",
            "securityContext: {sysctls: [{name: vm.overcommit_memory, value: '1'}]}",
            "spec.securityContext.sysctls[vm.overcommit_memory]",
            "no setting",
            true,
        ),
    ]);
}

#[test]
fn fields_that_nobody_knows() {
    said(&[
        ("novelty: true", "", &format!("{C}.novelty"), "not a field that this version knows", true),
        ("Image: x", "", &format!("{C}.Image"), "not a field", true),
        ("", "novelty: {a: b}", "spec.novelty", "not a field", true),
        ("securityContext: {novelty: 1}", "", &format!("{C}.securityContext.novelty"), "not a field", true),
        ("", "securityContext: {novelty: 1}", "spec.securityContext.novelty", "not a field", true),
        ("env: [{name: A, from: x}]", "", &format!("{C}.env[A].from"), "not a field", true),
        (
            "env: [{name: A, valueFrom: {fieldRef: {fieldPath: metadata.name, x: 1}}}]",
            "",
            &format!("{C}.env[A].valueFrom.fieldRef.x"),
            "not a field",
            true,
        ),
        (
            "env: [{name: A, valueFrom: {fileKeyRef: {volumeName: v}}}]",
            "",
            &format!("{C}.env[A].valueFrom.fileKeyRef"),
            "not supported",
            true,
        ),
        ("ports: [{containerPort: 1, x: 1}]", "", &format!("{C}.ports[0].x"), "not a field", true),
        (
            "livenessProbe: {exec: {command: [a]}, x: 1}",
            "",
            &format!("{C}.livenessProbe.x"),
            "not a field",
            true,
        ),
        (
            "livenessProbe: {exec: {command: [a], user: root}}",
            "",
            &format!("{C}.livenessProbe.exec.user"),
            "not a field",
            true,
        ),
        ("lifecycle: {x: {}}", "", &format!("{C}.lifecycle.x"), "not a field", true),
        ("resources: {x: 1}", "", &format!("{C}.resources.x"), "not a field", true),
        ("", "volumes: [{name: v, novelty: {}}]", "spec.volumes[v].novelty", "not a field", true),
        ("", "volumes: [{name: v, emptyDir: {x: 1}}]", "spec.volumes[v].emptyDir.x", "not a field", true),
        (
            "volumeMounts: [{name: v, mountPath: /v, x: 1}]",
            "volumes: [{name: v, emptyDir: {}}]",
            &format!("{C}.volumeMounts[/v].x"),
            "not a field",
            true,
        ),
    ]);
}

#[test]
fn what_contradicts_itself() {
    said(&[
        (
            "env: [{name: A, value: a, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]",
            "",
            &format!("{C}.env[A]"),
            "both",
            false,
        ),
        (
            "env: [{name: A, valueFrom: {fieldRef: {fieldPath: metadata.name}, secretKeyRef: {name: a, key: b}}}]",
            "",
            &format!("{C}.env[A].valueFrom"),
            "one of",
            false,
        ),
        ("env: [{name: A, valueFrom: {}}]", "", &format!("{C}.env[A].valueFrom"), "one of", false),
        ("envFrom: [{}]", "", &format!("{C}.envFrom[0]"), "one of", false),
        (
            "",
            "volumes: [{name: v, emptyDir: {}, configMap: {name: a, optional: true}}]",
            "spec.volumes[v]",
            "several sources",
            false,
        ),
        ("", "volumes: [{name: v}]", "spec.volumes[v]", "no source", false),
        (
            "",
            "volumes: [{name: v, emptyDir: {}}, {name: v, emptyDir: {}}]",
            "spec.volumes[v]",
            "twice",
            false,
        ),
        (
            "volumeMounts: [{name: nope, mountPath: /v}]",
            "",
            &format!("{C}.volumeMounts[/v]"),
            "no volume",
            false,
        ),
        (
            "volumeDevices: [{name: nope, devicePath: /dev/x}]",
            "",
            &format!("{C}.volumeDevices[/dev/x]"),
            "no volume",
            false,
        ),
        (
            "volumeDevices: [{name: v, devicePath: /dev/x}]",
            "volumes: [{name: v, emptyDir: {}}]",
            &format!("{C}.volumeDevices[/dev/x]"),
            "no persistentVolumeClaim",
            false,
        ),
        (
            "volumeMounts: [{name: v, mountPath: /v, subPath: a, subPathExpr: b}]",
            "volumes: [{name: v, emptyDir: {}}]",
            &format!("{C}.volumeMounts[/v]"),
            "both",
            false,
        ),
        (
            "volumeMounts: [{name: v, mountPath: /v, subPath: ../a}]",
            "volumes: [{name: v, emptyDir: {}}]",
            &format!("{C}.volumeMounts[/v]"),
            "leaves the volume",
            false,
        ),
        (
            "volumeMounts: [{name: v, mountPath: v}]",
            "volumes: [{name: v, emptyDir: {}}]",
            &format!("{C}.volumeMounts[v]"),
            "absolute",
            false,
        ),
        (
            "volumeMounts: [{name: v, mountPath: /}]",
            "volumes: [{name: v, emptyDir: {}}]",
            &format!("{C}.volumeMounts[/]"),
            "absolute",
            false,
        ),
        (
            "volumeMounts: [{name: v, mountPath: /a/../b}]",
            "volumes: [{name: v, emptyDir: {}}]",
            &format!("{C}.volumeMounts[/a/../b]"),
            "absolute",
            false,
        ),
        (
            "livenessProbe: {exec: {command: [a]}, httpGet: {port: 1}}",
            "",
            &format!("{C}.livenessProbe"),
            "one of",
            false,
        ),
        ("livenessProbe: {}", "", &format!("{C}.livenessProbe"), "one of", false),
        (
            "livenessProbe: {exec: {command: []}}",
            "",
            &format!("{C}.livenessProbe.exec.command"),
            "no program",
            false,
        ),
        (
            "livenessProbe: {httpGet: {port: nope}}",
            "",
            &format!("{C}.livenessProbe.httpGet.port"),
            "no port",
            false,
        ),
        ("livenessProbe: {httpGet: {}}", "", &format!("{C}.livenessProbe.httpGet.port"), "missing", false),
        (
            "livenessProbe: {tcpSocket: {port: 70000}}",
            "",
            &format!("{C}.livenessProbe.tcpSocket.port"),
            "no port",
            false,
        ),
        (
            "securityContext: {runAsNonRoot: true, runAsUser: 0}",
            "",
            &format!("{C}.securityContext"),
            "runAsNonRoot",
            false,
        ),
        (
            "securityContext: {allowPrivilegeEscalation: false, capabilities: {add: [SYS_ADMIN]}}",
            "",
            &format!("{C}.securityContext"),
            "SYS_ADMIN",
            false,
        ),
        (
            "securityContext: {capabilities: {add: [FLY]}}",
            "",
            &format!("{C}.securityContext.capabilities.add"),
            "no capability",
            false,
        ),
        (
            "resources: {limits: {cpu: 1}, requests: {cpu: 2}}",
            "",
            &format!("{C}.resources.requests[cpu]"),
            "more than",
            false,
        ),
        (
            "",
            "containers2: []\ninitContainers: [{name: app, image: a}]",
            "spec.containers",
            "there twice",
            false,
        ),
        ("lifecycle: {stopSignal: SIGNOPE}", "", &format!("{C}.lifecycle.stopSignal"), "no signal", false),
        (
            "args: ['$(IP)']\nenv: [{name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}]",
            "",
            &format!("{C}.args[0]"),
            "only the cluster knows",
            true,
        ),
        (
            "command: [a, '$(DB_SERVICE_HOST)']",
            "",
            &format!("{C}.command[1]"),
            "only the cluster knows",
            true,
        ),
        (
            "env: [{name: N, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}]\nvolumeMounts: [{name: v, mountPath: /v, subPathExpr: $(N)}]",
            "volumes: [{name: v, emptyDir: {}}]",
            &format!("{C}.volumeMounts[/v].subPathExpr"),
            "only the cluster knows",
            true,
        ),
    ]);
}

#[test]
fn values_of_the_wrong_kind() {
    said(&[
        ("args: serve", "", &format!("{C}.args"), "a list", false),
        ("args: [1]", "", &format!("{C}.args"), "list of texts", false),
        ("env: {A: b}", "", &format!("{C}.env"), "a list", false),
        ("env: [{name: A, value: 1}]", "", &format!("{C}.env[A].value"), "a text", false),
        ("env: [{name: A, value: true}]", "", &format!("{C}.env[A].value"), "a text", false),
        ("env: [{value: a}]", "", &format!("{C}.env[0]"), "no name", false),
        ("env: [{name: 'A=B', value: a}]", "", &format!("{C}.env[A=B]"), "no name of a variable", false),
        ("env: [A]", "", &format!("{C}.env[0]"), "an object", false),
        (
            "env: [{name: A, valueFrom: {fieldRef: {fieldPath: status.phase}}}]",
            "",
            &format!("{C}.env[A].valueFrom.fieldRef"),
            "no field",
            false,
        ),
        (
            "env: [{name: A, valueFrom: {resourceFieldRef: {resource: cpu}}}]",
            "",
            &format!("{C}.env[A].valueFrom.resourceFieldRef"),
            "neither",
            false,
        ),
        (
            "env: [{name: A, valueFrom: {resourceFieldRef: {resource: limits.cpu, containerName: nope}}}]",
            "",
            &format!("{C}.env[A].valueFrom.resourceFieldRef"),
            "no container",
            false,
        ),
        (
            "env: [{name: A, valueFrom: {resourceFieldRef: {resource: limits.cpu, divisor: x}}}]",
            "",
            &format!("{C}.env[A].valueFrom.resourceFieldRef"),
            "divisor",
            false,
        ),
        ("securityContext: {runAsUser: -1}", "", &format!("{C}.securityContext.runAsUser"), "an id", false),
        ("securityContext: {runAsUser: root}", "", &format!("{C}.securityContext.runAsUser"), "an id", false),
        (
            "securityContext: {runAsUser: 4294967296}",
            "",
            &format!("{C}.securityContext.runAsUser"),
            "an id",
            false,
        ),
        (
            "securityContext: {readOnlyRootFilesystem: 'yes'}",
            "",
            &format!("{C}.securityContext.readOnlyRootFilesystem"),
            "true or false",
            false,
        ),
        ("securityContext: []", "", &format!("{C}.securityContext"), "an object", false),
        (
            "",
            "securityContext: {supplementalGroups: [a]}",
            "spec.securityContext.supplementalGroups",
            "list of ids",
            false,
        ),
        ("", "restartPolicy: Sometimes", "spec.restartPolicy", "none of", false),
        ("", "volumes: {}", "spec.volumes", "a list", false),
        (
            "",
            "volumes: [{name: v, emptyDir: {sizeLimit: much}}]",
            "spec.volumes[v].emptyDir.sizeLimit",
            "no quantity",
            false,
        ),
        (
            "",
            "volumes: [{name: v, persistentVolumeClaim: {}}]",
            "spec.volumes[v].persistentVolumeClaim",
            "no claimName",
            false,
        ),
        ("", "hostNetwork: 1", "spec.hostNetwork", "cannot have", true),
        ("ports: [{containerPort: 0}]", "", &format!("{C}.ports[0]"), "1 to 65535", false),
        ("ports: [{containerPort: 99999}]", "", &format!("{C}.ports[0]"), "1 to 65535", false),
        (
            "ports: [{containerPort: 80, protocol: ICMP}]",
            "",
            &format!("{C}.ports[0].protocol"),
            "none of",
            false,
        ),
        ("resources: {limits: {cpu: lots}}", "", &format!("{C}.resources.limits[cpu]"), "no quantity", false),
        ("resources: {limits: []}", "", &format!("{C}.resources.limits"), "an object", false),
        ("workingDir: here", "", &format!("{C}.workingDir"), "absolute", false),
        (
            "livenessProbe: {exec: {command: [a]}, periodSeconds: -1}",
            "",
            &format!("{C}.livenessProbe.periodSeconds"),
            "negative",
            false,
        ),
        (
            "livenessProbe: {exec: {command: a}}",
            "",
            &format!("{C}.livenessProbe.exec.command"),
            "a list",
            false,
        ),
        ("restartPolicy: Maybe", "", &format!("{C}.restartPolicy"), "none of", false),
    ]);
}

#[test]
fn annotations_that_are_none() {
    for (annotation, words) in [
        ("cocoon.dev/secret: pinned", "no annotation of Cocoon's"),
        ("cocoon.dev/secrets: maybe", "none of untrusted"),
        ("cocoon.dev/exec: 'yes'", "none of refused"),
        ("cocoon.dev/trustee-secrets: a/b", "repository/type/tag"),
        ("cocoon.dev/trustee-secrets: 'a/b/c:relative'", "begins with /"),
        ("io.katacontainers.config.hypervisor.kernel_params: init=/bin/sh", "measured"),
    ] {
        let found = workload(&pod("", "").replace("note: hello", annotation));
        assert!(found.problems[0].problem.contains(words), "{annotation}: {:?}", found.problems);
        assert!(found.problems[0].field.starts_with("metadata.annotations["), "{:?}", found.problems);
    }
}

#[test]
fn kinds_have_their_restart_policies() {
    let of = |api: &str, kind: &str, policy: &str| {
        let text = format!(
            "apiVersion: {api}\nkind: {kind}\nmetadata: {{name: x}}\nspec:\n  template:\n    spec: {{{policy}containers: [{{name: app, image: a}}]}}\n"
        );
        workload(&text).problems.first().map(|p| (p.field.clone(), p.problem.clone()))
    };
    for kind in ["Deployment", "StatefulSet", "DaemonSet", "ReplicaSet"] {
        assert_eq!(of("apps/v1", kind, ""), None);
        let (field, words) = of("apps/v1", kind, "restartPolicy: Never, ").unwrap();
        assert_eq!(field, "spec.template.spec.restartPolicy");
        assert!(words.contains("none that pods of this kind can have"), "{words}");
    }
    assert!(of("batch/v1", "Job", "").unwrap().1.contains("must be OnFailure or Never"));
    assert_eq!(of("batch/v1", "Job", "restartPolicy: OnFailure, "), None);
    assert!(of("batch/v1", "Job", "restartPolicy: Always, ").is_some());
}

#[test]
fn what_a_plan_cannot_be_is_said_with_the_containers_name() {
    // Files of the cluster with something mounted below them.
    let text = pod(
        "volumeMounts: [{name: c, mountPath: /etc/app}, {name: e, mountPath: /etc/app/run}]",
        "volumes: [{name: c, secret: {secretName: s}}, {name: e, emptyDir: {}}]",
    );
    let error = workload(&text).plan().unwrap_err();
    assert_eq!(error.code(), Code::PlanInvalid);
    assert!(error.to_string().contains("containers[app].mounts"), "{error}");
    let huge = pod(&format!("args: ['{}']", "x".repeat(200_000)), "");
    assert_eq!(workload(&huge).plan().unwrap_err().code(), Code::PlanTooLarge);
}
