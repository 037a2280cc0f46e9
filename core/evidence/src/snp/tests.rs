//! Real reports against AMD's real roots, and hostile ones against the parsers.

use cocoon_stage::Code;
use proptest::prelude::*;

use super::certificate::Endorsed;
use super::*;
use crate::collateral::Collateral;
use crate::testing::vector;
use crate::x509::Certificate;
use crate::{Expectation, Verdict};

/// 2025-06-01: within every vector's validity.
const JUNE_2025: u64 = 1_748_736_000;
/// 2026-01-15: after the VLEK vector's last day.
const JANUARY_2026: u64 = 1_768_435_200;

fn evidence(report: &[u8], cert_type: &str, certificate: Vec<u8>) -> Evidence {
    let entry = CertEntry { cert_type: cert_type.to_owned(), data: certificate };
    Evidence { report: Report::parse(report).unwrap(), cert_chain: vec![entry] }
}

/// Verifies against AMD's roots, expecting the report data that the report has.
fn judge(evidence: &Evidence, now_unix: u64, allow_v2: bool) -> Verdict {
    let report_data = evidence.report.report_data;
    let expectation = expecting(&report_data, now_unix);
    let rules = Rules { allow_v2, ..Rules::default() };
    verify(evidence, &Roots::default(), &rules, &Collateral::none(), &expectation)
}

fn cached(evidence: &Evidence, roots: &Roots, expectation: &Expectation<'_>, cache: &ChainCache) -> Verdict {
    verify_cached(evidence, roots, &Rules::default(), &Collateral::none(), expectation, cache)
}

fn expecting(report_data: &[u8], now_unix: u64) -> Expectation<'_> {
    Expectation { report_data: Some(report_data), init_data_digest: None, now_unix }
}

fn failed(verdict: &Verdict) -> Vec<&'static str> {
    verdict.checks.iter().filter(|c| c.code.is_some()).map(|c| c.name).collect()
}

#[test]
fn genoa_evidence_verifies_to_amds_root() {
    let Some(text) = vector("snp/genoa-v3-evidence.json") else { return };
    let evidence = Evidence::parse(&text).unwrap();
    let report_data = hex::decode(
        "7e7320889600c7ac133aea7b896c51f41026002982292a7369559796999c1bf9\
         29eef3ff23c46e858f0b1982f9a92b17c51b578d958cde6b0c92978f150cf9b0",
    )
    .unwrap();
    let expectation = Expectation { init_data_digest: Some(&[0; 32]), ..expecting(&report_data, JUNE_2025) };
    let verdict = verify(&evidence, &Roots::default(), &Rules::default(), &Collateral::none(), &expectation);
    assert_eq!(failed(&verdict), Vec::<&str>::new());
    assert!(verdict.ok() && !verdict.simulated && verdict.failure().is_none());
    let claims = &verdict.claims;
    assert_eq!(claims["reported_tcb_snp"], 23);
    assert_eq!(claims["reported_tcb_microcode"], 25);
    assert_eq!(claims["policy_debug_allowed"], false);
    assert_eq!(claims["current_firmware"], "1.55.40");
    assert_eq!(claims["processor"], "Genoa");
    assert_eq!(claims["simulated"], false);
    assert!(claims["measurement"].as_str().unwrap().starts_with("6a6519d7"));
    assert_eq!(claims["init_data"], "00".repeat(32));

    // The same evidence in any other light is refused, each time for its own reason.
    let refuse = |roots: &Roots, expectation: &Expectation<'_>, code, name| {
        let verdict = verify(&evidence, roots, &Rules::default(), &Collateral::none(), expectation);
        assert_eq!(verdict.failure().map(|f| f.code), Some(code));
        assert!(failed(&verdict).contains(&name), "{verdict:?}");
        assert!(verdict.claims.is_null() && !verdict.simulated);
    };
    let ours = Roots::default();
    let none = Roots { vendor: false, simulated: Vec::new() };
    refuse(&none, &expectation, Code::AttestChainUntrusted, "certificate.chain");
    let other = Expectation { report_data: Some(&[1; 64]), ..expectation };
    refuse(&ours, &other, Code::AttestReportDataMismatch, "report.report-data");
    let other = Expectation { report_data: Some(&[]), ..expectation };
    refuse(&ours, &other, Code::AttestReportDataMismatch, "report.report-data");
    let longer = [report_data.as_slice(), &[0]].concat();
    let other = Expectation { report_data: Some(&longer), ..expectation };
    refuse(&ours, &other, Code::AttestReportDataMismatch, "report.report-data");
    let other = Expectation { init_data_digest: Some(&[7; 48]), ..expectation };
    refuse(&ours, &other, Code::AttestInitdataMismatch, "report.host-data");
    let other = Expectation { init_data_digest: Some(&[]), ..expectation };
    refuse(&ours, &other, Code::AttestInitdataMismatch, "report.host-data");
    let other = Expectation { now_unix: 4_000_000_000, ..expectation };
    refuse(&ours, &other, Code::AttestCertificateExpired, "root.validity");
    let other = Expectation { now_unix: 1_700_000_000, ..expectation };
    refuse(&ours, &other, Code::AttestCertificateExpired, "certificate.validity");
}

