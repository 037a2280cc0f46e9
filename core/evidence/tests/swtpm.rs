//! A TPM of another make, end to end: its endorsement certificate, credential activation, quotes.
//!
//! Needs `swtpm`, `swtpm_setup`, `swtpm_localca` (with `certtool`) and tpm2-tools; where they are missing the test says so and
//! ends. Everything is in a directory of its own and on loopback ports.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cocoon_evidence::tpm::enrol::{Candidate, appraise};
use cocoon_evidence::tpm::{
    Challenge, Enrolled, Evidence, Public, Trust, fresh_secret, is_secret, make_credential, verify,
};
use cocoon_evidence::x509::{Certificate, PublicKey};
use cocoon_evidence::{Expectation, Verdict};
use serde_json::{Value, json};

/// 2027-01-15; the certificates are made now and never end.
const NOW: u64 = 1_800_000_000;
const NONCE: [u8; 48] = [0xa5; 48];
const INIT_DATA: [u8; 32] = [0x1d; 32];
const ALL: &str = "0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23";
const EK: &str = "0x81010001";

/// A running TPM; ends with the value.
struct Tpm {
    dir: PathBuf,
    process: Child,
    port: u16,
}

impl Drop for Tpm {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn installed() -> bool {
    let there = |name: &str| {
        let paths = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&paths).any(|dir| dir.join(name).is_file())
    };
    let missing: Vec<_> = ["swtpm", "swtpm_setup", "swtpm_localca", "tpm2_quote"]
        .into_iter()
        .filter(|name| !there(name))
        .collect();
    if !missing.is_empty() {
        println!("skipped: {missing:?} not installed (packages swtpm, swtpm-tools, tpm2-tools)");
    }
    missing.is_empty()
}

fn run(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).output().unwrap()
}

fn done(command: &mut Command) {
    let output = run(command);
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Two free ports side by side: commands and control.
fn ports() -> u16 {
    for _ in 0..100 {
        let first = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = first.local_addr().unwrap().port();
        if port < u16::MAX && TcpListener::bind((Ipv4Addr::LOCALHOST, port + 1)).is_ok() {
            return port;
        }
    }
    panic!("no two free ports side by side");
}

impl Tpm {
    /// Makes a TPM with an endorsement key that a local authority certifies, and starts it.
    fn start(name: &str) -> Self {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("swtpm-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        for part in ["ca", "state"] {
            std::fs::create_dir_all(dir.join(part)).unwrap();
        }
        let at = |part: &str| dir.join(part).display().to_string();
        let ca = format!(
            "statedir = {0}\nsigningkey = {0}/signkey.pem\nissuercert = {0}/issuer.pem\ncertserial = {0}/serial\n",
            at("ca")
        );
        std::fs::write(dir.join("ca.conf"), ca).unwrap();
        let options = "--platform-manufacturer Test\n--platform-version 2.1\n--platform-model Test\n";
        std::fs::write(dir.join("ca.options"), options).unwrap();
        let setup = format!(
            "create_certs_tool = swtpm_localca\ncreate_certs_tool_config = {}\ncreate_certs_tool_options = {}\n",
            at("ca.conf"),
            at("ca.options")
        );
        std::fs::write(dir.join("setup.conf"), setup).unwrap();
        done(
            Command::new("swtpm_setup")
                .args(["--tpm2", "--create-ek-cert", "--pcr-banks", "sha256,sha384"])
                .args(["--tpmstate", &at("state"), "--config", &at("setup.conf")]),
        );
        let port = ports();
        let socket = |port| format!("type=tcp,port={port},bindaddr=127.0.0.1");
        let process = Command::new("swtpm")
            .args(["socket", "--tpm2", "--flags", "not-need-init,startup-clear", "--tpmstate"])
            .args([&format!("dir={}", at("state")), "--server", &socket(port), "--ctrl", &socket(port + 1)])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let tpm = Tpm { dir, process, port };
        let begun = Instant::now();
        // The control port, since there is room for a single client on the other.
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port + 1)).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(20), "swtpm does not start");
            std::thread::sleep(Duration::from_millis(50));
        }
        tpm
    }

    fn command(&self, tool: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(tool);
        let tcti = format!("swtpm:host=127.0.0.1,port={}", self.port);
        command.args(arguments).current_dir(&self.dir).env("TPM2TOOLS_TCTI", tcti);
        command
    }

    /// Runs a tool, and clears what it left loaded: there is no resource manager.
    fn tool(&self, tool: &str, arguments: &[&str]) -> bool {
        let output = run(&mut self.command(tool, arguments));
        done(&mut self.command("tpm2_flushcontext", &["-t"]));
        if !output.status.success() {
            println!("{tool} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        }
        output.status.success()
    }

    fn must(&self, tool: &str, arguments: &[&str]) {
        assert!(self.tool(tool, arguments), "{tool} {arguments:?}");
    }

    fn file(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.dir.join(name)).unwrap()
    }

    /// An attestation key below an endorsement key: its public area.
    fn attestation_key(&self, ek: &str, name: &str, kind: &str, scheme: &str) -> Public {
        let (context, area) = (format!("{name}.ctx"), format!("{name}.pub"));
        let key = ["-C", ek, "-c", &context, "-u", &area, "-G", kind, "-g", "sha256", "-s", scheme, "-Q"];
        self.must("tpm2_createak", &key);
        Public::parse(&self.file(&area)).unwrap()
    }

    /// `TPM2_ActivateCredential`: the secret, if the TPM gives it.
    fn activate(&self, challenge: &Challenge, ek: &str, ak: &str) -> Option<Vec<u8>> {
        let mut file = vec![0xba, 0xdc, 0xc0, 0xde, 0, 0, 0, 1];
        file.extend(&challenge.credential_blob);
        file.extend(&challenge.encrypted_secret);
        std::fs::write(self.dir.join("credential"), file).unwrap();
        let _ = std::fs::remove_file(self.dir.join("secret"));
        self.must("tpm2_startauthsession", &["--policy-session", "-S", "session"]);
        self.must("tpm2_policysecret", &["-S", "session", "-c", "e", "-Q"]);
        let ak = format!("{ak}.ctx");
        let arguments =
            ["-c", &ak, "-C", ek, "-i", "credential", "-o", "secret", "-P", "session:session", "-Q"];
        let given = self.tool("tpm2_activatecredential", &arguments);
        self.must("tpm2_flushcontext", &["session"]);
        given.then(|| self.file("secret"))
    }

    /// Evidence of a quote of these registers of this bank.
    fn quote(&self, ak: &str, public: &Public, bank: &str, selection: &str, more: &[&str]) -> Value {
        let (context, list) = (format!("{ak}.ctx"), format!("{bank}:{selection}"));
        let nonce = hex::encode(&NONCE[..32]);
        let quote = ["-c", &context, "-l", &list, "-q", &nonce, "-m", "message", "-s", "signature", "-Q"];
        self.must("tpm2_quote", &[quote.as_slice(), more].concat());
        self.must("tpm2_pcrread", &[&list, "-o", "pcrs", "-Q"]);
        let length = if bank == "sha384" { 48 } else { 32 };
        let pcrs = self.file("pcrs");
        json!({
            "ak_public": STANDARD.encode(public.key().to_spki().unwrap()),
            "ak_tpm_public": STANDARD.encode(public.to_bytes()),
            "tpm_quote": {
                "message": STANDARD.encode(self.file("message")),
                "signature": STANDARD.encode(self.file("signature")),
                "pcrs": pcrs.chunks(length).map(hex::encode).collect::<Vec<_>>(),
                "bank": if bank == "sha384" { "sha384" } else { "sha256" },
            }
        })
    }
}

