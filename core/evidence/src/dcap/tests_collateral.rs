//! Collateral that is missing, altered, old, of others, revoked or signed by others: each is refused for its own reason.

use std::sync::Arc;

use cocoon_stage::Code;

use super::simulator::{FMSPC, Plan, Platform, Rogue};
use super::testing::{JUNE_2025, failed, sgx_collateral, tdx_collateral, vector};
use super::verify::{Outcome, verify};
use super::*;
use crate::Check;
use crate::collateral::{Collateral, Document, IntelTee, Need, PckCa};

const MONTH: u64 = 30 * 86_400;

fn real() -> Option<(Quote, Collateral)> {
    Some((Quote::parse(&vector("tdx/tdx_quote")?).unwrap(), tdx_collateral()?))
}

fn codes(checks: &[Check]) -> Vec<(&'static str, Code)> {
    checks.iter().filter_map(|c| Some((c.name, c.code?))).collect()
}

/// The collateral with one document replaced, or left out.
fn with(
    collateral: &Collateral,
    need: &Need,
    change: impl FnOnce(Document) -> Option<Document>,
) -> Collateral {
    let mut out = Collateral::none();
    for (n, document) in collateral.iter().filter(|(n, _)| *n != need) {
        out.insert(n.clone(), Arc::new(document.clone()));
    }
    if let Some(document) = change(collateral.get(need).unwrap().clone()) {
        out.insert(need.clone(), Arc::new(document));
    }
    out
}

fn prefix(need: &Need) -> &'static str {
    match need {
        Need::IntelRootCrl => "root-crl",
        Need::IntelPckCrl { .. } => "pck-crl",
        Need::IntelTcbInfo { .. } => "tcb-info",
        _ => "qe-identity",
    }
}

#[test]
fn documents_tell_when_the_next_is_due() {
    let Some((quote, all)) = real() else { return };
    for need in needs(&quote) {
        let window = update_window(&need, all.get(&need).unwrap()).unwrap();
        assert!(window.contains(JUNE_2025) && !window.contains(JUNE_2025 + 12 * MONTH), "{need:?}");
        assert!(update_window(&need, &Document::default()).is_err());
    }
    let other = Need::AmdCrl { product: "Genoa".to_owned(), vlek: false };
    assert!(update_window(&other, &Document::default()).is_err());
}

#[test]
fn every_document_is_required() {
    let Some((quote, all)) = real() else { return };
    let trust = Trust::default();
    assert_eq!(failed(&verify(&quote, &trust, &all, JUNE_2025).checks), [""; 0]);
    assert_eq!(needs(&quote).len(), 4);
    for need in needs(&quote) {
        let without = with(&all, &need, |_| None);
        let checks = verify(&quote, &trust, &without, JUNE_2025).checks;
        let name = format!("{}.document", prefix(&need));
        let failures = codes(&checks);
        assert_eq!(failures[0], (&*name.leak(), Code::AttestCollateralMissing), "{need:?}");
        assert!(failures.iter().all(|(_, code)| *code == Code::AttestCollateralMissing), "{failures:?}");
    }
    let checks = verify(&quote, &trust, &Collateral::none(), JUNE_2025).checks;
    assert!(failed(&checks).iter().filter(|name| name.ends_with(".document")).count() == 4);
    assert!(failed(&checks).contains(&"pck.revocation") && failed(&checks).contains(&"pck-ca.revocation"));
}

#[test]
fn truncated_and_altered_documents_are_refused() {
    let Some((quote, all)) = real() else { return };
    let trust = Trust::default();
    for need in needs(&quote) {
        let length = all.get(&need).unwrap().body.len();
        for cut in [0, 1, length / 3, length - 1] {
            let cut = with(&all, &need, |mut d| {
                d.body.truncate(cut);
                Some(d)
            });
            let checks = verify(&quote, &trust, &cut, JUNE_2025).checks;
            let name = format!("{}.document", prefix(&need));
            assert!(codes(&checks).contains(&(&*name.leak(), Code::AttestCollateralInvalid)), "{need:?}");
        }
        for at in (0..length).step_by(7) {
            let altered = with(&all, &need, |mut d| {
                d.body[at] ^= 1 << (at % 7);
                Some(d)
            });
            let outcome = verify(&quote, &trust, &altered, JUNE_2025);
            // Hex digits may be written in capitals; everything else is covered.
            let (was, is) = (all.get(&need).unwrap().body[at], altered.get(&need).unwrap().body[at]);
            let same = was.eq_ignore_ascii_case(&is);
            assert_eq!(failed(&outcome.checks).is_empty(), same, "{need:?} at {at}: {was} {is}");
        }
    }
    assert!(trust.cache.len().1 < 200, "bounded");
}

