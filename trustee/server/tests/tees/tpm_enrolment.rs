//! Guests whose TPM proves its key: the guest's own attester and client against a whole Trustee, with swtpm as the TPM.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use cocoon_attest::Attester as Tpm;
use cocoon_attest::tpm::{Channel, attester_over};
use cocoon_evidence::tpm::Trust as TpmTrust;
use cocoon_evidence::x509::Certificate;
use cocoon_http::{Options, Roots};
use cocoon_kbs::{EvidenceSource, KbsClient, KeyProver};
use cocoon_protocol::initdata::InitData;
use cocoon_protocol::tpm::{Candidature, CredentialChallenge};
use cocoon_protocol::{HashAlgorithm, Tee, b64};
use cocoon_stage::{Code, Failure};
use cocoon_trustee::{Limits, Trust};
use serde_json::{Value, json};

use crate::guests::*;
use crate::support::*;

/// A software TPM with a certified endorsement key; it ends with this value.
struct Soft {
    dir: tempfile::TempDir,
    process: Child,
}

impl Drop for Soft {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

struct Socket(UnixStream);

impl Channel for Socket {
    fn transact(&mut self, command: &[u8]) -> std::io::Result<Vec<u8>> {
        self.0.write_all(command)?;
        let mut head = [0; 10];
        self.0.read_exact(&mut head)?;
        let mut response = head.to_vec();
        response.resize(u32::from_be_bytes(head[2..6].try_into().unwrap()) as usize, 0);
        self.0.read_exact(&mut response[10..])?;
        Ok(response)
    }
}

impl Soft {
    fn start() -> Option<Soft> {
        if !["/usr/bin/swtpm", "/usr/bin/swtpm_setup"].iter().all(|path| Path::new(path).exists()) {
            println!("skipped: swtpm is not installed");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).display().to_string();
        for name in ["ca", "state"] {
            std::fs::create_dir(at(name)).unwrap();
        }
        let ca = at("ca");
        let ca = format!(
            "statedir = {ca}\nsigningkey = {ca}/key.pem\nissuercert = {ca}/issuer.pem\ncertserial = {ca}/serial\n"
        );
        std::fs::write(at("ca.conf"), ca).unwrap();
        let options = "--platform-manufacturer Test\n--platform-version 1\n--platform-model Test\n";
        std::fs::write(at("ca.options"), options).unwrap();
        let setup = format!(
            "create_certs_tool = swtpm_localca\ncreate_certs_tool_config = {}\ncreate_certs_tool_options = {}\n",
            at("ca.conf"),
            at("ca.options")
        );
        std::fs::write(at("setup.conf"), setup).unwrap();
        let made = Command::new("swtpm_setup")
            .args(["--tpm2", "--create-ek-cert", "--pcr-banks", "sha256", "--tpmstate", &at("state")])
            .args(["--config", &at("setup.conf")])
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stdout));
        let process = Command::new("swtpm")
            .args(["socket", "--tpm2", "--flags", "not-need-init,startup-clear", "--tpmstate"])
            .args([&format!("dir={}", at("state")), "--server", &format!("type=unixio,path={}", at("tpm"))])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        Some(Soft { dir, process })
    }

    /// The guest's attester, booted with that plan.
    fn booted(&self, plan: &InitData) -> Arc<dyn Tpm> {
        let begun = Instant::now();
        let stream = loop {
            match UnixStream::connect(self.dir.path().join("tpm")) {
                Ok(stream) => break stream,
                Err(e) => assert!(begun.elapsed() < Duration::from_secs(20), "{e}"),
            }
            std::thread::yield_now();
        };
        attester_over(Box::new(Socket(stream)), &plan.digest()).unwrap()
    }

    fn root(&self) -> Vec<Certificate> {
        vec![Certificate::parse(&std::fs::read(self.dir.path().join("ca/issuer.pem")).unwrap()).unwrap()]
    }
}

/// What a guest's hub makes of its attester, with what a host may do to it on the way.
struct Source {
    tpm: Arc<dyn Tpm>,
    /// Evidence of this one instead.
    instead: Option<Arc<dyn Tpm>>,
    /// What the TPM's answer to the challenge becomes.
    answer: fn(Vec<u8>) -> Vec<u8>,
}

impl Source {
    fn of(tpm: &Arc<dyn Tpm>) -> Source {
        Source { tpm: tpm.clone(), instead: None, answer: |secret| secret }
    }
}

#[async_trait::async_trait]
impl EvidenceSource for Source {
    fn tee(&self) -> Tee {
        Tee::Tpm
    }

