//! Guests of any kind: the handshake with whatever evidence a test makes, and what a registration gives them.

use std::collections::BTreeMap;

use cocoon_protocol::initdata::InitData;
use cocoon_protocol::{HashAlgorithm, report_data};
use serde_json::{Value, json};

use crate::support::*;

/// What every registration here gives.
pub const OWN: &str = "default/secret/own";

/// A guest that has not spoken to Trustee yet.
pub struct Attester {
    pub guest: Guest,
    pub tee: &'static str,
}

impl Attester {
    pub async fn new(world: &World, tee: &'static str, init_data: Option<InitData>) -> Attester {
        Attester { guest: world.guest(init_data).await, tee }
    }

    /// The challenge's nonce, as text.
    pub async fn auth(&mut self) -> Result<String, Reply> {
        self.auth_by("0.4.0").await
    }

    pub async fn auth_by(&mut self, version: &str) -> Result<String, Reply> {
        let body = json!({"version": version, "tee": self.tee, "extra-params": ""});
        let reply = self.guest.post("/kbs/v0/auth", &body).await;
        if reply.status != 200 {
            return Err(reply);
        }
        Ok(reply.json()["nonce"].as_str().unwrap().to_owned())
    }

    /// What the guest's evidence must carry.
    pub fn report_data(&self, nonce: &str, devices: &str) -> Vec<u8> {
        let hash = if self.tee == "se" { HashAlgorithm::Sha512 } else { HashAlgorithm::Sha384 };
        report_data(hash, nonce, &self.guest.key.public(), devices).unwrap()
    }

    pub fn message(&self, nonce: &str, evidence: &Value, devices: &str) -> Value {
        let mut message = json!({
            "runtime-data": {"nonce": nonce, "tee-pubkey": self.guest.key.public()},
            "tee-evidence": {"primary_evidence": evidence, "additional_evidence": devices},
        });
        if let Some(init_data) = &self.guest.init_data {
            message["init-data"] = json!({"format": "toml", "body": init_data.text()});
        }
        message
    }

    /// The token or the refusal.
    pub async fn answer(&mut self, message: &Value) -> Result<String, Reply> {
        let reply = self.guest.post("/kbs/v0/attest", message).await;
        if reply.status != 200 {
            return Err(reply);
        }
        Ok(reply.json()["token"].as_str().unwrap().to_owned())
    }

    /// The whole handshake with evidence made for its report data.
    pub async fn attest(&mut self, evidence: impl FnOnce(&[u8]) -> Value) -> Result<String, Reply> {
        let nonce = self.auth().await?;
        let evidence = evidence(&self.report_data(&nonce, ""));
        let message = self.message(&nonce, &evidence, "");
        self.answer(&message).await
    }

    /// The registration's secret, or the code of the owner's explanation of its refusal.
    pub async fn secret(&mut self, world: &World, token: &str) -> Result<Vec<u8>, String> {
        let reply = self.guest.get(token, OWN).await;
        if reply.status == 200 {
            return Ok(self.guest.decrypt(&reply));
        }
        Err(world.explain(&reply).code.unwrap().to_string())
    }
}

/// The code of a refused handshake; the owner's explanation must say the same.
pub fn code(world: &World, outcome: Result<String, Reply>) -> String {
    let reply = outcome.expect_err("a refusal");
    let code = reply.code().to_owned();
    assert_eq!(world.explain(&reply).code.unwrap().to_string(), code);
    code
}

/// Names of the steps that failed.
pub fn failed(world: &World, reply: &Reply) -> Vec<String> {
    let steps = world.explain(reply).steps;
    steps.into_iter().filter(|step| step.code.is_some()).map(|step| step.name).collect()
}

pub fn plan(name: &str, algorithm: HashAlgorithm) -> InitData {
    let data = BTreeMap::from([("plan.json".to_owned(), format!("{{\"name\":\"{name}\"}}"))]);
    InitData::new(algorithm, data)
}

/// Registers a plan with its own secret.
pub fn register(world: &World, plan: &InitData, accept_simulated: bool) {
    world.register(&cocoon_trustee::Registration { accept_simulated, ..registration(plan) });
}

pub fn values(world: &World, values: &[(&str, Value)]) {
    let values: BTreeMap<String, Vec<Value>> =
        values.iter().map(|(name, value)| ((*name).to_owned(), vec![value.clone()])).collect();
    world.trustee.put_reference_values("test", &values, None).unwrap();
}

