//! A fleet that is objects alone: nodes whose processes are played here, and pods that nobody runs.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use cocoon_cluster_api::{CocoonNode, CocoonNodeStatus, Phase, WantedState};
use cocoon_tests::cocoon_program;
use cocoon_tests::containerd::Process;
use cocoon_tests::kubernetes::Cluster;
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, Config, ResourceExt};
use rustix::process::Signal;
use serde_json::json;

use super::footprint;

/// Requests at once while objects are made.
const AT_ONCE: usize = 32;
/// Pods of a node.
const PODS: usize = 10;
const LIMIT: Duration = Duration::from_secs(1200);
/// Where this operator has its metrics.
const METRICS: ([u8; 4], u16) = ([127, 0, 0, 1], 18081);

/// All figures.
pub fn figures(cluster: &mut Cluster) -> Result<()> {
    let nodes: usize = std::env::var("COCOON_FLEET").ok().and_then(|n| n.parse().ok()).unwrap_or(1000);
    // Nobody is to judge nodes that send no heartbeat, or to place and start pods.
    stop(cluster)?;
    let manifest =
        Command::new(program()?).args(["operator", "manifests", "--image", "r.example/c:1"]).output()?;
    cluster.kubectl_with(&["apply", "--server-side", "-f", "-"], &manifest.stdout)?;
    // Its connections are made in this thread's network.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let kubeconfig = cluster.kubeconfig().to_owned();
    runtime.block_on(async {
        let file = Kubeconfig::read_from(&kubeconfig)?;
        let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
        let client = Client::try_from(config)?;
        let began = Instant::now();
        make(&client, nodes).await?;
        println!("fleet: {nodes} nodes and {} pods made in {} s", nodes * PODS, began.elapsed().as_secs());
        let operator = Operator::start(&kubeconfig)?;
        let played = tokio::spawn(play(client.clone()));
        let outcome = converge(&client, &operator, nodes).await;
        played.abort();
        outcome
    })
}

fn program() -> Result<std::path::PathBuf> {
    cocoon_program().context("COCOON_BIN names no program; use `make bench-kubernetes`")
}

fn stop(cluster: &mut Cluster) -> Result<()> {
    for name in ["kube-controller-manager", "kube-scheduler"] {
        cluster.stop_part(name, Signal::KILL)?;
    }
    Ok(())
}

/// The operator, beside the cluster; it ends with this.
struct Operator(Child);