    async fn evidence(&self, report_data: &[u8]) -> Result<Value, Failure> {
        self.instead.as_ref().unwrap_or(&self.tpm).evidence(report_data).await
    }

    fn prover(&self) -> Option<&dyn KeyProver> {
        Some(self)
    }
}

#[async_trait::async_trait]
impl KeyProver for Source {
    async fn candidature(&self) -> Result<Candidature, Failure> {
        self.tpm.key_proof().unwrap().candidature().await
    }

    async fn activate(&self, challenge: &CredentialChallenge) -> Result<Vec<u8>, Failure> {
        Ok((self.answer)(self.tpm.key_proof().unwrap().activate(challenge).await?))
    }
}

/// Every TPM of these roots.
fn any(roots: Vec<Certificate>) -> TpmTrust {
    TpmTrust { roots, any_of_roots: true, ..TpmTrust::default() }
}

async fn trusting(tpm: TpmTrust) -> World {
    World::with(|config| config.live.trust = Trust { tpm, ..Trust::default() }, Limits::default()).await
}

fn client(world: &World) -> KbsClient {
    let roots = Roots::Pinned(vec![world.certificate().to_owned()]);
    let http = cocoon_http::Client::new(Options { roots, ..Options::default() }).unwrap();
    KbsClient::new(http, &format!("https://127.0.0.1:{}", world.address.port()))
}

async fn token(world: &World, source: &Source, plan: &InitData) -> Result<String, Code> {
    match client(world).attest(source, Some(plan)).await {
        Ok(session) => Ok(session.token().to_owned()),
        Err(error) => Err(error.into_failure(cocoon_stage::Stage::Attest).code),
    }
}

/// Registers what a register of a freshly started swtpm holds.
fn known(world: &World, prefix: &str) {
    let names = [0, 2, 4, 7, 9].map(|n| format!("{prefix}tpm_pcr{n:02}"));
    values(world, &names.each_ref().map(|name| (name.as_str(), json!("00".repeat(32)))));
}

#[tokio::test]
async fn a_key_that_a_trusted_makers_tpm_proves_is_trusted() {
    let Some(soft) = Soft::start() else { return };
    let plan = plan("own", HashAlgorithm::Sha256);
    let world = trusting(any(soft.root())).await;
    register(&world, &plan, false);
    let tpm = soft.booted(&plan);
    let source = Source::of(&tpm);
    assert_eq!(token(&world, &source, &plan).await.unwrap_err(), Code::AttestMeasurementUnknown);
    known(&world, "");
    let token = token(&world, &source, &plan).await.unwrap();
    let claims = claims(&world, &token);
    let of = said(&claims, "tpm");
    assert_eq!((&of["ak_trusted"], &of["tpm_model"]), (&json!(true), &json!("swtpm")));
    assert_eq!(of["init_data_digest"], hex::encode(plan.digest()));
    assert!(claims["submods"]["cpu0"].get("ear.cocoon.simulated").is_none());
    // Of what it proved, the owner's explanation tells.
    let steps = world.trustee.latest_explanations(1).unwrap().remove(0).steps;
    let trust = steps.iter().find(|step| step.name == "ak.trust").unwrap();
    assert!(trust.got.contains("swtpm"), "{}", trust.got);
    world.stop().await;
}

/// A maker's root vouches for every TPM of that maker's, an attacker's too: which of them it is must be known.
#[tokio::test]
async fn a_makers_root_alone_is_no_reason_to_trust_its_tpms() {
    let Some(soft) = Soft::start() else { return };
    let plan = plan("own", HashAlgorithm::Sha256);
    let roots = || TpmTrust { roots: soft.root(), ..TpmTrust::default() };
    let world = trusting(roots()).await;
    register(&world, &plan, false);
    known(&world, "");
    let tpm = soft.booted(&plan);
    let source = Source::of(&tpm);
    assert_eq!(token(&world, &source, &plan).await.unwrap_err(), Code::AttestKeyUntrusted);
    // Which TPM it was, the owner's explanation tells, and so what to register.
    let steps = world.trustee.latest_explanations(1).unwrap().remove(0).steps;
    let told = steps.iter().find(|step| step.name == "ak.trust").unwrap().got.clone();
    let ek = told.split(" (SHA-256) ").nth(1).unwrap()[..64].to_owned();
    // Another TPM's, or one that is known as a simulated one, is not this one.
    for (name, value) in [("tpm_ek", "00".repeat(32)), ("tpm_ek", String::new()), ("sim_tpm_ek", ek.clone())]
    {
        values(&world, &[(name, json!(value))]);
        assert_eq!(token(&world, &source, &plan).await.unwrap_err(), Code::AttestKeyUntrusted, "{name}");
    }
    values(&world, &[("tpm_ek", json!(ek.to_uppercase()))]);
    let said = claims(&world, &token(&world, &source, &plan).await.unwrap());
    assert_eq!(self::said(&said, "tpm")["ek_sha256"], ek);
    let certificate = self::said(&said, "tpm")["ek_certificate_sha256"].as_str().unwrap().to_owned();
    world.stop().await;
    // The same by the settings, by key and by certificate.
    for known_as in [ek, certificate] {
        let endorsement_keys = vec![hex::decode(known_as).unwrap().try_into().unwrap()];
        let world = trusting(TpmTrust { endorsement_keys, ..roots() }).await;
        known(&world, "");
        assert!(token(&world, &source, &plan).await.is_ok());
        world.stop().await;
    }
}

