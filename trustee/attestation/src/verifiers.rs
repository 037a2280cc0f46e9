//! From a piece of evidence to the verdicts on what is in it.

use std::time::{Duration, Instant};

use cocoon_evidence::collateral::{Collateral, Need};
use cocoon_evidence::nvidia;
use cocoon_evidence::{Check, Evidence, Expectation, Verified, Verifier};
use cocoon_stage::{Code, Failure};

use crate::{Item, remote};

pub use cocoon_evidence::Trust;

/// What was found of the documents that evidence needs.
#[derive(Default)]
pub struct Gathered {
    /// The documents, which the verifier checks.
    pub collateral: Collateral,
    /// For people: what is missing or old, and why.
    pub notes: Vec<(String, String)>,
}

/// Where the documents come from that vendors publish of their platforms. Called on a thread that may wait.
pub trait CollateralSource: Send + Sync {
    /// Finds what it can within `budget`; what it cannot find is left out, and the verifier says so.
    fn gather(&self, needs: &[Need], now_unix: u64, budget: Duration) -> Gathered;

    /// Whether it may take more than an instant.
    fn waits(&self) -> bool {
        true
    }

    /// The verifier found that one of these documents does not verify: newer ones should be asked for.
    fn doubt(&self, _: &[Need]) {}
}

/// Finds nothing.
pub struct NoCollateral;

impl CollateralSource for NoCollateral {
    fn gather(&self, _: &[Need], _: u64, _: Duration) -> Gathered {
        Gathered::default()
    }

    fn waits(&self) -> bool {
        false
    }
}

/// A vendor's service that judges devices too. Called on a thread that may wait, and only for evidence that verified here.
pub trait RemoteVerifier: Send + Sync {
    /// One verdict for each device of the evidence, by its place in it, for this challenge. A device that it says nothing of
    /// counts as refused; so what keeps it from an answer may be a failed check, or silence.
    fn verify(&self, evidence: &nvidia::Evidence, report_data: &[u8], now_unix: u64) -> Vec<nvidia::Device>;
}

/// Who is asked for one item.
pub(crate) struct Sources<'a> {
    pub verifier: &'a Verifier,
    pub collateral: &'a dyn CollateralSource,
    pub nvidia_remote: Option<&'a dyn RemoteVerifier>,
    /// Until when documents are waited for, whatever the number of items.
    pub deadline: Instant,
}

/// How long one attestation may wait for documents that are not at hand.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Keys of TPMs that reference values name; none for other evidence.
#[derive(Debug, Default)]
pub(crate) struct NamedKeys {
    /// Attestation keys, base64 of DER (`trusted_aks`, `trusted_ak`).
    pub attestation: Vec<String>,
    /// SHA-256 of endorsement keys or of their certificates, hex (`tpm_ek`; of simulated TPMs `sim_tpm_ek`).
    pub endorsement: Vec<String>,
}

/// Verifies one item, and notes in `checks` what was not to be had for it. `Err`
/// where the evidence cannot even be read, or no verifier knows it.
pub(crate) fn verify(
    sources: &Sources<'_>,
    item: &Item<'_>,
    named: &NamedKeys,
    now_unix: u64,
    checks: &mut Vec<Check>,
) -> Result<Vec<Verified>, Failure> {
    let Sources { verifier, collateral: source, nvidia_remote, deadline } = sources;
    let evidence = Evidence::from_json(item.tee, item.evidence).map_err(|error| {
        let failure = Failure::from(error);
        Failure::new(failure.code, format!("{}: {}", item.tee, failure.reason))
    })?;
    let needs = verifier.needs(&evidence, now_unix);
    let Gathered { collateral, notes } = match needs.is_empty() {
        true => Gathered::default(),
        false => source.gather(&needs, now_unix, deadline.saturating_duration_since(Instant::now())),
    };
    checks.extend(notes.into_iter().map(|(what, why)| fetched(what, why)));
    let digest = item.init_data.digest();
    let expectation =
        Expectation { report_data: item.report_data, init_data_digest: digest.as_deref(), now_unix };
    if let (Evidence::Nvidia(evidence), Some(remote)) = (&evidence, nvidia_remote) {
        let local = nvidia::verify(evidence, &verifier.trust().nvidia, &collateral, &expectation);
        return Ok(remote::verified(evidence, local, *remote, &expectation));
    }
    let verified = verifier.verify_activated(
        &evidence,
        &collateral,
        &expectation,
        &named.attestation,
        item.activated,
        &named.endorsement,
    )?;
    let invalid = |check: &Check| check.code == Some(Code::AttestCollateralInvalid);
    if verified.iter().any(|v| v.verdict.checks.iter().any(invalid)) {
        source.doubt(&needs);
    }
    Ok(verified)
}

/// Says why a document is missing or old; what follows from that is the verifier's to say.
fn fetched(what: String, why: String) -> Check {
    Check { name: "collateral.fetched", expected: what, got: why, source: "the vendor".into(), code: None }
}

/// The check that says nothing was compared.
pub(crate) fn unbound() -> Check {
    Check {
        name: "binding.report-data",
        expected: "nothing: the caller gave no runtime data".into(),
        got: "not compared".into(),
        source: "the request".into(),
        code: None,
    }
}
