//! Trustee's own keys, kept sealed in its store: token signers, the cookie key, the audit log's key.

use std::sync::Arc;

use cocoon_audit::LogKey;
use cocoon_protocol::b64;
use cocoon_protocol::token::Signer;
use cocoon_store::{Change, Condition, Sealer, Store};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::Error;

const NAMESPACE: &str = "trustee";
const SIGNERS: &str = "token_signers";
/// The single signer of earlier versions of this program.
const OLD_SIGNER: &str = "token_signer";
/// Most retired signers whose public keys stay published.
const MAX_RETIRED: usize = 8;

/// One signer as it is kept.
#[derive(Serialize, Deserialize)]
struct Kept {
    pkcs8: Zeroizing<String>,
    since_unix: u64,
    /// For a retired one: until when its public key stays published.
    #[serde(default)]
    until_unix: Option<u64>,
}

/// The signers of tokens: the first signs, the others are retired but still published.
pub(crate) struct Signers {
    pub current: Signer,
    /// With the instants until which they stay published, in seconds since 1970.
    pub retired: Vec<(Signer, u64)>,
    /// The stored form, to notice another replica's rotation.
    pub stored: Vec<u8>,
}

/// The signers of the store; made at the first start.
pub(crate) fn signers(store: &dyn Store, sealer: &Sealer, now_unix: u64) -> Result<Signers, Error> {
    if store.get(NAMESPACE, SIGNERS)?.is_none() {
        let first = match store.get(NAMESPACE, OLD_SIGNER)? {
            Some(sealed) => Zeroizing::new(sealer.open(NAMESPACE, OLD_SIGNER, &sealed)?.to_vec()),
            None => fresh()?,
        };
        let sealed = seal(sealer, &[kept(&first, now_unix)])?;
        store.put_if_absent(NAMESPACE, SIGNERS, &sealed)?;
    }
    let stored = store.get(NAMESPACE, SIGNERS)?.ok_or(Error::Internal("a key vanished from the store"))?;
    parse(sealer, stored)
}

/// Another process's rotation, if there was one since `known`.
pub(crate) fn changed_signers(
    store: &dyn Store,
    sealer: &Sealer,
    known: &[u8],
) -> Result<Option<Signers>, Error> {
    match store.get(NAMESPACE, SIGNERS)? {
        Some(stored) if stored != known => parse(sealer, stored).map(Some),
        _ => Ok(None),
    }
}

/// Makes a new signer; the old one stays published for `keep` seconds at least.
pub(crate) fn rotate(store: &dyn Store, sealer: &Sealer, now_unix: u64, keep: u64) -> Result<Signers, Error> {
    // Of two that rotate at once each makes its own new key, one after the other.
    for _ in 0..16 {
        let old = store.get(NAMESPACE, SIGNERS)?.ok_or(Error::Internal("there is no signer to rotate"))?;
        let mut all = open(sealer, &old)?;
        if let Some(current) = all.first_mut() {
            current.until_unix = Some(now_unix.saturating_add(keep));
        }
        all.insert(0, kept(&fresh()?, now_unix));
        all.retain(|k| k.until_unix.is_none_or(|until| now_unix <= until));
        all.truncate(1 + MAX_RETIRED);
        let new = seal(sealer, &all)?;
        let condition = Condition { ns: NAMESPACE, key: SIGNERS, value: Some(&old) };
        if store.apply_if(&[condition], &[Change::Put { ns: NAMESPACE, key: SIGNERS, value: &new }])? {
            return parse(sealer, new);
        }
    }
    Err(Error::Internal("the token key was rotated by many at once"))
}

fn fresh() -> Result<Zeroizing<Vec<u8>>, Error> {
    let signer = Signer::generate().map_err(|_| Error::Key("token signing key"))?;
    Ok(Zeroizing::new(signer.to_pkcs8_der().to_vec()))
}

fn kept(pkcs8: &[u8], since_unix: u64) -> Kept {
    Kept { pkcs8: Zeroizing::new(b64::std_encode(pkcs8)), since_unix, until_unix: None }
}

fn seal(sealer: &Sealer, all: &[Kept]) -> Result<Vec<u8>, Error> {
    let json = serde_json::to_vec(all).map(Zeroizing::new).map_err(|_| Error::Key("token signing key"))?;
    Ok(sealer.seal(NAMESPACE, SIGNERS, &json)?)
}

fn open(sealer: &Sealer, stored: &[u8]) -> Result<Vec<Kept>, Error> {
    let json = sealer.open(NAMESPACE, SIGNERS, stored)?;
    serde_json::from_slice(&json).map_err(|_| Error::Key("token signing key"))
}

fn parse(sealer: &Sealer, stored: Vec<u8>) -> Result<Signers, Error> {
    let unusable = || Error::Key("token signing key");
    let mut signers = Vec::new();
    for kept in open(sealer, &stored)? {
        let der = b64::std_decode(&kept.pkcs8).map(Zeroizing::new).map_err(|_| unusable())?;
        let signer = Signer::from_pkcs8_der(&der).map_err(|_| unusable())?;
        signers.push((signer, kept.until_unix.unwrap_or(u64::MAX)));
    }
    if signers.is_empty() {
        return Err(unusable());
    }
    let (current, _) = signers.remove(0);
    Ok(Signers { current, retired: signers, stored })
}

