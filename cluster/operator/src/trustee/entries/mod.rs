//! The controllers of what a Trustee knows: reference values, release rules, secrets.
//!
//! Each pass compares what a resource says with what Trustee has and sends what differs. A pass is made when the resource, its
//! Trustee or its Secret changes, and, since nobody tells when someone changes Trustee itself, about every ten minutes.

mod reference_values;
mod rule;
mod secret;

use std::fmt::Debug;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use cocoon_cluster_api::{ConditionKind, ENTRY_FINALIZER, EntryStatus, Trustee, condition, set_condition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::controller::Action;
use kube::runtime::events::{Event, EventType};
use kube::runtime::reflector::ObjectRef;
use kube::{Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use tracing::{info, warn};

use super::admin::Admin;
use super::{Shared, key, own, write_status};
use crate::Error;
use crate::health::Of;

/// Seconds between two looks at a Trustee of which nothing was heard, at least and at most.
const LOOK: (u64, u64) = (480, 720);
/// Seconds for which the deletion of a resource waits for a Trustee that does not answer.
const PATIENCE: i64 = 600;

/// A resource about the content of a Trustee.
pub trait Entry:
    Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
    + Clone
    + Debug
    + DeserializeOwned
    + Serialize
    + Send
    + Sync
    + 'static
{
    /// The Trustee's name.
    fn trustee(&self) -> &str;
    /// How far it is.
    fn status(&self) -> Option<&EntryStatus>;
    /// Makes Trustee have what it says.
    fn install(&self, admin: &Admin, shared: &Shared) -> impl Future<Output = Result<Done, Error>> + Send;
    /// Takes it out of Trustee.
    fn remove(&self, admin: &Admin) -> impl Future<Output = Result<(), Error>> + Send;
}

/// What a pass came to.
pub enum Done {
    /// Trustee has it.
    Installed {
        /// What, as `cocoon` shows it.
        what: Vec<String>,
        /// How much of it Trustee did not have, or had otherwise.
        differed: usize,
        /// For people.
        message: String,
    },
    /// It cannot be installed as things are; what changes that is watched.
    Waits {
        /// A condition's reason.
        reason: &'static str,
        /// What is missing.
        message: String,
    },
}

/// One pass over one resource.
///
/// # Errors
/// Of the API server or of Trustee; it is tried again later.
pub async fn reconcile<K: Entry>(entry: Arc<K>, shared: Arc<Shared>) -> Result<Action, Error> {
    let of = Of { controller: "trustee-entry" };
    shared.metrics.reconciled.get_or_create(&of).inc();
    let result = match entry.meta().deletion_timestamp {
        Some(_) => depart(&shared, &*entry).await,
        None => pass(&shared, &*entry).await,
    };
    match &result {
        Ok(_) => shared.failures.succeeded(&key(&*entry)),
        Err(_) => {
            shared.metrics.failed.get_or_create(&of).inc();
        }
    }
    shared.forget_secrets();
    result
}

/// The Trustee, if there is one that is not about to go.
fn trustee<K: Entry>(shared: &Shared, entry: &K) -> Option<Arc<Trustee>> {
    let at = ObjectRef::new(entry.trustee()).within(&entry.namespace().unwrap_or_default());
    let found = shared.trustees.iter().find_map(|store| store.get(&at))?;
    found.metadata.deletion_timestamp.is_none().then_some(found)
}

/// Whether one of its replicas answers.
fn answers(trustee: &Trustee) -> bool {
    trustee.status.as_ref().is_some_and(|status| status.ready_replicas > 0)
}

async fn pass<K: Entry>(shared: &Shared, entry: &K) -> Result<Action, Error> {
    let Some(trustee) = trustee(shared, entry) else {
        let message = format!("there is no Trustee {} in this namespace", entry.trustee());
        say(shared, entry, "TrusteeMissing", message).await?;
        return Ok(Action::await_change());
    };
    if !answers(&trustee) {
        let message =
            format!("Trustee {} does not answer yet; kubectl describe trustee {0}", entry.trustee());
        say(shared, entry, "TrusteeNotReady", message).await?;
        return Ok(Action::await_change());
    }
    hold(shared, entry, true).await?;
    let done = async { entry.install(&Admin::of(&trustee, &shared.secrets).await?, shared).await }.await;
    match done {
        Ok(Done::Installed { what, differed, message }) => {
            installed(shared, entry, what, differed, message).await?;
            Ok(Action::requeue(look()))
        }
        Ok(Done::Waits { reason, message }) => {
            say(shared, entry, reason, message).await?;
            Ok(Action::await_change())
        }
        Err(Error::Refused(words)) => {
            say(shared, entry, "Refused", words.clone()).await?;
            Err(Error::Refused(words))
        }
        Err(e @ Error::Trustee(_)) => {
            say(shared, entry, "TrusteeUnreachable", e.to_string()).await?;
            Err(e)
        }
        Err(e) => Err(e),
    }
}

/// Ten minutes, more or less, so that many resources do not ask at once.
fn look() -> Duration {
    let chance = own::random().map_or(0, |bytes| u64::from(bytes.first().copied().unwrap_or_default()));
    Duration::from_secs(LOOK.0 + chance * (LOOK.1 - LOOK.0) / 255)
}

/// It is deleted: Trustee is cleaned of it, or, if that cannot be, it goes nevertheless.
async fn depart<K: Entry>(shared: &Shared, entry: &K) -> Result<Action, Error> {
    if !entry.finalizers().iter().any(|f| f == ENTRY_FINALIZER) {
        return Ok(Action::await_change());
    }
    let cleaned = match trustee(shared, entry) {
        // What it kept goes, or is kept, with its volume or database.
        None => Ok(()),
        Some(trustee) if answers(&trustee) => {
            async { entry.remove(&Admin::of(&trustee, &shared.secrets).await?).await }.await
        }
        Some(_) => Err(Error::Trustee("it does not answer".into())),
    };
    if let Err(e) = cleaned {
        let since = entry.meta().deletion_timestamp.as_ref().map_or(0, |t| t.0.as_second());
        let waited = Timestamp::now().as_second().saturating_sub(since);
        if waited < PATIENCE {
            let left = PATIENCE.saturating_sub(waited);
            let message = format!("not taken out of Trustee yet, which is waited for {left} s longer: {e}");
            say(shared, entry, "NotRemoved", message).await?;
            return Err(e);
        }
        let note = format!("Trustee could not be asked for {PATIENCE} s and may still have this: {e}");
        event(shared, entry, true, "LeftBehind", note).await;
    }
    hold(shared, entry, false).await?;
    info!(object = key(entry), "taken out of Trustee");
    Ok(Action::await_change())
}

/// Adds the finalizer, or takes it away.
async fn hold<K: Entry>(shared: &Shared, entry: &K, held: bool) -> Result<(), Error> {
    let mut finalizers = entry.finalizers().to_vec();
    if finalizers.iter().any(|f| f == ENTRY_FINALIZER) == held {
        return Ok(());
    }
    match held {
        true => finalizers.push(ENTRY_FINALIZER.into()),
        false => finalizers.retain(|f| f != ENTRY_FINALIZER),
    }
    let api: Api<K> = Api::namespaced(shared.client.clone(), &entry.namespace().unwrap_or_default());
    // The list is replaced, so it must be the one that was read.
    let patch = json!({"metadata": {"finalizers": finalizers, "resourceVersion": entry.resource_version()}});
    match api.patch(&entry.name_any(), &PatchParams::default(), &Patch::Merge(&patch)).await {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        other => Ok(other.map(drop)?),
    }
}

async fn installed<K: Entry>(
    shared: &Shared,
    entry: &K,
    what: Vec<String>,
    differed: usize,
    message: String,
) -> Result<(), Error> {
    let mut status = entry.status().cloned().unwrap_or_default();
    let settled = status.conditions.iter().any(|c| {
        c.type_ == "Ready" && c.status == "True" && c.observed_generation == entry.meta().generation
    });
    if settled && differed > 0 {
        status.corrected = status.corrected.saturating_add(1);
        let note = format!(
            "Trustee had {differed} of {} otherwise or not at all; put right",
            what.len().max(differed)
        );
        event(shared, entry, true, "Corrected", note).await;
    } else if !settled {
        event(shared, entry, false, "Installed", message.clone()).await;
    }
    status.installed = what;
    write(shared, entry, status, true, "Installed", message).await
}

/// Says why it is not installed.
async fn say<K: Entry>(shared: &Shared, entry: &K, reason: &str, message: String) -> Result<(), Error> {
    let status = entry.status().cloned().unwrap_or_default();
    let known = status.conditions.iter().any(|c| c.type_ == "Ready" && c.reason == reason);
    if !known {
        event(shared, entry, true, reason, message.clone()).await;
    }
    write(shared, entry, status, false, reason, message).await
}

async fn write<K: Entry>(
    shared: &Shared,
    entry: &K,
    mut status: EntryStatus,
    ready: bool,
    reason: &str,
    message: String,
) -> Result<(), Error> {
    let generation = entry.meta().generation;
    status.observed_generation = generation;
    let now = Time(Timestamp::now());
    set_condition(
        &mut status.conditions,
        condition(ConditionKind::Ready, ready, reason, message, generation, now),
    );
    if entry.status() == Some(&status) {
        return Ok(());
    }
    write_status(shared, entry, &status).await
}

/// Publishes an Event. That it could not be published changes nothing.
async fn event<K: Entry>(shared: &Shared, entry: &K, bad: bool, reason: &str, note: String) {
    let event = Event {
        type_: if bad { EventType::Warning } else { EventType::Normal },
        reason: reason.into(),
        note: Some(note.chars().take(300).collect()),
        action: "Reconcile".into(),
        secondary: None,
    };
    if let Err(e) = shared.recorder.publish(&event, &entry.object_ref(&())).await {
        warn!(reason, "an Event could not be published: {e}");
    }
}

/// Seconds since 1970 of a time as resources write it.
///
/// # Errors
/// [`Error::Refused`] where it is none, such as the 31st of February.
fn unix(expires: Option<&str>) -> Result<Option<u64>, Error> {
    let read = |text: &str| {
        let time = text.parse::<Timestamp>().map_err(|_| Error::Refused(format!("{text} is no time")))?;
        Ok(u64::try_from(time.as_second()).unwrap_or(0))
    };
    expires.map(read).transpose()
}
