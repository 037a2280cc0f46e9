//! Disks of the node are full: pods fail with words that say so, at once and without anything left, and run again when there is
//! room. A full log disk costs what is said, not the container.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cocoon_tests::containerd::{ContainerWish, Machine, PodWish, Story, Version, cri};
use cocoon_tests::wait_until;
use rustix::process::Signal;

/// How long a refusal may take, the VM's boot included.
const SOON: Duration = Duration::from_secs(120);
const SOON_LEFT: Duration = Duration::from_secs(20);

/// A small disk of the node's, over one of its folders. What is on it is seen in the node only.
struct Disk<'a> {
    machine: &'a Machine,
    at: PathBuf,
}

impl<'a> Disk<'a> {
    fn mount(machine: &'a Machine, at: &Path, mib: u32) -> Self {
        std::fs::create_dir_all(at).unwrap();
        let size = format!("size={mib}m");
        machine.node.run("mount", ["-t", "tmpfs", "-o", &size, "tmpfs", &at.display().to_string()]).unwrap();
        Disk { machine, at: at.to_owned() }
    }

    fn shell(&self, script: &str) -> String {
        let script = format!("cd '{}' && {script}", self.at.display());
        self.machine.node.run("sh", ["-c", &script]).unwrap()
    }

    /// Takes all of its room, but for so many KiB.
    fn fill(&self, but_kib: u32) {
        self.shell(&format!(
            "head -c {} /dev/zero >hole; cat /dev/zero >fill 2>/dev/null; rm hole; true",
            but_kib << 10
        ));
    }

    fn make_room(&self) {
        self.shell("rm -f fill");
    }

    fn files(&self) -> String {
        self.shell("find . -type f -o -type s")
    }

    fn unmount(self) {
        self.machine.node.run("umount", [self.at.display().to_string()]).unwrap();
    }
}

/// A pod and a container in it from their making to their end. What fails stays for [`cleared`]: a full disk may not let it
/// be removed.
async fn whole(machine: &Machine, name: &str) -> anyhow::Result<()> {
    let work = ContainerWish::script("work", &machine.image, "echo ready; sleep 100000");
    let pod = machine.planned(PodWish::new(name, "cocoon"), &[&work], &[], |_| {}).await?;
    let id = pod.container(&work).await?;
    assert_eq!(pod.sh(&id, "echo here").await?, "here");
    pod.remove().await
}

/// Removes what is left of pods, as kubelet does: again and again until it is done.
async fn cleared(machine: &Machine) {
    let cri = machine.containerd.cri();
    let began = Instant::now();
    loop {
        let pods = cri.pods(&cri::ListPodSandboxRequest::default()).await.unwrap().items;
        let mut failed = String::new();
        for pod in &pods {
            let id = cri::PodSandboxId { pod_sandbox_id: pod.id.clone(), ..Default::default() };
            let gone = async {
                cri.stop_pod(&id).await?;
                cri.remove_pod(&id).await
            };
            if let Err(error) = gone.await {
                failed = error.to_string();
            }
        }
        if pods.is_empty() {
            return;
        }
        assert!(began.elapsed() < SOON, "it cannot be removed: {failed}");
    }
}

fn says_so(result: anyhow::Result<()>, began: Instant) {
    let error = format!("{:#}", result.expect_err("there was room"));
    println!("{:?}: {error}", began.elapsed());
    let words = ["no space left", "disk-full", "storagefull"];
    assert!(words.iter().any(|w| error.to_lowercase().contains(w)), "{error}");
    assert!(began.elapsed() < SOON, "{:?}: {error}", began.elapsed());
}

