//! Fields of a pod as a whole: who has the say over them.

use std::collections::BTreeMap;

use cocoon_plan::Restart;

use crate::fields::Fields;
use crate::log::Log;
use crate::template::Kind;

/// Annotations that would change what is measured.
pub(crate) fn measured(annotations: &BTreeMap<String, String>, at: &str, log: &mut Log) {
    for name in annotations.keys() {
        let Some(setting) = name.strip_prefix("io.katacontainers.config.hypervisor.") else { continue };
        if !matches!(setting, "default_vcpus" | "default_memory") {
            log.refuse(
                &format!("{at}.annotations[{name}]"),
                "it would change what is measured, or has no effect",
            );
        }
    }
}

/// The pod's restart policy.
pub(crate) fn restart(kind: &Kind, spec: &mut Fields<'_>, log: &mut Log) -> Restart {
    let at = spec.path("restartPolicy");
    let written = spec.one_of("restartPolicy", log, &["Always", "OnFailure", "Never"]);
    if written.is_none() && kind.job().is_some() {
        log.wrong(&at, "must be OnFailure or Never for a job");
    }
    let policy = written.or(kind.restart.first().copied()).unwrap_or_default();
    if !kind.restart.contains(&policy) {
        log.wrong(
            &at,
            format!("{policy} is none that pods of this kind can have ({})", kind.restart.join(", ")),
        );
    }
    log.fixed(&at, policy, "the guest counts starts and ends itself");
    match policy {
        "Never" => Restart::Never,
        "OnFailure" => Restart::OnFailure,
        _ => Restart::Always,
    }
}

/// Fields that concern the cluster alone, or that only the cluster can decide.
pub(crate) fn the_clusters_own(spec: &mut Fields<'_>, log: &mut Log) {
    const SCHEDULING: &str = "where and when the pod runs is the cluster's to say";
    for name in [
        "affinity",
        "nodeName",
        "nodeSelector",
        "overhead",
        "preemptionPolicy",
        "priority",
        "priorityClassName",
        "readinessGates",
        "runtimeClassName",
        "schedulerName",
        "schedulingGates",
        "tolerations",
        "topologySpreadConstraints",
        "activeDeadlineSeconds",
        "workloadRef",
        "schedulingGroup",
    ] {
        spec.open(name, log, SCHEDULING);
    }
    spec.open("terminationGracePeriodSeconds", log, "the cluster may end a pod at any time");
    const NAMES: &str = "names and addresses come from the cluster: untrusted";
    for name in [
        "hostname",
        "hostnameOverride",
        "subdomain",
        "setHostnameAsFQDN",
        "hostAliases",
        "dnsPolicy",
        "dnsConfig",
    ] {
        spec.open(name, log, NAMES);
    }
    spec.open(
        "imagePullSecrets",
        log,
        "for the node's own pull; the guest has the owner's credentials from Trustee",
    );
    spec.open(
        "resources",
        log,
        "the cluster may change limits; they bound what the pod can use, not what it does",
    );
    for (name, what) in [("hostNetwork", "network"), ("hostPID", "processes"), ("hostIPC", "IPC")] {
        spec.refuse(name, log, &format!("a pod in a VM of its own cannot have the node's {what}"));
    }
    if let Some(users) = spec.flag("hostUsers", log) {
        let at = spec.path("hostUsers");
        if users {
            log.open(&at, "true", "users are the guest's own either way");
        } else {
            log.refuse(&at, "a VM of its own keeps users apart already: leave it out");
        }
    }
    if let Some(mut os) = spec.object("os", log) {
        if os.text("name", log) == Some("windows") {
            log.refuse(&os.at, "guests run Linux");
        }
        os.finish(log);
    }
    spec.refuse(
        "ephemeralContainers",
        log,
        "are added to running pods alone: allow an image by the annotation cocoon.dev/debug-image",
    );
    spec.refuse("resourceClaims", log, "a device of the node cannot reach the guest");
}
