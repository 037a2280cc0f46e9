//! The state of one Trustee, or of one tenant of it.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use cocoon_access::Access;
use cocoon_attestation::{Appraiser, Trust};
use cocoon_audit::{AuditLog, LogKey, Options};
use cocoon_evidence::se::{self, SealingKey};
use cocoon_evidence::snp::{Roots, SimulatedRoot};
use cocoon_policy::Policies;
use cocoon_reference::ReferenceValues;
use cocoon_release::Registry;
use cocoon_store::{Sealer, Store};

use crate::config::Live;
use crate::explanations::Explanations;
use crate::metrics::Metrics;
use crate::nonces::Nonces;
use crate::peers::Peers;
use crate::telemetry::Telemetry;
use crate::tenants::Tenant;
use crate::tokens::Tokens;
use crate::{Clock, Error, keys};

/// What all tenants of one process share.
pub(crate) struct Shared {
    pub clock: Clock,
    pub metrics: Metrics,
    pub peers: Arc<Peers>,
    pub telemetry: RwLock<Option<Arc<Telemetry>>>,
    /// Held for reading by each administrator's act until it is in the log; see [`crate::Trustee::to_its_end`].
    pub acts: Arc<tokio::sync::RwLock<()>>,
}

impl Shared {
    /// Where spans go, if anywhere.
    pub fn telemetry(&self) -> Option<Arc<Telemetry>> {
        self.telemetry.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// One Trustee's own.
pub(crate) struct Inner {
    pub shared: Arc<Shared>,
    /// Which tenant this is; `None` for the Trustee itself.
    pub tenant: Option<Tenant>,
    pub store: Arc<dyn Store>,
    pub sealer: Arc<Sealer>,
    pub tokens: Tokens,
    pub cookies: Sealer,
    pub nonces: Nonces,
    pub explanations: Explanations,
    pub audit: AuditLog,
    pub log_key: Arc<LogKey>,
    /// What [`Inner::has_policies`] found last.
    policies_seen: AtomicU64,
    pub policies: Arc<Policies>,
    pub references: ReferenceValues,
    live: RwLock<Arc<Judge>>,
}

/// What follows from the changeable configuration.
pub(crate) struct Judge {
    pub config: Live,
    pub appraiser: Appraiser,
    pub registry: Registry,
    pub access: Access,
}

impl Inner {
    pub fn new(
        shared: Arc<Shared>,
        store: Arc<dyn Store>,
        sealer: Arc<Sealer>,
        live: Live,
        journal: Option<PathBuf>,
        tenant: Option<Tenant>,
    ) -> Result<Self, Error> {
        let now = (shared.clock)();
        let policies = Arc::new(Policies::new(store.clone()));
        let references = ReferenceValues::new(store.clone());
        let log_key = keys::log_key(store.as_ref(), &sealer)?;
        let challenge_key = keys::challenge_key(store.as_ref(), &sealer)?;
        let options = Options { journal, ..Options::default() };
        let audit = AuditLog::open_with(store.clone(), log_key.clone(), shared.clock.clone(), options)?;
        let inner = Inner {
            tokens: Tokens::new(
                store.clone(),
                sealer.clone(),
                live.token_identity.as_ref(),
                &live.trusted,
                now,
            )?,
            cookies: keys::cookies(store.as_ref(), &sealer)?,
            nonces: Nonces::new(&store),
            explanations: Explanations::new(store.clone(), live.verdicts_kept),
            live: RwLock::new(Arc::new(judge(
                &shared,
                Registry::new(store.clone(), sealer.clone()),
                live,
                &references,
                &policies,
                &challenge_key,
            )?)),
            audit,
            log_key,
            policies_seen: AtomicU64::new(0),
            policies,
            references,
            store,
            sealer,
            tenant,
            shared,
        };
        Ok(inner)
    }

    /// Takes over a changed configuration; what cannot be used is refused whole, and the old one stays.
    pub fn reload(&self, live: Live) -> Result<(), Error> {
        let (identity, trusted) = (live.token_identity.clone(), live.trusted.clone());
        // The same registry: a change under way through the old one must not leave the new one's memory stale.
        let registry = self.judge().registry.clone();
        let key = keys::challenge_key(self.store.as_ref(), &self.sealer)?;
        let new = judge(&self.shared, registry, live, &self.references, &self.policies, &key)?;
        self.tokens.reload(identity.as_ref(), &trusted)?;
        self.explanations.set_kept(new.config.verdicts_kept);
        *self.live.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
        Ok(())
    }

    /// What decides now.
    pub fn judge(&self) -> Arc<Judge> {
        self.live.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether the owner has policies, whose evaluation takes time. Only asked of a store that no other process changes.
    pub fn has_policies(&self) -> bool {
        // What was found, and after how many changes: twice their number and two, and one more if there were any.
        let changes = self.policies.changes().wrapping_add(1) << 1;
        let seen = self.policies_seen.load(Ordering::Relaxed);
        if seen & !1 == changes {
            return seen & 1 == 1;
        }
        let any = !self.policies.list().is_ok_and(|all| all.is_empty());
        self.policies_seen.store(changes | u64::from(any), Ordering::Relaxed);
        any
    }

    pub fn now(&self) -> u64 {
        (self.shared.clock)()
    }

    /// Where a cookie is sent back to.
    pub fn cookie_path(&self) -> String {
        match &self.tenant {
            Some(tenant) => format!("/t/{}/kbs/v0", tenant.name),
            None => "/kbs/v0".into(),
        }
    }
}

fn judge(
    shared: &Shared,
    registry: Registry,
    live: Live,
    references: &ReferenceValues,
    policies: &Arc<Policies>,
    challenge_key: &[u8; 32],
) -> Result<Judge, Error> {
    let mut simulated = Vec::new();
    for (ark_der, ask_der) in &live.simulated_roots {
        let root = SimulatedRoot { ark_der: ark_der.clone(), ask_der: ask_der.clone() };
        root.check().map_err(|e| Error::SimulatedRoot(e.to_string()))?;
        simulated.push(root);
    }
    let se = live.secure_execution.as_ref().map(|expected| {
        SealingKey::new(challenge_key).map(|sealing_key| {
            Arc::new(se::Config {
                host_keys: expected.host_keys.clone(),
                header: expected.header.clone(),
                sealing_key,
                context: Vec::new(),
                lifetime: live.session_lifetime.as_secs(),
            })
        })
    });
    let config = cocoon_attestation::Config {
        trust: Trust {
            snp: Roots { vendor: live.vendor_roots, simulated },
            accept_sample: live.accept_sample,
            se: se.transpose().map_err(|_| Error::Key("challenge key"))?,
            ..live.trust.clone()
        },
        collateral: live.collateral.clone(),
        nvidia_remote: live.nvidia_remote.clone(),
        issue_contraindicated: live.issue_contraindicated,
    };
    Ok(Judge {
        appraiser: Appraiser::new(config, references.clone(), policies.clone()),
        registry: registry.with_source(live.source.clone()),
        access: Access::new(live.access.clone(), shared.clock.clone())?,
        config: live,
    })
}
