//! Every rule that an SNP report must meet, each a node of the verdict.

use std::sync::Arc;

use aws_lc_rs::signature::ParsedPublicKey;
use cocoon_stage::Code;
use serde_json::{Value, json};

use super::cache::ChainCache;
use super::certificate::{Endorsed, p384_key};
use super::claims::claims;
use super::collateral::{Authority, Kind, Roots, SIMULATED_MARK, SimulatedRoot, vendor};
use super::evidence::{CertEntry, Evidence};
use super::report::Report;
use super::revocation::{self, Revocation};
use super::rules::Rules;
use super::tcb::Layout;
use crate::collateral::{Collateral, Need};
use crate::expectation::padded;
use crate::x509::{Certificate, Validity};
use crate::{Check, Error, Expectation, Verdict};

const ABI: &str = "AMD 56860, ATTESTATION_REPORT";
pub(super) const KDS: &str = "AMD 57230, VCEK certificate";
const CALLER: &str = "the challenge";
const INITDATA: &str = "the presented initdata";

/// A leaf and the chain it was verified to; what [`ChainCache`] remembers.
pub(super) struct Endorsement {
    leaf: Leaf,
    authority: Arc<Authority>,
    revocation: Revocation,
}

struct Leaf {
    key: ParsedPublicKey,
    endorsed: Endorsed,
    subject: String,
    validity: Validity,
}

/// What the vendor publishes of the platform and the evidence does not bring: the chip's certificate where none was sent
/// along, and the list of revoked certificates. Nothing for a simulated chip, which no vendor knows.
pub fn needs(evidence: &Evidence) -> Vec<Need> {
    let report = &evidence.report;
    let Some(generation) = report.generation() else { return Vec::new() };
    let product = generation.name().to_owned();
    let mut needs = vec![crl_need(report, product.clone())];
    match leaf_entry(evidence) {
        Some(entry) => {
            let simulated =
                Certificate::parse(&entry.data).is_ok_and(|c| c.issuer().contains(SIMULATED_MARK));
            if simulated {
                return Vec::new();
            }
        }
        None if signing_kind(report) == Some(Kind::Vcek) => needs.extend(vcek_need(report, product)),
        None => {}
    }
    needs
}

/// AMD has a list for each kind of key.
fn crl_need(report: &Report, product: String) -> Need {
    Need::AmdCrl { product, vlek: signing_kind(report) == Some(Kind::Vlek) }
}

/// The certificate's name at AMD's key distribution service; `None` for a report whose chip id is masked.
fn vcek_need(report: &Report, product: String) -> Option<Need> {
    let length = if report.layout() == Layout::Turin { 8 } else { 64 };
    let chip_id = report.chip_id.get(..length).filter(|id| id.iter().any(|b| *b != 0))?;
    Some(Need::AmdVcek { product, chip_id: hex::encode(chip_id), tcb: report.reported_tcb })
}

/// Verifies evidence without remembering chains. See [`verify_cached`].
pub fn verify(
    evidence: &Evidence,
    roots: &Roots,
    rules: &Rules,
    collateral: &Collateral,
    expectation: &Expectation<'_>,
) -> Verdict {
    verify_cached(evidence, roots, rules, collateral, expectation, &ChainCache::new(0))
}

