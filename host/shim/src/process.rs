//! What containerd knows as processes: the pod itself, a container's first process, or one that was added to it.

use std::path::PathBuf;
use std::time::SystemTime;

use containerd_shim_protos::api::Status;
use protobuf::well_known_types::timestamp::Timestamp;
use tokio::sync::{Mutex, watch};

use crate::stdio::{Paths, Streams};

/// The exit status of what was killed by SIGKILL.
pub const KILLED: u32 = 128 + 9;

/// What a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The pod's sandbox: there is no such process in the guest.
    Sandbox,
    /// A container's first process.
    First,
    /// A further process of a container.
    Further,
}

/// How a process ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Exit {
    /// Its exit status, or 128 and the signal's number.
    pub status: u32,
    /// When.
    pub at: Timestamp,
}

impl Exit {
    /// An end now.
    pub fn now(status: u32) -> Exit {
        Exit { status, at: SystemTime::now().into() }
    }
}

/// How far a process is.
#[derive(Clone, Debug, PartialEq)]
pub enum Phase {
    /// Made, not started.
    Created,
    /// It runs.
    Running,
    /// It is held.
    Paused,
    /// It has ended.
    Ended(Exit),
}

/// A process.
pub struct Process {
    /// The container's id.
    pub id: String,
    /// Its own id in the container; empty for the first one.
    pub exec_id: String,
    /// What it is.
    pub role: Role,
    /// The container's bundle.
    pub bundle: String,
    /// containerd's side of its streams.
    pub paths: Paths,
    /// The process id to report: QEMU's.
    pub pid: u32,
    /// The host's file for what it leaves its owner when it ends.
    pub termination_message: Option<PathBuf>,
    /// How far it is.
    pub phase: watch::Sender<Phase>,
    /// Held while what happens to it is told, so that containerd hears of its start before its end.
    pub order: Mutex<()>,
    /// Its streams.
    pub streams: Mutex<Streams>,
}

impl Process {
    /// How it ended, if it has.
    pub fn exit(&self) -> Option<Exit> {
        match &*self.phase.borrow() {
            Phase::Ended(exit) => Some(exit.clone()),
            _ => None,
        }
    }

    /// Waits for its end.
    pub async fn wait(&self) -> Exit {
        let mut phase = self.phase.subscribe();
        let ended = phase.wait_for(|phase| matches!(phase, Phase::Ended(_))).await;
        match ended.as_deref() {
            Ok(Phase::Ended(exit)) => exit.clone(),
            _ => Exit::now(KILLED),
        }
    }

    /// containerd's word for how far it is.
    pub fn status(&self) -> Status {
        match &*self.phase.borrow() {
            Phase::Created => Status::CREATED,
            Phase::Running => Status::RUNNING,
            Phase::Paused => Status::PAUSED,
            Phase::Ended(_) => Status::STOPPED,
        }
    }

    /// The id that events of it carry.
    pub fn event_id(&self) -> &str {
        if self.exec_id.is_empty() { &self.id } else { &self.exec_id }
    }
}
