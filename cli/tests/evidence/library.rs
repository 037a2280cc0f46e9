//! The same verdicts by the library alone, as a relying party's own program would ask for them.

use std::path::Path;
use std::sync::Arc;

use cocoon_evidence::collateral::Collateral;
use cocoon_evidence::nvidia::{Architecture, DeviceEvidence, Evidence as Nvidia};
use cocoon_evidence::snp::CertEntry;
use cocoon_evidence::{Evidence, Expectation, Trust, Verified, Verifier, cca, dcap, tdx};
use serde_json::{Value, json};

use super::expected::{GENOA, VERDICTS};
use super::support::Home;
use super::{AT, vectors, verdict};

/// Reads the words of a row of [`VERDICTS`] and verifies.
fn verified(folder: &Path, words: &str) -> (Evidence, Vec<Verified>) {
    let read = |name: &str| std::fs::read(folder.join(name)).unwrap();
    let value = |name: &str| serde_json::from_slice::<Value>(&read(name)).unwrap();
    let mut words = words.split_whitespace();
    let file = words.next().unwrap();
    let words: Vec<&str> = words.collect();
    let flag = |name: &str| words.iter().position(|word| *word == name).map(|at| words[at + 1]);
    let bytes = |name: &str| flag(name).map(|text| hex::decode(text).unwrap());

    let mut trust = Trust::default();
    trust.snp_rules.allow_v2 = words.contains(&"--allow-v2");
    trust.snp_rules.require_crl = words.contains(&"--require-crl");
    trust.snp_rules.max_vmpl = flag("--max-vmpl").map_or(0, |level| level.parse().unwrap());
    trust.nvidia.require_rims = words.contains(&"--require-rims");
    if let (Some(anchors), Some(references)) = (flag("--cca-trust-anchors"), flag("--cca-references")) {
        trust.cca = Arc::new(cca::Store::from_json(&value(anchors), &value(references)).unwrap());
    }

    let mut evidence = match (file.starts_with("nvidia/"), flag("--certificate")) {
        (true, Some(chain)) => {
            let report = hex::decode(read(file).trim_ascii()).unwrap();
            let device = DeviceEvidence::new(Architecture::Hopper, None, &report, &read(chain)).unwrap();
            Evidence::Nvidia(Box::new(Nvidia { devices: vec![device] }))
        }
        _ => Evidence::detect(&read(file)).unwrap(),
    };
    if let (Evidence::Snp(snp), Some(certificate)) = (&mut evidence, flag("--certificate")) {
        let cert_type = if snp.report.key_info >> 2 & 7 == 1 { "VLEK" } else { "VCEK" }.to_owned();
        snp.cert_chain = vec![CertEntry { cert_type, data: read(certificate) }];
    }
    if let (Evidence::Tdx(quote), Some(log)) = (&mut evidence, flag("--event-log")) {
        **quote = tdx::Evidence::new(quote.quote.bytes(), Some(&read(log))).unwrap();
    }
    let collateral = flag("--collateral").map_or_else(Collateral::none, |name| {
        let quote = match &evidence {
            Evidence::Tdx(evidence) => &evidence.quote,
            Evidence::Sgx(evidence) => evidence.quote(),
            _ => panic!("no quote"),
        };
        dcap::quote_collateral(&value(name), quote).unwrap()
    });
    let now_unix = flag("--at").map_or(AT, |date| match date {
        "2025-06-01" => 1_748_736_000,
        "2025-06-25" => 1_750_809_600,
        "2033-01-01" => 1_988_150_400,
        other => panic!("{other}"),
    });
    let (report_data, digest) = (bytes("--report-data"), bytes("--init-data-digest"));
    let expectation =
        Expectation { report_data: report_data.as_deref(), init_data_digest: digest.as_deref(), now_unix };
    let verified = Verifier::new(trust).verify(&evidence, &collateral, &expectation, &[]).unwrap();
    (evidence, verified)
}

#[test]
fn the_library_says_what_the_command_says() {
    let Some(folder) = vectors() else { return };
    let home = Home::new();
    for (words, expected) in VERDICTS {
        let words = words.replace("GENOA", GENOA);
        let (evidence, verified) = verified(&folder, &words);
        assert_eq!(verified.iter().all(|v| v.verdict.ok()), expected.is_empty(), "{words}");
        let (said, _) = verdict(&home, &words);
        assert_eq!(said["tee"], evidence.tee().name());
        let verdicts = said["verdicts"].as_array().unwrap();
        assert_eq!(verdicts.len(), verified.len(), "{words}");
        for (ours, said) in verified.iter().zip(verdicts) {
            assert_eq!(said["checks"], json!(ours.verdict.checks), "{words}");
            assert_eq!(said["claims"], ours.verdict.claims, "{words}");
            assert_eq!((&said["class"], &said["init_data"]), (&json!(ours.class), &json!(ours.init_data)));
        }
    }
}
