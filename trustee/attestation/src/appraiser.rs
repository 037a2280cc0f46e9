//! From evidence to appraisal: the core verdict, then the policy of its class.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use cocoon_evidence::{Check, Verified, Verifier};
use cocoon_policy::{Compiled, Kind, Policies};
use cocoon_protocol::Tee;
use cocoon_protocol::token::{Status, Submod, TrustVector};
use cocoon_reference::ReferenceValues;
use cocoon_stage::{Code, Failure};
use serde_json::{Map, Value};

use crate::claims::{annotated, identifiers};
use crate::native::{Against, asked_name};
use crate::verifiers::{
    self, CollateralSource, NamedKeys, PATIENCE, RemoteVerifier, Sources, Trust, unbound,
};
use crate::{AppraisalRequest, Error, Item, MAX_ITEMS};

/// Name of the policies that guests are appraised by.
const DEFAULT: &str = "default";

/// The trust claim `executables` of code that nobody registered (AR4SI, unrecognised runtime).
const UNRECOGNISED: i8 = 33;

/// Trust claims and extensions, or why there is no token.
type Judged = Result<(TrustVector, Map<String, Value>), Failure>;

/// How an appraiser judges.
pub struct Config {
    /// What verifiers trust.
    pub trust: Trust,
    /// Where vendors' documents come from.
    pub collateral: Arc<dyn CollateralSource>,
    /// Who judges NVIDIA's devices too; they are verified here in any case. Nobody by default.
    pub nvidia_remote: Option<Arc<dyn RemoteVerifier>>,
    /// Give tokens also for measurements and TCBs that are no reference values; their status says so. Off by
    /// default: a relying party that forgets to look at the status must not be misled.
    pub issue_contraindicated: bool,
}

/// The outcome with every check that was made.
pub struct Appraisal {
    /// What may be said in a token (the submodules by name), or why there is none.
    pub outcome: Result<BTreeMap<String, Submod>, Failure>,
    /// Core's checks, then those against the reference values.
    pub checks: Vec<Check>,
    /// The initdata digest that the guest's own TEE binds, in hex, once verified.
    pub init_data: Option<String>,
    /// Whether any of the evidence comes from a simulated TEE.
    pub simulated: bool,
}

impl Appraisal {
    /// The first reason is the one that is told.
    fn refuse(&mut self, failure: Failure) {
        if self.outcome.is_ok() {
            self.outcome = Err(failure);
        }
    }
}

/// The verification service.
pub struct Appraiser {
    verifier: Verifier,
    collateral: Arc<dyn CollateralSource>,
    nvidia_remote: Option<Arc<dyn RemoteVerifier>>,
    issue_contraindicated: bool,
    references: ReferenceValues,
    policies: Arc<Policies>,
}

impl Appraiser {
    /// An appraiser with this trust, these reference values and policies.
    pub fn new(config: Config, references: ReferenceValues, policies: Arc<Policies>) -> Self {
        Appraiser {
            verifier: Verifier::new(config.trust),
            collateral: config.collateral,
            nvidia_remote: config.nvidia_remote,
            issue_contraindicated: config.issue_contraindicated,
            references,
            policies,
        }
    }

    /// Whether an appraisal may have to wait for a vendor, so that it belongs on a thread that may.
    pub fn may_wait(&self) -> bool {
        self.collateral.waits() || self.nvidia_remote.is_some()
    }

    /// What its verifiers trust.
    pub fn trust(&self) -> &Trust {
        self.verifier.trust()
    }

    /// The reference values in use.
    pub fn references(&self) -> &ReferenceValues {
        &self.references
    }

