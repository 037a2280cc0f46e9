//! Which pods a command is about: by name, by what they belong to, or all.
//!
//! What belongs to what is the cluster's word. It can show fewer pods than there are, or count a stranger among them; that
//! each one shown is what it should be is what `verify` finds out.

use std::collections::BTreeMap;

use cocoon_stage::Failure;
use cocoon_workload::{COCO_INITDATA, Document, INITDATA, plan_name};
use serde_json::{Value, json};

use super::cluster::Cluster;
use crate::admin::usage;
use crate::client::segment;

/// Longest chain of owners that is followed: a pod, its ReplicaSet or Job, its Deployment or CronJob.
const MAX_OWNERS: usize = 4;

/// A kind of objects that makes pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// As in manifests.
    pub name: &'static str,
    /// In paths, with the API before it.
    place: &'static str,
    /// As people write it before a slash.
    words: &'static [&'static str],
}

const KINDS: &[Kind] = &[
    Kind { name: "Pod", place: "/api/v1 pods", words: &["pod", "pods", "po"] },
    Kind {
        name: "Deployment",
        place: "/apis/apps/v1 deployments",
        words: &["deploy", "deployment", "deployments"],
    },
    Kind {
        name: "StatefulSet",
        place: "/apis/apps/v1 statefulsets",
        words: &["sts", "statefulset", "statefulsets"],
    },
    Kind { name: "DaemonSet", place: "/apis/apps/v1 daemonsets", words: &["ds", "daemonset", "daemonsets"] },
    Kind {
        name: "ReplicaSet",
        place: "/apis/apps/v1 replicasets",
        words: &["rs", "replicaset", "replicasets"],
    },
    Kind {
        name: "ReplicationController",
        place: "/api/v1 replicationcontrollers",
        words: &["rc", "replicationcontroller", "replicationcontrollers"],
    },
    Kind { name: "Job", place: "/apis/batch/v1 jobs", words: &["job", "jobs"] },
    Kind { name: "CronJob", place: "/apis/batch/v1 cronjobs", words: &["cj", "cronjob", "cronjobs"] },
];

/// What a command is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub kind: Kind,
    pub name: String,
}

impl Target {
    /// Reads `KIND/NAME`, or a pod's `NAME`; of kubectl's words (`deploy`, `deployment.apps`, …).
    ///
    /// # Errors
    /// `USAGE-INVALID` for a kind that makes no pods, or an empty name.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        let (word, name) = text.split_once('/').unwrap_or(("pod", text));
        let plain = word.split('.').next().unwrap_or(word).to_ascii_lowercase();
        let kind = KINDS.iter().find(|k| k.words.contains(&plain.as_str()));
        match (kind, name) {
            (Some(kind), name) if !name.is_empty() && !name.contains('/') => {
                Ok(Target { kind: *kind, name: name.to_owned() })
            }
            _ => Err(usage(format!(
                "{text:?}: write deploy/NAME, sts/NAME, ds/NAME, job/NAME, cronjob/NAME, rs/NAME or pod/NAME"
            ))),
        }
    }

    /// For people.
    pub fn label(&self) -> String {
        format!("{} {}", self.kind.name, self.name)
    }

    fn path(&self, namespace: &str) -> String {
        format!("{}/{}", self.kind.list(Some(namespace)), segment(&self.name))
    }
}

/// The name by which a workload is registered: of `deploy/NAME` in a namespace as `cocoon apply` makes it, else the text itself.
///
/// # Errors
/// `USAGE-INVALID` for a kind that makes no pods.
pub fn registered_name(text: &str, namespace: &str) -> Result<String, Failure> {
    if !text.contains('/') {
        return Ok(text.to_owned());
    }
    let target = Target::parse(text)?;
    let object = Document { value: json!({"kind": target.kind.name, "metadata": {"name": target.name}}) };
    Ok(plan_name(&object, namespace))
}

