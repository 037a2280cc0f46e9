//! Event logs: come from the attester, through the untrusted host.
#![no_main]

use cocoon_evidence::eventlog::{Algorithm, Builder, EventLog, TextLog};
use libfuzzer_sys::fuzz_target;

fn look(log: &EventLog) {
    for bank in Algorithm::ALL {
        let values = log.replay(bank);
        let _ = log.pcrs(bank);
        let _ = log.claims(bank);
        let expected = values.iter().map(|(index, value)| (*index, "register", value.as_slice()));
        let checks = log.check_registers(bank, "fuzz", expected);
        assert!(checks.iter().all(|c| c.name != "eventlog.replay" || c.code.is_none()));
        assert!(checks.iter().all(|c| c.expected.len() + c.got.len() < 1000));
    }
}

fuzz_target!(|bytes: &[u8]| {
    if let Ok(log) = EventLog::parse(bytes) {
        look(&log);
    }
    // The same bytes as events behind a proper header.
    let header = Builder::new(&[Algorithm::Sha256, Algorithm::Sha384]);
    let behind = [header.clone().finish(0), bytes.to_vec()].concat();
    if let Ok(log) = EventLog::parse(&behind) {
        look(&log);
        let again = log.events().iter().fold(header, Builder::event).finish(0);
        assert!(behind.starts_with(&again), "what is read can be written");
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = EventLog::from_base64(text);
        if let Ok(log) = TextLog::parse(text) {
            let _ = (log.replay(), log.events().count());
        }
    }
});
