//! Hygon DCU evidence: comes from the attester, through the untrusted host.
#![no_main]

use cocoon_evidence::Expectation;
use cocoon_evidence::collateral::Collateral;
use cocoon_evidence::dcu::{Evidence, Report, Roots, needs, verify};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(report) = Report::parse(bytes) {
        assert_eq!(report.to_bytes(), bytes);
    }
    let Ok(value) = serde_json::from_slice(bytes) else { return };
    if let Ok(evidence) = Evidence::from_json(&value) {
        assert_eq!(Evidence::from_json(&evidence.to_json()).as_ref(), Ok(&evidence));
        assert!(!needs(&evidence).is_empty());
        let expectation =
            Expectation { report_data: Some(&[1; 64]), init_data_digest: None, now_unix: 1_800_000_000 };
        let verdict = verify(&evidence, &Roots::default(), &Collateral::none(), &expectation);
        assert!(!verdict.ok(), "nobody can sign for Hygon");
    }
});
