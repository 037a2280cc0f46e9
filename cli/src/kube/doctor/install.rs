//! What Cocoon has in the cluster: definitions, operator, runtimes, nodes, classes, webhooks.

use std::collections::BTreeSet;

use cocoon_cluster_api::{BEST_CLASS, COMPATIBLE_NAMES, GROUP, SLOTS};
use serde_json::Value;

use super::super::cluster::Cluster;
use super::super::pods::at;
use super::findings::Findings;

const DEFINITIONS: [&str; 3] = ["cocoonruntimes", "cocoonnodes", "trustees"];
const INSTALL: &str = "cocoon operator install, see docs/install-on-a-cluster.md";

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.get("items").and_then(Value::as_array).into_iter().flatten()
}

fn name(object: &Value) -> &str {
    at(object, "/metadata/name")
}

/// A condition's status, reason and message.
fn condition<'v>(object: &'v Value, kind: &str) -> Option<(&'v str, &'v str, &'v str)> {
    let conditions = object.pointer("/status/conditions").and_then(Value::as_array)?;
    let found = conditions.iter().find(|c| at(c, "/type") == kind)?;
    Some((at(found, "/status"), at(found, "/reason"), at(found, "/message")))
}

/// What the cluster has at a path; nothing, and noted, where it does not tell.
async fn read(cluster: &Cluster, path: &str, about: &str, findings: &mut Findings) -> Option<Value> {
    match cluster.get(path, about).await {
        Ok(value) => value,
        Err(failure) => {
            findings.unknown(about, &failure);
            None
        }
    }
}

pub async fn look(cluster: &Cluster, findings: &mut Findings) {
    let nodes = read(cluster, "/api/v1/nodes", "nodes", findings).await.unwrap_or_default();
    let classes = read(cluster, "/apis/node.k8s.io/v1/runtimeclasses", "runtime classes", findings).await;
    let classes = classes.unwrap_or_default();
    let by_operator = definitions(cluster, findings).await;
    let mut expected = BTreeSet::new();
    if by_operator {
        operator(cluster, findings).await;
        let own = |plural: &str| format!("/apis/{GROUP}/v1alpha1/{plural}");
        if let Some(list) = read(cluster, &own("cocoonruntimes"), "runtimes", findings).await {
            expected = runtimes(&list, findings);
        }
        if let Some(list) = read(cluster, &own("cocoonnodes"), "nodes of Cocoon", findings).await {
            cocoon_nodes(&list, findings);
        }
        if let Some(list) = read(cluster, &own("trustees"), "Trustees", findings).await {
            trustees(&list, findings);
        }
    }
    runtime_classes(&classes, &nodes, &expected, findings);
    tees(&nodes, findings);
    webhooks(cluster, findings).await;
}

/// Whether the operator's definitions are there.
async fn definitions(cluster: &Cluster, findings: &mut Findings) -> bool {
    let mut there = 0;
    for plural in DEFINITIONS {
        let about = format!("definition {plural}");
        let path = format!("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{plural}.{GROUP}");
        let Some(found) = read(cluster, &path, &about, findings).await else { continue };
        there += 1;
        let served = found.pointer("/spec/versions").and_then(Value::as_array);
        let served = served
            .into_iter()
            .flatten()
            .any(|v| at(v, "/name") == "v1alpha1" && v.get("served") == Some(&Value::Bool(true)));
        match (condition(&found, "Established"), served) {
            (Some(("True", ..)), true) => {}
            (_, false) => {
                findings.fail(&about, "v1alpha1 is not served", "apply `cocoon operator crds` again")
            }
            (found, _) => {
                let why = found.map_or("", |(_, _, message)| message);
                findings.fail(
                    &about,
                    format!("not established: {why}"),
                    "apply `cocoon operator crds` again",
                );
            }
        }
    }
    match there {
        0 => findings.warn("operator", "it is not installed in this cluster", INSTALL),
        n if n < DEFINITIONS.len() => {
            findings.fail("definitions", "some of Cocoon's are absent", "apply `cocoon operator crds` again");
        }
        _ => findings.ok("definitions", "all are there"),
    }
    there > 0
}

