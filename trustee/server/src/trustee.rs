//! A Trustee: its parts, and what an embedding program may ask of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};

use cocoon_audit::AuditLog;
use cocoon_policy::Policies;
use cocoon_reference::{ReferenceValue, ReferenceValues};
use cocoon_release::{Explanation, Registration, ResourcePath, Rule, Workload};
use cocoon_stage::{Code, Failure};
use serde_json::Value;
use zeroize::Zeroizing;

use crate::config::Live;
use crate::inner::Inner;
use crate::telemetry::{Telemetry, TelemetryConfig};
use crate::tenants::{self, Tenants};
use crate::{Config, Error, PeerLimits, router};

/// One Trustee. Clones are handles to the same one.
///
/// The methods are the owner's, without further authorisation, and may wait for the disk or (with a shared store)
/// for another process: asynchronous callers use a blocking thread. The guests' side is [`Trustee::router`].
#[derive(Clone)]
pub struct Trustee {
    pub(crate) inner: Arc<Inner>,
    /// Only a Trustee itself has tenants; a tenant has none.
    pub(crate) tenants: Option<Arc<Tenants>>,
}

impl Trustee {
    /// A Trustee on the configured state; makes its keys at the first start.
    pub fn new(config: Config) -> Result<Self, Error> {
        let shared = tenants::shared(config.clock);
        let tenants = Some(Arc::new(Tenants::new(config.store.clone())));
        let inner = Inner::new(shared, config.store, config.sealer, config.live, config.journal, None)?;
        Ok(Trustee { inner: Arc::new(inner), tenants })
    }

    /// The Trustee of one tenant.
    pub(crate) fn of(inner: Inner) -> Self {
        Trustee { inner: Arc::new(inner), tenants: None }
    }

    /// Takes over changed settings without dropping a session. Settings that cannot be used are refused, and the old
    /// ones stay in force.
    pub fn reload(&self, live: Live) -> Result<(), Error> {
        self.inner.reload(live)?;
        match &self.tenants {
            Some(tenants) => tenants.reload(&self.inner.judge().config),
            None => Ok(()),
        }
    }

    /// The changeable settings in force.
    pub fn live(&self) -> Live {
        self.inner.judge().config.clone()
    }

    /// Sets how much one address may take.
    pub fn set_peer_limits(&self, limits: PeerLimits) {
        self.inner.shared.peers.set_limits(limits);
    }

    /// Sends traces of requests to a collector from now on, or no more. Must be called within a runtime.
    pub fn set_telemetry(&self, config: Option<&TelemetryConfig>) -> Result<(), Error> {
        let telemetry = config.map(Telemetry::start).transpose()?.map(Arc::new);
        *self.inner.shared.telemetry.write().unwrap_or_else(PoisonError::into_inner) = telemetry;
        Ok(())
    }

    /// The HTTP service; see the crate's description for its paths.
    pub fn router(&self) -> axum::Router {
        router::router(self.clone())
    }

    /// Registers a workload, replacing an earlier registration of the same digest.
    pub fn register_workload(&self, registration: &Registration) -> Result<Workload, Error> {
        let judge = self.inner.judge();
        self.quota(
            "workloads",
            |q| q.workloads,
            || {
                let known = judge.registry.workload(&registration.digest_hex)?.is_some();
                Ok((judge.registry.workloads()?.len(), usize::from(!known)))
            },
        )?;
        Ok(judge.registry.register(registration, self.inner.now())?)
    }

    /// Removes a workload and its own secrets; whether there was one.
    pub fn unregister_workload(&self, digest_hex: &str) -> Result<bool, Error> {
        Ok(self.inner.judge().registry.unregister(digest_hex)?)
    }

    /// The registration of an initdata digest.
    pub fn workload(&self, digest_hex: &str) -> Result<Option<Workload>, Error> {
        Ok(self.inner.judge().registry.workload(digest_hex)?)
    }

    /// All registrations.
    pub fn workloads(&self) -> Result<Vec<Workload>, Error> {
        Ok(self.inner.judge().registry.workloads()?)
    }

