//! Every rule and revocation, with a chain made here: AMD's cannot be made to revoke anything.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair};
use cocoon_stage::Code;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CustomExtension, DnType, IsCa,
    Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P384_SHA384, RevokedCertParams, SerialNumber,
    date_time_ymd,
};
use std::sync::Arc;

use super::*;
use crate::collateral::{Collateral, Document, Need};
use crate::{Expectation, Verdict};

/// 2026-01-01.
const NOW: u64 = 1_767_225_600;

struct Made {
    root: SimulatedRoot,
    vcek: Vec<u8>,
    key: EcdsaKeyPair,
    ark: (CertificateParams, KeyPair),
}

fn params(name: &str, serial: u64) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.serial_number = Some(SerialNumber::from(serial));
    params.not_before = date_time_ymd(2025, 1, 1);
    params.not_after = date_time_ymd(2030, 1, 1);
    params
}

fn authority(name: &str, serial: u64) -> (CertificateParams, KeyPair) {
    let mut params = params(name, serial);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    (params, KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap())
}

fn made() -> Made {
    let (ark, ark_key) = authority("SIMULATED ARK-Genoa", 1);
    let (ask, ask_key) = authority("SIMULATED SEV-Genoa", 2);
    let ark_der = ark.self_signed(&ark_key).unwrap().der().to_vec();
    let ark_issuer = Issuer::from_params(&ark, &ark_key);
    let ask_der = ask.signed_by(&ask_key, &ark_issuer).unwrap().der().to_vec();
    let mut leaf = params("SEV-VCEK", 3);
    let arcs = |last: &[u64]| [&[1, 3, 6, 1, 4, 1, 3704, 1], last].concat();
    let mut put = |last: &[u64], content: Vec<u8>| {
        leaf.custom_extensions.push(CustomExtension::from_oid_content(&arcs(last), content));
    };
    put(&[2], [&[0x16, 8][..], b"Genoa-B1"].concat());
    for (last, level) in [(1, 10), (2, 0), (3, 23), (8, 25)] {
        put(&[3, last], vec![2, 1, level]);
    }
    put(&[4], vec![9; 64]);
    let leaf_key = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
    let vcek = leaf.signed_by(&leaf_key, &Issuer::from_params(&ask, &ask_key)).unwrap().der().to_vec();
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, leaf_key.serialized_der()).unwrap();
    Made { root: SimulatedRoot { ark_der, ask_der }, vcek, key, ark: (ark, ark_key) }
}

impl Made {
    fn report(&self, change: impl FnOnce(&mut ReportFields)) -> Report {
        let mut builder = ReportBuilder::new(0x19, 0x11, 1);
        let f = &mut builder.fields;
        f.policy = 0x30000;
        f.chip_id = [9; 64];
        f.report_data = [5; 64];
        f.reported_tcb = Tcb { fmc: None, bootloader: 10, tee: 0, snp: 23, microcode: 25 };
        change(f);
        builder
            .sign_with(|signed| {
                let signature = self.key.sign(&SystemRandom::new(), signed).unwrap();
                let (r, s) = signature.as_ref().split_at(48);
                Ok::<_, crate::Error>((r.try_into().unwrap(), s.try_into().unwrap()))
            })
            .unwrap()
    }

    fn judge(&self, report: Report, rules: &Rules, collateral: &Collateral) -> Verdict {
        let chain = vec![CertEntry { cert_type: "VCEK".into(), data: self.vcek.clone() }];
        let evidence = Evidence { report, cert_chain: chain };
        let roots = Roots { vendor: true, simulated: vec![self.root.clone()] };
        let expectation = Expectation { report_data: Some(&[5; 64]), init_data_digest: None, now_unix: NOW };
        verify(&evidence, &roots, rules, collateral, &expectation)
    }

    fn crl(&self, serials: &[u64], by: &(CertificateParams, KeyPair)) -> Collateral {
        let revoked = serials.iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2025, 6, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2025, 12, 1),
            next_update: date_time_ymd(2026, 2, 1),
            crl_number: SerialNumber::from(7),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let der = list.signed_by(&Issuer::from_params(&by.0, &by.1)).unwrap().der().to_vec();
        let mut collateral = Collateral::none();
        let document = Document { body: der, issuer_chain: String::new() };
        collateral.insert(Need::AmdCrl { product: "Genoa".into(), vlek: false }, Arc::new(document));
        collateral
    }
}

fn failed(verdict: &Verdict) -> Vec<&'static str> {
    verdict.checks.iter().filter(|c| c.code.is_some()).map(|c| c.name).collect()
}

