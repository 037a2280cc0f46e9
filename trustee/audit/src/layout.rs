//! How the log lies in the store.
//!
//! | namespace | key | value |
//! |---|---|---|
//! | `audit_entry` | index of the first entry, 16 hex digits | a pack: entries that were committed together |
//! | `audit_node` | level (2 hex digits), index in the level (16) | root of a perfect subtree of ≥ 256 entries |
//! | `audit_head` | `head` | log id, size and right edge of the tree |
//! | `audit_checkpoint` | size, 16 hex digits | [`SignedHead`] as JSON |
//! | `audit_rotation` | size, 16 hex digits | the last [`SignedHead`] of a key that was replaced |
//!
//! Packs never cross a multiple of [`CHUNK`], so that the entries of a chunk share 14 digits of their keys.

use aws_lc_rs::rand;
use cocoon_store::Store;

use crate::merkle::{Frontier, Hash};
use crate::{Error, MAX_ENTRY, SignedHead};

/// Namespace of packs.
pub(crate) const ENTRIES: &str = "audit_entry";
/// Namespace of inner hashes.
pub(crate) const NODES: &str = "audit_node";
/// Namespace and key of the head.
pub(crate) const HEAD: (&str, &str) = ("audit_head", "head");
/// Namespace of checkpoints.
pub(crate) const CHECKPOINTS: &str = "audit_checkpoint";
/// Namespace of rotations.
pub(crate) const ROTATIONS: &str = "audit_rotation";

/// Entries under one stored inner hash of the lowest stored level.
pub(crate) const CHUNK: u64 = 256;
/// The lowest stored level: 2^8 = [`CHUNK`].
pub(crate) const NODE_LEVEL: u32 = 8;
/// Most checkpoints that are kept.
pub(crate) const MAX_CHECKPOINTS: usize = 256;
/// Most checkpoints or rotations that are read.
pub(crate) const MAX_SIGNED: usize = 1024;

/// A log's largest size; a head beyond it is damaged.
const MAX_SIZE: u64 = 1 << 48;
/// First byte of head and packs: the format's version.
const VERSION: u8 = 1;

/// Key of a pack, a checkpoint or a rotation.
pub(crate) fn index_key(index: u64) -> String {
    format!("{index:016x}")
}

/// What the keys of a chunk's packs begin with.
pub(crate) fn chunk_prefix(chunk: u64) -> String {
    format!("{chunk:014x}")
}

/// Key of an inner hash.
pub(crate) fn node_key(level: u32, index: u64) -> String {
    format!("{level:02x}{index:016x}")
}

/// The head: what must be known to append.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) log_id: [u8; 16],
    pub(crate) frontier: Frontier,
}

impl Head {
    /// The head of a new log.
    pub(crate) fn new() -> Result<Self, Error> {
        let mut log_id = [0; 16];
        rand::fill(&mut log_id).map_err(|_| Error::System("no randomness"))?;
        Ok(Head { log_id, frontier: Frontier::default() })
    }

    /// The stored head with its bytes; `None` if there is none.
    pub(crate) fn load(store: &dyn Store) -> Result<Option<(Self, Vec<u8>)>, Error> {
        let Some(bytes) = store.get(HEAD.0, HEAD.1)? else { return Ok(None) };
        let head = Self::decode(&bytes).ok_or(Error::HeadMalformed)?;
        Ok(Some((head, bytes)))
    }

    /// Version, log id, size (8 bytes, big endian), then the peaks: one per bit that is set in the size.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(&self.log_id);
        bytes.extend_from_slice(&self.frontier.size.to_be_bytes());
        self.frontier.peaks.iter().for_each(|peak| bytes.extend_from_slice(&peak.0));
        bytes
    }

    /// The reverse of [`Head::encode`].
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (version, rest) = bytes.split_first()?;
        let (log_id, rest) = rest.split_first_chunk::<16>()?;
        let (size, rest) = rest.split_first_chunk::<8>()?;
        let size = u64::from_be_bytes(*size);
        let (peaks, rest) = rest.as_chunks::<32>();
        let whole = rest.is_empty() && u32::try_from(peaks.len()) == Ok(size.count_ones());
        (*version == VERSION && size <= MAX_SIZE && whole).then(|| Head {
            log_id: *log_id,
            frontier: Frontier { size, peaks: peaks.iter().map(|peak| Hash(*peak)).collect() },
        })
    }
}

/// An entry as stored: its leaf hash, and its canonical bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) leaf: Hash,
    pub(crate) bytes: Vec<u8>,
}

/// A pack: version, then per entry its length (4 bytes, big endian), leaf hash and bytes. The leaf hash is there to
/// tell which entry was altered.
pub(crate) fn encode_pack<'a>(items: impl Iterator<Item = &'a Item>) -> Result<Vec<u8>, Error> {
    let mut pack = vec![VERSION];
    for item in items {
        let length = u32::try_from(item.bytes.len()).map_err(|_| Error::EntryInvalid("too long".into()))?;
        pack.extend_from_slice(&length.to_be_bytes());
        pack.extend_from_slice(&item.leaf.0);
        pack.extend_from_slice(&item.bytes);
    }
    Ok(pack)
}

