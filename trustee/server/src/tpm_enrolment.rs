//! Guests' TPMs prove their attestation keys: `POST /cocoon/v0/tpm/challenge`, then `POST /cocoon/v0/tpm/activate`.
//!
//! The guest sends its endorsement key with certificates and its attestation key; where the certificates lead to a root that
//! the configuration names, it gets a secret that only a TPM with both keys can open. Who returns it gets an enrolment, which
//! goes into the evidence (`ak_enrolment`) and is good for as long as a challenge may be answered. Nothing is kept here:
//! what must be remembered travels sealed with the guest, so that any process of a shared state can go on with it.
//!
//! Messages: [`cocoon_protocol::tpm`].

use axum::extract::{Extension, State};
use axum::response::Response;
use cocoon_evidence::tpm::endorsement::fingerprint;
use cocoon_evidence::tpm::enrol::{Activated, Candidate, judge};
use cocoon_evidence::tpm::{SECRET, fresh_secret, is_secret};
use cocoon_protocol::b64;
use cocoon_protocol::tpm::{Candidature, CredentialAnswer, CredentialChallenge, Enrolled, MAX_CERTIFICATES};
use cocoon_stage::{Code, Failure};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use zeroize::Zeroizing;

use crate::inner::{Inner, Judge};
use crate::reply::{self, Refusal, Variant};
use crate::router::{Body, Peer, bytes};
use crate::{Trustee, request_id};

/// Places of what is sealed; a ticket is no enrolment.
const TICKET: (&str, &str) = ("tpm", "ticket");
const ENROLMENT: (&str, &str) = ("tpm", "enrolment");
/// Longest ticket or enrolment that is looked at, in characters.
const MAX_SEALED: usize = 16 * 1024;
/// What a ticket holds.
#[derive(Serialize, Deserialize)]
struct Waiting {
    secret: Zeroizing<[u8; SECRET]>,
    key: Activated,
    end_unix: u64,
}

/// What an enrolment holds.
#[derive(Serialize, Deserialize)]
struct Enrolment {
    key: Activated,
    end_unix: u64,
}

/// A challenge for the TPM that has both keys.
pub(crate) async fn challenge(
    State(trustee): State<Trustee>,
    peer: Option<Extension<Peer>>,
    body: Body,
) -> Response {
    let now = trustee.inner.now();
    let id = request_id::new(now);
    let body = match admitted(&trustee, peer, body, now) {
        Ok(body) => body,
        Err(refusal) => return refusal.response(&id),
    };
    let work = trustee.attesting(move |t| t.inner.tpm_challenge(&body, now)).await;
    answer(work, &id)
}

/// The enrolment, for the secret.
pub(crate) async fn activate(State(trustee): State<Trustee>, body: Body) -> Response {
    let now = trustee.inner.now();
    let id = request_id::new(now);
    answer(Ok(bytes(body).and_then(|body| trustee.inner.tpm_activate(&body, now))), &id)
}

/// The body, of a peer that does not ask too often.
fn admitted(
    trustee: &Trustee,
    peer: Option<Extension<Peer>>,
    body: Body,
    now: u64,
) -> Result<axum::body::Bytes, Refusal> {
    if let Some(Extension(Peer(address))) = peer
        && !trustee.inner.shared.peers.handshake(address.ip(), now)
    {
        let reason = format!("{} begins too many handshakes", address.ip());
        return Err(Refusal::coded(Variant::AttestationError, Code::ServerBusy, reason)
            .with_status(StatusCode::TOO_MANY_REQUESTS));
    }
    bytes(body)
}

fn answer<T: Serialize>(outcome: Result<Result<T, Refusal>, Failure>, id: &str) -> Response {
    match outcome.unwrap_or_else(|failure| Err(Refusal::internal(failure))) {
        Ok(value) => reply::json(StatusCode::OK, &value, id),
        Err(refusal) => refusal.response(id),
    }
}

fn protocol(reason: impl Into<String>) -> Refusal {
    Refusal::coded(Variant::SerdeError, Code::AttestProtocol, reason)
}

fn decoded(text: &str, what: &str) -> Result<Vec<u8>, Refusal> {
    b64::std_decode(text).map_err(|_| protocol(format!("{what} is not base64")))
}

