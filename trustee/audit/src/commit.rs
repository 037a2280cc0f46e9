//! One append as one conditional step of the store.

use cocoon_store::{Change, Condition, Store};

use crate::Error;
use crate::layout::{CHUNK, ENTRIES, HEAD, Head, Item, NODE_LEVEL, NODES, encode_pack, index_key, node_key};

/// One change that owns what it writes; no value deletes.
pub(crate) struct Step {
    pub(crate) ns: &'static str,
    pub(crate) key: String,
    pub(crate) value: Option<Vec<u8>>,
}

impl Step {
    pub(crate) fn put(ns: &'static str, key: String, value: Vec<u8>) -> Self {
        Step { ns, key, value: Some(value) }
    }
}

/// What appending `items` to `head` writes: packs and inner hashes; and the head to which it leads, which is not
/// among the steps.
pub(crate) fn append(head: &Head, items: &[Item]) -> Result<(Head, Vec<Step>), Error> {
    let mut steps = Vec::new();
    let mut next = head.clone();
    let mut rest = items;
    while !rest.is_empty() {
        let first = next.frontier.size;
        let room = usize::try_from(CHUNK - first % CHUNK).unwrap_or(usize::MAX);
        let (pack, later) = rest.split_at_checked(room).unwrap_or((rest, &[]));
        steps.push(Step::put(ENTRIES, index_key(first), encode_pack(pack.iter())?));
        for item in pack {
            next.frontier.push(item.leaf, |level, index, root| {
                if level >= NODE_LEVEL {
                    steps.push(Step::put(NODES, node_key(level, index), root.0.to_vec()));
                }
            });
        }
        rest = later;
    }
    Ok((next, steps))
}

/// Does `steps` and writes `next` as head, if the stored head still is `old` and nothing lies at the end that it
/// states; whether it did.
pub(crate) fn apply(
    store: &dyn Store,
    old: Option<(&Head, &[u8])>,
    next: &Head,
    steps: &[Step],
) -> Result<bool, Error> {
    let encoded = next.encode();
    let mut conditions = vec![Condition { ns: HEAD.0, key: HEAD.1, value: old.map(|(_, bytes)| bytes) }];
    let end = index_key(old.map_or(0, |(head, _)| head.frontier.size));
    let unchanged = old.is_some_and(|(_, bytes)| bytes == encoded);
    if !unchanged {
        conditions.push(Condition { ns: ENTRIES, key: &end, value: None });
    }
    let mut changes: Vec<Change<'_>> = steps
        .iter()
        .map(|Step { ns, key, value }| match value {
            Some(value) => Change::Put { ns, key, value },
            None => Change::Delete { ns, key },
        })
        .collect();
    if !unchanged {
        changes.push(Change::Put { ns: HEAD.0, key: HEAD.1, value: &encoded });
    }
    Ok(store.apply_if(&conditions, &changes)?)
}
