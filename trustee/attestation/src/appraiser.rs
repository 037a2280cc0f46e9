//! From evidence to appraisal: the core verdict, then the reference values.

use std::collections::BTreeMap;

use cocoon_evidence::Check;
use cocoon_evidence::snp::{self, ChainCache, Evidence, Expectation, Roots};
use cocoon_protocol::Tee;
use cocoon_protocol::initdata::InitData;
use cocoon_protocol::token::{Submod, TrustVector};
use cocoon_stage::{Code, Failure};
use serde_json::{Value, json};

use crate::claims::Parts;
use crate::reference::contains;
use crate::{Error, ReferenceValues};

/// Chains kept verified: one per machine that attests here.
const CHAINS: usize = 4096;

const REFERENCES: &str = "reference values";

/// What an appraiser trusts.
pub struct Config {
    /// Vendor and simulated roots.
    pub roots: Roots,
    /// Give tokens also for measurements and TCBs that are no reference values; their status says so. Off by
    /// default: a relying party that forgets to look at the status must not be misled.
    pub issue_contraindicated: bool,
}

/// Evidence to appraise.
pub struct AppraisalRequest<'a> {
    /// TEE kind the guest named.
    pub tee: Tee,
    /// Primary evidence.
    pub evidence: &'a Value,
    /// Digest over challenge and key that the evidence must carry.
    pub report_data: &'a [u8],
    /// Initdata the guest presented; its digest must be bound.
    pub init_data: Option<&'a InitData>,
    /// Runtime data for the token: nonce and `tee-pubkey`.
    pub runtime_data: &'a Value,
    /// Now, in seconds since 1970.
    pub now_unix: u64,
}

/// The outcome with every check that was made.
pub struct Appraisal {
    /// What may be said in a token (the submodules by name), or why there is none.
    pub outcome: Result<BTreeMap<String, Submod>, Failure>,
    /// Core's checks, then those against the reference values.
    pub checks: Vec<Check>,
    /// HOST_DATA in hex, once verified.
    pub init_data: Option<String>,
    /// Whether the evidence comes from a simulated TEE.
    pub simulated: bool,
}

/// The verification service.
pub struct Appraiser {
    config: Config,
    references: ReferenceValues,
    chains: ChainCache,
}

impl Appraiser {
    /// An appraiser with these roots and reference values.
    pub fn new(config: Config, references: ReferenceValues) -> Self {
        Appraiser { config, references, chains: ChainCache::new(CHAINS) }
    }

    /// The reference values in use.
    pub fn references(&self) -> &ReferenceValues {
        &self.references
    }

    /// Appraises evidence. `Err` is a storage failure, never a verdict.
    pub fn appraise(&self, request: &AppraisalRequest<'_>) -> Result<Appraisal, Error> {
        match request.tee {
            Tee::Snp => self.appraise_snp(request),
            other => {
                Ok(refused(Failure::new(Code::AttestTeeUnsupported, format!("no verifier for {other}"))))
            }
        }
    }

    fn appraise_snp(&self, request: &AppraisalRequest<'_>) -> Result<Appraisal, Error> {
        let evidence = match Evidence::from_json(request.evidence) {
            Ok(evidence) => evidence,
            Err(error) => return Ok(refused(error.into())),
        };
        let digest = request.init_data.map(InitData::digest);
        let expectation = Expectation {
            report_data: request.report_data,
            init_data_digest: digest.as_deref(),
            now_unix: request.now_unix,
            allow_v2: false,
        };
        let verdict = snp::verify_cached(&evidence, &self.config.roots, &expectation, &self.chains);
        let failure = verdict.failure();
        let (simulated, mut checks, claims) = (verdict.simulated, verdict.checks, verdict.claims);
        if let Some(failure) = failure {
            return Ok(Appraisal { outcome: Err(failure), checks, init_data: None, simulated });
        }
        let init_data = claims.get("init_data").and_then(Value::as_str).map(str::to_owned);
        let against =
            Against { references: &self.references, claims: &claims, simulated, now_unix: request.now_unix };
        let first = checks.len();
        let vector = against.appraise(&mut checks)?;
        let failed = checks.iter().skip(first).find_map(failure_of);
        let outcome = match failed {
            Some(failure) if !self.config.issue_contraindicated => Err(failure),
            _ => Ok(Parts {
                tee: "snp",
                vector,
                claims,
                init_data: request.init_data,
                runtime_data: request.runtime_data,
                simulated,
            }
            .into_submods()),
        };
        Ok(Appraisal { outcome, checks, init_data, simulated })
    }
}