impl Kind {
    /// Where objects of this kind are listed, in one namespace or in all.
    fn list(&self, namespace: Option<&str>) -> String {
        let (root, plural) = self.place.split_once(' ').unwrap_or((self.place, ""));
        match namespace {
            Some(namespace) => format!("{root}/namespaces/{}/{plural}", segment(namespace)),
            None => format!("{root}/{plural}"),
        }
    }

    fn named(name: &str) -> Option<Kind> {
        KINDS.iter().find(|k| k.name == name).copied()
    }
}

/// A pod as the cluster tells of it.
#[derive(Clone, Debug)]
pub struct Pod {
    pub namespace: String,
    pub name: String,
    /// The name under which `cocoon apply` registers what it belongs to.
    pub workload: String,
    pub value: Value,
}

/// How a pod stands, as the cluster says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// It runs, or is about to.
    On,
    /// It is being deleted.
    Ending,
    /// All its containers have ended.
    Over,
}

impl Pod {
    /// The annotation with its plan, as the cluster shows it now; anybody who may edit pods can have exchanged it.
    pub fn initdata(&self) -> Option<&str> {
        let annotations = self.value.pointer("/metadata/annotations")?;
        [INITDATA, COCO_INITDATA].into_iter().find_map(|name| annotations.get(name)?.as_str())
    }

    /// Its runtime class, or nothing.
    pub fn class(&self) -> &str {
        at(&self.value, "/spec/runtimeClassName")
    }

    /// Whether it is to be confidential: it has a plan, or a class of ours.
    pub fn is_ours(&self) -> bool {
        let class = self.class();
        let compatible = cocoon_cluster_api::COMPATIBLE_NAMES.iter().any(|(theirs, _)| *theirs == class);
        let own = class == cocoon_cluster_api::BEST_CLASS || class.starts_with("cocoon-");
        self.initdata().is_some() || own || compatible
    }

    pub fn life(&self) -> Life {
        match at(&self.value, "/status/phase") {
            "Succeeded" | "Failed" => Life::Over,
            _ if self.value.pointer("/metadata/deletionTimestamp").is_some() => Life::Ending,
            _ => Life::On,
        }
    }

    /// `NAMESPACE/NAME`, with nothing in it that a terminal would obey.
    pub fn label(&self) -> String {
        plain(&format!("{}/{}", self.namespace, self.name))
    }
}

/// What the cluster says must not speak to the terminal.
pub fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

pub fn at<'v>(value: &'v Value, pointer: &str) -> &'v str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// Pods that were asked for.
#[derive(Clone, Debug, Default)]
pub struct Found {
    pub pods: Vec<Pod>,
    /// How many more the object wants than the cluster shows, with the object.
    pub missing: Vec<(String, u64)>,
}

/// All pods of a namespace, or of all.
pub async fn all(cluster: &Cluster, namespace: Option<&str>) -> Result<Vec<Pod>, Failure> {
    let owners = Owners::read(cluster, namespace).await?;
    let pods = list(cluster, &Kind::named("Pod"), namespace).await?;
    Ok(pods.into_iter().map(|value| owners.pod(value)).collect())
}

/// The pods of what was named, each once.
///
/// # Errors
/// `USAGE-INVALID` where the cluster has no such object; what its API refuses.
pub async fn of(cluster: &Cluster, targets: &[Target]) -> Result<Found, Failure> {
    let namespace = cluster.namespace();
    let mut objects = Vec::new();
    for target in targets {
        let object = cluster.get(&target.path(namespace), &target.label()).await?;
        let none = || usage(format!("there is no {} in namespace {namespace}", target.label()));
        objects.push((target, object.ok_or_else(none)?));
    }
    let owners = Owners::read(cluster, Some(namespace)).await?;
    let pods = list(cluster, &Kind::named("Pod"), Some(namespace)).await?;
    let mut found = Found::default();
    for (target, object) in &objects {
        let uid = at(object, "/metadata/uid");
        let mut own = 0;
        for pod in pods.iter().filter(|pod| owners.chain(pod).iter().any(|o| at(o, "/metadata/uid") == uid)) {
            let pod = owners.pod(pod.clone());
            own += u64::from(pod.life() == Life::On);
            if !found.pods.iter().any(|p| p.name == pod.name) {
                found.pods.push(pod);
            }
        }
        if let Some(missing) = wanted(target.kind, object).and_then(|wanted| wanted.checked_sub(own))
            && missing > 0
        {
            found.missing.push((target.label(), missing));
        }
    }
    Ok(found)
}