    /// Sets a shared secret (at most 1 MiB), for the workloads whose registration or a rule allows its path.
    pub fn put_secret(&self, path: &ResourcePath, value: &[u8]) -> Result<(), Error> {
        self.quota_secrets(path)?;
        Ok(self.inner.judge().registry.put_resource(path, value)?)
    }

    /// Sets a shared secret only where there is none; whether it did.
    pub fn put_secret_if_absent(&self, path: &ResourcePath, value: &[u8]) -> Result<bool, Error> {
        self.quota_secrets(path)?;
        Ok(self.inner.judge().registry.put_resource_if_absent(path, value)?)
    }

    /// A shared secret's value, for its owner in this process; never over HTTP.
    pub fn secret(&self, path: &ResourcePath) -> Result<Option<Zeroizing<Vec<u8>>>, Error> {
        Ok(self.inner.judge().registry.resource(path)?)
    }

    /// Removes a shared secret; whether there was one.
    pub fn delete_secret(&self, path: &ResourcePath) -> Result<bool, Error> {
        Ok(self.inner.judge().registry.delete_resource(path)?)
    }

    /// Paths of the shared secrets.
    pub fn secrets(&self) -> Result<Vec<String>, Error> {
        Ok(self.inner.judge().registry.resources()?)
    }

    /// All release rules, by id.
    pub fn rules(&self) -> Result<Arc<[Rule]>, Error> {
        Ok(self.inner.judge().registry.rules().all()?)
    }

    /// Sets a release rule, replacing the one of the same id.
    pub fn put_rule(&self, rule: &Rule) -> Result<(), Error> {
        let judge = self.inner.judge();
        self.quota(
            "rules",
            |q| q.rules,
            || {
                let all = judge.registry.rules().all()?;
                Ok((all.len(), usize::from(all.iter().all(|known| known.id != rule.id))))
            },
        )?;
        Ok(judge.registry.rules().put(rule)?)
    }

    /// Removes a release rule; whether there was one.
    pub fn delete_rule(&self, id: &str) -> Result<bool, Error> {
        Ok(self.inner.judge().registry.rules().delete(id)?)
    }

    /// Registers reference values by name, all or none; they replace what the same `source` registered under these
    /// names before and leave other sources' alone.
    pub fn put_reference_values<V: Clone + Into<Value>>(
        &self,
        source: &str,
        values: &BTreeMap<String, Vec<V>>,
        expires_unix: Option<u64>,
    ) -> Result<(), Error> {
        self.quota_references(|| Ok(values.keys().cloned().collect()))?;
        let registered_unix = self.inner.now();
        let records: Vec<ReferenceValue> = values
            .iter()
            .map(|(name, values)| ReferenceValue {
                name: name.clone(),
                values: values.iter().cloned().map(Into::into).collect(),
                source: source.to_owned(),
                registered_unix,
                expires_unix,
                ..ReferenceValue::default()
            })
            .collect();
        Ok(self.inner.references.put(&records)?)
    }

    /// Refuses values for more names than a tenant's quota has room for. `names` are those to be set.
    pub(crate) fn quota_references(
        &self,
        names: impl FnOnce() -> Result<BTreeSet<String>, Error>,
    ) -> Result<(), Error> {
        self.quota(
            "reference values",
            |q| q.reference_values,
            || {
                let known: BTreeSet<String> =
                    self.inner.references.list()?.into_iter().map(|r| r.name).collect();
                Ok((known.len(), names()?.difference(&known).count()))
            },
        )
    }

    fn quota_secrets(&self, path: &ResourcePath) -> Result<(), Error> {
        self.quota(
            "secrets",
            |q| q.secrets,
            || {
                let all = self.inner.judge().registry.resources()?;
                Ok((all.len(), usize::from(all.iter().all(|known| known != path.as_str()))))
            },
        )
    }

    /// All reference values, expired ones too.
    pub fn reference_values(&self) -> Result<Vec<ReferenceValue>, Error> {
        Ok(self.inner.references.list()?)
    }