async fn operator(cluster: &Cluster, findings: &mut Findings) {
    let path = "/apis/apps/v1/deployments?labelSelector=app.kubernetes.io%2Fname%3Dcocoon";
    let Some(list) = read(cluster, path, "operator", findings).await else { return };
    let Some(found) = items(&list).find(|d| name(d) == "cocoon-operator") else {
        findings.fail("operator", "its definitions are there, but no Deployment cocoon-operator", INSTALL);
        return;
    };
    let ready = found.pointer("/status/readyReplicas").and_then(Value::as_u64).unwrap_or(0);
    let namespace = at(found, "/metadata/namespace");
    let image = at(found, "/spec/template/spec/containers/0/image");
    match (ready, condition(found, "Available")) {
        (1.., Some(("True", ..))) => {
            findings.ok("operator", format!("{ready} ready in {namespace}; {image}"))
        }
        (_, found) => findings.fail(
            "operator",
            format!("it is not available: {}", found.map_or("", |(_, _, message)| message)),
            "kubectl describe pods -n cocoon-system, and its logs",
        ),
    }
}

/// Names of the classes that are to be there.
fn runtimes(list: &Value, findings: &mut Findings) -> BTreeSet<String> {
    let mut classes = BTreeSet::new();
    if items(list).next().is_none() {
        findings.fail(
            "runtimes",
            "there is no CocoonRuntime, so no node runs confidential pods",
            "make one: docs/install-on-a-cluster.md",
        );
    }
    for runtime in items(list) {
        let about = format!("CocoonRuntime {}", name(runtime));
        let count =
            |of: &str| runtime.pointer(&format!("/status/nodes/{of}")).and_then(Value::as_u64).unwrap_or(0);
        let nodes = format!("{} of {} nodes", count("ready"), count("selected"));
        let told = runtime.pointer("/status/classes").and_then(Value::as_array);
        classes.extend(told.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned));
        let degraded = condition(runtime, "Degraded").filter(|(status, ..)| *status == "True");
        match (condition(runtime, "Ready"), degraded) {
            (_, Some((_, reason, message))) => findings.fail(
                &about,
                format!("degraded: {reason}: {message}"),
                "see the nodes below; kubectl describe cocoonruntime",
            ),
            (Some(("True", ..)), None) => findings.ok(&about, format!("ready: {nodes}")),
            (Some((_, reason, message)), None) => findings.fail(
                &about,
                format!("not ready, {nodes}: {reason}: {message}"),
                "kubectl describe cocoonruntime; wait where it is still at work",
            ),
            (None, None) => findings.fail(&about, "nobody has looked at it", "see the operator's logs"),
        }
        if runtime.pointer("/spec/paused") == Some(&Value::Bool(true)) {
            findings.warn(&about, "it is paused: nothing is changed", "set spec.paused to false to go on");
        }
        let seen = runtime.pointer("/status/observedGeneration").and_then(Value::as_i64);
        if seen != runtime.pointer("/metadata/generation").and_then(Value::as_i64) {
            findings.warn(&about, "its status is not of its newest spec", "wait, or see the operator's logs");
        }
    }
    classes
}