impl Operator {
    fn start(kubeconfig: &std::path::Path) -> Result<Self> {
        let address = SocketAddr::from(METRICS).to_string();
        let child = Command::new(program()?)
            .args(["operator", "run", "--image", "r.example/c:1", "--listen", &address])
            .env("KUBECONFIG", kubeconfig)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Operator(child))
    }

    fn process(&self) -> Process {
        Process { pid: self.0.id(), parent: 0, name: String::new(), arguments: String::new() }
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn make(client: &Client, count: usize) -> Result<()> {
    let nodes: Api<Node> = Api::all(client.clone());
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    let post = PostParams::default();
    let (nodes, pods, post) = (&nodes, &pods, &post);
    let all: Vec<usize> = (0..count).collect();
    futures::stream::iter(all.iter().map(|&n| async move {
        let name = format!("fleet-{n:04}");
        let node: Node = serde_json::from_value(json!({"metadata": {"name": name, "labels": {
            "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64", "kubernetes.io/hostname": name, "fleet": "yes",
        }}}))?;
        nodes.create(post, &node).await?;
        let status = json!({"status": {
            "capacity": {"cpu": "64", "memory": "256Gi", "pods": "110"}, "allocatable": {"cpu": "64", "memory": "256Gi", "pods": "110"},
            "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "kubelet is posting ready status"}],
            // What real nodes carry, and an operator has no use for.
            "images": (0..40).map(|i| json!({"names": [format!("r.example/image-{i}@sha256:{i:064}")], "sizeBytes": 1_000_000})).collect::<Vec<_>>(),
        }});
        nodes.patch_status(&name, &PatchParams::default(), &Patch::Merge(&status)).await?;
        for i in 0..PODS {
            let pod: Pod = serde_json::from_value(json!({
                "metadata": {"name": format!("{name}-{i}")},
                "spec": {"nodeName": name, "automountServiceAccountToken": false, "containers": [{"name": "c", "image": "r.example/c"}]},
            }))?;
            pods.create(post, &pod).await?;
        }
        anyhow::Ok(())
    }))
    .buffer_unordered(AT_ONCE)
    .try_collect::<Vec<()>>()
    .await?;
    Ok(())
}

/// Plays the processes of all nodes: each does at once what it is asked for.
async fn play(client: Client) {
    let api: Api<CocoonNode> = Api::all(client);
    let changes = watcher(api.clone(), watcher::Config::default()).default_backoff().touched_objects();
    changes
        .filter_map(|node| async { node.ok() })
        .for_each_concurrent(AT_ONCE, |node| {
            let api = api.clone();
            async move {
                let seen = node.status.as_ref().and_then(|s| s.observed_generation);
                if seen == node.metadata.generation {
                    return;
                }
                let absent = node.spec.state == WantedState::Absent;
                let labels = ["cocoon.dev/runtime", "cocoon.dev/class.cocoon", "cocoon.dev/class.cocoon-sim"];
                let status = CocoonNodeStatus {
                    observed_generation: node.metadata.generation,
                    phase: if absent { Phase::Removed } else { Phase::Ready },
                    revision: node.spec.revision.clone(),
                    version: Some("0.1.0-0123abcd".into()),
                    classes: vec!["cocoon".into(), "cocoon-sim".into()],
                    labels: labels.map(|l| (l.to_owned(), "true".to_owned())).into(),
                    message: "classes cocoon, cocoon-sim".into(),
                    ..CocoonNodeStatus::default()
                };
                let object =
                    json!({"apiVersion": "cocoon.dev/v1alpha1", "kind": "CocoonNode", "status": status});
                let params = PatchParams::apply("fleet").force();
                let _ = api.patch_status(&node.name_any(), &params, &Patch::Apply(&object)).await;
            }
        })
        .await;
}

async fn converge(client: &Client, operator: &Operator, nodes: usize) -> Result<()> {
    let runtimes: Api<cocoon_cluster_api::CocoonRuntime> = Api::all(client.clone());
    let object = json!({
        "apiVersion": "cocoon.dev/v1alpha1", "kind": "CocoonRuntime", "metadata": {"name": "fleet"},
        "spec": {"platforms": ["Sim"], "nodeSelector": {"fleet": "yes"}, "update": {"canary": {"enabled": false}}},
    });
    let wanted = u32::try_from(nodes)?;
    let mut last = String::new();
    for (what, change) in [("installed", "one"), ("upgraded", "two")] {
        let mut object = object.clone();
        if let Some(meta) = object.pointer_mut("/metadata").and_then(|m| m.as_object_mut()) {
            meta.insert("annotations".into(), json!({"cocoon.dev/retry": change}));
        }
        let before = footprint::requests(SocketAddr::from(METRICS)).unwrap_or(0.0);
        let began = Instant::now();
        runtimes.patch("fleet", &PatchParams::apply("fleet").force(), &Patch::Apply(&object)).await?;
        let mut target = String::new();
        let config = watcher::Config::default();
        let mut seen = watcher(runtimes.clone(), config).default_backoff().touched_objects().boxed();
        let done = async {
            while let Some(runtime) = seen.next().await {
                let status = runtime.ok().and_then(|r| r.status).unwrap_or_default();
                target.clone_from(&status.revisions.target);
                let stable = status.revisions.stable.as_deref() == Some(&target);
                // What stood there before the change does not count.
                if stable && target != last && status.nodes.updated == wanted && status.nodes.ready == wanted
                {
                    return;
                }
            }
        };
        tokio::time::timeout(LIMIT, done).await.context("the fleet does not converge")?;
        last.clone_from(&target);
        let sent = footprint::requests(SocketAddr::from(METRICS))? - before;
        println!("fleet of {nodes} {what} in {:.1} s with {sent:.0} requests", began.elapsed().as_secs_f64());
        footprint::memory("operator of the fleet", &operator.process(), 25)?;
    }
    footprint::steady(SocketAddr::from(METRICS), Duration::from_secs(60))
}
