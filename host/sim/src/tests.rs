//! The simulated chain under the verifier that judges real evidence, and the folder under attack.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use cocoon_evidence::collateral::Collateral;
use cocoon_evidence::snp::{
    CertEntry, ChainCache, Evidence, Report, Roots, Rules, SimulatedRoot, verify, verify_cached,
};
use cocoon_evidence::{Check, Expectation, Verdict};
use cocoon_measure::sim::{BootFiles, launch_digest};
use cocoon_stage::{Code, Failure};
use tempfile::TempDir;

use crate::{Error, GuestContext, SecureProcessor};

const REPORT_DATA: [u8; 64] = [0x5a; 64];
const INITDATA_DIGEST: [u8; 48] = [0x1d; 48];

/// The files of a processor's folder; what is static is never dropped, so a folder itself would stay behind.
type Files = Vec<(OsString, Vec<u8>)>;

/// Two processors for all tests: RSA keys take their time.
fn processors() -> &'static [(Files, SecureProcessor); 2] {
    static SHARED: OnceLock<[(Files, SecureProcessor); 2]> = OnceLock::new();
    SHARED.get_or_init(|| {
        [(); 2].map(|()| {
            let dir = tempfile::tempdir().unwrap();
            let processor = SecureProcessor::open_or_create(&dir.path().join("sim")).unwrap();
            let files = fs::read_dir(dir.path().join("sim")).unwrap().map(|entry| {
                let entry = entry.unwrap();
                (entry.file_name(), fs::read(entry.path()).unwrap())
            });
            (files.collect(), processor)
        })
    })
}

/// A folder with a processor's files.
fn folder(files: &Files) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, content) in files {
        let path = dir.path().join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }
    dir
}

