//! Event logs beside a quote.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::super::{Enrolled, Evidence, Trust, verify};
use super::failed;
use super::soft::{Key, Platform};
use crate::eventlog::{Algorithm, Builder, EventLog, EventType};
use crate::{Expectation, Verdict};

fn judge(value: &Value, key: &Key) -> Verdict {
    let trust = Trust { enrolled: vec![Enrolled::Spki(key.spki())], ..Trust::default() };
    let expectation = Expectation { report_data: None, init_data_digest: None, now_unix: 0 };
    verify(&Evidence::from_json(value).unwrap(), &trust, &expectation)
}

fn log() -> Builder {
    Builder::new(&[Algorithm::Sha256, Algorithm::Sha384])
        .measure_data(0, EventType::S_CRTM_VERSION, b"1")
        .measure_data(4, EventType::SEPARATOR, &[0; 4])
        .measure(4, EventType::EFI_BOOT_SERVICES_APPLICATION, &[0; 32], b"kernel")
}

/// Evidence whose registers are those that a log makes; register 10 holds what no log tells.
fn evidence(log: &[u8], key: &Key, presented: usize) -> Value {
    let mut platform = Platform::new(&[5; 32]);
    for (n, value) in EventLog::parse(log).unwrap().replay(Algorithm::Sha256) {
        platform.pcrs[usize::try_from(n).unwrap()] = value;
    }
    platform.pcrs.truncate(presented);
    platform.selection = vec![(0x000b, (0..presented).collect())];
    let mut value = platform.evidence(key);
    value["event_log"] = json!(STANDARD.encode(log));
    value
}

#[test]
fn a_log_that_leads_to_the_registers_becomes_claims() {
    let key = Key::p256();
    let log = log().finish(0);
    let value = evidence(&log, &key, 24);
    let verdict = judge(&value, &key);
    assert!(verdict.ok(), "{:#?}", verdict.checks);
    let events = verdict.claims["uefi_event_logs"].as_array().unwrap();
    assert!(events.iter().any(|e| e["type_name"] == "EV_EFI_BOOT_SERVICES_APPLICATION"));
    assert_eq!(Evidence::from_json(&value).unwrap().to_json(), value);
    let without = {
        let mut value = value.clone();
        value["event_log"] = json!(null);
        judge(&value, &key)
    };
    assert!(without.ok() && without.claims.get("uefi_event_logs").is_none());
}

#[test]
fn a_log_of_another_boot_is_refused() {
    let key = Key::p256();
    let value = evidence(&log().finish(0), &key, 24);
    let refused = |log: Vec<u8>, expected: &str| {
        let mut value = value.clone();
        value["event_log"] = json!(STANDARD.encode(log));
        let verdict = judge(&value, &key);
        assert!(failed(&verdict).contains(&expected), "{:?}", failed(&verdict));
        assert!(verdict.claims.is_null());
    };
    let kernel = |data: &[u8]| {
        Builder::new(&[Algorithm::Sha256]).measure(
            4,
            EventType::EFI_BOOT_SERVICES_APPLICATION,
            &[0; 32],
            data,
        )
    };
    refused(kernel(b"another kernel").finish(0), "eventlog.replay");
    // One more event, of a register that is quoted and of one that no TPM has.
    refused(log().measure_data(7, EventType::SEPARATOR, &[0; 4]).finish(0), "eventlog.replay");
    refused(log().measure_data(24, EventType::SEPARATOR, &[0; 4]).finish(0), "eventlog.registers");
    // Digests of a bank only that is not quoted.
    let other = Builder::new(&[Algorithm::Sha384]).measure_data(0, EventType::S_CRTM_VERSION, b"1");
    refused(other.finish(0), "eventlog.bank");
    // A log of nothing says nothing.
    refused(Builder::new(&[Algorithm::Sha256]).finish(0), "eventlog.registers");
}

#[test]
fn events_of_registers_that_were_not_presented_are_refused() {
    let key = Key::p256();
    let verdict = judge(&evidence(&log().finish(0), &key, 3), &key);
    assert_eq!(failed(&verdict), ["eventlog.registers"]);
}
