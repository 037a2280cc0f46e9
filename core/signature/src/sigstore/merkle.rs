//! Merkle trees of transparency logs (RFC 6962, section 2.1; RFC 9162, section 2.1.3.2), SHA-256.

use aws_lc_rs::digest::{Context, SHA256};

/// A node's hash.
pub(super) type Hash = [u8; 32];

/// Hash of a leaf's data.
pub(super) fn leaf(data: &[u8]) -> Hash {
    hash(0, &[data])
}

fn node(left: &Hash, right: &Hash) -> Hash {
    hash(1, &[left, right])
}

fn hash(prefix: u8, parts: &[&[u8]]) -> Hash {
    let mut context = Context::new(&SHA256);
    context.update(&[prefix]);
    for part in parts {
        context.update(part);
    }
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    out
}

/// The root that the proof leads to from the leaf at `index` in a tree of `size` leaves; `None` where the proof has not
/// the length that index and size demand.
pub(super) fn root(leaf: Hash, index: u64, size: u64, proof: &[Hash]) -> Option<Hash> {
    if index >= size {
        return None;
    }
    let (mut position, mut last) = (index, size - 1);
    let mut root = leaf;
    for sibling in proof {
        if last == 0 {
            return None;
        }
        if position & 1 == 1 || position == last {
            root = node(sibling, &root);
            while position & 1 == 0 && position != 0 {
                position >>= 1;
                last >>= 1;
            }
        } else {
            root = node(&root, sibling);
        }
        position >>= 1;
        last >>= 1;
    }
    (last == 0).then_some(root)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => hash(0, &[]),
            [one] => *one,
            many => {
                let k = many.len().next_power_of_two() / 2;
                node(&tree(&many[..k]), &tree(&many[k..]))
            }
        }
    }

    fn path(m: usize, leaves: &[Hash]) -> Vec<Hash> {
        if leaves.len() <= 1 {
            return Vec::new();
        }
        let k = leaves.len().next_power_of_two() / 2;
        let (mut below, sibling) = if m < k {
            (path(m, &leaves[..k]), tree(&leaves[k..]))
        } else {
            (path(m - k, &leaves[k..]), tree(&leaves[..k]))
        };
        below.push(sibling);
        below
    }

    #[test]
    fn every_leaf_of_every_small_tree_is_proved_and_nothing_else() {
        for size in 1..=17usize {
            let leaves: Vec<Hash> = (0..size).map(|i| leaf(&i.to_be_bytes())).collect();
            let expected = tree(&leaves);
            for index in 0..size {
                let proof = path(index, &leaves);
                let prove = |l, i: usize, s: usize, p: &[Hash]| root(l, i as u64, s as u64, p);
                assert_eq!(prove(leaves[index], index, size, &proof), Some(expected));
                assert_ne!(prove(leaf(b"other"), index, size, &proof), Some(expected));
                for other in (0..size + 2).filter(|i| *i != index) {
                    assert_ne!(
                        prove(leaves[index], other, size, &proof),
                        Some(expected),
                        "{size} {index} {other}"
                    );
                }
                let longer = [&proof[..], &[expected]].concat();
                assert_eq!(prove(leaves[index], index, size, &longer), None);
                if let Some((_, shorter)) = proof.split_last() {
                    assert_eq!(prove(leaves[index], index, size, shorter), None);
                }
            }
        }
    }

    #[test]
    fn extreme_numbers_do_no_harm() {
        assert_eq!(root([0; 32], u64::MAX, u64::MAX, &[]), None);
        assert_eq!(root([0; 32], 0, 0, &[]), None);
        assert_eq!(root([0; 32], u64::MAX - 1, u64::MAX, &[[0; 32]; 64]), None);
    }
}
