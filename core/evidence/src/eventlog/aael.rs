//! The attestation agent's events: what CoCo's guest components measure at run time, such as pulled images.
//!
//! An `EV_EVENT_TAG` whose `TCG_PCClientTaggedEvent` has the id 0x4141454C and holds the text `domain operation content`.
//! Its digest is the hash of the whole tagged event, so the text is as good as the register. Mind who wrote it: every
//! process of the guest that may call the attestation agent chooses all three words freely.

use serde_json::Value;

use super::{Event, EventType};
use crate::reader::Reader;

/// `taggedEventID` of these events.
pub(super) const TAG: u32 = 0x4141_454c;

/// Longest content that is parsed.
const MAX_JSON: usize = 16 * 1024;

/// One such event's text, split at its first two spaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aael<'a> {
    /// Who gives the operation its meaning, e.g. `github.com/confidential-containers`.
    pub domain: &'a str,
    /// What was done, e.g. `PullImage`.
    pub operation: &'a str,
    /// To what; often JSON. May have spaces.
    pub content: &'a str,
}

impl<'a> Aael<'a> {
    /// Splits a text; `None` where it has not three parts, or more than one line.
    pub fn from_text(text: &'a str) -> Option<Self> {
        let mut parts = text.splitn(3, ' ');
        let (domain, operation, content) = (parts.next()?, parts.next()?, parts.next()?);
        (!text.contains('\n')).then_some(Aael { domain, operation, content })
    }

    /// The content as JSON where it is JSON of at most 16 KiB, else as a string: parsed, JSON can take a hundred times
    /// its length.
    pub fn content_value(&self) -> Value {
        if self.content.len() > MAX_JSON {
            return Value::String(self.content.to_owned());
        }
        serde_json::from_str(self.content).unwrap_or_else(|_| Value::String(self.content.to_owned()))
    }

    /// The tagged event with these words; what is measured.
    pub(super) fn to_data(&self) -> Option<Vec<u8>> {
        let text = format!("{} {} {}", self.domain, self.operation, self.content);
        Aael::from_text(&text).filter(|again| again == self)?;
        let size = u32::try_from(text.len()).ok()?;
        Some([TAG.to_le_bytes().as_slice(), &size.to_le_bytes(), text.as_bytes()].concat())
    }
}

impl Event {
    /// Whether the event is marked as one of the attestation agent's.
    pub fn is_aael(&self) -> bool {
        self.kind == EventType::EVENT_TAG && self.data.starts_with(&TAG.to_le_bytes())
    }

    /// Its words where it is one of the attestation agent's and well formed.
    pub fn aael(&self) -> Option<Aael<'_>> {
        if !self.is_aael() {
            return None;
        }
        let mut reader = Reader::new("tagged event", &self.data);
        reader.u32_le().ok()?;
        let size = usize::try_from(reader.u32_le().ok()?).ok()?;
        let text = reader.take(size).ok()?;
        reader.finish().ok()?;
        Aael::from_text(std::str::from_utf8(text).ok()?)
    }
}