/// How many pods an object wants at a time, if it says so.
fn wanted(kind: Kind, object: &Value) -> Option<u64> {
    let number = |pointer: &str| object.pointer(pointer).and_then(Value::as_u64);
    match kind.name {
        "Deployment" | "StatefulSet" | "ReplicaSet" | "ReplicationController" => {
            Some(number("/spec/replicas").unwrap_or(1))
        }
        "DaemonSet" => number("/status/desiredNumberScheduled"),
        _ => None,
    }
}

async fn list(
    cluster: &Cluster,
    kind: &Option<Kind>,
    namespace: Option<&str>,
) -> Result<Vec<Value>, Failure> {
    let Some(kind) = kind else { return Ok(Vec::new()) };
    let mut list = cluster.get(&kind.list(namespace), kind.name).await?.unwrap_or_default();
    let items = match list.get_mut("items").map(Value::take) {
        Some(Value::Array(items)) => items,
        _ => Vec::new(),
    };
    // Objects in a list do not say of what kind they are.
    Ok(items
        .into_iter()
        .map(|mut object| {
            if let Some(members) = object.as_object_mut() {
                members.insert("kind".into(), kind.name.into());
            }
            object
        })
        .collect())
}

/// What stands between pods and what their owner applied.
struct Owners(BTreeMap<String, Value>);

impl Owners {
    async fn read(cluster: &Cluster, namespace: Option<&str>) -> Result<Self, Failure> {
        let mut by_uid = BTreeMap::new();
        for kind in ["ReplicaSet", "Job"] {
            for object in list(cluster, &Kind::named(kind), namespace).await? {
                by_uid.insert(at(&object, "/metadata/uid").to_owned(), object);
            }
        }
        Ok(Owners(by_uid))
    }

    /// An object and what it belongs to, the last of which is what somebody applied. Of those in between the whole object is
    /// there, of the last one kind, name and id.
    fn chain(&self, pod: &Value) -> Vec<Value> {
        let mut chain = vec![pod.clone()];
        while let Some(last) = chain.last().filter(|_| chain.len() <= MAX_OWNERS) {
            let owners = last.pointer("/metadata/ownerReferences").and_then(Value::as_array);
            let controls = |o: &&Value| o.get("controller").and_then(Value::as_bool) == Some(true);
            let Some(owner) = owners.into_iter().flatten().find(controls) else { break };
            let known = self.0.get(at(owner, "/uid")).cloned();
            chain.push(known.unwrap_or_else(|| {
                json!({"kind": at(owner, "/kind"), "metadata": {"name": at(owner, "/name"), "uid": at(owner, "/uid")}})
            }));
        }
        chain
    }

