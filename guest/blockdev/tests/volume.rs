//! Volumes with a limit, through real loop devices. Needs root; says "skipped" otherwise.

// Helpers of tests are tests too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use cocoon_blockdev::{MIN_VOLUME, make_volume, volume_root};

#[test]
fn a_volume_holds_so_much_and_goes_without_a_trace() {
    if !rustix::process::geteuid().is_root() || !std::path::Path::new("/dev/loop-control").exists() {
        println!("skipped: needs root and loop devices");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (file, at) = (dir.path().join("space/v.disk"), dir.path().join("mounted"));
    assert!(make_volume(&file, MIN_VOLUME - 1, &at).is_err());
    assert!(!file.exists(), "nothing is left of what failed");
    let mounted = make_volume(&file, MIN_VOLUME, &at).unwrap();
    let root = volume_root(&at);
    assert_eq!(fs::metadata(&root).unwrap().permissions().mode() & 0o7777, 0o777);
    assert_eq!(fs::read_dir(&root).unwrap().count(), 0);
    assert!(fs::metadata(&file).unwrap().blocks() * 512 < MIN_VOLUME / 2, "only what is written takes space");
    let mut big = fs::File::create(root.join("big")).unwrap();
    let mut written = 0_u64;
    let full = loop {
        match big.write(&[7; 65536]).and_then(|n| big.sync_data().map(|()| n)) {
            Ok(n) => written += n as u64,
            Err(e) => break e,
        }
        assert!(written <= MIN_VOLUME, "more than its size");
    };
    assert_eq!(full.kind(), ErrorKind::StorageFull);
    assert!(written > MIN_VOLUME / 2, "{written}");
    drop(big);
    // A second one of the same name is none.
    assert!(make_volume(&file, MIN_VOLUME, &dir.path().join("again")).is_err());
    mounted.close().unwrap();
    let backing = file.to_string_lossy().into_owned();
    let loops = fs::read_dir("/sys/block").unwrap().flatten();
    let held = |p: std::path::PathBuf| fs::read_to_string(p.join("loop/backing_file")).unwrap_or_default();
    assert!(
        !loops.map(|e| held(e.path())).any(|b| b.trim() == backing),
        "the loop device went with the mount"
    );
}
