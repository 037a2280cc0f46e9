//! Unpacking a layer: nothing may appear outside its root.
#![no_main]

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::LazyLock;

use cocoon_image::{Budget, Limits, UnpackOptions, remove_tree, unpack};
use libfuzzer_sys::fuzz_target;

/// `<temp>/outer/root` is unpacked into; `outer` must hold nothing else ever.
static OUTER: LazyLock<PathBuf> = LazyLock::new(|| {
    let outer = std::env::temp_dir().join(format!("cocoon-fuzz-{}", std::process::id()));
    fs::create_dir_all(&outer).expect("a temporary folder");
    outer
});

fuzz_target!(|bytes: &[u8]| {
    let root = OUTER.join("root");
    fs::create_dir(&root).expect("the last run cleaned up");
    let folder = File::open(&root).expect("just made");
    let limits = Limits { total_bytes: 1 << 20, entries: 64, ..Limits::default() };
    let _ = unpack(bytes, folder.as_fd(), &UnpackOptions { preserve_owner: false }, &mut Budget::new(limits));
    remove_tree(&root).expect("what was unpacked can be removed");
    assert_eq!(fs::read_dir(&*OUTER).expect("still there").count(), 0, "something escaped the root");
});