    fn pod(&self, value: Value) -> Pod {
        let (namespace, name) = (at(&value, "/metadata/namespace"), at(&value, "/metadata/name"));
        // A static pod belongs to its node, which registers nothing.
        let top = self.chain(&value).into_iter().rfind(|o| at(o, "/kind") != "Node");
        let top = Document { value: top.unwrap_or_default() };
        Pod {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            workload: plan_name(&top, namespace),
            value,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_written_as_for_kubectl() {
        for (text, kind, name) in [
            ("deploy/web", "Deployment", "web"),
            ("deployment.apps/web", "Deployment", "web"),
            ("StatefulSet/db", "StatefulSet", "db"),
            ("pod/a", "Pod", "a"),
            ("web-5d9c-x", "Pod", "web-5d9c-x"),
            ("cj/tick", "CronJob", "tick"),
        ] {
            let target = Target::parse(text).unwrap();
            assert_eq!((target.kind.name, target.name.as_str()), (kind, name));
        }
        for bad in ["", "deploy/", "service/web", "pod/a/b", "/x"] {
            assert_eq!(Target::parse(bad).unwrap_err().code, cocoon_stage::Code::UsageInvalid, "{bad}");
        }
        assert_eq!(registered_name("deploy/web", "shop").unwrap(), "web.shop");
        assert_eq!(registered_name("web.shop", "other").unwrap(), "web.shop");
        let target = Target::parse("deploy/../x").unwrap_err();
        assert_eq!(target.code, cocoon_stage::Code::UsageInvalid);
        let target = Target::parse("deploy/..").unwrap();
        assert_eq!(target.path("a/b"), "/apis/apps/v1/namespaces/a%2Fb/deployments/%2E%2E");
    }

    fn owned(kind: &str, name: &str, uid: &str, owner: Option<(&str, &str, &str)>) -> Value {
        let owners: Vec<Value> = owner
            .map(|(kind, name, uid)| json!({"kind": kind, "name": name, "uid": uid, "controller": true}))
            .into_iter()
            .collect();
        json!({"kind": kind, "metadata": {"name": name, "namespace": "shop", "uid": uid, "ownerReferences": owners}})
    }

    #[test]
    fn a_pod_is_registered_by_the_name_of_what_was_applied() {
        let set = owned("ReplicaSet", "web-5d9c", "s", Some(("Deployment", "web", "d")));
        let job = owned("Job", "tick-17", "j", Some(("CronJob", "tick", "c")));
        let owners = Owners([("s".to_owned(), set), ("j".to_owned(), job)].into());
        for (owner, workload) in [
            (Some(("ReplicaSet", "web-5d9c", "s")), "web.shop"),
            (Some(("Job", "tick-17", "j")), "tick.shop"),
            (Some(("StatefulSet", "db", "t")), "db.shop"),
            (Some(("Node", "node-1", "n")), "p.shop"),
            (None, "p.shop"),
        ] {
            let pod = owned("Pod", "p", "p", owner);
            assert_eq!(owners.pod(pod).workload, workload, "{owner:?}");
        }
        // Owners that own each other are followed no further than any chain is.
        let circle = owned("ReplicaSet", "a", "a", Some(("ReplicaSet", "a", "a")));
        let owners = Owners([("a".to_owned(), circle)].into());
        assert!(
            owners.chain(&owned("Pod", "p", "p", Some(("ReplicaSet", "a", "a")))).len() <= MAX_OWNERS + 1
        );
    }

    #[test]
    fn pods_without_a_plan_are_ours_by_their_class() {
        let pod = |value: Value| Pod {
            namespace: "n".into(),
            name: "p\u{1b}[31m".into(),
            workload: "p.n".into(),
            value,
        };
        for class in ["cocoon", "cocoon-snp", "kata-qemu-tdx"] {
            assert!(pod(json!({"spec": {"runtimeClassName": class}})).is_ours(), "{class}");
        }
        assert!(!pod(json!({"spec": {"runtimeClassName": "runc"}})).is_ours());
        assert!(pod(json!({"metadata": {"annotations": {COCO_INITDATA: "x"}}})).is_ours());
        assert!(!pod(json!({})).label().contains('\u{1b}'));
        assert_eq!(pod(json!({"status": {"phase": "Failed"}})).life(), Life::Over);
        assert_eq!(pod(json!({"metadata": {"deletionTimestamp": "t"}})).life(), Life::Ending);
    }
}