fn judge(value: &Value, key: &PublicKey) -> Verdict {
    let trust = Trust { enrolled: vec![Enrolled::Spki(key.to_spki().unwrap())], ..Trust::default() };
    let expectation =
        Expectation { report_data: Some(&NONCE), init_data_digest: Some(&INIT_DATA), now_unix: NOW };
    verify(&Evidence::from_json(value).unwrap(), &trust, &expectation)
}

fn failed(verdict: &Verdict) -> Vec<&'static str> {
    verdict.checks.iter().filter(|c| c.code.is_some()).map(|c| c.name).collect()
}

#[test]
fn a_tpm_is_enrolled_and_its_quotes_verify() {
    if !installed() {
        return;
    }
    let tpm = Tpm::start("enrol");
    let root = Certificate::parse(&tpm.file("ca/swtpm-localca-rootca-cert.pem")).unwrap();
    tpm.must("tpm2_readpublic", &["-c", EK, "-o", "ek.pub", "-Q"]);
    tpm.must("tpm2_nvread", &["0x1c00002", "-C", "o", "-o", "ek.crt"]);
    let ak = tpm.attestation_key(EK, "ak", "rsa", "rsassa");

    // The certificates lead to the authority, if it is trusted; nothing else does.
    let chain = vec![tpm.file("ek.crt"), tpm.file("ca/issuer.pem")];
    let candidate = Candidate::parse(&tpm.file("ek.pub"), chain.clone(), &ak.to_bytes()).unwrap();
    let verdict = appraise(&candidate, std::slice::from_ref(&root), NOW);
    assert!(verdict.ok(), "{:#?}", verdict.checks);
    assert_eq!(verdict.claims["model"], "swtpm");
    assert_eq!(failed(&appraise(&candidate, &[], NOW)), ["ek.chain"]);
    let alone = Candidate { certificates: vec![chain[0].clone()], ..candidate.clone() };
    assert_eq!(failed(&appraise(&alone, std::slice::from_ref(&root), NOW)), ["ek.chain"]);
    assert_eq!(failed(&appraise(&candidate, std::slice::from_ref(&root), 1)), ["ek.validity"]);

    // The TPM opens the challenge beside its attestation key, and beside no other.
    assert_eq!(ak.name(), {
        tpm.must("tpm2_readpublic", &["-c", "ak.ctx", "-n", "ak.name", "-Q"]);
        tpm.file("ak.name")
    });
    let secret = fresh_secret().unwrap();
    let challenge = candidate.challenge(&secret).unwrap();
    assert!(is_secret(&tpm.activate(&challenge, EK, "ak").unwrap(), &secret));
    let other = tpm.attestation_key(EK, "other", "rsa", "rsapss");
    assert_eq!(tpm.activate(&challenge, EK, "other"), None);
    let elsewhere = make_credential(&candidate.endorsement, &other.name(), &secret).unwrap();
    assert_eq!(tpm.activate(&elsewhere, EK, "ak"), None);
    // An attestation key is no endorsement key.
    assert!(make_credential(&ak, &ak.name(), &secret).is_err());

    // Quotes, with initdata's digest in register 8 as the guest extends it.
    let digests = format!("8:sha256={},sha384={}", hex::encode(INIT_DATA), hex::encode([0x1d; 48]));
    tpm.must("tpm2_pcrextend", &[&digests]);
    let value = tpm.quote("ak", &ak, "sha256", ALL, &[]);
    let verdict = judge(&value, ak.key());
    assert!(verdict.ok(), "{:#?}", verdict.checks);
    assert_eq!(verdict.claims["ak_name"], hex::encode(ak.name()));
    assert_eq!(failed(&judge(&value, other.key())), ["ak.trust"]);
    let few = tpm.quote("ak", &ak, "sha256", "0,1,2,3,4,5,6,7,8", &[]);
    assert!(judge(&few, ak.key()).ok());
    // The resettable register 16 in the place of register 9; a register left out; another bank.
    let substituted = tpm.quote("ak", &ak, "sha256", "0,1,2,3,4,5,6,7,8,16", &[]);
    assert_eq!(failed(&judge(&substituted, ak.key())), ["tpm.pcr-selection"]);
    let fewer = tpm.quote("ak", &ak, "sha256", "1,2,3,4,5,6,7,8", &[]);
    assert!(failed(&judge(&fewer, ak.key())).contains(&"tpm.pcr-selection"));
    let mut bank = tpm.quote("ak", &ak, "sha384", ALL, &[]);
    assert_eq!(failed(&judge(&bank, ak.key())), ["tpm.init-data"], "48 bytes would be needed, and are there");
    bank["tpm_quote"]["pcrs"] = value["tpm_quote"]["pcrs"].clone();
    bank["tpm_quote"]["bank"] = json!("sha256");
    assert_eq!(failed(&judge(&bank, ak.key())), ["tpm.pcr-selection", "tpm.pcr-digest"]);
    // Another hash of the signature: the registers' digest is by it too.
    tpm.must(
        "tpm2_createak",
        &["-C", EK, "-c", "long.ctx", "-u", "long.pub", "-G", "rsa", "-g", "sha384", "-s", "rsassa", "-Q"],
    );
    let long = Public::parse(&tpm.file("long.pub")).unwrap();
    let verdict = judge(&tpm.quote("long", &long, "sha256", ALL, &["-g", "sha384"]), long.key());
    assert!(verdict.ok(), "{:#?}", verdict.checks);
    assert!(verdict.checks.iter().any(|c| c.expected.starts_with("RSASSA with SHA-384")));
    // RSAPSS.
    let pss = tpm.quote("other", &other, "sha256", ALL, &["--scheme", "rsapss"]);
    let verdict = judge(&pss, other.key());
    assert!(verdict.ok(), "{:#?}", verdict.checks);
}

