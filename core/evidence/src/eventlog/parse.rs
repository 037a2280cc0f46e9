//! Reading a log.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{Algorithm, Digest, Event, EventLog, EventType, MAX_EVENTS, MAX_LOG, MAX_REGISTER, WHAT};
use crate::Error;
use crate::reader::Reader;

/// The header's signature in a crypto-agile log (PFP 1.06, section 10.4.5.1).
const SPEC_ID: &[u8; 16] = b"Spec ID Event03\0";
/// Signature of the event that tells the locality of TPM2_Startup (PFP 1.06, section 10.4.5.3).
const STARTUP_LOCALITY: &[u8; 16] = b"StartupLocality\0";
/// Bytes of the header before its list of banks.
const IDENTITY: usize = 24;

impl EventLog {
    /// Reads a log of at most [`MAX_LOG`] bytes. The log ends with its bytes or where only 0xFF or only 0x00 follow.
    ///
    /// Refused: an unknown type, bank or version; two digests of one bank; a bank that the header does not name; an
    /// unmeasured event with a digest that is not zero; more than one startup locality, or one after PCR 0 was extended.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        if bytes.len() > MAX_LOG {
            return Err(malformed(format!("{} bytes, the limit is {MAX_LOG}", bytes.len())));
        }
        let mut reader = Reader::new(WHAT, bytes);
        let first = old_event(&mut reader)?;
        let (banks, mut events) = match header(&first)? {
            Some(banks) => (banks, Vec::new()),
            None => (Vec::new(), vec![first]),
        };
        while !at_end(&reader)? {
            if events.len() >= MAX_EVENTS {
                return Err(reader.error(format_args!("more than {MAX_EVENTS} events")));
            }
            events.push(match banks.as_slice() {
                [] => old_event(&mut reader)?,
                banks => event(&mut reader, banks)?,
            });
        }
        let banks = if banks.is_empty() { vec![Algorithm::Sha1] } else { banks };
        let locality = startup_locality(&events)?;
        Ok(EventLog { banks, events, locality })
    }

    /// Reads a log in standard Base64, as evidence carries it.
    pub fn from_base64(text: &str) -> Result<Self, Error> {
        if text.len() > MAX_LOG.div_ceil(3) * 4 {
            return Err(malformed(format!("{} characters of Base64 are too many", text.len())));
        }
        EventLog::parse(&STANDARD.decode(text).map_err(|e| malformed(e.to_string()))?)
    }
}

fn malformed(reason: String) -> Error {
    Error::Malformed { what: WHAT, reason }
}

/// `TCG_PCR_EVENT`: every event of an old log, and the first of a crypto-agile one.
fn old_event(reader: &mut Reader<'_>) -> Result<Event, Error> {
    let (index, kind) = (reader.u32_le()?, reader.u32_le()?);
    let bytes = reader.array::<20>()?;
    let digest = Digest::new(Algorithm::Sha1, &bytes).ok_or_else(|| reader.error("not a SHA-1 digest"))?;
    finish(reader, index, kind, vec![digest])
}

/// `TCG_PCR_EVENT2`.
fn event(reader: &mut Reader<'_>, banks: &[Algorithm]) -> Result<Event, Error> {
    let (index, kind) = (reader.u32_le()?, reader.u32_le()?);
    let count = usize::try_from(reader.u32_le()?).unwrap_or(usize::MAX);
    if count == 0 || count > banks.len() {
        return Err(reader.error(format_args!("{count} digests, the log has {} banks", banks.len())));
    }
    let mut digests: Vec<Digest> = Vec::with_capacity(count);
    for _ in 0..count {
        let id = reader.u16_le()?;
        let bank = Algorithm::from_id(id).filter(|a| banks.contains(a));
        let bank = bank.ok_or_else(|| reader.error(format_args!("{id:#06x} is not a bank of this log")))?;
        // A second digest of a bank would have to be extended, or not: implementations differ.
        if digests.iter().any(|d| d.algorithm() == bank) {
            return Err(reader.error(format_args!("a second {} digest", bank.name())));
        }
        let bytes = reader.take(bank.length())?;
        digests.push(Digest::new(bank, bytes).ok_or_else(|| reader.error("a digest of another length"))?);
    }
    finish(reader, index, kind, digests)
}

