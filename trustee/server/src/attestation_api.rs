//! The verification service for relying parties that call it directly, by REST and gRPC (trustee.md §1.6, §1.9).
//!
//! Off unless served; every call but the public keys needs an administrator (see `cocoon_access`), whose rules see the
//! paths `/cocoon/as/…`.

use std::collections::BTreeMap;

use async_trait::async_trait;
use cocoon_access::Caller;
use cocoon_attestation::{AppraisalRequest, Binding, Item, token_claims};
use cocoon_evidence::se;
use cocoon_protocol::initdata::InitData as Document;
use cocoon_protocol::messages::ProtocolVersion;
use cocoon_protocol::{HashAlgorithm, Tee, b64, jcs};
use cocoon_reference::ImportOptions;
use cocoon_release::{Explanation, Subject};
use cocoon_rpc::{
    AttestationBackend, Authenticate, Credentials, EvaluateRequest, GrpcCode, Individual, InitData,
    Operation, Peer, RpcFailure, Runtime,
};
use cocoon_stage::{Code, Failure};
use serde_json::{Value, json};

use crate::tokens::RELYING_PARTY;
use crate::{Trustee, handshake, request_id};

/// The interface of one Trustee.
#[derive(Clone)]
pub struct AttestationApi {
    trustee: Trustee,
}

impl AttestationApi {
    /// Of this Trustee.
    pub fn new(trustee: Trustee) -> Self {
        AttestationApi { trustee }
    }

    /// Runs an administrator's act and keeps it.
    async fn act(
        &self,
        caller: &Peer,
        act: String,
        work: impl FnOnce(&Trustee) -> Result<(), crate::Error> + Send + 'static,
    ) -> Result<(), RpcFailure> {
        let (trustee, caller) = (self.trustee.clone(), caller.name.clone());
        let acting = self.trustee.to_its_end(async move {
            let inner = &trustee.inner;
            let id = request_id::new(inner.now());
            let outcome = trustee.writing(work).await.and_then(|done| done.map_err(Failure::from));
            let refused = outcome.as_ref().err().map(|f| f.code);
            inner.record_admin(&id, &caller, &act, refused).durable(inner).await?;
            outcome
        });
        Ok(acting.await??)
    }
}

/// One piece of evidence with what it is bound to, made ready.
struct Prepared {
    tee: Tee,
    evidence: Value,
    report_data: Option<Vec<u8>>,
    runtime: Option<Value>,
    document: Option<Document>,
    digest: Option<Vec<u8>>,
}

fn prepare(request: Individual) -> Result<Prepared, Failure> {
    let tee = request.tee.parse()?;
    // SM3 has no implementation here yet; a caller that asks for it is refused, not misjudged.
    let algorithm: HashAlgorithm = request.hash.parse()?;
    let (report_data, runtime) = match request.runtime {
        None => (None, None),
        Some(Runtime::Raw(bytes)) => {
            let shown = json!(b64::url_encode(&bytes));
            (Some(bytes), Some(shown))
        }
        Some(Runtime::Structured(value)) => {
            (Some(algorithm.digest(&jcs::canonicalize(&value)?)), Some(value))
        }
    };
    if report_data.as_ref().is_some_and(|data| data.is_empty() || data.len() > 64) {
        return Err(Failure::new(Code::AttestProtocol, "raw runtime data is 1 to 64 bytes"));
    }
    let (document, digest) = match request.init_data {
        None => (None, None),
        Some(InitData::Digest(digest)) => (None, Some(digest)),
        Some(InitData::Toml(text)) => {
            // It is the caller's message that is malformed.
            let parsed = Document::parse(&text).map_err(Failure::from);
            (Some(parsed.map_err(|f| Failure::new(Code::AttestProtocol, f.reason))?), None)
        }
    };
    Ok(Prepared { tee, evidence: request.evidence, report_data, runtime, document, digest })
}

