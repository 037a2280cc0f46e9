//! Logs that somebody changed.

use std::collections::HashSet;

use cocoon_stage::Code;
use proptest::prelude::*;

use super::*;

/// The smallest real log with every kind of thing in it, cut behind its last event.
fn real() -> Option<Vec<u8>> {
    let mut bytes = vector("eventlog/CCEL_AAEL_alibabacloud")?;
    bytes.truncate(bytes.len() - 8);
    Some(bytes)
}

/// A log of one event of each of the given kinds, in register 1.
fn log_of(events: &[(EventType, &[u8], &[u8])]) -> EventLog {
    let add = |log: Builder, (kind, data, measured): &(EventType, &[u8], &[u8])| {
        log.measure(1, *kind, data, measured)
    };
    EventLog::parse(&events.iter().fold(Builder::new(&[Algorithm::Sha384]), add).finish(8)).unwrap()
}

fn judge(log: &EventLog) -> Vec<&'static str> {
    let checks = check(log, Algorithm::Sha384, &registers(log, Algorithm::Sha384));
    assert!(checks.iter().all(|c| c.code.is_none_or(|code| code == Code::AttestEventLogMismatch)));
    failed(&checks)
}

#[test]
fn a_cut_log_never_passes() {
    let Some(bytes) = real() else { return };
    let log = EventLog::parse(&bytes).unwrap();
    let good = registers(&log, Algorithm::Sha384);
    let mut shorter = 0;
    for length in 0..bytes.len() {
        if let Ok(log) = EventLog::parse(&bytes[..length]) {
            // Cut between two events.
            assert_eq!(failed(&check(&log, Algorithm::Sha384, &good))[0], "eventlog.replay", "{length}");
            shorter += 1;
        }
    }
    assert_eq!(shorter, log.events().len());
}

/// A flipped bit is noticed, or lies where nothing is measured and the event says so. Every third byte, one bit each: a flip
/// costs a millisecond here; the agent's last event and the header, every byte.
#[test]
fn flipped_bits_are_noticed_or_unmeasured() {
    let Some(bytes) = real() else { return };
    let bank = Algorithm::Sha384;
    let log = EventLog::parse(&bytes).unwrap();
    let good = registers(&log, bank);
    // What each byte is: of a digest, or of the data of an event that is the hash of its digest.
    let (mut at, mut digests, mut bound) = (65, HashSet::new(), HashSet::new());
    for event in log.events() {
        digests.extend(at + 14..at + 62);
        if event.must_match() {
            // The tag itself says whose event it is: with another tag it is an event that does not match, of nobody.
            let tag = if event.is_aael() { 4 } else { 0 };
            bound.extend(at + 66 + tag..at + 66 + event.data.len());
        }
        at += 66 + event.data.len();
    }
    assert_eq!(at, bytes.len());
    let (before, mut unnoticed) = (log.replay(bank), 0);
    for at in (0..bytes.len()).filter(|at| at % 3 == 0 || *at < 66 || *at > bytes.len() - 150) {
        let mut altered = bytes.clone();
        altered[at] ^= 1 << (at % 8);
        let Ok(other) = EventLog::parse(&altered) else { continue };
        let failures = failed(&check(&other, bank, &good));
        if digests.contains(&at) {
            assert_eq!(failures[0], "eventlog.replay", "byte {at}");
            assert_ne!(other.replay(bank), before);
        }
        if bound.contains(&at) {
            assert_eq!(failures, ["eventlog.event-data"], "byte {at}");
        }
        if failures.is_empty() {
            unnoticed += 1;
            // The header's own fields, a type, or data: the digests and registers are as before.
            assert_eq!(other.replay(bank), before, "byte {at}");
            for (ours, theirs) in other.events().iter().zip(log.events()) {
                assert_eq!((ours.index, &ours.digests), (theirs.index, &theirs.digests));
                if ours.data != theirs.data {
                    assert!(!ours.matches(bank), "byte {at}");
                }
            }
        }
    }
    assert!(unnoticed > 0, "data of events that are not the hash of it can be altered");
}

