//! The order of the preparation, with a Trustee and a registry that wait for the test's word.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

use cocoon_stage::{Mark, Stage};

use super::*;
use crate::events::{Line, Lines};

#[derive(Default)]
struct Fake {
    /// Attestation waits until told.
    attest_gate: Option<Arc<Notify>>,
    attest: Option<Code>,
    /// How many attestations and fetches are not answered, each.
    outage: AtomicUsize,
    attested: AtomicUsize,
    /// URIs that are refused.
    refuse: Vec<String>,
    pull: Option<Code>,
    pulled: AtomicUsize,
    pull_began: Notify,
    auth_seen: Mutex<Option<Vec<u8>>>,
    policy_seen: Mutex<Option<Vec<u8>>>,
    removed: Mutex<Vec<(String, PathBuf)>>,
    served: Mutex<Option<BTreeSet<String>>>,
}

fn outcome(code: Option<Code>) -> Result<(), Failure> {
    code.map_or(Ok(()), |code| Err(Failure::new(code, "as the test wants")))
}

impl Fake {
    fn answered(&self) -> Result<(), Failure> {
        let out = self.outage.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
        outcome(out.is_ok().then_some(Code::AttestTrusteeUnreachable))
    }
}

#[async_trait]
impl Secrets for Fake {
    async fn attest(&self) -> Result<(), Failure> {
        if let Some(gate) = &self.attest_gate {
            gate.notified().await;
        }
        self.attested.fetch_add(1, Ordering::Relaxed);
        self.answered()?;
        outcome(self.attest)
    }

    async fn resource(&self, uri: &str) -> Result<Secret, Failure> {
        self.answered()?;
        outcome(self.refuse.iter().any(|u| u == uri).then_some(Code::ReleaseDenied))?;
        Ok(Arc::new(Zeroizing::new(uri.as_bytes().to_vec())))
    }

    async fn serve_rest(&self, allowed: BTreeSet<String>, _attestation: bool) -> Result<(), Failure> {
        *self.served.lock().unwrap() = Some(allowed);
        Ok(())
    }
}

#[async_trait]
impl Images for Fake {
    async fn deliver(&self, _: &ContainerPlan, _: &Path, documents: Documents) -> Result<(), Failure> {
        self.pull_began.notify_one();
        self.pulled.fetch_add(1, Ordering::Relaxed);
        *self.auth_seen.lock().unwrap() = documents.auth.map(|a| a.to_vec());
        *self.policy_seen.lock().unwrap() = documents.policy.map(|p| p.to_vec());
        outcome(self.pull)
    }

    async fn space(&self) -> Result<Place, Failure> {
        Ok(Place { folder: "/nowhere".into(), memory: true })
    }

    async fn remove(&self, container: &str, rootfs: &Path, _again: bool) {
        self.removed.lock().unwrap().push((container.to_owned(), rootfs.to_owned()));
    }
}

fn plan(auth: bool) -> Plan {
    let mut plan = serde_json::json!({
        "version": 1, "name": "demo",
        "containers": [{
            "name": "main", "image": {"reference": "x", "digest": format!("sha256:{}", "a".repeat(64))},
            "args": ["x"], "cwd": "/", "no_new_privileges": true, "seccomp": "runtime-default", "logs": true,
            "restart": "never", "stop_signal": 15
        }],
        "secrets": [
            {"uri": "kbs:///default/secret/b", "file": "/run/secrets/b"},
            {"uri": "kbs:///default/secret/quiet"},
            {"uri": "kbs:///default/secret/a", "file": "/run/secrets/a"}
        ]
    });
    if auth {
        plan["registry_auth"] = "kbs:///default/credential/auth".into();
    }
    Plan::parse(plan.to_string().as_bytes()).unwrap()
}

