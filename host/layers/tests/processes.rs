//! Many pods: threads and processes that want the same layers at once, and processes that are killed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use cocoon_layers::Cache;
use support::*;

const CHILD: &str = "COCOON_TEST_LAYERS_CHILD";
const BYTES: usize = 2 << 20;

/// Not a test: what a child process of the tests does. Its orders are `FOLDER LIMIT FIRST LAST PACE`: it takes the
/// layers of these seeds, says `root computed` for each, and holds them until its standard input ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child() {
    let Ok(orders) = std::env::var(CHILD) else { return };
    let words: Vec<&str> = orders.split(' ').collect();
    let number = |i: usize| words[i].parse::<u64>().unwrap();
    let cache = Cache::open(Path::new(words[0]), number(1)).unwrap();
    let mut leases = Vec::new();
    let layers: Vec<Layer> = (number(2)..=number(3)).map(|seed| layer(seed, BYTES)).collect();
    println!("\nbegin");
    for layer in layers {
        let source = Memory { pace: Duration::from_millis(number(4)), ..layer.source() };
        match cache.layer(&layer.wanted(), &source).await {
            Ok(lease) => {
                println!("\ngot {} {}", lease.root_hex(), lease.computed);
                leases.push(lease);
            }
            Err(e) => println!("\nfailed {e}"),
        }
    }
    println!("\ndone");
    std::io::stdout().flush().unwrap();
    let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
}

fn start(folder: &Path, limit: u64, seeds: (u64, u64), pace: u64) -> Child {
    let orders = format!("{} {limit} {} {} {pace}", folder.display(), seeds.0, seeds.1);
    Command::new(std::env::current_exe().unwrap())
        .args(["child", "--exact", "--nocapture", "--test-threads=1"])
        .env(CHILD, orders)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// What it got, as (root, computed), once it has all.
fn results(child: &mut Child) -> Vec<(String, bool)> {
    let mut got = Vec::new();
    for line in BufReader::new(child.stdout.as_mut().unwrap()).lines().map(Result::unwrap) {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["got", root, computed] => got.push((root.to_owned(), computed == "true")),
            ["done"] => return got,
            ["begin"] => {}
            _ => assert!(!line.starts_with("failed"), "{line}"),
        }
    }
    panic!("the child ended early");
}

/// Returns when the child is about to ask for its first layer.
fn wait_for_begin(child: &mut Child) {
    let mut lines = BufReader::new(child.stdout.as_mut().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line == "begin"));
}

fn kill(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_tasks_make_a_layer_once() {
    let dir = tempfile::tempdir().unwrap();
    let (cache, layer) = (open(dir.path()), layer(1, BYTES));
    let source = layer.source();
    let tasks: Vec<_> = (0..32)
        .map(|i| {
            let (source, wanted) = (source.clone(), layer.wanted());
            // Half of them as if in other processes.
            let cache = if i % 2 == 0 { cache.clone() } else { open(dir.path()) };
            tokio::spawn(async move { cache.layer(&wanted, &source).await.unwrap() })
        })
        .collect();
    let mut computed = 0;
    for task in tasks {
        computed += usize::from(task.await.unwrap().computed);
    }
    assert_eq!((computed, source.opened.load(Ordering::SeqCst)), (1, 1));
    assert_tidy(dir.path());
}

#[test]
fn many_processes_make_each_layer_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut children: Vec<Child> = (0..6).map(|_| start(dir.path(), LIMIT, (1, 3), 1)).collect();
    // What is being made is not taken for what killed processes left.
    for _ in 0..100 {
        open(dir.path());
        std::thread::sleep(Duration::from_millis(5));
    }
    let all: Vec<Vec<(String, bool)>> = children.iter_mut().map(results).collect();
    for layer in 0..3 {
        assert!(all.iter().all(|got| got[layer].0 == all[0][layer].0));
        assert_eq!(all.iter().filter(|got| got[layer].1).count(), 1, "{all:?}");
    }
    children.into_iter().for_each(kill);
    open(dir.path());
    assert_tidy(dir.path());
}

#[tokio::test]
async fn the_leases_of_a_killed_process_end_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = start(dir.path(), LIMIT, (1, 2), 0);
    assert_eq!(results(&mut child).len(), 2);
    let cache = open(dir.path());
    assert!(cache.list().await.unwrap().iter().all(|e| e.in_use));
    assert_eq!(cache.prune(0).await.unwrap().len(), 0);
    kill(child);
    assert!(cache.list().await.unwrap().iter().all(|e| !e.in_use));
    assert_eq!(cache.prune(0).await.unwrap().len(), 2);
}

#[tokio::test]
async fn processes_may_be_killed_at_any_moment() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path());
    let mut wait = Duration::ZERO;
    let mut interrupted = 0;
    for _ in 0..24 {
        let mut child = start(dir.path(), LIMIT, (1, 3), 4);
        wait_for_begin(&mut child);
        std::thread::sleep(wait);
        kill(child);
        interrupted += usize::from(!names(dir.path(), "locks").is_empty());
        wait += Duration::from_millis(25);
        // Whatever has a name is whole, whenever the process died.
        let cache = open(dir.path());
        assert_tidy(dir.path());
        let verdicts = cache.verify(&[]).await.unwrap();
        assert!(verdicts.iter().all(|v| v.problem.is_none()), "{verdicts:?}");
        if names(dir.path(), "layers").len() == 3 {
            cache.prune(0).await.unwrap();
        }
    }
    assert!(interrupted > 0, "no process was killed while it made a layer");
    let mut last = start(dir.path(), LIMIT, (1, 3), 0);
    assert_eq!(results(&mut last).len(), 3);
    kill(last);
    println!("{interrupted} of 24 were killed while they made a layer");
}

#[test]
fn processes_that_want_more_than_fits_never_take_what_is_in_use() {
    let dir = tempfile::tempdir().unwrap();
    // Room for four; each process needs two at a time of six that go around.
    let limit = 4 * (BYTES as u64 + (256 << 10));
    let mut holder = start(dir.path(), limit, (1, 2), 0);
    let held = results(&mut holder);
    let began = Instant::now();
    let mut rounds = 0;
    while began.elapsed() < Duration::from_secs(4) {
        let mut pair: Vec<Child> = [3, 5].map(|s| start(dir.path(), limit, (s, s), 0)).into();
        for child in &mut pair {
            assert_eq!(results(child).len(), 1);
        }
        pair.into_iter().for_each(kill);
        assert!(held.iter().all(|(root, _)| dir.path().join("layers").join(root).exists()));
        let mut next = start(dir.path(), limit, (4, 4), 0);
        assert_eq!(results(&mut next).len(), 1);
        kill(next);
        let bytes: u64 = names(dir.path(), "layers")
            .iter()
            .map(|n| dir.path().join("layers").join(n).metadata().unwrap().len())
            .sum();
        assert!(bytes <= limit);
        rounds += 1;
    }
    kill(holder);
    assert!(rounds > 0);
}