#[test]
fn every_rule_refuses_for_its_own_reason_and_only_then() {
    let made = made();
    let none = Collateral::none();
    let judged =
        |rules: &Rules, change: fn(&mut ReportFields)| failed(&made.judge(made.report(change), rules, &none));
    let ours = Rules::default();
    let nothing: [&str; 0] = [];
    assert_eq!(judged(&ours, |_| ()), nothing);
    assert_eq!(judged(&ours, |f| f.policy |= 1 << 19), ["report.debug"]);
    assert_eq!(judged(&ours, |f| f.policy &= !(1 << 17)), ["report.policy"]);
    assert_eq!(judged(&ours, |f| f.vmpl = 1), ["report.vmpl"]);
    assert_eq!(judged(&ours, |f| f.vmpl = 0xffff_ffff), ["report.vmpl"]);
    assert_eq!(judged(&ours, |f| f.chip_id = [0; 64]), ["certificate.chip-id"]);
    assert_eq!(judged(&ours, |f| f.reported_tcb.snp = 22), ["certificate.tcb"]);
    assert_eq!(judged(&ours, |f| f.key_info = 4), ["certificate.kind"]);
    assert_eq!(judged(&ours, |f| f.key_info = 7 << 2), ["certificate.kind"]);
    assert_eq!(judged(&ours, |f| f.sig_algo = 2), ["report.signature-algorithm"]);
    assert_eq!(judged(&ours, |f| f.cpuid_mod_id = Some(1)), ["certificate.product"]);

    let relaxed = Rules { allow_debug: true, max_vmpl: 2, allow_masked_chip_id: true, ..Rules::default() };
    let change: fn(&mut ReportFields) = |f| {
        f.policy |= 1 << 19;
        f.vmpl = 2;
        f.chip_id = [0; 64];
    };
    assert_eq!(judged(&relaxed, change), nothing);
    assert_eq!(judged(&relaxed, |f| f.vmpl = 3), ["report.vmpl"]);
    assert_eq!(judged(&relaxed, |f| f.chip_id = [8; 64]), ["certificate.chip-id"]);

    let migration = Rules { forbid_migration: true, ..Rules::default() };
    assert_eq!(judged(&migration, |_| ()), nothing);
    assert_eq!(judged(&migration, |f| f.policy |= 1 << 18), ["report.migration"]);
    assert_eq!(judged(&migration, |f| f.report_id_ma = [1; 32]), ["report.migration"]);

    let least = Tcb { fmc: None, bootloader: 10, tee: 0, snp: 24, microcode: 25 };
    let tcb = Rules { minimum_tcb: Some(least), ..Rules::default() };
    assert_eq!(judged(&tcb, |_| ()), ["report.tcb"]);
    let reached = Rules { minimum_tcb: Some(Tcb { snp: 23, ..least }), ..Rules::default() };
    assert_eq!(judged(&reached, |_| ()), nothing);
    let fmc = Rules { minimum_tcb: Some(Tcb { fmc: Some(0), snp: 0, ..least }), ..Rules::default() };
    assert_eq!(judged(&fmc, |_| ()), ["report.tcb"], "a level that this processor does not have");

    let svn = Rules { minimum_guest_svn: 2, ..Rules::default() };
    assert_eq!(judged(&svn, |f| f.guest_svn = 1), ["report.guest-svn"]);
    assert_eq!(judged(&svn, |f| f.guest_svn = 2), nothing);

    let bits = Rules {
        required_policy: 1 << 20,
        required_platform: 0b100000,
        forbidden_platform: 1,
        required_mitigations: 0b11,
        ..Rules::default()
    };
    let all =
        ["report.policy-bits", "report.platform", "report.launch-mitigations", "report.current-mitigations"];
    assert_eq!(judged(&bits, |f| f.plat_info = 1), all);
    let good: fn(&mut ReportFields) = |f| {
        f.version = 5;
        f.policy |= 1 << 20;
        f.plat_info = 0b100100;
        f.launch_mit_vector = Some(0b111);
        f.current_mit_vector = Some(0b11);
    };
    assert_eq!(judged(&bits, good), nothing);

    let keys = Rules { id_keys: vec![[7; 48]], author_keys: vec![[8; 48]], ..Rules::default() };
    assert_eq!(judged(&keys, |_| ()), ["report.id-key", "report.author-key"]);
    assert_eq!(judged(&keys, |f| f.id_key_digest = [7; 48]), ["report.author-key"]);
    let both: fn(&mut ReportFields) = |f| {
        f.id_key_digest = [7; 48];
        f.author_key_digest = [8; 48];
    };
    assert_eq!(judged(&keys, both), ["report.author-key"], "the report must say that it has one");
    let signed: fn(&mut ReportFields) = |f| {
        f.id_key_digest = [7; 48];
        f.author_key_digest = [8; 48];
        f.key_info = 1;
    };
    assert_eq!(judged(&keys, signed), nothing);
    let zero = Rules { id_keys: vec![[0; 48]], ..Rules::default() };
    assert_eq!(judged(&zero, |_| ()), ["report.id-key"], "no key is no key");
}