fn start(fake: &Arc<Fake>, auth: bool) -> (Preparation, Lines) {
    let (events, receiver) = Events::channel();
    let backend = Backend { secrets: Arc::clone(fake) as _, images: Arc::clone(fake) as _ };
    let images = Path::new("/nowhere");
    (Preparation::start(&plan(auth), async move { Ok(backend) }, images, events), receiver)
}

fn drain(mut events: Lines) -> Vec<(Stage, Mark)> {
    let stage = |line| match line {
        Line::Stage(event) => Some((event.stage, event.mark)),
        Line::OutOfMemory(_) => None,
    };
    std::iter::from_fn(|| events.take()).filter_map(stage).collect()
}

async fn settled_progress(preparation: &Preparation) -> Progress {
    let mut progress = preparation.progress.clone();
    let end = |p: &Progress| matches!(p, Progress::Ready | Progress::Failed(_));
    progress.wait_for(end).await.unwrap().clone()
}

#[tokio::test]
async fn an_image_is_pulled_while_attestation_runs_but_nothing_starts_before() {
    let gate = Arc::new(Notify::new());
    let fake = Arc::new(Fake { attest_gate: Some(Arc::clone(&gate)), ..Fake::default() });
    let (preparation, events) = start(&fake, false);
    fake.pull_began.notified().await;
    assert_eq!(preparation.progress(), Progress::Started);
    let waiting = preparation.container("main");
    tokio::pin!(waiting);
    assert!(futures::poll!(&mut waiting).is_pending(), "the image is there, the secrets are not");
    gate.notify_one();
    let (rootfs, files) = waiting.await.unwrap();
    assert_eq!(rootfs, Path::new("/nowhere/main"));
    let files: Vec<(&str, &[u8])> = files.iter().map(|f| (f.path.as_str(), f.bytes.as_slice())).collect();
    let expected: [(&str, &[u8]); 2] =
        [("/run/secrets/b", b"kbs:///default/secret/b"), ("/run/secrets/a", b"kbs:///default/secret/a")];
    assert_eq!(files, expected, "in the plan's order, without the one that is no file");
    assert_eq!(settled_progress(&preparation).await, Progress::Ready);
    let served = fake.served.lock().unwrap().clone().unwrap();
    assert_eq!(
        served.into_iter().collect::<Vec<_>>(),
        ["default/secret/a", "default/secret/b", "default/secret/quiet"]
    );
    let events = drain(events);
    for stage in [Stage::Attest, Stage::Fetch, Stage::Pull] {
        assert!(events.contains(&(stage, Mark::Begin)) && events.contains(&(stage, Mark::End)), "{events:?}");
    }
}

#[tokio::test]
async fn credentials_come_before_the_pull_and_are_not_served_to_the_workload() {
    let fake = Arc::new(Fake::default());
    let (preparation, _events) = start(&fake, true);
    preparation.container("main").await.unwrap();
    let auth = fake.auth_seen.lock().unwrap().clone();
    assert_eq!(auth.as_deref(), Some(&b"kbs:///default/credential/auth"[..]));
    assert!(!fake.served.lock().unwrap().as_ref().unwrap().contains("default/credential/auth"));
}

