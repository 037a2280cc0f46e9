//! Pods on the cluster's one node.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use cocoon_benches::bare::{bare_boot, bare_initrd};
use cocoon_benches::{median, spread, time_to_output};
use cocoon_guest_image::GuestImage;
use cocoon_tests::containerd::Process;
use cocoon_tests::guest_image;
use cocoon_tests::kubernetes::{Cluster, ClusterAdmin, container, holds, pod};
use serde_json::{Value, json};

use super::footprint;

const ROUNDS: usize = 3;
const CROWD: usize = 12;
const LIMIT: Duration = Duration::from_secs(600);

/// The time in which this guest's kernel reaches an init that does nothing.
pub fn bare() -> Result<Duration> {
    let image = GuestImage::open(&guest_image().context("COCOON_GUEST_IMAGE; use `make bench-kubernetes`")?)?;
    let work = tempfile::tempdir()?;
    let initrd = bare_initrd(work.path())?;
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        times.push(time_to_output(&mut bare_boot(&image, &initrd), b"first-byte")?);
    }
    println!("bare boot to an empty init        {}", spread(&times));
    Ok(median(&times))
}

/// All figures.
pub fn figures(cluster: &mut Cluster, bare: Duration) -> Result<()> {
    let Some(admin) = ClusterAdmin::new(cluster) else { return Ok(()) };
    admin.apply_operator();
    // The image is on the node: that of the operator is that of the node's process.
    let began = Instant::now();
    admin.cluster.apply(&admin.runtime().to_string())?;
    admin.ready();
    println!("from CocoonRuntime to a usable RuntimeClass: {} ms (goal 30000)", began.elapsed().as_millis());

    let runc = rounds(&admin, "runc")?;
    let cocoon = rounds(&admin, "cocoon")?;
    let ratio = |over: Duration, under: Duration| over.as_secs_f64() / under.as_secs_f64();
    println!(
        "apply to Ready: over a bare boot {:.2}, over runc {:.1}",
        ratio(cocoon, bare),
        ratio(cocoon, runc)
    );
    crowd(&admin)?;
    takes(&admin)?;
    admin.remove_runtime();
    admin.remove_operator();
    Ok(())
}

fn manifest(admin: &ClusterAdmin, class: &str, name: &str) -> Result<Value> {
    let work = pod(name, vec![container("main", admin.cluster.image(), "sleep 100000")]);
    match class {
        "runc" => Ok(work),
        _ => admin.cluster.planned(work, &[], |_| ()),
    }
}

/// Pods one after another; the median time from `apply` to Ready.
fn rounds(admin: &ClusterAdmin, class: &str) -> Result<Duration> {
    let mut times = Vec::new();
    for round in 0..=ROUNDS {
        let name = format!("{class}-{round}");
        let text = manifest(admin, class, &name)?.to_string();
        let began = Instant::now();
        admin.cluster.apply(&text)?;
        admin.cluster.wait_for_pod(&name, "Ready", LIMIT)?;
        // The first finds nothing cached.
        if round > 0 {
            times.push(began.elapsed());
        }
        admin.cluster.kubectl(&["delete", "pod", &name, "--grace-period=1"])?;
    }
    println!("{class:6} apply to Ready             {}", spread(&times));
    Ok(median(&times))
}

fn crowd(admin: &ClusterAdmin) -> Result<()> {
    let names: Vec<String> = (0..CROWD).map(|n| format!("crowd-{n}")).collect();
    let items = names.iter().map(|name| manifest(admin, "cocoon", name)).collect::<Result<Vec<_>>>()?;
    let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
    let began = Instant::now();
    admin.cluster.apply(&list.to_string())?;
    let mut times = Vec::new();
    for name in &names {
        let seen = admin.cluster.wait_for(&["pods"], name, LIMIT, |pod| holds(pod, "Ready"))?;
        let restarts = seen.pointer("/status/containerStatuses/0/restartCount").and_then(Value::as_u64);
        times.push((began.elapsed(), restarts.unwrap_or(0)));
    }
    let restarts: u64 = times.iter().map(|(_, restarts)| restarts).sum();
    let last = times.last().map_or(0, |(t, _)| t.as_millis());
    println!("{CROWD} pods at once: all Ready after {last} ms, {restarts} restarts");
    admin.cluster.kubectl(&["delete", "pods", "--all", "--grace-period=1", "--timeout=300s"])?;
    Ok(())
}

fn find(admin: &ClusterAdmin, words: &str) -> Result<Process> {
    // A container's process is in a namespace of its own, so it is looked for among all of the machine.
    admin.cluster.contained(words).into_iter().next().with_context(|| format!("{words} does not run"))
}

/// What operator and node process take.
fn takes(admin: &ClusterAdmin) -> Result<()> {
    footprint::memory("operator", &find(admin, "operator run")?, 25)?;
    footprint::memory("node's process", &find(admin, "node serve")?, 20)?;
    let label = "app.kubernetes.io/component=operator";
    let pods = admin.cluster.get(&["pods", "-n", "cocoon-system", "-l", label])?;
    let ip = pods.pointer("/items/0/status/podIP").and_then(Value::as_str).context("no address")?;
    footprint::steady(SocketAddr::new(ip.parse()?, 8081), Duration::from_secs(60))
}
