//! The handshake and the resource request (KBS protocol 0.4.0; messages as in cocoon-protocol).

use async_trait::async_trait;
use bytes::Bytes;
use cocoon_http::{Client, Request, Response, header};
use cocoon_protocol::initdata::InitData;
use cocoon_protocol::jwe::JweFlattened;
use cocoon_protocol::messages;
use cocoon_protocol::tpm::{self, Candidature, CredentialChallenge};
use cocoon_protocol::uri::ResourceUri;
use cocoon_protocol::{HashAlgorithm, Tee, TeeKeyPair};
use cocoon_stage::{Code, Failure};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::Error;

/// Largest answer to a handshake message, in bytes: tokens carry claims and certificates.
const MAX_MESSAGE: usize = 1 << 20;
/// Largest resource (as JWE), in bytes.
const MAX_RESOURCE: usize = 8 << 20;

/// Whatever makes evidence over report data: the guest's TEE.
#[async_trait]
pub trait EvidenceSource: Send + Sync {
    /// The kind of TEE.
    fn tee(&self) -> Tee;
    /// Evidence JSON over the report data (48 or 64 bytes, zero-padded by the source to its field).
    async fn evidence(&self, report_data: &[u8]) -> Result<Value, Failure>;
    /// The TPM that is to prove the key by which it signs evidence, if the platform is one.
    fn prover(&self) -> Option<&dyn KeyProver> {
        None
    }
}

/// A TPM that proves to hold an attestation key.
#[async_trait]
pub trait KeyProver: Send + Sync {
    /// The keys, with the maker's certificates.
    async fn candidature(&self) -> Result<Candidature, Failure>;
    /// The secret of a challenge.
    async fn activate(&self, challenge: &CredentialChallenge) -> Result<Vec<u8>, Failure>;
}

/// A client of one Trustee.
#[derive(Debug)]
pub struct KbsClient {
    http: Client,
    base: String,
}

/// What a handshake gives: the token and the key that it is bound to.
pub struct Session {
    token: String,
    key: TeeKeyPair,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Session(…)")
    }
}

impl Session {
    /// The attestation token (JWT).
    pub fn token(&self) -> &str {
        &self.token
    }

    /// The private key that the token's `tee-pubkey` belongs to, PKCS#8 PEM.
    pub fn key_pem(&self) -> Zeroizing<String> {
        self.key.to_pkcs8_pem()
    }
}

impl KbsClient {
    /// A client of the Trustee at `url` (scheme, host and port; a path prefix is kept).
    pub fn new(http: Client, url: &str) -> Self {
        KbsClient { http, base: format!("{}/kbs/v0", url.trim_end_matches('/')) }
    }

    /// Attests: a fresh key, a challenge, evidence over both, a token.
    ///
    /// # Errors
    /// Every [`Error`] but [`Error::Undecryptable`].
    pub async fn attest(
        &self,
        source: &dyn EvidenceSource,
        initdata: Option<&InitData>,
    ) -> Result<Session, Error> {
        // A Trustee that does not enrol, or not this one, may still know the key; where it does not, this is the reason.
        let enrolment = match source.prover() {
            Some(prover) => Some(self.enrol(prover).await),
            None => None,
        };
        // The key costs time under emulation and does not need the challenge.
        let key_task = tokio::task::spawn_blocking(TeeKeyPair::generate);
        let request = messages::Request {
            version: "0.4.0".into(),
            tee: source.tee(),
            extra_params: json!({"supported-hash-algorithms": ["sha256", "sha384", "sha512"]}),
        };
        let answer = self.post("auth", &request, None).await?;
        let cookie = cookie(&answer)?;
        let challenge: messages::Challenge = read("auth", answer).await?;
        let key = key_task.await.map_err(|e| malformed("auth", e))??;

        let algorithm = selected_hash(&challenge.extra_params)?;
        let public = key.public();
        let report_data = cocoon_protocol::report_data(algorithm, &challenge.nonce, &public, "")?;
        let mut evidence = source.evidence(&report_data).await.map_err(Error::Evidence)?;
        if let (Some(Ok(enrolled)), Value::Object(members)) = (&enrolment, &mut evidence) {
            members.insert(tpm::ENROLMENT.to_owned(), enrolled.ak_enrolment.clone().into());
        }
        let attestation = messages::Attestation {
            init_data: initdata
                .map(|i| messages::InitDataMessage { format: "toml".into(), body: i.text().to_owned() }),
            runtime_data: messages::RuntimeData { nonce: challenge.nonce, tee_pubkey: public },
            tee_evidence: messages::TeeEvidence {
                primary_evidence: evidence,
                additional_evidence: String::new(),
            },
        };
        let answer = match self.post("attest", &attestation, Some(&cookie)).await {
            Err(Error::Refused { code: Some(Code::AttestKeyUntrusted), .. }) if matches!(&enrolment, Some(Err(e)) if !e.is_not_found()) =>
            {
                return Err(enrolment
                    .and_then(Result::err)
                    .unwrap_or_else(|| malformed("attest", "no reason")));
            }
            other => other?,
        };
        let response: messages::AttestResponse = read("attest", answer).await?;
        if response.token.is_empty() {
            return Err(malformed("attest", "the token is empty"));
        }
        Ok(Session { token: response.token, key })
    }