/// The sealer of cookies.
///
/// In a shared store the key is kept, so that another process can finish a handshake, and used nonces are kept
/// there too. Otherwise both the key and the used nonces live in this process only: a cookie from before a restart
/// does not open any more, so forgetting which nonces were used then opens no door to a replay.
pub(crate) fn cookies(store: &dyn Store, sealer: &Sealer) -> Result<Sealer, Error> {
    if !store.shared() {
        return Ok(Sealer::ephemeral()?);
    }
    let key = keep(store, sealer, "cookie_key", random_key)?;
    sealer_of(&key, "cookie key")
}

/// The key under which the state of Secure Execution's challenges travels: a guest may answer another replica.
pub(crate) fn challenge_key(store: &dyn Store, sealer: &Sealer) -> Result<Zeroizing<[u8; 32]>, Error> {
    let key = keep(store, sealer, "challenge_key", random_key)?;
    let key: &[u8; 32] = key.as_slice().try_into().map_err(|_| Error::Key("challenge key"))?;
    Ok(Zeroizing::new(*key))
}

/// The signer of the audit log's heads.
pub(crate) fn log_key(store: &dyn Store, sealer: &Sealer) -> Result<Arc<LogKey>, Error> {
    let pkcs8 = keep(store, sealer, "audit_key", || Ok(LogKey::generate()?.to_pkcs8()?))?;
    Ok(Arc::new(LogKey::from_pkcs8(&pkcs8)?))
}

/// The sealer of one tenant's values: a key of its own, sealed by the root's.
pub(crate) fn tenant_sealer(store: &dyn Store, sealer: &Sealer, tenant: &str) -> Result<Sealer, Error> {
    let key = keep(store, sealer, &format!("tenant_key/{tenant}"), random_key)?;
    sealer_of(&key, "tenant key")
}

/// Forgets a tenant's key: what it sealed can never be opened again, backups of the store alone included.
pub(crate) fn forget_tenant_key(store: &dyn Store, tenant: &str) -> Result<(), Error> {
    store.delete(NAMESPACE, &format!("tenant_key/{tenant}"))?;
    Ok(())
}

fn random_key() -> Result<Zeroizing<Vec<u8>>, Error> {
    let mut key = Zeroizing::new(vec![0u8; 32]);
    aws_lc_rs::rand::fill(&mut key).map_err(|_| Error::Internal("no randomness"))?;
    Ok(key)
}

fn sealer_of(key: &[u8], what: &'static str) -> Result<Sealer, Error> {
    let key: &[u8; 32] = key.try_into().map_err(|_| Error::Key(what))?;
    Ok(Sealer::from_key(key)?)
}

/// The value kept under `name`; of several processes that make it at once, all end with the first one's.
fn keep(
    store: &dyn Store,
    sealer: &Sealer,
    name: &str,
    make: impl FnOnce() -> Result<Zeroizing<Vec<u8>>, Error>,
) -> Result<Zeroizing<Vec<u8>>, Error> {
    if store.get(NAMESPACE, name)?.is_none() {
        store.put_if_absent(NAMESPACE, name, &sealer.seal(NAMESPACE, name, &make()?)?)?;
    }
    let sealed = store.get(NAMESPACE, name)?.ok_or(Error::Internal("a key vanished from the store"))?;
    Ok(sealer.open(NAMESPACE, name, &sealed)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cocoon_store::MemoryStore;

    #[test]
    fn a_rotated_key_signs_and_the_old_one_stays_published_for_its_time() {
        let (store, sealer) = (MemoryStore::new(), Sealer::ephemeral().unwrap());
        let first = signers(&store, &sealer, 100).unwrap();
        let again = signers(&store, &sealer, 200).unwrap();
        assert_eq!(first.current.kid(), again.current.kid());
        assert!(changed_signers(&store, &sealer, &first.stored).unwrap().is_none());
        let second = rotate(&store, &sealer, 1000, 300).unwrap();
        assert_ne!(second.current.kid(), first.current.kid());
        assert_eq!(second.retired.len(), 1);
        assert_eq!(second.retired[0].0.kid(), first.current.kid());
        let noticed = changed_signers(&store, &sealer, &first.stored).unwrap().unwrap();
        assert_eq!(noticed.current.kid(), second.current.kid());
        let third = rotate(&store, &sealer, 1301, 300).unwrap();
        assert_eq!(third.retired.len(), 1, "the first has had its time");
        assert!(signers(&store, &Sealer::ephemeral().unwrap(), 1).is_err(), "another sealing key");
    }

    #[test]
    fn an_earlier_versions_signer_goes_on() {
        let (store, sealer) = (MemoryStore::new(), Sealer::ephemeral().unwrap());
        let old = Signer::generate().unwrap();
        let sealed = sealer.seal(NAMESPACE, OLD_SIGNER, &old.to_pkcs8_der()).unwrap();
        store.put_if_absent(NAMESPACE, OLD_SIGNER, &sealed).unwrap();
        assert_eq!(signers(&store, &sealer, 1).unwrap().current.kid(), old.kid());
    }
}