fn cocoon_nodes(list: &Value, findings: &mut Findings) {
    let mut ready = 0;
    for node in items(list) {
        let about = format!("node {}", name(node));
        let phase = at(node, "/status/phase");
        let words = format!("{phase}: {} {}", at(node, "/status/code"), at(node, "/status/message"));
        match phase {
            "Ready" => ready += 1,
            "Unsupported" => {
                findings.warn(&about, words, "it has none of the TEEs that the CocoonRuntime names")
            }
            "Failed" => {
                findings.fail(&about, words, "mend what the message names; the node is as it was before")
            }
            "Blocked" => findings.warn(&about, words, "end its confidential pods, or force the removal"),
            _ => findings.warn(&about, words, "wait; kubectl describe cocoonnode says how far it is"),
        }
        let healed = node.pointer("/status/healed").and_then(Value::as_u64).unwrap_or(0);
        if healed > 0 {
            let words = format!("somebody changed Cocoon's files {healed} times; they were put right");
            findings.warn(&about, words, "find out who edits files on that node");
        }
    }
    if ready > 0 {
        findings.ok("nodes of Cocoon", format!("{ready} are ready"));
    }
}

fn trustees(list: &Value, findings: &mut Findings) {
    for trustee in items(list) {
        let about = format!("Trustee {}/{}", at(trustee, "/metadata/namespace"), name(trustee));
        match condition(trustee, "Ready") {
            Some(("True", ..)) => findings.warn(
                &about,
                format!("ready at {}, in this cluster", at(trustee, "/status/url")),
                "whoever controls the cluster controls it: for a trial, or a cluster that you trust",
            ),
            Some((_, reason, message)) => {
                findings.fail(&about, format!("not ready: {reason}: {message}"), "kubectl describe trustee");
            }
            None => findings.fail(&about, "nobody has looked at it", "see the operator's logs"),
        }
    }
}

fn is_ours(class: &Value) -> bool {
    let handler = at(class, "/handler");
    handler == BEST_CLASS
        || handler.starts_with("cocoon-")
        || COMPATIBLE_NAMES.iter().any(|(n, _)| *n == handler)
}

fn runtime_classes(classes: &Value, nodes: &Value, expected: &BTreeSet<String>, findings: &mut Findings) {
    let own: Vec<&Value> = items(classes).filter(|c| is_ours(c)).collect();
    let absent: Vec<&str> =
        expected.iter().filter(|n| !own.iter().any(|c| name(c) == *n)).map(String::as_str).collect();
    if !absent.is_empty() {
        findings.fail(
            "runtime classes",
            format!("the CocoonRuntime promises {}, which are not there", absent.join(", ")),
            "see the operator's logs: it makes them again when somebody deletes them",
        );
    } else if own.is_empty() {
        findings.fail("runtime classes", "none is Cocoon's", INSTALL);
    }
    for class in own {
        let about = format!("runtime class {}", name(class));
        let selector = class.pointer("/scheduling/nodeSelector").and_then(Value::as_object);
        let fits = |node: &&Value| {
            selector
                .into_iter()
                .flatten()
                .all(|(key, value)| node.pointer("/metadata/labels").and_then(|l| l.get(key)) == Some(value))
        };
        let able = items(nodes).filter(fits).count();
        let overhead = class.pointer("/overhead/podFixed/memory").and_then(Value::as_str);
        match (able, overhead) {
            (0, _) => findings.warn(
                &about,
                "no node has what its scheduling asks for, so its pods wait for ever",
                "use another class, or add nodes that have the TEE",
            ),
            (_, None) => findings.warn(
                &about,
                "it has no overhead: the VM's own memory is counted nowhere, and pods are killed",
                "let the operator make it, or set overhead.podFixed",
            ),
            (able, Some(memory)) => {
                findings.ok(
                    &about,
                    format!("handler {}, {able} nodes, overhead {memory}", at(class, "/handler")),
                );
            }
        }
    }
}

