//! Every rule that an SNP report must meet, each a node of the verdict.

use std::sync::Arc;

use aws_lc_rs::signature::ParsedPublicKey;
use cocoon_stage::Code;
use serde_json::{Value, json};

use super::cache::ChainCache;
use super::certificate::{Certificate, Endorsed};
use super::claims::claims;
use super::collateral::{Authority, Kind, Roots, SIMULATED_MARK, SimulatedRoot, vendor};
use super::evidence::{CertEntry, Evidence};
use super::report::Report;
use super::tcb::{Generation, Layout};
use crate::expectation::padded;
use crate::{Check, Error, Verdict};

const ABI: &str = "AMD 56860, ATTESTATION_REPORT";
const KDS: &str = "AMD 57230, VCEK certificate";
const CALLER: &str = "the challenge";
const INITDATA: &str = "the presented initdata";

/// What the relying party expects of the report.
#[derive(Clone, Debug)]
pub struct Expectation<'a> {
    /// At most 64 bytes that must stand in REPORT_DATA, zero-padded. Must not be empty.
    pub report_data: &'a [u8],
    /// Digest of the initdata presented, if any was: HOST_DATA must be its first 32 bytes, zero-padded. With `None` nothing
    /// is said of HOST_DATA; the claim `init_data` tells what it is.
    pub init_data_digest: Option<&'a [u8]>,
    /// Now, Unix seconds.
    pub now_unix: u64,
    /// Accept version 2 reports, which do not name their processor. Off in production.
    pub allow_v2: bool,
}

/// A leaf and the chain it was verified to; what [`ChainCache`] remembers.
pub(super) struct Endorsement {
    leaf: Leaf,
    chain: Chain,
}

struct Leaf {
    key: ParsedPublicKey,
    endorsed: Endorsed,
    subject: String,
    validity: (u64, u64),
}

struct Chain {
    kind: Kind,
    generation: Generation,
    simulated: bool,
    issuer: (String, (u64, u64)),
    root: (String, (u64, u64)),
}

/// Verifies evidence without remembering chains. See [`verify_cached`].
pub fn verify(evidence: &Evidence, roots: &Roots, expectation: &Expectation<'_>) -> Verdict {
    verify_cached(evidence, roots, expectation, &ChainCache::new(0))
}

/// Verifies evidence: report, certificate chain to a trusted root, and that both belong to each other and to the challenge.
///
/// The verdict lists every check; claims are given only when all passed.
pub fn verify_cached(
    evidence: &Evidence,
    roots: &Roots,
    expectation: &Expectation<'_>,
    cache: &ChainCache,
) -> Verdict {
    let report = &evidence.report;
    let mut checks = vec![version(report, expectation.allow_v2)];
    let mut simulated = false;
    match endorse(evidence, roots, cache) {
        Found::Endorsed(endorsement) => {
            let Endorsement { leaf, chain } = endorsement.as_ref();
            simulated = chain.simulated;
            checks.push(chain_check(true, format!("{} from {}", chain.issuer.0, chain.root.0)));
            checks.push(signature(report, Some(&leaf.key)));
            checks.extend(validities(leaf, chain, expectation.now_unix));
            checks.push(signing_key(report, leaf, chain));
            checks.push(product(report, leaf, chain));
            checks.extend(chip(report, leaf, chain));
            checks.push(tcb(report, leaf));
        }
        Found::Untrusted { leaf, issuer, named_simulated } => {
            simulated = named_simulated;
            let mut check = chain_check(false, format!("issued by {issuer}"));
            if named_simulated && roots.simulated.is_empty() {
                check.code = Some(Code::AttestSimulatedRefused);
            }
            checks.push(check);
            checks.push(signature(report, Some(&leaf.key)));
            checks.push(tcb(report, &leaf));
        }
        Found::Nothing(error) => {
            let code = match error {
                None => Code::AttestChainUntrusted,
                Some(_) => Code::AttestEvidenceMalformed,
            };
            let got = error.map_or("no such certificate".to_owned(), |e| e.to_string());
            checks.push(Check::new("certificate.chain", false, code, "a VCEK or VLEK", got, KDS));
            checks.push(signature(report, None));
        }
    }
    checks.extend(contents(report, expectation));
    let mut verdict = Verdict { checks, claims: Value::Null, simulated };
    if verdict.ok() {
        verdict.claims = claims(report);
        if let Value::Object(map) = &mut verdict.claims {
            map.insert("simulated".to_owned(), json!(simulated));
        }
    }
    verdict
}

enum Found {
    Endorsed(Arc<Endorsement>),
    Untrusted { leaf: Leaf, issuer: String, named_simulated: bool },
    Nothing(Option<Error>),
}

