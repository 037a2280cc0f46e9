//! The evidence as CoCo's attesters send it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::collateral::Need;
use crate::dcap::{Body, MAX_QUOTE, Quote};
use crate::eventlog::{EventLog, MAX_LOG};
use crate::{Error, dcap};

/// A TD's quote and, where the firmware keeps one, its event log.
///
/// JSON: `{"quote": "<base64>", "cc_eventlog": "<base64>" | "" | null}`.
#[derive(Clone, Debug)]
pub struct Evidence {
    /// The quote.
    pub quote: Quote,
    /// The event log.
    pub event_log: Option<EventLog>,
    log: Option<String>,
}

impl Evidence {
    /// Evidence of a quote and an event log as they come from the TD.
    ///
    /// # Errors
    /// Whatever [`Quote::parse`] and [`EventLog::parse`] refuse; [`Error::Unsupported`] for quotes of other TEEs.
    pub fn new(quote: &[u8], event_log: Option<&[u8]>) -> Result<Self, Error> {
        let quote = Quote::parse(quote)?;
        if !matches!(quote.body, Body::Td(_)) {
            return Err(Error::Unsupported {
                what: "TDX evidence",
                got: "a quote of an SGX enclave".to_owned(),
            });
        }
        let log = event_log.map(|bytes| STANDARD.encode(bytes));
        let event_log = event_log.map(EventLog::parse).transpose()?;
        Ok(Evidence { quote, event_log, log })
    }

    /// Reads the JSON value.
    ///
    /// # Errors
    /// [`Error::Field`] for fields that are missing, too long or not base64; else as [`Evidence::new`].
    pub fn from_json(value: &Value) -> Result<Self, Error> {
        let quote = decode("quote", value.get("quote"), MAX_QUOTE)?;
        let quote = quote.ok_or(Error::Field { field: "quote", reason: "missing" })?;
        let log = decode("cc_eventlog", value.get("cc_eventlog"), MAX_LOG)?;
        Evidence::new(&quote, log.as_deref())
    }

    /// The JSON value.
    pub fn to_json(&self) -> Value {
        json!({ "quote": STANDARD.encode(self.quote.bytes()), "cc_eventlog": self.log })
    }
}

/// What verification needs beside the evidence.
pub fn needs(evidence: &Evidence) -> Vec<Need> {
    dcap::needs(&evidence.quote)
}

/// Bytes of a field; nothing, null and an empty text are nothing.
pub(crate) fn decode(
    field: &'static str,
    value: Option<&Value>,
    limit: usize,
) -> Result<Option<Vec<u8>>, Error> {
    let text = match value {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(text)) if text.is_empty() => return Ok(None),
        Some(Value::String(text)) => text,
        Some(_) => return Err(Error::Field { field, reason: "not a text" }),
    };
    if text.len() / 4 > limit / 3 + 1 {
        return Err(Error::Field { field, reason: "too long" });
    }
    let bytes = STANDARD.decode(text).map_err(|_| Error::Field { field, reason: "not base64" })?;
    Ok(Some(bytes))
}
