use proptest::prelude::*;

use super::*;
use crate::merkle::root_of;
use crate::merkle::tests::{KNOWN_ROOTS, known_leaves};
use crate::proof::{Subtrees, consistency, inclusion};

struct Leaves(Vec<Hash>);

impl Subtrees for Leaves {
    fn subtree(&mut self, from: u64, to: u64) -> Result<Hash, Error> {
        Ok(root_of(&self.0[from as usize..to as usize]))
    }
}

fn leaves(size: u64) -> Leaves {
    Leaves((0..size).map(|i| Hash::of_leaf(&i.to_be_bytes())).collect())
}

fn hashes(texts: &[&str]) -> Vec<Hash> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

const A: &str = "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7";
const B: &str = "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e";
const C: &str = "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4";
const D: &str = "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b";
const E: &str = "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0";
const F: &str = "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a";

#[test]
fn known_inclusion_proofs() {
    let cases: [(u64, u64, &[&str]); 4] = [
        (0, 8, &[A, B, C]),
        (5, 8, &[D, E, KNOWN_ROOTS[4]]),
        (2, 3, &[KNOWN_ROOTS[2]]),
        (1, 5, &[KNOWN_ROOTS[1], B, D]),
    ];
    for (index, size, path) in cases {
        let proof = inclusion(&mut Leaves(known_leaves()), index, size).unwrap();
        assert_eq!(proof.path, hashes(path), "{index} in {size}");
        let root = KNOWN_ROOTS[size as usize].parse().unwrap();
        verify_inclusion(&known_leaves()[index as usize], &proof, &root).unwrap();
    }
}

#[test]
fn known_consistency_proofs() {
    let cases: [(u64, u64, &[&str]); 4] =
        [(1, 1, &[]), (1, 8, &[A, B, C]), (6, 8, &[F, E, KNOWN_ROOTS[4]]), (2, 5, &[B, D])];
    for (from, to, path) in cases {
        let proof = consistency(&mut Leaves(known_leaves()), from, to).unwrap();
        assert_eq!(proof.path, hashes(path), "{from} to {to}");
        let roots = [from, to].map(|size| KNOWN_ROOTS[size as usize].parse().unwrap());
        verify_consistency(&roots[0], &roots[1], &proof).unwrap();
    }
}

#[test]
fn all_proofs_of_small_trees_hold() {
    for size in 1..=70 {
        let mut tree = leaves(size);
        let root = root_of(&tree.0);
        for index in 0..size {
            let proof = inclusion(&mut tree, index, size).unwrap();
            verify_inclusion(&tree.0[index as usize], &proof, &root).unwrap();
        }
        for from in 0..=size {
            let proof = consistency(&mut tree, from, size).unwrap();
            let earlier = root_of(&tree.0[..from as usize]);
            verify_consistency(&earlier, &root, &proof).unwrap();
        }
    }
}

/// Flips bit `bit` of hash number `hash` of `list`.
fn flip(list: &mut [Hash], hash: usize, bit: usize) {
    let count = list.len();
    list[hash % count].0[bit / 8 % 32] ^= 1 << (bit % 8);
}

proptest! {
    #[test]
    fn inclusion_holds_and_any_change_breaks_it(
        size in 2u64..=200, pick in any::<u64>(), hash in any::<usize>(), bit in 0usize..256,
    ) {
        let index = pick % size;
        let mut tree = leaves(size);
        let (leaf, root) = (tree.0[index as usize], root_of(&tree.0));
        let proof = inclusion(&mut tree, index, size).unwrap();
        verify_inclusion(&leaf, &proof, &root).unwrap();

        let mut flipped = proof.clone();
        flip(&mut flipped.path, hash, bit);
        prop_assert!(verify_inclusion(&leaf, &flipped, &root).is_err());
        let mut ends = [leaf, root];
        flip(&mut ends, hash, bit);
        prop_assert!(verify_inclusion(&ends[0], &proof, &ends[1]).is_err());
        let other = InclusionProof { index: (index + 1) % size, ..proof.clone() };
        prop_assert!(verify_inclusion(&leaf, &other, &root).is_err());
        let mut short = proof.clone();
        short.path.pop();
        prop_assert!(verify_inclusion(&leaf, &short, &root).is_err());
        let mut long = proof;
        long.path.push(root);
        prop_assert!(verify_inclusion(&leaf, &long, &root).is_err());
    }

    #[test]
    fn consistency_holds_and_any_change_breaks_it(
        to in 2u64..=200, pick in any::<u64>(), hash in any::<usize>(), bit in 0usize..256,
    ) {
        let from = 1 + pick % (to - 1);
        let mut tree = leaves(to);
        let (earlier, later) = (root_of(&tree.0[..from as usize]), root_of(&tree.0));
        let proof = consistency(&mut tree, from, to).unwrap();
        verify_consistency(&earlier, &later, &proof).unwrap();

        let mut flipped = proof.clone();
        flip(&mut flipped.path, hash, bit);
        prop_assert!(verify_consistency(&earlier, &later, &flipped).is_err());
        let mut ends = [earlier, later];
        flip(&mut ends, hash, bit);
        prop_assert!(verify_consistency(&ends[0], &ends[1], &proof).is_err());
        let mut short = proof.clone();
        short.path.pop();
        prop_assert!(verify_consistency(&earlier, &later, &short).is_err());
        let mut long = proof;
        long.path.push(later);
        prop_assert!(verify_consistency(&earlier, &later, &long).is_err());
    }

    #[test]
    fn hostile_proofs_never_panic(
        a in any::<u64>(), b in any::<u64>(), path in prop::collection::vec(any::<[u8; 32]>(), 0..100),
    ) {
        let path: Vec<Hash> = path.into_iter().map(Hash).collect();
        let root = Hash::of_nothing();
        let inclusion = InclusionProof { index: a, size: b, path: path.clone() };
        prop_assert!(verify_inclusion(&root, &inclusion, &root).is_err());
        let consistency = ConsistencyProof { from: a, to: b, path };
        prop_assert!(a == 0 || verify_consistency(&root, &root, &consistency).is_err());
    }
}
