//! Settings that change while Trustee serves: on SIGHUP, and when the settings file changes. No session is dropped.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;

use cocoon_config::{Settings, changed};
use cocoon_stage::{Code, Failure};
use cocoon_trustee::{ReloadableTls, Trustee};

use super::backends::Tokens;
use super::settings::Source;
use super::{identity, live};
use crate::logging;

/// Keys that are read once: by a listener when it begins.
const READ_ONCE: &[&str] = &[
    "attestation_api.",
    "server.limits.connections",
    "server.limits.body_bytes",
    "server.limits.header_bytes",
    "server.limits.header_seconds",
    "server.limits.request_seconds",
    "server.limits.idle_seconds",
    "server.limits.drain_seconds",
    "metrics.enabled",
];

/// What a reload changes.
pub struct Reloader {
    /// Where settings come from.
    pub source: Source,
    /// The settings with which it was started.
    pub started: Settings,
    /// The settings of the last reload.
    pub applied: Settings,
    /// Trustee's folder.
    pub folder: PathBuf,
    /// The tokens in use.
    pub tokens: Arc<Tokens>,
    /// The Trustee.
    pub trustee: Trustee,
    /// Its identity towards clients.
    pub tls: Option<ReloadableTls>,
}

/// What a file is, to notice that it is another.
#[derive(PartialEq, Eq)]
pub struct Stamp(Option<(u64, i64, i64, u64)>);

impl Stamp {
    /// Whether there is a file.
    pub fn there(&self) -> bool {
        self.0.is_some()
    }
}

impl Reloader {
    /// The settings file's present state.
    pub fn stamp(&self) -> Stamp {
        let meta = self.source.file().and_then(|file| std::fs::metadata(file).ok());
        Stamp(meta.map(|m| (m.ino(), m.mtime(), m.mtime_nsec(), m.len())))
    }

    /// Reads everything anew and takes it over; tells what happened on standard error. What cannot be used leaves all
    /// as it was.
    pub async fn reload(&mut self) {
        match self.take_over().await {
            Ok(()) => {}
            Err(failure) => {
                eprintln!(
                    "cocoon: the settings were NOT reloaded, the old ones stay in force: {}: {}",
                    failure.code,
                    failure.reason.replace('\n', "\n  ")
                );
            }
        }
    }

    async fn take_over(&mut self) -> Result<(), Failure> {
        let loaded = self.source.load()?;
        let new = loaded.settings;
        let (waiting, taken) = split(&self.started, &self.applied, &new);
        // Everything is made before anything is changed.
        let tls = match &self.tls {
            Some(running) => {
                // Whether there is TLS at all only a restart changes; what cannot be had keeps the old identity.
                let identity = identity::tls(&new, &self.folder)?;
                if let Some(identity) = &identity {
                    ReloadableTls::new(identity)?;
                }
                Some((running, identity))
            }
            None => None,
        };
        let live = live::live(&new, &self.folder, &self.tokens).await?;
        let trustee = self.trustee.clone();
        let reloaded = tokio::task::spawn_blocking(move || trustee.reload(live)).await;
        reloaded.map_err(|e| Failure::new(Code::Internal, e.to_string()))??;
        if let Some((running, Some(identity))) = &tls {
            running.replace(identity)?;
            super::serve::publish(&self.folder, identity)?;
        }
        self.trustee.set_peer_limits(live::peer_limits(&new));
        if new.telemetry != self.applied.telemetry {
            self.trustee.set_telemetry(live::telemetry(&new).as_ref())?;
        }
        logging::set(new.log.level);
        live::warn(&new);
        self.applied = new;
        if !waiting.is_empty() {
            eprintln!("cocoon: these settings wait for a restart: {}", waiting.join(", "));
        }
        match taken.as_slice() {
            [] => eprintln!("cocoon: settings reloaded; certificates and keys were read anew"),
            taken => eprintln!("cocoon: settings reloaded: {}", taken.join(", ")),
        }
        Ok(())
    }
}

/// The changed keys that wait for a restart, compared with the start, and those that are taken over now, compared with
/// the last reload.
fn split(started: &Settings, applied: &Settings, new: &Settings) -> (Vec<String>, Vec<String>) {
    let once = |key: &String| {
        READ_ONCE.iter().any(|known| key == known || (known.ends_with('.') && key.starts_with(known)))
    };
    let since_start = changed(started, new);
    let mut waiting = since_start.needs_restart;
    waiting.extend(since_start.reloadable.into_iter().filter(once));
    waiting.sort();
    let taken = changed(applied, new).reloadable.into_iter().filter(|key| !once(key)).collect();
    (waiting, taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_for_a_restart_is_told_until_it_comes() {
        let parse = |text: &str| cocoon_config::parse(text).unwrap();
        let start = parse("");
        let first = parse(
            "[server]\nlisten = [\"127.0.0.1:1\"]\n[server.limits]\nbody_bytes = 70000\nconnections_per_peer = 5\n",
        );
        let (waiting, taken) = split(&start, &start, &first);
        assert_eq!(waiting, ["server.limits.body_bytes", "server.listen"]);
        assert_eq!(taken, ["server.limits.connections_per_peer"]);
        let (waiting, taken) = split(&start, &first, &first);
        assert_eq!((waiting.len(), taken.len()), (2, 0), "still waiting, nothing new");
        let (waiting, taken) = split(&start, &first, &start);
        assert_eq!((waiting.len(), taken.len()), (0, 1));
    }
}
