//! What the workload measures at run time, as CoCo's attestation agent records it: an event in the log, its digest in a
//! register that evidence speaks of.

use std::sync::Arc;

use cocoon_evidence::eventlog::{Aael, Algorithm, Builder, Digest, Event, EventLog, EventType};
use cocoon_stage::{Code, Failure};
use tokio::sync::Mutex;

/// Most bytes of events of the workload's.
const MAX_BYTES: usize = 64 << 10;
/// Longest event, in bytes.
const MAX_EVENT: usize = 4096;

/// The workload's events so far.
///
/// Held while evidence is made, so that log and register are of one moment.
#[derive(Clone, Debug)]
pub(crate) struct Measured {
    algorithm: Algorithm,
    /// As the log names the register.
    index: u32,
    events: Arc<Mutex<Vec<u8>>>,
}

impl Measured {
    /// None yet, for the register that the log calls `index`.
    pub(crate) fn new(algorithm: Algorithm, index: u32) -> Self {
        Measured { algorithm, index, events: Arc::default() }
    }

    /// Records an event once `extend` has put its digest into the register.
    ///
    /// # Errors
    /// `ATTEST-EVIDENCE-UNAVAILABLE` for words that cannot be told apart again, for too many of them, and what `extend` answers.
    pub(crate) async fn add<F: Future<Output = Result<(), Failure>>>(
        &self,
        words: &Aael<'_>,
        extend: impl FnOnce(Vec<u8>) -> F,
    ) -> Result<(), Failure> {
        let refused =
            |why: &str| Failure::new(Code::AttestEvidenceUnavailable, format!("a measurement {why}"));
        let empty = Builder::attestation_agent(&[self.algorithm]).finish(0);
        let log = Builder::attestation_agent(&[self.algorithm]).aael(self.index, words);
        let log = log.map_err(|_| refused("with words that hold spaces or line ends"))?.finish(0);
        let entry = log.get(empty.len()..).unwrap_or_default();
        let read = EventLog::parse(&log).map_err(|e| refused(&format!("that cannot be written: {e}")))?;
        let digest = read.events().first().and_then(|e| e.digest(self.algorithm)).map(Digest::as_bytes);
        let digest = digest.ok_or_else(|| refused("without a digest"))?.to_vec();
        let mut events = self.events.lock().await;
        if entry.len() > MAX_EVENT || events.len() + entry.len() > MAX_BYTES {
            return Err(refused("that is too long, or one too many"));
        }
        extend(digest).await?;
        events.extend_from_slice(entry);
        Ok(())
    }

    /// The firmware's record with the workload's events behind it, while no other event can come. Without any, the record
    /// as it is.
    pub(crate) async fn with<T, F: Future<Output = T>>(
        &self,
        record: Option<Vec<u8>>,
        make: impl FnOnce(Option<Vec<u8>>) -> F,
    ) -> T {
        let events = self.events.lock().await;
        let record = match events.as_slice() {
            [] => record,
            events => Some(joined(record, events, self.algorithm)),
        };
        make(record).await
    }
}

/// The record up to its unused rest, then the events. One that cannot be read, or has no such bank, is left out: the events
/// then stand alone, and the verifier says what it misses.
fn joined(record: Option<Vec<u8>>, events: &[u8], algorithm: Algorithm) -> Vec<u8> {
    let usable = record.and_then(|mut record| {
        let log = EventLog::parse(&record).ok().filter(|log| log.banks().contains(&algorithm))?;
        record.truncate(used(&record, &log)?);
        Some(record)
    });
    let mut record = usable.unwrap_or_else(|| Builder::attestation_agent(&[algorithm]).finish(0));
    record.extend_from_slice(events);
    // As CoCo's agent ends its log.
    record.extend_from_slice(&[0xff; 8]);
    record
}

/// Bytes of a crypto-agile log that are events.
fn used(record: &[u8], log: &EventLog) -> Option<usize> {
    let header: [u8; 4] = *record.get(28..)?.first_chunk()?;
    let header = usize::try_from(u32::from_le_bytes(header)).ok()?.checked_add(32)?;
    let size = |event: &Event| {
        let digests: usize = event.digests.iter().map(|d| 2 + d.as_bytes().len()).sum();
        16 + digests + event.data.len()
    };
    // An old log has other records; nothing is ever appended to one.
    let agile = log.events().first().is_none_or(|e| e.kind != EventType::NO_ACTION || !e.digests.is_empty());
    agile.then(|| header + log.events().iter().map(size).sum::<usize>())
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORDS: Aael<'_> = Aael { domain: "domain", operation: "operation", content: "the content" };

    #[tokio::test]
    async fn an_event_follows_the_firmwares_and_leads_to_its_register() {
        let measured = Measured::new(Algorithm::Sha384, 4);
        let firmware =
            Builder::new(&[Algorithm::Sha384]).measure_data(1, EventType::ACTION, b"boot").finish(64);
        let same = measured.with(Some(firmware.clone()), async |r| r).await;
        assert_eq!(same, Some(firmware.clone()), "without events it is as it was");
        let mut extended = Vec::new();
        measured
            .add(&WORDS, async |digest| {
                extended = digest;
                Ok(())
            })
            .await
            .unwrap();
        assert_eq!(extended.len(), 48);
        for (record, count) in [(Some(firmware), 2), (None, 1), (Some(b"noise".to_vec()), 1)] {
            let joined = measured.with(record, async |r| r).await.unwrap();
            let log = EventLog::parse(&joined).unwrap();
            assert_eq!(log.events().len(), count);
            let last = log.events().last().unwrap();
            assert_eq!((last.index, last.aael().unwrap()), (4, WORDS));
            assert_eq!(last.digest(Algorithm::Sha384).unwrap().as_bytes(), extended);
        }
    }

    /// The digest that CoCo's attestation agent has for these words.
    #[tokio::test]
    async fn the_digest_is_cocos() {
        let measured = Measured::new(Algorithm::Sha256, 23);
        let words = Aael { content: "content", ..WORDS };
        let check = async |digest: Vec<u8>| {
            let hex: String = digest.iter().map(|b| format!("{b:02x}")).collect();
            assert_eq!(hex, "46df8dacf00a07d34a83cdf56d7978697790787cf2ba1432ef7c38f22cd96351");
            Ok(())
        };
        measured.add(&words, check).await.unwrap();
    }

    #[tokio::test]
    async fn what_is_too_much_or_ambiguous_is_not_measured() {
        let measured = Measured::new(Algorithm::Sha256, 23);
        let never = async |_: Vec<u8>| -> Result<(), Failure> { panic!("extended") };
        for bad in [
            Aael { domain: "a b", ..WORDS },
            Aael { content: "a\nb", ..WORDS },
            Aael { content: &"x".repeat(5000), ..WORDS },
        ] {
            assert!(measured.add(&bad, never).await.is_err());
        }
        let long = "x".repeat(4000);
        let words = Aael { content: &long, ..WORDS };
        let mut count = 0;
        while measured.add(&words, async |_| Ok(())).await.is_ok() {
            count += 1;
        }
        assert_eq!(count, 16);
        let failing = Measured::new(Algorithm::Sha256, 23);
        let refuse = async |_: Vec<u8>| Err(Failure::new(Code::AttestEvidenceUnavailable, "no"));
        assert!(failing.add(&WORDS, refuse).await.is_err());
        assert_eq!(failing.with(None, async |r| r).await, None, "what was not extended is not in the log");
    }
}
