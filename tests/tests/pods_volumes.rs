//! Volumes of a pod: empty directories shared by its containers, files of the node and their changes, nothing else of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cocoon_image::Digest;
use cocoon_plan::pod::{VolumePlan, VolumeSource};
use cocoon_plan::{MountPlan, Plan};
use cocoon_tests::containerd::{ContainerWish, Machine, PodWish, Story, Version};

fn volume(name: &str, source: VolumeSource) -> VolumePlan {
    VolumePlan { name: name.into(), source }
}

fn mount(target: &str, volume: &str, sub_path: &str, read_only: bool) -> MountPlan {
    let (target, volume, sub_path) = (target.into(), volume.into(), sub_path.into());
    MountPlan::Volume { target, volume, sub_path, read_only }
}

/// A volume of files as kubelet keeps it: a folder of this content's own, `..data` that leads there, and names that lead
/// through `..data`. Called again it changes the content as kubelet does: as a whole.
fn write_volume(folder: &Path, version: &str, files: &[(&str, &str)]) {
    let content = folder.join(format!("..{version}"));
    fs::create_dir_all(&content).unwrap();
    for (name, text) in files {
        fs::write(content.join(name), text).unwrap();
        if fs::symlink_metadata(folder.join(name)).is_err() {
            symlink(format!("..data/{name}"), folder.join(name)).unwrap();
        }
    }
    symlink(format!("..{version}"), folder.join("..data_tmp")).unwrap();
    fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
}

fn plan_of(plan: &mut Plan) {
    plan.share_process_namespace = true;
    let digests = BTreeMap::from([("key".to_owned(), Digest::sha256(b"pinned").to_string())]);
    plan.volumes = vec![
        volume("memory", VolumeSource::Memory { size: 1 << 20, gid: None }),
        volume("scratch", VolumeSource::Scratch { size: 0, gid: None }),
        volume("config", VolumeSource::Files { digests: None }),
        volume("pinned", VolumeSource::Files { digests: Some(digests) }),
    ];
    for container in &mut plan.containers {
        container.mounts = vec![
            mount("/memory", "memory", "", false),
            mount("/scratch", "scratch", "", false),
            mount("/config", "config", "", true),
            mount("/part", "config", "part", true),
            mount("/pinned", "pinned", "", true),
        ];
    }
}

async fn volumes(machine: Machine) -> Machine {
    let pods = machine.node.folder().join("kubelet/pods/uid-volumes/volumes");
    let at = |kind: &str, name: &str| -> PathBuf {
        let folder = pods.join(format!("kubernetes.io~{kind}")).join(name);
        fs::create_dir_all(&folder).unwrap();
        folder
    };
    let (memory, scratch) = (at("empty-dir", "memory"), at("empty-dir", "scratch"));
    let (config, pinned) = (at("configmap", "config"), at("secret", "pinned"));
    write_volume(&config, "1", &[("app", "old"), ("part", "a part")]);
    write_volume(&pinned, "1", &[("key", "pinned")]);
    let outside = machine.node.folder().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("file"), "the node's own").unwrap();

    let mut one = ContainerWish::script("one", &machine.image, "echo ready; sleep 100000");
    let text = |p: &Path| p.display().to_string();
    one.mounts = vec![
        ("/memory".into(), text(&memory), false),
        ("/scratch".into(), text(&scratch), false),
        ("/config".into(), text(&config), true),
        ("/part".into(), text(&config.join("..data/part")), true),
        ("/pinned".into(), text(&pinned), true),
    ];
    let mut two = one.clone();
    two.name = "two".into();
    let pod = machine.planned(PodWish::new("volumes", "cocoon"), &[&one, &two], &[], plan_of).await.unwrap();
    let first = pod.container(&one).await.unwrap();
    // The plan knows no such mount: kubelet hears so, and the container starts once the mount is gone.
    let mut outsider = two.clone();
    outsider.mounts.push(("/outside".into(), text(&outside), false));
    let refused = pod.container(&outsider).await.unwrap_err().to_string();
    assert!(refused.contains("PLAN-REQUEST-REFUSED") && refused.contains("/outside"), "{refused}");
    two.attempt = 1;
    let second = pod.container(&two).await.unwrap();
    assert!(pod.sh(&second, "cat /outside/file").await.is_err(), "the node's folder is in the guest");

    pod.sh(&first, "echo shared >/memory/x; echo kept >/scratch/y").await.unwrap();
    assert_eq!(pod.sh(&second, "cat /memory/x /scratch/y").await.unwrap(), "shared\nkept");
    assert!(pod.sh(&first, "head -c 2097152 /dev/zero >/memory/big").await.is_err(), "larger than its limit");
    // Nothing of it reaches the node.
    assert_eq!(fs::read_dir(&memory).unwrap().count() + fs::read_dir(&scratch).unwrap().count(), 0);

    assert_eq!(pod.sh(&first, "cat /config/app /part /pinned/key").await.unwrap(), "olda partpinned");
    assert!(pod.sh(&first, "echo x >/config/app").await.is_err(), "it is read-only");
    write_volume(&config, "2", &[("app", "new"), ("part", "a part"), ("more", "more")]);
    let began = Instant::now();
    while pod.sh(&second, "cat /config/app /config/more").await.ok().as_deref() != Some("newmore") {
        assert!(began.elapsed() < Duration::from_secs(60), "the change does not arrive");
    }
    // Another content than the plan's does not arrive.
    write_volume(&pinned, "2", &[("key", "other!")]);
    write_volume(&config, "3", &[("app", "newer"), ("part", "a part")]);
    while pod.sh(&second, "cat /config/app").await.ok().as_deref() != Some("newer") {
        assert!(began.elapsed() < Duration::from_secs(120), "the change does not arrive");
    }
    assert_eq!(pod.sh(&first, "cat /pinned/key").await.unwrap(), "pinned");
    assert!(pod.sh(&first, "test -e /config/more").await.is_err(), "what was taken away is still there");

    // One process namespace: each sees the other's.
    assert_eq!(pod.sh(&first, "ps | busybox grep -c '[s]leep 100000'").await.unwrap(), "2");
    pod.remove().await.unwrap();
    machine
}

#[test]
fn directories_files_and_their_changes() {
    Story::Cocoon(|_| {}).tell(Version::V2, volumes);
}
