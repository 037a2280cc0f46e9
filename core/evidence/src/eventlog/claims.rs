//! The claim `uefi_event_logs`, in the form that policies written for CoCo's Trustee expect.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::{Algorithm, Event, EventLog, details};

impl EventLog {
    /// The array of events. Digests of other banks than `bank` are left out, because nothing vouches for them.
    ///
    /// Only for a log whose [`EventLog::check_registers`] all passed in the same bank. `details` and `type_name` of an event
    /// whose `digest_matches_event` is false are unmeasured words.
    pub fn claims(&self, bank: Algorithm) -> Value {
        self.events.iter().map(|event| claim(event, bank)).collect()
    }
}

fn claim(event: &Event, bank: Algorithm) -> Value {
    let digests: Vec<Value> = event
        .digest(bank)
        .map(|d| json!({ "alg": bank.name(), "digest": hex::encode(d.as_bytes()) }))
        .into_iter()
        .collect();
    json!({
        "details": details::details(event),
        "digest_matches_event": event.matches(bank),
        "digests": digests,
        "event": STANDARD.encode(&event.data),
        "index": event.index,
        "type_name": event.kind.name(),
    })
}