impl Trustee {
    /// Appraises evidence for a relying party.
    fn evaluate(
        &self,
        request: EvaluateRequest,
        id: &str,
        caller: &str,
    ) -> (Result<String, Failure>, Explanation) {
        let now = self.inner.now();
        let mut explanation = Explanation {
            request_id: id.to_owned(),
            at_unix: now,
            subject: Subject::Attest { tee: format!("for {caller}") },
            code: None,
            reason: None,
            init_data: None,
            workload: None,
            simulated: false,
            steps: Vec::new(),
            inputs: Vec::new(),
        };
        let outcome = self.appraise_for(request, now, &mut explanation);
        if let Err(failure) = &outcome {
            explanation.code = Some(failure.code);
            explanation.reason = Some(failure.reason.clone());
        }
        (outcome, explanation)
    }

    fn appraise_for(
        &self,
        request: EvaluateRequest,
        now: u64,
        explanation: &mut Explanation,
    ) -> Result<String, Failure> {
        let judge = self.inner.judge();
        let policy = match request.policy_ids.as_slice() {
            [] => "default",
            [one] => one,
            // One appraisal has one policy; to take the first and say nothing would mislead.
            more => {
                return Err(Failure::new(
                    Code::UsageInvalid,
                    format!("{} policy ids; one is taken", more.len()),
                ));
            }
        };
        let prepared: Vec<Prepared> =
            request.requests.into_iter().map(prepare).collect::<Result<_, Failure>>()?;
        let items = prepared
            .iter()
            .map(|p| Item {
                tee: p.tee,
                evidence: &p.evidence,
                report_data: p.report_data.as_deref(),
                init_data: match (&p.document, &p.digest) {
                    (Some(document), _) => Binding::Document(document),
                    (None, Some(digest)) => Binding::Digest(digest),
                    (None, None) => Binding::None,
                },
                runtime_data: p.runtime.as_ref(),
                activated: None,
            })
            .collect();
        let appraisal =
            judge.appraiser.appraise(&AppraisalRequest { items, policy_id: policy, now_unix: now })?;
        explanation.steps = appraisal.checks.into_iter().map(handshake::step).collect();
        explanation.init_data = appraisal.init_data;
        explanation.simulated = appraisal.simulated;
        let lifetime = judge.config.token_lifetime.as_secs();
        let mut claims = token_claims(appraisal.outcome?, &judge.config.issuer, now, lifetime);
        if let Some(members) = claims.as_object_mut() {
            members.insert(RELYING_PARTY.into(), true.into());
        }
        self.inner.tokens.issue(claims, ProtocolVersion::V0_4_0, now)
    }
}

#[async_trait]
impl AttestationBackend for AttestationApi {
    async fn evaluate(&self, caller: &Peer, request: EvaluateRequest) -> Result<String, RpcFailure> {
        let inner = &self.trustee.inner;
        let id = request_id::new(inner.now());
        let (name, work_id) = (caller.name.clone(), id.clone());
        let (outcome, explanation) =
            self.trustee.writing(move |t| t.evaluate(request, &work_id, &name)).await?;
        let recorded = inner.record(explanation);
        match outcome {
            Ok(token) => {
                recorded.durable(inner).await?;
                Ok(token)
            }
            Err(failure) => {
                recorded.later();
                Err(RpcFailure { request_id: Some(id), ..failure.into() })
            }
        }
    }

    async fn set_policy(&self, caller: &Peer, id: &str, text: &str) -> Result<(), RpcFailure> {
        // Which secrets go out is not this interface's to say.
        if id == cocoon_policy::RESOURCE_POLICY_ID {
            let reason = "this id is the resource policy's";
            return Err(RpcFailure::new(Code::UsageInvalid, GrpcCode::InvalidArgument, reason));
        }
        let (id, text, author) = (id.to_owned(), text.to_owned(), caller.name.clone());
        let act = format!("set attestation policy {id}");
        self.act(caller, act, move |t| t.put_policy(&id, &text, &author, "").map(drop)).await
    }

    async fn list_policies(&self, _: &Peer) -> Result<Vec<String>, RpcFailure> {
        let listed = self.trustee.writing(|t| t.policies().list()).await?.map_err(Failure::from)?;
        Ok(listed.into_iter().map(|p| p.id).filter(|id| id != cocoon_policy::RESOURCE_POLICY_ID).collect())
    }

