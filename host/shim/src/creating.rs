//! Containers that are being made. A creation goes on without those who asked for it: who gave up, or ran out of time,
//! must not leave a container in the guest that nobody knows of.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The ids of containers that are being made; each says whether somebody still wants it.
#[derive(Clone, Default)]
pub struct Creations(Arc<Mutex<BTreeMap<String, bool>>>);

/// A creation that goes on. Its id is free again when it is dropped.
pub struct Creation {
    id: String,
    all: Creations,
}

impl Creations {
    fn with<T>(&self, look: impl FnOnce(&mut BTreeMap<String, bool>) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Begins one; `None` where the id is being made already, or still taken back.
    pub fn begin(&self, id: &str) -> Option<Creation> {
        let free = self.with(|ids| {
            let free = !ids.contains_key(id);
            if free {
                ids.insert(id.to_owned(), true);
            }
            free
        });
        free.then(|| Creation { id: id.to_owned(), all: self.clone() })
    }

    /// Nobody wants this one any more: it is taken back when it is made. Whether it was being made.
    pub fn give_up(&self, id: &str) -> bool {
        self.with(|ids| ids.get_mut(id).map(|wanted| *wanted = false).is_some())
    }

    /// Whether something is made that somebody wants.
    pub fn any_wanted(&self) -> bool {
        self.with(|ids| ids.values().any(|wanted| *wanted))
    }
}

impl Creation {
    /// Whether somebody still wants it.
    pub fn is_wanted(&self) -> bool {
        self.all.with(|ids| ids.get(&self.id).copied().unwrap_or(false))
    }

    /// Nobody waits for it any more.
    pub fn give_up(&self) {
        self.all.give_up(&self.id);
    }
}

impl Drop for Creation {
    fn drop(&mut self) {
        self.all.with(|ids| ids.remove(&self.id));
    }
}

/// Waits for `call`, at most so long. One that takes longer goes on by itself, and where it succeeds after all, `undo`
/// is run: `None`, at the limit.
pub async fn within<T, U>(
    limit: Duration,
    call: impl Future<Output = ttrpc::Result<T>> + Send + 'static,
    undo: impl FnOnce() -> U + Send + 'static,
) -> Option<ttrpc::Result<T>>
where
    T: Send + 'static,
    U: Future<Output = ()> + Send + 'static,
{
    let (done, mut made) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        // Taken back too where the caller has gone meanwhile.
        if let Err(Ok(_)) = done.send(call.await) {
            undo().await;
        }
    });
    match tokio::time::timeout(limit, &mut made).await {
        Ok(answer) => answer.ok(),
        // Closed first: what comes from now on goes back to the sender, and what came just now is still here.
        Err(_) => {
            made.close();
            made.try_recv().ok()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot;

    #[test]
    fn an_id_is_made_once_and_can_be_given_up() {
        let all = Creations::default();
        assert!(!all.give_up("a") && !all.any_wanted());
        let creation = all.begin("a").unwrap();
        assert!(all.begin("a").is_none() && creation.is_wanted() && all.any_wanted());
        assert!(all.give_up("a") && !creation.is_wanted() && !all.any_wanted());
        assert!(all.begin("a").is_none(), "it is still taken back");
        assert!(!creation.is_wanted(), "asking again changes nothing");
        drop(creation);
        assert!(all.begin("a").unwrap().is_wanted());
    }

    async fn late(answer: ttrpc::Result<()>) -> bool {
        let (finish, finished) = oneshot::channel();
        let (undone, undo) = oneshot::channel();
        let call = async move { finished.await.unwrap_or(Ok(())) };
        let waited = within(Duration::from_millis(20), call, || async move {
            let _ = undone.send(());
        })
        .await;
        assert!(waited.is_none());
        finish.send(answer).unwrap();
        undo.await.is_ok()
    }

    #[tokio::test]
    async fn what_outlasts_its_limit_is_taken_back_when_it_is_made() {
        assert!(late(Ok(())).await);
        assert!(!late(Err(crate::error::not_found("x"))).await, "nothing was made");
    }

    #[tokio::test]
    async fn what_is_made_in_time_is_kept() {
        let (undone, undo) = oneshot::channel::<()>();
        let call = async { Ok(7) };
        let made = within(Duration::from_secs(10), call, || async move {
            let _ = undone.send(());
        })
        .await;
        assert_eq!(made.unwrap().unwrap(), 7);
        assert!(undo.await.is_err());
    }
}
