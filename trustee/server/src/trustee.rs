//! A Trustee: its parts, and what an embedding program may ask of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use cocoon_attestation::{Appraiser, ReferenceValue, ReferenceValues};
use cocoon_evidence::snp::{Roots, SimulatedRoot};
use cocoon_release::{Explanation, Registration, Registry, ResourcePath, Workload};
use cocoon_stage::{Code, Failure};
use cocoon_store::Sealer;
use serde_json::Value;
use zeroize::Zeroizing;

use crate::explanations::Explanations;
use crate::nonces::Nonces;
use crate::tokens::Tokens;
use crate::{Config, Error, keys, router};

/// One Trustee. Clones are handles to the same one.
///
/// The methods are the owner's, without further authorisation, and may wait for the disk or (with a shared store)
/// for another process: asynchronous callers use a blocking thread. The guests' side is [`Trustee::router`].
#[derive(Clone)]
pub struct Trustee {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub config: Config,
    pub appraiser: Appraiser,
    pub registry: Registry,
    pub tokens: Tokens,
    pub cookies: Sealer,
    pub nonces: Nonces,
    pub explanations: Explanations,
}

impl Trustee {
    /// A Trustee on the configured state; makes its signing key at the first start.
    pub fn new(config: Config) -> Result<Self, Error> {
        let mut simulated = Vec::new();
        for (ark_der, ask_der) in &config.simulated_roots {
            let root = SimulatedRoot { ark_der: ark_der.clone(), ask_der: ask_der.clone() };
            root.check().map_err(|e| Error::SimulatedRoot(e.to_string()))?;
            simulated.push(root);
        }
        let (store, sealer) = (&config.store, &config.sealer);
        let appraiser = Appraiser::new(
            cocoon_attestation::Config {
                roots: Roots { vendor: config.vendor_roots, simulated },
                issue_contraindicated: config.issue_contraindicated,
            },
            ReferenceValues::new(store.clone()),
        );
        let inner = Inner {
            appraiser,
            registry: Registry::new(store.clone(), sealer.clone()),
            tokens: Tokens::new(keys::signer(store.as_ref(), sealer)?),
            cookies: keys::cookies(store.as_ref(), sealer)?,
            nonces: Nonces::new(store),
            explanations: Explanations::new(store.clone()),
            config,
        };
        Ok(Trustee { inner: Arc::new(inner) })
    }

    /// The HTTP service; see the crate's description for its paths.
    pub fn router(&self) -> axum::Router {
        router::router(self.clone())
    }

    /// Registers a workload, replacing an earlier registration of the same digest.
    pub fn register_workload(&self, registration: &Registration) -> Result<Workload, Error> {
        Ok(self.inner.registry.register(registration, self.inner.now())?)
    }

    /// Removes a workload and its own secrets; whether there was one.
    pub fn unregister_workload(&self, digest_hex: &str) -> Result<bool, Error> {
        Ok(self.inner.registry.unregister(digest_hex)?)
    }

    /// The registration of an initdata digest.
    pub fn workload(&self, digest_hex: &str) -> Result<Option<Workload>, Error> {
        Ok(self.inner.registry.workload(digest_hex)?)
    }

    /// All registrations.
    pub fn workloads(&self) -> Result<Vec<Workload>, Error> {
        Ok(self.inner.registry.workloads()?)
    }

    /// Sets a shared secret (at most 1 MiB), for the workloads whose registration allows its path.
    pub fn put_secret(&self, path: &ResourcePath, value: &[u8]) -> Result<(), Error> {
        Ok(self.inner.registry.put_resource(path, value)?)
    }

    /// Sets a shared secret only where there is none; whether it did.
    pub fn put_secret_if_absent(&self, path: &ResourcePath, value: &[u8]) -> Result<bool, Error> {
        Ok(self.inner.registry.put_resource_if_absent(path, value)?)
    }

    /// A shared secret's value, for its owner in this process; never over HTTP.
    pub fn secret(&self, path: &ResourcePath) -> Result<Option<Zeroizing<Vec<u8>>>, Error> {
        Ok(self.inner.registry.resource(path)?)
    }

    /// Removes a shared secret; whether there was one.
    pub fn delete_secret(&self, path: &ResourcePath) -> Result<bool, Error> {
        Ok(self.inner.registry.delete_resource(path)?)
    }

    /// Paths of the shared secrets.
    pub fn secrets(&self) -> Result<Vec<String>, Error> {
        Ok(self.inner.registry.resources()?)
    }

    /// Registers reference values by name, all or none; they replace what the same `source` registered under these
    /// names before and leave other sources' alone.
    pub fn put_reference_values<V: Clone + Into<Value>>(
        &self,
        source: &str,
        values: &BTreeMap<String, Vec<V>>,
        expires_unix: Option<u64>,
    ) -> Result<(), Error> {
        let registered_unix = self.inner.now();
        let records: Vec<ReferenceValue> = values
            .iter()
            .map(|(name, values)| ReferenceValue {
                name: name.clone(),
                values: values.iter().cloned().map(Into::into).collect(),
                source: source.to_owned(),
                registered_unix,
                expires_unix,
            })
            .collect();
        Ok(self.inner.appraiser.references().put(&records)?)
    }

    /// All reference values, expired ones too.
    pub fn reference_values(&self) -> Result<Vec<ReferenceValue>, Error> {
        Ok(self.inner.appraiser.references().list()?)
    }

    /// The values of a name that count now.
    pub fn accepted_reference_values(&self, name: &str) -> Result<Vec<Value>, Error> {
        Ok(self.inner.appraiser.references().accepted(name, self.inner.now())?)
    }

    /// Removes the reference values of a name, or only one source's; how many records there were.
    pub fn delete_reference_values(&self, name: &str, source: Option<&str>) -> Result<usize, Error> {
        Ok(self.inner.appraiser.references().delete(name, source)?)
    }

    /// Why a request was answered as it was, by the id that the guest got.
    pub fn explain(&self, request_id: &str) -> Result<Option<Explanation>, Error> {
        Ok(self.inner.explanations.get(request_id)?)
    }

    /// The newest verdicts, newest first.
    pub fn latest_explanations(&self, limit: usize) -> Result<Vec<Explanation>, Error> {
        Ok(self.inner.explanations.latest(limit)?)
    }

    /// The public keys by which others check this Trustee's tokens (JWK set).
    pub fn jwks(&self) -> &Value {
        self.inner.tokens.jwks()
    }

    /// Runs work that only reads the store: here, unless the store is shared and so may make it wait.
    pub(crate) async fn reading<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Trustee) -> T + Send + 'static,
    ) -> Result<T, Failure> {
        if self.inner.config.store.shared() { self.writing(work).await } else { Ok(work(self)) }
    }

    /// Runs work that waits for the disk on a thread that may block.
    pub(crate) async fn writing<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Trustee) -> T + Send + 'static,
    ) -> Result<T, Failure> {
        let trustee = self.clone();
        let outcome = tokio::task::spawn_blocking(move || work(&trustee)).await;
        outcome.map_err(|_| Failure::new(Code::Internal, "a request's work ended early"))
    }
}

impl Inner {
    pub fn now(&self) -> u64 {
        (self.config.clock)()
    }
}