/// Type and data, which both kinds of events have.
fn finish(reader: &mut Reader<'_>, index: u32, kind: u32, digests: Vec<Digest>) -> Result<Event, Error> {
    let size = usize::try_from(reader.u32_le()?).unwrap_or(usize::MAX);
    let data = reader.take(size)?.to_vec();
    let unknown = || Error::Unsupported { what: "event type", got: format!("{kind:#x}") };
    let kind = EventType::from_id(kind).ok_or_else(unknown)?;
    if kind.is_measured() && index > MAX_REGISTER {
        return Err(reader.error(format_args!("register {index} does not exist")));
    }
    // An unmeasured event's digest is covered by nothing, so it must not look like one that is.
    let zero = |d: &Digest| d.as_bytes().iter().all(|b| *b == 0);
    if !kind.is_measured() && !digests.iter().all(zero) {
        return Err(reader.error("an EV_NO_ACTION event has a digest"));
    }
    Ok(Event { index, kind, digests, data })
}

/// Whether the log ends here. A rest of one value throughout is an unused rest; anything behind such a rest is refused.
fn at_end(reader: &Reader<'_>) -> Result<bool, Error> {
    let rest = reader.rest();
    let Some(fill) = rest.first().copied() else { return Ok(true) };
    // A table's rest may be most of a megabyte; whole chunks are compared at once.
    let filled =
        |bytes: &[u8]| bytes.chunks(64).all(|c| c.iter().fold(0, |other, b| other | (b ^ fill)) == 0);
    if !matches!(fill, 0x00 | 0xff) || !filled(rest.get(..8).unwrap_or(rest)) {
        return Ok(false);
    }
    match filled(rest) {
        true => Ok(true),
        false => Err(reader.error("something follows the end")),
    }
}

/// The banks that a crypto-agile log's first event names; `None` where the event is the first of an old log.
fn header(first: &Event) -> Result<Option<Vec<Algorithm>>, Error> {
    if first.kind != EventType::NO_ACTION {
        return Ok(None);
    }
    let mut reader = Reader::new("event log header", &first.data);
    let Ok(signature) = reader.array::<16>() else { return Ok(None) };
    if signature == *SPEC_ID {
        let (class, minor, major, errata, word) =
            (reader.u32_le()?, reader.u8()?, reader.u8()?, reader.u8()?, reader.u8()?);
        if (major, minor) != (2, 0) || class > 1 || !matches!(word, 1 | 2) {
            let got = format!("{major}.{minor} errata {errata}, class {class}, word size {word}");
            return Err(Error::Unsupported { what: "event log version", got });
        }
    } else if first.data.get(..IDENTITY).is_some_and(|b| b.iter().all(|b| *b == 0)) {
        // CoCo's attestation agent, where the firmware has no log.
        reader.zeros(IDENTITY - signature.len())?;
    } else {
        return Ok(None);
    }
    let count = reader.u32_le()?;
    let limit = Algorithm::ALL.len();
    if count == 0 || usize::try_from(count).is_ok_and(|c| c > limit) {
        return Err(reader.error(format_args!("{count} banks")));
    }
    let mut banks = Vec::new();
    for _ in 0..count {
        let (id, size) = (reader.u16_le()?, reader.u16_le()?);
        let bank = Algorithm::from_id(id);
        let bank =
            bank.ok_or_else(|| Error::Unsupported { what: "event log bank", got: format!("{id:#06x}") })?;
        if usize::from(size) != bank.length() || banks.contains(&bank) {
            return Err(reader.error(format_args!("{} with {size} bytes, or twice", bank.name())));
        }
        banks.push(bank);
    }
    let vendor = usize::from(reader.u8()?);
    reader.take(vendor)?;
    reader.finish()?;
    Ok(Some(banks))
}

/// The locality at which the TPM was started: PCR 0 begins with it. Zero where the log does not say.
fn startup_locality(events: &[Event]) -> Result<u8, Error> {
    let mut found = None;
    let mut extended = false;
    for event in events {
        extended |= event.kind.is_measured() && event.index == 0;
        if event.kind.is_measured() || !event.data.starts_with(STARTUP_LOCALITY) {
            continue;
        }
        let locality = match event.data.get(STARTUP_LOCALITY.len()..) {
            // 4: a hardware root of trust measured before TPM2_Startup.
            Some([locality @ (0 | 3 | 4)]) if event.index == 0 => *locality,
            _ => return Err(malformed("the startup locality is not one".to_owned())),
        };
        if extended || found.replace(locality).is_some() {
            return Err(malformed("a startup locality after PCR 0 was extended, or a second one".to_owned()));
        }
    }
    Ok(found.unwrap_or(0))
}
