//! Where a pod's image comes from through containerd: disks that pods of a node share, and nothing of it on the node.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use cocoon_image::Manifest;
use cocoon_stage::Code;
use cocoon_tests::containerd::{ContainerWish, Machine, Pod, PodWish, Snapshotter, Story, Version};
use cocoon_tests::{Layout, run, wait_until};

const TREASURE: &str = "the model weights, say\n";
const LINES: usize = 4096;

fn manifest(reference: &str) -> Manifest {
    let raw = run("skopeo", ["inspect", "--raw", "--tls-verify=false", &format!("docker://{reference}")]);
    Manifest::parse(&raw.unwrap()).unwrap()
}

async fn shared(machine: Machine) -> Machine {
    let owner = machine.owner().unwrap();
    // Content in blocks of its own, so that metadata stays readable when it is altered.
    let treasure = TREASURE.repeat(LINES);
    let layout = Layout::busybox(&["/bin/true"], &[("/data/treasure", treasure.as_bytes())]).unwrap();
    layout.layer(&[("/data/over", b"upper\n")], &[]).unwrap();
    let image = layout.push(&machine.registry, "shared:1").unwrap();
    let layers = owner.layers(&image).await.unwrap();
    assert_eq!(layers.len(), 2);
    let look = "cat /data/treasure | wc -c; cat /data/treasure >/dev/null; echo status=$?; cat /data/over; \
                echo ready; sleep 100000";
    let work = ContainerWish::script("work", &image, look);
    let start = async |name: &str| -> (Pod, String) {
        let wish = PodWish::new(name, "cocoon");
        let pinned = |plan: &mut cocoon_plan::Plan| plan.containers[0].image.layers = Some(layers.clone());
        let pod = machine.planned(wish, &[&work], &[], pinned).await.unwrap();
        let id = pod.container(&work).await.unwrap();
        pod.wait_for_log("work", 0, "ready\n").await.unwrap();
        (pod, id)
    };
    let good = format!("{}\nstatus=0\nupper\nready\n", treasure.len());

    // The node has no layer: the first pod's shim has them made.
    let (first, _) = start("first").await;
    assert_eq!(first.log("work", 0, "stdout").unwrap(), good);
    let folder = owner.class(&machine.node).data.join("layers/layers");
    let names = || -> BTreeSet<String> {
        fs::read_dir(&folder)
            .unwrap()
            .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
            .collect()
    };
    assert_eq!(names(), layers.iter().map(|l| l.root.clone()).collect());
    first.remove().await.unwrap();

    // The registry loses them: nothing is pulled any more, neither by the guest nor by the node.
    for layer in manifest(&image).layers {
        machine.registry.lose(&layer.digest).unwrap();
    }
    let (second, id) = start("second").await;
    assert_eq!(second.log("work", 0, "stdout").unwrap(), good);
    // Two disks of verity's, which nobody writes to.
    let disks = second.sh(&id, "cat /sys/block/dm-*/ro").await.unwrap();
    assert!(disks.lines().filter(|l| *l == "1").count() >= 2, "{disks}");
    second.remove().await.unwrap();

    // The node alters a block: it is never read, and kubelet's node learns of it.
    let altered = folder.join(&layers[0].root);
    let mut bytes = fs::read(&altered).unwrap();
    let at = bytes.windows(TREASURE.len()).rposition(|w| w == TREASURE.as_bytes()).unwrap();
    bytes[at] ^= 1;
    fs::set_permissions(&altered, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&altered, bytes).unwrap();
    let (third, _) = start("third").await;
    let seen = third.log("work", 0, "stdout").unwrap();
    assert!(
        seen.ends_with("status=1\nupper\nready\n") && !seen.contains(&treasure.len().to_string()),
        "{seen}"
    );
    let told = || machine.containerd.log().contains(Code::ImageLayerTampered.as_str());
    assert!(wait_until(Duration::from_secs(20), told), "{}", machine.containerd.log());
    third.remove().await.unwrap();
    machine
}

#[test]
fn pods_start_from_disks_that_the_node_keeps_and_read_nothing_altered() {
    Story::Cocoon(|_| {}).tell(Version::V2, shared);
}

/// The proxy snapshotter answers for the image: containerd fetches no layer of it, and the guest all.
async fn none_on_the_node(mut machine: Machine) -> Machine {
    let layout = Layout::busybox(&["/bin/true"], &[("/data/treasure", TREASURE.as_bytes())]).unwrap();
    // containerd looks the user up where it thinks the image is; who the container really runs as, the guest finds.
    let tagged = format!("{}:image", layout.path().display());
    run("umoci", ["config", "--image", &tagged, "--config.user", "user"]).unwrap();
    let image = layout.push(&machine.registry, "lean:1").unwrap();
    let snapshotter = Snapshotter::join(&mut machine).unwrap();

    let mut wish = PodWish::new("lean", "lean");
    // Without it containerd prepares images for its default runtime.
    wish.annotations.insert("io.containerd.cri.runtime-handler".into(), "lean".into());
    let work = ContainerWish::script("work", &image, "id -un; cat /data/treasure; echo ready; sleep 100000");
    let user = |plan: &mut cocoon_plan::Plan| plan.containers[0].user = "user".into();
    let pod = machine.planned(wish, &[&work], &[], user).await.unwrap();
    let id = pod.container(&work).await.unwrap();
    pod.wait_for_log("work", 0, "ready\n").await.unwrap();
    assert_eq!(pod.log("work", 0, "stdout").unwrap(), format!("user\n{TREASURE}ready\n"));
    assert_eq!(pod.sh(&id, "id -u").await.unwrap(), "1000");

    let ctr = |args: &[&str]| {
        let output =
            machine.containerd.ctr(&machine.node, &[&["-n", "k8s.io"], args].concat()).output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let content = ctr(&["content", "ls", "-q"]);
    let manifest = manifest(&image);
    assert!(content.contains(&manifest.config.digest.to_string()), "the image is not known: {content}");
    for layer in &manifest.layers {
        assert!(!content.contains(&layer.digest.to_string()), "{} was fetched: {content}", layer.digest);
    }
    let snapshots = ctr(&["snapshots", "--snapshotter", "cocoon", "ls"]);
    assert!(snapshots.contains("Committed") && snapshots.contains(&id), "{snapshots}");
    pod.remove().await.unwrap();
    snapshotter.stop(&machine.node).unwrap();
    machine
}

#[test]
fn containerd_2_fetches_no_layer() {
    Story::Cocoon(|_| {}).tell(Version::V2, none_on_the_node);
}

#[test]
fn containerd_1_7_fetches_no_layer() {
    Story::Cocoon(|_| {}).tell(Version::V1_7, none_on_the_node);
}