/// Verifies evidence: report, certificate chain to a trusted root, and that both belong to each other and to the challenge.
///
/// Certificates of the evidence are used first, those of `collateral` where it brings none. REPORT_DATA must be the
/// expected bytes, at most 64, zero-padded; HOST_DATA the first 32 bytes of the initdata's digest, zero-padded. The
/// verdict lists every check; claims are given only when all passed.
pub fn verify_cached(
    evidence: &Evidence,
    roots: &Roots,
    rules: &Rules,
    collateral: &Collateral,
    expectation: &Expectation<'_>,
    cache: &ChainCache,
) -> Verdict {
    let report = &evidence.report;
    let mut checks = vec![version(report, rules.allow_v2)];
    let mut simulated = false;
    let mut listed_until = None;
    match endorse(evidence, roots, collateral, cache) {
        Found::Endorsed(endorsement, signed) => {
            let Endorsement { leaf, authority, revocation } = endorsement.as_ref();
            simulated = authority.simulated;
            listed_until = revocation.until();
            let chain = format!("{} from {}", authority.issuer.subject(), authority.root.subject());
            checks.push(chain_check(true, chain));
            checks.push(signature(Some(signed)));
            checks.extend(validities(leaf, authority, expectation.now_unix));
            checks.extend(revocation.check(rules, simulated, expectation.now_unix));
            checks.push(signing_key(report, leaf, authority));
            checks.push(product(report, leaf, authority));
            checks.extend(chip(report, leaf, authority, rules));
            checks.push(tcb(report, leaf));
        }
        Found::Untrusted { leaf, issuer, named_simulated } => {
            simulated = named_simulated;
            let mut check = chain_check(false, format!("issued by {issuer}"));
            if named_simulated && roots.simulated.is_empty() {
                check.code = Some(Code::AttestSimulatedRefused);
            }
            checks.push(check);
            checks.push(signature(Some(signs(report, &leaf.key))));
            checks.push(tcb(report, &leaf));
        }
        Found::Nothing(error) => {
            let (code, got) = match error {
                None => (Code::AttestCollateralMissing, "no such certificate".to_owned()),
                Some(error) => (Code::AttestEvidenceMalformed, error.to_string()),
            };
            checks.push(Check::new("certificate.chain", false, code, "a VCEK or VLEK", got, KDS));
            checks.push(signature(None));
        }
    }
    checks.extend(contents(report, expectation));
    checks.extend(rules.checks(report));
    let mut verdict = Verdict { checks, claims: Value::Null, simulated };
    if verdict.ok() {
        verdict.claims = claims(report);
        if let Value::Object(map) = &mut verdict.claims {
            map.insert("simulated".to_owned(), json!(simulated));
            map.insert("revocation_list_expires".to_owned(), json!(listed_until));
        }
    }
    verdict
}

enum Found {
    /// With it, whether its key signed the report.
    Endorsed(Arc<Endorsement>, bool),
    Untrusted {
        leaf: Leaf,
        issuer: String,
        named_simulated: bool,
    },
    Nothing(Option<Error>),
}

/// Finds the leaf among the evidence's certificates, else in the collateral, and verifies its chain.
fn endorse(evidence: &Evidence, roots: &Roots, collateral: &Collateral, cache: &ChainCache) -> Found {
    let report = &evidence.report;
    let product = report.generation().map(|g| g.name().to_owned());
    let fetched = || collateral.get(&vcek_need(report, product.clone()?)?).map(|d| d.body.as_slice());
    let Some(data) = leaf_entry(evidence).map(|e| e.data.as_slice()).or_else(fetched) else {
        return Found::Nothing(None);
    };
    let crl = product.clone().and_then(|product| collateral.get(&crl_need(report, product)));
    let crl = crl.map(|document| document.body.as_slice());
    let key = ChainCache::key(data, crl, roots);
    if let Some(known) = cache.get(&key) {
        let signed = signs(report, &known.leaf.key);
        return Found::Endorsed(known, signed);
    }
    let parsed = Certificate::parse(data).and_then(|c| Leaf::of(&c).map(|leaf| (c, leaf)));
    let (certificate, leaf) = match parsed {
        Ok(both) => both,
        Err(error) => return Found::Nothing(Some(error)),
    };
    let vendors = vendor().iter().filter(|_| roots.vendor).cloned();
    let simulated = roots.simulated.iter().filter_map(|r| SimulatedRoot::authority(r).ok()).map(Arc::new);
    match vendors.chain(simulated).find(|authority| certificate.is_issued_by(&authority.issuer)) {
        Some(authority) => {
            let revocation = revocation::judge(&certificate, &authority, crl);
            let endorsement = Arc::new(Endorsement { leaf, authority, revocation });
            // Only a chip that signs is remembered: certificates alone are for anybody to send.
            let signed = signs(report, &endorsement.leaf.key);
            if signed {
                cache.put(key, endorsement.clone());
            }
            Found::Endorsed(endorsement, signed)
        }
        None => {
            let issuer = certificate.issuer();
            let named_simulated = issuer.contains(SIMULATED_MARK);
            Found::Untrusted { leaf, issuer, named_simulated }
        }
    }
}

