//! A layer's device: what is built has a hash tree that holds, and the same bytes give the same again.
#![no_main]

use std::fs::File;

use cocoon_erofs::verity;
use cocoon_image::Limits;
use libfuzzer_sys::fuzz_target;

fn device(tar: &[u8]) -> Option<(File, verity::Tree)> {
    let file = tempfile::tempfile().expect("a temporary file");
    let limits = Limits { total_bytes: 1 << 20, entries: 256, ..Limits::default() };
    let built = cocoon_erofs::build(tar, &file, &limits).ok()?;
    let tree = verity::append(&file, built.image_blocks).expect("an image has a tree");
    Some((file, tree))
}

fuzz_target!(|bytes: &[u8]| {
    let Some((file, tree)) = device(bytes) else { return };
    verity::check(&file, tree.data_blocks, &tree.root).expect("nothing was changed");
    assert_eq!(device(bytes).map(|(_, tree)| tree), Some(tree));
});
