//! Trustee's own keys, kept sealed in its store: the token signer and the cookie key.

use cocoon_protocol::token::Signer;
use cocoon_store::{Sealer, Store};
use zeroize::Zeroizing;

use crate::Error;

const NAMESPACE: &str = "trustee";

/// The signer of tokens; made at the first start, then always the same.
pub(crate) fn signer(store: &dyn Store, sealer: &Sealer) -> Result<Signer, Error> {
    let unusable = |_| Error::Key("token signing key");
    let der = kept(store, sealer, "token_signer", || {
        let signer = Signer::generate().map_err(unusable)?;
        Ok(Zeroizing::new(signer.to_pkcs8_der().to_vec()))
    })?;
    Signer::from_pkcs8_der(&der).map_err(unusable)
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
    let key = kept(store, sealer, "cookie_key", || {
        let mut key = Zeroizing::new(vec![0u8; 32]);
        aws_lc_rs::rand::fill(&mut key).map_err(|_| Error::Internal("no randomness"))?;
        Ok(key)
    })?;
    let key: &[u8; 32] = key.as_slice().try_into().map_err(|_| Error::Key("cookie key"))?;
    Ok(Sealer::from_key(key)?)
}

/// The value kept under `name`; of several processes that make it at once, all end with the first one's.
fn kept(
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
