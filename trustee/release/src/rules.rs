//! The stored release rules.

use std::sync::{Arc, Mutex, PoisonError};

use cocoon_store::{PutMode, Store};

use crate::{Error, Rule};

const NAMESPACE: &str = "release_rule";
/// Most rules.
const MAX_RULES: usize = 1000;

/// The rules on top of a [`Store`]; clones share what they remember.
#[derive(Clone)]
pub struct Rules {
    store: Arc<dyn Store>,
    /// What is stored, where no other process can change it.
    remembered: Option<Arc<Mutex<Remembered>>>,
}

/// The stored rules, once they were read.
type Remembered = Option<Arc<[Rule]>>;

impl Rules {
    /// The rules in this store.
    pub fn new(store: Arc<dyn Store>) -> Self {
        let remembered = (!store.shared()).then(Arc::default);
        Rules { store, remembered }
    }

    /// All rules, in the order of their ids.
    pub fn all(&self) -> Result<Arc<[Rule]>, Error> {
        let Some(remembered) = &self.remembered else { return self.stored() };
        let mut remembered = remembered.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(rules) = remembered.as_ref() {
            return Ok(rules.clone());
        }
        let rules = self.stored()?;
        *remembered = Some(rules.clone());
        Ok(rules)
    }

    /// Sets a rule, replacing the one of the same id.
    pub fn put(&self, rule: &Rule) -> Result<(), Error> {
        rule.check()?;
        let others = self.store.list(NAMESPACE, "", MAX_RULES)?;
        if others.len() >= MAX_RULES && !others.contains(&rule.id) {
            return Err(Error::Rule(format!("more than {MAX_RULES} rules")));
        }
        let json = serde_json::to_vec(rule).map_err(|_| Error::Record(rule.id.clone()))?;
        self.changing(|| Ok(self.store.put(NAMESPACE, &rule.id, &json, PutMode::Upsert)?))
    }

    /// Removes a rule; whether there was one.
    pub fn delete(&self, id: &str) -> Result<bool, Error> {
        self.changing(|| Ok(self.store.delete(NAMESPACE, id)?))
    }

    fn stored(&self) -> Result<Arc<[Rule]>, Error> {
        let found = self.store.scan(NAMESPACE, "", MAX_RULES)?;
        let parse = |(key, json): (String, Vec<u8>)| {
            // A rule copied to another id is not one that was set.
            serde_json::from_slice(&json).ok().filter(|rule: &Rule| rule.id == key).ok_or(Error::Record(key))
        };
        found.into_iter().map(parse).collect()
    }

    /// Makes a change and forgets what was remembered, even if the change failed half-way.
    fn changing<T>(&self, change: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
        let mut remembered =
            self.remembered.as_ref().map(|r| r.lock().unwrap_or_else(PoisonError::into_inner));
        let outcome = change();
        if let Some(remembered) = &mut remembered {
            **remembered = None;
        }
        outcome
    }
}
