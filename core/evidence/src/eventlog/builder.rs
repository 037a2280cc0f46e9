//! Writing logs, for tests and simulators.

use super::{Aael, Algorithm, Digest, Event, EventType, MAX_LOG, WHAT};
use crate::Error;

/// A log being written.
#[derive(Clone, Debug)]
pub struct Builder {
    /// `None`: an old log.
    banks: Option<Vec<Algorithm>>,
    bytes: Vec<u8>,
}

impl Builder {
    /// A crypto-agile log with these banks.
    pub fn new(banks: &[Algorithm]) -> Self {
        Builder::with_identity(banks, b"Spec ID Event03\0\0\0\0\0\x00\x02\x00\x02")
    }

    /// A crypto-agile log with the header that CoCo's attestation agent writes where the firmware has no log.
    pub fn attestation_agent(banks: &[Algorithm]) -> Self {
        Builder::with_identity(banks, &[0; 24])
    }

    /// A log of TPM 1.2.
    pub fn old() -> Self {
        Builder { banks: None, bytes: Vec::new() }
    }

    fn with_identity(banks: &[Algorithm], identity: &[u8; 24]) -> Self {
        let mut data = identity.to_vec();
        data.extend(number(banks.len()));
        for bank in banks {
            data.extend(bank.id().to_le_bytes());
            data.extend(u16::try_from(bank.length()).unwrap_or(u16::MAX).to_le_bytes());
        }
        data.push(0);
        let mut bytes = [0u32.to_le_bytes(), EventType::NO_ACTION.id().to_le_bytes()].concat();
        bytes.extend([0; 20]);
        bytes.extend(number(data.len()));
        bytes.extend(data);
        Builder { banks: Some(banks.to_vec()), bytes }
    }

    /// Appends an event as it is, whatever it is; only its lengths are not the caller's.
    pub fn event(mut self, event: &Event) -> Self {
        self.bytes.extend(event.index.to_le_bytes());
        self.bytes.extend(event.kind.id().to_le_bytes());
        if self.banks.is_some() {
            self.bytes.extend(number(event.digests.len()));
        }
        for digest in &event.digests {
            if self.banks.is_some() {
                self.bytes.extend(digest.algorithm().id().to_le_bytes());
            }
            self.bytes.extend(digest.as_bytes());
        }
        self.bytes.extend(number(event.data.len()));
        self.bytes.extend(&event.data);
        self
    }

    /// Appends an event with the digests of `measured`, in every bank; an unmeasured type gets zeros.
    pub fn measure(self, index: u32, kind: EventType, data: &[u8], measured: &[u8]) -> Self {
        let banks = self.banks.clone().unwrap_or_else(|| vec![Algorithm::Sha1]);
        let digest = |bank: Algorithm| match kind.is_measured() {
            true => bank.digest(measured),
            false => Digest::repeated(bank, 0),
        };
        let digests = banks.into_iter().map(digest).collect();
        self.event(&Event { index, kind, digests, data: data.to_vec() })
    }

    /// Appends an event whose digest is that of its data.
    pub fn measure_data(self, index: u32, kind: EventType, data: &[u8]) -> Self {
        self.measure(index, kind, data, data)
    }

    /// Appends an event of the attestation agent. Refused: words that cannot be told apart again.
    pub fn aael(self, index: u32, words: &Aael<'_>) -> Result<Self, Error> {
        let reason = "words with spaces or line ends";
        let data = words.to_data().ok_or(Error::Malformed { what: WHAT, reason: reason.to_owned() })?;
        Ok(self.measure_data(index, EventType::EVENT_TAG, &data))
    }

    /// The log, followed by `padding` bytes 0xFF.
    pub fn finish(mut self, padding: usize) -> Vec<u8> {
        let length = self.bytes.len().saturating_add(padding.min(MAX_LOG));
        self.bytes.resize(length, 0xff);
        self.bytes
    }
}

/// A 32-bit little-endian length; nothing here is ever that long.
fn number(length: usize) -> [u8; 4] {
    u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes()
}
