//! Pods through containerd: how long they take to start, alone and in a crowd, beside a bare boot and beside runc; what a
//! program in a container, its words and its network cost; how much memory a pod takes on the node.
#![allow(missing_docs)]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use cocoon_benches::bare::{bare_boot, bare_initrd, serial_rate};
use cocoon_benches::{load, median, spread, time_to_output};
use cocoon_guest_image::GuestImage;
use cocoon_tests::containerd::{ContainerWish, Machine, Pod, PodWish, Story, Version};
use cocoon_tests::guest_image;
use futures_util::future::try_join_all;

const ROUNDS: usize = 5;
const CROWD: usize = 8;
const EXECS: usize = 20;
/// Words that a container writes, in lines of 1 KiB.
const LOG_MIB: usize = 32;
/// What is downloaded of a pod.
const FILE_MIB: usize = 32;
const RUNTIMES: [&str; 2] = ["runc", "cocoon"];

/// Serves a small and a large file, and stays.
const SERVE: &str = r#"
mkdir -p /www; echo small >/www/small; head -c FILE_BYTES /dev/zero >/www/large
busybox httpd -p 8080 -h /www
echo ready; sleep 100000
"#;

fn main() -> Result<()> {
    println!("{}", load());
    let image = GuestImage::open(&guest_image().context("COCOON_GUEST_IMAGE; use `make bench-runtime`")?)?;
    let work = tempfile::tempdir()?;
    let initrd = bare_initrd(work.path())?;
    let mut bare = Vec::new();
    for _ in 0..ROUNDS {
        bare.push(time_to_output(&mut bare_boot(&image, &initrd), b"first-byte")?);
    }
    println!("bare boot to an empty init        {}", spread(&bare));
    let bare = median(&bare);
    println!("bare boot, words by serial port   {:.1} MiB/s", serial_rate(&image, work.path())?);
    Story::Cocoon(|class| class.console = false).tell(Version::V2, async move |machine| {
        if let Err(error) = figures(&machine, bare).await {
            println!("the bench ended early: {error:#}");
        }
        machine
    });
    Ok(())
}

async fn figures(machine: &Machine, bare: Duration) -> Result<()> {
    let mut medians = Vec::new();
    for runtime in RUNTIMES {
        let mut times = Vec::new();
        for round in 0..=ROUNDS {
            let (took, pod) = start(machine, runtime, &format!("start-{round}")).await?;
            // The first finds nothing cached.
            if round > 0 {
                times.push(took);
            }
            pod.remove().await?;
        }
        println!("{runtime:6} pod to its first word      {}", spread(&times));
        medians.push(median(&times));
    }
    let ratio = |over: Duration, under: Duration| over.as_secs_f64() / under.as_secs_f64();
    if let [runc, cocoon] = medians.as_slice() {
        println!(
            "a pod over a bare boot {:.2}, over runc {:.1}",
            ratio(*cocoon, bare),
            ratio(*cocoon, *runc)
        );
    }

    let began = Instant::now();
    let pods = try_join_all((0..CROWD).map(|n| async move {
        let (took, pod) = start(machine, "cocoon", &format!("crowd-{n}")).await?;
        anyhow::Ok((took, pod))
    }))
    .await?;
    let times: Vec<Duration> = pods.iter().map(|(took, _)| *took).collect();
    println!("{CROWD} pods at once: all after {} ms; each {}", began.elapsed().as_millis(), spread(&times));
    memory(machine)?;
    try_join_all(pods.iter().map(|(_, pod)| pod.remove())).await?;

    for runtime in RUNTIMES {
        let serve = SERVE.replace("FILE_BYTES", &(FILE_MIB << 20).to_string());
        let serve = ContainerWish::script("serve", &machine.image, &serve);
        let talk = format!("yes $(busybox printf '%01023d' 7) | head -n {}", LOG_MIB << 10);
        let talk = ContainerWish::script("talk", &machine.image, &talk);
        let pod = run(machine, runtime, "figures", &[&serve, &talk]).await?;
        let serving = pod.container(&serve).await?;
        pod.wait_for_log("serve", 0, "ready\n").await?;
        execs(&pod, runtime, &serving).await?;
        network(&pod, runtime).await?;
        words(&pod, runtime, &talk, &serving).await?;
        if runtime == "cocoon" {
            let free = pod.sh(&serving, "busybox grep -E 'MemTotal|MemAvailable' /proc/meminfo").await?;
            println!("guest memory: {}", free.replace('\n', ", "));
        }
        pod.remove().await?;
    }
    Ok(())
}

