//! Logs written by the builder: round trips, TPMs' peculiarities, the agent's events.

use super::*;

const BANKS: [Algorithm; 2] = [Algorithm::Sha256, Algorithm::Sha384];

fn pcr(log: &EventLog, bank: Algorithm, index: u32) -> String {
    hex::encode(&log.pcrs(bank)[&index])
}

#[test]
fn what_is_written_is_read() {
    let bytes = Builder::new(&BANKS)
        .measure_data(0, EventType::S_CRTM_VERSION, b"one")
        .measure(4, EventType::IPL, b"words", b"something else")
        .measure_data(0, EventType::NO_ACTION, b"a note")
        .finish(0);
    let log = EventLog::parse(&bytes).unwrap();
    assert_eq!(log.banks(), BANKS);
    assert_eq!(log.events().len(), 3);
    assert!(log.events()[0].matches(Algorithm::Sha256) && log.events()[0].matches(Algorithm::Sha384));
    assert!(!log.events()[1].matches(Algorithm::Sha256) && !log.events()[2].matches(Algorithm::Sha256));
    let again = log.events().iter().fold(Builder::new(&BANKS), Builder::event);
    assert_eq!(again.finish(0), bytes);
    for padding in [1, 7, 8, 9, 4096] {
        let padded = [bytes.clone(), vec![0xff; padding]].concat();
        assert_eq!(EventLog::parse(&padded).unwrap(), log);
        let padded = [bytes.clone(), vec![0; padding]].concat();
        assert_eq!(EventLog::parse(&padded).unwrap(), log);
    }
    // Only the digests of the bank asked for are claimed.
    let claims = log.claims(Algorithm::Sha256);
    assert_eq!(claims[0]["digests"].as_array().unwrap().len(), 1);
    assert_eq!(claims[0]["digests"][0]["alg"], "SHA-256");
    assert_eq!(log.claims(Algorithm::Sm3)[0]["digests"].as_array().unwrap().len(), 0);
    assert_eq!(log.claims(Algorithm::Sm3)[0]["digest_matches_event"], false);
}

/// Hand-made: a register after one and after two events, computed apart from the replay.
#[test]
fn extending_is_hashing_the_old_value_and_the_digest() {
    let bank = Algorithm::Sha256;
    let log = Builder::new(&[bank]).measure_data(5, EventType::ACTION, b"a").finish(8);
    let one = bank.digest(&[[0; 32].as_slice(), bank.digest(b"a").as_bytes()].concat());
    assert_eq!(EventLog::parse(&log).unwrap().replay(bank)[&5], one.as_bytes());
    let log = Builder::new(&[bank])
        .measure_data(5, EventType::ACTION, b"a")
        .measure_data(5, EventType::ACTION, b"b")
        .finish(8);
    let two = bank.digest(&[one.as_bytes(), bank.digest(b"b").as_bytes()].concat());
    let replay = EventLog::parse(&log).unwrap().replay(bank);
    assert_eq!((replay.len(), replay[&5].as_slice()), (1, two.as_bytes()));
}

#[test]
fn pcrs_start_as_a_tpm_starts_them() {
    let empty = EventLog::parse(&Builder::new(&BANKS).finish(0)).unwrap();
    // A log without events explains a register at its start, but not no register at all.
    assert_eq!(failed(&check(&empty, Algorithm::Sha384, &Registers::new())), ["eventlog.registers"]);
    let fresh = registers(&empty, Algorithm::Sha384);
    assert_eq!(failed(&check(&empty, Algorithm::Sha384, &fresh)), Vec::<&str>::new());
    assert_eq!(empty.pcrs(Algorithm::Sha256).len(), 24);
    assert_eq!(pcr(&empty, Algorithm::Sha256, 0), "00".repeat(32));
    assert_eq!(pcr(&empty, Algorithm::Sha384, 17), "ff".repeat(48));
    assert_eq!(pcr(&empty, Algorithm::Sha384, 22), "ff".repeat(48));
    assert_eq!(pcr(&empty, Algorithm::Sha384, 23), "00".repeat(48));
    let at = |locality: u8| {
        let data = [b"StartupLocality\0".as_slice(), &[locality]].concat();
        Builder::new(&BANKS).measure_data(0, EventType::NO_ACTION, &data)
    };
    let log = EventLog::parse(&at(3).finish(0)).unwrap();
    assert_eq!(pcr(&log, Algorithm::Sha256, 0), format!("{}03", "00".repeat(31)));
    let log = EventLog::parse(&at(4).measure_data(0, EventType::S_CRTM_VERSION, b"v").finish(0)).unwrap();
    let bank = Algorithm::Sha256;
    let mut start = [0; 32];
    start[31] = 4;
    let expected = bank.digest(&[start.as_slice(), bank.digest(b"v").as_bytes()].concat());
    assert_eq!(log.pcrs(bank)[&0], expected.as_bytes());
    assert_eq!(log.replay(bank)[&0], expected.as_bytes());
    // A value that a TPM cannot have; twice; late; at another index; longer.
    assert!(EventLog::parse(&at(0).finish(0)).is_ok());
    for locality in [1, 2, 5, 255] {
        assert!(EventLog::parse(&at(locality).finish(0)).is_err());
    }
    let event = log.events()[0].clone();
    assert!(EventLog::parse(&at(3).event(&event).finish(0)).is_err());
    let late = Builder::new(&BANKS).measure_data(0, EventType::ACTION, b"").event(&event);
    assert!(EventLog::parse(&late.finish(0)).is_err());
    let later = Builder::new(&BANKS).measure_data(1, EventType::ACTION, b"").event(&event);
    assert!(EventLog::parse(&later.finish(0)).is_ok());
    let elsewhere = Event { index: 1, ..event.clone() };
    assert!(EventLog::parse(&Builder::new(&BANKS).event(&elsewhere).finish(0)).is_err());
    let longer = Event { data: [event.data.as_slice(), &[0]].concat(), ..event };
    assert!(EventLog::parse(&Builder::new(&BANKS).event(&longer).finish(0)).is_err());
}