/// Finds the leaf among the evidence's certificates and verifies its chain.
fn endorse(evidence: &Evidence, roots: &Roots, cache: &ChainCache) -> Found {
    let Some(entry) = leaf_entry(evidence) else { return Found::Nothing(None) };
    let key = ChainCache::key(&entry.data, roots);
    if let Some(known) = cache.get(&key) {
        return Found::Endorsed(known);
    }
    let (certificate, leaf) = match Certificate::parse(&entry.data).and_then(|c| Leaf::of(&c).map(|l| (c, l)))
    {
        Ok(both) => both,
        Err(error) => return Found::Nothing(Some(error)),
    };
    let vendors = vendor().iter().filter(|_| roots.vendor);
    let simulated: Vec<Authority> =
        roots.simulated.iter().filter_map(|root| SimulatedRoot::authority(root).ok()).collect();
    match vendors.chain(&simulated).find(|authority| certificate.is_issued_by(&authority.issuer)) {
        Some(authority) => {
            let endorsement = Arc::new(Endorsement { leaf, chain: Chain::of(authority) });
            cache.put(key, endorsement.clone());
            Found::Endorsed(endorsement)
        }
        None => {
            let issuer = printable(certificate.issuer());
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
            key: certificate.p384_key()?,
            endorsed: certificate.endorsed()?,
            subject: printable(certificate.subject()),
            validity: certificate.validity(),
        })
    }
}

impl Chain {
    fn of(authority: &Authority) -> Self {
        let of = |c: &Certificate| (printable(c.subject()), c.validity());
        Chain {
            kind: authority.kind,
            generation: authority.generation,
            simulated: authority.simulated,
            issuer: of(&authority.issuer),
            root: of(&authority.root),
        }
    }
}

/// A name from a hostile certificate, fit to print.
fn printable(name: &str) -> String {
    name.chars().take(64).map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' }).collect()
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

fn signature(report: &Report, key: Option<&ParsedPublicKey>) -> Check {
    let valid = match (key, report.signature.to_be()) {
        (Some(key), Some(signature)) => key.verify_sig(report.signed_bytes(), &signature).is_ok(),
        _ => false,
    };
    let got = match (key, valid) {
        (None, _) => "no certificate to verify it with",
        (_, true) => "valid",
        (_, false) => "invalid",
    };
    let code = Code::AttestSignatureInvalid;
    Check::new("report.signature", valid, code, "ECDSA P-384 by the certificate's key", got, ABI)
}

fn validities(leaf: &Leaf, chain: &Chain, now: u64) -> [Check; 3] {
    let check = |name, subject: &str, (from, until): (u64, u64)| {
        let ok = (from..=until).contains(&now);
        let expected = format!("{subject} valid at {now}");
        let code = Code::AttestCertificateExpired;
        Check::new(name, ok, code, expected, format!("valid from {from} until {until}"), "RFC 5280, 4.1.2.5")
    };
    [
        check("certificate.validity", &leaf.subject, leaf.validity),
        check("intermediate.validity", &chain.issuer.0, chain.issuer.1),
        check("root.validity", &chain.root.0, chain.root.1),
    ]
}

/// The report says which kind of key signed it; issuer and subject of the certificate must be of that kind.
fn signing_key(report: &Report, leaf: &Leaf, chain: &Chain) -> Check {
    let kind = signing_kind(report);
    let ok = kind == Some(chain.kind) && leaf.subject.starts_with(&format!("SEV-{}", chain.kind.name()));
    let expected = kind.map_or("a signed report".to_owned(), |k| format!("a {} (key_info)", k.name()));
    let got = format!("{} issued as {}", leaf.subject, chain.kind.name());
    Check::new("certificate.kind", ok, Code::AttestSignatureInvalid, expected, got, ABI)
}

/// The processor in the report, the root's generation and the certificate's product name must be the same.
fn product(report: &Report, leaf: &Leaf, chain: &Chain) -> Check {
    let named = leaf.endorsed.product.as_deref().unwrap_or_default();
    let of_chain = chain.generation;
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
fn chip(report: &Report, leaf: &Leaf, chain: &Chain) -> Option<Check> {
    if chain.kind == Kind::Vlek {
        return None;
    }
    let ok = leaf.endorsed.hwid.as_deref().is_some_and(|hwid| {
        let length = if chain.generation.layout() == Layout::Turin { 8 } else { 64 };
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

/// Rules on the report's own fields.
fn contents(report: &Report, expectation: &Expectation<'_>) -> Vec<Check> {
    let algorithm = Check::new(
        "report.signature-algorithm",
        report.sig_algo == 1,
        Code::AttestSignatureInvalid,
        "1 (ECDSA P-384 with SHA-384)",
        report.sig_algo.to_string(),
        ABI,
    );
    let debug = report.policy & (1 << 19) != 0;
    let mut checks = vec![
        algorithm,
        Check::new(
            "report.report-data",
            expectation.report_data.len() <= 64
                && padded(expectation.report_data) == Some(report.report_data),
            Code::AttestReportDataMismatch,
            hex::encode(expectation.report_data),
            hex::encode(report.report_data),
            CALLER,
        ),
    ];
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
    checks.push(Check::new(
        "report.debug",
        !debug,
        Code::AttestDebugEnabled,
        "forbidden",
        if debug { "allowed" } else { "forbidden" },
        ABI,
    ));
    checks.push(Check::new(
        "report.vmpl",
        report.vmpl == 0,
        Code::AttestPrivilegeLevel,
        "0",
        report.vmpl.to_string(),
        ABI,
    ));
    checks
}
