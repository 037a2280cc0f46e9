//! SEV-SNP reports and evidence: come from the attester, through the untrusted host.
#![no_main]

use cocoon_evidence::Expectation;
use cocoon_evidence::collateral::Collateral;
use cocoon_evidence::snp::{Evidence, Report, Roots, Rules, claims, needs, verify};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(report) = Report::parse(bytes) {
        assert_eq!(report.to_bytes()[..], bytes[..Report::SIZE]);
        let _ = claims(&report);
        let _ = Report::from_json(&report.to_json());
    }
    if let Ok(evidence) = Evidence::parse(bytes) {
        let roots = Roots { vendor: true, simulated: Vec::new() };
        let expectation =
            Expectation { report_data: Some(&[1; 64]), init_data_digest: None, now_unix: 1_800_000_000 };
        let rules = Rules { allow_v2: true, ..Rules::default() };
        let _ = needs(&evidence);
        let verdict = verify(&evidence, &roots, &rules, &Collateral::none(), &expectation);
        assert!(!verdict.ok(), "nobody can sign for AMD");
    }
});