/// Which nodes have a TEE that protects, and room in it.
fn tees(nodes: &Value, findings: &mut Findings) {
    let has = |node: &Value, platform: &str| {
        let labels = node.pointer("/metadata/labels");
        labels.and_then(|l| l.get(format!("cocoon.dev/platform.{platform}"))).and_then(Value::as_str)
            == Some("true")
    };
    let total = items(nodes).count();
    let real = items(nodes).filter(|n| has(n, "snp") || has(n, "tdx")).count();
    let slots: u64 = items(nodes)
        .filter_map(|n| n.pointer("/status/allocatable")?.get(SLOTS)?.as_str()?.parse::<u64>().ok())
        .fold(0, u64::saturating_add);
    match real {
        0 => findings.warn(
            "TEEs",
            format!(
                "none of {total} nodes says that it has one: pods are simulated, which protects from nobody"
            ),
            "add nodes with SEV-SNP or TDX for anything but trials",
        ),
        real => {
            findings.ok("TEEs", format!("{real} of {total} nodes have SEV-SNP or TDX; {slots} guests fit"))
        }
    }
    let unready: Vec<&str> = items(nodes)
        .filter(|n| condition(n, "Ready").is_none_or(|(status, ..)| status != "True"))
        .map(name)
        .collect();
    if !unready.is_empty() {
        findings.fail("nodes", format!("not ready: {}", unready.join(", ")), "kubectl describe node");
    }
}

/// Webhooks that change pods: the optional one of ours, and those of others, whose changes guests refuse.
async fn webhooks(cluster: &Cluster, findings: &mut Findings) {
    let path = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";
    let Some(list) = read(cluster, path, "webhooks", findings).await else { return };
    let mut others = Vec::new();
    for configuration in items(&list) {
        let ours = configuration.pointer("/metadata/labels/app.kubernetes.io~1name").and_then(Value::as_str)
            == Some("cocoon");
        for webhook in configuration.get("webhooks").and_then(Value::as_array).into_iter().flatten() {
            if ours {
                our_webhook(cluster, name(configuration), webhook, findings).await;
            } else if of_pods(webhook) {
                others.push(name(configuration).to_owned());
            }
        }
    }
    others.dedup();
    match others.is_empty() {
        true => findings.ok("other webhooks", "none changes pods"),
        false => findings.warn(
            "other webhooks",
            format!("they may change pods: {}", others.join(", ")),
            "a guest refuses what its plan does not have: keep confidential namespaces out of their reach",
        ),
    }
}

fn of_pods(webhook: &Value) -> bool {
    let rules = webhook.get("rules").and_then(Value::as_array).into_iter().flatten();
    let lists = |rule: &Value, key: &str, wished: &[&str]| {
        let list = rule.get(key).and_then(Value::as_array).into_iter().flatten();
        list.filter_map(Value::as_str).any(|text| wished.contains(&text))
    };
    rules
        .into_iter()
        .any(|rule| lists(rule, "resources", &["pods", "*", "*/*"]) && lists(rule, "apiGroups", &["", "*"]))
}

async fn our_webhook(cluster: &Cluster, configuration: &str, webhook: &Value, findings: &mut Findings) {
    let about = format!("webhook {configuration}");
    let next = "see the operator's logs: it renews certificate and service";
    if at(webhook, "/clientConfig/caBundle").is_empty() {
        findings.fail(&about, "it has no certificate authority, so the API cannot call it", next);
        return;
    }
    let (namespace, service) =
        (at(webhook, "/clientConfig/service/namespace"), at(webhook, "/clientConfig/service/name"));
    let path = format!(
        "/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices?labelSelector=kubernetes.io%2Fservice-name%3D{}",
        crate::client::segment(namespace),
        crate::client::segment(service)
    );
    let Some(slices) = read(cluster, &path, &about, findings).await else { return };
    let endpoints =
        items(&slices).flat_map(|s| s.get("endpoints").and_then(Value::as_array).into_iter().flatten());
    let ready = endpoints.filter(|e| e.pointer("/conditions/ready") == Some(&Value::Bool(true))).count();
    match ready {
        0 => findings.fail(&about, format!("nobody answers behind service {namespace}/{service}"), next),
        ready => {
            findings.ok(&about, format!("{ready} answer; on failure: {}", at(webhook, "/failurePolicy")))
        }
    }
}

#[cfg(test)]
#[path = "install_tests.rs"]
mod tests;
