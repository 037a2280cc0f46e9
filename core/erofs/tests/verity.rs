//! The hash tree, beside `veritysetup`'s, and against damage.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation
)]

mod common;

use std::fs::File;
use std::os::unix::fs::FileExt;

use cocoon_erofs::{Error, verity};
use common::{BLOCK, Layer, build, run, text};

/// A file of blocks that all differ.
fn data(blocks: u64) -> (tempfile::TempDir, std::path::PathBuf, File) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let file = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
    let mut all = vec![0_u8; (blocks * BLOCK) as usize];
    for (i, block) in all.chunks_mut(BLOCK as usize).enumerate() {
        block[..8].copy_from_slice(&i.to_le_bytes());
    }
    file.write_all_at(&all, 0).unwrap();
    (folder, path, file)
}

fn veritysetup(command: &str, data: &str, hash: &str, more: &[&str]) -> Option<std::process::Output> {
    let fixed = ["--no-superblock", "--salt=-", "--hash=sha256", "--data-block-size=4096"];
    run("veritysetup", &[&[command, data, hash], more, &fixed, &["--hash-block-size=4096"]].concat())
}

/// The root that `veritysetup format` computes.
fn their_root(path: &str, blocks: u64) -> Option<String> {
    let apart = format!("{path}.tree");
    let out = veritysetup("format", path, &apart, &[&format!("--data-blocks={blocks}")])?;
    assert!(out.status.success(), "{}", text(&out));
    let shown = text(&out);
    let line = shown.lines().find(|l| l.starts_with("Root hash")).unwrap();
    Some(line.split_whitespace().last().unwrap().to_owned())
}

#[test]
fn roots_and_trees_are_veritysetups() {
    for blocks in [1, 2, 3, 127, 128, 129, 255, 256, 257, 16_383, 16_384, 16_385, 20_000] {
        let (_folder, path, file) = data(blocks);
        let tree = verity::append(&file, blocks).unwrap();
        assert_eq!(tree, verity::root(&file, blocks).unwrap());
        assert_eq!(file.metadata().unwrap().len(), verity::total_blocks(blocks) * BLOCK);
        assert_eq!(tree.data_blocks + tree.tree_blocks, verity::total_blocks(blocks));
        verity::check(&file, blocks, &tree.root).unwrap();
        let path = path.to_str().unwrap();
        let Some(theirs) = their_root(path, blocks) else { return };
        assert_eq!(tree.root_hex(), theirs, "{blocks}");
        let place = [format!("--hash-offset={}", blocks * BLOCK), format!("--data-blocks={blocks}")];
        let place = [place[0].as_str(), &place[1], &theirs];
        let fixed = ["--no-superblock", "--salt=-", "--hash=sha256"];
        let out = run("veritysetup", &[&["verify", path, path, place[2]], &place[..2], &fixed].concat());
        let out = out.unwrap();
        assert!(out.status.success(), "{blocks}: {}", text(&out));
    }
}

#[test]
fn a_layers_device_is_verified_by_veritysetup() {
    let mut l = Layer::new();
    (0..300).for_each(|i| {
        l.file(&format!("d{}/f{i}", i % 7), &vec![i as u8; i * 97]);
    });
    let image = build(&l.done()).unwrap();
    let blocks = image.built.image_blocks;
    let tree = verity::append(&image.file, blocks).unwrap();
    image.fsck();
    let path = image.path.to_str().unwrap();
    let Some(theirs) = their_root(path, blocks) else { return };
    assert_eq!(theirs, tree.root_hex());
}

#[test]
fn every_flipped_bit_is_named() {
    let blocks = 300;
    let (_folder, _path, file) = data(blocks);
    let tree = verity::append(&file, blocks).unwrap();
    let total = verity::total_blocks(blocks);
    assert_eq!(total, blocks + 1 + 3);
    for block in 0..total {
        for bit in [0, 7_777, 32_767] {
            let at = block * BLOCK + bit / 8;
            let mut byte = [0];
            file.read_exact_at(&mut byte, at).unwrap();
            file.write_all_at(&[byte[0] ^ 1 << (bit % 8)], at).unwrap();
            match verity::check(&file, blocks, &tree.root) {
                Err(Error::Tampered { block: named }) => assert_eq!(named, block),
                other => panic!("block {block}, bit {bit}: {other:?}"),
            }
            file.write_all_at(&byte, at).unwrap();
        }
    }
    verity::check(&file, blocks, &tree.root).unwrap();
    let mut root = tree.root;
    root[31] ^= 1;
    assert!(matches!(verity::check(&file, blocks, &root), Err(Error::Tampered { block: 300 })));
}

#[test]
fn wrong_lengths_are_refused() {
    let (_folder, _path, file) = data(3);
    let tree = verity::append(&file, 3).unwrap();
    for len in [0, 3 * BLOCK, 4 * BLOCK - 1, 4 * BLOCK + 1, 5 * BLOCK] {
        file.set_len(len).unwrap();
        assert!(matches!(verity::check(&file, 3, &tree.root), Err(Error::Length { .. })), "{len}");
    }
    for blocks in [0, 6, u64::MAX] {
        assert!(matches!(verity::append(&file, blocks), Err(Error::Length { .. })), "{blocks}");
        assert!(matches!(verity::check(&file, blocks, &tree.root), Err(Error::Length { .. })), "{blocks}");
    }
    // Blocks exchanged are not the blocks they were.
    let (_folder, _path, file) = data(3);
    let tree = verity::append(&file, 3).unwrap();
    let (mut one, mut two) = ([0; 4096], [0; 4096]);
    file.read_exact_at(&mut one, BLOCK).unwrap();
    file.read_exact_at(&mut two, 2 * BLOCK).unwrap();
    file.write_all_at(&one, 2 * BLOCK).unwrap();
    file.write_all_at(&two, BLOCK).unwrap();
    assert!(matches!(verity::check(&file, 3, &tree.root), Err(Error::Tampered { block: 1 })));
}