/// Reads a pack of at most `most` entries that begins with the entry `first`; checks every leaf hash.
///
/// # Errors
/// [`Error::EntryAltered`] with the entry's index.
pub(crate) fn decode_pack(mut pack: &[u8], first: u64, most: u64) -> Result<Vec<Item>, Error> {
    let mut items = Vec::new();
    let mut index = first;
    let mut next = || {
        let altered = Error::EntryAltered { index };
        index += 1;
        altered
    };
    match pack.split_first() {
        Some((&VERSION, rest)) if !rest.is_empty() => pack = rest,
        _ => return Err(next()),
    }
    while !pack.is_empty() {
        let altered = next();
        let item = decode_item(&mut pack).filter(|item| Hash::of_leaf(&item.bytes) == item.leaf);
        match item {
            Some(item) if (items.len() as u64) < most => items.push(item),
            _ => return Err(altered),
        }
    }
    Ok(items)
}

fn decode_item(pack: &mut &[u8]) -> Option<Item> {
    let (length, rest) = pack.split_first_chunk::<4>()?;
    let (leaf, rest) = rest.split_first_chunk::<32>()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok().filter(|length| *length <= MAX_ENTRY)?;
    let (bytes, rest) = rest.split_at_checked(length)?;
    *pack = rest;
    Some(Item { leaf: Hash(*leaf), bytes: bytes.to_vec() })
}

/// The signed heads of a namespace with the sizes under which they lie, ascending.
///
/// # Errors
/// [`Error::CheckpointForged`] if one does not parse or lies under another size.
pub(crate) fn signed_heads(store: &dyn Store, ns: &str) -> Result<Vec<SignedHead>, Error> {
    let found = store.scan(ns, "", MAX_SIGNED)?;
    found.into_iter().map(|(key, value)| signed_head(&key, &value)).collect()
}

/// One stored signed head.
pub(crate) fn signed_head(key: &str, value: &[u8]) -> Result<SignedHead, Error> {
    let size = u64::from_str_radix(key, 16).unwrap_or(u64::MAX);
    let head = serde_json::from_slice::<SignedHead>(value).ok();
    head.filter(|head| head.size == size && index_key(size) == key).ok_or(Error::CheckpointForged { size })
}

/// A signed head's stored form.
pub(crate) fn encode_signed(head: &SignedHead) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(head).map_err(|_| Error::System("a signed head is not representable as JSON"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn item(bytes: &[u8]) -> Item {
        Item { leaf: Hash::of_leaf(bytes), bytes: bytes.to_vec() }
    }

    #[test]
    fn a_pack_names_the_altered_entry() {
        let items = [item(b"one"), item(b"two"), item(b"three")];
        let pack = encode_pack(items.iter()).unwrap();
        assert_eq!(decode_pack(&pack, 7, 3).unwrap(), items);
        assert!(matches!(decode_pack(&pack, 7, 2), Err(Error::EntryAltered { index: 9 })));
        for at in 1..pack.len() {
            let mut bad = pack.clone();
            bad[at] ^= 1;
            let expected = 7 + u64::from(at > 39) + u64::from(at > 78);
            let error = decode_pack(&bad, 7, 3).unwrap_err();
            assert!(matches!(error, Error::EntryAltered { index } if index == expected), "{at}: {error}");
        }
        assert!(matches!(decode_pack(&pack[..60], 7, 3), Err(Error::EntryAltered { index: 8 })));
        assert!(matches!(decode_pack(&[], 7, 3), Err(Error::EntryAltered { index: 7 })));
        assert!(matches!(decode_pack(&[VERSION], 7, 3), Err(Error::EntryAltered { index: 7 })));
    }

    proptest! {
        #[test]
        fn hostile_values_never_panic(bytes in any::<Vec<u8>>(), key in "[0-9a-f]{0,20}") {
            prop_assert!(decode_pack(&bytes, 0, 256).is_err());
            prop_assert!(Head::decode(&bytes).is_none_or(|head| head.encode() == bytes));
            prop_assert!(signed_head(&key, &bytes).is_err());
        }

        #[test]
        fn heads_round_trip(leaves in 0u64..300) {
            let mut head = Head::new().unwrap();
            (0..leaves).for_each(|i| head.frontier.push(Hash::of_leaf(&i.to_be_bytes()), |_, _, _| ()));
            let mut bytes = head.encode();
            prop_assert_eq!(Head::decode(&bytes), Some(head));
            bytes.push(0);
            prop_assert_eq!(Head::decode(&bytes), None);
        }
    }
}
