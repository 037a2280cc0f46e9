//! What containerd does with the snapshotter: images pulled through CRI and by `ctr`, containers, removal, restarts.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use support::{Containerd, Serving, VERSIONS, find, push, registry};

fn each(story: impl Fn(&Path, &Path)) {
    for version in VERSIONS {
        let Some(programs) = find(version) else { continue };
        let folder = tempfile::Builder::new().prefix("cs").tempdir().unwrap();
        println!("containerd {version}");
        story(&programs, folder.path());
    }
}

/// Starts all of it, with a containerd that the snapshotter may ask.
fn start(programs: &Path, folder: &Path) -> (Serving, Containerd) {
    let serving = Serving::start(folder, Some(folder.join("containerd.sock")));
    (serving, Containerd::start(programs, folder))
}

/// Files below the snapshotter's directories.
fn files(folder: &Path) -> usize {
    fn count(path: &Path) -> usize {
        let entries = fs::read_dir(path).unwrap().map(|e| e.unwrap().path());
        entries.map(|p| if p.is_dir() { count(&p) } else { 1 }).sum()
    }
    count(&folder.join("snapshotter/snapshots")) + count(&folder.join("snapshotter/trash"))
}

const BUSYBOX: &str = "type=bind,src=/bin/busybox,dst=/busybox,options=rbind:ro";

#[test]
fn a_pull_through_cri_brings_no_layer_and_containers_see_none() {
    each(|programs, folder| {
        let (_registry, address) = registry(folder);
        let (image, layers) = push(folder, &address, "web", "web");
        let (_serving, containerd) = start(programs, folder);
        containerd.pull(&image).unwrap();

        let content = containerd.must("k8s.io", &["content", "ls", "-q"]);
        assert!(content.lines().count() >= 2, "manifest and config are there: {content}");
        for layer in &layers {
            assert!(!content.contains(layer.as_str()), "{layer} was fetched: {content}");
        }
        let snapshots = containerd.snapshots("k8s.io");
        assert_eq!(snapshots.len(), 3, "{snapshots:?}");
        assert!(snapshots.iter().all(|s| s.last().unwrap() == "Committed" && s[0].starts_with("sha256:")));
        let usage = containerd.must("k8s.io", &["snapshots", "--snapshotter", "cocoon", "usage"]);
        assert!(snapshots.iter().all(|s| usage.contains(&s[0])), "{usage}");
        assert_eq!(files(folder), 0);

        // The image's own program is not there …
        let run = |id: &str, more: &[&str], program: &[&str]| {
            let args =
                [&["run", "--rm", "--snapshotter", "cocoon", "--null-io"][..], more, &[&image, id], program]
                    .concat();
            let args: Vec<_> = args.into_iter().filter(|a| *a != "--null-io").collect();
            containerd.ctr("k8s.io", &args)
        };
        let (good, text) = run("own", &[], &["/bin/sh"]);
        assert!(!good && text.contains("no such file"), "{text}");
        // … and nothing else, but for the name that containerd had to look up, and what runc mounts on.
        let (good, text) =
            run("ls", &["--mount", BUSYBOX], &["/busybox", "find", "/", "-xdev", "-type", "f"]);
        assert!(good, "{text}");
        let mut found: Vec<_> = text.lines().collect();
        found.sort_unstable();
        assert_eq!(found, ["/busybox", "/etc/group", "/etc/passwd"]);
        let (good, text) = run("id", &["--mount", BUSYBOX], &["/busybox", "id", "-un"]);
        assert_eq!((good, text.trim()), (true, "web"));

        assert_eq!(containerd.snapshots("k8s.io").len(), 3);
        containerd.remove_images("k8s.io");
        assert_eq!(containerd.snapshots("k8s.io"), Vec::<Vec<String>>::new());
        assert_eq!(files(folder), 0);
        assert_eq!(fs::read_dir(folder.join("snapshotter/records")).unwrap().count(), 0);
    });
}

#[test]
fn ctr_pulls_and_namespaces_share() {
    each(|programs, folder| {
        let (_registry, address) = registry(folder);
        let (image, layers) = push(folder, &address, "web", "web:staff");
        let (other, _) = push(folder, &address, "db", "");
        let (_serving, containerd) = start(programs, folder);
        // ctr of old fetches and unpacks by itself: what it unpacks is thrown away when it commits.
        containerd.must("default", &["images", "pull", "--plain-http", "--snapshotter", "cocoon", &image]);
        assert_eq!(containerd.snapshots("default").len(), 3);
        assert_eq!(files(folder), 0);
        // Since containerd 2 it is containerd that pulls, and asks first.
        let content = containerd.must("default", &["content", "ls", "-q"]);
        let fetched = layers.iter().any(|layer| content.contains(layer.as_str()));
        println!("ctr fetched layers: {fetched}");
        assert!(!fetched || !programs.to_string_lossy().contains("containerd-2"), "{content}");
        // Another image of the same lowest layers, and the same image in another namespace.
        containerd.pull(&image).unwrap();
        containerd.pull(&other).unwrap();
        assert_eq!(containerd.snapshots("k8s.io").len(), 4);
        let run = |namespace: &str, image: &str, id: &str| {
            let args = [
                "run",
                "--rm",
                "--snapshotter",
                "cocoon",
                "--mount",
                BUSYBOX,
                image,
                id,
                "/busybox",
                "id",
                "-u",
            ];
            containerd.must(namespace, &args).trim().to_owned()
        };
        assert_eq!(run("default", &image, "a"), "65534");
        assert_eq!(run("k8s.io", &image, "a"), "65534");
        assert_eq!(run("k8s.io", &other, "b"), "0");
        containerd.remove_images("default");
        assert_eq!(containerd.snapshots("k8s.io").len(), 4);
        assert_eq!(run("k8s.io", &image, "c"), "65534");
        containerd.remove_images("k8s.io");
        assert_eq!(fs::read_dir(folder.join("snapshotter/records")).unwrap().count(), 0);
    });
}

