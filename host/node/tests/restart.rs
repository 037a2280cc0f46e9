//! A running containerd is restarted with Cocoon's runtimes; where it does not come back, it runs as before again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use cocoon_node::containerd::Containerd;
use cocoon_node::install::{Choice, Install, Places, Restart, Uninstall, install, uninstall};
use cocoon_stage::Code;

fn peers() -> Vec<Containerd> {
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let cache = home.join(".cache/cocoon/peers");
    let mut programs = vec![PathBuf::from("/usr/bin/containerd")];
    programs.extend(["containerd-1.7", "containerd-2"].map(|v| cache.join(v).join("usr/bin/containerd")));
    let root = rustix::process::geteuid().is_root();
    let found: Vec<Containerd> = programs
        .iter()
        .filter(|p| root && p.is_file())
        .filter_map(|p| Containerd::find(Some(p)).ok())
        .collect();
    if found.is_empty() {
        println!("skipped: no containerd here, or not root");
    }
    found
}

/// A containerd of its own, started by the test and ended with it.
struct Running {
    dir: tempfile::TempDir,
    containerd: Containerd,
}

impl Running {
    fn start(containerd: &Containerd) -> Self {
        let dir = tempfile::Builder::new().prefix("ctd").tempdir_in("/tmp").unwrap();
        let running = Running { dir, containerd: containerd.clone() };
        let path = |p: &str| running.dir.path().join(p).display().to_string();
        fs::create_dir_all(running.dir.path().join("etc")).unwrap();
        let config = format!(
            "version = 2\nroot = \"{}\"\nstate = \"{}\"\ndisabled_plugins = [\"io.containerd.internal.v1.opt\"]\n[grpc]\naddress = \"{}\"\n\
             [plugins.\"io.containerd.grpc.v1.cri\"]\nstream_server_port = \"0\"\n",
            path("root"),
            path("state"),
            path("c.sock"),
        );
        fs::write(running.config(), config).unwrap();
        let script = format!(
            "[ -f {pid} ] && kill $(cat {pid}) && while kill -0 $(cat {pid}) 2>/dev/null; do :; done\n\
             if [ -f {veto} ] && {program} --config {config} config dump | grep -q 'runtimes.cocoon'; then rm -f {pid}; exit 0; fi\n\
             setsid {program} --config {config} >{log} 2>&1 </dev/null & echo $! >{pid}\n",
            pid = path("pid"),
            veto = path("veto"),
            program = containerd.program().display(),
            config = running.config().display(),
            log = path("log"),
        );
        fs::write(running.dir.path().join("restart"), script).unwrap();
        assert!(Command::new("sh").arg(running.dir.path().join("restart")).status().unwrap().success());
        let until = Instant::now() + Duration::from_secs(60);
        while let Err(e) = containerd.answers(&path("c.sock")) {
            assert!(Instant::now() < until, "{e}");
        }
        running
    }

    fn config(&self) -> PathBuf {
        self.dir.path().join("etc/config.toml")
    }

    /// Plugins that did not start, as `ctr plugins ls` says, beside those that this machine cannot have.
    fn broken(&self) -> Vec<String> {
        let ctr = self.containerd.program().with_file_name("ctr");
        let socket = self.dir.path().join("c.sock");
        let output = Command::new(ctr).arg("--address").arg(socket).args(["plugins", "ls"]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines()
            .filter(|l| l.trim_end().ends_with("error"))
            .map(|l| l.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect()
    }

    fn pid(&self) -> Option<String> {
        Some(fs::read_to_string(self.dir.path().join("pid")).ok()?.trim().to_owned())
    }

    fn wish(&self) -> Install {
        let path = |p: &str| self.dir.path().join(p);
        fs::write(path("shim"), "#!/bin/sh\n").unwrap();
        Install {
            places: Places {
                root: "/".into(),
                config: self.config(),
                prefix: path("opt"),
                classes: path("classes"),
                state: path("node"),
                features: path("features"),
                pods: path("pods"),
            },
            containerd: Some(self.containerd.program().into()),
            shim: path("shim"),
            classes: Choice { simulated: false, named: vec!["cocoon-sim".into()] },
            restart: Some(Restart {
                command: Some(format!("sh {}", path("restart").display())),
                limit: Duration::from_secs(if path("veto").exists() { 3 } else { 60 }),
            }),
            ..Install::default()
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(pid) = self.pid() {
            let _ = Command::new("kill").args(["-9", &pid]).stderr(Stdio::null()).status();
            let until = Instant::now() + Duration::from_secs(10);
            while PathBuf::from("/proc").join(&pid).join("exe").exists() && Instant::now() < until {
                std::thread::yield_now();
            }
        }
    }
}

#[test]
fn a_running_containerd_takes_it_up_and_gives_it_back() {
    for containerd in peers() {
        let running = Running::start(&containerd);
        let text = fs::read_to_string(running.config()).unwrap();
        let (first, broken) = (running.pid(), running.broken());
        let snapshotter = containerd.version().minor != 6;
        let done = install(&Install { snapshotter, ..running.wish() }, &|| false).unwrap();
        assert_eq!(running.broken(), broken, "{}", containerd.version());
        assert!(done.restarted && running.pid() != first, "{done:?}");
        assert!(containerd.effective(&running.config()).unwrap().runtimes().contains_key("cocoon-sim"));
        let wish = running.wish();
        let wish = Uninstall {
            places: wish.places,
            containerd: wish.containerd,
            force: false,
            restart: wish.restart,
        };
        assert!(uninstall(&wish, &|| false).unwrap().restarted);
        assert_eq!(fs::read_to_string(running.config()).unwrap(), text);
    }
}

#[test]
fn a_containerd_that_does_not_come_back_runs_as_before() {
    for containerd in peers() {
        let running = Running::start(&containerd);
        let text = fs::read_to_string(running.config()).unwrap();
        fs::write(running.dir.path().join("veto"), "").unwrap();
        let error = install(&running.wish(), &|| false).unwrap_err();
        assert_eq!(error.code, Code::NodeInstallFailed);
        assert!(
            error.reason.contains("does not answer") && error.reason.ends_with("and answers"),
            "{}",
            error.reason
        );
        assert_eq!(fs::read_to_string(running.config()).unwrap(), text);
        assert!(!running.dir.path().join("node").exists() && !running.dir.path().join("opt").exists());
        containerd.answers(&running.dir.path().join("c.sock").display().to_string()).unwrap();
    }
}