    /// Proves a TPM's attestation key; what Trustee gives for it goes into the evidence.
    async fn enrol(&self, prover: &dyn KeyProver) -> Result<tpm::Enrolled, Error> {
        let asked = prover.candidature().await.map_err(Error::Evidence)?;
        let answer = self.post_own(tpm::CHALLENGE_PATH, &asked).await?;
        let challenge: CredentialChallenge = read(tpm::CHALLENGE_PATH, answer).await?;
        let secret = Zeroizing::new(prover.activate(&challenge).await.map_err(Error::Evidence)?);
        let secret = cocoon_protocol::b64::std_encode(&secret);
        let answer = tpm::CredentialAnswer { ticket: challenge.ticket, secret };
        read(tpm::ACTIVATE_PATH, self.post_own(tpm::ACTIVATE_PATH, &answer).await?).await
    }

    /// Posts to a path of Cocoon's own, beside the protocol's.
    async fn post_own(&self, path: &str, message: &impl serde::Serialize) -> Result<Response, Error> {
        let body = serde_json::to_vec(message).map_err(|e| malformed(path, e))?;
        let base = self.base.trim_end_matches("/kbs/v0");
        let request =
            Request::post(format!("{base}/{path}")).header(header::CONTENT_TYPE, "application/json");
        let request = request.body(body.into()).map_err(|e| malformed(path, e))?;
        check(path, self.http.send(request).await?).await
    }

    /// Fetches a resource with the session's token and decrypts it.
    ///
    /// # Errors
    /// [`Error::Refused`] where Trustee denies it, [`Error::Undecryptable`] where its answer was altered.
    pub async fn resource(&self, session: &Session, uri: &ResourceUri) -> Result<Zeroizing<Vec<u8>>, Error> {
        let path = format!("{}/{}", uri.plugin, uri.path());
        let request = Request::get(format!("{}/{path}", self.base))
            .header(header::AUTHORIZATION, format!("Bearer {}", session.token))
            .body(Bytes::new())
            .map_err(|e| malformed(&path, e))?;
        let answer = check(&path, self.http.send(request).await?).await?;
        let body = answer.bytes(MAX_RESOURCE).await?;
        let jwe: JweFlattened = serde_json::from_slice(&body).map_err(|e| malformed(&path, e))?;
        session.key.decrypt(&jwe).map_err(|_| Error::Undecryptable(path))
    }

