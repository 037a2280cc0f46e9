//! Nothing is granted that is not in the audit log: when the state can no longer be written, nothing leaves.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cocoon_store::{Change, Condition, Error, MemoryStore, PutMode, Record, Store};
use cocoon_trustee::Limits;
use support::*;

const OWN: &str = "default/secret/own";

/// A store whose disk is full from some moment on: it reads, and refuses every write.
struct Full {
    store: MemoryStore,
    full: Arc<AtomicBool>,
    shared: bool,
}

impl Full {
    fn room(&self) -> Result<(), Error> {
        if self.full.load(Ordering::SeqCst) { Err(Error::Full("the state".into())) } else { Ok(()) }
    }
}

impl Store for Full {
    fn get(&self, ns: &str, key: &str) -> Result<Option<Vec<u8>>, Error> {
        self.store.get(ns, key)
    }
    fn put(&self, ns: &str, key: &str, value: &[u8], mode: PutMode) -> Result<(), Error> {
        self.room()?;
        self.store.put(ns, key, value, mode)
    }
    fn delete(&self, ns: &str, key: &str) -> Result<bool, Error> {
        self.room()?;
        self.store.delete(ns, key)
    }
    fn list(&self, ns: &str, prefix: &str, limit: usize) -> Result<Vec<String>, Error> {
        self.store.list(ns, prefix, limit)
    }
    fn scan(&self, ns: &str, prefix: &str, limit: usize) -> Result<Vec<(String, Vec<u8>)>, Error> {
        self.store.scan(ns, prefix, limit)
    }
    fn scan_from(
        &self,
        ns: &str,
        prefix: &str,
        after: &str,
        limit: usize,
    ) -> Result<Vec<(String, Vec<u8>)>, Error> {
        self.store.scan_from(ns, prefix, after, limit)
    }
    fn take(&self, ns: &str, key: &str) -> Result<Option<Vec<u8>>, Error> {
        self.room()?;
        self.store.take(ns, key)
    }
    fn put_if_absent(&self, ns: &str, key: &str, value: &[u8]) -> Result<bool, Error> {
        self.room()?;
        self.store.put_if_absent(ns, key, value)
    }
    fn apply_if(&self, conditions: &[Condition<'_>], changes: &[Change<'_>]) -> Result<bool, Error> {
        self.room()?;
        self.store.apply_if(conditions, changes)
    }
    fn snapshot(&self, each: &mut dyn FnMut(Record) -> Result<(), Error>) -> Result<(), Error> {
        self.store.snapshot(each)
    }
    fn shared(&self) -> bool {
        self.shared
    }
}

#[tokio::test]
async fn no_token_and_no_secret_leaves_unless_it_is_written_down() {
    for shared in [false, true] {
        let full = Arc::new(AtomicBool::new(false));
        let store = Full { store: MemoryStore::new(), full: full.clone(), shared };
        let world = World::with(|config| config.store = Arc::new(store), Limits::default()).await;
        let plan = init_data("a");
        world.register(&registration(&plan));
        let mut guest = world.guest(Some(plan)).await;
        let token = guest.attest(&world).await.unwrap();
        assert_eq!(guest.get(&token, OWN).await.status, 200);
        let entries = world.trustee.audit().size().unwrap();
        assert_eq!(entries, 2);

        full.store(true, Ordering::SeqCst);
        for _ in 0..2 {
            let reply = guest.get(&token, OWN).await;
            assert_eq!((reply.status, reply.code()), (500, "STORE-FULL"), "{shared}");
            assert!(reply.json().get("ciphertext").is_none());
            let reply = guest.get_by_cookie(OWN).await;
            assert_eq!(reply.status, 500);
            assert!(reply.json().get("ciphertext").is_none());
        }
        let mut second = world.guest(guest.init_data.clone()).await;
        let refused = second.attest(&world).await.unwrap_err();
        assert_eq!((refused.status, refused.code()), (500, "STORE-FULL"));
        assert!(refused.json().get("token").is_none());
        assert_eq!(refused.header("set-cookie"), None, "the cookie would carry the token");
        // A refusal needs no record to be one.
        let denied = guest.get("a.b.c", OWN).await;
        assert_eq!((denied.status, denied.code()), (401, "RELEASE-TOKEN-INVALID"));
        let denied = guest.get(&token, "default/secret/other").await;
        assert_eq!((denied.status, denied.code()), (401, "RELEASE-DENIED"));
        // What an administrator changes is refused too, and nothing is changed.
        let mut admin = world.client().await;
        let put = admin.admin("PUT", "/cocoon/v0/secrets/a/b/c", b"x").await;
        assert!(put.status >= 500, "{}", put.status);
        assert!(world.trustee.secrets().unwrap().is_empty());
        assert_eq!(world.trustee.audit().size().unwrap(), entries);

        // With room again everything goes on, and the log is whole.
        full.store(false, Ordering::SeqCst);
        assert_eq!(guest.get(&token, OWN).await.status, 200);
        let token = second.attest(&world).await.unwrap();
        assert_eq!(second.get(&token, OWN).await.status, 200);
        assert_eq!(world.trustee.audit().size().unwrap(), entries + 3);
        world.stop().await;
    }
}
