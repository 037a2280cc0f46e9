//! Event logs: what was measured into a TEE's runtime registers or a TPM's PCRs, in order, with words about it.
//!
//! # Formats
//! - The crypto-agile log: `TCG_PCR_EVENT` with a `TCG_EfiSpecIDEvent` that names the banks, then `TCG_PCR_EVENT2`s. A TPM's
//!   log (`binary_bios_measurements`), Intel TDX's CCEL table (index 1 to 4 are RTMR 0 to 3, SHA-384) and Hygon CSV's
//!   (SM3) are such logs. A table's unused rest is 0xFF or 0x00 throughout.
//! - What CoCo's attesters send: the same, with the attestation agent's events ([`Aael`]) behind; without a table, behind
//!   a header whose identifying fields are zero. Eight bytes 0xFF end it.
//! - The log of TPM 1.2, SHA-1 only: read, never accepted by a check.
//! - The attestation agent's earlier log of text lines: [`TextLog`].
//!
//! Sources: TCG PC Client Platform Firmware Profile (PFP) 1.06, section 10; UEFI 2.11, sections 10 and 38; Confidential
//! Containers' guest components for AAEL. At most [`MAX_LOG`] bytes and [`MAX_EVENTS`] events.
//!
//! # What a log is worth
//! The log itself is hostile text. After [`EventLog::check_registers`] passes, exactly this is known: the digests of the
//! bank were extended into these registers in this order, and nothing else was. Types, data and all that is read from the
//! data are still words of whoever sent the log. So the check also demands that the data has the measured digest where the
//! specification leaves no other way: `EV_SEPARATOR`, actions, `EV_EFI_VARIABLE_DRIVER_CONFIG` (`SecureBoot` and its keys)
//! and AAEL. For every other event a policy must read `digest_matches_event` before it believes `details`; where it is
//! false, compare `digests` with reference values and believe nothing else.
//!
//! Two traps for policies. "There is an event that …" says only that something, perhaps what was started later, did extend
//! it: judge all events of a register, in order. "There is no event that …" says nothing while an event does not match:
//! the sender hides an event by giving it another type or tag, and then its digest stands there without an explanation. A
//! rule about all pulled images must also demand that every event of the agent's register (index 4 on TDX) matches.
//!
//! A log binds neither report data nor initdata; only the registers that it is compared with are the TEE's word.

mod aael;
mod algorithm;
mod builder;
mod check;
mod claims;
mod details;
mod device_path;
mod kind;
mod parse;
mod replay;
#[cfg(test)]
mod tests;
mod text;

pub use aael::Aael;
pub use algorithm::{Algorithm, Digest};
pub use builder::Builder;
pub use kind::EventType;
pub use text::TextLog;

/// A longer log is refused. The largest CCEL table seen is 1 MiB; the rest is for the attestation agent's events.
pub const MAX_LOG: usize = 1024 * 1024 + 64 * 1024;
/// A log of more events is refused. A boot has fewer than 200, an image pull one.
pub const MAX_EVENTS: usize = 8192;
/// The highest register of a measured event; TPMs have PCR 0 to 23.
pub const MAX_REGISTER: u32 = 31;

/// The format's name in errors.
const WHAT: &str = "event log";

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The register, as the log numbers them.
    pub index: u32,
    /// The type that the log gives it.
    pub kind: EventType,
    /// One digest each of one or more of the log's banks; all zero where the type is not measured.
    pub digests: Vec<Digest>,
    /// Data: words about what was measured.
    pub data: Vec<u8>,
}

impl Event {
    /// Its digest in a bank.
    pub fn digest(&self, bank: Algorithm) -> Option<&Digest> {
        self.digests.iter().find(|d| d.algorithm() == bank)
    }

    /// Whether its digest in this bank is the hash of its data.
    pub fn matches(&self, bank: Algorithm) -> bool {
        self.digest(bank).is_some_and(|digest| bank.digest(&self.data) == *digest)
    }

    /// Whether a digest that is not the hash of the data shows that somebody replaced the data.
    pub(crate) fn must_match(&self) -> bool {
        self.kind.is_hash_of_data() || self.is_aael()
    }
}

/// A log that was read; its events are what they claim to be only after [`EventLog::check_registers`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventLog {
    banks: Vec<Algorithm>,
    events: Vec<Event>,
    /// From the `StartupLocality` event: what PCR 0 starts with.
    locality: u8,
}

impl EventLog {
    /// The banks that the log's header names; SHA-1 alone for a log of TPM 1.2.
    pub fn banks(&self) -> &[Algorithm] {
        &self.banks
    }

    /// The events in order, without the header.
    pub fn events(&self) -> &[Event] {
        &self.events
    }
}
