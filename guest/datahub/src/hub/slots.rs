//! Places for fetched secrets: each URI has its own lock, so that N users of one key fetch it once.

use std::collections::HashMap;
use std::sync::Arc;

use cocoon_stage::{Code, Failure};
use tokio::sync::Mutex;

use super::Secret;

/// One URI's place; empty until its secret was fetched.
pub(super) type Slot = Arc<Mutex<Option<Secret>>>;

/// A bounded number of places. Those whose fetch failed or was given up make room when it is needed.
#[derive(Default)]
pub(super) struct Slots(Mutex<HashMap<String, Slot>>);

impl Slots {
    /// The place of `uri` (in its canonical form), made where there are fewer than `most` that are filled or in use.
    ///
    /// # Errors
    /// `FETCH-FAILED` where there are `most`.
    pub(super) async fn slot(&self, uri: &str, most: usize) -> Result<Slot, Failure> {
        let mut slots = self.0.lock().await;
        if slots.len() >= most && !slots.contains_key(uri) {
            // Nobody can come to hold one meanwhile: places are given out under this lock alone.
            slots.retain(|_, slot| Arc::strong_count(slot) > 1 || slot.try_lock().is_ok_and(|s| s.is_some()));
            if slots.len() >= most {
                return Err(Failure::new(Code::FetchFailed, "too many different resources"));
            }
        }
        Ok(slots.entry(uri.to_owned()).or_default().clone())
    }

    /// The secret of `uri`, where it has been fetched.
    pub(super) async fn fetched(&self, uri: &str) -> Option<Secret> {
        let slot = self.0.lock().await.get(uri)?.clone();
        slot.lock().await.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn failed_fetches_make_room_and_secrets_and_users_keep_theirs() {
        let slots = Slots::default();
        for n in 0..1000 {
            // Fetched in vain: the place stays empty.
            drop(slots.slot(&format!("bad{n}"), 3).await.unwrap());
        }
        *slots.slot("a", 3).await.unwrap().lock().await = Some(Arc::default());
        let used = slots.slot("b", 3).await.unwrap();
        for n in 0..10 {
            drop(slots.slot(&format!("worse{n}"), 3).await.unwrap());
        }
        assert!(slots.fetched("a").await.is_some());
        assert!(Arc::ptr_eq(&used, &slots.slot("b", 3).await.unwrap()));
        let third = slots.slot("c", 3).await.unwrap();
        assert!(slots.slot("d", 3).await.is_err());
        assert!(slots.slot("a", 3).await.is_ok());
        drop(third);
        assert!(slots.slot("d", 3).await.is_ok());
    }
}