#[test]
fn other_order_more_or_fewer_events_never_pass() {
    let Some(bytes) = real() else { return };
    let bank = Algorithm::Sha384;
    let log = EventLog::parse(&bytes).unwrap();
    let good = registers(&log, bank);
    let judge = |events: &[Event]| {
        let bytes = events.iter().fold(Builder::new(&[bank]), Builder::event).finish(8);
        failed(&check(&EventLog::parse(&bytes).unwrap(), bank, &good))
    };
    let events = log.events().to_vec();
    assert_eq!(judge(&events), Vec::<&str>::new());
    let mut other = events.clone();
    other.swap(3, 4);
    assert_eq!(judge(&other), ["eventlog.replay"]);
    for at in 0..events.len() {
        let mut other = events.clone();
        other.remove(at);
        assert_eq!(judge(&other), ["eventlog.replay"]);
        let mut other = events.clone();
        other.insert(at, events[at].clone());
        assert_eq!(judge(&other), ["eventlog.replay"]);
        let mut other = events.clone();
        other[at].index = 5;
        assert_eq!(judge(&other), ["eventlog.replay", "eventlog.registers"]);
    }
}

#[test]
fn data_that_was_not_measured_is_refused_where_it_must_be_measured() {
    let setting: &[u8] = b"SecureBoot=1";
    for kind in [
        EventType::SEPARATOR,
        EventType::ACTION,
        EventType::EFI_ACTION,
        EventType::EFI_VARIABLE_DRIVER_CONFIG,
    ] {
        assert_eq!(judge(&log_of(&[(kind, setting, setting)])), Vec::<&str>::new());
        assert_eq!(judge(&log_of(&[(kind, setting, b"SecureBoot=0")])), ["eventlog.event-data"]);
    }
    // Elsewhere it is only told.
    let log = log_of(&[(EventType::IPL, b"kernel 6.12", b"kernel 5.4")]);
    assert_eq!(judge(&log), Vec::<&str>::new());
    assert_eq!(log.claims(Algorithm::Sha384)[0]["digest_matches_event"], false);
}

#[test]
fn the_agents_words_must_be_measured_and_well_formed() {
    let tagged =
        |tag: u32, size: u32, text: &[u8]| [tag.to_le_bytes().as_slice(), &size.to_le_bytes(), text].concat();
    let good = tagged(aael::TAG, 5, b"d o c");
    assert_eq!(judge(&log_of(&[(EventType::EVENT_TAG, &good, &good)])), Vec::<&str>::new());
    let other = tagged(aael::TAG, 5, b"d o x");
    assert_eq!(judge(&log_of(&[(EventType::EVENT_TAG, &other, &good)])), ["eventlog.event-data"]);
    for bad in [
        tagged(aael::TAG, 4, b"d o c"),
        tagged(aael::TAG, 6, b"d o c"),
        tagged(aael::TAG, u32::MAX, b"d o c"),
        tagged(aael::TAG, 3, b"d o"),
        tagged(aael::TAG, 6, b"d o \xffc"),
        tagged(aael::TAG, 7, b"d o c\nd"),
        aael::TAG.to_le_bytes().to_vec(),
    ] {
        let log = log_of(&[(EventType::EVENT_TAG, &bad, &bad)]);
        assert_eq!(judge(&log), ["eventlog.event-data"], "{bad:?}");
        assert!(log.claims(Algorithm::Sha384)[0]["details"].get("data").is_none());
    }
    // Another tag is another's business.
    let other = tagged(1, 3, b"d o");
    assert_eq!(judge(&log_of(&[(EventType::EVENT_TAG, &other, b"")])), Vec::<&str>::new());
}

