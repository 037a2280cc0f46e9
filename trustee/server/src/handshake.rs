//! The handshake: challenge, then evidence for a token (KBS protocol 0.4.0, trustee.md §2).

use cocoon_attestation::{Appraisal, AppraisalRequest, token_claims};
use cocoon_evidence::Check;
use cocoon_protocol::initdata::InitData;
use cocoon_protocol::messages::{Attestation, Challenge, ProtocolVersion, Request};
use cocoon_protocol::{HashAlgorithm, b64, report_data};
use cocoon_release::{Explanation, Step, Subject};
use cocoon_stage::{Code, Failure};
use serde_json::{Value, json};

use crate::nonces::Use;
use crate::reply::{Refusal, Variant};
use crate::session::{Challenged, Session};
use crate::trustee::Inner;

impl Inner {
    /// Answers `/auth`: a challenge and the state that its cookie is to carry. Nothing is stored.
    pub fn challenge(&self, body: &[u8], now: u64) -> Result<(Challenge, Challenged), Refusal> {
        let request: Request = serde_json::from_slice(body)
            .map_err(|e| Refusal::coded(Variant::SerdeError, Code::AttestProtocol, e.to_string()))?;
        // 0.1.1 and 0.2.0 have other messages after this one; they are refused here rather than misread there.
        if request.version.parse::<ProtocolVersion>().ok() != Some(ProtocolVersion::V0_4_0) {
            let reason = format!("expected 0.4.0, got {:.32}", request.version.escape_debug().to_string());
            return Err(Refusal::coded(Variant::AttestationError, Code::AttestProtocolVersion, reason));
        }
        let mut nonce = [0u8; 32];
        aws_lc_rs::rand::fill(&mut nonce)
            .map_err(|_| Refusal::internal(Failure::new(Code::Internal, "no randomness")))?;
        let challenge =
            Challenge { nonce: b64::std_encode(&nonce), extra_params: Value::String(String::new()) };
        let end_unix = now.saturating_add(self.config.session_lifetime.as_secs());
        Ok((challenge, Challenged { nonce, tee: request.tee, version: request.version, end_unix }))
    }

    /// Answers `/attest`: a token, or a refusal whose reasons are kept for the owner. Either way the challenge is
    /// used up; a guest that failed begins anew.
    pub fn attest(&self, session: &Session, body: &[u8], id: &str, now: u64) -> Result<String, Refusal> {
        let refused = |code, reason: &str| Refusal::coded(Variant::AttestationError, code, reason);
        let challenged = match session {
            Session::Challenged(challenged) => challenged,
            Session::Attested(_) => {
                return Err(refused(Code::AttestProtocol, "this session has its token; begin a new one"));
            }
            Session::None => return Err(refused(Code::AttestProtocol, "no cookie of this Trustee's")),
        };
        if now >= challenged.end_unix {
            return Err(refused(Code::AttestNonceReplayed, "the challenge has expired"));
        }
        match self.nonces.consume(&challenged.nonce, challenged.end_unix, now).map_err(Refusal::internal)? {
            Use::First => {}
            Use::Replayed => {
                return Err(refused(Code::AttestNonceReplayed, "the challenge was answered before"));
            }
            Use::Overloaded => {
                let refusal = refused(Code::Internal, "too many handshakes at once");
                return Err(refusal.with_status(http::StatusCode::SERVICE_UNAVAILABLE));
            }
        }
        let appraised = self.appraise(challenged, body, now);
        let (outcome, appraisal) = match appraised {
            Ok(mut appraisal) => {
                let nothing = || Failure::new(Code::Internal, "the outcome was taken");
                let ear = std::mem::replace(&mut appraisal.outcome, Err(nothing()));
                let lifetime = self.config.token_lifetime.as_secs();
                let issue = |ear| self.tokens.issue(token_claims(ear, &self.config.issuer, now, lifetime));
                (ear.and_then(issue), Some(appraisal))
            }
            Err(failure) => (Err(failure), None),
        };
        self.explain_attest(challenged, outcome.as_ref().err(), appraisal, id, now);
        outcome.map_err(|failure| {
            let storage = failure.code.as_str().starts_with("STORE-");
            if storage {
                Refusal::internal(failure)
            } else {
                Refusal::new(Variant::AttestationError, failure)
            }
        })
    }

    fn appraise(&self, challenged: &Challenged, body: &[u8], now: u64) -> Result<Appraisal, Failure> {
        let protocol = |reason: String| Failure::new(Code::AttestProtocol, reason);
        let attestation: Attestation = serde_json::from_slice(body).map_err(|e| protocol(e.to_string()))?;
        let runtime = &attestation.runtime_data;
        if runtime.nonce != b64::std_encode(&challenged.nonce) {
            let reason = "the message answers another challenge than its cookie's";
            return Err(Failure::new(Code::AttestReportDataMismatch, reason));
        }
        let additional = &attestation.tee_evidence.additional_evidence;
        if !matches!(additional.as_str(), "" | "{}") {
            return Err(Failure::new(Code::AttestTeeUnsupported, "evidence of additional devices"));
        }
        let init_data = match &attestation.init_data {
            None => None,
            Some(message) if message.format == "toml" => Some(InitData::parse(&message.body)?),
            Some(message) => {
                let reason = format!("format {:.32}", message.format.escape_debug().to_string());
                return Err(Failure::new(Code::InitdataMalformed, reason));
            }
        };
        let report_data =
            report_data(HashAlgorithm::Sha384, &runtime.nonce, &runtime.tee_pubkey, additional)?;
        let runtime_data = json!({
            "additional-evidence": additional,
            "nonce": runtime.nonce,
            "tee-pubkey": serde_json::to_value(&runtime.tee_pubkey).map_err(|e| protocol(e.to_string()))?,
        });
        Ok(self.appraiser.appraise(&AppraisalRequest {
            tee: challenged.tee,
            evidence: &attestation.tee_evidence.primary_evidence,
            report_data: &report_data,
            init_data: init_data.as_ref(),
            runtime_data: &runtime_data,
            now_unix: now,
        })?)
    }

    fn explain_attest(
        &self,
        challenged: &Challenged,
        failure: Option<&Failure>,
        appraisal: Option<Appraisal>,
        id: &str,
        now: u64,
    ) {
        let (steps, init_data, simulated) = match appraisal {
            Some(a) => (a.checks.into_iter().map(step).collect(), a.init_data, a.simulated),
            None => (Vec::new(), None, false),
        };
        self.explanations.keep(Explanation {
            request_id: id.to_owned(),
            at_unix: now,
            subject: Subject::Attest { tee: challenged.tee.to_string() },
            code: failure.map(|f| f.code),
            reason: failure.map(|f| f.reason.clone()),
            init_data,
            workload: None,
            simulated,
            steps,
        });
    }
}

fn step(check: Check) -> Step {
    let code = check.code.unwrap_or(Code::Internal);
    Step::new(check.name, check.code.is_none(), code, check.expected, check.got, &check.source)
}
