//! `cocoon node` as an administrator runs it, and as a machine that loses power does.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// containerd of the system; the tests have nothing to say without it.
fn containerd() -> Option<PathBuf> {
    let found = Some(PathBuf::from("/usr/bin/containerd")).filter(|p| p.is_file());
    if found.is_none() {
        println!("skipped: no containerd here");
    }
    found
}

const MAIN: &str = "version = 2\n# the node's own\n[plugins.\"io.containerd.grpc.v1.cri\"]\n  sandbox_image = \"example.org/pause:1\"\n";

/// A system's image in a folder.
struct Image {
    dir: tempfile::TempDir,
    containerd: PathBuf,
}

impl Image {
    fn new(containerd: PathBuf) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let image = Image { dir, containerd };
        fs::create_dir_all(image.path("root/etc/containerd")).unwrap();
        fs::create_dir_all(image.path("root/var/lib")).unwrap();
        fs::write(image.path("root/etc/containerd/config.toml"), MAIN).unwrap();
        fs::write(image.path("shim"), vec![7; 4 << 20]).unwrap();
        image
    }

    fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    fn command(&self, subcommand: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cocoon"));
        command
            .args(["node", subcommand, "--root"])
            .arg(self.path("root"))
            .arg("--containerd")
            .arg(&self.containerd);
        if subcommand == "install" {
            command.args(["--class", "cocoon-sim", "--nfd", "--shim"]).arg(self.path("shim"));
        }
        command
    }

    fn run(&self, subcommand: &str) -> Output {
        self.command(subcommand).output().unwrap()
    }

    fn picture(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut all = BTreeMap::new();
        let mut todo = vec![self.path("root")];
        while let Some(folder) = todo.pop() {
            for entry in fs::read_dir(&folder).unwrap().flatten() {
                let path = entry.path();
                if path.is_dir() {
                    todo.push(path.clone());
                    all.insert(path, Vec::new());
                } else {
                    all.insert(path.clone(), fs::read(&path).unwrap());
                }
            }
        }
        all
    }
}

fn names(picture: &BTreeMap<PathBuf, Vec<u8>>, root: &Path) -> Vec<String> {
    picture.keys().map(|p| p.strip_prefix(root).unwrap().display().to_string()).collect()
}

#[test]
fn install_check_and_uninstall_say_what_they_do() {
    let Some(containerd) = containerd() else { return };
    let image = Image::new(containerd);
    let before = image.picture();
    let output = image.run("install");
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(
        said.contains("config.toml: extended") && said.contains("systemctl restart containerd"),
        "{said}"
    );
    let again = String::from_utf8(image.run("install").stdout).unwrap();
    assert!(again.contains("nothing was changed"), "{again}");

    let labels = image.command("check").arg("--labels").output().unwrap();
    let labels = String::from_utf8(labels.stdout).unwrap();
    assert!(labels.contains("cocoon.dev/platform.sim=true\n"), "{labels}");
    let output = image.command("check").arg("--json").output().unwrap();
    let seen: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let status = |name: &str| {
        let checks = seen["checks"].as_array().unwrap();
        checks.iter().find(|c| c["name"] == name).unwrap_or_else(|| panic!("no check {name}"))["status"]
            .clone()
    };
    assert_eq!(
        (status("runtimes"), status("installation"), status("classes")),
        ("ok".into(), "ok".into(), "ok".into())
    );
    assert_eq!((status("cocoon-sim"), status("guest image")), ("warn".into(), "missing".into()));
    assert_eq!(output.status.code(), Some(1));

    assert!(image.run("uninstall").status.success());
    assert_eq!(names(&image.picture(), &image.path("root")), names(&before, &image.path("root")));
    assert_eq!(image.picture(), before);
}

#[test]
fn killed_at_any_moment_the_next_run_has_a_whole_node() {
    let Some(containerd) = containerd() else { return };
    let image = Image::new(containerd);
    let before = image.picture();
    let began = Instant::now();
    assert!(image.run("install").status.success());
    let whole = began.elapsed();
    let installed = image.picture();
    assert!(image.run("uninstall").status.success());
    assert_eq!(image.picture(), before);

    let mut cut = 0;
    // How long a run takes depends on what else the machine does: as many rounds as it takes until enough were cut off.
    for round in 0..200_u32 {
        if round >= 24 && cut > 8 {
            break;
        }
        let subcommand = if round % 2 == 0 { "install" } else { "uninstall" };
        if subcommand == "uninstall" {
            assert!(image.run("install").status.success());
        }
        let mut child = image.command(subcommand).spawn().unwrap();
        // Anywhere between the first instruction and a little after the end.
        let until = Instant::now() + whole * (round % 24) / 20;
        while Instant::now() < until && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_micros(200));
        }
        cut += u32::from(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
        // containerd may still be at work on a draft, which is gone with the next run.
        let main = fs::read_to_string(image.path("root/etc/containerd/config.toml")).unwrap();
        assert!(main == MAIN || main.contains("cocoon-sim"), "{main}");
        if round % 3 == 0 {
            let output = image.run("install");
            assert!(output.status.success(), "round {round}: {output:?}");
            let now = image.picture();
            assert_eq!(
                names(&now, &image.path("root")),
                names(&installed, &image.path("root")),
                "round {round}"
            );
        }
        let output = image.run("uninstall");
        assert!(output.status.success(), "round {round}: {output:?}");
        assert_eq!(
            names(&image.picture(), &image.path("root")),
            names(&before, &image.path("root")),
            "round {round}"
        );
        assert_eq!(image.picture(), before, "round {round}");
    }
    assert!(cut > 8, "only {cut} runs were cut off");
}

#[test]
fn refusals_have_a_code_and_leave_nothing() {
    let Some(containerd) = containerd() else { return };
    let image = Image::new(containerd);
    fs::write(image.path("root/etc/containerd/config.toml"), "version = 2\n[plugins\n").unwrap();
    let before = image.picture();
    let output = image.command("install").arg("--json").output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("NODE-CONFIG-REFUSED") && output.status.code() == Some(125), "{said}");
    let output = image.command("install").args(["--class", "kata"]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("USAGE-INVALID") && output.status.code() == Some(2), "{said}");
    assert_eq!(image.picture(), before);
}