#[test]
fn digests_that_no_register_covers_are_refused() {
    let banks = [Algorithm::Sha256, Algorithm::Sha384];
    let event = |digests: Vec<Digest>| Event { index: 1, kind: EventType::IPL, digests, data: Vec::new() };
    let parse = |event: &Event| EventLog::parse(&Builder::new(&banks).event(event).finish(8));
    let (small, large) = (Algorithm::Sha256.digest(b""), Algorithm::Sha384.digest(b""));
    assert!(parse(&event(vec![small, large])).is_ok());
    // Of a bank that is not asked for: readable, but it fails the check and is not claimed.
    let log = parse(&event(vec![small])).unwrap();
    assert_eq!(judge(&log), ["eventlog.bank"]);
    assert_eq!(log.claims(Algorithm::Sha384)[0]["digests"].as_array().unwrap().len(), 0);
    // None, twice the same bank, a bank that the header does not name.
    assert!(parse(&event(vec![])).is_err());
    assert!(parse(&event(vec![small, small])).is_err());
    assert!(parse(&event(vec![large, small, large])).is_err());
    assert!(parse(&event(vec![Algorithm::Sm3.digest(b"")])).is_err());
    // An unmeasured event with the digest of something good.
    let note = Event { kind: EventType::NO_ACTION, ..event(vec![large]) };
    assert!(parse(&note).is_err());
}

#[test]
fn malformed_logs_are_refused() {
    let bank = Algorithm::Sha384;
    let good = Builder::new(&[bank]).measure_data(1, EventType::ACTION, b"x").finish(0);
    assert!(EventLog::parse(&good).is_ok());
    let with = |at: usize, bytes: &[u8]| {
        let mut other = good.clone();
        other[at..at + bytes.len()].copy_from_slice(bytes);
        EventLog::parse(&other)
    };
    let max = u32::MAX.to_le_bytes();
    // Sizes and counts: the header's data, its banks, the event's digests, its data.
    for at in [28, 56, 65 + 8, good.len() - 5] {
        assert!(with(at, &max).is_err(), "{at}");
    }
    // The header: digest, class, version, word size, no bank, unknown bank, bank of another size.
    for (at, byte) in [(8, 1), (48, 2), (52, 1), (53, 1), (55, 3), (56, 0), (60, 9), (62, 0x20), (64, 1)] {
        assert!(with(at, &[byte]).is_err(), "{at}");
    }
    // Something behind the header's vendor information, which may be there.
    for (vendor, ok) in [(1, true), (0, false)] {
        let mut other = good.clone();
        (other[28], other[64]) = (34, vendor);
        other.insert(65, b'v');
        assert_eq!(EventLog::parse(&other).is_ok(), ok);
    }
    // The event: a register that does not exist, an unknown type.
    assert!(with(65, &32u32.to_le_bytes()).is_err());
    assert!(matches!(with(69, &0x1234u32.to_le_bytes()), Err(crate::Error::Unsupported { .. })));
    // Behind the end.
    for end in [[0xff; 8], [0; 8]] {
        assert!(EventLog::parse(&[good.as_slice(), &end, &[7]].concat()).is_err());
        assert!(EventLog::parse(&[good.as_slice(), &end, &good].concat()).is_err());
    }
    assert!(EventLog::parse(&[good.as_slice(), &[0xff, 0]].concat()).is_err());
    assert!(EventLog::parse(&[good.as_slice(), &[0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]].concat()).is_err());
    // Nothing, and too much.
    for length in [0, 1, 32, 64, 1024] {
        assert!(EventLog::parse(&vec![0xff; length]).is_err());
    }
    assert!(EventLog::parse(&[good.clone(), vec![0; MAX_LOG - good.len()]].concat()).is_ok());
    assert!(EventLog::parse(&[good.clone(), vec![0; MAX_LOG - good.len() + 1]].concat()).is_err());
    let many = |n| (0..n).fold(Builder::new(&[bank]), |b, _| b.measure_data(1, EventType::ACTION, b""));
    assert!(EventLog::parse(&many(MAX_EVENTS).finish(0)).is_ok());
    assert!(EventLog::parse(&many(MAX_EVENTS + 1).finish(0)).is_err());
}

fn details(kind: EventType, data: &[u8]) -> Value {
    log_of(&[(kind, data, data)]).claims(Algorithm::Sha384)[0]["details"].clone()
}

