//! Main files of containerd's that people and other programs have written: extended, or refused, and never damaged.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use cocoon_node::containerd::Dialect;
use cocoon_stage::Code;
use common::{DEBIAN, Node, assert_same, is, peers};

#[test]
fn odd_main_files_are_extended_or_refused_but_never_damaged() {
    for containerd in peers() {
        let one = is(&containerd, Dialect::One);
        let huge = format!("{DEBIAN}\n{}", "# filler\n".repeat(100_000));
        let too_huge = format!("{DEBIAN}\n{}", "# filler\n".repeat(500_000));
        for (main, fine) in [
            ("", one), // a configuration of version 1
            ("[plugins.cri]\nsandbox_image = 'x/y:1'\n", one),
            ("# only a comment", one),
            ("version = 2\r\nroot = '/var/lib/x'\r\n", true),
            ("version = 2\nimports = []\n", true),
            ("version = 2\nimports = [\n  # none yet\n]\n[debug]\nlevel = 'info'\n", true),
            (huge.as_str(), true),
            (too_huge.as_str(), false),
            ("version = 3\n", !one),
            ("version = 9\n", false),
            ("version = 2\n[plugins\n", false),
            ("\0\x01", false),
            ("version = 2\nversion = 2\n", false),
            // containerd 2 overlooks it.
            ("imports = ['/nonexistent/x.toml']\nversion = 2\n", !one),
        ] {
            let case =
                format!("{} with {:?}", containerd.version(), main.chars().take(60).collect::<String>());
            let node = Node::new(&containerd, Some(main));
            let before = node.picture();
            match node.install() {
                Ok(_) => {
                    assert!(fine, "{case}: installed");
                    assert!(node.runtimes().iter().any(|r| r == "cocoon"), "{case}");
                }
                Err(e) => {
                    assert!(!fine, "{case}: {e:?}");
                    assert_eq!(e.code, Code::NodeConfigRefused, "{case}: {e:?}");
                    assert_same(&node.picture(), &before, &case);
                }
            }
            node.uninstall().unwrap();
            assert_same(&node.picture(), &before, &case);
        }
    }
}

#[test]
fn bytes_that_are_no_text_are_refused() {
    for containerd in peers() {
        let node = Node::new(&containerd, None);
        fs::write(node.config(), b"# \xff\xfe\nversion = 2\n").unwrap();
        assert_eq!(node.install().unwrap_err().code, Code::NodeConfigRefused);
        assert_eq!(fs::read(node.config()).unwrap(), b"# \xff\xfe\nversion = 2\n");
    }
}

#[test]
fn a_read_only_or_linked_main_file_keeps_what_it_is() {
    for containerd in peers() {
        let node = Node::new(&containerd, Some(DEBIAN));
        fs::set_permissions(node.config(), fs::Permissions::from_mode(0o400)).unwrap();
        fs::create_dir_all(node.path("srv")).unwrap();
        fs::rename(node.config(), node.path("srv/real.toml")).unwrap();
        std::os::unix::fs::symlink("../../srv/real.toml", node.config()).unwrap();
        let before = node.picture();
        node.install().unwrap();
        assert!(fs::symlink_metadata(node.config()).unwrap().is_symlink());
        assert_eq!(fs::metadata(node.config()).unwrap().mode() & 0o777, 0o400);
        assert!(node.runtimes().iter().any(|r| r == "cocoon"));
        node.uninstall().unwrap();
        assert_same(&node.picture(), &before, "");
    }
}

#[test]
fn imports_of_others_stay_in_force() {
    for containerd in peers() {
        let node = Node::new(&containerd, None);
        fs::create_dir_all(node.path("etc/containerd/conf.d")).unwrap();
        let other = node.path("etc/containerd/conf.d/other.toml");
        fs::write(
            &other,
            "version = 2\n[proxy_plugins.other]\ntype = 'snapshot'\naddress = '/run/other.sock'\n",
        )
        .unwrap();
        let pattern = node.path("etc/containerd/conf.d/*.toml");
        // By pattern, which covers Cocoon's own file too, and by a relative name.
        for imports in [pattern.to_str().unwrap(), "conf.d/other.toml"] {
            fs::write(node.config(), format!("imports = [\"{imports}\"]\n{DEBIAN}\n")).unwrap();
            let before = node.picture();
            node.install().unwrap();
            let effective = containerd.effective(&node.config()).unwrap();
            assert!(effective.proxy_plugins().contains_key("other"), "{imports}");
            assert!(effective.runtimes().contains_key("cocoon"), "{imports}");
            node.uninstall().unwrap();
            assert_same(&node.picture(), &before, "");
        }
    }
}

#[test]
fn an_import_that_would_hide_cocoon_is_refused() {
    for containerd in peers().iter().filter(|c| is(c, Dialect::One)) {
        let node = Node::new(containerd, None);
        let other = node.path("etc/containerd/nvidia.toml");
        fs::write(&other, "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.nvidia]\nruntime_type = 'io.containerd.runc.v2'\n").unwrap();
        fs::write(node.config(), "version = 2\nimports = ['nvidia.toml']\n").unwrap();
        let before = node.picture();
        let error = node.install().unwrap_err();
        assert_eq!(error.code, Code::NodeConfigRefused);
        assert!(error.reason.contains("cocoon"), "{}", error.reason);
        node.uninstall().unwrap();
        assert_same(&node.picture(), &before, "");
    }
}
