//! Events to containerd, in order, by ttrpc (`containerd.services.events.ttrpc.v1.Events/Forward`).
//!
//! What containerd cannot take now waits, so many of it and no more: the oldest go first, since containerd asks for the
//! state of things anyway when it comes back.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use containerd_shim_protos::api::ForwardRequest;
use containerd_shim_protos::shim::event::Envelope;
use containerd_shim_protos::shim_async::{Client, EventsClient};
use protobuf::Message;
use protobuf::well_known_types::any::Any;
use tokio::sync::Notify;

/// Most events that wait.
const MAX_WAITING: usize = 2048;
/// How long containerd may take for one.
const LIMIT: Duration = Duration::from_secs(5);
/// The pause before another attempt to reach containerd doubles from the first to the second; a request of containerd's
/// ends it.
const PAUSES: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(5)];

/// The way to containerd. Clones are the same.
#[derive(Clone)]
pub struct Publisher(Arc<Inner>);

struct Inner {
    namespace: String,
    queue: Mutex<Queue>,
    /// There is something to send, or containerd has shown itself.
    wake: Notify,
    /// Something was sent.
    sent: Notify,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Envelope>,
    /// How many were given up.
    lost: u64,
}

impl Publisher {
    /// A publisher to containerd's ttrpc socket at this path; without one events go nowhere. Needs a Tokio runtime.
    pub fn new(address: Option<String>, namespace: &str) -> Publisher {
        let inner = Inner {
            namespace: namespace.into(),
            queue: Mutex::default(),
            wake: Notify::new(),
            sent: Notify::new(),
        };
        let publisher = Publisher(Arc::new(inner));
        match address.filter(|a| !a.is_empty()) {
            Some(address) => {
                let plain = address.strip_prefix("unix://").unwrap_or(&address);
                tokio::spawn(publisher.clone().deliver(format!("unix://{plain}")));
            }
            None => tracing::warn!("no TTRPC_ADDRESS: containerd hears of no events"),
        }
        publisher
    }

    /// Queues an event. `name` is its message's name in `containerd.events`.
    pub fn publish(&self, topic: &str, name: &str, event: &impl Message) {
        let value = event.write_to_bytes().unwrap_or_default();
        let any = Any { type_url: format!("containerd.events.{name}"), value, ..Any::default() };
        let envelope = Envelope {
            timestamp: Some(SystemTime::now().into()).into(),
            namespace: self.0.namespace.clone(),
            topic: topic.into(),
            event: Some(any).into(),
            ..Envelope::default()
        };
        let mut queue = self.queue();
        if queue.waiting.len() >= MAX_WAITING {
            queue.waiting.pop_front();
            queue.lost += 1;
        }
        queue.waiting.push_back(envelope);
        drop(queue);
        self.0.wake.notify_one();
    }

    /// containerd is there: what waits for it may be tried again.
    pub fn nudge(&self) {
        if !self.queue().waiting.is_empty() {
            self.0.wake.notify_one();
        }
    }

    /// Waits until nothing waits any more, at most so long.
    pub async fn flush(&self, limit: Duration) {
        let empty = async {
            loop {
                let sent = self.0.sent.notified();
                if self.queue().waiting.is_empty() {
                    return;
                }
                sent.await;
            }
        };
        let _ = tokio::time::timeout(limit, empty).await;
    }

    fn queue(&self) -> std::sync::MutexGuard<'_, Queue> {
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn deliver(self, address: String) {
        let [first, longest] = PAUSES;
        let (mut client, mut pause) = (None, first);
        loop {
            let Some(envelope) = self.queue().waiting.front().cloned() else {
                self.0.wake.notified().await;
                continue;
            };
            match send(&mut client, &address, &envelope).await {
                Ok(()) => {
                    let mut queue = self.queue();
                    // The same one, unless it had to make room meanwhile.
                    if queue.waiting.front() == Some(&envelope) {
                        queue.waiting.pop_front();
                    }
                    let lost = std::mem::take(&mut queue.lost);
                    drop(queue);
                    if lost > 0 {
                        tracing::warn!(lost, "containerd was away for so long that events were given up");
                    }
                    self.0.sent.notify_waiters();
                    pause = first;
                }
                Err(error) => {
                    tracing::debug!(%error, "an event waits for containerd");
                    client = None;
                    let _ = tokio::time::timeout(pause, self.0.wake.notified()).await;
                    pause = pause.saturating_mul(2).min(longest);
                }
            }
        }
    }
}

async fn send(client: &mut Option<EventsClient>, address: &str, envelope: &Envelope) -> ttrpc::Result<()> {
    let reached = match client.take() {
        Some(client) => client,
        None => EventsClient::new(Client::connect(address).await?),
    };
    let request = ForwardRequest { envelope: Some(envelope.clone()).into(), ..ForwardRequest::default() };
    let answer = reached.forward(ttrpc::context::with_duration(LIMIT), &request).await;
    match answer {
        // containerd has it and does not want it: it would want it no more a second time.
        Ok(_) | Err(ttrpc::Error::RpcStatus(_)) => {
            *client = Some(reached);
            Ok(())
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
#[path = "publish_tests.rs"]
mod tests;