    /// The values of a name that count now.
    pub fn accepted_reference_values(&self, name: &str) -> Result<Vec<Value>, Error> {
        Ok(self.inner.references.accepted(name, self.inner.now())?)
    }

    /// Removes the reference values of a name, or only one source's; how many records there were.
    pub fn delete_reference_values(&self, name: &str, source: Option<&str>) -> Result<usize, Error> {
        Ok(self.inner.references.delete(name, source)?)
    }

    /// The reference values.
    pub fn references(&self) -> &ReferenceValues {
        &self.inner.references
    }

    /// The Rego policies.
    pub fn policies(&self) -> &Policies {
        &self.inner.policies
    }

    /// The audit log.
    pub fn audit(&self) -> &AuditLog {
        &self.inner.audit
    }

    /// The key by which others check the audit log's heads.
    pub fn audit_key(&self) -> cocoon_audit::PublicKey {
        cocoon_audit::HeadSigner::public_key(self.inner.log_key.as_ref())
    }

    /// Why a request was answered as it was, by the id that the guest got.
    pub fn explain(&self, request_id: &str) -> Result<Option<Explanation>, Error> {
        Ok(self.inner.explanations.get(request_id)?)
    }

    /// The newest verdicts, newest first.
    pub fn latest_explanations(&self, limit: usize) -> Result<Vec<Explanation>, Error> {
        Ok(self.inner.explanations.latest(limit)?)
    }

    /// All metrics as `/metrics` gives them (OpenMetrics text), for a listener of the embedding program.
    pub fn metrics_text(&self) -> String {
        self.inner.shared.metrics.text()
    }

    /// The public keys by which others check this Trustee's tokens (JWK set).
    pub fn jwks(&self) -> Value {
        self.inner.tokens.jwks(self.inner.now())
    }

    /// Makes a new token signing key; gives its id. Tokens that were signed before stay good until they expire.
    pub fn rotate_token_key(&self) -> Result<String, Error> {
        let lifetime = self.inner.judge().config.token_lifetime.as_secs();
        self.inner.tokens.rotate(self.inner.now(), lifetime)
    }

    /// Refuses more of something where a tenant's quota is used up; what is there may be replaced. `count` gives how
    /// many there are, and how many are to be added.
    pub(crate) fn quota(
        &self,
        what: &'static str,
        of: impl FnOnce(&tenants::Quota) -> usize,
        count: impl FnOnce() -> Result<(usize, usize), Error>,
    ) -> Result<(), Error> {
        let Some(tenant) = &self.inner.tenant else { return Ok(()) };
        let most = of(&tenant.quota);
        let (have, more) = count()?;
        if more > 0 && have.saturating_add(more) > most { Err(Error::Quota { what, most }) } else { Ok(()) }
    }

    /// Runs work that only reads the store: here, unless it may have to wait for another process, a network or
    /// a policy.
    pub(crate) async fn reading<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Trustee) -> T + Send + 'static,
    ) -> Result<T, Failure> {
        let waits =
            self.inner.store.shared() || self.inner.judge().registry.may_wait() || self.inner.has_policies();
        if waits { self.writing(work).await } else { Ok(work(self)) }
    }

    /// Runs an attestation: as reading, but where vendors' documents may have to be waited for.
    pub(crate) async fn attesting<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Trustee) -> T + Send + 'static,
    ) -> Result<T, Failure> {
        if self.inner.judge().appraiser.may_wait() {
            self.writing(work).await
        } else {
            self.reading(work).await
        }
    }

    /// Runs an administrator's act to its end, and so into the log, also if the caller hangs up or its time is over. A
    /// server that stops waits for it.
    pub(crate) async fn to_its_end<T: Send + 'static>(
        &self,
        act: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Failure> {
        let under_way = self.inner.shared.acts.clone().read_owned().await;
        let task = tokio::spawn(async move {
            let done = act.await;
            drop(under_way);
            done
        });
        task.await.map_err(|_| Failure::new(Code::Internal, "a request's work ended early"))
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