    async fn get_policy(&self, _: &Peer, id: &str) -> Result<Option<String>, RpcFailure> {
        if id == cocoon_policy::RESOURCE_POLICY_ID {
            return Ok(None);
        }
        let id = id.to_owned();
        let read = move |t: &Trustee| {
            let history = t.policies().history(&id)?;
            let Some(active) = history.iter().find(|v| v.active) else { return Ok(None) };
            Ok::<_, cocoon_policy::Error>(t.policies().get(&id, active.version)?.map(|(_, text)| text))
        };
        Ok(self.trustee.writing(read).await?.map_err(Failure::from)?)
    }

    /// A nonce of the caller's own use: this interface keeps no session, so nothing here will ask for it again.
    async fn challenge(&self, _: &Peer, parameters: BTreeMap<String, String>) -> Result<String, RpcFailure> {
        let tee = parameters.get("tee").map(|tee| tee.parse::<Tee>().map_err(Failure::from)).transpose()?;
        if tee == Some(Tee::Se) {
            let inner = &self.trustee.inner;
            let judge = inner.judge();
            let expected = judge.appraiser.trust().se.as_ref().ok_or_else(|| {
                let reason = "no machines of Secure Execution are configured here";
                Failure::new(Code::AttestTeeUnsupported, reason)
            })?;
            return Ok(se::challenge(expected, inner.now())?);
        }
        let mut nonce = [0u8; 32];
        aws_lc_rs::rand::fill(&mut nonce)
            .map_err(|_| RpcFailure::new(Code::Internal, GrpcCode::Internal, "no randomness"))?;
        Ok(b64::std_encode(&nonce))
    }

    async fn query_reference_value(&self, _: &Peer, id: &str) -> Result<Option<Value>, RpcFailure> {
        let id = id.to_owned();
        let now = self.trustee.inner.now();
        let read = move |t: &Trustee| t.references().lookup(&id, now);
        Ok(self.trustee.writing(read).await?.map_err(Failure::from)?)
    }

    async fn register_reference_value(&self, caller: &Peer, message: String) -> Result<(), RpcFailure> {
        // The caller is an administrator; what is signed is checked all the same.
        let options =
            ImportOptions { source: Some("rvps".into()), unsigned_ok: true, ..ImportOptions::default() };
        let work = move |t: &Trustee| t.import_references(message.as_bytes(), options).map(drop);
        self.act(caller, "register reference values".into(), work).await
    }

    fn jwks(&self) -> Value {
        self.trustee.jwks()
    }
}

/// The path by which access rules know an operation.
fn path(operation: Operation) -> &'static str {
    match operation {
        Operation::Evaluate => "/cocoon/as/attestation",
        Operation::Challenge => "/cocoon/as/challenge",
        Operation::SetPolicy | Operation::ListPolicies | Operation::GetPolicy => "/cocoon/as/policy",
        Operation::QueryReference | Operation::RegisterReference => "/cocoon/as/reference-value",
    }
}

#[async_trait]
impl Authenticate for AttestationApi {
    async fn authenticate(
        &self,
        credentials: &Credentials,
        operation: Operation,
    ) -> Result<Peer, RpcFailure> {
        let judge = self.trustee.inner.judge();
        let caller = Caller {
            method: match operation {
                Operation::ListPolicies | Operation::GetPolicy | Operation::QueryReference => "GET",
                _ => "POST",
            },
            path: path(operation),
            bearer: credentials.bearer.as_deref().map(String::as_str),
            client_certificate: credentials.client_certificate.as_deref(),
            tenant: None,
        };
        match judge.access.authorize(&caller, self.trustee.inner.now()).await {
            Ok(admin) => Ok(Peer {
                name: format!("{} ({})", admin.name, admin.role),
                tenant: admin.tenant,
                remote: credentials.remote,
            }),
            Err(denied) if denied.status() == 401 => Err(RpcFailure::unauthenticated()),
            Err(_) => Err(RpcFailure::denied()),
        }
    }
}
