//! The guest's event stream: stage events as JSON lines, timed as they arrive.

use std::time::{Duration, Instant};

use cocoon_sandbox_api::{MAX_EVENT_LINE, OutOfMemory};
use cocoon_stage::{HostFailure, Mark, StageEvent};
use cocoon_vsock::Stream;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::sync::{mpsc, watch};

/// A stage event and when it was seen, counted from the start of the run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// Time since the run began.
    pub at: Duration,
    /// The event.
    pub event: StageEvent,
}

/// Where what the guest says goes.
pub(crate) struct Heard {
    /// Stage events.
    pub(crate) observer: mpsc::UnboundedSender<Observed>,
    /// The first failure.
    pub(crate) failure: watch::Sender<Option<HostFailure>>,
    /// Containers in which memory ran out.
    pub(crate) starved: mpsc::Sender<String>,
}

/// Reads events until the stream ends.
pub(crate) async fn read_events(stream: Stream, began: Instant, heard: Heard) {
    let mut lines = BufReader::new(stream);
    let limit = u64::try_from(MAX_EVENT_LINE).unwrap_or(u64::MAX);
    loop {
        let mut line = Vec::new();
        match (&mut lines).take(limit).read_until(b'\n', &mut line).await {
            Ok(n) if n > 0 => {}
            _ => return,
        }
        if let Ok(event) = serde_json::from_slice::<GuestLine>(&line) {
            if let Mark::Fail(code) = event.event.mark {
                let (stage, request_id) = (event.event.stage, event.request_id);
                let found = HostFailure { stage, code, request_id, reason: None };
                heard
                    .failure
                    .send_if_modified(|first| first.is_none().then(|| *first = Some(found)).is_some());
            }
            // Nobody listening any more does not end the reading: failures and lacking memory still count.
            let _ = heard.observer.send(Observed { at: began.elapsed(), event: event.event });
        } else if let Ok(starved) = serde_json::from_slice::<OutOfMemory>(&line) {
            let _ = heard.starved.try_send(starved.oom);
        } else {
            tracing::debug!("a line of the guest's event stream is not an event");
        }
    }
}

/// One line: a stage event, and with a failure Trustee's request id.
#[derive(serde::Deserialize)]
struct GuestLine {
    #[serde(flatten)]
    event: StageEvent,
    #[serde(default)]
    request_id: Option<String>,
}
