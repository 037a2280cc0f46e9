//! Every process of a node's pods is killed at random moments: containerd and its snapshotter come back, what is left of the
//! pod can be removed, the next pod starts, and at the end nothing is left.
//!
//! `COCOON_KILLS` says how often (`make test-killed`: 50 times), `COCOON_SEED` repeats a run's choices.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use cocoon_plan::Restart;
use cocoon_tests::containerd::{ContainerWish, Machine, Pod, PodWish, Process, Story, Version, cri};
use cocoon_tests::wait_until;
use futures_util::StreamExt;
use futures_util::future::{Either, join_all, select};
use rustix::process::Signal;

const SHIM: &str = "containerd-shim-cocoon-v2";
const QEMU: &str = "qemu-system-x86_64";
/// Pods at a time.
const LANES: usize = 3;
/// How long anything may take, whoever was killed: longer is a hang.
const HANG: Duration = Duration::from_secs(180);
/// How long kubelet would try to remove a pod.
const REMOVAL: Duration = Duration::from_secs(60);
/// Says that it runs, and takes a moment to end when asked.
const WORK: &str =
    "echo $$ >/pid; trap 'sleep 0.3; exit 6' TERM; echo ready; while :; do sleep 0.1 & wait $!; done";

/// Who is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    Shim,
    Qemu,
    /// The container's own process in the guest.
    Program,
    Containerd,
    Snapshotter,
}

/// What goes on meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    Start,
    Running,
    Exec,
    Stop,
    Removal,
}

const MOMENTS: [Moment; 5] = [Moment::Start, Moment::Running, Moment::Exec, Moment::Stop, Moment::Removal];

impl Moment {
    /// Within how long it is over, about.
    fn lasts(self) -> u64 {
        match self {
            Moment::Start => 6000,
            Moment::Running => 100,
            Moment::Exec => 800,
            Moment::Stop | Moment::Removal => 1200,
        }
    }
}

/// One kill.
#[derive(Clone, Copy, Debug)]
struct Kill {
    number: usize,
    victim: Victim,
    moment: Moment,
    after: Duration,
}