#[tokio::test]
async fn a_simulated_makers_tpm_is_a_simulated_guest() {
    let Some(soft) = Soft::start() else { return };
    let plan = plan("own", HashAlgorithm::Sha256);
    let world =
        trusting(TpmTrust { simulated_roots: soft.root(), any_of_roots: true, ..TpmTrust::default() }).await;
    let tpm = soft.booted(&plan);
    let source = Source::of(&tpm);
    // What is registered for real TPMs is nothing to a simulated one.
    known(&world, "");
    assert_eq!(token(&world, &source, &plan).await.unwrap_err(), Code::AttestMeasurementUnknown);
    known(&world, "sim_");
    let session = client(&world).attest(&source, Some(&plan)).await.unwrap();
    let claims = claims(&world, session.token());
    assert_eq!(claims["submods"]["cpu0"]["ear.cocoon.simulated"], true);
    // A registration that accepts no simulated guest gives it nothing; one that does, its secret.
    let uri = format!("kbs:///{OWN}").parse().unwrap();
    register(&world, &plan, false);
    let refused = client(&world).resource(&session, &uri).await.unwrap_err();
    assert_eq!(refused.into_failure(cocoon_stage::Stage::Fetch).code, Code::AttestSimulatedRefused);
    register(&world, &plan, true);
    assert_eq!(client(&world).resource(&session, &uri).await.unwrap().as_slice(), b"s3cret");
    world.stop().await;
}

#[tokio::test]
async fn a_key_that_nobody_vouches_for_is_refused_with_the_reason() {
    let (Some(soft), Some(other)) = (Soft::start(), Soft::start()) else { return };
    let plan = plan("own", HashAlgorithm::Sha256);
    let (tpm, stranger) = (soft.booted(&plan), other.booted(&plan));
    // Nobody's root, then another maker's: the guest hears why its key was not enrolled.
    for trust in [TpmTrust::default(), any(other.root())] {
        let world = trusting(trust).await;
        known(&world, "");
        assert_eq!(token(&world, &Source::of(&tpm), &plan).await.unwrap_err(), Code::AttestChainUntrusted);
        world.stop().await;
    }
    let world = trusting(any(soft.root())).await;
    known(&world, "");
    // Another TPM's evidence beside this one's proof.
    let mixed = Source { instead: Some(stranger.clone()), ..Source::of(&tpm) };
    assert_eq!(token(&world, &mixed, &plan).await.unwrap_err(), Code::AttestKeyUntrusted);
    // A wrong secret proves nothing.
    let guessed = Source {
        answer: |mut secret| {
            secret[0] ^= 1;
            secret
        },
        ..Source::of(&tpm)
    };
    assert_eq!(token(&world, &guessed, &plan).await.unwrap_err(), Code::AttestKeyUntrusted);
    // Another plan than the one in register 8.
    let changed = self::plan("changed", HashAlgorithm::Sha256);
    assert_eq!(token(&world, &Source::of(&tpm), &changed).await.unwrap_err(), Code::AttestInitdataMismatch);
    assert!(token(&world, &Source::of(&tpm), &plan).await.is_ok(), "it was not the world");
    world.stop().await;
}

/// The two messages by hand.
struct Hands<'a> {
    world: &'a World,
    guest: Attester,
}

