//! A Trustee in memory, made anew now and then so that what it keeps stays small.

use std::cell::Cell;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use cocoon_store::{MemoryStore, Sealer};
use cocoon_trustee::{Config, Provisioner, ResourcePath, Trustee};

use crate::NOW;
use crate::signed::IDENTITY;

/// How many inputs one Trustee gets.
const INPUTS: usize = 2048;

thread_local! {
    static SERVED: Cell<usize> = const { Cell::new(0) };
}

static PRESENT: LazyLock<Mutex<Trustee>> = LazyLock::new(|| Mutex::new(made()));

/// The secret that nothing may give out.
pub const SECRET: &[u8] = b"what nobody may read";

fn made() -> Trustee {
    let sealer = Sealer::ephemeral().expect("a sealer");
    let mut config = Config::new(Arc::new(MemoryStore::new()), Arc::new(sealer));
    config.clock = Arc::new(|| NOW);
    // So that handshakes end in tokens, which nothing here releases a secret to.
    config.live.accept_sample = true;
    config.live.issue_contraindicated = true;
    config.live.trusted.certificates = vec![IDENTITY.ca.clone()];
    config.live.plugins = vec![("provisioner".into(), Arc::new(Provisioner::new(32)))];
    let trustee = Trustee::new(config).expect("a Trustee");
    let path: ResourcePath = "default/key/1".parse().expect("a path");
    trustee.put_secret(&path, SECRET).expect("memory takes it");
    trustee
}

/// The Trustee for the next input.
pub fn trustee() -> Trustee {
    let mut present = PRESENT.lock().unwrap_or_else(PoisonError::into_inner);
    let served = SERVED.get() + 1;
    SERVED.set(served % INPUTS);
    if served == INPUTS {
        *present = made();
    }
    present.clone()
}
