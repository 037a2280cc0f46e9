//! Hashes of the Merkle tree (RFC 9162 §2.1.1) and its right edge.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest::{Context, SHA256};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A SHA-256 hash of the tree; in text and JSON 64 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// The hash of an entry: SHA-256(0x00 ‖ entry).
    pub fn of_leaf(entry: &[u8]) -> Self {
        Self::digest(&[&[0], entry])
    }

    /// The hash of an inner node: SHA-256(0x01 ‖ left ‖ right).
    pub fn of_node(left: &Hash, right: &Hash) -> Self {
        Self::digest(&[&[1], &left.0, &right.0])
    }

    /// The root of the tree without entries: SHA-256 of nothing.
    pub fn of_nothing() -> Self {
        Self::digest(&[])
    }

    /// SHA-256 of these parts, one after the other.
    pub(crate) fn digest(parts: &[&[u8]]) -> Self {
        let mut context = Context::new(&SHA256);
        parts.iter().for_each(|part| context.update(part));
        let mut hash = [0; 32];
        // Both are 32 bytes.
        hash.iter_mut().zip(context.finish().as_ref()).for_each(|(to, from)| *to = *from);
        Hash(hash)
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Hash {
    type Err = ();

    /// From 64 lower-case hex digits, and nothing else.
    fn from_str(text: &str) -> Result<Self, ()> {
        let mut hash = [0; 32];
        hex::decode_to_slice(text, &mut hash).map_err(drop)?;
        if text.bytes().any(|b| b.is_ascii_uppercase()) { Err(()) } else { Ok(Hash(hash)) }
    }
}

impl Serialize for Hash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(self.0))
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|()| serde::de::Error::custom("not a SHA-256 hash in hex"))
    }
}

/// The root of a tree of these leaf hashes.
pub(crate) fn root_of(leaves: &[Hash]) -> Hash {
    let mut frontier = Frontier::default();
    leaves.iter().for_each(|leaf| frontier.push(*leaf, |_, _, _| ()));
    frontier.root()
}

/// The roots of the perfect subtrees of which a tree of `size` leaves consists, largest first: all that is needed
/// to append to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Frontier {
    pub(crate) size: u64,
    pub(crate) peaks: Vec<Hash>,
}

impl Frontier {
    /// Appends a leaf; tells `completed` level, index and root of every perfect subtree that it finishes.
    pub(crate) fn push(&mut self, leaf: Hash, mut completed: impl FnMut(u32, u64, Hash)) {
        let (mut root, mut level) = (leaf, 0);
        while self.size >> level & 1 == 1 {
            let Some(left) = self.peaks.pop() else { break };
            root = Hash::of_node(&left, &root);
            level += 1;
            completed(level, self.size >> level, root);
        }
        self.peaks.push(root);
        self.size += 1;
    }

    /// The tree's root.
    pub(crate) fn root(&self) -> Hash {
        let mut peaks = self.peaks.iter().rev();
        match peaks.next() {
            None => Hash::of_nothing(),
            Some(last) => peaks.fold(*last, |root, left| Hash::of_node(left, &root)),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The well-known test leaves of Certificate Transparency implementations.
    pub(crate) fn known_leaves() -> Vec<Hash> {
        ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
            .map(|leaf| Hash::of_leaf(&hex::decode(leaf).unwrap()))
            .to_vec()
    }

    pub(crate) const KNOWN_ROOTS: [&str; 9] = [
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];

    #[test]
    fn known_roots() {
        for (size, root) in KNOWN_ROOTS.iter().enumerate() {
            assert_eq!(root_of(&known_leaves()[..size]).to_string(), *root, "{size}");
        }
    }

    #[test]
    fn every_perfect_subtree_is_told_once() {
        let mut frontier = Frontier::default();
        let mut told = Vec::new();
        known_leaves()
            .iter()
            .for_each(|leaf| frontier.push(*leaf, |level, index, _| told.push((level, index))));
        told.sort_unstable();
        assert_eq!(told, [(1, 0), (1, 1), (1, 2), (1, 3), (2, 0), (2, 1), (3, 0)]);
    }

    #[test]
    fn hashes_are_read_strictly() {
        let text = KNOWN_ROOTS[1];
        assert_eq!(text.parse::<Hash>().unwrap().to_string(), text);
        for bad in [&text[1..], &text.to_uppercase(), &format!("{text}00"), &text.replace('6', "g")] {
            assert!(bad.parse::<Hash>().is_err(), "{bad}");
        }
    }
}