/// The certificate labelled as the kind of key the report says it was signed with; else the other kind.
fn leaf_entry(evidence: &Evidence) -> Option<&CertEntry> {
    let labelled = |label: &str| evidence.cert_chain.iter().find(|e| e.cert_type.eq_ignore_ascii_case(label));
    let (first, second) = match signing_kind(&evidence.report) {
        Some(Kind::Vlek) => ("VLEK", "VCEK"),
        _ => ("VCEK", "VLEK"),
    };
    labelled(first).or_else(|| labelled(second))
}

impl Leaf {
    fn of(certificate: &Certificate) -> Result<Self, Error> {
        Ok(Leaf {
            key: p384_key(certificate)?,
            endorsed: Endorsed::of(certificate)?,
            subject: certificate.subject(),
            validity: certificate.validity(),
        })
    }
}

fn signing_kind(report: &Report) -> Option<Kind> {
    match (report.key_info >> 2) & 7 {
        0 => Some(Kind::Vcek),
        1 => Some(Kind::Vlek),
        _ => None,
    }
}

fn version(report: &Report, allow_v2: bool) -> Check {
    let least = if allow_v2 { 2 } else { 3 };
    let ok = (least..=5).contains(&report.version);
    let code = Code::AttestEvidenceMalformed;
    Check::new("report.version", ok, code, format!("{least} to 5"), report.version.to_string(), ABI)
}

fn chain_check(ok: bool, got: String) -> Check {
    Check::new("certificate.chain", ok, Code::AttestChainUntrusted, "signed by a trusted root", got, KDS)
}

fn signs(report: &Report, key: &ParsedPublicKey) -> bool {
    let signature = report.signature.to_be();
    signature.is_some_and(|signature| key.verify_sig(report.signed_bytes(), &signature).is_ok())
}

fn signature(signed: Option<bool>) -> Check {
    let got = match signed {
        None => "no certificate to verify it with",
        Some(true) => "valid",
        Some(false) => "invalid",
    };
    let code = Code::AttestSignatureInvalid;
    let expected = "ECDSA P-384 by the certificate's key";
    Check::new("report.signature", signed == Some(true), code, expected, got, ABI)
}

fn validities(leaf: &Leaf, authority: &Authority, now: u64) -> [Check; 3] {
    let check = |name, subject: &str, validity: Validity| {
        let ok = validity.contains(now);
        let Validity { not_before: from, not_after: until } = validity;
        let expected = format!("{subject} valid at {now}");
        let code = Code::AttestCertificateExpired;
        Check::new(name, ok, code, expected, format!("valid from {from} until {until}"), "RFC 5280, 4.1.2.5")
    };
    [
        check("certificate.validity", &leaf.subject, leaf.validity),
        check("intermediate.validity", &authority.issuer.subject(), authority.issuer.validity()),
        check("root.validity", &authority.root.subject(), authority.root.validity()),
    ]
}

/// The report says which kind of key signed it; issuer and subject of the certificate must be of that kind.
fn signing_key(report: &Report, leaf: &Leaf, authority: &Authority) -> Check {
    let kind = signing_kind(report);
    let ok =
        kind == Some(authority.kind) && leaf.subject.starts_with(&format!("SEV-{}", authority.kind.name()));
    let expected = kind.map_or("a signed report".to_owned(), |k| format!("a {} (key_info)", k.name()));
    let got = format!("{} issued as {}", leaf.subject, authority.kind.name());
    Check::new("certificate.kind", ok, Code::AttestSignatureInvalid, expected, got, ABI)
}