#[test]
fn ctr_s_own_commands_work_and_are_refused_as_usual() {
    each(|programs, folder| {
        let (_serving, containerd) = start(programs, folder);
        let ctr = |args: &[&str]| {
            containerd.ctr("default", &[&["snapshots", "--snapshotter", "cocoon"], args].concat())
        };
        let good = |args: &[&str]| {
            let (good, text) = ctr(args);
            assert!(good, "{args:?}: {text}");
            text
        };
        let refused = |args: &[&str], why: &str| {
            let (good, text) = ctr(args);
            assert!(!good && text.contains(why), "{args:?}: {text}");
        };
        good(&["prepare", "base"]);
        let mounts = good(&["mounts", "/mnt", "base"]);
        assert!(mounts.contains(&folder.join("snapshotter/snapshots").display().to_string()), "{mounts}");
        assert!(mounts.contains("bind"), "{mounts}");
        good(&["commit", "layer", "base"]);
        refused(&["info", "base"], "not found");
        refused(&["prepare", "layer"], "exists");
        good(&["prepare", "--target", "/mnt", "top", "layer"]);
        good(&["view", "look", "layer"]);
        refused(&["prepare", "x", "top"], "not committed");
        refused(&["prepare", "x", "nothing"], "not exist");
        refused(&["rm", "layer"], "child");
        refused(&["commit", "again", "look"], "not active");
        refused(&["mounts", "/mnt", "layer"], "neither active nor a view");
        good(&["label", "top", "containerd.io/snapshot/a=1"]);
        assert!(good(&["info", "top"]).contains("\"containerd.io/snapshot/a\": \"1\""));
        let tree = good(&["tree"]);
        assert!(tree.contains("layer") && tree.contains("top"), "{tree}");
        good(&["rm", "look"]);
        good(&["rm", "top"]);
        refused(&["rm", "top"], "not exist");
        good(&["rm", "layer"]);
        assert_eq!(good(&["ls"]).lines().count(), 1);
    });
}

#[test]
fn crashes_and_restarts_lose_nothing() {
    each(|programs, folder| {
        let (_registry, address) = registry(folder);
        let (image, _) = push(folder, &address, "web", "web");
        let (serving, containerd) = start(programs, folder);
        containerd.pull(&image).unwrap();
        let before = containerd.snapshots("k8s.io");
        let create = |containerd: &Containerd, id: &str| {
            containerd
                .ctr("k8s.io", &["containers", "create", "--snapshotter", "cocoon", &image, id, "/bin/sh"])
        };
        assert!(create(&containerd, "a").0);
        // Without the snapshotter nothing is made; with a new one, all is there.
        drop(serving);
        let (good, text) = create(&containerd, "b");
        assert!(!good && text.contains("snapshotter.sock"), "{text}");
        let serving = Serving::start(folder, Some(folder.join("containerd.sock")));
        // containerd's client tries again when it pleases, within seconds.
        let until = Instant::now() + Duration::from_secs(30);
        while !create(&containerd, "b").0 {
            assert!(Instant::now() < until, "containerd does not find the new snapshotter");
        }
        assert_eq!(containerd.snapshots("k8s.io").len(), before.len() + 2);
        let log = containerd.kill();
        assert!(!log.contains("panic"), "{log}");
        let containerd = Containerd::start(programs, folder);
        assert_eq!(containerd.snapshots("k8s.io").len(), before.len() + 2);
        for id in ["a", "b"] {
            containerd.must("k8s.io", &["containers", "rm", id]);
        }
        assert_eq!(containerd.snapshots("k8s.io"), before);
        // What is not containerd's any more goes with its next collection.
        let orphan = folder.join("snapshotter/snapshots/4000/fs");
        fs::create_dir_all(orphan).unwrap();
        containerd.remove_images("k8s.io");
        assert_eq!(containerd.snapshots("k8s.io"), Vec::<Vec<String>>::new());
        assert!(!folder.join("snapshotter/snapshots/4000").exists());
        drop(serving);
    });
}

#[test]
fn a_snapshotter_that_may_not_ask_gives_empty_directories() {
    each(|programs, folder| {
        let (_registry, address) = registry(folder);
        let (numbered, _) = push(folder, &address, "numbered", "1000:1000");
        let (named, _) = push(folder, &address, "named", "web");
        let _serving = Serving::start(folder, None);
        let containerd = Containerd::start(programs, folder);
        let run = |image: &str| {
            let args = [
                "run",
                "--rm",
                "--snapshotter",
                "cocoon",
                "--mount",
                BUSYBOX,
                image,
                "c",
                "/busybox",
                "id",
                "-u",
            ];
            containerd.ctr("k8s.io", &args)
        };
        containerd.pull(&numbered).unwrap();
        containerd.pull(&named).unwrap();
        assert_eq!(run(&numbered), (true, "1000\n".to_owned()));
        let (good, text) = run(&named);
        assert!(!good && text.contains("passwd"), "{text}");
    });
}