    /// Appraises evidence. `Err` is a storage failure, never a verdict.
    pub fn appraise(&self, request: &AppraisalRequest<'_>) -> Result<Appraisal, Error> {
        let mut appraisal =
            Appraisal { outcome: Ok(BTreeMap::new()), checks: Vec::new(), init_data: None, simulated: false };
        if request.items.is_empty() || request.items.len() > MAX_ITEMS {
            let reason = format!("{} pieces of evidence; 1 to {MAX_ITEMS} are taken", request.items.len());
            appraisal.outcome = Err(Failure::new(Code::AttestProtocol, reason));
            return Ok(appraisal);
        }
        let mut submods = BTreeMap::new();
        let mut counts: BTreeMap<&'static str, usize> = BTreeMap::new();
        let mut sources = Sources {
            verifier: &self.verifier,
            collateral: self.collateral.as_ref(),
            nvidia_remote: self.nvidia_remote.as_deref(),
            deadline: Instant::now() + PATIENCE,
        };
        for (index, item) in request.items.iter().enumerate() {
            let own = index == 0;
            if !own && !item.tee.is_device() {
                // A second "cpu" would be somebody else's guest; however good it is, it is not looked at.
                let reason = format!("{} as an additional device", item.tee);
                let failure = Failure::new(Code::AttestTeeUnsupported, reason);
                appraisal.checks.push(form(&failure));
                appraisal.refuse(failure);
                continue;
            }
            if appraisal.outcome.is_err() {
                // There will be no token; the checks that remain are told for people, and wait for nobody.
                sources.deadline = Instant::now();
                sources.nvidia_remote = None;
            }
            let now = request.now_unix;
            let keys = self.named_keys(item, now)?;
            let verified = match verifiers::verify(&sources, item, &keys, now, &mut appraisal.checks) {
                Ok(verified) => verified,
                Err(failure) => {
                    appraisal.checks.push(form(&failure));
                    appraisal.refuse(failure);
                    continue;
                }
            };
            if item.report_data.is_none() {
                appraisal.checks.push(unbound());
            }
            for verified in verified {
                match self.verified(item, own, verified, request, &mut appraisal)? {
                    Ok((class, submod)) => {
                        let number = counts.entry(class).or_default();
                        submods.insert(format!("{class}{number}"), submod);
                        *number += 1;
                    }
                    Err(failure) => appraisal.refuse(failure),
                }
            }
        }
        if appraisal.outcome.is_ok() {
            appraisal.outcome = Ok(submods);
        }
        Ok(appraisal)
    }

    /// Keys of TPMs that reference values name.
    fn named_keys(&self, item: &Item<'_>, now_unix: u64) -> Result<NamedKeys, Error> {
        let mut keys = NamedKeys::default();
        if item.tee != Tee::Tpm {
            return Ok(keys);
        }
        let texts = |name: &str| -> Result<Vec<String>, Error> {
            let accepted = self.references.accepted(name, now_unix)?;
            Ok(accepted.iter().filter_map(Value::as_str).map(str::to_owned).collect())
        };
        for name in ["trusted_aks", "trusted_ak"] {
            keys.attestation.extend(texts(name)?);
        }
        if let Some(activated) = item.activated {
            keys.endorsement = texts(if activated.simulated { "sim_tpm_ek" } else { "tpm_ek" })?;
        }
        Ok(keys)
    }

    /// One submodule of what was verified, or why there is none.
    fn verified(
        &self,
        item: &Item<'_>,
        own: bool,
        verified: Verified,
        request: &AppraisalRequest<'_>,
        appraisal: &mut Appraisal,
    ) -> Result<Result<(&'static str, Submod), Failure>, Error> {
        let Verified { class, verdict, init_data } = verified;
        let failure = verdict.failure();
        appraisal.simulated |= verdict.simulated;
        appraisal.checks.extend(verdict.checks);
        if let Some(failure) = failure {
            return Ok(Err(failure));
        }
        if own {
            appraisal.init_data = init_data;
        }
        let simulated = verdict.simulated;
        let input = annotated(item.tee.name(), verdict.claims, item.init_data.document(), item.runtime_data);
        let judged = self.judge(item, class, &input, simulated, request, &mut appraisal.checks)?;
        Ok(judged.map(|(vector, extensions)| {
            let mut submod = Submod::new(vector, request.policy_id, input);
            submod.extensions = extensions;
            if simulated {
                submod.extensions.insert("ear.cocoon.simulated".into(), Value::Bool(true));
            }
            (class, submod)
        }))
    }

    /// The trust claims of verified evidence, or why it gets no token.
    fn judge(
        &self,
        item: &Item<'_>,
        class: &str,
        input: &Value,
        simulated: bool,
        request: &AppraisalRequest<'_>,
        checks: &mut Vec<Check>,
    ) -> Result<Judged, Error> {
        let id = format!("{}_{class}", request.policy_id);
        let first = checks.len();
        let claims = input.get(item.tee.name()).unwrap_or(&Value::Null);
        let stored = self.policies.active(&id, Kind::Attestation)?;
        if stored.is_none() && request.policy_id == DEFAULT {
            let against =
                Against { references: &self.references, claims, simulated, now_unix: request.now_unix };
            if let Some(vector) = against.appraise(item.tee, checks)? {
                let failed = checks.iter().skip(first).find_map(failure_of);
                return Ok(match failed {
                    Some(failure) if !self.issue_contraindicated => Err(failure),
                    _ => Ok((vector, own_extensions(input))),
                });
            }
        }
        let policy = match stored {
            Some(policy) => Some(policy),
            // Kinds without native rules are judged by the policies that come with Trustee.
            None => self.policies.attestation(request.policy_id, class)?,
        };
        let Some(policy) = policy else {
            let reason = format!("there is no attestation policy {id}");
            checks.push(policy_check(&id, &reason, Some(Code::PolicyFailed)));
            return Ok(Err(Failure::new(Code::PolicyFailed, reason)));
        };
        self.by_policy(&policy, &id, input, simulated, request.now_unix, checks)
    }

