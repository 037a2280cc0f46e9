//! Installing beside real containerds: 1.6 of the system, and what `scripts/peers.sh` unpacked of newer ones.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::{Duration, Instant};

use cocoon_node::containerd::{Containerd, Dialect, Effective};
use cocoon_node::install::{Install, Places, Store, Uninstall, install, uninstall};
use cocoon_stage::Code;
use common::{DEBIAN, NATIVE, Node, Picture, TERSE, WITH_RUNC, assert_same, is, peers};

#[test]
fn installed_used_installed_again_and_gone_without_a_trace() {
    for containerd in peers() {
        for (main, snapshotter) in [
            (None, false),
            (None, true),
            (Some(DEBIAN), false),
            (Some(DEBIAN), true),
            (Some(WITH_RUNC), true),
            (Some(TERSE), true),
            (Some(NATIVE), true),
        ] {
            let case = format!("{} with {main:?}, snapshotter {snapshotter}", containerd.version());
            let node = Node::new(&containerd, main);
            let before = node.picture();
            if snapshotter && containerd.version().minor == 6 {
                let wish = Install { snapshotter, ..node.wish() };
                assert_eq!(install(&wish, &|| false).unwrap_err().code, Code::NodeContainerdUnusable);
                assert_same(&node.picture(), &before, &case);
                continue;
            }
            let had = if main.is_some() { node.runtimes() } else { vec!["runc".into()] };
            let wish = Install { snapshotter, features: true, ..node.wish() };
            let done = install(&wish, &|| false).unwrap_or_else(|e| panic!("{case}: {e:?}"));
            assert!(!done.is_unchanged());

            let runtimes = node.runtimes();
            for expected in had.iter().map(String::as_str).chain(["cocoon", "cocoon-sim", "runc"]) {
                assert!(runtimes.iter().any(|r| r == expected), "{case}: {expected} is not in {runtimes:?}");
            }
            let effective = containerd.effective(&node.config()).unwrap();
            let shim = node.path("opt/cocoon/bin/containerd-shim-cocoon-v2");
            assert_eq!(effective.runtimes()["cocoon"]["runtime_path"].as_str(), shim.to_str());
            assert_eq!(fs::metadata(&shim).unwrap().mode() & 0o777, 0o755);
            let placed = effective.snapshotter_of("cocoon-sim");
            assert_eq!(placed.as_deref(), snapshotter.then_some("cocoon"), "{case}");
            assert_eq!(effective.proxy_plugins().contains_key("cocoon"), snapshotter);
            assert!(!snapshotter || effective.snapshots_are_annotated(), "{case}");
            if is(&containerd, Dialect::Two) && snapshotter {
                let others: Vec<_> = Effective::parse("").unwrap().unpacked();
                let native = [cocoon_node::containerd::unpacking("native")];
                let others = if main == Some(NATIVE) { &native[..] } else { &others[..] };
                assert!(effective.unpacks(others, "cocoon"), "{case}");
            }
            if is(&containerd, Dialect::One) && main == Some(DEBIAN) {
                let dump = fs::read_to_string(node.config()).unwrap();
                assert!(dump.contains("example.org/pause:1"));
            }
            assert!(
                fs::read_to_string(node.path("etc/features.d/cocoon")).unwrap().contains("platform.sim=true")
            );

            let installed = node.picture();
            let again = install(&wish, &|| false).unwrap();
            assert!(again.is_unchanged(), "{case}: {again:?}");
            assert_same(&node.picture(), &installed, &format!("{case}: a second run changed something"));

            node.uninstall().unwrap_or_else(|e| panic!("{case}: {e:?}"));
            assert_same(&node.picture(), &before, &case);
            assert!(node.uninstall().unwrap().is_unchanged());
            assert_same(&node.picture(), &before, &case);
        }
    }
}

