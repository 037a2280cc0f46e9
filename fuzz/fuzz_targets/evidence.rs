//! The one door to evidence of all kinds: files of unknown form, and JSON under every kind's name. Both come from the
//! attester, through the untrusted host.
#![no_main]

use std::sync::LazyLock;

use cocoon_evidence::collateral::Collateral;
use cocoon_evidence::{Evidence, Expectation, Trust, Verifier};
use cocoon_protocol::{Tee, bounds};
use libfuzzer_sys::fuzz_target;

static VERIFIER: LazyLock<Verifier> = LazyLock::new(|| Verifier::new(Trust::default()));

fn look(evidence: &Evidence) {
    let _ = (evidence.needs(), evidence.unverified());
    // A challenge that no recorded evidence answers.
    let expectation = Expectation {
        report_data: Some(&[0xa5; 64]),
        init_data_digest: Some(&[0x5a; 48]),
        now_unix: 1_750_809_600,
    };
    if let Ok(verdicts) = VERIFIER.verify(evidence, &Collateral::none(), &expectation, &[]) {
        assert!(!verdicts.is_empty(), "nothing is never a verdict");
        for verified in verdicts {
            assert!(!verified.verdict.ok(), "nobody can sign for a vendor");
            assert!(verified.verdict.claims.is_null() && verified.init_data.is_none());
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    if let Ok(evidence) = Evidence::detect(bytes) {
        look(&evidence);
    }
    // As every caller asks before it parses.
    if bounds::check("evidence", bytes).is_err() {
        return;
    }
    let Ok(value) = serde_json::from_slice(bytes) else { return };
    let _ = Evidence::detect_json(&value);
    for tee in Tee::ALL.iter().copied() {
        if let Ok(evidence) = Evidence::from_json(tee, &value) {
            assert_eq!(evidence.tee(), tee);
            look(&evidence);
            let again =
                Evidence::from_json(tee, &evidence.to_json()).expect("what was accepted can be written");
            assert_eq!(again.to_json(), evidence.to_json());
        }
    }
});
