//! Pods, and the owner's plan of them made by hand: what a story needs where it is not about the compiler of manifests.

use anyhow::{Context, Result};
use cocoon_plan::pod::ContainerKind;
use cocoon_plan::{Plan, Restart};
use serde_json::{Value, json};

use super::Cluster;
use crate::containerd::{ANNOTATION, ContainerWish};

/// A container that runs a shell script in this image.
pub fn container(name: &str, image: &str, script: &str) -> Value {
    json!({"name": name, "image": image, "command": ["/bin/sh", "-c", script]})
}

/// A pod that is not restarted and has one second to end.
pub fn pod(name: &str, containers: Vec<Value>) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "annotations": {}},
        "spec": {"restartPolicy": "Never", "terminationGracePeriodSeconds": 1, "containers": containers},
    })
}

impl Cluster {
    /// Plans a pod's containers as they stand in its manifest (image, command, environment values, terminal, restart policy), lets
    /// `change` add to the plan, registers it with these secrets (by path, such as `default/secret/token`), and gives the manifest
    /// with the annotation and `runtimeClassName: cocoon`. The plan lets the host exec anything and keeps its termination message.
    ///
    /// # Errors
    /// Where there is no owner, the registry does not know an image, or the plan is not valid.
    pub fn planned(
        &self,
        mut pod: Value,
        secrets: &[(&str, &str)],
        change: impl FnOnce(&mut Plan),
    ) -> Result<Value> {
        let owner = self.owner()?;
        let name = pod.pointer("/metadata/name").and_then(Value::as_str).context("no name")?.to_owned();
        let restart = match pod.pointer("/spec/restartPolicy").and_then(Value::as_str) {
            Some("Never") => Restart::Never,
            Some("OnFailure") => Restart::OnFailure,
            _ => Restart::Always,
        };
        let mut containers = Vec::new();
        for (list, kind) in [("initContainers", ContainerKind::Init), ("containers", ContainerKind::App)] {
            let of_pod = pod.pointer(&format!("/spec/{list}")).and_then(Value::as_array);
            for container in of_pod.into_iter().flatten() {
                let mut plan = owner.container(&wish(container)?)?;
                plan.kind = kind;
                plan.restart = restart;
                if kind == ContainerKind::Init {
                    plan.restart = Restart::OnFailure;
                    if container.get("restartPolicy").is_some() {
                        (plan.kind, plan.restart) = (ContainerKind::Sidecar, Restart::Always);
                    }
                }
                // Where kubelet expects it, and the variables of services.
                plan.termination_message = Some("/dev/termination-log".into());
                plan.host_env =
                    ["KUBERNETES_*", "*_SERVICE_HOST", "*_SERVICE_PORT"].map(str::to_owned).to_vec();
                containers.push(plan);
            }
        }
        let mut plan = owner.plan(&name, containers)?;
        change(&mut plan);
        let annotation = self.block_on(owner.register(&plan, secrets))?;
        let annotations = pod.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut);
        annotations.context("no annotations")?.insert(ANNOTATION.into(), annotation.into());
        let spec = pod.pointer_mut("/spec").and_then(Value::as_object_mut).context("no spec")?;
        spec.insert("runtimeClassName".into(), "cocoon".into());
        Ok(pod)
    }
}

fn wish(container: &Value) -> Result<ContainerWish> {
    let text = |key: &str| container.get(key).and_then(Value::as_str).map(str::to_owned);
    let flag = |key: &str| container.get(key).and_then(Value::as_bool).unwrap_or_default();
    let strings = |key: &str| -> Vec<String> {
        let list = container.get(key).and_then(Value::as_array);
        list.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let env = container.get("env").and_then(Value::as_array);
    let env = env.into_iter().flatten().filter_map(|e| {
        let of = |key: &str| e.get(key).and_then(Value::as_str).map(str::to_owned);
        Some((of("name")?, of("value")?))
    });
    Ok(ContainerWish {
        name: text("name").context("a container without a name")?,
        image: text("image").context("a container without an image")?,
        command: [strings("command"), strings("args")].concat(),
        env: env.collect(),
        tty: flag("tty"),
        stdin: flag("stdin"),
        user: container.pointer("/securityContext/runAsUser").and_then(Value::as_i64),
        ..ContainerWish::default()
    })
}
