//! The handshake: challenge, then evidence for a token (KBS protocol, trustee.md §2).

use std::time::Instant;

use cocoon_attestation::{Appraisal, AppraisalRequest, Binding, Item, token_claims};
use cocoon_evidence::{Check, se};
use cocoon_protocol::dialect::Answer;
use cocoon_protocol::initdata::InitData;
use cocoon_protocol::messages::{Challenge, ProtocolVersion, Request};
use cocoon_protocol::{HashAlgorithm, Tee, b64, device_report_data};
use cocoon_release::{Explanation, Step, Subject};
use cocoon_stage::{Code, Failure};
use serde_json::{Value, json};

use crate::devices;
use crate::inner::{Inner, Judge};
use crate::metrics::{Stage, TeeLabel};
use crate::nonces::Use;
use crate::reply::{Refusal, Variant};
use crate::session::{Challenged, Session};
use crate::verdicts::Recorded;

/// A token, or a refusal; and the entry of the audit log that must be durable before a token leaves.
pub(crate) type Attested = (Result<String, Refusal>, Option<Recorded>);

impl Inner {
    /// Answers `/auth`: a challenge and the state that its cookie is to carry. Nothing is stored.
    pub fn challenge(&self, body: &[u8], now: u64) -> Result<(Challenge, Challenged), Refusal> {
        let request: Request = serde_json::from_slice(body)
            .map_err(|e| Refusal::coded(Variant::SerdeError, Code::AttestProtocol, e.to_string()))?;
        let Ok(version) = request.version.parse::<ProtocolVersion>() else {
            let got = format!("{:.32}", request.version.escape_debug().to_string());
            let reason = format!("expected 0.4.0, 0.2.0 or 0.1.1, got {got}");
            let words = format!("KBS Client Protocol Version Mismatch: {reason}");
            let refusal = Refusal::coded(Variant::AttestationError, Code::AttestProtocolVersion, reason);
            return Err(refusal.saying(words));
        };
        if request.tee.is_device() {
            let reason = format!("{} is a device's, not a guest's own TEE", request.tee);
            return Err(Refusal::coded(Variant::AttestationError, Code::AttestTeeUnsupported, reason));
        }
        let judge = self.judge();
        let (nonce, text) = match request.tee {
            Tee::Se => secure_execution_nonce(&judge, version, now)?,
            _ => random_nonce()?,
        };
        let challenge = Challenge { nonce: text, extra_params: Value::String(String::new()) };
        let end_unix = now.saturating_add(judge.config.session_lifetime.as_secs());
        Ok((challenge, Challenged { nonce, tee: request.tee, version: version.to_string(), end_unix }))
    }

    /// Answers `/attest`: a token, or a refusal whose reasons are kept for the owner. Either way the challenge is
    /// used up; a guest that failed begins anew.
    pub fn attest(&self, session: &Session, body: &[u8], id: &str, now: u64) -> Attested {
        self.shared.metrics.attestations.inc();
        let (challenged, version) = match self.begin(session, now) {
            Ok(begun) => begun,
            Err(refusal) => {
                self.shared.metrics.attestation_errors.inc();
                return (Err(refusal), None);
            }
        };
        let judge = self.judge();
        let start = Instant::now();
        let appraised = self.appraise(challenged, version, body, now);
        self.shared.metrics.stage(Stage::verify, start.elapsed());
        let (outcome, appraisal) = match appraised {
            Ok(mut appraisal) => {
                let nothing = || Failure::new(Code::Internal, "the outcome was taken");
                let submods = std::mem::replace(&mut appraisal.outcome, Err(nothing()));
                let lifetime = judge.config.token_lifetime.as_secs();
                let inputs = submods.as_ref().map_or_else(
                    |_| Vec::new(),
                    |submods| {
                        let wanted =
                            self.explanations.wants_inputs(&challenged.tee, &appraisal.init_data, now);
                        if wanted { inputs(submods) } else { Vec::new() }
                    },
                );
                let start = Instant::now();
                let issue = |submods| {
                    let claims = token_claims(submods, &judge.config.issuer, now, lifetime);
                    self.tokens.issue(claims, version, now)
                };
                let outcome = submods.and_then(issue);
                self.shared.metrics.stage(Stage::sign, start.elapsed());
                (outcome, Some((appraisal, inputs)))
            }
            Err(failure) => (Err(failure), None),
        };
        let label = TeeLabel { tee_type: challenged.tee.name() };
        let counted = if outcome.is_ok() {
            &self.shared.metrics.attested
        } else {
            &self.shared.metrics.attestation_failures
        };
        counted.get_or_create(&label).inc();
        let recorded = self.record(explanation(challenged, outcome.as_ref().err(), appraisal, id, now));
        let outcome = outcome.map_err(|failure| {
            let storage = failure.code.as_str().starts_with("STORE-");
            if storage {
                Refusal::internal(failure)
            } else {
                Refusal::new(Variant::AttestationError, failure)
            }
        });
        (outcome, Some(recorded))
    }