#[test]
fn json_and_bytes_say_the_same() {
    let Some(text) = vector("snp/genoa-v3-evidence.json") else { return };
    let evidence = Evidence::parse(&text).unwrap();
    assert_eq!(Report::parse(&evidence.report.to_bytes()).unwrap(), evidence.report);
    let ours = evidence.to_json();
    let theirs: serde_json::Value = serde_json::from_slice(&text).unwrap();
    assert_eq!(ours, theirs);
    assert_eq!(Evidence::from_json(&ours).unwrap(), evidence);
}

#[test]
fn without_a_certificate_nothing_verifies() {
    let Some(text) = vector("snp/genoa-v3-evidence.json") else { return };
    let mut evidence = Evidence::parse(&text).unwrap();
    evidence.cert_chain.clear();
    let verdict = judge(&evidence, JUNE_2025, false);
    assert_eq!(failed(&verdict), ["certificate.chain", "report.signature"]);
    evidence.cert_chain.push(CertEntry { cert_type: "VCEK".to_owned(), data: b"garbage".to_vec() });
    let verdict = judge(&evidence, JUNE_2025, false);
    assert_eq!(verdict.failure().unwrap().code, Code::AttestEvidenceMalformed);
}

#[test]
fn version_2_needs_permission() {
    let (Some(report), Some(vcek)) = (vector("snp/test-report.bin"), vector("snp/test-vcek.der")) else {
        return;
    };
    let evidence = evidence(&report, "VCEK", vcek);
    assert_eq!(failed(&judge(&evidence, JUNE_2025, true)), Vec::<&str>::new());
    let verdict = judge(&evidence, JUNE_2025, false);
    assert_eq!(failed(&verdict), ["report.version"]);
    assert_eq!(verdict.failure().unwrap().code, Code::AttestEvidenceMalformed);
}

#[test]
fn altered_reports_are_refused() {
    let (Some(report), Some(vcek)) = (vector("snp/test-report.bin"), vector("snp/test-vcek.der")) else {
        return;
    };
    let altered = |at: usize| {
        let mut bytes = report.clone();
        bytes[at] ^= 1;
        judge(&evidence(&bytes, "VCEK", vcek.clone()), JUNE_2025, true)
    };
    let verdict = altered(42);
    assert_eq!(failed(&verdict), ["report.signature"]);
    assert_eq!(verdict.failure().unwrap().code, Code::AttestSignatureInvalid);
    assert_eq!(failed(&altered(384)), ["report.signature", "certificate.tcb"]);
    // Chip id; r, s; and the bytes above r and s, which P-384 does not use.
    assert_eq!(failed(&altered(0x1a0)), ["report.signature", "certificate.chip-id"]);
    for at in [0x2a0, 0x2a0 + 72, 0x2a0 + 71, 0x2a0 + 143] {
        assert_eq!(failed(&altered(at)), ["report.signature"], "byte {at:#x}");
    }
    // Reserved bytes, signed or not, make it something else than a report.
    for at in [0x4c, 0x188, 0x1eb, 0x1f8, 0x330, 1183] {
        let mut bytes = report.clone();
        bytes[at] ^= 1;
        assert!(Report::parse(&bytes).is_err(), "byte {at:#x}");
    }
}

#[test]
fn a_vlek_report_from_vmpl_1_is_refused() {
    let (Some(report), Some(vlek)) = (vector("snp/test-vlek-report.bin"), vector("snp/test-vlek.der")) else {
        return;
    };
    let evidence = evidence(&report, "VLEK", vlek);
    let verdict = judge(&evidence, JUNE_2025, false);
    assert_eq!(failed(&verdict), ["report.vmpl"]);
    assert_eq!(verdict.failure().unwrap().code, Code::AttestPrivilegeLevel);
    let verdict = judge(&evidence, JANUARY_2026, false);
    assert_eq!(failed(&verdict), ["certificate.validity", "report.vmpl"]);
    assert_eq!(verdict.failure().unwrap().code, Code::AttestCertificateExpired);
}

