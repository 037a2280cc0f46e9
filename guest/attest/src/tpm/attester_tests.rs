//! Against swtpm, without a VM: evidence that Trustee's verifier takes, enrolment, register 8.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cocoon_evidence::tpm::enrol::{Candidate, judge};
use cocoon_evidence::tpm::{Enrolled, Evidence, Trust, fresh_secret, is_secret, verify};
use cocoon_evidence::x509::Certificate;
use cocoon_evidence::{Expectation, Verdict};

use super::super::device::bind;
use super::*;

const NOW: u64 = 1_800_000_000;
const DIGEST: [u8; 32] = [0x1d; 32];

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

/// One connection is one client; swtpm serves one at a time.
struct Socket(UnixStream);

impl Channel for Socket {
    fn transact(&mut self, command: &[u8]) -> std::io::Result<Vec<u8>> {
        self.0.write_all(command)?;
        let mut head = [0; 10];
        self.0.read_exact(&mut head)?;
        let size = u32::from_be_bytes(head[2..6].try_into().unwrap()) as usize;
        let mut response = head.to_vec();
        response.resize(size, 0);
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
        std::fs::create_dir(dir.path().join("ca")).unwrap();
        std::fs::create_dir(dir.path().join("state")).unwrap();
        let ca = at("ca");
        std::fs::write(
            at("ca.conf"),
            format!("statedir = {ca}\nsigningkey = {ca}/key.pem\nissuercert = {ca}/issuer.pem\ncertserial = {ca}/serial\n"),
        )
        .unwrap();
        let options = "--platform-manufacturer Test\n--platform-version 1\n--platform-model Test\n";
        std::fs::write(at("ca.options"), options).unwrap();
        std::fs::write(
            at("setup.conf"),
            format!(
                "create_certs_tool = swtpm_localca\ncreate_certs_tool_config = {}\ncreate_certs_tool_options = {}\n",
                at("ca.conf"),
                at("ca.options")
            ),
        )
        .unwrap();
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

    fn connect(&self) -> Box<dyn Channel> {
        connect(&self.dir.path().join("tpm"))
    }

    fn attester(&self) -> TpmAttester {
        let path = self.dir.path().join("tpm");
        let events = self.dir.path().join("events");
        TpmAttester::over(move || Ok(connect(&path)), &events, || Some(DIGEST))
    }

    fn roots(&self) -> Vec<Certificate> {
        let pem = std::fs::read(self.dir.path().join("ca/issuer.pem")).unwrap();
        vec![Certificate::parse(&pem).unwrap()]
    }
}

fn connect(path: &Path) -> Box<dyn Channel> {
    let begun = Instant::now();
    loop {
        match UnixStream::connect(path) {
            Ok(stream) => return Box::new(Socket(stream)),
            Err(e) => assert!(begun.elapsed() < Duration::from_secs(20), "{e}"),
        }
        std::thread::yield_now();
    }
}

fn judged(evidence: &Value, trust: &Trust, report_data: &[u8]) -> Verdict {
    let expectation =
        Expectation { report_data: Some(report_data), init_data_digest: Some(&DIGEST), now_unix: NOW };
    verify(&Evidence::from_json(evidence).unwrap(), trust, &expectation)
}

fn failed_checks(verdict: &Verdict) -> Vec<&'static str> {
    verdict.checks.iter().filter(|c| c.code.is_some()).map(|c| c.name).collect()
}

#[tokio::test]
async fn its_evidence_is_what_the_verifier_reads() {
    let Some(soft) = Soft::start() else { return };
    bind(&mut Tpm::new(soft.connect()), &DIGEST).unwrap();
    let attester = soft.attester();
    let evidence = attester.evidence(&[0xa5; 48]).await.unwrap();
    assert_eq!(attester.bound(&evidence), Some(DIGEST));
    let spki = b64::std_decode(evidence["ak_public"].as_str().unwrap()).unwrap();
    let trust = Trust { enrolled: vec![Enrolled::Spki(spki)], ..Trust::default() };
    let verdict = judged(&evidence, &trust, &[0xa5; 48]);
    assert!(verdict.ok(), "{:#?}", verdict.checks);
    assert!(!verdict.simulated);
    // Another challenge's evidence is none; and without trust in the key it says nothing.
    assert_eq!(failed_checks(&judged(&evidence, &trust, &[0xa6; 48])), ["tpm.report-data"]);
    assert_eq!(failed_checks(&judged(&evidence, &Trust::default(), &[0xa5; 48])), ["ak.trust"]);
    // The same key again: it is of the TPM, not of the moment.
    let again = attester.evidence(&[1; 48]).await.unwrap();
    assert_eq!(again["ak_public"], evidence["ak_public"]);
    // A change of register 8 shows on both sides.
    let mut other = evidence.clone();
    other["tpm_quote"]["pcrs"][8] = "00".repeat(32).into();
    assert_eq!(attester.bound(&other), None);
}

