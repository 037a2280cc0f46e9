//! The [`Store`] calls as statements.

use tokio_postgres::Row;

use super::{PostgresStore, plan};
use crate::{Change, Condition, Error, PutMode, Record, Store, check_value, storage_key, storage_prefix};

/// Greater than every key: the highest character, repeated beyond the longest key.
fn above_all() -> String {
    "\u{10FFFF}".repeat((crate::MAX_KEY + crate::tenant::MAX_PREFIX) / 4 + 1)
}

/// The least text greater than all texts that begin with `prefix`, in byte order.
fn above(prefix: &str) -> String {
    let mut kept = prefix.to_owned();
    while let Some(last) = kept.pop() {
        let next = (u32::from(last) + 1..=u32::from(char::MAX)).find_map(char::from_u32);
        if let Some(next) = next {
            kept.push(next);
            return kept;
        }
    }
    above_all()
}

fn limited(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

impl PostgresStore {
    fn insert(&self, ns: &str, key: &str, value: &[u8]) -> Result<bool, Error> {
        self.block_on(
            self.pool
                .write(async |s| s.client.execute(&s.sql.insert, &[&ns, &key, &value]).await.map(|n| n > 0)),
        )
    }
}

impl Store for PostgresStore {
    fn get(&self, ns: &str, key: &str) -> Result<Option<Vec<u8>>, Error> {
        storage_key(ns, key)?;
        self.block_on(self.pool.read(async |s| {
            let row = s.client.query_opt(&s.sql.get, &[&ns, &key]).await?;
            row.map(|row| row.try_get(0)).transpose()
        }))
    }

    fn put(&self, ns: &str, key: &str, value: &[u8], mode: PutMode) -> Result<(), Error> {
        storage_key(ns, key)?;
        check_value(value)?;
        let done = match mode {
            PutMode::Create => self.insert(ns, key, value)?,
            PutMode::Replace => self.block_on(self.pool.write(async |s| {
                s.client.execute(&s.sql.update, &[&ns, &key, &value]).await.map(|n| n > 0)
            }))?,
            PutMode::Upsert => self.block_on(self.pool.write(async |s| {
                s.client.execute(&s.sql.upsert, &[&ns, &key, &value]).await.map(|_| true)
            }))?,
        };
        match (done, mode) {
            (true, _) => Ok(()),
            (false, PutMode::Create) => Err(Error::Exists { ns: ns.into(), key: key.into() }),
            (false, _) => Err(Error::Missing { ns: ns.into(), key: key.into() }),
        }
    }

    fn delete(&self, ns: &str, key: &str) -> Result<bool, Error> {
        storage_key(ns, key)?;
        self.block_on(
            self.pool.write(async |s| s.client.execute(&s.sql.delete, &[&ns, &key]).await.map(|n| n > 0)),
        )
    }

    fn list(&self, ns: &str, prefix: &str, limit: usize) -> Result<Vec<String>, Error> {
        storage_prefix(ns, prefix)?;
        let (end, limit) = (above(prefix), limited(limit));
        self.block_on(self.pool.read(async |s| {
            let rows = s.client.query(&s.sql.list, &[&ns, &"", &prefix, &end, &limit]).await?;
            rows.iter().map(|row| row.try_get(0)).collect()
        }))
    }

    fn scan(&self, ns: &str, prefix: &str, limit: usize) -> Result<Vec<(String, Vec<u8>)>, Error> {
        self.scan_from(ns, prefix, "", limit)
    }

    fn scan_from(
        &self,
        ns: &str,
        prefix: &str,
        after: &str,
        limit: usize,
    ) -> Result<Vec<(String, Vec<u8>)>, Error> {
        storage_prefix(ns, prefix)?;
        storage_prefix(ns, after)?;
        let (end, limit) = (above(prefix), limited(limit));
        let pair = |row: Row| Ok((row.try_get(0)?, row.try_get(1)?));
        self.block_on(self.pool.read(async |s| {
            let rows = s.client.query(&s.sql.scan, &[&ns, &after, &prefix, &end, &limit]).await?;
            rows.into_iter().map(pair).collect()
        }))
    }

    fn take(&self, ns: &str, key: &str) -> Result<Option<Vec<u8>>, Error> {
        storage_key(ns, key)?;
        self.block_on(self.pool.write(async |s| {
            let row = s.client.query_opt(&s.sql.take, &[&ns, &key]).await?;
            row.map(|row| row.try_get(0)).transpose()
        }))
    }

    fn put_if_absent(&self, ns: &str, key: &str, value: &[u8]) -> Result<bool, Error> {
        storage_key(ns, key)?;
        check_value(value)?;
        self.insert(ns, key, value)
    }

    fn apply_if(&self, conditions: &[Condition<'_>], changes: &[Change<'_>]) -> Result<bool, Error> {
        match plan::steps(conditions, changes)? {
            None => Ok(false),
            Some(steps) if steps.is_empty() => Ok(true),
            Some(steps) => self.block_on(self.pool.transact(&steps)),
        }
    }

    fn snapshot(&self, each: &mut dyn FnMut(Record) -> Result<(), Error>) -> Result<(), Error> {
        self.each_record(each)
    }

    fn shared(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_upper_bound_parts_keys_with_the_prefix_from_all_others(
            prefix in "[a\u{7f}\u{d7ff}\u{10ffff}]{0,3}", key in "[a-b\u{7f}-\u{81}\u{d7ff}\u{e000}\u{10fffe}\u{10ffff}]{0,5}",
        ) {
            let within = key.as_str() >= prefix.as_str() && key < above(&prefix);
            prop_assert_eq!(within, key.starts_with(&prefix));
        }
    }

    #[test]
    fn nothing_is_above_all() {
        let longest = "\u{10FFFF}".repeat(154);
        assert!(longest.len() <= crate::MAX_KEY + crate::tenant::MAX_PREFIX && longest < above_all());
    }
}