fn refused(failure: Failure) -> Appraisal {
    let check = Check {
        name: "evidence.form",
        expected: "evidence of a supported TEE".into(),
        got: failure.reason.clone(),
        source: "the guest".into(),
        code: Some(failure.code),
    };
    Appraisal { outcome: Err(failure), checks: vec![check], init_data: None, simulated: false }
}

fn failure_of(check: &Check) -> Option<Failure> {
    let reason = format!("{}: expected {}, got {} ({})", check.name, check.expected, check.got, check.source);
    check.code.map(|code| Failure::new(code, reason))
}

/// Verified claims against the reference values, by the rules of upstream's default CPU policy (trustee.md §1.6).
struct Against<'a> {
    references: &'a ReferenceValues,
    claims: &'a Value,
    simulated: bool,
    now_unix: u64,
}

impl Against<'_> {
    fn appraise(&self, checks: &mut Vec<Check>) -> Result<TrustVector, Error> {
        let measured = self.claim(
            checks,
            "appraisal.measurement",
            "measurement",
            "launch_measurement",
            Code::AttestMeasurementUnknown,
        )?;
        let mut current = true;
        for (check, claim, reference) in [
            ("appraisal.tcb.bootloader", "reported_tcb_bootloader", "bootloader"),
            ("appraisal.tcb.microcode", "reported_tcb_microcode", "microcode"),
            ("appraisal.tcb.snp", "reported_tcb_snp", "snp_svn"),
            ("appraisal.tcb.tee", "reported_tcb_tee", "tee_svn"),
        ] {
            current &= self.claim(checks, check, claim, reference, Code::AttestTcbOutdated)?;
        }
        Ok(TrustVector {
            executables: if measured { 3 } else { 33 },
            hardware: if current { 2 } else { 97 },
            configuration: self.configuration(checks)?,
            ..TrustVector::default()
        })
    }

    /// Simulated evidence has reference values of its own (`sim_…` for `snp_…`), so that neither kind of guest
    /// can ever pass by a value registered for the other.
    fn accepted(&self, reference: &str) -> Result<(String, Vec<Value>), Error> {
        let name = format!("{}_{reference}", if self.simulated { "sim" } else { "snp" });
        let values = self.references.accepted(&name, self.now_unix)?;
        Ok((name, values))
    }

    fn claim(
        &self,
        checks: &mut Vec<Check>,
        check: &'static str,
        claim: &str,
        reference: &str,
        code: Code,
    ) -> Result<bool, Error> {
        let (name, accepted) = self.accepted(reference)?;
        let got = self.claims.get(claim).unwrap_or(&Value::Null);
        let ok = contains(&accepted, got);
        let expected = match accepted.as_slice() {
            [] => format!("a value of {name}, of which none is registered"),
            [only] => format!("{name} {}", plain(only)),
            many => format!("one of the {} values of {name}", many.len()),
        };
        let code = (!ok).then_some(code);
        checks.push(Check { name: check, expected, got: plain(got), source: REFERENCES.into(), code });
        Ok(ok)
    }

    /// 2: all settings are reference values; 3: at least neither debugging nor migration is possible; 36: one is.
    /// It never fails the appraisal: what the owner asks for is the registration's least status.
    fn configuration(&self, checks: &mut Vec<Check>) -> Result<i8, Error> {
        let off = |claim| self.claims.get(claim) == Some(&Value::Bool(false));
        let closed = off("policy_debug_allowed") && off("policy_migrate_ma");
        let mut unlisted = Vec::new();
        for (claim, reference) in [
            ("platform_smt_enabled", "smt_enabled"),
            ("platform_tsme_enabled", "tsme_enabled"),
            ("policy_abi_major", "guest_abi_major"),
            ("policy_abi_minor", "guest_abi_minor"),
            ("policy_single_socket", "single_socket"),
            ("policy_smt_allowed", "smt_allowed"),
        ] {
            let (_, accepted) = self.accepted(reference)?;
            if !self.claims.get(claim).is_some_and(|got| contains(&accepted, got)) {
                unlisted.push(claim);
            }
        }
        let (value, got) = match (closed, unlisted.as_slice()) {
            (true, []) => (2, "2: every setting is a reference value".to_owned()),
            (true, names) => (3, format!("3: not among reference values: {}", names.join(", "))),
            (false, _) => (36, "36: debugging or migration is allowed".to_owned()),
        };
        checks.push(Check {
            name: "appraisal.configuration",
            expected: "2 or 3".into(),
            got,
            source: REFERENCES.into(),
            code: None,
        });
        Ok(value)
    }
}

/// A claim as a person reads it.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => json!(other).to_string(),
    }
}

#[cfg(test)]
#[path = "appraiser_tests.rs"]
mod tests;
