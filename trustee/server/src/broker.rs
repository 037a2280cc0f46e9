//! A guest's request for a secret: token, decision, encryption to the guest's key.

use std::sync::atomic::Ordering;

use cocoon_protocol::jwe::{self, JweFlattened};
use cocoon_release::{Explanation, ResourcePath, Subject, decide};
use cocoon_stage::{Code, Failure};
use http::StatusCode;
use serde_json::Value;

use crate::reply::{Refusal, Variant};
use crate::trustee::Inner;

impl Inner {
    /// Answers `GET /resource/…`. What an unauthorised guest sees does not depend on whether the path exists.
    pub fn release(
        &self,
        token: Option<&str>,
        path: &ResourcePath,
        id: &str,
        now: u64,
    ) -> Result<JweFlattened, Refusal> {
        let Some(token) = token else {
            return Err(Refusal::coded(Variant::TokenNotFound, Code::ReleaseTokenInvalid, "no token"));
        };
        let verified =
            self.tokens.verify(token, now).map_err(|f| Refusal::new(Variant::TokenVerifierError, f))?;
        let decision = decide(&self.registry, &verified.claims, path, now).map_err(Refusal::internal)?;
        let (released, failure) = match decision.outcome {
            Ok(released) => (Some(released), None),
            Err(failure) => (None, Some(failure)),
        };
        self.explanations.keep(Explanation {
            request_id: id.to_owned(),
            at_unix: now,
            subject: Subject::Release { path: path.to_string() },
            code: failure.as_ref().map(|f| f.code),
            reason: failure.as_ref().map(|f| f.reason.clone()),
            init_data: decision.init_data,
            workload: decision.workload,
            simulated: decision.simulated,
            steps: decision.steps,
        });
        match (released, failure) {
            (Some(released), _) => {
                tracing::debug!(request_id = %id, %path, "released");
                jwe::encrypt(&verified.key, &released.value)
                    .map_err(|e| Refusal::new(Variant::JweError, e.into()))
            }
            // Only a guest whose registration lists the path learns that nothing is there; 404 spares it the
            // handshakes with which guests answer a 401.
            (None, Some(failure)) if failure.code == Code::ReleaseSecretMissing => {
                Err(Refusal::new(Variant::PluginInternalError, failure).with_status(StatusCode::NOT_FOUND))
            }
            (None, Some(failure)) => Err(Refusal::new(Variant::PolicyDeny, failure)),
            (None, None) => Err(Refusal::coded(Variant::PolicyDeny, Code::ReleaseDenied, "nothing decided")),
        }
    }

    /// Keeps what an attested guest says went wrong inside it. The words are the guest's own: they are bounded, and
    /// so is how many of them one token may leave here, lest they push out the verdicts of others.
    pub fn guest_report(&self, token: Option<&str>, body: &[u8], id: &str, now: u64) -> Result<(), Refusal> {
        let Some(token) = token else {
            return Err(Refusal::coded(Variant::TokenNotFound, Code::ReleaseTokenInvalid, "no token"));
        };
        let verified =
            self.tokens.verify(token, now).map_err(|f| Refusal::new(Variant::TokenVerifierError, f))?;
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
        self.explanations.keep(Explanation {
            request_id: id.to_owned(),
            at_unix: now,
            subject: Subject::Guest { stage: failure.stage },
            code: Some(failure.code),
            reason: Some(failure.reason.chars().filter(|c| !c.is_control()).collect()),
            init_data: text("/ear.veraison.annotated-evidence/init_data"),
            workload: None,
            simulated,
            steps: Vec::new(),
        });
        Ok(())
    }
}

/// Longest report of a guest, in bytes.
const MAX_REPORT: usize = 4096;
/// Most reports that one token may send.
const MAX_REPORTS: u8 = 8;