#[test]
fn issuer_chains_must_be_those_of_the_root() {
    let Some((quote, all)) = real() else { return };
    let trust = Trust::default();
    let other = Plan::new(IntelTee::Tdx).build().collateral;
    let other = other.get(&Need::IntelQeIdentity { tee: IntelTee::Tdx }).unwrap().issuer_chain.clone();
    for need in needs(&quote).into_iter().filter(|need| *need != Need::IntelRootCrl) {
        let pck = all.get(&Need::IntelPckCrl { ca: PckCa::Platform }).unwrap().issuer_chain.clone();
        let tcb = all.get(&Need::IntelQeIdentity { tee: IntelTee::Tdx }).unwrap().issuer_chain.clone();
        let wrong = if need == (Need::IntelPckCrl { ca: PckCa::Platform }) { tcb } else { pck };
        let long = format!("{}{}", all.get(&need).unwrap().issuer_chain, " ".repeat(32 * 1024));
        for chain in [other.clone(), wrong, long, "garbage".to_owned()] {
            let changed = with(&all, &need, |d| Some(Document { issuer_chain: chain, ..d }));
            let checks = verify(&quote, &trust, &changed, JUNE_2025).checks;
            let name = format!("{}.chain", prefix(&need));
            assert!(codes(&checks).contains(&(&*name.leak(), Code::AttestCollateralInvalid)), "{need:?}");
        }
    }
}

#[test]
fn documents_of_others_are_refused() {
    let (Some((quote, all)), Some(sgx)) = (real(), sgx_collateral()) else { return };
    let tcb_info = Need::IntelTcbInfo { tee: IntelTee::Tdx, fmspc: "b0c06f000000".to_owned() };
    let theirs = Need::IntelTcbInfo { tee: IntelTee::Sgx, fmspc: "00a067110000".to_owned() };
    let swapped = with(&all, &tcb_info, |_| sgx.get(&theirs).cloned());
    let checks = verify(&quote, &Trust::default(), &swapped, JUNE_2025).checks;
    assert!(failed(&checks).contains(&"tcb-info.platform"), "{:?}", failed(&checks));
    let identity = |tee| Need::IntelQeIdentity { tee };
    let swapped = with(&all, &identity(IntelTee::Tdx), |_| sgx.get(&identity(IntelTee::Sgx)).cloned());
    let checks = verify(&quote, &Trust::default(), &swapped, JUNE_2025).checks;
    assert_eq!(failed(&checks), ["qe-identity.tee", "qe.mrsigner", "qe.product", "tcb.status"][..3]);
    // A TDX document of another family, signed by Intel as well.
    let Some(body) = vector("tdx/tcbInfo.json") else { return };
    let other = with(&all, &tcb_info, |d| Some(Document { body, ..d }));
    let november = 1_761_700_000;
    let checks = verify(&quote, &Trust::default(), &other, november).checks;
    assert_eq!(
        codes(&checks)[0],
        ("tcb-info.platform", Code::AttestCollateralInvalid),
        "its signature is good"
    );
    let Some(body) = vector("tdx/enclaveIdentity.json") else { return };
    let newer = with(&all, &identity(IntelTee::Tdx), |d| Some(Document { body, ..d }));
    let checks = verify(&quote, &Trust::default(), &newer, 1_761_700_000).checks;
    assert!(!failed(&checks).iter().any(|name| name.starts_with("qe-identity")), "{:?}", failed(&checks));
    let other = Need::IntelPckCrl { ca: PckCa::Platform };
    let theirs = Need::IntelPckCrl { ca: PckCa::Processor };
    let swapped = with(&all, &other, |_| sgx.get(&theirs).cloned());
    let checks = verify(&quote, &Trust::default(), &swapped, JUNE_2025).checks;
    assert_eq!(failed(&checks), ["pck-crl.chain", "pck-crl.signature", "pck.revocation"]);
}

