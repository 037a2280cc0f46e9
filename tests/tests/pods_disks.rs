//! Block volumes: a disk of the node that is plugged into a running pod, as Kubernetes' `volumeDevices` have it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests

use cocoon_plan::pod::{DevicePlan, VolumePlan, VolumeSource};
use cocoon_plan::{Plan, Restart};
use cocoon_stage::Code;
use cocoon_tests::containerd::{ContainerWish, Disk, Machine, PodWish, Story, Version};

const SECTOR: usize = 512;
const SECTORS: usize = 8192;

/// A sector that begins with this text.
fn sector(text: &str) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    bytes.resize(SECTOR, 0);
    bytes
}

/// A disk whose first sector begins with this text.
fn content(text: &str) -> Vec<u8> {
    let mut bytes = sector(text);
    bytes.resize(SECTOR * SECTORS, 0);
    bytes
}

fn at(disk: &Disk, number: usize) -> Vec<u8> {
    disk.content().unwrap()[number * SECTOR..][..SECTOR].to_vec()
}

fn device(path: &str, disk: &Disk, rights: &str) -> (String, String, String) {
    (path.into(), disk.device().into(), rights.into())
}

fn planned(path: &str, volume: &str, read_only: bool) -> DevicePlan {
    DevicePlan { path: path.into(), volume: volume.into(), read_only }
}

/// Writes a sector of this text; `more` are further words for dd.
fn write(text: &str, path: &str, number: usize, more: &str) -> String {
    format!("echo '{text}' | busybox dd of={path} bs=512 seek={number} conv=sync,notrunc{more} 2>&1")
}

fn read(path: &str, number: usize) -> String {
    format!("busybox dd if={path} bs=512 skip={number} count=1 2>/dev/null | busybox tr -d '\\000'")
}

async fn disks(machine: Machine) -> Machine {
    let make =
        |name: &str| Disk::of(machine.node.folder().join(name), &content(&format!("{name} of the node\n")));
    let (Some(mut data), Some(mut fixed), Some(mut lent), Some(mut stray)) =
        (make("data").unwrap(), make("fixed").unwrap(), make("lent").unwrap(), make("stray").unwrap())
    else {
        return machine;
    };
    let mut work = ContainerWish::script("work", &machine.image, "echo ready; sleep 100000");
    work.devices = vec![
        device("/dev/data", &data, "mrw"),
        device("/dev/fixed", &fixed, "mrw"),
        device("/dev/lent", &lent, "r"),
    ];
    // Another container with one of them, in another place.
    let mut other = ContainerWish::script("other", &machine.image, &read("/dev/xvdb", 8));
    other.devices = vec![device("/dev/xvdb", &data, "mrw")];
    let change = |plan: &mut Plan| {
        plan.volumes = ["data", "fixed", "lent"]
            .map(|name| VolumePlan { name: name.into(), source: VolumeSource::Block {} })
            .to_vec();
        plan.containers[0].devices = vec![
            planned("/dev/data", "data", false),
            planned("/dev/fixed", "fixed", true),
            planned("/dev/lent", "lent", false),
        ];
        plan.containers[1].devices = vec![planned("/dev/xvdb", "data", false)];
        plan.containers[1].restart = Restart::Always;
    };
    let wish = PodWish::new("disks", "cocoon");
    let pod = machine.planned(wish, &[&work, &other], &[], change).await.unwrap();

    // A disk that the plan does not have.
    let mut outsider = work.clone();
    outsider.devices.push(device("/dev/stray", &stray, "mrw"));
    let refused = pod.container(&outsider).await.unwrap_err().to_string();
    assert!(
        refused.contains(Code::PlanRequestRefused.as_str()) && refused.contains("/dev/stray"),
        "{refused}"
    );
    work.attempt = 1;
    let id = pod.container(&work).await.unwrap();

    for (path, name) in [("/dev/data", "data"), ("/dev/fixed", "fixed"), ("/dev/lent", "lent")] {
        assert_eq!(pod.sh(&id, &read(path, 0)).await.unwrap(), format!("{name} of the node"));
        assert_eq!(
            pod.sh(&id, &format!("busybox blockdev --getsz {path}")).await.unwrap(),
            SECTORS.to_string()
        );
    }
    assert!(pod.sh(&id, "test -e /dev/stray").await.is_err());
    // What was flushed is in the node's file at once.
    pod.sh(&id, &write("of the guest", "/dev/data", 8, ",fsync")).await.unwrap();
    assert_eq!(at(&data, 8), sector("of the guest\n"));
    // Neither what the plan calls read-only nor what kubelet does is written to.
    for path in ["/dev/fixed", "/dev/lent"] {
        let (said, _, code) =
            pod.exec(&id, &["/bin/sh", "-c", &write("x", path, 0, ",fsync")]).await.unwrap();
        assert_ne!(code, 0, "{path}: {said}");
    }
    for attempt in 0..2 {
        other.attempt = attempt;
        let other = pod.container(&other).await.unwrap();
        assert_eq!(pod.wait(&other).await.unwrap().code, 0);
        assert_eq!(pod.log("other", attempt, "stdout").unwrap(), "of the guest\n");
    }
    // Not flushed, but written before the pod ends.
    pod.sh(&id, &write("at the end", "/dev/data", SECTORS - 1, "")).await.unwrap();
    assert!(pod.sh(&id, &write("beyond", "/dev/data", SECTORS, "")).await.is_err());
    pod.remove().await.unwrap();

    assert_eq!(at(&data, SECTORS - 1), sector("at the end\n"));
    assert_eq!(fixed.content().unwrap(), content("fixed of the node\n"));
    assert_eq!(lent.content().unwrap(), content("lent of the node\n"));
    for disk in [&mut data, &mut fixed, &mut lent, &mut stray] {
        assert!(disk.release(), "{} is still in use", disk.device());
    }
    machine
}

#[test]
fn a_pod_has_the_disks_of_its_plan_and_gives_them_back() {
    Story::Cocoon(|_| {}).tell(Version::V2, disks);
}
