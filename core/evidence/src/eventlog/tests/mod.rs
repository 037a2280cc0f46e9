//! Real logs and what they must say; hostile and own ones are in the files beside.

mod build;
mod hostile;
mod tpm;

use serde_json::Value;

use super::*;
use crate::Check;
use crate::testing::vector;

fn failed(checks: &[Check]) -> Vec<&'static str> {
    assert!(!checks.is_empty());
    checks.iter().filter(|c| c.code.is_some()).map(|c| c.name).collect()
}

const NAMES: [&str; 5] = ["mr_0", "mr_1", "mr_2", "mr_3", "mr_4"];

/// Name, bank, events and the registers' final values (index 1 to 4) of every real log.
const LOGS: [(&str, Algorithm, usize, [&str; 4]); 7] = [
    (
        "CCEL_data",
        Algorithm::Sha384,
        5,
        [
            "2dc712306a963eadb894ad47dbaa17df44814151555aee11cbb843becca88950ffd079664902e6f22c66f7c8213543f4",
            "0fa3be56af61208bbd179dc7b124988eb929319154663c539d6f46445ecac2fec287075047ff7bd1922829fec28cd3cf",
            "",
            "",
        ],
    ),
    (
        "CCEL_data_ovmf",
        Algorithm::Sha384,
        20,
        [
            "8566f998798db09443b244c62de9a3041fb02e2e6936c4396d784bba2e90177329ec5aba3bb484404f2ab9cc90abe193",
            "775b9f6bfe99f8a31396f0d0218e67ffa796d3b96ccf961cbb0deba48c79c00f082cda1a5567c1c16305f1fc210c13c6",
            "94eaf7a7bf398ed8d888c91057ae0261802e4f3df084213a76ca7f0b5055ac9d2241de43cd58d9e8b49c503bbf25f34a",
            "",
        ],
    ),
    (
        "CCEL_data_grub",
        Algorithm::Sha384,
        37,
        [
            "cec0a104f691f60da2387fea3c2de00c4ac035e2bb479ff02edcce69039d9e9907f0b3e55031da3dc7038f423adebd79",
            "6c289e0c62182d41ebe97bdbc9872d10998a08eaa86adcdc684001a363207ee72942c7522cdf00a4bbc3d784bed7b670",
            "08919d017ba0e52cd6d966351c7de16fe76c1d3d3d3da4554239e4c7d16cb8b82a94e7eaea3a0e6e18eb690b999fd31e",
            "",
        ],
    ),
    (
        "CCEL_data_gcp",
        Algorithm::Sha384,
        21,
        [
            "3300980705adf09d28b707b79699d9874892164280832be2c386a715b6e204e0897fb564a064f810659207ba862b304f",
            "204d49f78d29918fe7b2f694e76653861a0c2a018987d2c3a54266eff737232524cf0af68c4d180e2f8c2c0937f21967",
            "",
            "",
        ],
    ),
    (
        "CCEL_data_grub_gke",
        Algorithm::Sha384,
        35,
        [
            "bc9945139042cf2cc75caf920aa57f14884ecfd7e893bccc51250c8ce90eb53ce72741e6adaa18183eb1331a87d4544a",
            "c17cb288a4dee302bb9ed8d27257a168f3264ad68cab53757f37eeaa7039657fa887cad65cf910e0fdc435ff110f8a7b",
            "334aeba2c985f8886cea97d1ecffbd512769d528b9a94009583db667ad7d2faa7d37fa145d75b192ceee2d2f10b2eb6d",
            "",
        ],
    ),
    // Beginnings only, as published.
    ("CCEL_AAEL_alibabacloud", Algorithm::Sha384, 87, ["b796e1c1", "3b0b9061", "35f28013", "5e4ecd49"]),
    // Nothing published: only that the three registers differ from their start.
    ("CCEL_data_csv", Algorithm::Sm3, 82, ["*", "*", "*", ""]),
];

#[test]
fn real_logs_replay_to_the_published_values() {
    for (name, bank, events, expected) in LOGS {
        let Some(bytes) = vector(&format!("eventlog/{name}")) else { return };
        let log = EventLog::parse(&bytes).unwrap();
        assert_eq!((log.events().len(), log.banks()), (events, [bank].as_slice()), "{name}");
        let values = log.replay(bank);
        // Unmeasured events of register 0 (in the GKE log) make no register.
        assert!(!values.contains_key(&0));
        for (index, expected) in (1..).zip(expected) {
            let value = values.get(&index).map(hex::encode).unwrap_or_default();
            match expected {
                "" | "*" => assert_eq!(value.is_empty(), expected.is_empty(), "{name} {index}"),
                _ => assert!(value.starts_with(expected), "{name} {index} {value}"),
            }
        }
    }
}

#[test]
fn claims_are_what_policies_know() {
    for (name, bank, ..) in LOGS {
        let Some(bytes) = vector(&format!("eventlog/{name}")) else { return };
        let claims = EventLog::parse(&bytes).unwrap().claims(bank);
        if name == "CCEL_data_gcp" {
            // No expectation is published for it.
            assert_eq!(claims.as_array().unwrap().len(), 21);
            continue;
        }
        let Some(text) = vector(&format!("eventlog/{name}_out.json")) else { return };
        let expected: Value = serde_json::from_slice(&text).unwrap();
        let expected = expected["uefi_event_logs"].as_array().unwrap();
        for (ours, theirs) in claims.as_array().unwrap().iter().zip(expected) {
            assert_eq!(ours, theirs, "{name}");
        }
        assert_eq!(claims.as_array(), Some(expected), "{name}");
    }
}