async fn of_the_shim(machine: Machine) -> Machine {
    let disk = Disk::mount(&machine, &machine.node.folder().join("s"), 4);
    whole(&machine, "with-room").await.unwrap();
    // No room at all, and ever a little more.
    for (number, kib) in [0, 4, 12, 40].into_iter().enumerate() {
        disk.fill(kib);
        let began = Instant::now();
        match whole(&machine, &format!("full-{number}")).await {
            // With so much left it may just do.
            Ok(()) if number > 0 => println!("{kib} KiB are enough"),
            result => says_so(result, began),
        }
        disk.make_room();
        cleared(&machine).await;
        let (mount, mut left) = (mount_of(&disk), Vec::new());
        wait_until(SOON_LEFT, || {
            left = machine.left(Duration::ZERO).unwrap();
            left == [mount.clone()]
        });
        assert_eq!(left, [mount], "with {kib} KiB");
        assert_eq!(disk.files(), "", "left with {kib} KiB");
    }
    whole(&machine, "room-again").await.unwrap();
    assert_eq!(disk.files().lines().filter(|l| !l.contains("accel")).count(), 0, "{}", disk.files());
    disk.unmount();
    machine
}

fn mount_of(disk: &Disk) -> String {
    let mounts = disk.machine.node.run("cat", ["/proc/mounts"]).unwrap();
    let at = format!(" {} ", disk.at.display());
    format!("mount {}", mounts.lines().find(|l| l.contains(&at)).unwrap())
}

#[test]
fn the_shims_folder_is_full() {
    Story::Cocoon(|_| {}).tell(Version::V2, of_the_shim);
}

async fn of_containerd(mut machine: Machine) -> Machine {
    // Small disks under its root and under its bundles.
    machine.containerd.end(&machine.node, Signal::TERM).unwrap();
    let (root, state) = (machine.containerd.file("root"), machine.containerd.file("state"));
    for (at, mib) in [(&root, 64), (&state, 4)] {
        Disk::mount(&machine, at, mib);
    }
    machine.containerd.start_again(&machine.node).unwrap();
    whole(&machine, "with-room").await.unwrap();
    for (at, kib) in [(&state, 0), (&state, 16), (&root, 0), (&root, 64)] {
        let disk = Disk { machine: &machine, at: at.clone() };
        disk.fill(kib);
        let began = Instant::now();
        let name = format!("full-{}-{kib}", at.file_name().unwrap().display());
        match whole(&machine, &name).await {
            Ok(()) => println!("{name}: what is left is enough"),
            result => says_so(result, began),
        }
        disk.make_room();
        cleared(&machine).await;
        whole(&machine, &format!("{name}-again")).await.unwrap();
    }
    // What containerd mounts there goes with it.
    machine.containerd.end(&machine.node, Signal::TERM).unwrap();
    for at in [&root, &state] {
        machine.node.run("umount", ["-R", &at.display().to_string()]).unwrap();
    }
    machine.containerd.start_again(&machine.node).unwrap();
    machine
}

#[test]
fn containerds_folders_are_full() {
    Story::Cocoon(|_| {}).tell(Version::V2, of_containerd);
}

async fn of_logs(machine: Machine) -> Machine {
    let logs = machine.containerd.logs().join("logs");
    let disk = Disk::mount(&machine, &logs, 1);
    let script = "yes $(busybox printf '%01023d' 7) | head -n 4096; echo done >/done; sleep 100000";
    let flood = ContainerWish::script("flood", &machine.image, script);
    disk.shell("mkdir -p flood");
    let pod = machine.planned(PodWish::new("logs", "cocoon"), &[&flood], &[], |_| {}).await.unwrap();
    let id = pod.container(&flood).await.unwrap();
    // Four times what there is room for: it goes on all the same.
    let began = Instant::now();
    while pod.sh(&id, "cat /done").await.ok().as_deref() != Some("done") {
        assert!(began.elapsed() < SOON, "a full log disk holds the container up");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(disk.shell("du -sk .").trim().starts_with("10"), "it is not full: {}", disk.shell("du -sk ."));
    pod.stop_container(&id, 1).await.unwrap();
    pod.remove().await.unwrap();
    disk.unmount();
    machine
}

#[test]
fn the_disk_of_logs_is_full() {
    Story::Cocoon(|_| {}).tell(Version::V2, of_logs);
}