#[test]
fn a_certificate_of_another_chip_or_kind_is_refused() {
    let all = (vector("snp/test-report.bin"), vector("snp/test-vlek.der"), vector("az-snp-vtpm/vcek.pem"));
    let (Some(report), Some(vlek), Some(other)) = all else { return };
    let verdict = judge(&evidence(&report, "VCEK", vlek), JUNE_2025, true);
    let failed_now = failed(&verdict);
    assert!(failed_now.contains(&"certificate.kind") && failed_now.contains(&"report.signature"));
    let verdict = judge(&evidence(&report, "VCEK", other), JUNE_2025, true);
    assert!(failed(&verdict).contains(&"certificate.chip-id"), "{verdict:?}");
}

#[test]
fn azure_reports_verify() {
    let (Some(hcl), Some(vcek)) = (vector("az-snp-vtpm/hcl-report.bin"), vector("az-snp-vtpm/vcek.pem"))
    else {
        return;
    };
    let evidence = evidence(&hcl[0x20..0x20 + Report::SIZE], "VCEK", vcek);
    let verdict = judge(&evidence, JUNE_2025, true);
    assert_eq!(failed(&verdict), Vec::<&str>::new());
}

#[test]
fn both_encodings_of_the_extensions_are_read() {
    let old = vector("snp/test-vcek-invalid-legacy.der");
    let (Some(old), Some(new), Some(report)) =
        (old, vector("snp/test-vcek-invalid-new.der"), vector("snp/test-report.bin"))
    else {
        return;
    };
    let chip: Vec<u8> = (0..64).collect();
    let expected = [
        (&old, Tcb { fmc: None, bootloader: 3, tee: 0, snp: 10, microcode: 0xa9 }),
        (&new, Tcb { fmc: None, bootloader: 0, tee: 0, snp: 0, microcode: 0x1e }),
    ];
    for (der, tcb) in expected {
        let endorsed = Endorsed::of(&Certificate::parse(der).unwrap()).unwrap();
        assert_eq!(endorsed.hwid.as_deref(), Some(chip.as_slice()));
        assert_eq!(endorsed.tcb(), Some(tcb));
        let verdict = judge(&evidence(&report, "VCEK", der.clone()), JUNE_2025, true);
        assert_eq!(verdict.failure().unwrap().code, Code::AttestChainUntrusted);
        assert!(failed(&verdict).starts_with(&["certificate.chain"]));
    }
}

#[test]
fn an_altered_certificate_never_verifies() {
    let (Some(report), Some(vcek)) = (vector("snp/test-report.bin"), vector("snp/test-vcek.der")) else {
        return;
    };
    for at in (0..vcek.len()).step_by(7) {
        let mut bytes = vcek.clone();
        bytes[at] ^= 0x40;
        let verdict = judge(&evidence(&report, "VCEK", bytes), JUNE_2025, true);
        assert!(!verdict.ok(), "byte {at}");
    }
}

#[test]
fn a_remembered_chain_is_judged_anew() {
    let Some(text) = vector("snp/genoa-v3-evidence.json") else { return };
    let evidence = Evidence::parse(&text).unwrap();
    let report_data = evidence.report.report_data;
    let at = |now_unix| expecting(&report_data, now_unix);
    let cache = ChainCache::new(1);
    let roots = Roots::default();
    let cold = cached(&evidence, &roots, &at(JUNE_2025), &cache);
    assert_eq!(cache.len(), 1);
    assert_eq!(cached(&evidence, &roots, &at(JUNE_2025), &cache), cold);
    assert!(!cached(&evidence, &roots, &at(1_700_000_000), &cache).ok());
    let none = Roots { vendor: false, simulated: Vec::new() };
    assert!(!cached(&evidence, &none, &at(JUNE_2025), &cache).ok());
    let mut altered = evidence.report.to_bytes();
    altered[0x90] ^= 1;
    let altered = Evidence { report: Report::parse(&altered).unwrap(), ..evidence.clone() };
    assert_eq!(failed(&cached(&altered, &roots, &at(JUNE_2025), &cache)), ["report.signature"]);

    let (Some(report), Some(vcek)) = (vector("snp/test-report.bin"), vector("snp/test-vcek.der")) else {
        return;
    };
    let other = self::evidence(&report, "VCEK", vcek);
    cached(&other, &roots, &at(JUNE_2025), &cache);
    assert_eq!(cache.len(), 1, "the oldest made room");
}

/// Prints what one verification costs; the figures are for people, nothing is asserted of them.
#[test]
fn cost_of_a_verification() {
    let Some(text) = vector("snp/genoa-v3-evidence.json") else { return };
    let evidence = Evidence::parse(&text).unwrap();
    let report_data = evidence.report.report_data;
    let expectation = expecting(&report_data, JUNE_2025);
    for (name, capacity) in [("whole chain", 0), ("chain remembered", 4)] {
        let cache = ChainCache::new(capacity);
        let once = || assert!(cached(&evidence, &Roots::default(), &expectation, &cache).ok());
        once();
        let begin = std::time::Instant::now();
        (0..100).for_each(|_| once());
        println!("{name}: {:?}", begin.elapsed() / 100);
    }
}