/// The processor in the report, the root's generation and the certificate's product name must be the same.
fn product(report: &Report, leaf: &Leaf, authority: &Authority) -> Check {
    let named = leaf.endorsed.product.as_deref().unwrap_or_default();
    let of_chain = authority.generation;
    let same = match report.generation() {
        Some(of_report) => of_report == of_chain,
        // Version 2 names no processor; its TCB layout is all there is to compare.
        None => report.version == 2 && report.layout() == of_chain.layout(),
    };
    let ok = same && named.starts_with(of_chain.name());
    let expected = report.generation().map_or("the report's processor".to_owned(), |g| g.to_string());
    let got = format!("{named} under the {of_chain} root");
    Check::new("certificate.product", ok, Code::AttestChainUntrusted, expected, got, KDS)
}

/// A VCEK belongs to one chip. A VLEK belongs to a provider's fleet and names none, so there is nothing to check.
fn chip(report: &Report, leaf: &Leaf, authority: &Authority, rules: &Rules) -> Option<Check> {
    if authority.kind == Kind::Vlek {
        return None;
    }
    if rules.allow_masked_chip_id && report.chip_id == [0; 64] {
        let code = Code::AttestChainUntrusted;
        return Some(Check::new("certificate.chip-id", true, code, "the chip's id or none", "masked", KDS));
    }
    let ok = leaf.endorsed.hwid.as_deref().is_some_and(|hwid| {
        let length = if authority.generation.layout() == Layout::Turin { 8 } else { 64 };
        let (head, tail) = report.chip_id.split_at_checked(hwid.len()).unwrap_or_default();
        hwid.len() == length && head == hwid && tail.iter().all(|b| *b == 0) && hwid.iter().any(|b| *b != 0)
    });
    let got = leaf.endorsed.hwid.as_ref().map_or("no chip id".to_owned(), hex::encode);
    let code = Code::AttestChainUntrusted;
    Some(Check::new("certificate.chip-id", ok, code, hex::encode(report.chip_id), got, KDS))
}

/// The key is derived from the reported TCB, so the certificate must be for just that.
fn tcb(report: &Report, leaf: &Leaf) -> Check {
    let of_certificate = leaf.endorsed.tcb();
    let ok = of_certificate == Some(report.reported_tcb);
    let got = of_certificate.map_or("not all levels named".to_owned(), |t| t.to_string());
    let code = Code::AttestChainUntrusted;
    Check::new("certificate.tcb", ok, code, report.reported_tcb.to_string(), got, KDS)
}

/// What the report must carry of the caller's.
fn contents(report: &Report, expectation: &Expectation<'_>) -> Vec<Check> {
    let mut checks = vec![Check::new(
        "report.signature-algorithm",
        report.sig_algo == 1,
        Code::AttestSignatureInvalid,
        "1 (ECDSA P-384 with SHA-384)",
        report.sig_algo.to_string(),
        ABI,
    )];
    if let Some(data) = expectation.report_data {
        checks.push(Check::new(
            "report.report-data",
            data.len() <= 64 && padded(data) == Some(report.report_data),
            Code::AttestReportDataMismatch,
            hex::encode(data.get(..64).unwrap_or(data)),
            hex::encode(report.report_data),
            CALLER,
        ));
    }
    if let Some(digest) = expectation.init_data_digest {
        checks.push(Check::new(
            "report.host-data",
            padded(digest) == Some(report.host_data),
            Code::AttestInitdataMismatch,
            padded::<32>(digest).map_or("a digest".to_owned(), hex::encode),
            hex::encode(report.host_data),
            INITDATA,
        ));
    }
    checks
}
