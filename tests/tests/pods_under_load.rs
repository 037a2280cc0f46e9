//! Figures of pods whose containers work as hard as they can, asked for as fast as they come: they are plausible, they come in
//! time, and asking costs the shim nothing that stays. A reader of logs that stands still holds the writer back, no more.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use cocoon_tests::containerd::{ContainerWish, Machine, Pod, PodWish, Process, Story, Version, cri};
use rustix::process::Signal;

const SHIM: &str = "containerd-shim-cocoon-v2";
/// How long is asked.
const ASKING: Duration = Duration::from_secs(12);
/// In time: kubelet gives up after two minutes.
const IN_TIME: Duration = Duration::from_secs(60);
/// The limit of the container that fills its memory.
const LIMIT: u64 = 48 << 20;

fn shim(machine: &Machine) -> Process {
    let mut found = machine.node.named(SHIM);
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

fn descriptors(process: &Process) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", process.pid)).unwrap().count()
}

/// Figures of one container, one after the other.
#[derive(Default)]
struct Seen {
    cpu: Vec<u64>,
    memory: u64,
}

async fn ask(pod: &Pod, ids: &[String], seen: &mut BTreeMap<String, Seen>) {
    for id in ids {
        let stats = pod.container_stats(id).await.unwrap();
        let of_it = seen.entry(id.clone()).or_default();
        of_it.cpu.push(stats.cpu.usage_core_nano_seconds.value);
        of_it.memory = of_it.memory.max(stats.memory.working_set_bytes.value);
    }
    let stats = pod.stats().await.unwrap();
    let of_pod = seen.entry(String::new()).or_default();
    of_pod.cpu.push(stats.linux.cpu.usage_core_nano_seconds.value);
    of_pod.memory = of_pod.memory.max(stats.linux.memory.working_set_bytes.value);
    assert_eq!(stats.linux.containers.len(), ids.len(), "{stats:?}");
}

async fn load(machine: Machine) -> Machine {
    let image = &machine.image;
    let registry = machine.registry.address();
    let burn = ContainerWish::script("burn", image, "while :; do :; done");
    let fill = "while :; do head -c 33554432 /dev/zero >/dev/shm/x; busybox rm /dev/shm/x; done";
    let mut fill = ContainerWish::script("fill", image, fill);
    fill.memory = i64::try_from(LIMIT).unwrap();
    let write = "while :; do head -c 4194304 /dev/zero >/x; cat /x >/dev/null; done";
    let write = ContainerWish::script("write", image, write);
    let send = format!("while :; do busybox wget -q -O /dev/null http://{registry}/v2/; done");
    let send = ContainerWish::script("send", image, &send);
    let wishes = [&burn, &fill, &write, &send];
    let pod = machine.planned(PodWish::new("load", "cocoon"), &wishes, &[], |_| {}).await.unwrap();
    let mut ids = Vec::new();
    for wish in wishes {
        ids.push(pod.container(wish).await.unwrap());
    }
    // Once for what is made at the first time.
    ask(&pod, &ids, &mut BTreeMap::new()).await;
    let shim = shim(&machine);
    let (before, memory_before) = (descriptors(&shim), shim.memory().unwrap().0);
    let sent_before = pod.stats().await.unwrap().linux.network.default_interface.rx_bytes.value;

    let (began, mut slowest, mut rounds) = (Instant::now(), Duration::ZERO, 0);
    let mut seen = BTreeMap::new();
    while began.elapsed() < ASKING || rounds < 3 {
        let asked = Instant::now();
        ask(&pod, &ids, &mut seen).await;
        slowest = slowest.max(asked.elapsed());
        rounds += 1;
    }
    let took = began.elapsed();
    println!("{rounds} rounds of {} questions in {took:?}, the slowest {slowest:?}", ids.len() + 1);
    assert!(slowest < IN_TIME, "{slowest:?}");
    for (id, seen) in &seen {
        assert!(seen.cpu.is_sorted(), "{id}: time goes back: {:?}", seen.cpu);
        let used = Duration::from_nanos(seen.cpu.last().unwrap() - seen.cpu[0]);
        // One CPU in the guest; of the pod QEMU's other threads and the shim too.
        let most = if id.is_empty() { took * 4 } else { took * 3 / 2 };
        assert!(used <= most, "{id}: {used:?} of CPU in {took:?}");
        assert!(seen.memory > 0, "{id}");
    }
    let of = |at: usize| &seen[&ids[at]];
    assert!(of(0).cpu.last() > of(0).cpu.first(), "it burns no time");
    assert!(of(1).memory > 1 << 20 && of(1).memory <= LIMIT, "{}", of(1).memory);
    let sent = pod.stats().await.unwrap().linux.network.default_interface.rx_bytes.value;
    assert!(sent > sent_before, "nothing was received");

    let (after, memory_after) = (descriptors(&shim), shim.memory().unwrap().0);
    println!("descriptors {before} and {after}; memory {memory_before} KiB and {memory_after} KiB");
    assert!(after <= before + 4, "{before} descriptors became {after}");
    assert!(memory_after <= memory_before + 2048, "{memory_before} KiB became {memory_after} KiB");
    // All of it still works and can be told to end.
    assert_eq!(pod.sh(&ids[0], "echo here").await.unwrap(), "here");
    pod.stop_container(&ids[1], 0).await.unwrap();
    pod.remove().await.unwrap();
    machine
}

#[test]
fn figures_come_in_time_and_add_up() {
    Story::Cocoon(|_| {}).tell(Version::V2, load);
}

/// Lines of the flood, each of 1024 bytes with its line break.
const FLOOD: usize = 8 * 1024;

async fn still_reader(machine: Machine) -> Machine {
    let script = format!(
        "read go; echo began; yes $(busybox printf '%01023d' 7) | head -n {FLOOD}; echo end; sleep 100000"
    );
    let mut flood = ContainerWish::script("flood", &machine.image, &script);
    flood.stdin = true;
    let pod = machine.planned(PodWish::new("still", "cocoon"), &[&flood], &[], |_| {}).await.unwrap();
    let id = pod.container(&flood).await.unwrap();
    let shim = shim(&machine);
    let before = shim.memory().unwrap().0;
    let mut attached = pod.attach(&id, false, true).await.unwrap();
    // containerd, which reads what containers say, stands still soon after the flood begins.
    attached.write(b"go\n").await.unwrap();
    attached.wait_for("began\n").await.unwrap();
    let containerd = machine.containerd.process(&machine.node).unwrap();
    containerd.signal(Signal::STOP);
    tokio::time::sleep(Duration::from_secs(5)).await;
    let held = shim.memory().unwrap().0;
    containerd.signal(Signal::CONT);
    assert!(held <= before + 4096, "the shim hoards: {before} KiB became {held} KiB");
    drop(attached);
    // All of it comes, nothing twice.
    pod.wait_for_log("flood", 0, "end\n").await.unwrap();
    let log = pod.log("flood", 0, "stdout").unwrap();
    assert_eq!(log.len(), "began\n".len() + (FLOOD << 10) + "end\n".len());
    assert!(log.lines().skip(1).take(FLOOD).all(|l| l.len() == 1023 && l.ends_with("0007")));
    let state = pod.status(&id).await.unwrap().state;
    assert_eq!(state, protobuf::EnumOrUnknown::new(cri::ContainerState::CONTAINER_RUNNING));
    pod.remove().await.unwrap();
    machine
}

#[test]
fn a_reader_that_stands_still_holds_the_writer_back() {
    Story::Cocoon(|_| {}).tell(Version::V2, still_reader);
}