    /// Uses up the challenge that a session carries.
    fn begin<'s>(
        &self,
        session: &'s Session,
        now: u64,
    ) -> Result<(&'s Challenged, ProtocolVersion), Refusal> {
        let refused = |code, reason: &str| Refusal::coded(Variant::AttestationError, code, reason);
        let challenged = match session {
            Session::Challenged(challenged) => challenged,
            Session::Attested(_) => {
                return Err(refused(Code::AttestProtocol, "this session has its token; begin a new one"));
            }
            Session::None => return Err(refused(Code::AttestProtocol, "no cookie of this Trustee's")),
        };
        let version = challenged.version.parse();
        let version = version.map_err(|_| refused(Code::AttestProtocolVersion, "the cookie's version"))?;
        if now >= challenged.end_unix {
            return Err(refused(Code::AttestNonceReplayed, "the challenge has expired"));
        }
        match self.nonces.consume(&challenged.nonce, challenged.end_unix, now).map_err(Refusal::internal)? {
            Use::First => Ok((challenged, version)),
            Use::Replayed => Err(refused(Code::AttestNonceReplayed, "the challenge was answered before")),
            Use::Overloaded => {
                let refusal = refused(Code::ServerBusy, "too many handshakes at once");
                Err(refusal.with_status(http::StatusCode::SERVICE_UNAVAILABLE))
            }
        }
    }

    fn appraise(
        &self,
        challenged: &Challenged,
        version: ProtocolVersion,
        body: &[u8],
        now: u64,
    ) -> Result<Appraisal, Failure> {
        let judge = self.judge();
        let answer = Answer::read(version, body)?;
        let nonce = nonce_of(challenged, answer.nonce.as_deref())?;
        let hash = match challenged.tee {
            // The field of 64 bytes is taken whole.
            Tee::Se => HashAlgorithm::Sha512,
            _ => HashAlgorithm::Sha384,
        };
        let devices = devices::parse(&answer.additional_evidence)?;
        let init_data = match &answer.init_data {
            None => None,
            Some(message) if message.format == "toml" => Some(InitData::parse(&message.body)?),
            Some(message) => {
                let reason = format!("format {:.32}", message.format.escape_debug().to_string());
                return Err(Failure::new(Code::InitdataMalformed, reason));
            }
        };
        let key = serde_json::to_value(&answer.tee_pubkey)
            .map_err(|e| Failure::new(Code::AttestProtocol, e.to_string()))?;
        let report_data = answer.report_data(version, hash, &nonce)?;
        let device_data = match devices.is_empty() {
            true => Vec::new(),
            false => device_report_data(hash, &nonce, &answer.tee_pubkey)?,
        };
        let device_runtime = json!({"nonce": nonce, "tee-pubkey": key});
        let mut runtime = device_runtime.clone();
        if version == ProtocolVersion::V0_4_0
            && (judge.config.verbose_tokens || answer.additional_evidence.is_empty())
            && let Some(members) = runtime.as_object_mut()
        {
            members.insert("additional-evidence".into(), answer.additional_evidence.clone().into());
        }
        let activated = match challenged.tee {
            Tee::Tpm => self.activated(&answer.evidence, &judge, now)?,
            _ => None,
        };
        let own = Item {
            tee: challenged.tee,
            evidence: &answer.evidence,
            report_data: Some(&report_data),
            init_data: init_data.as_ref().map_or(Binding::None, Binding::Document),
            runtime_data: Some(&runtime),
            activated: activated.as_ref(),
        };
        let others = devices.iter().map(|(tee, evidence)| Item {
            tee: *tee,
            evidence,
            report_data: Some(&device_data),
            init_data: Binding::None,
            runtime_data: Some(&device_runtime),
            activated: None,
        });
        let items = std::iter::once(own).chain(others).collect();
        let policy_id = &judge.config.policy_id;
        Ok(judge.appraiser.appraise(&AppraisalRequest { items, policy_id, now_unix: now })?)
    }
}

