//! How a service works.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::entry::Policy;
use crate::folder::Folder;
use crate::refusal::BackOff;
use crate::sources::Sources;

/// Milliseconds since 1970.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// The system's clock.
pub fn system_clock() -> Clock {
    Arc::new(|| {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

/// How a service works.
#[derive(Clone)]
pub struct Config {
    /// Where documents are kept; `None`: in memory only.
    pub folder: Option<Folder>,
    /// Who is asked.
    pub sources: Sources,
    /// When documents are asked for again.
    pub policy: Policy,
    /// How long failures are remembered.
    pub back_off: BackOff,
    /// Longest wait for a source's next turn; beyond it the source counts as busy.
    pub patience: Duration,
    /// Longest time for one answer of a source, whatever the source's own limits.
    pub answer: Duration,
    /// The time.
    pub clock: Clock,
}

impl Config {
    /// The usual limits: 10 seconds for a turn, 15 for an answer.
    pub fn new(folder: Option<Folder>, sources: Sources) -> Self {
        Config {
            folder,
            sources,
            policy: Policy::default(),
            back_off: BackOff::default(),
            patience: Duration::from_secs(10),
            answer: Duration::from_secs(15),
            clock: system_clock(),
        }
    }
}
