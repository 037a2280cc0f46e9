//! One operator at a time: a Lease, held by whoever renewed it last.
//!
//! Those who wait watch the lease; they ask nothing while it is renewed.

use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, ObjectMeta, PostParams};
use kube::runtime::watcher;
use tracing::{info, warn};

use crate::Error;

/// The lease's name.
pub const NAME: &str = "cocoon-operator";
/// How long it holds without being renewed.
const HOLDS: Duration = Duration::from_secs(30);
/// Between two renewals.
const RENEW: Duration = Duration::from_secs(10);

/// The lease, held.
#[derive(Debug)]
pub struct Held {
    api: Api<Lease>,
    lease: Lease,
    identity: String,
}

/// Waits until this process has the lease.
///
/// # Errors
/// Of the API server, other than conflicts with other operators.
pub async fn acquire(api: Api<Lease>, identity: &str) -> Result<Held, Error> {
    let config = watcher::Config::default().fields(&format!("metadata.name={NAME}"));
    let mut changes = watcher(api.clone(), config).boxed();
    loop {
        let lease = api.get_opt(NAME).await?;
        // After a crash a container comes back under its pod's name.
        let own = |l: &Lease| l.spec.as_ref().and_then(|s| s.holder_identity.as_deref()) == Some(identity);
        let free = lease.as_ref().is_none_or(|l| is_free(l) || own(l));
        if free && let Some(held) = take(&api, lease, identity).await? {
            info!(identity, "this operator has the lease");
            return Ok(held);
        }
        // As long as it is renewed, changes come; then it is free, whatever the clocks of others say.
        loop {
            match tokio::time::timeout(HOLDS, changes.try_next()).await {
                Err(_) => break,
                Ok(Ok(Some(watcher::Event::Apply(lease)))) if is_free(&lease) => break,
                Ok(Ok(Some(watcher::Event::Delete(_)))) => break,
                Ok(Ok(Some(_))) => {}
                Ok(Ok(None)) => break,
                Ok(Err(e)) => {
                    warn!("watching the lease: {e}");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
        let lease = api.get_opt(NAME).await?;
        if let Some(held) = take(&api, lease, identity).await? {
            info!(identity, "this operator has the lease now");
            return Ok(held);
        }
    }
}

/// Whether its holder let it go.
fn is_free(lease: &Lease) -> bool {
    lease.spec.as_ref().and_then(|s| s.holder_identity.as_deref()).is_none_or(str::is_empty)
}

async fn take(api: &Api<Lease>, lease: Option<Lease>, identity: &str) -> Result<Option<Held>, Error> {
    let now = MicroTime(Timestamp::now());
    let transitions = lease.as_ref().and_then(|l| l.spec.as_ref()?.lease_transitions).unwrap_or(-1);
    let spec = LeaseSpec {
        holder_identity: Some(identity.to_owned()),
        lease_duration_seconds: i32::try_from(HOLDS.as_secs()).ok(),
        acquire_time: Some(now.clone()),
        renew_time: Some(now),
        lease_transitions: Some(transitions.saturating_add(1)),
        ..LeaseSpec::default()
    };
    let result = match lease {
        Some(mut lease) => {
            lease.spec = Some(spec);
            api.replace(NAME, &PostParams::default(), &lease).await
        }
        None => {
            let metadata = ObjectMeta { name: Some(NAME.into()), ..ObjectMeta::default() };
            api.create(&PostParams::default(), &Lease { metadata, spec: Some(spec) }).await
        }
    };
    match result {
        Ok(lease) => Ok(Some(Held { api: api.clone(), lease, identity: identity.to_owned() })),
        // Another was faster.
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(None),
        Err(e) => Err(e.into()),
    }
}

impl Held {
    /// Renews it until it is lost. Never returns otherwise.
    pub async fn keep(&mut self) -> Error {
        let mut renewed = tokio::time::Instant::now();
        loop {
            tokio::time::sleep_until(renewed + RENEW).await;
            loop {
                match self.renew().await {
                    Ok(()) => break,
                    Err(e @ Error::LeaseLost(_)) => return e,
                    Err(e) if renewed.elapsed() > HOLDS - RENEW / 2 => {
                        return Error::LeaseLost(format!("it could not be renewed: {e}"));
                    }
                    Err(e) => {
                        warn!("renewing the lease: {e}");
                        tokio::time::sleep(Duration::from_secs(1)).await;
                    }
                }
            }
            renewed = tokio::time::Instant::now();
        }
    }

    async fn renew(&mut self) -> Result<(), Error> {
        if let Some(spec) = &mut self.lease.spec {
            spec.renew_time = Some(MicroTime(Timestamp::now()));
        }
        match self.api.replace(NAME, &PostParams::default(), &self.lease).await {
            Ok(lease) => self.lease = lease,
            Err(kube::Error::Api(status)) if status.code == 409 || status.code == 404 => {
                let now = self.api.get_opt(NAME).await?;
                let holder = now.as_ref().and_then(|l| l.spec.as_ref()?.holder_identity.clone());
                match (now, holder) {
                    // Someone edited the lease, and left its holder.
                    (Some(lease), Some(holder)) if holder == self.identity => self.lease = lease,
                    (_, holder) => {
                        return Err(Error::LeaseLost(format!(
                            "it is {}'s",
                            holder.unwrap_or("nobody".into())
                        )));
                    }
                }
            }
            Err(e) => return Err(e.into()),
        }
        Ok(())
    }

    /// Lets it go, so that the next operator need not wait.
    pub async fn release(mut self) {
        if let Some(spec) = &mut self.lease.spec {
            spec.holder_identity = None;
        }
        if let Err(e) = self.api.replace(NAME, &PostParams::default(), &self.lease).await {
            warn!("letting the lease go: {e}");
        }
    }
}
