//! `cocoon trustee serve`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cocoon_config::{Seal, ServerIdentity, StateKind};
use cocoon_stage::{Code, Failure};
use cocoon_trustee::{Config, ReloadableTls, Tls, Trustee};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::backends::Tokens;
use super::listeners::Listeners;
use super::reload::Reloader;
use super::settings::Source;
use super::{identity, live, state};
use crate::args::ServeArgs;
use crate::logging;

/// How often the settings file is looked at.
const LOOK: Duration = Duration::from_secs(2);

pub async fn main(args: ServeArgs) -> Result<(), Failure> {
    let source = Source::of_serve(&args)?;
    let loaded = source.load()?;
    loaded.tell_notes();
    let settings = loaded.settings;
    logging::set(settings.log.level);
    let folder = state::folder(&settings)?;
    let tokens = Arc::new(Tokens::default());
    let store = state::store(&settings, &folder, true)?;
    let sealer = Arc::new(state::sealer(&settings, &folder, &store, &tokens)?);
    if matches!((&settings.state.kind, &settings.seal), (StateKind::Postgres { .. }, Seal::File(None))) {
        eprintln!("cocoon: note: every Trustee on this database needs the same seal.key in its folder");
    }
    let mut config = Config::new(store, sealer);
    config.journal = state::journal(&settings, &folder);
    config.live = live::live(&settings, &folder, &tokens).await?;
    live::warn(&settings);
    // All that can fail is done before the first guest is answered.
    let identity = identity::tls(&settings, &folder)?;
    let tls = identity.as_ref().map(ReloadableTls::new).transpose()?;
    let listeners = Listeners::bind(&settings).await?;
    let trustee = blocking(move || Trustee::new(config)).await?;
    trustee.set_peer_limits(live::peer_limits(&settings));
    trustee.set_telemetry(live::telemetry(&settings).as_ref())?;
    let mut signals = Signals::new()?;
    let certificate = match (&identity, &settings.server.identity) {
        (None, _) => None,
        (Some(_), ServerIdentity::Files { certificate, .. }) => {
            if let Some(identity) = &identity {
                publish(&folder, identity)?;
            }
            Some(certificate.clone())
        }
        (Some(identity), _) => Some(publish(&folder, identity)?),
    };
    listeners.tell(certificate.as_deref())?;
    let (stop, stopped) = watch::channel(false);
    let mut jobs = listeners.serve(&trustee, &settings, identity.as_ref(), tls.as_ref(), &stopped)?;
    let reloader =
        Reloader { source, started: settings.clone(), applied: settings, folder, tokens, trustee, tls };
    let ended = until_told(reloader, &mut signals, &mut jobs).await;
    let _ = stop.send(true);
    let mut outcome = ended;
    while let Some(job) = jobs.join_next().await {
        outcome = outcome.and(finished(job));
    }
    outcome
}

/// Serves and reloads until a signal says stop, or a listener ends by itself.
async fn until_told(
    mut reloader: Reloader,
    signals: &mut Signals,
    jobs: &mut JoinSet<Result<(), Failure>>,
) -> Result<(), Failure> {
    let mut seen = reloader.stamp();
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            told = signals.next() => match told {
                Told::Stop => return Ok(()),
                Told::Reload => {
                    seen = reloader.stamp();
                    tokio::select! {
                        () = reloader.reload() => {}
                        // Keys at a URL may take their time; whoever wants the end does not wait for them.
                        () = signals.stop() => return Ok(()),
                    }
                }
            },
            _ = look.tick() => {
                let now = reloader.stamp();
                // A file that is being replaced may be away for a moment.
                if now != seen && now.there() {
                    seen = now;
                    tokio::select! {
                        () = reloader.reload() => {}
                        () = signals.stop() => return Ok(()),
                    }
                }
            }
            Some(job) = jobs.join_next() => return finished(job),
        }
    }
}

fn finished(job: Result<Result<(), Failure>, tokio::task::JoinError>) -> Result<(), Failure> {
    job.map_err(|e| Failure::new(Code::Internal, format!("a listener ended early: {e}")))?
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, cocoon_trustee::Error> + Send + 'static,
) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(work).await;
    Ok(done.map_err(|e| Failure::new(Code::Internal, e.to_string()))??)
}

/// Puts the certificate where clients find it to pin; gives the file.
pub fn publish(folder: &Path, identity: &Tls) -> Result<PathBuf, Failure> {
    let file = folder.join("tls-certificate.pem");
    let failed = |e: std::io::Error| Failure::new(Code::RegisterFailed, format!("{}: {e}", file.display()));
    let new = folder.join(format!("tls-certificate.pem.new-{}", std::process::id()));
    std::fs::write(&new, &identity.cert_chain_pem)
        .and_then(|()| std::fs::rename(&new, &file))
        .map_err(failed)?;
    Ok(file)
}

enum Told {
    Stop,
    Reload,
}

struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> Result<Self, Failure> {
        let listen = |kind| signal(kind).map_err(|e| Failure::new(Code::Internal, format!("signals: {e}")));
        Ok(Signals {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }

    /// The next that says stop. Cancel-safe.
    async fn stop(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }

    /// The next one. Cancel-safe.
    async fn next(&mut self) -> Told {
        tokio::select! {
            _ = self.interrupt.recv() => Told::Stop,
            _ = self.terminate.recv() => Told::Stop,
            _ = self.hangup.recv() => Told::Reload,
        }
    }
}