#[tokio::test]
async fn what_the_workload_measures_is_in_later_evidence() {
    let Some(soft) = Soft::start() else { return };
    bind(&mut Tpm::new(soft.connect()), &DIGEST).unwrap();
    let attester = soft.attester();
    let before = attester.evidence(&[1; 48]).await.unwrap();
    assert_eq!(before["tpm_quote"]["pcrs"][23], "00".repeat(32));
    for content in ["one", "two"] {
        let words = crate::Aael { domain: "example.test", operation: "Load", content };
        assert!(attester.measure(&words).await.unwrap());
    }
    let evidence = attester.evidence(&[2; 48]).await.unwrap();
    assert_ne!(evidence["tpm_quote"]["pcrs"][23], "00".repeat(32));
    let spki = b64::std_decode(evidence["ak_public"].as_str().unwrap()).unwrap();
    let trust = Trust { enrolled: vec![Enrolled::Spki(spki)], ..Trust::default() };
    // The verifier plays the log back to the register that was quoted.
    let verdict = judged(&evidence, &trust, &[2; 48]);
    assert!(verdict.ok(), "{:#?}", verdict.checks);
    let mut other = evidence.clone();
    let log = b64::std_decode(evidence["event_log"].as_str().unwrap()).unwrap();
    let at = log.windows(3).position(|w| w == b"two").unwrap();
    let changed = [&log[..at], b"six", &log[at + 3..]].concat();
    other["event_log"] = b64::std_encode(&changed).into();
    assert!(!judged(&other, &trust, &[2; 48]).ok(), "a changed event is no event of the register");
}

#[tokio::test]
async fn its_key_is_proved_by_the_tpm_that_holds_it_and_by_no_other() {
    let (Some(soft), Some(other)) = (Soft::start(), Soft::start()) else { return };
    let (attester, stranger) = (soft.attester(), other.attester());
    let keys = attester.key_proof().unwrap();
    let asked = keys.candidature().await.unwrap();
    let decode = |text: &str| b64::std_decode(text).unwrap();
    let candidate = Candidate::parse(
        &decode(&asked.ek_public),
        asked.ek_certificates.iter().map(|c| decode(c)).collect(),
        &decode(&asked.ak_public),
    )
    .unwrap();
    // By a root of simulated TPMs it is a simulated one, by a vendor's it is not, and by another's it is none.
    let simulated = Trust { simulated_roots: soft.roots(), ..Trust::default() };
    let verdict = judge(&candidate, &simulated, NOW);
    assert!(verdict.ok() && verdict.simulated, "{:#?}", verdict.checks);
    assert!(!judge(&candidate, &Trust { roots: soft.roots(), ..Trust::default() }, NOW).simulated);
    let strange = judge(&candidate, &Trust { roots: other.roots(), ..Trust::default() }, NOW);
    assert_eq!(failed_checks(&strange), ["ek.chain"]);
    assert!(candidate.activated(&strange).is_err());

    let secret = fresh_secret().unwrap();
    let challenge = candidate.challenge(&secret).unwrap();
    let challenge = CredentialChallenge {
        ticket: String::new(),
        credential_blob: b64::std_encode(&challenge.credential_blob),
        encrypted_secret: b64::std_encode(&challenge.encrypted_secret),
    };
    assert!(stranger.key_proof().unwrap().activate(&challenge).await.is_err());
    // More often than a TPM has sessions: none is left behind, not by refusals either.
    let mut altered = challenge.clone();
    altered.credential_blob = b64::std_encode(&{
        let mut blob = decode(&challenge.credential_blob);
        *blob.last_mut().unwrap() ^= 1;
        blob
    });
    for _ in 0..6 {
        assert!(is_secret(&keys.activate(&challenge).await.unwrap(), &secret));
        assert!(keys.activate(&altered).await.is_err());
    }

    // With the proof its evidence verifies, and says of what it is.
    let activated = candidate.activated(&verdict).unwrap();
    let trust = Trust { activated: Some(activated), any_of_roots: true, ..Trust::default() };
    attester.with(|ready| bind(&mut ready.tpm, &DIGEST)).await.unwrap();
    let evidence = attester.evidence(&[7; 48]).await.unwrap();
    let verdict = judged(&evidence, &trust, &[7; 48]);
    assert!(verdict.ok() && verdict.simulated, "{:#?}", verdict.checks);
    assert_eq!(verdict.claims["tpm_model"], "swtpm");
    assert_eq!(verdict.claims["ak_trusted"], true);
    // Another TPM's evidence beside this one's proof is an unknown key's.
    stranger.with(|ready| bind(&mut ready.tpm, &DIGEST)).await.unwrap();
    let evidence = stranger.evidence(&[7; 48]).await.unwrap();
    assert_eq!(failed_checks(&judged(&evidence, &trust, &[7; 48])), ["ak.trust"]);
}

#[test]
fn register_eight_is_extended_once() {
    let Some(soft) = Soft::start() else { return };
    let mut tpm = Tpm::new(soft.connect());
    assert!(bind(&mut tpm, &[1; 48]).is_err(), "no SHA-256");
    assert_eq!(bind(&mut tpm, &DIGEST).unwrap(), DIGEST);
    let failure = bind(&mut tpm, &[2; 32]).unwrap_err();
    assert_eq!(failure.code, cocoon_stage::Code::AttestInitdataMismatch);
    assert_eq!(tpm.registers().unwrap()[8], extended(&DIGEST));
    assert!(tpm.nv(CERTIFICATE).unwrap().starts_with(&[0x30, 0x82]));
    assert!(tpm.nv(0x01c0_0abc).is_err(), "no such index");
}

#[test]
fn a_certificate_loses_what_fills_its_place() {
    assert_eq!(der(&[0x30, 0x82, 0, 2, 1, 2, 0xff, 0xff]), [0x30, 0x82, 0, 2, 1, 2]);
    assert_eq!(der(&[0x30, 0x82, 0xff, 0xff, 1]), [0x30, 0x82, 0xff, 0xff, 1]);
    assert_eq!(der(&[1, 2]), [1, 2]);
    assert!(der(&[]).is_empty());
}