#[test]
fn drift_is_repaired_and_a_persons_changes_are_kept() {
    for containerd in peers() {
        let node = Node::new(&containerd, Some(DEBIAN));
        let before = node.picture();
        node.install().unwrap();
        let installed = node.picture();

        // Drift: a file of ours is gone, another damaged, a class file is no longer one.
        let shim = node.path("opt/cocoon/bin/containerd-shim-cocoon-v2");
        fs::remove_file(&shim).unwrap();
        fs::write(node.path("opt/cocoon/share/guest/initrd.img"), "bad").unwrap();
        fs::write(node.path("etc/cocoon/cocoon.toml"), "protection = 'none'").unwrap();
        let done = node.install().unwrap();
        assert_eq!(done.changed.len(), 3, "{done:?}");
        assert_same(&node.picture(), &installed, "");

        // A person's own settings: they stay, both when it is installed again and when it is taken away.
        let class = node.path("etc/cocoon/cocoon-sim.toml");
        let settings = format!("{}default_memory_mib = 1024\n", fs::read_to_string(&class).unwrap());
        fs::write(&class, &settings).unwrap();
        let main = format!("# mine\n{}", fs::read_to_string(node.config()).unwrap());
        fs::write(node.config(), &main).unwrap();
        let done = node.install().unwrap();
        assert!(done.notes.iter().any(|n| n.contains("cocoon-sim.toml")), "{done:?}");
        assert_eq!(fs::read_to_string(&class).unwrap(), settings);
        assert!(fs::read_to_string(node.config()).unwrap().starts_with("# mine\n"));

        let done = node.uninstall().unwrap();
        assert!(done.notes.iter().any(|n| n.contains("cocoon-sim.toml")), "{done:?}");
        assert_eq!(fs::read_to_string(&class).unwrap(), settings);
        assert_eq!(fs::read_to_string(node.config()).unwrap(), format!("# mine\n{DEBIAN}"));
        fs::remove_dir_all(node.path("etc/cocoon")).unwrap();
        fs::write(node.config(), DEBIAN).unwrap();
        assert_same(&node.picture(), &before, "");
    }
}

#[test]
fn asked_to_stop_at_any_step_everything_is_as_before() {
    let Some(containerd) = peers().pop() else { return };
    let mut steps = 0;
    loop {
        let node = Node::new(&containerd, Some(DEBIAN));
        let before = node.picture();
        let asked = std::cell::Cell::new(0);
        let stop = || {
            asked.set(asked.get() + 1);
            asked.get() > steps
        };
        let result = install(&node.wish(), &stop);
        if result.is_ok() {
            break;
        }
        assert_eq!(result.unwrap_err().code, Code::NodeInstallFailed);
        node.uninstall().unwrap();
        assert_same(&node.picture(), &before, &format!("stopped before step {steps}"));
        steps += 1;
    }
    assert!(steps > 8, "{steps} steps were tried");
}

/// A process of its own for [`killed_at_any_moment_the_next_run_has_a_whole_node`].
#[test]
#[ignore = "run by another test, to be killed"]
fn a_process_to_be_killed() {
    let (Some(base), Some(program)) = (std::env::var_os("TEST_NODE"), std::env::var_os("TEST_CONTAINERD"))
    else {
        return;
    };
    let containerd = Containerd::find(Some(program.as_ref())).unwrap();
    let node = Node { base: base.into(), _dir: None, containerd };
    if std::env::var_os("TEST_UNINSTALL").is_some() {
        node.uninstall().unwrap();
    } else {
        node.install().unwrap();
    }
}

#[test]
fn killed_at_any_moment_the_next_run_has_a_whole_node() {
    let Some(containerd) = peers().pop() else { return };
    let node = Node::new(&containerd, Some(DEBIAN));
    fs::write(node.path("shim"), vec![7; 4 << 20]).unwrap();
    let before = node.picture();
    let process = |uninstall: bool| {
        let mut command = std::process::Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "a_process_to_be_killed", "--ignored", "--quiet"]);
        command.env("TEST_NODE", &node.base).env("TEST_CONTAINERD", containerd.program());
        if uninstall {
            command.env("TEST_UNINSTALL", "1");
        }
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap()
    };
    let began = Instant::now();
    assert!(process(false).wait().unwrap().success());
    let whole = began.elapsed();
    let installed = node.picture();
    node.uninstall().unwrap();
    assert_same(&node.picture(), &before, "");

    let mut cut = 0;
    for round in 0..20_u32 {
        let uninstalling = round % 2 == 1;
        if uninstalling {
            node.install().unwrap();
        }
        let mut child = process(uninstalling);
        // Anywhere between the first instruction and a little after the end.
        let until = Instant::now() + whole * round / 18;
        while Instant::now() < until && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_micros(200));
        }
        cut += u32::from(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
        // Whatever it was at: containerd would start.
        containerd.effective(&node.config()).unwrap();
        if round % 3 == 0 {
            node.install().unwrap();
            let now = node.picture();
            let state = node.places().state;
            let files =
                |p: &Picture| p.keys().filter(|f| !f.starts_with(&state)).cloned().collect::<Vec<_>>();
            assert_eq!(files(&now), files(&installed), "round {round}");
            assert_eq!(now[&node.config()], installed[&node.config()], "round {round}");
        }
        node.uninstall().unwrap();
        assert_same(&node.picture(), &before, &format!("round {round}"));
    }
    assert!(cut > 6, "only {cut} runs were cut off");
}

