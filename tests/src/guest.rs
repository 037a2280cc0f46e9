//! A guest as Trustee sees it: the handshake and resources, whole or piece by piece.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use async_trait::async_trait;
use cocoon_evidence::{sample, snp};
use cocoon_http::{Client, Request, header};
use cocoon_kbs::EvidenceSource;
use cocoon_protocol::initdata::{InitData, host_data};
use cocoon_protocol::messages::Challenge;
use cocoon_protocol::{HashAlgorithm, Tee, TeeKeyPair, report_data};
use cocoon_sim::{GuestContext, SecureProcessor};
use cocoon_stage::{Code, Failure};
use serde_json::{Value, json};

use crate::{Reply, Served};

/// Launch measurement of simulated guests.
const MEASUREMENT: [u8; 48] = [0x5a; 48];
/// No debugging.
const POLICY: u64 = 0x3_0000;

/// What makes a guest's evidence.
#[derive(Clone)]
pub enum Attester {
    /// CoCo's sample evidence, which anybody can make.
    Sample,
    /// The simulated secure processor.
    Simulated(Arc<SecureProcessor>, Option<Arc<InitData>>),
}

impl Attester {
    /// Reference values by name that affirm its guests.
    pub fn reference_values(&self) -> Value {
        match self {
            Attester::Sample => json!({
                "launch_digest": ["abcde"], "svn": ["1"], "major_version": [1], "minimum_minor_version": [1],
            }),
            Attester::Simulated(processor, _) => {
                let tcb = processor.tcb();
                json!({
                    "sim_launch_measurement": [hex::encode(MEASUREMENT)],
                    "sim_bootloader": [tcb.bootloader], "sim_microcode": [tcb.microcode],
                    "sim_snp_svn": [tcb.snp], "sim_tee_svn": [tcb.tee],
                })
            }
        }
    }

    fn make(&self, data: &[u8]) -> Result<Value> {
        match self {
            Attester::Sample => {
                let evidence = sample::Evidence { svn: "1".into(), report_data: data.to_vec() };
                Ok(evidence.to_json())
            }
            Attester::Simulated(processor, plan) => {
                let mut field = [0; 64];
                field.get_mut(..data.len()).context("report data is too long")?.copy_from_slice(data);
                let host_data = plan.as_ref().map_or([0; 32], |plan| host_data(&plan.digest()));
                let context = GuestContext { measurement: MEASUREMENT, host_data, policy: POLICY };
                let report = snp::Report::parse(&processor.report(&context, &field)?)?;
                let data = processor.vcek_der().to_vec();
                let vcek = snp::CertEntry { cert_type: "VCEK".into(), data };
                Ok(snp::Evidence { report, cert_chain: vec![vcek] }.to_json())
            }
        }
    }
}

#[async_trait]
impl EvidenceSource for Attester {
    fn tee(&self) -> Tee {
        match self {
            Attester::Sample => Tee::Sample,
            Attester::Simulated(..) => Tee::Snp,
        }
    }

    async fn evidence(&self, data: &[u8]) -> Result<Value, Failure> {
        self.make(data).map_err(|e| Failure::new(Code::AttestEvidenceMalformed, e.to_string()))
    }
}

/// A guest with connections of its own. Clones share them.
#[derive(Clone)]
pub struct Guest {
    http: Client,
    url: String,
    attester: Attester,
}

/// The answer to a challenge: it can be sent once, or, by who has no right to, several times and elsewhere.
#[derive(Clone)]
pub struct Answer {
    /// The session's cookie, `name=value`.
    pub cookie: String,
    /// The message.
    pub body: Vec<u8>,
    key: Arc<TeeKeyPair>,
}

impl Guest {
    /// A guest of this Trustee.
    ///
    /// # Errors
    /// Where its certificate cannot be read.
    pub fn of(trustee: &Served, attester: &Attester) -> Result<Self> {
        Ok(Guest { http: trustee.http()?, url: trustee.url().to_owned(), attester: attester.clone() })
    }

    /// Asks for a challenge and makes the answer, without sending it.
    ///
    /// # Errors
    /// Where no answer comes, or not a challenge.
    pub async fn begin(&self) -> Result<Answer> {
        let hello = json!({"version": "0.4.0", "tee": self.attester.tee(), "extra-params": ""});
        let reply = self.post("auth", None, hello.to_string().into_bytes()).await?.succeeded()?;
        let cookie = reply.header("set-cookie").split(';').next().unwrap_or_default().to_owned();
        let challenge: Challenge = serde_json::from_slice(&reply.body)?;
        let key = TeeKeyPair::generate()?;
        let public = key.public();
        let data = report_data(HashAlgorithm::Sha384, &challenge.nonce, &public, "")?;
        let plan = match &self.attester {
            Attester::Simulated(_, Some(plan)) => json!({"format": "toml", "body": plan.text()}),
            _ => Value::Null,
        };
        let message = json!({
            "init-data": plan,
            "runtime-data": {"nonce": challenge.nonce, "tee-pubkey": public},
            "tee-evidence": {"primary_evidence": self.attester.make(&data)?, "additional_evidence": ""},
        });
        Ok(Answer { cookie, body: message.to_string().into_bytes(), key: Arc::new(key) })
    }

    /// Sends an answer.
    ///
    /// # Errors
    /// Where nothing comes back.
    pub async fn attest(&self, answer: &Answer) -> Result<Reply> {
        self.post("attest", Some(&answer.cookie), answer.body.clone()).await
    }

    /// Asks for a resource by its path.
    ///
    /// # Errors
    /// Where nothing comes back.
    pub async fn resource(&self, token: &str, path: &str) -> Result<Reply> {
        let request = Request::get(format!("{}/kbs/v0/resource/{path}", self.url))
            .header(header::AUTHORIZATION, format!("Bearer {token}"))
            .body(Default::default())?;
        Reply::of(&self.http, request).await
    }

    async fn post(&self, path: &str, cookie: Option<&str>, body: Vec<u8>) -> Result<Reply> {
        let mut request = Request::post(format!("{}/kbs/v0/{path}", self.url));
        if let Some(cookie) = cookie {
            request = request.header(header::COOKIE, cookie);
        }
        Reply::of(&self.http, request.header(header::CONTENT_TYPE, "application/json").body(body.into())?)
            .await
    }
}

impl Answer {
    /// The value in an answer to [`Guest::resource`], opened with this handshake's key.
    ///
    /// # Errors
    /// Where it is no success or for another key.
    pub fn open(&self, reply: Reply) -> Result<Vec<u8>> {
        let reply = reply.succeeded()?;
        Ok(self.key.decrypt(&serde_json::from_slice(&reply.body)?)?.to_vec())
    }
}

/// The token in a successful answer to [`Guest::attest`].
///
/// # Errors
/// Where there is none.
pub fn token(reply: &Reply) -> Result<String> {
    match reply.json()?.get("token").and_then(Value::as_str) {
        Some(token) if reply.status == 200 => Ok(token.to_owned()),
        _ => bail!("status {}: {}", reply.status, String::from_utf8_lossy(&reply.body)),
    }
}