fn guest() -> GuestContext {
    let files = BootFiles { firmware: &[1; 5000], kernel: b"k", initrd: b"i", cmdline: "c" };
    GuestContext { measurement: launch_digest(&files, 2), host_data: [0x1d; 32], policy: 0x30000 }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn roots(of: &SecureProcessor) -> Roots {
    let (ark_der, ask_der) = of.root();
    Roots { vendor: true, simulated: vec![SimulatedRoot { ark_der, ask_der }] }
}

fn evidence(report: &[u8], by: &SecureProcessor) -> Evidence {
    let entry = CertEntry { cert_type: "VCEK".to_owned(), data: by.vcek_der().to_vec() };
    let evidence = Evidence { report: Report::parse(report).unwrap(), cert_chain: vec![entry] };
    // Over the wire, as a guest sends it.
    Evidence::parse(&serde_json::to_vec(&evidence.to_json()).unwrap()).unwrap()
}

fn expectation<'a>() -> Expectation<'a> {
    Expectation { report_data: Some(&REPORT_DATA), init_data_digest: Some(&INITDATA_DIGEST), now_unix: now() }
}

fn cached(evidence: &Evidence, roots: &Roots, expectation: &Expectation<'_>, cache: &ChainCache) -> Verdict {
    verify_cached(evidence, roots, &Rules::default(), &Collateral::none(), expectation, cache)
}

fn judge(report: &[u8], by: &SecureProcessor, roots: &Roots) -> Verdict {
    verify(&evidence(report, by), roots, &Rules::default(), &Collateral::none(), &expectation())
}

fn code(verdict: &Verdict) -> Option<Code> {
    assert_eq!(verdict.ok(), verdict.failure().is_none());
    assert_eq!(verdict.ok(), !verdict.claims.is_null());
    verdict.failure().map(|f| f.code)
}

#[test]
fn a_simulated_report_verifies_under_its_root_and_says_so() {
    let [(_, sim), _] = processors();
    let report = sim.report(&guest(), &REPORT_DATA).unwrap();
    let verdict = judge(&report, sim, &roots(sim));
    assert_eq!(verdict.failure(), None);
    assert!(verdict.ok() && verdict.simulated);
    assert_eq!(verdict.claims["simulated"], true);
    assert_eq!(verdict.claims["processor"], "Genoa");
    assert_eq!(verdict.claims["init_data"], "1d".repeat(32));
    assert_eq!(verdict.claims["policy_debug_allowed"], false);
    let again = sim.report(&guest(), &REPORT_DATA).unwrap();
    assert_ne!(report, again, "report id and signature are fresh");
}

#[test]
fn without_its_root_it_is_refused() {
    let [(_, sim), (_, other)] = processors();
    let report = sim.report(&guest(), &REPORT_DATA).unwrap();
    let verdict = judge(&report, sim, &Roots::default());
    assert_eq!(code(&verdict), Some(Code::AttestSimulatedRefused));
    assert!(verdict.simulated);
    assert_eq!(code(&judge(&report, sim, &roots(other))), Some(Code::AttestChainUntrusted));
    // Another processor's certificate does not help.
    assert_eq!(code(&judge(&report, other, &roots(other))), Some(Code::AttestSignatureInvalid));
    // Certificates sent along are not roots.
    let (ark, ask) = sim.root();
    let mut with_chain = evidence(&report, sim);
    with_chain.cert_chain.push(CertEntry { cert_type: "ASK".to_owned(), data: ask });
    with_chain.cert_chain.push(CertEntry { cert_type: "ARK".to_owned(), data: ark });
    let verdict =
        verify(&with_chain, &Roots::default(), &Rules::default(), &Collateral::none(), &expectation());
    assert_eq!(code(&verdict), Some(Code::AttestSimulatedRefused));
}

#[test]
fn a_root_and_intermediate_that_do_not_belong_together_are_no_root() {
    let [(_, sim), (_, other)] = processors();
    let report = sim.report(&guest(), &REPORT_DATA).unwrap();
    let mixed = SimulatedRoot { ark_der: other.root().0, ask_der: sim.root().1 };
    assert!(mixed.check().is_err());
    let verdict = judge(&report, sim, &Roots { vendor: true, simulated: vec![mixed] });
    assert_eq!(code(&verdict), Some(Code::AttestChainUntrusted));
}

#[test]
fn no_byte_of_a_report_can_be_changed() {
    let [(_, sim), _] = processors();
    let report = sim.report(&guest(), &REPORT_DATA).unwrap();
    let (roots, cache) = (roots(sim), ChainCache::new(1));
    let mut judged = 0;
    for at in 0..report.len() {
        let mut altered = report;
        altered[at] ^= 0x10;
        // Reserved bytes and unknown processors are refused by the parser.
        let Ok(parsed) = Report::parse(&altered) else { continue };
        judged += 1;
        let altered = Evidence { report: parsed, ..evidence(&report, sim) };
        let verdict = cached(&altered, &roots, &expectation(), &cache);
        let expected = match at {
            // The version is judged before anything else is.
            0..4 => Code::AttestEvidenceMalformed,
            _ => Code::AttestSignatureInvalid,
        };
        assert_eq!(code(&verdict), Some(expected), "byte {at:#x}");
    }
    assert!(judged > 550, "{judged}");
}

#[test]
fn a_genuine_report_of_the_wrong_guest_is_refused() {
    let [(_, sim), _] = processors();
    let judged = |guest: GuestContext, data: &[u8; 64]| {
        let verdict = judge(&sim.report(&guest, data).unwrap(), sim, &roots(sim));
        let failed: Vec<&str> = verdict.checks.iter().filter(|c| c.code.is_some()).map(|c| c.name).collect();
        assert!(failed.len() <= 1, "only what is wrong fails: {failed:?}");
        code(&verdict)
    };
    assert_eq!(judged(guest(), &REPORT_DATA), None);
    assert_eq!(judged(guest(), &[0x5b; 64]), Some(Code::AttestReportDataMismatch));
    let other_plan = GuestContext { host_data: [0; 32], ..guest() };
    assert_eq!(judged(other_plan, &REPORT_DATA), Some(Code::AttestInitdataMismatch));
    let debug = GuestContext { policy: 0xb0000, ..guest() };
    assert_eq!(judged(debug, &REPORT_DATA), Some(Code::AttestDebugEnabled));
}

#[test]
fn dates_count_for_a_remembered_chain_too() {
    let [(_, sim), _] = processors();
    let evidence = evidence(&sim.report(&guest(), &REPORT_DATA).unwrap(), sim);
    let (roots, cache) = (roots(sim), ChainCache::new(4));
    let at = |now_unix| cached(&evidence, &roots, &Expectation { now_unix, ..expectation() }, &cache);
    assert_eq!(code(&at(now())), None);
    assert_eq!(cache.len(), 1);
    let eleven_years = 11 * 365 * 86_400;
    assert_eq!(code(&at(now() + eleven_years)), Some(Code::AttestCertificateExpired));
    assert_eq!(code(&at(now() - 3 * 86_400)), Some(Code::AttestCertificateExpired));
    let forgotten = Roots { vendor: true, simulated: Vec::new() };
    let verdict = cached(&evidence, &forgotten, &expectation(), &cache);
    assert_eq!(code(&verdict), Some(Code::AttestSimulatedRefused));
}

#[test]
fn every_check_is_listed_with_its_source() {
    let [(_, sim), _] = processors();
    let verdict = judge(&sim.report(&guest(), &REPORT_DATA).unwrap(), sim, &roots(sim));
    let named = |name: &str| verdict.checks.iter().find(|c: &&Check| c.name == name).unwrap();
    for name in [
        "report.version",
        "certificate.chain",
        "report.signature",
        "certificate.validity",
        "intermediate.validity",
        "root.validity",
        "certificate.kind",
        "certificate.product",
        "certificate.chip-id",
        "certificate.tcb",
        "report.signature-algorithm",
        "report.report-data",
        "report.host-data",
        "report.debug",
        "report.vmpl",
        "report.policy",
    ] {
        let check = named(name);
        assert!(!check.expected.is_empty() && !check.got.is_empty() && !check.source.is_empty(), "{name}");
    }
    assert_eq!(verdict.checks.len(), 16);
}

#[test]
fn the_answer_on_the_wire_is_report_and_certificate() {
    let [(_, sim), _] = processors();
    let answer = sim.answer(&guest(), &REPORT_DATA).unwrap();
    assert_eq!(answer[..4], 1184_u32.to_le_bytes());
    let length = u32::try_from(sim.vcek_der().len()).unwrap();
    assert_eq!(answer[1188..1192], length.to_le_bytes());
    assert_eq!(&answer[1192..], sim.vcek_der());
    assert_eq!(code(&judge(&answer[4..1188], sim, &roots(sim))), None);
}

#[test]
fn opening_again_finds_the_same_chain() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sim");
    let sim = SecureProcessor::open_or_create(&path).unwrap();
    let again = SecureProcessor::open_or_create(&path).unwrap();
    assert_eq!(again.root(), sim.root());
    assert_eq!(again.vcek_der(), sim.vcek_der());
    for entry in fs::read_dir(&path).unwrap() {
        assert_eq!(entry.unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no draft is left behind");
}

#[test]
fn several_at_once_end_with_one_chain() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("new/sim");
    let open = || SecureProcessor::open_or_create(&path).unwrap().root();
    let (a, b) = std::thread::scope(|scope| {
        let (a, b) = (scope.spawn(open), scope.spawn(open));
        (a.join().unwrap(), b.join().unwrap())
    });
    assert_eq!(a, b);
    assert_eq!(fs::read_dir(dir.path().join("new")).unwrap().count(), 1, "no draft is left behind");
}

/// A copy of a processor's folder, altered.
fn altered(alter: impl Fn(&Path)) -> Error {
    let [(files, _), _] = processors();
    let copy = folder(files);
    SecureProcessor::open_or_create(copy.path()).unwrap();
    alter(copy.path());
    SecureProcessor::open_or_create(copy.path()).unwrap_err()
}

#[test]
fn half_written_and_altered_folders_are_found_out() {
    for name in ["ark.der", "ask.der", "vcek.der", "vcek.key", "chip-id"] {
        let error = altered(|dir| fs::remove_file(dir.join(name)).unwrap());
        assert!(matches!(error, Error::Incomplete(_)), "{name}: {error}");
        let error = altered(|dir| fs::write(dir.join(name), b"").unwrap());
        assert!(matches!(error, Error::Incomplete(_)), "{name}: {error}");
        let error = altered(|dir| {
            let mut bytes = fs::read(dir.join(name)).unwrap();
            let at = bytes.len() / 2;
            bytes[at] ^= 1;
            fs::write(dir.join(name), bytes).unwrap();
        });
        assert!(matches!(error, Error::Corrupt { .. }), "{name}: {error}");
    }
    let error = altered(|dir| fs::write(dir.join("vcek.der"), vec![0; 100_000]).unwrap());
    assert!(matches!(error, Error::Incomplete(_)), "{error}");
    // Another processor's key.
    let [_, (other, _)] = processors();
    let key = other.iter().find(|(name, _)| name == "vcek.key").unwrap();
    let error = altered(|dir| {
        fs::write(dir.join("vcek.key"), &key.1).unwrap();
    });
    assert!(matches!(error, Error::Corrupt { .. }), "{error}");
    assert_eq!(Failure::from(error).code, Code::BootPlatformUnavailable);
}

#[test]
fn an_exposed_key_is_refused() {
    let error = altered(|dir| {
        fs::set_permissions(dir.join("vcek.key"), fs::Permissions::from_mode(0o644)).unwrap();
    });
    assert!(matches!(error, Error::KeyExposed(_)), "{error}");
}
