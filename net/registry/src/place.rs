//! Where an image is asked for: its mirrors in order, then its own registry.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use cocoon_image::Reference;
use cocoon_image::registries::Registries;
use tokio::time::{Duration, Instant};

use crate::{Client, Error};

/// How long a mirror that did not answer is passed over.
const REST: Duration = Duration::from_secs(60);
/// Tries at a mirror, where the client's own number is not smaller: there is still somebody else to ask.
const MIRROR_TRIES: u32 = 2;
/// Names kept in [`Standings`]; mirrors are few, repositories may be many.
const MAX_STANDINGS: usize = 4096;

/// A registry to speak to, about one image.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// The image as that registry knows it.
    pub(crate) reference: Reference,
    /// Whether it is spoken to in plain HTTP.
    pub(crate) plain: bool,
}

/// What is held against mirrors: content that was not what it was named, for good (by `registry/repository`); not
/// answering, for a while (by registry).
#[derive(Debug, Default)]
pub(crate) struct Standings {
    until: HashMap<String, Option<Instant>>,
}

impl Standings {
    fn is_out(&self, reference: &Reference) -> bool {
        let is_out = |key: &str| match self.until.get(key) {
            Some(Some(until)) => Instant::now() < *until,
            Some(None) => true,
            None => false,
        };
        is_out(&reference.name()) || is_out(&reference.registry)
    }

    fn note(&mut self, key: String, until: Option<Instant>) {
        if self.until.len() < MAX_STANDINGS || self.until.contains_key(&key) {
            self.until.insert(key, until);
        }
    }
}

impl Client {
    /// Asks mirrors and other locations, and refuses blocked names, as a registries.conf says. Everything that is read
    /// (manifests, tags, referrers, blobs) is asked of the places in order; a mirror that cannot be reached, has not
    /// got it or gives something else is passed over. What is named by digest is checked whoever gives it, so a mirror
    /// can only deny; a *tag* means what the mirror says, as with every reader of this file. Pushes go to the name
    /// itself.
    ///
    /// A mirror's credentials are those for the mirror's name. One that did not answer rests for a minute; one that gave
    /// wrong content is not asked about that repository again.
    #[must_use]
    pub fn with_registries(mut self, registries: Registries) -> Self {
        self.registries = Some(Arc::new(registries));
        self
    }

    /// The places to read an image from, those with nothing held against them; the last is the image's own.
    pub(crate) fn tour(&self, reference: &Reference) -> Result<Tour, Error> {
        let mut places = Vec::new();
        match &self.registries {
            None => places.push(self.place(reference.clone(), false)),
            Some(registries) => {
                let sources = registries.sources(reference)?;
                places.extend(sources.into_iter().map(|s| self.place(s.reference, s.plain_http)));
            }
        }
        let own = places.pop();
        {
            let standings = self.standings.lock().unwrap_or_else(PoisonError::into_inner);
            places.retain(|p| !standings.is_out(&p.reference));
        }
        places.extend(own);
        Ok(Tour { client: self.clone(), places: places.into_iter(), current: None, failures: Vec::new() })
    }

    /// Where an image is pushed to: its name, mirrors and other locations notwithstanding.
    pub(crate) fn home(&self, reference: &Reference) -> Place {
        let listed = self.registries.as_ref().and_then(|r| r.sources(reference).ok()?.pop());
        let plain = listed.is_some_and(|s| s.plain_http && s.reference.registry == reference.registry);
        self.place(reference.clone(), plain)
    }

    fn place(&self, reference: Reference, plain: bool) -> Place {
        let plain = plain || reference.is_loopback() || self.plain.contains(&reference.registry);
        Place { reference, plain }
    }

    /// Remembers that a mirror gave wrong content.
    pub(crate) fn blame(&self, mirror: &Reference) {
        tracing::debug!(mirror = mirror.name(), "wrong content; the mirror is not asked again");
        self.standings.lock().unwrap_or_else(PoisonError::into_inner).note(mirror.name(), None);
    }
}

/// One question's way from place to place.
pub(crate) struct Tour {
    client: Client,
    places: std::vec::IntoIter<Place>,
    current: Option<Reference>,
    failures: Vec<String>,
}

impl Tour {
    /// The next place and the client to ask it with.
    pub(crate) fn next(&mut self) -> Option<(Client, Place)> {
        let place = self.places.next()?;
        self.current = Some(place.reference.clone());
        let mut client = self.client.clone();
        if !self.is_last() {
            client.retry.attempts = client.retry.attempts.min(MIRROR_TRIES);
        }
        Some((client, place))
    }

    /// The number of places not yet asked.
    pub(crate) fn places(&self) -> usize {
        self.places.len()
    }

    /// Whether nobody is left to ask after the present place.
    pub(crate) fn is_last(&self) -> bool {
        self.places.len() == 0
    }

    /// The present place failed. The error comes back, with those of the places before, where it was the last.
    pub(crate) fn failed(&mut self, e: Error) -> Result<(), Error> {
        if self.is_last() {
            return Err(e.after(&self.failures));
        }
        let Some(mirror) = &self.current else { return Err(e) };
        tracing::debug!(mirror = mirror.name(), problem = %e, "a mirror is passed over");
        match &e {
            Error::Image(_) => self.client.blame(mirror),
            Error::Unreachable { .. } | Error::Stalled { .. } => {
                let mut standings = self.client.standings.lock().unwrap_or_else(PoisonError::into_inner);
                standings.note(mirror.registry.clone(), Some(Instant::now() + REST));
            }
            _ => {}
        }
        let shown: String = e.to_string().chars().take(200).collect();
        self.failures.push(shown);
        Ok(())
    }
}

pub(crate) type Shared = Arc<Mutex<Standings>>;