impl Hands<'_> {
    async fn challenge(&mut self, asked: &Value) -> Reply {
        self.guest.guest.post("/cocoon/v0/tpm/challenge", asked).await
    }

    async fn activate(&mut self, ticket: &Value, secret: &[u8]) -> Reply {
        let body = json!({"ticket": ticket, "secret": b64::std_encode(secret)});
        self.guest.guest.post("/cocoon/v0/tpm/activate", &body).await
    }
}

#[tokio::test]
async fn tickets_and_enrolments_are_what_they_were_made_for_and_no_longer() {
    let Some(soft) = Soft::start() else { return };
    let plan = plan("own", HashAlgorithm::Sha256);
    let world = trusting(any(soft.root())).await;
    known(&world, "");
    let tpm = soft.booted(&plan);
    let proof = tpm.key_proof().unwrap();
    let asked = serde_json::to_value(proof.candidature().await.unwrap()).unwrap();
    let mut hands = Hands { world: &world, guest: Attester::new(&world, "tpm", Some(plan.clone())).await };

    let challenge = hands.challenge(&asked).await.json();
    let opened = serde_json::from_value(challenge.clone()).unwrap();
    let secret = proof.activate(&opened).await.unwrap();
    let enrolment = hands.activate(&challenge["ticket"], &secret).await.json()["ak_enrolment"].clone();
    // The secret of another challenge; a ticket for an enrolment; altered ones; none.
    let second = hands.challenge(&asked).await.json();
    assert_eq!(hands.activate(&second["ticket"], &secret).await.code(), "ATTEST-KEY-UNTRUSTED");
    for ticket in [&enrolment, &json!("AAAA"), &json!(""), &json!("?")] {
        assert_eq!(hands.activate(ticket, &secret).await.code(), "ATTEST-PROTOCOL");
    }
    let good = tpm.evidence(&[0; 48]).await.unwrap();
    let evidence = |enrolment: Value| {
        let mut evidence = good.clone();
        evidence["ak_enrolment"] = enrolment;
        evidence
    };
    for bad in [challenge["ticket"].clone(), json!("AAAA"), json!("")] {
        let refused = hands.guest.attest(|_| evidence(bad.clone())).await;
        assert_eq!(code(hands.world, refused), "ATTEST-KEY-UNTRUSTED", "{bad}");
    }
    let refused = hands.guest.attest(|_| evidence(json!(7))).await;
    assert_eq!(code(hands.world, refused), "ATTEST-EVIDENCE-MALFORMED");
    // A recorded quote is of an earlier challenge, whatever proof is beside it.
    let replayed = hands.guest.attest(|_| evidence(enrolment.clone())).await;
    assert_eq!(code(hands.world, replayed), "ATTEST-REPORT-DATA-MISMATCH");
    // Keys that are none, and more than will be read.
    for (name, value) in [
        ("ek_public", json!("AAAA")),
        ("ak_public", json!("?")),
        ("ak_public", asked["ek_public"].clone()),
        ("ek_public", asked["ak_public"].clone()),
        ("ek_certificates", json!([])),
        ("ek_certificates", json!(vec![asked["ek_certificates"][0].clone(); 9])),
        ("ek_certificates", json!(["AAAA"])),
    ] {
        let mut changed = asked.clone();
        changed[name] = value;
        let reply = hands.challenge(&changed).await;
        assert!(
            (400..500).contains(&reply.status) && reply.code().starts_with("ATTEST-"),
            "{name}: {}",
            reply.code()
        );
    }
    // An owner who trusts that root no more ends it, whatever other roots there are.
    let Some(other) = Soft::start() else { return };
    let mut live = world.trustee.live();
    live.trust.tpm.roots = other.root();
    world.trustee.reload(live).unwrap();
    let refused = hands.guest.attest(|_| evidence(enrolment.clone())).await.unwrap_err();
    assert_eq!(refused.code(), "ATTEST-KEY-UNTRUSTED");
    let mut live = world.trustee.live();
    live.trust.tpm.roots = soft.root();
    world.trustee.reload(live).unwrap();
    let replayed = hands.guest.attest(|_| evidence(enrolment.clone())).await;
    assert_eq!(code(hands.world, replayed), "ATTEST-REPORT-DATA-MISMATCH");
    // Time ends both.
    world.ahead.store(301, Ordering::SeqCst);
    assert_eq!(hands.activate(&second["ticket"], &secret).await.code(), "ATTEST-NONCE-REPLAYED");
    let refused = hands.guest.attest(|_| evidence(enrolment.clone())).await;
    assert_eq!(code(hands.world, refused), "ATTEST-KEY-UNTRUSTED");
    world.stop().await;
}