/// 32 random bytes, and as the guest sees them.
fn random_nonce() -> Result<([u8; 32], String), Refusal> {
    let mut nonce = [0u8; 32];
    aws_lc_rs::rand::fill(&mut nonce)
        .map_err(|_| Refusal::internal(Failure::new(Code::Internal, "no randomness")))?;
    Ok((nonce, b64::std_encode(&nonce)))
}

/// A request for the machine's Ultravisor, which a guest of Secure Execution gets as its nonce. It is too long for a cookie,
/// so the cookie carries its digest and the guest must say the nonce again, as protocol 0.4.0 does.
fn secure_execution_nonce(
    judge: &Judge,
    version: ProtocolVersion,
    now: u64,
) -> Result<([u8; 32], String), Refusal> {
    let refused = |code, reason: &str| Refusal::coded(Variant::AttestationError, code, reason);
    if version != ProtocolVersion::V0_4_0 {
        let reason = "guests of Secure Execution are challenged by protocol 0.4.0 only";
        return Err(refused(Code::AttestProtocolVersion, reason));
    }
    let expected = judge.appraiser.trust().se.as_ref();
    let expected = expected.ok_or_else(|| {
        refused(Code::AttestTeeUnsupported, "no machines of Secure Execution are configured here")
    })?;
    let text = se::challenge(expected, now).map_err(Refusal::internal)?;
    Ok((digest(&text), text))
}

fn digest(text: &str) -> [u8; 32] {
    let mut out = [0; 32];
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
    out.iter_mut().zip(digest.as_ref()).for_each(|(o, i)| *o = *i);
    out
}

/// The nonce of the challenge that the cookie carries, which the message, where it says it, must agree to.
fn nonce_of(challenged: &Challenged, answered: Option<&str>) -> Result<String, Failure> {
    let expected = b64::std_encode(&challenged.nonce);
    let nonce = match (challenged.tee, answered) {
        (Tee::Se, Some(answered)) if digest(answered) == challenged.nonce => Some(answered.to_owned()),
        (Tee::Se, _) => None,
        (_, Some(answered)) if answered != expected => None,
        _ => Some(expected),
    };
    nonce.ok_or_else(|| {
        let reason = "the message answers another challenge than its cookie's";
        Failure::new(Code::AttestReportDataMismatch, reason)
    })
}

/// What the policies were asked, without what is only this handshake's.
fn inputs(
    submods: &std::collections::BTreeMap<String, cocoon_protocol::token::Submod>,
) -> Vec<(String, Value)> {
    let of = |(name, submod): (&String, &cocoon_protocol::token::Submod)| {
        let mut input = submod.annotated_evidence.clone();
        if let Some(runtime) = input.pointer_mut("/runtime_data_claims").and_then(Value::as_object_mut) {
            runtime.remove("additional-evidence");
        }
        (name.trim_end_matches(|c: char| c.is_ascii_digit()).to_owned(), input)
    };
    submods.iter().map(of).collect()
}

fn explanation(
    challenged: &Challenged,
    failure: Option<&Failure>,
    appraisal: Option<(Appraisal, Vec<(String, Value)>)>,
    id: &str,
    now: u64,
) -> Explanation {
    let (steps, init_data, simulated, inputs) = match appraisal {
        Some((a, inputs)) => (a.checks.into_iter().map(step).collect(), a.init_data, a.simulated, inputs),
        None => (Vec::new(), None, false, Vec::new()),
    };
    Explanation {
        request_id: id.to_owned(),
        at_unix: now,
        subject: Subject::Attest { tee: challenged.tee.to_string() },
        code: failure.map(|f| f.code),
        reason: failure.map(|f| f.reason.clone()),
        init_data,
        workload: None,
        simulated,
        steps,
        inputs,
    }
}

pub(crate) fn step(check: Check) -> Step {
    let code = check.code.unwrap_or(Code::Internal);
    Step::new(check.name, check.code.is_none(), code, check.expected, check.got, &check.source)
}