#[test]
fn old_collateral_is_refused_but_within_a_grace() {
    let Some((quote, all)) = real() else { return };
    let later = JUNE_2025 + MONTH;
    let updates = ["pck-crl.update", "tcb-info.update", "qe-identity.update"];
    let checks = verify(&quote, &Trust::default(), &all, later).checks;
    assert_eq!(failed(&checks), updates);
    assert!(codes(&checks).iter().all(|(_, code)| *code == Code::AttestCollateralInvalid));
    let rules = Rules { collateral_grace_seconds: MONTH, ..Rules::default() };
    let trust = Trust { rules, ..Trust::default() };
    let outcome = verify(&quote, &trust, &all, later);
    assert_eq!(failed(&outcome.checks), [""; 0]);
    assert_eq!(outcome.claims["collateral_expiration_status"], "1");
    let outcome = verify(&quote, &trust, &all, JUNE_2025);
    assert_eq!(outcome.claims["collateral_expiration_status"], "0");
    assert_eq!(trust.cache.len(), (1, 1), "remembered, and judged anew each time");
    assert_eq!(failed(&verify(&quote, &trust, &all, later + MONTH).checks), updates);
    // Before it was issued there is no grace.
    let before = verify(&quote, &trust, &all, JUNE_2025 - MONTH).checks;
    assert_eq!(failed(&before), updates);
    // The signing certificate of the vectors ends in 2032, after the PCK certificate.
    let rules = Rules { collateral_grace_seconds: u64::MAX, ..Rules::default() };
    let trust = Trust { rules, ..Trust::default() };
    let checks = verify(&quote, &trust, &all, 1_998_000_000).checks;
    assert!(
        codes(&checks).contains(&("tcb-info.signer-validity", Code::AttestCertificateExpired)),
        "{checks:?}"
    );
    assert!(codes(&checks).contains(&("pck.validity", Code::AttestCertificateExpired)));
}

fn run(platform: &Platform) -> Outcome {
    let quote = Quote::parse(&platform.quote).unwrap();
    verify(&quote, &platform.trust, &platform.collateral, JUNE_2025)
}

fn rogue(rogue: Rogue) -> Vec<&'static str> {
    failed(&run(&Plan { rogue, ..Plan::new(IntelTee::Tdx) }.build()).checks)
}

#[test]
fn rogues_of_every_kind_are_found() {
    for tee in [IntelTee::Tdx, IntelTee::Sgx] {
        let outcome = run(&Plan::new(tee).build());
        assert_eq!(failed(&outcome.checks), [""; 0], "{:#?}", outcome.checks);
        assert!(outcome.simulated, "an extra root is never Intel's");
        assert_eq!(outcome.claims["simulated"], true);
    }
    let chains = ["tcb-info.chain", "qe-identity.chain", "tcb.status"];
    for signer in [
        Rogue::SignerIsAuthority,
        Rogue::SignerUnderAuthority,
        Rogue::SignerNamedOtherwise,
        Rogue::PckSignsJson,
    ] {
        assert_eq!(rogue(signer), chains, "{signer:?}");
    }
    assert_eq!(rogue(Rogue::OtherAttestationKey), ["qe.report-data"]);
    assert_eq!(rogue(Rogue::OtherPckKey), ["qe.report-signature"]);
    let crl = rogue(Rogue::OtherCrlKey);
    assert_eq!(
        crl,
        [
            "root-crl.signature",
            "pck-ca.revocation",
            "tcb-info.signer-revocation",
            "qe-identity.signer-revocation"
        ]
    );
    assert_eq!(rogue(Rogue::PckNamedOtherwise), ["pck.chain", "qe.report-signature"]);
    assert_eq!(rogue(Rogue::PckIsAuthority), ["pck.chain", "qe.report-signature"]);
}

#[test]
fn a_simulated_platform_needs_its_root() {
    let mut platform = Plan::new(IntelTee::Tdx).build();
    platform.trust.roots.extra.clear();
    let outcome = run(&platform);
    assert!(outcome.simulated && outcome.claims.is_empty());
    assert_eq!(codes(&outcome.checks)[0], ("pck.chain", Code::AttestSimulatedRefused));
    // Another platform's collateral, signed under its own root of the same name.
    let other = Plan::new(IntelTee::Tdx).build();
    let mut platform = Plan::new(IntelTee::Tdx).build();
    platform.trust.roots.extra.extend(other.trust.roots.extra.iter().cloned());
    assert_eq!(failed(&run(&platform).checks), [""; 0]);
    platform.collateral = other.collateral;
    let names = failed(&run(&platform).checks);
    for name in
        ["root-crl.signature", "pck-crl.signature", "tcb-info.chain", "qe-identity.chain", "pck.revocation"]
    {
        assert!(names.contains(&name), "{name} in {names:?}");
    }
}