/// Random numbers that a seed repeats (xorshift64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    /// As many kills as asked for, of everybody at every moment, in the proportions of [`Victim`]'s cost.
    fn kills(&mut self, count: usize) -> Vec<Kill> {
        use Victim::{Containerd, Program, Qemu, Shim, Snapshotter};
        let turns =
            [Shim, Qemu, Containerd, Program, Shim, Qemu, Snapshotter, Shim, Qemu, Containerd, Program];
        let mut kills = Vec::new();
        for number in 0..count {
            let victim = turns[number % turns.len()];
            let moment = MOMENTS[usize::try_from(self.below(5)).unwrap()];
            // A program is killed through an exec: while it runs.
            let moment = if victim == Program { Moment::Running } else { moment };
            let after = Duration::from_millis(self.below(moment.lasts()));
            kills.push(Kill { number, victim, moment, after });
        }
        kills
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

fn work(machine: &Machine, attempt: u32) -> ContainerWish {
    let mut work = ContainerWish::script("work", &machine.image, WORK);
    work.attempt = attempt;
    work
}

/// A pod with a container that says it is ready.
async fn start(machine: &Machine, name: &str) -> Result<(Pod, String)> {
    let work = work(machine, 0);
    let change = |plan: &mut cocoon_plan::Plan| {
        plan.share_process_namespace = true;
        plan.containers[0].restart = Restart::Always;
    };
    let pod = machine.planned(PodWish::new(name, "cocoon"), &[&work], &[], change).await?;
    let mut tries = 0;
    let id = loop {
        tries += 1;
        let id = pod.create(&work).await?;
        match pod.start(&id).await {
            Ok(()) => break id,
            // On a machine that is busy booting others; a kubelet tries again too.
            Err(e) if tries < 4 && format!("{e:#}").contains("ATTEST-TRUSTEE-UNREACHABLE") => {
                pod.remove_container(&id).await?;
            }
            Err(e) => return Err(e),
        }
    };
    pod.wait_for_log("work", 0, "ready\n").await?;
    Ok((pod, id))
}

/// The shim of the pod of this name, which may be only just coming to be.
fn shim(machine: &Machine, name: &str) -> Option<Process> {
    let bundles = machine.containerd.file("state/io.containerd.runtime.v2.task/k8s.io");
    let named = format!("\"io.kubernetes.cri.sandbox-name\":\"{name}\"");
    let of_pod = |folder: &std::path::Path| {
        let config = std::fs::read_to_string(folder.join("config.json")).unwrap_or_default();
        config.contains(&named) && config.contains("\"io.kubernetes.cri.container-type\":\"sandbox\"")
    };
    let folders = std::fs::read_dir(bundles).ok()?.flatten().map(|entry| entry.path());
    let id = folders.filter(|f| of_pod(f)).find_map(|f| Some(f.file_name()?.to_str()?.to_owned()))?;
    // Not the process that containerd starts to have it started, or cleaned up after.
    let serves = |p: &Process| {
        p.arguments.contains(&id) && !p.arguments.ends_with(" start") && !p.arguments.ends_with(" delete")
    };
    machine.node.named(SHIM).into_iter().find(serves)
}

fn qemu(machine: &Machine, name: &str) -> Option<Process> {
    let shim = shim(machine, name)?;
    let all = machine.node.processes();
    let mut parents = vec![shim.pid];
    // QEMU, whoever is between it and the shim.
    while let Some(parent) = parents.pop() {
        for process in all.iter().filter(|p| p.parent == parent) {
            if QEMU.starts_with(&process.name) {
                return Some(process.clone());
            }
            parents.push(process.pid);
        }
    }
    None
}

/// Kills it once it is there, at the earliest after the moment that was chosen.
async fn strike(machine: &Machine, name: &str, kill: Kill) {
    tokio::time::sleep(kill.after).await;
    loop {
        let found = match kill.victim {
            Victim::Shim => shim(machine, name),
            _ => qemu(machine, name),
        };
        if let Some(process) = found {
            return process.signal(Signal::KILL);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// What goes on with a pod; how it ends is open.
async fn act(machine: &Machine, name: &str, moment: Moment, running: Option<&(Pod, String)>) -> Result<()> {
    let Some((pod, id)) = running else { return start(machine, name).await.map(drop) };
    match moment {
        Moment::Start | Moment::Running => Ok(()),
        Moment::Exec => pod.sh(id, "echo a; sleep 0.5; echo b").await.map(drop),
        Moment::Stop => pod.stop_container(id, 5).await,
        Moment::Removal => pod.remove().await,
    }
}

/// Ends and removes all pods whose name begins so, as kubelet does: again and again until it is done.
async fn removed(machine: &Machine, prefix: &str) -> Result<()> {
    let cri = machine.containerd.cri();
    let began = Instant::now();
    loop {
        let mut failed = String::new();
        let list = cri.pods(&cri::ListPodSandboxRequest::default()).await;
        let pods: Vec<cri::PodSandbox> = match list {
            Ok(list) => list.items.into_iter().filter(|p| p.metadata.name.starts_with(prefix)).collect(),
            Err(error) => {
                failed = error.to_string();
                Vec::new()
            }
        };
        for pod in &pods {
            let id = cri::PodSandboxId { pod_sandbox_id: pod.id.clone(), ..Default::default() };
            let gone = async {
                cri.stop_pod(&id).await?;
                cri.remove_pod(&id).await
            };
            if let Err(error) = gone.await {
                failed = format!("{}: {error}", pod.metadata.name);
            }
        }
        if failed.is_empty() && pods.is_empty() {
            return Ok(());
        }
        if began.elapsed() > REMOVAL {
            bail!("it cannot be removed: {failed}");
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Kills a process of one pod; the others do not notice. Says whether it was there to be killed.
async fn one(machine: &Machine, kill: Kill) -> Result<bool> {
    let name = format!("one-{}-x", kill.number);
    let running = match kill.moment {
        Moment::Start => None,
        _ => Some(start(machine, &name).await?),
    };
    if kill.victim == Victim::Program {
        let (pod, id) = running.as_ref().context("nothing runs")?;
        tokio::time::sleep(kill.after).await;
        // It may take this exec along.
        let _ = pod.exec(id, &["/bin/sh", "-c", "kill -9 $(cat /pid)"]).await;
        let ended = pod.wait(id).await?;
        if ended.code != 137 {
            bail!("it was killed, and ended with {ended:?}");
        }
        let again = work(machine, 1);
        let id = pod.container(&again).await?;
        pod.wait_for_log("work", 1, "ready\n").await?;
        pod.sh(&id, "test -s /pid").await?;
        pod.remove().await?;
        return Ok(true);
    }
    let acts = Box::pin(act(machine, &name, kill.moment, running.as_ref()));
    let struck = Box::pin(strike(machine, &name, kill));
    let killed = match select(acts, struck).await {
        // It was over before: whoever is to be killed may be there still, or not any more.
        Either::Left((_, struck)) => {
            tokio::time::timeout(kill.after + Duration::from_millis(100), struck).await.is_ok()
        }
        Either::Right(((), acts)) => {
            let _ = acts.await;
            true
        }
    };
    removed(machine, &name).await?;
    Ok(killed)
}

/// Kills who serves all pods, while each of them is at another moment.
async fn all(machine: &mut Machine, kill: Kill) -> Result<bool> {
    let name = |lane: usize| format!("all-{}-{lane}-x", kill.number);
    // The chosen moment, and those after it.
    let first = MOMENTS.iter().position(|m| *m == kill.moment).unwrap_or(0);
    let moment = |lane: usize| MOMENTS[(first + lane) % MOMENTS.len()];
    let shared = &*machine;
    let lane = |lane: usize| async move {
        match moment(lane) {
            Moment::Start => Ok(None),
            _ => start(shared, &name(lane)).await.map(Some),
        }
    };
    let running = join_all((0..LANES).map(lane)).await.into_iter().collect::<Result<Vec<_>>>()?;
    let all_run = &running;
    let acts =
        |lane: usize| async move { act(shared, &name(lane), moment(lane), all_run[lane].as_ref()).await };
    let kills = async {
        tokio::time::sleep(kill.after).await;
        let victim = match &shared.snapshotter {
            Some(snapshotter) if kill.victim == Victim::Snapshotter => snapshotter.process(&shared.node),
            _ => shared.containerd.process(&shared.node),
        };
        victim.map(|process| process.signal(Signal::KILL))
    };
    let (_, killed) = futures_util::future::join(join_all((0..LANES).map(acts)), kills).await;
    killed?;
    match &mut machine.snapshotter {
        Some(snapshotter) if kill.victim == Victim::Snapshotter => snapshotter.start_again(&machine.node)?,
        _ => machine.containerd.start_again(&machine.node)?,
    }
    for (number, running) in running.iter().enumerate() {
        // Pods that nobody wanted anything of go on.
        if let Some((pod, id)) = running
            && matches!(moment(number), Moment::Running | Moment::Exec)
        {
            let here = pod.sh(id, "echo here").await.with_context(|| format!("{:?}", moment(number)))?;
            assert_eq!(here, "here");
        }
    }
    removed(machine, &format!("all-{}-", kill.number)).await?;
    Ok(true)
}

async fn within(began: Instant, kill: Kill, act: impl Future<Output = Result<bool>>) -> bool {
    match tokio::time::timeout(HANG, act).await {
        Ok(Ok(killed)) => {
            let over = if killed { "" } else { " (it was over before)" };
            println!("{:>6.1} s {kill:?}{over}", began.elapsed().as_secs_f32());
            killed
        }
        Ok(Err(error)) => panic!("{kill:?}: {error:#}"),
        Err(_) => panic!("{kill:?}: it hangs"),
    }
}

async fn kills(mut machine: Machine) -> Machine {
    let count = number("COCOON_KILLS").and_then(|n| usize::try_from(n).ok()).unwrap_or(12);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let seed = number("COCOON_SEED").unwrap_or_else(|| u64::from(now.subsec_nanos()) | 1);
    println!("{count} kills, COCOON_SEED={seed}");
    let began = Instant::now();
    let (of_all, of_one): (Vec<_>, Vec<_>) = Dice(seed.max(1))
        .kills(count)
        .into_iter()
        .partition(|kill| matches!(kill.victim, Victim::Containerd | Victim::Snapshotter));
    let shared = &machine;
    let of_one = futures_util::stream::iter(of_one)
        .map(|kill| within(began, kill, one(shared, kill)))
        .buffer_unordered(LANES)
        .collect::<Vec<_>>()
        .await;
    let mut killed = of_one.into_iter().filter(|killed| *killed).count();
    for kill in of_all {
        killed += usize::from(within(began, kill, all(&mut machine, kill)).await);
    }
    println!("{killed} of {count} were killed, in {:?}", began.elapsed());
    // One more, from its start to its removal.
    let (pod, id) = start(&machine, "last").await.unwrap();
    assert_eq!(pod.sh(&id, "echo here").await.unwrap(), "here");
    pod.remove().await.unwrap();
    assert!(wait_until(Duration::from_secs(30), || machine.node.named(SHIM).is_empty()));
    machine
}

#[test]
fn whoever_is_killed_at_whatever_moment() {
    Story::Snapshotter(|class| class.default_memory_mib = 192).tell(Version::V2, kills);
}