    /// Tells the owner, through Trustee, what went wrong in this guest; gives the id under which it is kept.
    /// Cocoon's own: other key brokers answer 404.
    ///
    /// # Errors
    /// [`Error::Refused`], [`Error::Http`].
    pub async fn report(&self, session: &Session, failure: &Failure) -> Result<String, Error> {
        let path = "report";
        let base = self.base.trim_end_matches("/kbs/v0");
        let body = serde_json::to_vec(failure).map_err(|e| malformed(path, e))?;
        let request = Request::post(format!("{base}/cocoon/v0/{path}"))
            .header(header::AUTHORIZATION, format!("Bearer {}", session.token))
            .header(header::CONTENT_TYPE, "application/json")
            .body(body.into())
            .map_err(|e| malformed(path, e))?;
        let answer = check(path, self.http.send(request).await?).await?;
        answer.header("x-request-id").map(str::to_owned).ok_or_else(|| malformed(path, "no request id"))
    }

    async fn post(
        &self,
        path: &str,
        message: &impl serde::Serialize,
        cookie: Option<&str>,
    ) -> Result<Response, Error> {
        let body = serde_json::to_vec(message).map_err(|e| malformed(path, e))?;
        let mut request =
            Request::post(format!("{}/{path}", self.base)).header(header::CONTENT_TYPE, "application/json");
        if let Some(cookie) = cookie {
            request = request.header(header::COOKIE, cookie);
        }
        let request = request.body(body.into()).map_err(|e| malformed(path, e))?;
        check(path, self.http.send(request).await?).await
    }
}

fn malformed(path: &str, problem: impl std::fmt::Display) -> Error {
    Error::Malformed { path: path.to_owned(), problem: problem.to_string() }
}

/// The `kbs-session-id=…` pair of the answer's `Set-Cookie`.
fn cookie(answer: &Response) -> Result<String, Error> {
    answer
        .headers
        .get_all(header::SET_COOKIE)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .filter_map(|v| v.split(';').next())
        .find(|pair| pair.starts_with("kbs-session-id="))
        .map(str::to_owned)
        .ok_or_else(|| malformed("auth", "no session cookie"))
}

async fn read<T: DeserializeOwned>(path: &str, answer: Response) -> Result<T, Error> {
    let body = answer.bytes(MAX_MESSAGE).await?;
    serde_json::from_slice(&body).map_err(|e| malformed(path, e))
}

/// The hash that the challenge selects: SHA-384 where it names none.
fn selected_hash(extra: &Value) -> Result<HashAlgorithm, Error> {
    match extra.get("selected-hash-algorithm") {
        None => Ok(HashAlgorithm::Sha384),
        Some(Value::String(name)) => Ok(name.to_ascii_lowercase().parse::<HashAlgorithm>()?),
        Some(other) => Err(malformed("auth", format!("selected-hash-algorithm is {other}"))),
    }
}

async fn check(path: &str, answer: Response) -> Result<Response, Error> {
    let status = answer.status;
    if status.is_success() {
        return Ok(answer);
    }
    let code = answer.header("x-cocoon-code").and_then(|c| c.parse::<Code>().ok());
    let request_id = answer
        .header("x-request-id")
        .filter(|id| id.len() <= 64 && id.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'))
        .map(str::to_owned);
    let body = answer.bytes(64 << 10).await.unwrap_or_default();
    let detail = match serde_json::from_slice::<messages::ErrorInformation>(&body) {
        Ok(information) => information.detail,
        Err(_) => String::from_utf8_lossy(&body).into_owned(),
    };
    let detail = detail.chars().filter(|c| !c.is_control()).take(500).collect();
    Err(Error::Refused { path: path.to_owned(), status: status.as_u16(), code, request_id, detail })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_challenge_selects_the_hash() {
        assert_eq!(selected_hash(&json!("")).unwrap(), HashAlgorithm::Sha384);
        assert_eq!(selected_hash(&json!({})).unwrap(), HashAlgorithm::Sha384);
        let sha512 = json!({"selected-hash-algorithm": "SHA512"});
        assert_eq!(selected_hash(&sha512).unwrap(), HashAlgorithm::Sha512);
        for bad in [json!({"selected-hash-algorithm": ""}), json!({"selected-hash-algorithm": 7})] {
            assert!(selected_hash(&bad).is_err(), "{bad}");
        }
    }
}
