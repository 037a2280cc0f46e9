//! The guest's event stream: stage events as JSON lines, timed as they arrive.

use std::time::{Duration, Instant};

use cocoon_sandbox_api::MAX_EVENT_LINE;
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

/// Reads events until the stream ends. The first failure is also put into `failure`.
pub(crate) async fn read_events(
    stream: Stream,
    began: Instant,
    observer: mpsc::UnboundedSender<Observed>,
    failure: watch::Sender<Option<HostFailure>>,
) {
    let mut lines = BufReader::new(stream);
    let limit = u64::try_from(MAX_EVENT_LINE).unwrap_or(u64::MAX);
    loop {
        let mut line = Vec::new();
        match (&mut lines).take(limit).read_until(b'\n', &mut line).await {
            Ok(n) if n > 0 => {}
            _ => return,
        }
        let Ok(event) = serde_json::from_slice::<GuestLine>(&line) else {
            tracing::debug!("a line of the guest's event stream is not an event");
            continue;
        };
        if let Mark::Fail(code) = event.event.mark {
            let found =
                HostFailure { stage: event.event.stage, code, request_id: event.request_id, reason: None };
            failure.send_if_modified(|first| first.is_none().then(|| *first = Some(found)).is_some());
        }
        if observer.send(Observed { at: began.elapsed(), event: event.event }).is_err() {
            return;
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