#[test]
fn a_tpm_with_elliptic_keys_is_challenged_and_quotes() {
    if !installed() {
        return;
    }
    let tpm = Tpm::start("elliptic");
    tpm.must("tpm2_createek", &["-G", "ecc", "-c", "ek.ctx", "-u", "ek.pub", "-Q"]);
    let ek = Public::parse(&tpm.file("ek.pub")).unwrap();
    assert_eq!(ek.not_endorsement_key(), None);
    let ak = tpm.attestation_key("ek.ctx", "ak", "ecc", "ecdsa");
    assert_eq!(ak.not_attestation_key(), None);
    for _ in 0..3 {
        let secret = fresh_secret().unwrap();
        let challenge = make_credential(&ek, &ak.name(), &secret).unwrap();
        assert!(is_secret(&tpm.activate(&challenge, "ek.ctx", "ak").unwrap(), &secret));
        let mut changed = challenge.clone();
        *changed.credential_blob.last_mut().unwrap() ^= 1;
        assert_eq!(tpm.activate(&changed, "ek.ctx", "ak"), None);
    }
    let digest = format!("8:sha256={}", hex::encode(INIT_DATA));
    tpm.must("tpm2_pcrextend", &[&digest]);
    let value = tpm.quote("ak", &ak, "sha256", ALL, &[]);
    let verdict = judge(&value, ak.key());
    assert!(verdict.ok(), "{:#?}", verdict.checks);
    assert_eq!(verdict.claims["ak_trusted"], true);
}
