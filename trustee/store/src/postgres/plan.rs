//! Conditions and changes as an ordered list of row operations, each of which locks one row.
//!
//! A condition on a value locks its row. A condition on an absence inserts a row (the new value, or a placeholder
//! that the same transaction removes): whoever else wants to insert that key waits for this transaction's end. So
//! every key named is held until the commit, and conditions and changes are one step among all replicas. Rows are
//! locked in the order of their keys, so that two such transactions never wait for each other.

use std::collections::BTreeMap;

use crate::{Change, Condition, Error, check_value, storage_key};

/// One operation on one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind<'a> {
    /// The row must hold this value; lock it.
    Lock(&'a [u8]),
    /// There must be no row; insert it.
    Insert(&'a [u8]),
    /// Insert or replace.
    Upsert(&'a [u8]),
    /// Replace the row that is there.
    Update(&'a [u8]),
    /// Delete if there.
    Delete,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step<'a> {
    pub(super) ns: &'a str,
    pub(super) key: &'a str,
    pub(super) kind: Kind<'a>,
}

impl Step<'_> {
    /// Whether the step fails the whole transaction's conditions if it touches no row.
    pub(super) fn is_condition(&self) -> bool {
        matches!(self.kind, Kind::Lock(_) | Kind::Insert(_))
    }
}

/// The steps, or `None` where two conditions contradict each other.
pub(super) fn steps<'a>(
    conditions: &[Condition<'a>],
    changes: &[Change<'a>],
) -> Result<Option<Vec<Step<'a>>>, Error> {
    type Wish<'a> = (Option<Option<&'a [u8]>>, Option<Option<&'a [u8]>>);
    let mut rows: BTreeMap<(&str, &str), Wish<'a>> = BTreeMap::new();
    let mut possible = true;
    for Condition { ns, key, value } in conditions {
        storage_key(ns, key)?;
        let demanded = &mut rows.entry((ns, key)).or_default().0;
        possible &= demanded.is_none_or(|earlier| earlier == *value);
        *demanded = Some(*value);
    }
    for change in changes {
        let (ns, key, value) = match change {
            Change::Put { ns, key, value } => {
                check_value(value)?;
                (ns, key, Some(*value))
            }
            Change::Delete { ns, key } => (ns, key, None),
        };
        storage_key(ns, key)?;
        // Of several changes of one key the last one counts.
        rows.entry((ns, key)).or_default().1 = Some(value);
    }
    if !possible {
        return Ok(None);
    }
    let mut steps = Vec::with_capacity(rows.len() * 2);
    for ((ns, key), (demanded, change)) in rows {
        let mut add = |kind| steps.push(Step { ns, key, kind });
        match (demanded, change) {
            (None, None) => {}
            (None, Some(Some(new))) => add(Kind::Upsert(new)),
            (None, Some(None)) => add(Kind::Delete),
            (Some(Some(old)), change) => {
                add(Kind::Lock(old));
                match change {
                    Some(Some(new)) => add(Kind::Update(new)),
                    Some(None) => add(Kind::Delete),
                    None => {}
                }
            }
            (Some(None), Some(Some(new))) => add(Kind::Insert(new)),
            (Some(None), _) => {
                add(Kind::Insert(b""));
                add(Kind::Delete);
            }
        }
    }
    Ok(Some(steps))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_locked_in_order_and_the_last_change_counts() {
        let conditions = [
            Condition { ns: "n", key: "c", value: Some(b"old") },
            Condition { ns: "n", key: "a", value: None },
            Condition { ns: "m", key: "z", value: None },
        ];
        let changes = [
            Change::Put { ns: "n", key: "c", value: b"1" },
            Change::Delete { ns: "n", key: "b" },
            Change::Put { ns: "n", key: "a", value: b"2" },
            Change::Put { ns: "n", key: "c", value: b"3" },
        ];
        let steps = steps(&conditions, &changes).unwrap().unwrap();
        let step = |ns, key, kind| Step { ns, key, kind };
        assert_eq!(
            steps,
            [
                step("m", "z", Kind::Insert(b"")),
                step("m", "z", Kind::Delete),
                step("n", "a", Kind::Insert(b"2")),
                step("n", "b", Kind::Delete),
                step("n", "c", Kind::Lock(b"old")),
                step("n", "c", Kind::Update(b"3")),
            ]
        );
    }

    #[test]
    fn contradictions_and_bad_keys_are_seen_before_the_database_is() {
        let twice = |value| Condition { ns: "n", key: "k", value };
        assert_eq!(steps(&[twice(None), twice(Some(b"v"))], &[]).unwrap(), None);
        assert_eq!(steps(&[twice(Some(b"v")), twice(Some(b"v"))], &[]).unwrap().unwrap().len(), 1);
        assert!(steps(&[], &[Change::Delete { ns: "n", key: "" }]).is_err());
        assert!(steps(&[Condition { ns: "N", key: "k", value: None }], &[]).is_err());
    }
}
