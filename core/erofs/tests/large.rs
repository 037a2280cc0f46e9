//! Very many files, names and links.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation
)]

mod common;

use std::os::unix::fs::MetadataExt;
use std::time::Instant;

use common::{Layer, build};

/// The most memory that this process ever had, in KiB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_hundred_thousand_tiny_files_take_no_page_each() {
    let mut l = Layer::new();
    for i in 0..100_000 {
        l.plain(&format!("usr/lib/d{}/f{i}", i % 500), "", format!("content {i}").as_bytes());
    }
    let tar = l.done();
    let before = peak();
    let start = Instant::now();
    let image = build(&tar).unwrap();
    let (took, more) = (start.elapsed(), peak().saturating_sub(before));
    let mib = (image.built.image_blocks * 4096) >> 20;
    println!("100000 files: {took:?}, an image of {mib} MiB, {more} KiB of memory more than before");
    assert!(mib < 16, "{mib}");
    image.fsck();
    let Some(mounted) = image.mount() else { return };
    for i in (0..100_000).step_by(997) {
        let path = mounted.0.join(format!("usr/lib/d{}/f{i}", i % 500));
        assert_eq!(std::fs::read_to_string(path).unwrap(), format!("content {i}"));
    }
}

#[test]
fn seventy_thousand_names_in_one_directory_and_of_one_file() {
    let mut l = Layer::new();
    l.plain("one", "", b"linked");
    for i in 0..70_000 {
        l.plain(&format!("all/{}-{i}", "x".repeat(i % 60)), if i % 2 == 0 { "one" } else { "" }, b"");
    }
    let image = build(&l.done()).unwrap();
    image.fsck();
    let Some(mounted) = image.mount() else { return };
    let mut seen: Vec<_> =
        std::fs::read_dir(mounted.0.join("all")).unwrap().map(|e| e.unwrap().file_name()).collect();
    seen.sort();
    let mut names: Vec<std::ffi::OsString> =
        (0..70_000).map(|i| format!("{}-{i}", "x".repeat(i % 60)).into()).collect();
    names.sort();
    assert!(seen == names);
    assert_eq!(std::fs::metadata(mounted.0.join("one")).unwrap().nlink(), 35_001);
    for name in names.iter().step_by(331) {
        std::fs::symlink_metadata(mounted.0.join("all").join(name)).unwrap();
    }
}

#[test]
fn more_links_than_sixteen_bits_hold() {
    let mut l = Layer::new();
    l.plain("one", "", b"linked");
    (0..70_000).for_each(|i| l.plain(&format!("n{i}"), "one", b""));
    let image = build(&l.done()).unwrap();
    let Some(mounted) = image.mount() else { return };
    assert_eq!(std::fs::metadata(mounted.0.join("n69999")).unwrap().nlink(), 70_001);
}
