//! Pods without a plan: a developer's guest runs what the host says, and a production guest says why it does not.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::OnceLock;

use cocoon_protocol::HashAlgorithm;
use cocoon_protocol::initdata::InitData;
use cocoon_stage::Code;
use cocoon_tests::build_developer_image;
use cocoon_tests::containerd::{ANNOTATION, ContainerWish, Machine, PodWish, Story, Version};

/// The developer's image, where this machine gets a kernel for it. It is built before the story, whose network leads nowhere.
static DEVELOPER: OnceLock<Option<PathBuf>> = OnceLock::new();

const WORK: &str = r#"
echo "to stdout of $NAME"; echo "to stderr" >&2
trap 'echo asked; exit 5' TERM
mkdir -p /shared/www; echo content >/shared/www/index.html; busybox httpd -p 8080 -h /shared/www
echo ready
while :; do sleep 0.1; done
"#;

/// Initdata without a plan: where images may come from in plain HTTP.
fn images(machine: &Machine) -> String {
    let text = serde_json::json!({"plain_http": [machine.registry.address()]}).to_string();
    let files = BTreeMap::from([("images.json".to_owned(), text)]);
    InitData::new(HashAlgorithm::Sha256, files).to_annotation().unwrap()
}

async fn open(machine: Machine) -> Machine {
    let work = || ContainerWish::script("work", &machine.image, WORK);
    let mut wish = PodWish::new("open", "cocoon");
    wish.annotations.insert(ANNOTATION.into(), images(&machine));
    wish.annotations.insert("dev.cocoon.forward-ports".into(), "8080".into());
    wish.sysctls.insert("net.core.somaxconn".into(), "777".into());
    wish.shared_pid = true;

    // A production guest does not, though there is initdata. Which of the two calls is refused is the runtime's to choose.
    let mut production = PodWish::new("production", "cocoon");
    production.annotations.clone_from(&wish.annotations);
    let refused = async {
        let pod = machine.pod(production).await?;
        let made = pod.container(&work()).await;
        pod.remove().await?;
        made
    };
    let refused = refused.await.unwrap_err().to_string();
    assert!(refused.contains(Code::InitdataMalformed.as_str()), "{refused}");

    let Some(Some(folder)) = DEVELOPER.get().cloned() else { return machine };
    // The class file is read when a pod starts.
    let mut class = machine.owner().unwrap().class(&machine.node);
    class.guest_image = folder;
    fs::write(machine.containerd.file("class.toml"), class.to_toml()).unwrap();

    let volumes = machine.node.folder().join("kubelet/pods/uid-open/volumes");
    let at = |kind: &str, name: &str| {
        let folder = volumes.join(format!("kubernetes.io~{kind}")).join(name);
        fs::create_dir_all(&folder).unwrap();
        folder
    };
    let (config, empty) = (at("configmap", "config"), at("empty-dir", "shared"));
    fs::write(config.join("key"), "of the node\n").unwrap();
    let pod = machine.pod(wish).await.unwrap();
    let mut work = work();
    work.env = vec![("NAME".into(), "the host".into()), ("PATH".into(), "/bin".into())];
    work.user = Some(1000);
    work.memory = 64 << 20;
    work.mounts = vec![
        ("/etc/config".into(), config.display().to_string(), true),
        ("/shared".into(), empty.display().to_string(), false),
    ];
    let id = pod.container(&work).await.unwrap();
    pod.wait_for_log("work", 0, "ready\n").await.unwrap();
    assert_eq!(pod.log("work", 0, "stdout").unwrap(), "to stdout of the host\nready\n");
    assert_eq!(pod.log("work", 0, "stderr").unwrap(), "to stderr\n");
    assert_eq!(
        pod.exec(&id, &["/bin/sh", "-c", "echo a; echo b >&2; exit 7"]).await.unwrap(),
        ("a\n".into(), "b\n".into(), 7)
    );
    let mut shell = pod.exec_stream(&id, &["/bin/sh"], true, true).await.unwrap();
    shell.write(b"echo typed; exit 4\n").await.unwrap();
    assert_eq!(shell.finish().await.unwrap(), 4, "{}", String::from_utf8_lossy(&shell.stdout));
    let seen =
        "id -u; busybox hostname; cat /etc/config/key /proc/sys/net/core/somaxconn; echo kept >/shared/x";
    assert_eq!(pod.sh(&id, seen).await.unwrap(), "1000\nopen\nof the node\n777");
    assert!(pod.sh(&id, "echo x >/etc/config/key").await.is_err(), "it is read-only");

    // Another container of the pod: the same volume, the same processes.
    let mut other = ContainerWish::script(
        "other",
        &machine.image,
        "cat /shared/x; ps | busybox grep -c '[h]ttpd'; exit 3",
    );
    other.mounts = vec![("/shared".into(), empty.display().to_string(), true)];
    let ended = pod.container(&other).await.unwrap();
    assert_eq!(pod.wait(&ended).await.unwrap().code, 3);
    assert_eq!(
        pod.log("other", 0, "stdout").unwrap(),
        "kept\n2\n",
        "the server, and the shell whose script names it"
    );
    assert_eq!(fs::read_dir(&empty).unwrap().count(), 0, "the node sees what is written");

    let mut web = pod.forward(8080).await.unwrap();
    web.write(b"GET /index.html HTTP/1.0\r\n\r\n").await.unwrap();
    web.wait_for("content\n").await.unwrap();
    let stats = pod.container_stats(&id).await.unwrap();
    assert!(
        stats.cpu.usage_core_nano_seconds.value > 0 && stats.memory.working_set_bytes.value > 0,
        "{stats:?}"
    );
    assert!(pod.stats().await.unwrap().linux.cpu.usage_core_nano_seconds.value > 0);
    pod.stop_container(&id, 60).await.unwrap();
    assert_eq!(pod.wait(&id).await.unwrap().code, 5);
    pod.remove().await.unwrap();
    machine
}

#[test]
fn a_developers_guest_takes_the_hosts_word_and_a_production_guest_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("image");
    let built = build_developer_image(&image).unwrap();
    DEVELOPER.set(built.then_some(image)).unwrap();
    Story::Cocoon(|_| {}).tell(Version::V2, open);
}
