//! Hygon CSV evidence: comes from the attester, through the untrusted host; certificates also from a provider.
#![no_main]

use std::sync::Arc;

use cocoon_evidence::Expectation;
use cocoon_evidence::collateral::{Collateral, Document};
use cocoon_evidence::csv::{CaCertificate, ChipCertificate, Evidence, Report, Roots, Rules, needs, verify};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    for (magic, flags) in [(&[0; 16], 0), (b"ATTESTATION_EXT\0", 1)] {
        if let Ok(report) = Report::parse(magic, flags, bytes) {
            assert_eq!(report.to_bytes(), bytes);
        }
    }
    if let Ok(certificate) = CaCertificate::parse(bytes) {
        assert_eq!(CaCertificate::from_json(&certificate.to_json()).as_ref(), Ok(&certificate));
    }
    if let Ok(certificate) = ChipCertificate::parse(bytes) {
        assert_eq!(ChipCertificate::from_json(&certificate.to_json()).as_ref(), Ok(&certificate));
    }
    let Ok(value) = serde_json::from_slice(bytes) else { return };
    if let Ok(evidence) = Evidence::from_json(&value) {
        assert_eq!(Evidence::from_json(&evidence.to_json()).as_ref(), Ok(&evidence));
        let mut collateral = Collateral::none();
        for need in needs(&evidence) {
            let document = Document { body: bytes.to_vec(), issuer_chain: String::new() };
            collateral.insert(need, Arc::new(document));
        }
        let expectation =
            Expectation { report_data: Some(&[1; 64]), init_data_digest: None, now_unix: 1_800_000_000 };
        let verdict = verify(&evidence, &Roots::default(), &Rules::default(), &collateral, &expectation);
        assert!(!verdict.ok(), "nobody can sign for Hygon");
    }
});