#[tokio::test]
async fn a_policy_in_trustee_comes_before_the_pull() {
    let fake = Arc::new(Fake::default());
    let mut plan = plan(false);
    plan.images.policy_uri = Some("kbs:///default/security-policy/main".into());
    let (events, _receiver) = Events::channel();
    let backend = Backend { secrets: Arc::clone(&fake) as _, images: Arc::clone(&fake) as _ };
    let preparation = Preparation::start(&plan, async move { Ok(backend) }, Path::new("/nowhere"), events);
    preparation.container("main").await.unwrap();
    let policy = fake.policy_seen.lock().unwrap().clone();
    assert_eq!(policy.as_deref(), Some(&b"kbs:///default/security-policy/main"[..]));
    assert_eq!(*fake.auth_seen.lock().unwrap(), None);
    preparation.remove("main", Path::new("/nowhere/main"), false).await;
    assert_eq!(*fake.removed.lock().unwrap(), [("main".to_owned(), PathBuf::from("/nowhere/main"))]);

    // A policy that Trustee does not give is not an absent one: nothing is taken.
    let refuse = vec!["kbs:///default/security-policy/main".to_owned()];
    let fake = Arc::new(Fake { refuse, ..Fake::default() });
    let backend = Backend { secrets: Arc::clone(&fake) as _, images: Arc::clone(&fake) as _ };
    let (events, _receiver) = Events::channel();
    let preparation = Preparation::start(&plan, async move { Ok(backend) }, Path::new("/nowhere"), events);
    assert_eq!(preparation.container("main").await.unwrap_err().code, Code::ReleaseDenied);
    assert_eq!(fake.pulled.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_refused_guest_gets_nothing() {
    for auth in [true, false] {
        let fake = Arc::new(Fake { attest: Some(Code::AttestMeasurementUnknown), ..Fake::default() });
        let (preparation, events) = start(&fake, auth);
        let failure = preparation.container("main").await.unwrap_err();
        assert_eq!(failure.code, Code::AttestMeasurementUnknown);
        assert!(
            matches!(settled_progress(&preparation).await, Progress::Failed(f) if f.code == failure.code)
        );
        assert!(fake.served.lock().unwrap().is_none());
        assert!(drain(events).contains(&(Stage::Attest, Mark::Fail(failure.code))));
        if auth {
            assert_eq!(fake.pulled.load(Ordering::Relaxed), 0, "no credentials, no pull");
        }
    }
}

#[tokio::test]
async fn a_workload_with_a_refused_secret_never_starts_even_where_it_is_no_file() {
    let refuse = vec!["kbs:///default/secret/quiet".to_owned()];
    let fake = Arc::new(Fake { refuse, ..Fake::default() });
    let (preparation, _events) = start(&fake, false);
    assert_eq!(preparation.container("main").await.unwrap_err().code, Code::ReleaseDenied);
}

#[tokio::test]
async fn a_failed_image_fails_its_container() {
    let fake = Arc::new(Fake { pull: Some(Code::ImageSignatureMissing), ..Fake::default() });
    let (preparation, events) = start(&fake, false);
    assert_eq!(preparation.container("main").await.unwrap_err().code, Code::ImageSignatureMissing);
    assert!(preparation.container("other").await.is_err());
    assert!(matches!(settled_progress(&preparation).await, Progress::Failed(_)));
    assert!(drain(events).contains(&(Stage::Pull, Mark::Fail(Code::ImageSignatureMissing))));
}

#[tokio::test]
async fn without_an_attester_everything_fails_with_its_code() {
    let (events, _receiver) = Events::channel();
    let backend = async { Err(Failure::new(Code::AttestEvidenceUnavailable, "no TEE")) };
    let preparation = Preparation::start(&plan(false), backend, Path::new("/nowhere"), events);
    assert_eq!(preparation.container("main").await.unwrap_err().code, Code::AttestEvidenceUnavailable);
}

#[tokio::test]
async fn a_container_that_runs_again_gets_a_root_of_its_own() {
    let fake = Arc::new(Fake::default());
    let (preparation, _events) = start(&fake, true);
    let root = async || preparation.container("main").await.unwrap().0;
    assert_eq!(root().await, Path::new("/nowhere/main"));
    preparation.give_back("main", Path::new("/nowhere/main")).await;
    assert_eq!(root().await, Path::new("/nowhere/main"), "it was not used");
    preparation.remove("main", Path::new("/nowhere/main"), true).await;
    assert_eq!(root().await, Path::new("/nowhere/main@1"));
    assert_eq!(root().await, Path::new("/nowhere/main@2"));
    preparation.give_back("main", Path::new("/nowhere/main@2")).await;
    let removed = fake.removed.lock().unwrap().clone();
    assert_eq!(removed[1], ("main".to_owned(), PathBuf::from("/nowhere/main@2")));
    let auth = fake.auth_seen.lock().unwrap().clone();
    assert_eq!(auth.as_deref(), Some(&b"kbs:///default/credential/auth"[..]), "with the credentials again");
    assert_eq!(fake.pulled.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn ephemeral_containers_are_not_pulled_ahead_and_failed_pulls_are_tried_again() {
    let fake = Arc::new(Fake { pull: Some(Code::ImagePullFailed), ..Fake::default() });
    let mut plan = plan(false);
    let mut debug = plan.containers[0].clone();
    (debug.name, debug.kind) = ("debug".into(), ContainerKind::Ephemeral);
    plan.containers.push(debug);
    let backend = Backend { secrets: Arc::clone(&fake) as _, images: Arc::clone(&fake) as _ };
    let (events, _receiver) = Events::channel();
    let preparation = Preparation::start(&plan, async move { Ok(backend) }, Path::new("/nowhere"), events);
    settled_progress(&preparation).await;
    assert_eq!(fake.pulled.load(Ordering::Relaxed), 1);
    for (name, pulls) in [("debug", 2), ("main", 2), ("main", 3)] {
        assert_eq!(preparation.container(name).await.unwrap_err().code, Code::ImagePullFailed);
        assert_eq!(fake.pulled.load(Ordering::Relaxed), pulls, "{name}");
    }
}

async fn waits(preparation: &Preparation) {
    while !preparation.again.pass_time() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn an_outage_of_trustee_passes_when_the_container_is_asked_for_again() {
    for auth in [true, false] {
        // The attestation, then the attestation again, then what is fetched.
        let fake = Arc::new(Fake { outage: AtomicUsize::new(2), ..Fake::default() });
        let (preparation, _events) = start(&fake, auth);
        let unreachable = Code::AttestTrusteeUnreachable;
        for tries in 1..=2 {
            for _ in 0..3 {
                // The failure is the answer until the pause is over.
                assert_eq!(preparation.container("main").await.unwrap_err().code, unreachable);
                assert_eq!(fake.attested.load(Ordering::Relaxed), tries);
            }
            assert!(matches!(preparation.progress(), Progress::Failed(f) if f.code == unreachable));
            waits(&preparation).await;
            if tries == 2 {
                break;
            }
            // Many ask at once: one try.
            let asked = (0..8).map(|_| preparation.container("main"));
            for answer in futures::future::join_all(asked).await {
                assert_eq!(answer.unwrap_err().code, unreachable);
            }
            assert_eq!(fake.attested.load(Ordering::Relaxed), 2);
        }
        fake.outage.store(1, Ordering::Relaxed);
        assert_eq!(preparation.container("main").await.unwrap_err().code, unreachable);
        waits(&preparation).await;
        let (_, files) = preparation.container("main").await.unwrap();
        assert_eq!(files.len(), 2);
        assert_eq!(settled_progress(&preparation).await, Progress::Ready);
        assert_eq!(fake.attested.load(Ordering::Relaxed), 4);
        assert_eq!(fake.auth_seen.lock().unwrap().is_some(), auth);
        assert!(!preparation.again.pass_time(), "nothing is left to try");
    }
}

#[tokio::test]
async fn a_refusal_after_an_outage_is_final() {
    let refuse = vec!["kbs:///default/secret/quiet".to_owned()];
    let fake = Arc::new(Fake { outage: AtomicUsize::new(1), refuse, ..Fake::default() });
    let (preparation, _events) = start(&fake, false);
    assert_eq!(preparation.container("main").await.unwrap_err().code, Code::AttestTrusteeUnreachable);
    waits(&preparation).await;
    for _ in 0..3 {
        assert_eq!(preparation.container("main").await.unwrap_err().code, Code::ReleaseDenied);
        assert!(!preparation.again.pass_time());
    }
    assert_eq!(fake.attested.load(Ordering::Relaxed), 2);
}