    fn by_policy(
        &self,
        policy: &Compiled,
        id: &str,
        input: &Value,
        simulated: bool,
        now_unix: u64,
        checks: &mut Vec<Check>,
    ) -> Result<Judged, Error> {
        let unreadable = Cell::new(None);
        let references = |name: &str| {
            let found = self.references.lookup(&asked_name(name, input, simulated), now_unix);
            found.map_err(|error| {
                let words = error.to_string();
                unreadable.set(Some(error));
                words
            })
        };
        let outcome = policy.attestation(input, &references);
        // That a reference value could not be read says nothing of the guest.
        if let Some(error) = unreadable.take() {
            return Err(error.into());
        }
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(error) => {
                let failure = Failure::from(error);
                checks.push(policy_check(id, &failure.reason, Some(failure.code)));
                return Ok(Err(failure));
            }
        };
        let status = outcome.vector.status();
        let got = format!("{status}: {}", worst(&outcome.vector));
        // An unknown measurement alone is only a warning by the tiers; it gets no token by the native rules either.
        let unknown = outcome.vector.executables == UNRECOGNISED;
        let refused = (unknown || status == Status::Contraindicated) && !self.issue_contraindicated;
        let code = refused.then_some(if outcome.vector.executables.unsigned_abs() > 31 {
            Code::AttestMeasurementUnknown
        } else {
            Code::AttestTcbOutdated
        });
        checks.push(policy_check(id, &got, code));
        Ok(match code {
            Some(code) => Err(Failure::new(code, format!("policy {id}: {got}"))),
            None => Ok((outcome.vector, outcome.extensions)),
        })
    }

    /// What a candidate policy would say of evidence seen before; see [`cocoon_policy::Compiled::attestation`].
    ///
    /// # Errors
    /// The policy's failure.
    pub fn dry_run(&self, policy: &Compiled, input: &Value, simulated: bool, now_unix: u64) -> Judged {
        let references = |name: &str| {
            self.references.lookup(&asked_name(name, input, simulated), now_unix).map_err(|e| e.to_string())
        };
        let outcome = policy.attestation(input, &references)?;
        Ok((outcome.vector, outcome.extensions))
    }
}

/// The extensions that the native rules add, as upstream's default policies do.
fn own_extensions(input: &Value) -> Map<String, Value> {
    identifiers(input)
        .map(|i| Map::from_iter([("ear.trustee.identifiers".to_owned(), i)]))
        .unwrap_or_default()
}

/// Evidence that cannot be read.
fn form(failure: &Failure) -> Check {
    Check {
        name: "evidence.form",
        expected: "evidence of a supported TEE".into(),
        got: failure.reason.clone(),
        source: "the guest".into(),
        code: Some(failure.code),
    }
}

fn policy_check(id: &str, got: &str, code: Option<Code>) -> Check {
    Check {
        name: "appraisal.policy",
        expected: "affirming or warning".into(),
        got: got.to_owned(),
        source: format!("policy {id}"),
        code,
    }
}

/// The trust claims that are not affirming, in words.
fn worst(vector: &TrustVector) -> String {
    let names = [
        "instance-identity",
        "configuration",
        "executables",
        "file-system",
        "hardware",
        "runtime-opaque",
        "storage-opaque",
        "sourced-data",
    ];
    let told: Vec<String> = names
        .iter()
        .zip(vector.values())
        .filter(|(_, value)| Status::of_claim(*value) > Status::Affirming)
        .map(|(name, value)| format!("{name} {value}"))
        .collect();
    if told.is_empty() { "every claim is good or absent".to_owned() } else { told.join(", ") }
}

fn failure_of(check: &Check) -> Option<Failure> {
    let reason = format!("{}: expected {}, got {} ({})", check.name, check.expected, check.got, check.source);
    check.code.map(|code| Failure::new(code, reason))
}

#[cfg(test)]
#[path = "appraiser_tests.rs"]
mod tests;
