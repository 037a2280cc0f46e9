//! The process's loop.

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::Duration;

use cocoon_cluster_api::{CocoonNode, Phase, WantedState};
use futures::{Stream, StreamExt};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use tokio::time::Instant;
use tracing::{info, warn};

use crate::drift::Watched;
use crate::protocol::{Action, Outcome, Reply, Request, State};
use crate::report::{Reporter, said};
use crate::source;
use crate::worker::Worker;

/// Changes of files that follow each other within this time are looked at together.
const CALM: Duration = Duration::from_millis(500);
/// The first pause before something is tried again, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(300));

/// After a pod's socket is gone its processes may take a moment: it is looked so often, after 1, 2, 4 … seconds.
const LOOKS: u32 = 6;

/// How the process runs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The node's name.
    pub node: String,
    /// This process's revision.
    pub revision: String,
    /// The node's file system.
    pub root: PathBuf,
    /// Shim and guest image.
    pub payload: PathBuf,
    /// The child's program and arguments.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
}

/// Why the process ends.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No cluster is known.
    #[error("the API server: {0}")]
    Api(#[from] kube::Error),
    /// A file cannot be watched.
    #[error("inotify: {0}")]
    Watch(#[from] io::Error),
    /// The watch of the resource ended for good.
    #[error("the watch of the node's resource ended")]
    Ended,
}

type Events = Pin<Box<dyn Stream<Item = Result<watcher::Event<CocoonNode>, watcher::Error>> + Send>>;

struct Process {
    settings: Settings,
    worker: Worker,
    reporter: Reporter,
    events: Events,
    node: Option<CocoonNode>,
    watched: Option<Watched>,
    /// Sockets of running pods, while some of them may use an older version.
    pods: Option<Watched>,
    /// How often it is still looked whether what pods that have ended used is free.
    looks: u32,
    state: State,
    healed: u32,
    /// What is to be done next, and when.
    due: Option<(Cause, Instant)>,
    failures: u32,
}

/// Why something is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    /// The resource asks for something else, or this process has just begun.
    Wish,
    /// A file was changed.
    Drift,
    /// It failed before.
    Again,
    /// A pod has ended, and an older version may be free to go.
    Ended,
}

/// Serves until `stop`. A change that is under way is put back then.
///
/// # Errors
/// [`Error`]: the process is to be started anew.
pub async fn serve(settings: Settings, stop: impl Future<Output = ()>) -> Result<(), Error> {
    let client = Client::try_default().await?;
    let config = watcher::Config::default().fields(&format!("metadata.name={}", settings.node));
    let events = watcher(Api::<CocoonNode>::all(client.clone()), config).default_backoff().boxed();
    let mut process = Process {
        worker: Worker { program: settings.program.clone(), arguments: settings.arguments.clone() },
        reporter: Reporter::new(client, &settings.revision),
        settings,
        events,
        node: None,
        watched: None,
        pods: None,
        looks: 0,
        state: State::default(),
        healed: 0,
        due: None,
        failures: 0,
    };
    info!(node = process.settings.node, revision = process.settings.revision, "the node's process works");
    tokio::pin!(stop);
    loop {
        let due = process.due.map(|(_, at)| at);
        tokio::select! {
            () = &mut stop => return Ok(()),
            event = process.events.next() => process.hear(event)?,
            changed = changed(&mut process.watched) => {
                changed?;
                process.due(Cause::Drift, CALM);
            }
            changed = changed(&mut process.pods) => {
                changed?;
                process.looks = LOOKS;
                process.due(Cause::Ended, CALM);
            }
            () = at(due) => {
                let Some((cause, _)) = process.due.take() else { continue };
                if process.act(cause, stop.as_mut()).await? {
                    return Ok(());
                }
            }
        }
    }
}

async fn changed(watched: &mut Option<Watched>) -> io::Result<()> {
    match watched {
        Some(watched) => watched.changed().await,
        None => std::future::pending().await,
    }
}