#[test]
fn revoked_certificates_are_refused() {
    let made = made();
    let strict = Rules { require_crl: true, ..Rules::default() };
    let judged = |rules: &Rules, collateral: &Collateral| {
        let verdict = made.judge(made.report(|_| ()), rules, collateral);
        (failed(&verdict), verdict.failure().map(|f| f.code))
    };
    let ours = Rules::default();
    assert_eq!(judged(&ours, &made.crl(&[], &made.ark)), (vec![], None));
    assert_eq!(judged(&strict, &made.crl(&[99], &made.ark)), (vec![], None));
    for serial in [1, 2] {
        let revoked = (vec!["certificate.revocation"], Some(Code::AttestRevoked));
        assert_eq!(judged(&ours, &made.crl(&[7, serial], &made.ark)), revoked, "serial {serial}");
    }
    // The leaf's serial is another issuer's business.
    assert_eq!(judged(&ours, &made.crl(&[3], &made.ark)), (vec![], None));
    let stranger = authority("SIMULATED ARK-Genoa", 1);
    let invalid = (vec!["certificate.revocation"], Some(Code::AttestCollateralInvalid));
    assert_eq!(judged(&ours, &made.crl(&[], &stranger)), invalid);
    let mut garbage = Collateral::none();
    let need = Need::AmdCrl { product: "Genoa".into(), vlek: false };
    garbage.insert(need, Arc::new(Document { body: vec![0x30, 3, 1, 2, 3], issuer_chain: String::new() }));
    assert_eq!(judged(&ours, &garbage), invalid);

    // Nobody publishes a list for a simulated chip; of a real one it is missed.
    assert_eq!(judged(&strict, &Collateral::none()), (vec![], None));
    if let Some(text) = crate::testing::vector("snp/genoa-v3-evidence.json") {
        let evidence = Evidence::parse(&text).unwrap();
        let expectation = Expectation { report_data: None, init_data_digest: None, now_unix: NOW };
        let verdict = verify(&evidence, &Roots::default(), &strict, &Collateral::none(), &expectation);
        assert_eq!(failed(&verdict), ["certificate.revocation"]);
        assert_eq!(verdict.failure().unwrap().code, Code::AttestCollateralMissing);
    }
    let verdict = made.judge(made.report(|_| ()), &ours, &made.crl(&[], &made.ark));
    assert_eq!(verdict.claims["revocation_list_expires"], 1_769_904_000);
    let verdict = made.judge(made.report(|_| ()), &ours, &Collateral::none());
    assert!(verdict.claims["revocation_list_expires"].is_null());
}

#[test]
fn what_the_evidence_lacks_is_named_and_taken_from_collateral() {
    let made = made();
    let mut evidence = Evidence { report: made.report(|_| ()), cert_chain: Vec::new() };
    let needs = needs(&evidence);
    assert_eq!(needs.len(), 2);
    let mut collateral = Collateral::none();
    collateral
        .insert(needs[1].clone(), Arc::new(Document { body: made.vcek.clone(), ..Document::default() }));
    let roots = Roots { vendor: true, simulated: vec![made.root.clone()] };
    let expectation = Expectation { report_data: Some(&[5; 64]), init_data_digest: None, now_unix: NOW };
    let rules = Rules::default();
    assert!(verify(&evidence, &roots, &rules, &collateral, &expectation).ok());
    let missing = verify(&evidence, &roots, &rules, &Collateral::none(), &expectation);
    assert_eq!(missing.failure().unwrap().code, Code::AttestCollateralMissing);
    // Nothing is asked of AMD for a chip that says it is simulated, nor for one that hides its id.
    evidence.cert_chain.push(CertEntry { cert_type: "VCEK".into(), data: made.vcek.clone() });
    assert!(super::needs(&evidence).is_empty());
    let masked = Evidence { report: made.report(|f| f.chip_id = [0; 64]), cert_chain: Vec::new() };
    assert_eq!(super::needs(&masked), [Need::AmdCrl { product: "Genoa".into(), vlek: false }]);
}