#[test]
fn data_that_is_not_what_its_type_promises_has_no_details() {
    let none = Value::Object(serde_json::Map::new());
    let name = |units: u64, length: u64, rest: &[u8]| {
        [[7; 16].as_slice(), &units.to_le_bytes(), &length.to_le_bytes(), rest].concat()
    };
    let variable = EventType::EFI_VARIABLE_AUTHORITY;
    assert_eq!(details(variable, &name(1, 1, b"a\0b"))["variable_data"], "Yg==");
    assert_eq!(
        details(variable, &name(1, 1, b"a\0b"))["variable_name"],
        "07070707-0707-0707-0707-070707070707"
    );
    for bad in [
        name(1, 1, b"a\0"),
        name(1, 1, b"a\0bc"),
        name(u64::MAX, 1, b"a\0b"),
        name(1 << 63, 1, b"a\0b"),
        name(1, u64::MAX, b"a\0b"),
        name(1, 0, b"\x00\xd8"),
        vec![0; 31],
    ] {
        assert_eq!(details(variable, &bad), none, "{bad:?}");
    }
    let image = |path: &[u8]| {
        let length = u64::try_from(path.len()).unwrap();
        [[0; 24].as_slice(), &length.to_le_bytes(), path].concat()
    };
    let end = [0x7f, 0xff, 4, 0];
    let application = EventType::EFI_BOOT_SERVICES_APPLICATION;
    let path = |nodes: &[&[u8]]| details(application, &image(&[nodes.concat(), end.to_vec()].concat()));
    assert_eq!(path(&[&[1, 1, 6, 0, 2, 3]])["device_paths"][0], "Pci(2,3)");
    assert_eq!(path(&[&[1, 1, 7, 0, 2, 3, 4]])["device_paths"][0], "Path(1,1,020304)");
    assert_eq!(path(&[&[3, 5, 6, 0, 2, 3]])["device_paths"][0], "USB(2,3)");
    let mac = [&[3, 11, 37, 0, 0, 0x13, 0x20, 0xf5, 0xfa, 0x70], [0; 26].as_slice(), &[1]].concat();
    assert_eq!(path(&[&mac])["device_paths"][0], "Mac(001320F5FA70,0x01)");
    let disk = "0401260001000000000800000000000000e02e0000000000431202a000000000431202a000000000 0101";
    let disk = hex::decode(disk.replace(' ', "")).unwrap();
    assert_eq!(disk.len(), 42);
    assert_eq!(
        path(&[&[&[4, 1, 42, 0], &disk[4..]].concat()])["device_paths"][0],
        "HD(1,MBR,0xa0021243,0x800,0x2ee000)"
    );
    assert_eq!(path(&[&[4, 4, 4, 0]])["device_paths"][0], "Path(4,4,)");
    assert_eq!(path(&[[1, 1, 6, 0, 2, 3].as_slice(); 64])["device_paths"].as_array().unwrap().len(), 64);
    assert_eq!(path(&[[1, 1, 6, 0, 2, 3].as_slice(); 65]), none);
    for bad in
        [&[1, 1, 0, 0][..], &[1, 1, 3, 0], &[1, 1, 9, 0, 1], &[1, 1], &[1, 1, 4, 0], &[0x7f, 0xff, 4, 0, 1]]
    {
        assert_eq!(details(application, &image(bad)), none, "{bad:?}");
    }
    assert_eq!(path(&[&[1, 1, 6, 0, 2, 3], &end, &[1, 1, 6, 0, 2, 3]]), none);
    assert_eq!(details(application, &[0; 33]), none);
    assert_eq!(details(EventType::EFI_ACTION, b"\xff"), none);
    assert_eq!(details(EventType::EFI_HANDOFF_TABLES2, b"\x05abc"), none);
    assert_eq!(details(EventType::EFI_HANDOFF_TABLES2, b"\x03abc")["string"], "abc");
    assert_eq!(details(EventType::EVENT_TAG, b"\x01\0\0\0\x05\0\0\0a"), none);
    assert_eq!(details(EventType::IPL, b".\0"), none);
    assert_eq!(details(EventType::IPL, b".\0a\0b"), none);
    assert_eq!(details(EventType::IPL, b"\xff\0")["string"], "ff00");
    assert_eq!(details(EventType::NONHOST_INFO, b"a"), none);
}