/// Index, name and value of four registers.
type Registers = Vec<(u32, &'static str, Vec<u8>)>;

fn registers(log: &EventLog, bank: Algorithm) -> Registers {
    let values = log.replay(bank);
    let value = |index| values.get(&index).cloned().unwrap_or_else(|| vec![0; bank.length()]);
    (1..=4).zip(NAMES.into_iter().skip(1)).map(|(index, name)| (index, name, value(index))).collect()
}

fn check(log: &EventLog, bank: Algorithm, registers: &Registers) -> Vec<Check> {
    log.check_registers(bank, "a test", registers.iter().map(|(i, n, v)| (*i, *n, v.as_slice())))
}

#[test]
fn real_logs_pass_and_their_neighbours_fail() {
    for (name, bank, ..) in LOGS {
        let Some(bytes) = vector(&format!("eventlog/{name}")) else { return };
        let log = EventLog::parse(&bytes).unwrap();
        let good = registers(&log, bank);
        let checks = check(&log, bank, &good);
        assert_eq!(failed(&checks), Vec::<&str>::new(), "{name} {checks:?}");
        assert_eq!(checks.len(), 7);

        // Each register is compared, those without events too.
        for at in 0..4 {
            let mut other = good.clone();
            other[at].2[0] ^= 1;
            let checks = check(&log, bank, &other);
            assert_eq!(failed(&checks), ["eventlog.replay"], "{name} {at}");
            assert_eq!(checks.iter().find_map(|c| c.code), Some(cocoon_stage::Code::AttestEventLogMismatch));
            other[at].2.clear();
            assert_eq!(failed(&check(&log, bank, &other)), ["eventlog.replay"]);
            other[at].2.resize(5000, 0);
            let checks = check(&log, bank, &other);
            assert_eq!(failed(&checks), ["eventlog.replay"]);
            assert!(checks.iter().all(|c| c.expected.len() < 200 && c.got.len() < 200));
        }
        // A register that the log extends may not be left out; nor may all.
        let fewer: Registers = good.iter().skip(1).cloned().collect();
        assert_eq!(failed(&check(&log, bank, &fewer)), ["eventlog.registers"], "{name}");
        assert_eq!(failed(&check(&log, bank, &Vec::new())), ["eventlog.registers"]);
        // Another bank has nothing to compare with.
        let failures = failed(&check(&log, Algorithm::Sha512, &good));
        assert!(failures.contains(&"eventlog.bank") && failures.contains(&"eventlog.replay"));
        assert!(failed(&check(&log, Algorithm::Sha1, &good)).contains(&"eventlog.bank"));
    }
}

#[test]
fn the_agents_events_are_read() {
    let Some(bytes) = vector("eventlog/CCEL_AAEL_alibabacloud") else { return };
    let log = EventLog::parse(&bytes).unwrap();
    let words: Vec<Aael<'_>> = log.events().iter().filter_map(Event::aael).collect();
    assert_eq!(words.len(), 2);
    assert_eq!(words[0], Aael { domain: "coco.com", operation: "some-operation", content: "some-content" });
    assert_eq!(words[1].content_value()["nested-key"]["sub-key"], "value");
}

/// The evidence of a Hygon machine holds the log of an attestation agent without firmware log and without events.
#[test]
fn the_agents_own_header_is_read() {
    let Some(text) = vector("csv/csv_evidence.json") else { return };
    let evidence: Value = serde_json::from_slice(&text).unwrap();
    let log = EventLog::from_base64(evidence["cc_eventlog"].as_str().unwrap()).unwrap();
    assert_eq!(log.banks(), [Algorithm::Sha384, Algorithm::Sm3]);
    assert!(log.events().is_empty() && log.claims(Algorithm::Sm3).as_array().unwrap().is_empty());
    assert!(EventLog::from_base64("AAAA====").is_err());
    assert!(EventLog::from_base64(&"A".repeat(2 * MAX_LOG)).is_err());
}

/// Prints what replaying costs; the figures are for people, nothing is asserted of them.
#[test]
fn cost_of_a_log() {
    let time = |name: &str, bytes: &[u8], bank| {
        let log = EventLog::parse(bytes).unwrap();
        let cost = |what: &dyn Fn()| {
            let once = |_| {
                let begin = std::time::Instant::now();
                what();
                begin.elapsed()
            };
            (0..20).map(once).min().unwrap()
        };
        println!(
            "{name}: {} events, parse {:?}, replay {:?}, claims {:?}",
            log.events().len(),
            cost(&|| drop(EventLog::parse(bytes).unwrap())),
            cost(&|| drop(log.replay(bank))),
            cost(&|| drop(log.claims(bank))),
        );
    };
    // As many events as 64 KiB can hold.
    for bank in [Algorithm::Sha384, Algorithm::Sm3] {
        let mut builder = Builder::new(&[bank]);
        for n in 0..65_536 / (18 + bank.length()) {
            builder = builder.measure_data(u32::try_from(n % 4).unwrap() + 1, EventType::ACTION, b"");
        }
        time(&format!("full of {}", bank.name()), &builder.finish(8), bank);
    }
    for (name, bank, ..) in LOGS {
        let Some(bytes) = vector(&format!("eventlog/{name}")) else { return };
        time(name, &bytes, bank);
    }
}
