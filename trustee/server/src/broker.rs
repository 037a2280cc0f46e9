//! A guest's request for a secret: token, decision, encryption to the guest's key.

use std::cell::Cell;
use std::sync::atomic::Ordering;
use std::time::Instant;

use cocoon_policy::Kind;
use cocoon_protocol::dialect;
use cocoon_protocol::jwe::JweFlattened;
use cocoon_release::{Explanation, ResourcePath, Subject, decide};
use cocoon_stage::{Code, Failure};
use http::StatusCode;
use serde_json::{Value, json};

use crate::inner::Inner;
use crate::metrics::Stage;
use crate::reply::{Refusal, Variant};
use crate::tokens::Verified;
use crate::verdicts::Recorded;

/// An encrypted secret, or a refusal; and the entry of the audit log that must be durable before a secret leaves.
pub(crate) type Released = (Result<JweFlattened, Refusal>, Option<Recorded>);

impl Inner {
    /// Answers `GET /resource/…`. What an unauthorised guest sees does not depend on whether the path exists. `query`
    /// is the request's, for the resource policy.
    pub fn release(
        &self,
        token: Option<&str>,
        path: &ResourcePath,
        query: &Value,
        id: &str,
        now: u64,
    ) -> Released {
        let metrics = &self.shared.metrics;
        metrics.reads.inc();
        let verified = match self.verified(token, now) {
            Ok(verified) => verified,
            Err(refusal) => return (Err(refusal), None),
        };
        metrics.evaluations.inc();
        let start = Instant::now();
        let segments: Vec<&str> = path.as_str().split('/').collect();
        let unreadable = Cell::new(None);
        let policy = || match self.resource_policy("resource", &segments, query, &verified.claims) {
            Ok(said) => said,
            Err(error) => {
                unreadable.set(Some(error));
                Some(Err("it could not be read".into()))
            }
        };
        let decided = decide(&self.judge().registry, &verified.claims, path, now, &policy);
        metrics.stage(Stage::decide, start.elapsed());
        // That the policy could not be read is no denial.
        if let Some(error) = unreadable.take() {
            metrics.policy_errors.inc();
            return (Err(Refusal::internal(error)), None);
        }
        let decision = match decided {
            Ok(decision) => decision,
            Err(error) => {
                metrics.policy_errors.inc();
                return (Err(Refusal::internal(error)), None);
            }
        };
        // Encrypted before it is written down: what cannot be encrypted was not released.
        let answer = match decision.outcome {
            Ok(released) => self.encrypted(&verified, &released.value),
            // Only a guest to whom the path is allowed learns that nothing is there; 404 spares it the handshakes
            // with which guests answer a 401.
            Err(failure) if failure.code == Code::ReleaseSecretMissing => {
                Err(Refusal::new(Variant::PluginInternalError, failure).with_status(StatusCode::NOT_FOUND))
            }
            Err(failure) => Err(Refusal::new(Variant::PolicyDeny, failure)),
        };
        let failure = answer.as_ref().err().map(|refusal| &refusal.failure);
        let counted = if failure.is_none() { &metrics.approvals } else { &metrics.violations };
        counted.inc();
        let recorded = self.record(Explanation {
            request_id: id.to_owned(),
            at_unix: now,
            subject: Subject::Release { path: path.to_string() },
            code: failure.map(|f| f.code),
            reason: failure.map(|f| f.reason.clone()),
            init_data: decision.init_data,
            workload: decision.workload,
            simulated: decision.simulated,
            steps: decision.steps,
            inputs: Vec::new(),
        });
        (answer, Some(recorded))
    }

    /// A token that this Trustee accepts.
    pub fn verified(&self, token: Option<&str>, now: u64) -> Result<std::sync::Arc<Verified>, Refusal> {
        let Some(token) = token else {
            return Err(Refusal::coded(Variant::TokenNotFound, Code::ReleaseTokenInvalid, "no token"));
        };
        self.tokens.verify(token, now).map_err(|f| Refusal::new(Variant::TokenVerifierError, f))
    }

    /// A value encrypted to the guest of a token, in the form its protocol version reads.
    pub fn encrypted(&self, verified: &Verified, value: &[u8]) -> Result<JweFlattened, Refusal> {
        let start = Instant::now();
        let sealed = dialect::encrypt(verified.version, &verified.key, value);
        self.shared.metrics.stage(Stage::encrypt, start.elapsed());
        sealed.map_err(|e| Refusal::new(Variant::JweError, e.into()))
    }

    /// What the owner's resource policy says; `None` where there is none. `Err` is a storage failure, never a denial.
    pub fn resource_policy(
        &self,
        plugin: &str,
        path: &[&str],
        query: &Value,
        claims: &Value,
    ) -> Result<Option<Result<bool, String>>, cocoon_policy::Error> {
        let policy = match self.policies.active(cocoon_policy::RESOURCE_POLICY_ID, Kind::Resource) {
            Ok(Some(policy)) => policy,
            Ok(None) => return Ok(None),
            Err(error @ cocoon_policy::Error::Store(_)) => return Err(error),
            Err(error) => return Ok(Some(Err(error.to_string()))),
        };
        let data = json!({"plugin": plugin, "resource-path": path, "query": query});
        Ok(Some(policy.resource(&data, claims).map_err(|e| e.to_string())))
    }

    /// Keeps what an attested guest says went wrong inside it. The words are the guest's own: they are bounded, and
    /// so is how many of them one token may leave here, lest they push out the verdicts of others.
    pub fn guest_report(&self, token: Option<&str>, body: &[u8], id: &str, now: u64) -> Result<(), Refusal> {
        let verified = self.verified(token, now)?;
        if body.len() > MAX_REPORT {
            return Err(Refusal::coded(Variant::SerdeError, Code::AttestProtocol, "the report is too long"));
        }
        let failure: Failure = serde_json::from_slice(body)
            .map_err(|e| Refusal::coded(Variant::SerdeError, Code::AttestProtocol, e.to_string()))?;
        if verified.reports.fetch_add(1, Ordering::Relaxed) >= MAX_REPORTS {
            verified.reports.store(MAX_REPORTS, Ordering::Relaxed);
            return Err(Refusal::coded(Variant::PolicyDeny, Code::AttestProtocol, "too many reports")
                .with_status(StatusCode::TOO_MANY_REQUESTS));
        }
        let cpu = verified.claims.pointer("/submods/cpu0");
        let text =
            |pointer: &str| cpu.and_then(|c| c.pointer(pointer)).and_then(Value::as_str).map(str::to_owned);
        let simulated = cpu.and_then(|c| c.get("ear.cocoon.simulated")) == Some(&Value::Bool(true));
        self.record(Explanation {
            request_id: id.to_owned(),
            at_unix: now,
            subject: Subject::Guest { stage: failure.stage },
            code: Some(failure.code),
            reason: Some(failure.reason.chars().filter(|c| !c.is_control()).collect()),
            init_data: text("/ear.veraison.annotated-evidence/init_data"),
            workload: None,
            simulated,
            steps: Vec::new(),
            inputs: Vec::new(),
        })
        .later();
        Ok(())
    }
}

/// Longest report of a guest, in bytes.
const MAX_REPORT: usize = 4096;
/// Most reports that one token may send.
const MAX_REPORTS: u8 = 8;