#[test]
fn types_are_known_by_number_and_name() {
    for id in (0..0x100).chain(0x8000_0000..0x8000_0200) {
        if let Some(kind) = EventType::from_id(id) {
            assert_eq!(kind.id(), id);
            assert!(kind.name().starts_with("EV_") && kind.name() != "EV_UNKNOWN");
        }
    }
    assert_eq!(EventType::EFI_VARIABLE_AUTHORITY.name(), "EV_EFI_VARIABLE_AUTHORITY");
}

prop_compose! {
    fn any_event()(
        index in 0u32..=31,
        kind in prop::sample::select(vec![0u32, 1, 3, 4, 5, 6, 0xa, 0xd, 0x8000_0001, 0x8000_0003, 0x8000_000a]),
        data in proptest::collection::vec(any::<u8>(), 0..200),
        measured in any::<u8>(),
    ) -> (u32, EventType, Vec<u8>, u8) {
        (index, EventType::from_id(kind).unwrap(), data, measured)
    }
}

proptest! {
    #[test]
    fn any_bytes_are_parsed_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        if let Ok(log) = EventLog::parse(&bytes) {
            let _ = (log.claims(Algorithm::Sha256), log.pcrs(Algorithm::Sha256));
        }
        let _ = TextLog::parse(&String::from_utf8_lossy(&bytes));
        // The same behind a proper header.
        let log = [Builder::new(&[Algorithm::Sha256]).finish(0), bytes].concat();
        if let Ok(log) = EventLog::parse(&log) {
            let _ = (log.claims(Algorithm::Sha256), log.pcrs(Algorithm::Sha256));
        }
    }

    #[test]
    fn any_data_of_any_type_has_details_or_none(
        data in proptest::collection::vec(prop_oneof![Just(0u8), Just(4), Just(1), any::<u8>()], 0..200),
        kind in prop::sample::select(vec![1u32, 5, 6, 0xa, 0xd, 0x8000_0001, 0x8000_0003, 0x8000_000a]),
    ) {
        prop_assert!(details(EventType::from_id(kind).unwrap(), &data).is_object());
        // A proper beginning, so that the rest is reached.
        let size = u32::try_from(data.len()).unwrap().to_le_bytes();
        let tagged = [aael::TAG.to_le_bytes().as_slice(), &size, &data].concat();
        let _ = details(EventType::EVENT_TAG, &tagged);
        let image = [[0; 24].as_slice(), &size, &[0; 4], &data].concat();
        let _ = details(EventType::EFI_BOOT_SERVICES_APPLICATION, &image);
    }

    #[test]
    fn logs_survive_writing_and_reading(
        events in proptest::collection::vec(any_event(), 1..20), at in any::<prop::sample::Index>()
    ) {
        let banks = [Algorithm::Sha256, Algorithm::Sm3];
        let mut builder = Builder::new(&banks);
        for (index, kind, data, measured) in &events {
            builder = builder.measure(*index, *kind, data, &[*measured]);
        }
        let bytes = builder.finish(0);
        // An event of index 0 and type 0 is the same as the end of a log.
        prop_assume!(!events.iter().any(|(index, kind, ..)| *index == 0 && *kind == EventType::PREBOOT_CERT));
        let log = EventLog::parse(&bytes).unwrap();
        prop_assert_eq!(log.events().len(), events.len());
        let again = log.events().iter().fold(Builder::new(&banks), Builder::event).finish(0);
        prop_assert_eq!(&again, &bytes);

        // One bit of one digest, and the register has another value.
        let mut changed = log.events().to_vec();
        let event = at.get(&events);
        prop_assume!(event.1.is_measured());
        let at = at.index(changed.len());
        let digest = changed[at].digests[0];
        let mut altered = digest.as_bytes().to_vec();
        altered[usize::from(event.3) % 32] ^= 1 << (event.3 % 8);
        changed[at].digests[0] = Digest::new(digest.algorithm(), &altered).unwrap();
        let other = changed.iter().fold(Builder::new(&banks), Builder::event).finish(0);
        let other = EventLog::parse(&other).unwrap();
        let bank = digest.algorithm();
        for (index, value) in log.replay(bank) {
            prop_assert_eq!(other.replay(bank)[&index] == value, index != event.0);
        }
    }
}