#[test]
fn two_at_once_are_refused() {
    let Some(containerd) = peers().pop() else { return };
    let node = Node::new(&containerd, Some(DEBIAN));
    let held = Store::lock(&node.places().state).unwrap();
    assert_eq!(node.install().unwrap_err().code, Code::NodeBusy);
    assert_eq!(node.uninstall().unwrap_err().code, Code::NodeBusy);
    drop(held);
    node.install().unwrap();
}

#[test]
fn uninstalling_waits_for_pods() {
    let Some(containerd) = peers().pop() else { return };
    let node = Node::new(&containerd, Some(DEBIAN));
    node.install().unwrap();
    let installed = node.picture();
    fs::create_dir_all(node.path("run/cocoon/s")).unwrap();
    let socket = std::os::unix::net::UnixListener::bind(node.path("run/cocoon/s/pod-1.sock")).unwrap();
    let error = node.uninstall().unwrap_err();
    assert!(error.code == Code::NodeBusy && error.reason.contains("pod-1"), "{error:?}");
    let wish = Uninstall {
        places: node.places(),
        containerd: Some(containerd.program().into()),
        force: true,
        ..Uninstall::default()
    };
    uninstall(&wish, &|| false).unwrap();
    assert!(installed.keys().any(|p| !p.exists()));
    drop(socket);
}

#[test]
fn files_that_were_there_before_come_back() {
    let Some(containerd) = peers().pop() else { return };
    let node = Node::new(&containerd, Some(DEBIAN));
    let shim = node.path("opt/cocoon/bin/containerd-shim-cocoon-v2");
    fs::create_dir_all(shim.parent().unwrap()).unwrap();
    fs::write(&shim, "somebody's").unwrap();
    fs::set_permissions(&shim, fs::Permissions::from_mode(0o711)).unwrap();
    let before = node.picture();
    node.install().unwrap();
    node.install().unwrap();
    node.uninstall().unwrap();
    assert_same(&node.picture(), &before, "");
}

#[test]
fn an_image_of_a_system_is_prepared_without_being_run() {
    let Some(containerd) = peers().pop() else { return };
    let node = Node::new(&containerd, None);
    let root = node.path("rootfs");
    fs::create_dir_all(root.join("etc/containerd")).unwrap();
    fs::write(root.join("etc/containerd/config.toml"), TERSE).unwrap();
    let before = node.picture();
    let places = Places { root: root.clone(), ..Places::default() };
    let wish = Install { places: places.clone(), ..node.wish() };
    install(&wish, &|| false).unwrap();
    let class = fs::read_to_string(root.join("etc/cocoon/cocoon-sim.toml")).unwrap();
    assert!(class.contains("guest_image = \"/opt/cocoon/share/guest\""), "{class}");
    assert!(root.join("opt/cocoon/bin/containerd-shim-cocoon-v2").is_file());
    let wish = Uninstall { places, containerd: Some(containerd.program().into()), ..Uninstall::default() };
    uninstall(&wish, &|| false).unwrap();
    let after = node.picture();
    let left: Vec<_> = after.keys().filter(|p| !before.contains_key(*p)).collect();
    assert!(left.iter().all(|p| p.is_dir()), "{left:?}");
}