#[test]
fn a_simulated_root_does_not_vouch_for_real_platforms() {
    let Some((quote, all)) = real() else { return };
    let simulated = Plan::new(IntelTee::Tdx).build();
    let trust = Trust { roots: simulated.trust.roots, ..Trust::default() };
    let outcome = verify(&quote, &trust, &all, JUNE_2025);
    assert!(failed(&outcome.checks).is_empty() && !outcome.simulated, "Intel's collateral is still good");
    let identity = Need::IntelQeIdentity { tee: IntelTee::Tdx };
    let theirs = with(&all, &identity, |_| simulated.collateral.get(&identity).cloned());
    let checks = verify(&quote, &trust, &theirs, JUNE_2025).checks;
    assert_eq!(failed(&checks), ["qe-identity.chain", "tcb.status"]);
}

#[test]
fn what_is_known_of_one_platform_does_not_count_for_another() {
    // One family and one set of documents, but another provisioning enclave than the documents are for.
    let good = Plan::new(IntelTee::Tdx).build();
    let trust = Trust { cache: Cache::default(), ..good.trust };
    let quote = Quote::parse(&good.quote).unwrap();
    assert_eq!(failed(&verify(&quote, &trust, &good.collateral, JUNE_2025).checks), [""; 0]);
    let chain = super::chain::verify(&quote.chain, &trust.roots, &trust.cache).ok().unwrap();
    let other = super::chain::PckChain {
        pck: Pck { pce_id: [0, 1], ..chain.pck.clone() },
        key: chain
            .leaf
            .key()
            .unwrap()
            .prepared(crate::x509::Scheme::EcdsaFixed(crate::x509::Hash::Sha256))
            .unwrap(),
        leaf: chain.leaf.clone(),
        authority: chain.authority.clone(),
        root: chain.root.clone(),
        ca: chain.ca,
        simulated: true,
    };
    let endorsed = super::endorse::endorse(&other, IntelTee::Tdx, &good.collateral, &trust.cache);
    assert_eq!(failed(&endorsed.checks), ["tcb-info.platform"]);
    assert_eq!(trust.cache.len(), (1, 1));
}

#[test]
fn revoked_certificates_are_refused() {
    let plan = Plan::new(IntelTee::Tdx);
    for (plan, names) in [
        (Plan { revoke_pck: true, ..plan.clone() }, vec!["pck.revocation"]),
        (Plan { revoke_authority: true, ..plan.clone() }, vec!["pck-ca.revocation"]),
        (
            Plan { revoke_signer: true, ..plan },
            vec!["tcb-info.signer-revocation", "qe-identity.signer-revocation"],
        ),
    ] {
        let failures = codes(&run(&plan.build()).checks);
        let expected: Vec<_> = names.into_iter().map(|name| (name, Code::AttestRevoked)).collect();
        assert_eq!(failures, expected);
    }
}

#[test]
fn revocation_is_looked_at_although_the_collateral_is_known() {
    // The same chain and root, first with good lists, then with a newer list: the cache must not hide it.
    let good = Plan::new(IntelTee::Tdx).build();
    let quote = Quote::parse(&good.quote).unwrap();
    let trust = Trust { cache: Cache::default(), ..good.trust };
    assert_eq!(failed(&verify(&quote, &trust, &good.collateral, JUNE_2025).checks), [""; 0]);
    assert_eq!(trust.cache.len(), (1, 1));
    let need = Need::IntelPckCrl { ca: PckCa::Platform };
    let other = Plan { revoke_pck: true, ..Plan::new(IntelTee::Tdx) }.build().collateral;
    let newer = with(&good.collateral, &need, |d| {
        Some(Document { body: other.get(&need).unwrap().body.clone(), ..d })
    });
    assert_eq!(
        failed(&verify(&quote, &trust, &newer, JUNE_2025).checks),
        ["pck-crl.signature", "pck.revocation"]
    );
    // Other roots never find what was remembered under these.
    let trust = Trust { roots: Roots::default(), ..trust };
    assert_eq!(failed(&verify(&quote, &trust, &good.collateral, JUNE_2025).checks)[0], "pck.chain");
}

#[test]
fn tcb_information_must_be_of_the_platform() {
    let mut plan = Plan::new(IntelTee::Tdx);
    plan.pce_id = [0, 1];
    assert_eq!(failed(&run(&plan.build()).checks), ["tcb-info.platform"]);
    let mut plan = Plan::new(IntelTee::Sgx);
    plan.tcb_info["fmspc"] = serde_json::json!("0102030405FF");
    assert_eq!(failed(&run(&plan.build()).checks), ["tcb-info.platform"]);
    assert_ne!(hex::encode(FMSPC), "0102030405ff");
}