#[test]
fn the_old_log_is_read_and_trusted_by_nobody() {
    let bytes = Builder::old()
        .measure_data(0, EventType::NO_ACTION, b"Spec ID Event02\0\0\0\0\0")
        .measure_data(0, EventType::S_CRTM_VERSION, b"v")
        .measure_data(4, EventType::ACTION, b"Calling INT 19h")
        .finish(16);
    let log = EventLog::parse(&bytes).unwrap();
    assert_eq!((log.banks(), log.events().len()), ([Algorithm::Sha1].as_slice(), 3));
    assert_eq!(log.claims(Algorithm::Sha1)[2]["details"]["string"], "Calling INT 19h");
    assert_eq!(log.claims(Algorithm::Sha1)[2]["digest_matches_event"], true);
    let values = log.replay(Algorithm::Sha1);
    let expected = values.iter().map(|(index, value)| (*index, "pcr", value.as_slice()));
    assert_eq!(failed(&log.check_registers(Algorithm::Sha1, "a test", expected)), ["eventlog.bank"]);
    // Without the header too.
    let bytes = Builder::old().measure_data(7, EventType::SEPARATOR, &[0; 4]).finish(0);
    assert_eq!(EventLog::parse(&bytes).unwrap().events().len(), 1);
}

/// Digests that guest components publish for the event `domain operation content`.
#[test]
fn the_agents_events_have_the_published_digests() {
    let words = Aael { domain: "domain", operation: "operation", content: "content" };
    for (bank, digest) in [
        (Algorithm::Sha256, "46df8dacf00a07d34a83cdf56d7978697790787cf2ba1432ef7c38f22cd96351"),
        (
            Algorithm::Sha384,
            "dad5f0e226318ffa9839b75a472c6aa7fdb5834949d0a0a22990cf04d5692440fb00f3aa0609db7e49cd8d793f670d02",
        ),
        (
            Algorithm::Sha512,
            "b708d222ca8bd44dfe6ba0c4ca2cbb72379276fba8091025217064be45a813e5\
             d6124ccf073219edb617d1faf007d55061465bdf34b7437dbdc9a7405bd4e9c0",
        ),
    ] {
        let bytes = Builder::attestation_agent(&[bank]).aael(4, &words).unwrap().finish(8);
        let log = EventLog::parse(&bytes).unwrap();
        let event = &log.events()[0];
        assert_eq!(hex::encode(event.digest(bank).unwrap().as_bytes()), digest);
        assert_eq!(event.aael(), Some(words.clone()));
        assert_eq!(failed(&check(&log, bank, &registers(&log, bank))), Vec::<&str>::new());
    }
    for (domain, operation, content) in [("a b", "c", "d"), ("a", "b c", "d"), ("a", "b", "c\nd e f")] {
        let words = Aael { domain, operation, content };
        assert!(Builder::new(&BANKS).aael(4, &words).is_err());
    }
}

#[test]
fn the_agents_content_is_json_or_text() {
    let value = |content| Aael { domain: "d", operation: "o", content }.content_value();
    assert_eq!(value(r#"{"image":"a/b:c", "digest":"sha256:00"}"#)["image"], "a/b:c");
    assert_eq!(value("two words"), "two words");
    assert_eq!(value(""), "");
    assert!(value(&"[".repeat(100_000)).is_string());
}

#[test]
fn the_agents_text_log_replays() {
    let bank = Algorithm::Sha384;
    let init = format!("INIT sha384/{}", "00".repeat(48));
    let text = format!("{init}\ncoco.com PullImage {{\"a\": 1}}\nd o c\n");
    let log = TextLog::parse(&text).unwrap();
    assert_eq!((log.bank(), log.events().count()), (bank, 2));
    assert_eq!(log.events().next().unwrap().operation, "PullImage");
    let mut value = [0; 48].to_vec();
    for line in text.lines() {
        let digest = bank.digest(line.as_bytes());
        value = bank.digest(&[value.as_slice(), digest.as_bytes()].concat()).as_bytes().to_vec();
    }
    assert_eq!(log.replay().as_bytes(), value);
    let other = format!("INIT/sha256 {}", "11".repeat(32));
    assert_eq!(TextLog::parse(&other).unwrap().initial().as_bytes(), [0x11; 32]);
    for bad in [
        "",
        "\n",
        "INIT",
        "INIT sha384/00",
        "INIT md5/00",
        "a b c",
        &format!("INIT sha256/{}", "AA".repeat(32)),
        &format!("INIT sha256/{}", "zz".repeat(32)),
        &format!("{init}\n\nd o c"),
        &format!("{init}\nd o"),
        &format!("{init}\n{}", "d o c\n".repeat(MAX_EVENTS)),
        &"x".repeat(MAX_LOG + 1),
    ] {
        assert!(TextLog::parse(bad).is_err(), "{:?}", bad.get(..80));
    }
}