impl Inner {
    fn tpm_challenge(&self, body: &[u8], now: u64) -> Result<CredentialChallenge, Refusal> {
        let asked: Candidature = serde_json::from_slice(body).map_err(|e| protocol(e.to_string()))?;
        if asked.ek_certificates.len() > MAX_CERTIFICATES {
            return Err(protocol("more than 8 certificates"));
        }
        let certificates = asked.ek_certificates.iter().map(|text| decoded(text, "a certificate"));
        let certificates = certificates.collect::<Result<Vec<_>, _>>()?;
        let (ek, ak) = (decoded(&asked.ek_public, "ek_public")?, decoded(&asked.ak_public, "ak_public")?);
        let refused = |failure: Failure| Refusal::new(Variant::AttestationError, failure);
        let candidate = Candidate::parse(&ek, certificates, &ak).map_err(|e| refused(e.into()))?;
        let rules = self.judge();
        let verdict = judge(&candidate, &rules.appraiser.trust().tpm, now);
        if let Some(failure) = verdict.failure() {
            return Err(refused(failure));
        }
        let key = candidate.activated(&verdict).map_err(|e| refused(e.into()))?;
        let secret = Zeroizing::new(fresh_secret().map_err(Refusal::internal)?);
        let challenge = candidate.challenge(&secret).map_err(|e| refused(e.into()))?;
        let end_unix = now.saturating_add(rules.config.session_lifetime.as_secs());
        Ok(CredentialChallenge {
            ticket: self.sealed(TICKET, &Waiting { secret, key, end_unix })?,
            credential_blob: b64::std_encode(&challenge.credential_blob),
            encrypted_secret: b64::std_encode(&challenge.encrypted_secret),
        })
    }

    fn tpm_activate(&self, body: &[u8], now: u64) -> Result<Enrolled, Refusal> {
        let refused = |code, reason: &str| Refusal::coded(Variant::AttestationError, code, reason);
        let answer: CredentialAnswer = serde_json::from_slice(body).map_err(|e| protocol(e.to_string()))?;
        let waiting: Waiting = self
            .opened(TICKET, &answer.ticket)
            .ok_or_else(|| refused(Code::AttestProtocol, "no ticket of this Trustee's"))?;
        if now >= waiting.end_unix {
            return Err(refused(Code::AttestNonceReplayed, "the challenge has expired"));
        }
        let secret = Zeroizing::new(decoded(&answer.secret, "secret")?);
        if !is_secret(&secret, &waiting.secret) {
            let reason = "the secret is another: no TPM that holds both keys has answered";
            return Err(refused(Code::AttestKeyUntrusted, reason));
        }
        let end_unix = now.saturating_add(self.judge().config.session_lifetime.as_secs());
        Ok(Enrolled { ak_enrolment: self.sealed(ENROLMENT, &Enrolment { key: waiting.key, end_unix })? })
    }

    /// The key whose enrolment comes with evidence of a TPM, if one does. It is still the configuration of now that decides:
    /// an enrolment is none where the root that vouched for its TPM is not among those of its kind any more.
    pub(crate) fn activated(
        &self,
        evidence: &Value,
        rules: &Judge,
        now: u64,
    ) -> Result<Option<Activated>, Failure> {
        let sealed = match evidence.get(cocoon_protocol::tpm::ENROLMENT) {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::String(sealed)) => sealed,
            Some(_) => {
                let reason = "ak_enrolment is not a text";
                return Err(Failure::new(Code::AttestEvidenceMalformed, reason));
            }
        };
        let untrusted = |reason: &str| Failure::new(Code::AttestKeyUntrusted, reason);
        let enrolment: Enrolment = self
            .opened(ENROLMENT, sealed)
            .ok_or_else(|| untrusted("the enrolment of the attestation key is not of this Trustee's"))?;
        if now >= enrolment.end_unix {
            return Err(untrusted("the enrolment of the attestation key has expired"));
        }
        let trust = &rules.appraiser.trust().tpm;
        let roots = if enrolment.key.simulated { &trust.simulated_roots } else { &trust.roots };
        if !roots.iter().any(|root| fingerprint(root) == enrolment.key.root_sha256) {
            return Err(untrusted("the root that vouched for the TPM is not trusted any more"));
        }
        Ok(Some(enrolment.key))
    }

    fn sealed(&self, place: (&str, &str), value: &impl Serialize) -> Result<String, Refusal> {
        let internal = |reason: String| Refusal::internal(Failure::new(Code::Internal, reason));
        let plain = Zeroizing::new(serde_json::to_vec(value).map_err(|e| internal(e.to_string()))?);
        let sealed = self.cookies.seal(place.0, place.1, &plain).map_err(|e| internal(e.to_string()))?;
        Ok(b64::url_encode(&sealed))
    }

    fn opened<T: for<'a> Deserialize<'a>>(&self, place: (&str, &str), text: &str) -> Option<T> {
        let sealed = (text.len() <= MAX_SEALED).then(|| b64::url_decode(text).ok()).flatten()?;
        let plain = self.cookies.open(place.0, place.1, &sealed).ok()?;
        serde_json::from_slice(&plain).ok()
    }
}
