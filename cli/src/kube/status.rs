//! `cocoon status`: confidential pods of a cluster, and what Trustee knows of their plans.

use std::collections::BTreeMap;

use cocoon_protocol::initdata::InitData;
use cocoon_stage::Failure;
use cocoon_workload::{COCO_INITDATA, INITDATA};
use serde_json::{Value, json};

use super::cluster::Cluster;
use super::trouble::of_pod;
use crate::admin::{say, text};
use crate::args::StatusArgs;
use crate::client::{AdminClient, segment};

/// A pod in one line.
struct Line {
    namespace: String,
    name: String,
    state: String,
    class: String,
    plan: String,
    registered: Option<String>,
}

/// Runs the command; exit status 1 where a pod is in trouble.
pub async fn status(args: StatusArgs) -> Result<u8, Failure> {
    let cluster = Cluster::open(&args.cluster).await?;
    let path = match args.all_namespaces {
        true => "/api/v1/pods".to_owned(),
        false => format!("/api/v1/namespaces/{}/pods", segment(cluster.namespace())),
    };
    let pods = cluster.get(&path, "pods").await?.unwrap_or_default();
    let names = match args.common.trustee {
        Some(_) => Some(registered(&AdminClient::open(&args.common)?).await?),
        None => None,
    };
    let mut lines = Vec::new();
    let mut trouble = false;
    for pod in pods.get("items").and_then(Value::as_array).into_iter().flatten() {
        let annotations = pod.pointer("/metadata/annotations").unwrap_or(&Value::Null);
        let initdata = [INITDATA, COCO_INITDATA].map(|name| text(annotations, name));
        let class = pod.pointer("/spec/runtimeClassName").and_then(Value::as_str).unwrap_or_default();
        let Some(initdata) = initdata.into_iter().find(|i| !i.is_empty()) else {
            if class.starts_with("cocoon") {
                trouble = true;
                lines.push(line(pod, class, "no plan".into(), None));
            }
            continue;
        };
        let digest = InitData::from_annotation(initdata).map(|i| hex::encode(i.digest()));
        let malformed = digest.is_err();
        let plan = digest.unwrap_or_else(|_| "malformed".into());
        let known = names.as_ref().map(|n| n.get(&plan).cloned().unwrap_or_else(|| "NOT REGISTERED".into()));
        trouble |= malformed || !of_pod(pod).is_empty() || known.as_deref() == Some("NOT REGISTERED");
        lines.push(line(pod, class, plan, known));
    }
    print(&args, &lines);
    Ok(u8::from(trouble))
}

/// Names of registered workloads by digest.
async fn registered(client: &AdminClient) -> Result<BTreeMap<String, String>, Failure> {
    let workloads = client.get("workloads", "workloads").await?;
    let pairs = workloads.as_array().into_iter().flatten();
    Ok(pairs.map(|w| (text(w, "digest_hex").to_owned(), text(w, "name").to_owned())).collect())
}

fn line(pod: &Value, class: &str, plan: String, registered: Option<String>) -> Line {
    let metadata = pod.get("metadata").unwrap_or(&Value::Null);
    let phase = pod.pointer("/status/phase").and_then(Value::as_str).unwrap_or("Unknown");
    let state = match of_pod(pod).into_iter().next() {
        Some(trouble) => trouble.code.map_or(trouble.words, |code| code.to_string()),
        None => phase.to_owned(),
    };
    Line {
        namespace: plain(text(metadata, "namespace")),
        name: plain(text(metadata, "name")),
        state: plain(&state).chars().take(40).collect(),
        class: plain(class),
        plan,
        registered,
    }
}

/// What the cluster says must not speak to the terminal.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn print(args: &StatusArgs, lines: &[Line]) {
    if args.common.json {
        let pods: Vec<Value> = lines
            .iter()
            .map(|l| {
                json!({"namespace": l.namespace, "pod": l.name, "state": l.state, "runtime_class": l.class,
                    "plan": l.plan, "registered": l.registered})
            })
            .collect();
        say(&json!({ "pods": pods }).to_string());
        return;
    }
    if lines.is_empty() {
        eprintln!("cocoon: there are no confidential pods");
        return;
    }
    let row = |l: [&str; 6]| {
        let [namespace, name, state, class, plan, registered] = l;
        let plan: String = plan.chars().take(16).collect();
        say(format!("{namespace:<16} {name:<40} {state:<28} {class:<12} {plan:<16} {registered}").trim_end());
    };
    row(["NAMESPACE", "POD", "STATE", "CLASS", "PLAN", "REGISTERED AS"]);
    for l in lines {
        let registered = l.registered.as_deref().unwrap_or("(not asked: --trustee)");
        row([&l.namespace, &l.name, &l.state, &l.class, &l.plan, registered]);
    }
}
