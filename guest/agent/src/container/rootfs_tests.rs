//! Device nodes, in a mount namespace that ends with the test.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::process::Command;

use super::*;

/// Names the folder to work in.
const FOLDER: &str = "COCOON_TEST_FOLDER";

/// Runs in a mount namespace of its own; see the test below.
#[test]
#[ignore = "changes mounts; run by the test below in its own namespace"]
fn in_a_namespace() {
    // The other test's, which removes it: here it is full of mounts.
    let dir = std::path::PathBuf::from(std::env::var_os(FOLDER).unwrap());
    let image = dir.join("image");
    fs::create_dir_all(image.join("etc")).unwrap();
    let shm = dir.join("shm");
    fs::create_dir(&shm).unwrap();
    let disk = fs::metadata("/dev/loop0").unwrap().rdev();
    let device = |path: &str| DeviceNode {
        path: path.into(),
        major: rustix::fs::major(disk),
        minor: rustix::fs::minor(disk),
        uid: 1000,
        gid: 2000,
    };
    let rootfs = Rootfs {
        image: image.clone(),
        read_only: false,
        tmpfs: Vec::new(),
        binds: Vec::new(),
        volumes: Vec::new(),
        devices: vec![device("/dev/xvda"), device("/data/disk")],
        unmasked: false,
        cwd: "/".into(),
        cgroup: false,
        shm,
        proc: None,
    };
    let _root = rootfs.build().unwrap();
    for path in ["dev/xvda", "data/disk"] {
        let node = fs::metadata(image.join(path)).unwrap();
        assert!(node.file_type().is_block_device(), "{path}");
        assert_eq!((node.rdev(), node.uid(), node.gid(), node.mode() & 0o7777), (disk, 1000, 2000, 0o660));
        // ENXIO: no disk behind the loop device. EACCES would say that the mount lets nobody open nodes.
        match fs::File::open(image.join(path)) {
            Ok(_) => {}
            Err(e) => assert_eq!(e.raw_os_error(), Some(libc::ENXIO), "{path}: {e}"),
        }
    }
    // One that the container makes itself is another matter.
    let own = image.join("dev/own");
    let mode = Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(CWD, &own, rustix::fs::FileType::BlockDevice, mode, disk).unwrap();
    assert_eq!(fs::File::open(&own).unwrap_err().raw_os_error(), Some(libc::EACCES));
}

#[test]
fn disks_are_nodes_that_can_be_opened_and_others_are_not() {
    if !rustix::process::geteuid().is_root() || !std::path::Path::new("/dev/loop0").exists() {
        println!("skipped: needs root and /dev/loop0");
        return;
    }
    let test = std::env::current_exe().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let name = "container::rootfs::tests::in_a_namespace";
    let run = Command::new("unshare")
        .args(["-m", "--propagation", "private"])
        .env(FOLDER, dir.path())
        .arg(test)
        .args(["--ignored", "--exact", name, "--nocapture"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&run.stdout).into_owned() + &String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success() && said.contains("1 passed"), "{said}");
}