/// Claims of a token that is good at that instant.
pub fn claims_at(world: &World, token: &str, now: u64) -> Value {
    cocoon_protocol::token::verify(token.trim(), &world.trustee.jwks(), now).unwrap()
}

pub fn claims(world: &World, token: &str) -> Value {
    claims_at(world, token, cocoon_trustee::system_clock()())
}

/// What a token says of the guest's own TEE.
pub fn said<'a>(claims: &'a Value, tee: &str) -> &'a Value {
    &claims["submods"]["cpu0"]["ear.veraison.annotated-evidence"][tee]
}

/// How a kind of guest is expected to bind its initdata.
pub struct Kind {
    pub tee: &'static str,
    /// Its keys are a test's, and tokens say so.
    pub simulated: bool,
    /// What becomes of a digest of 48 bytes: a code of the handshake, or none where only its release is refused.
    pub longer: Option<&'static str>,
}

/// A registration's secret goes to the guest that was started with its plan, and to no other. `make` makes evidence that
/// carries this report data and binds this digest; its measurements are registered already.
pub async fn released_by_digest(world: &World, kind: &Kind, make: &(dyn Fn(&[u8], &[u8]) -> Value + Sync)) {
    let tee = kind.tee;
    let (own, other) = (plan("own", HashAlgorithm::Sha256), plan("other", HashAlgorithm::Sha256));
    register(world, &own, kind.simulated);
    let digest = own.digest();
    let mut guest = Attester::new(world, tee, Some(own.clone())).await;
    let token = guest.attest(|data| make(data, &digest)).await;
    let token = token.unwrap_or_else(|reply| panic!("{tee}: {:#?}", world.explain(&reply)));
    let claims = claims(world, &token);
    let cpu = &claims["submods"]["cpu0"];
    assert_eq!(cpu["ear.status"], "affirming", "{tee}: {cpu}");
    assert_eq!(cpu.get("ear.cocoon.simulated").is_some(), kind.simulated, "{tee}");
    assert_eq!(guest.secret(world, &token).await.unwrap(), b"s3cret", "{tee}");
    // What the owner reads names the plan.
    let latest = world.trustee.latest_explanations(1).unwrap();
    assert_eq!(latest[0].init_data.as_deref(), Some(hex::encode(&digest).as_str()), "{tee}");

    // Evidence for this plan is none for another, and none for another challenge or key.
    let mut liar = Attester::new(world, tee, Some(other.clone())).await;
    let refused = liar.attest(|data| make(data, &digest)).await;
    assert_eq!(code(world, refused), "ATTEST-INITDATA-MISMATCH", "{tee}");
    let nonce = guest.auth().await.unwrap();
    let stale = make(&guest.report_data("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", ""), &digest);
    let refused = guest.answer(&guest.message(&nonce, &stale, "")).await;
    assert_eq!(code(world, refused), "ATTEST-REPORT-DATA-MISMATCH", "{tee}");
    let nonce = guest.auth().await.unwrap();
    let foreign = make(&liar.report_data(&nonce, ""), &digest);
    let refused = guest.answer(&guest.message(&nonce, &foreign, "")).await;
    assert_eq!(code(world, refused), "ATTEST-REPORT-DATA-MISMATCH", "{tee}");

    // A guest of another plan has a token, and nothing for it.
    let mut stranger = Attester::new(world, tee, Some(other.clone())).await;
    let token = stranger.attest(|data| make(data, &other.digest())).await.unwrap();
    assert_eq!(stranger.secret(world, &token).await.unwrap_err(), "RELEASE-WORKLOAD-UNKNOWN", "{tee}");

    // A registration is a digest of 32 bytes: a longer one is never cut down to it.
    let longer = plan("longer", HashAlgorithm::Sha384);
    register(world, &longer, kind.simulated);
    let mut guest = Attester::new(world, tee, Some(longer.clone())).await;
    let outcome = guest.attest(|data| make(data, &longer.digest())).await;
    match kind.longer {
        Some(expected) => assert_eq!(code(world, outcome), expected, "{tee}"),
        None => {
            let refused = guest.secret(world, &outcome.unwrap()).await.unwrap_err();
            assert_eq!(refused, "RELEASE-WORKLOAD-UNKNOWN", "{tee}");
        }
    }
    if kind.simulated {
        register(world, &own, false);
        let mut guest = Attester::new(world, tee, Some(own.clone())).await;
        let token = guest.attest(|data| make(data, &digest)).await.unwrap();
        assert_eq!(guest.secret(world, &token).await.unwrap_err(), "ATTEST-SIMULATED-REFUSED", "{tee}");
    }
}