async fn at(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

impl Process {
    /// Something is to be done after `pause`, unless something is to be done earlier. A wish is a wish, whatever else is due.
    fn due(&mut self, cause: Cause, pause: Duration) {
        let at = Instant::now() + pause;
        self.due = match self.due {
            Some((old, time)) if time <= at => Some((if cause == Cause::Wish { cause } else { old }, time)),
            _ => Some((cause, at)),
        };
    }

    fn hear(
        &mut self,
        event: Option<Result<watcher::Event<CocoonNode>, watcher::Error>>,
    ) -> Result<(), Error> {
        match event.ok_or(Error::Ended)? {
            Ok(watcher::Event::Apply(node) | watcher::Event::InitApply(node)) => {
                let asked = |n: &CocoonNode| (n.metadata.uid.clone(), n.metadata.generation);
                let new = self.node.as_ref().map(asked) != Some(asked(&node));
                if self.node.is_none() {
                    self.healed = node.status.as_ref().map_or(0, |s| s.healed);
                }
                self.node = Some(node);
                if new {
                    self.failures = 0;
                    self.due(Cause::Wish, Duration::ZERO);
                }
            }
            // Without a wish nothing is done: what is installed stays.
            Ok(watcher::Event::Delete(_)) => self.node = None,
            Ok(watcher::Event::Init | watcher::Event::InitDone) => {}
            Err(e) => warn!("watching the node's resource: {e}"),
        }
        Ok(())
    }

    /// Does what is wished. Whether the process was asked to stop meanwhile.
    async fn act(
        &mut self,
        cause: Cause,
        mut stop: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<bool, Error> {
        let Some(node) = self.node.clone() else { return Ok(false) };
        if node.spec.revision != self.settings.revision {
            // Another process is, or will be, the one that sees to this node.
            (self.watched, self.pods) = (None, None);
            return Ok(false);
        }
        let wanted = node.spec.state;
        let action = match wanted {
            WantedState::Installed => Action::Install,
            WantedState::Absent => Action::Uninstall { force: node.spec.force },
        };
        let status = node.status.clone().unwrap_or_default();
        let settled =
            status.observed_generation == node.metadata.generation && status.revision == node.spec.revision;
        // A person who looks why it is not done wants to see why, not that it is tried again.
        if !settled && self.failures == 0 {
            let state = self.look(&node).await.unwrap_or_default();
            self.say(&node, Phase::Installing, None, "being changed", &state).await;
        }
        let (result, stopped) = self.pull_and_run(&node, action, stop.as_mut()).await;
        let reply = result.unwrap_or_else(|reason| Reply {
            outcome: Outcome::Failed { code: "INTERNAL".into(), reason },
            state: self.state.clone(),
        });
        let (phase, code, message) = said(wanted, &reply);
        let mut look_again = false;
        if let Outcome::Done { changed, .. } = &reply.outcome {
            for line in changed {
                info!("{line}");
            }
            // What is watched now was not, or not all of it, while it was written.
            look_again = !changed.is_empty() && wanted == WantedState::Installed;
            if cause == Cause::Drift && wanted == WantedState::Installed && !changed.is_empty() {
                self.healed = self.healed.saturating_add(1);
                warn!("files that someone had changed were put right");
            }
        }
        self.state = reply.state.clone();
        if stopped {
            return Ok(true);
        }
        if phase == Phase::Removed {
            source::forget(&node.spec.settings, &self.settings.root);
        }
        look_again |= self.watch(wanted)?;
        if cause == Cause::Ended && self.pods.is_some() && self.looks > 0 {
            let pause = Duration::from_secs(1_u64.checked_shl(LOOKS.saturating_sub(self.looks)).unwrap_or(1));
            self.looks = self.looks.saturating_sub(1);
            self.due(Cause::Ended, pause);
        }
        if look_again {
            self.due(Cause::Drift, CALM);
        }
        self.after(phase, &message);
        self.say(&node, phase, code, &message, &reply.state).await;
        Ok(false)
    }

    /// Pulls the guest image where one is to be pulled, then runs the child. Whether the process was asked to stop meanwhile.
    async fn pull_and_run(
        &mut self,
        node: &CocoonNode,
        action: Action,
        mut stop: Pin<&mut impl Future<Output = ()>>,
    ) -> (Result<Reply, String>, bool) {
        let mut request = self.request(node, action);
        if action == Action::Install {
            let pulled = tokio::select! {
                pulled = source::guest(&node.spec.settings, &self.settings.root) => pulled,
                () = stop.as_mut() => return (Err("asked to stop".into()), true),
            };
            match pulled {
                Ok(folder) => request.guest = folder,
                Err(failure) => {
                    let (code, reason) = (failure.code.as_str().to_owned(), failure.reason);
                    let state = self.look(node).await.unwrap_or_else(|_| self.state.clone());
                    return (Ok(Reply { outcome: Outcome::Failed { code, reason }, state }), false);
                }
            }
        }
        self.run(request, stop).await
    }

    /// Runs the child; whether the process was asked to stop meanwhile.
    async fn run(
        &mut self,
        request: Request,
        mut stop: Pin<&mut impl Future<Output = ()>>,
    ) -> (Result<Reply, String>, bool) {
        let mut running = match self.worker.start(&request).await {
            Ok(running) => running,
            Err(e) => return (Err(e), false),
        };
        tokio::select! {
            reply = running.reply() => return (reply, false),
            () = stop.as_mut() => {}
        }
        running.stop();
        (running.reply().await, true)
    }

    async fn look(&self, node: &CocoonNode) -> Result<State, String> {
        let mut running = self.worker.start(&self.request(node, Action::Look)).await?;
        running.reply().await.map(|reply| reply.state)
    }

    fn request(&self, node: &CocoonNode, action: Action) -> Request {
        Request {
            root: self.settings.root.clone(),
            payload: self.settings.payload.clone(),
            guest: None,
            action,
            settings: node.spec.settings.clone(),
        }
    }

    /// Watches what is installed now; where pods keep it from being removed, for them to end. Whether what was watched before
    /// has changed meanwhile.
    fn watch(&mut self, wanted: WantedState) -> Result<bool, Error> {
        let Some(node) = &self.node else { return Ok(false) };
        let inside = |path: &Path| self.settings.root.join(path.strip_prefix("/").unwrap_or(path));
        let mut files: Vec<PathBuf> = self.state.files.iter().map(|f| inside(f)).collect();
        let sockets = inside(Path::new(&node.spec.settings.paths.pods)).join("s");
        let sockets: Vec<PathBuf> =
            std::fs::read_dir(sockets).into_iter().flatten().flatten().map(|e| e.path()).collect();
        let watched = |files: &[PathBuf]| (!files.is_empty()).then(|| Watched::new(files)).transpose();
        self.pods = None;
        if wanted == WantedState::Absent {
            files = sockets;
        } else if !self.state.older.is_empty() {
            self.pods = watched(&sockets)?;
        }
        let new = watched(&files)?;
        let old = std::mem::replace(&mut self.watched, new);
        Ok(old.is_some_and(|mut old| old.has_changed()))
    }

    fn after(&mut self, phase: Phase, message: &str) {
        match phase {
            Phase::Failed | Phase::Installing => {
                let pause = PAUSES
                    .0
                    .saturating_mul(1_u32.checked_shl(self.failures).unwrap_or(u32::MAX))
                    .min(PAUSES.1);
                self.failures = self.failures.saturating_add(1).min(16);
                warn!(seconds = pause.as_secs(), "to be tried again: {message}");
                self.due(Cause::Again, pause);
            }
            Phase::Blocked => {
                // A shim that crashes leaves its socket, of which no file tells.
                self.due(Cause::Again, PAUSES.1);
            }
            _ => self.failures = 0,
        }
    }

    async fn say(
        &mut self,
        node: &CocoonNode,
        phase: Phase,
        code: Option<String>,
        message: &str,
        state: &State,
    ) {
        // What the watch has brought meanwhile is newer than what this was begun with.
        let seen = self.node.as_ref().filter(|n| n.metadata.uid == node.metadata.uid);
        let mut about = node.clone();
        about.status = seen.and_then(|n| n.status.clone()).or(about.status);
        let said = self.reporter.say(&about, phase, code, message, state, self.healed).await;
        if let Err(e) = said {
            warn!("the node's resource: {e}");
            self.due(Cause::Again, PAUSES.0);
        }
    }
}