async fn run(machine: &Machine, runtime: &str, name: &str, containers: &[&ContainerWish]) -> Result<Pod> {
    let wish = PodWish::new(&format!("{runtime}-{name}"), runtime);
    match runtime {
        "runc" => machine.pod(wish).await,
        _ => machine.planned(wish, containers, &[], |_| {}).await,
    }
}

/// A pod of one container; the time from the first request until its first word is in its log.
async fn start(machine: &Machine, runtime: &str, name: &str) -> Result<(Duration, Pod)> {
    let work = ContainerWish::script("work", &machine.image, "echo here; sleep 100000");
    let began = Instant::now();
    let pod = run(machine, runtime, name, &[&work]).await?;
    pod.container(&work).await?;
    pod.wait_for_log("work", 0, "here\n").await?;
    Ok((began.elapsed(), pod))
}

/// What shims and VMs take on the node.
fn memory(machine: &Machine) -> Result<()> {
    for name in ["containerd-shim-cocoon-v2", "qemu-system-x86_64"] {
        let sizes = machine.node.named(name).iter().map(|p| p.memory()).collect::<Result<Vec<_>>>()?;
        let mut all: Vec<u64> = sizes.iter().map(|(anon, file)| anon + file).collect();
        all.sort_unstable();
        if let (Some(least), Some(most)) = (sizes.iter().min(), all.last()) {
            println!(
                "{name}: {} processes, at most {most} KiB (RssAnon and RssFile of one: {least:?})",
                all.len()
            );
        }
    }
    Ok(())
}

async fn execs(pod: &Pod, runtime: &str, container: &str) -> Result<()> {
    let mut times = Vec::new();
    for _ in 0..EXECS {
        let began = Instant::now();
        pod.exec(container, &["/bin/true"]).await?;
        times.push(began.elapsed());
    }
    println!("{runtime:6} exec of /bin/true          {}", spread(&times));
    Ok(())
}

/// From the node to the pod: a connection with a small file, a connection with a large one.
async fn network(pod: &Pod, runtime: &str) -> Result<()> {
    let ip = pod.pod_status().await?.network.ip.clone();
    let get = |name: &str| -> Result<Duration> {
        let began = Instant::now();
        let mut stream = TcpStream::connect((ip.as_str(), 8080))?;
        write!(stream, "GET /{name} HTTP/1.0\r\n\r\n")?;
        let mut buffer = vec![0; 256 << 10];
        while stream.read(&mut buffer)? > 0 {}
        Ok(began.elapsed())
    };
    let small = (0..EXECS).map(|_| get("small")).collect::<Result<Vec<_>>>()?;
    let large = (0..ROUNDS).map(|_| get("large")).collect::<Result<Vec<_>>>()?;
    let rate = FILE_MIB as f64 / median(&large).as_secs_f64();
    println!("{runtime:6} request over the network   {}", spread(&small));
    println!("{runtime:6} download                   {rate:.0} MiB/s");
    Ok(())
}

/// Words from a container into its log; beside it what the container can write to nobody.
async fn words(pod: &Pod, runtime: &str, talk: &ContainerWish, beside: &str) -> Result<()> {
    let began = Instant::now();
    let id = pod.container(talk).await?;
    pod.wait(&id).await?;
    let rate = LOG_MIB as f64 / began.elapsed().as_secs_f64();
    let script = format!("yes $(busybox printf '%01023d' 7) | head -n {} | cat >/dev/null", LOG_MIB << 10);
    let began = Instant::now();
    pod.sh(beside, &script).await?;
    let limit = LOG_MIB as f64 / began.elapsed().as_secs_f64();
    println!(
        "{runtime:6} log                        {rate:.0} MiB/s; through a pipe to nobody {limit:.0} MiB/s"
    );
    Ok(())
}
