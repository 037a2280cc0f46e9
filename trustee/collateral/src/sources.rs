//! Who is asked for what, in which order and how often.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use cocoon_evidence::collateral::{Need, Vendor};

use crate::pace::Turns;
use crate::{
    AmdKds, Endpoint, Error, HygonService, IntelFile, IntelPcs, NvidiaRims, OfflineStore, Pace, Provider,
    Times, Update,
};

/// A provider and its pace.
#[derive(Clone)]
pub struct Source {
    pub(crate) provider: Arc<dyn Provider>,
    /// For names that evidence chooses.
    turns: Option<Arc<Turns>>,
    /// For the handful of other documents, and for those already known: a flood of strange names must not keep a
    /// revocation list from being renewed.
    own_turns: Option<Arc<Turns>>,
}

impl Source {
    /// A source on this machine, asked whenever needed.
    pub fn local(provider: Arc<dyn Provider>) -> Self {
        Source { provider, turns: None, own_turns: None }
    }

    /// A source elsewhere, asked at this pace: once for names that evidence chooses, once for all else.
    pub fn remote(provider: Arc<dyn Provider>, pace: Pace) -> Self {
        let turns = || Some(Arc::new(Turns::new(pace)));
        Source { provider, turns: turns(), own_turns: turns() }
    }

    /// The turns that a need waits for.
    pub(crate) fn turns(&self, need: &Need, known: bool) -> Option<&Turns> {
        if need.is_named_by_evidence() && !known { self.turns.as_deref() } else { self.own_turns.as_deref() }
    }

    /// The source asked for patience: nobody gets a turn for so long.
    pub(crate) fn pause(&self, now: u64, millis: u64) {
        for turns in [&self.turns, &self.own_turns].into_iter().flatten() {
            turns.pause(now, millis);
        }
    }
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source").field("name", &self.provider.name()).finish_non_exhaustive()
    }
}

/// Vendors' services, or mirrors of them.
#[derive(Clone, Debug)]
pub struct Online {
    /// AMD's.
    pub amd: Endpoint,
    /// Intel's, or a PCCS.
    pub intel: Endpoint,
    /// Which view of a TCB Intel is asked for.
    pub update: Update,
    /// NVIDIA's.
    pub nvidia: Endpoint,
    /// Hygon's.
    pub hygon: Endpoint,
    /// How long requests may take.
    pub times: Times,
}

impl Default for Online {
    /// The vendors' own.
    fn default() -> Self {
        Online {
            amd: Endpoint::new(AmdKds::URL),
            intel: Endpoint::new(IntelPcs::URL),
            update: Update::default(),
            nvidia: Endpoint::new(NvidiaRims::URL),
            hygon: Endpoint::new(HygonService::URL),
            times: Times::default(),
        }
    }
}

/// The sources of each vendor, asked in order.
#[derive(Clone, Debug, Default)]
pub struct Sources(BTreeMap<Vendor, Vec<Source>>);

impl Sources {
    /// None: only what is in the folder is served.
    pub fn none() -> Self {
        Sources::default()
    }

    /// Vendors' services at their paces.
    ///
    /// # Errors
    /// [`Error::Settings`] for an endpoint that cannot be used.
    pub fn online(online: &Online) -> Result<Self, Error> {
        let Online { amd, intel, update, nvidia, hygon, times } = online;
        // A mirror has no such pace as AMD's own.
        let amd_pace = if amd.url.trim_end_matches('/') == AmdKds::URL { Pace::AMD } else { Pace::MODEST };
        let amd = Arc::new(AmdKds::new(amd, *times)?);
        let intel = Arc::new(IntelPcs::new(intel, *update, *times)?);
        let nvidia = Arc::new(NvidiaRims::new(nvidia, *times)?);
        let hygon = Arc::new(HygonService::new(hygon, *times)?);
        Ok(Sources::none()
            .with(Vendor::Amd, Source::remote(amd, amd_pace))
            .with(Vendor::Intel, Source::remote(intel, Pace::MODEST))
            .with(Vendor::Nvidia, Source::remote(nvidia, Pace::MODEST))
            .with(Vendor::Hygon, Source::remote(hygon, Pace::MODEST)))
    }

    /// A folder that other tools filled: CoCo's `vcek/…`, Hygon's `hsk_cek/…`, Intel's `platform_collaterals.json`.
    pub fn offline(folder: &Path, update: Update) -> Self {
        let store: Arc<dyn Provider> = Arc::new(OfflineStore::new(folder));
        let file = IntelFile::new(&folder.join("platform_collaterals.json"), update);
        Sources::none()
            .with(Vendor::Amd, Source::local(store.clone()))
            .with(Vendor::Hygon, Source::local(store))
            .with(Vendor::Intel, Source::local(Arc::new(file)))
    }

    /// Adds a source, asked after those already there.
    #[must_use]
    pub fn with(mut self, vendor: Vendor, source: Source) -> Self {
        self.0.entry(vendor).or_default().push(source);
        self
    }

    /// Those that may have a need's document.
    pub(crate) fn of(&self, need: &Need) -> &[Source] {
        self.0.get(&need.vendor()).map_or(&[], Vec::as_slice)
    }
}