#[test]
fn hostile_evidence_is_refused_in_words() {
    for (text, field) in [
        ("", "EOF"),
        ("[]", "attestation_report"),
        ("{}", "attestation_report"),
        (r#"{"attestation_report":{"version":3}}"#, "guest_svn"),
    ] {
        let error = Evidence::parse(text.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(field), "{error}");
    }
    assert!(Evidence::parse(&vec![b' '; 2 << 20]).is_err());
    assert!(matches!(Report::parse(&[0; 1183]), Err(crate::Error::ReportSize(1183))));
    assert!(matches!(Report::parse(&[0; 1184]), Err(crate::Error::ReportVersion(0))));
    assert!(matches!(Report::parse(&[9; 1184]), Err(crate::Error::ReportVersion(_))));

    let mut fields = ReportBuilder::new(0x19, 0x11, 1).fields;
    fields.cpuid_mod_id = None;
    assert!(Report::from_fields(&fields).is_err());
    fields.cpuid_mod_id = Some(0x50);
    assert_eq!(Report::from_fields(&fields), Err(crate::Error::Processor { family: 0x19, model: 0x50 }));
}

#[test]
fn too_many_or_too_long_certificates_are_refused() {
    let report = Report::from_fields(&ReportBuilder::new(0x19, 0x11, 1).fields).unwrap();
    let entry = |size| CertEntry { cert_type: "VCEK".to_owned(), data: vec![0; size] };
    let with = |n, size| Evidence { report: report.clone(), cert_chain: vec![entry(size); n] };
    assert!(Evidence::from_json(&with(16, 10).to_json()).is_ok());
    assert!(Evidence::from_json(&with(17, 10).to_json()).is_err());
    assert!(Evidence::from_json(&with(1, 16 * 1024 + 1).to_json()).is_err());
}

prop_compose! {
    /// A report whose reserved parts are zero, of any version and known processor.
    fn any_report()(
        bytes in proptest::collection::vec(any::<u8>(), Report::SIZE),
        version in 2u8..=5,
        processor in prop::sample::select(vec![(0x19u8, 0x01u8), (0x19, 0xa0), (0x1a, 0x02)]),
    ) -> Vec<u8> {
        let mut b = bytes;
        let mut zero = |from: usize, to: usize| b[from..to].fill(0);
        zero(0, 4);
        zero(0x4c, 0x50);
        zero(0x18b, 0x1a0);
        for tcb in [0x38, 0x180, 0x1e0, 0x1f0] {
            zero(tcb + 2, tcb + 7);
        }
        zero(0x1eb, 0x1ec);
        zero(0x1ef, 0x1f0);
        zero(0x208, 0x2a0);
        zero(0x330, 0x4a0);
        if version < 5 {
            zero(0x1f8, 0x208);
        }
        if version == 2 {
            zero(0x188, 0x18b);
        } else {
            b[0x188] = processor.0;
            b[0x189] = processor.1;
        }
        b[0] = version;
        b
    }
}

proptest! {
    #[test]
    fn every_report_survives_both_forms(bytes in any_report()) {
        let report = Report::parse(&bytes).unwrap();
        prop_assert_eq!(&report.to_bytes()[..], &bytes[..]);
        let again = Report::from_json(&report.to_json()).unwrap();
        prop_assert_eq!(&again, &report);
        prop_assert!(claims(&report).is_object());
    }

    #[test]
    fn any_bytes_are_parsed_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        let _ = Report::parse(&bytes);
        let _ = Evidence::parse(&bytes);
        let _ = Certificate::parse(&bytes);
    }

    #[test]
    fn almost_json_is_parsed_or_refused(
        bytes in any_report(), at in any::<prop::sample::Index>(), byte in any::<u8>()
    ) {
        let evidence = Evidence { report: Report::parse(&bytes).unwrap(), cert_chain: Vec::new() };
        let mut text = serde_json::to_vec(&evidence.to_json()).unwrap();
        let at = at.index(text.len());
        text[at] = byte;
        if let Ok(evidence) = Evidence::parse(&text) {
            prop_assert!(!judge(&evidence, JUNE_2025, true).ok());
        }
    }

    #[test]
    fn signatures_are_little_endian(r in any::<[u8; 16]>(), s in any::<[u8; 16]>()) {
        let wide = |v: [u8; 16]| { let mut out = [0; 48]; out[32..].copy_from_slice(&v); out };
        let (r, s) = (wide(r), wide(s));
        let signature = Signature::from_be(&r, &s);
        prop_assert_eq!(signature.r[0], r[47]);
        prop_assert_eq!(signature.to_be().unwrap(), <[u8; 96]>::try_from([r, s].concat()).unwrap());
    }
}
