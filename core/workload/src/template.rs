//! Where kinds of objects keep the pods that they make, and what is known of such a pod before anything of it is compiled.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::inputs::{Content, Inputs};
use crate::manifest::Document;
use crate::resources::Limits;
use crate::settings::Settings;

/// A kind of objects that make pods.
#[derive(Debug)]
pub(crate) struct Kind {
    api_version: &'static str,
    name: &'static str,
    /// Where the pod is: the object with `metadata` and `spec`.
    pub(crate) template: &'static [&'static str],
    /// The restart policies that its pods may have; the first is the default.
    pub(crate) restart: &'static [&'static str],
}

const ALWAYS: &[&str] = &["Always"];
/// A job's template must name one: the API server's default is none that it may have.
const JOBS: &[&str] = &["OnFailure", "Never"];

const KINDS: [Kind; 8] = [
    Kind { api_version: "v1", name: "Pod", template: &[], restart: &["Always", "OnFailure", "Never"] },
    Kind { api_version: "apps/v1", name: "Deployment", template: &["spec", "template"], restart: ALWAYS },
    Kind { api_version: "apps/v1", name: "StatefulSet", template: &["spec", "template"], restart: ALWAYS },
    Kind { api_version: "apps/v1", name: "DaemonSet", template: &["spec", "template"], restart: ALWAYS },
    Kind { api_version: "apps/v1", name: "ReplicaSet", template: &["spec", "template"], restart: ALWAYS },
    Kind {
        api_version: "v1",
        name: "ReplicationController",
        template: &["spec", "template"],
        restart: ALWAYS,
    },
    Kind { api_version: "batch/v1", name: "Job", template: &["spec", "template"], restart: JOBS },
    Kind {
        api_version: "batch/v1",
        name: "CronJob",
        template: &["spec", "jobTemplate", "spec", "template"],
        restart: JOBS,
    },
];

impl Kind {
    /// The kind of a document that makes pods; nothing for any other.
    pub(crate) fn of(document: &Document) -> Option<&'static Kind> {
        KINDS.iter().find(|k| k.api_version == document.api_version() && k.name == document.kind())
    }

    /// Whether the object is itself the pod.
    pub(crate) fn is_pod(&self) -> bool {
        self.template.is_empty()
    }

    /// Whether pods keep their names and volumes when they are made again.
    pub(crate) fn is_stateful(&self) -> bool {
        self.name == "StatefulSet"
    }

    /// Where a job is in it.
    pub(crate) fn job(&self) -> Option<&'static str> {
        match self.name {
            "Job" => Some("/spec"),
            "CronJob" => Some("/spec/jobTemplate/spec"),
            _ => None,
        }
    }

    /// Where a field of the pod is, for people.
    pub(crate) fn path(&self, field: &str) -> String {
        let mut path = self.template.join(".");
        if !path.is_empty() {
            path.push('.');
        }
        path.push_str(field);
        path
    }

    /// The pod in a document.
    pub(crate) fn pod<'v>(&self, document: &'v Document) -> Option<&'v Value> {
        self.template.iter().try_fold(&document.value, |value, name| value.get(name))
    }
}

/// What is known of the pods of one workload.
pub(crate) struct Pod<'a> {
    pub(crate) inputs: &'a Inputs,
    pub(crate) kind: &'static Kind,
    pub(crate) settings: Settings,
    pub(crate) namespace: String,
    /// The pod's own name, where all pods of the workload have it.
    pub(crate) name: Option<String>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) annotations: BTreeMap<String, String>,
    pub(crate) service_account: String,
    pub(crate) service_links: bool,
    /// By container.
    pub(crate) limits: BTreeMap<String, Limits>,
}

impl Pod<'_> {
    /// What is known of a ConfigMap or Secret.
    pub(crate) fn content(&self, secret: bool, name: &str) -> Option<&Content> {
        let contents = if secret { &self.inputs.secrets } else { &self.inputs.config_maps };
        contents.get(&self.namespace, name)
    }

    /// What a field of the pod's is (downward API): the value, nothing where only the cluster knows it; `None` for a field
    /// that there is not.
    pub(crate) fn downward(&self, path: &str) -> Option<Option<String>> {
        let keyed = |of: &str| path.strip_prefix(of)?.strip_prefix("['")?.strip_suffix("']");
        if let Some(key) = keyed("metadata.labels") {
            return Some(self.labels.get(key).cloned());
        }
        if let Some(key) = keyed("metadata.annotations") {
            // What this program writes itself is not known before the plan is.
            let ours = crate::write::INITDATA == key;
            return Some(self.annotations.get(key).filter(|_| !ours).cloned());
        }
        Some(match path {
            "metadata.name" => self.name.clone(),
            "metadata.namespace" => Some(self.namespace.clone()),
            "spec.serviceAccountName" => Some(self.service_account.clone()),
            "metadata.uid" | "spec.nodeName" | "status.podIP" | "status.podIPs" | "status.hostIP"
            | "status.hostIPs" => None,
            _ => return None,
        })
    }
}
