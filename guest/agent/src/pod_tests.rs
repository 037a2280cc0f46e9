//! What the pod answers to a host that asks too early, twice, or for what the plan lacks.

use std::fs::File;

use cocoon_plan::PLAN_FILE;
use cocoon_protocol::HashAlgorithm;

use super::*;
use crate::container::{ExecSpec, HostPart, Streams};
use crate::reaper::Reaper;
use crate::task_service::Ports;

fn initdata(files: &[(&str, &str)]) -> Result<InitData, Failure> {
    let files = files.iter().map(|(n, c)| ((*n).to_owned(), (*c).to_owned())).collect();
    Ok(InitData::new(HashAlgorithm::Sha256, files))
}

fn plan_text() -> String {
    serde_json::json!({
        "version": 1, "name": "demo",
        "containers": [{
            "name": "main", "image": {"reference": "x", "digest": format!("sha256:{}", "a".repeat(64))},
            "args": ["x"], "cwd": "/", "no_new_privileges": true, "seccomp": "runtime-default", "logs": true,
            "restart": "never", "stop_signal": 15
        }]
    })
    .to_string()
}

/// A pod whose guest has no attester, so that every preparation fails.
fn pod(initdata: Result<InitData, Failure>) -> Arc<Pod> {
    let settings = Settings {
        exe: File::open("/dev/null").unwrap().into(),
        work: "/nowhere".into(),
        etc: "/nowhere".into(),
        cgroups: None,
        reaper: Arc::new(Reaper::default()),
    };
    let connect: Connect =
        Box::new(|_, _, _| Box::pin(async { Err(Failure::new(Code::AttestEvidenceUnavailable, "no TEE")) }));
    let (events, _) = Events::channel();
    Arc::new(Pod::new(settings, "/nowhere".into(), events, connect, initdata, false))
}

fn configure(pod: &Pod) -> Result<(), Failure> {
    pod.configure("pod".into(), None, HostSettings::default(), || Ok(()))
}

async fn create(pod: &Arc<Pod>, name: &str) -> Failure {
    let host = HostPart { id: format!("id-{name}"), ..HostPart::default() };
    let make = |_: &ContainerPlan| Ok((host, async { Ok(Streams::default()) }));
    pod.create(name, make).await.unwrap_err()
}

#[tokio::test]
async fn without_initdata_or_plan_every_request_fails_with_the_code() {
    let missing = || Err(Failure::new(Code::InitdataMissing, "none"));
    let newer = plan_text().replace("\"version\":1", "\"version\":2");
    let cases = [
        (missing(), Code::InitdataMissing),
        (initdata(&[]), Code::InitdataMalformed),
        (initdata(&[(PLAN_FILE, "{")]), Code::PlanInvalid),
        (initdata(&[(PLAN_FILE, &newer)]), Code::PlanVersionUnsupported),
    ];
    for (initdata, code) in cases {
        let pod = pod(initdata);
        assert_eq!(pod.refusal().unwrap().code, code);
        assert_eq!(pod.refusal().unwrap().stage, Stage::Boot);
        assert_eq!(configure(&pod).unwrap_err().code, code);
        assert_eq!(create(&pod, "main").await.code, code);
        let (state, failure) = pod.status();
        assert_eq!((state, failure.unwrap().code), ("failed", code));
    }
}

#[tokio::test]
async fn configuration_is_accepted_once() {
    let pod = pod(initdata(&[(PLAN_FILE, &plan_text())]));
    assert_eq!(pod.status().0, "booted");
    assert_eq!(create(&pod, "main").await.code, Code::PlanRequestRefused, "too early");
    configure(&pod).unwrap();
    let applied = std::cell::Cell::new(false);
    let again = pod.configure("x".into(), None, HostSettings::default(), || {
        applied.set(true);
        Ok(())
    });
    assert_eq!(again.unwrap_err().code, Code::PlanRequestRefused);
    assert!(!applied.get(), "a second configuration touches nothing");
}

#[tokio::test]
async fn a_configuration_that_does_not_apply_fails_the_pod() {
    let pod = pod(initdata(&[(PLAN_FILE, &plan_text())]));
    let failed = pod.configure("x".into(), None, HostSettings::default(), || {
        Err(Error::boot("step")(std::io::Error::other("no")))
    });
    assert_eq!(failed.unwrap_err().code, Code::BootGuestFailed);
    assert_eq!(create(&pod, "main").await.code, Code::BootGuestFailed);
}

#[tokio::test]
async fn the_host_gets_only_what_the_plan_names() {
    let pod = pod(initdata(&[(PLAN_FILE, &plan_text())]));
    configure(&pod).unwrap();
    // The preparation's own failure, and again: a failed creation may be asked for again.
    assert_eq!(create(&pod, "main").await.code, Code::AttestEvidenceUnavailable);
    assert_eq!(create(&pod, "main").await.code, Code::AttestEvidenceUnavailable);
    assert_eq!(create(&pod, "evil").await.code, Code::PlanRequestRefused);
    let refused = Code::PlanRequestRefused;
    for id in ["main", "id-main", "evil"] {
        assert_eq!(pod.start(id).await.unwrap_err().code, refused);
        assert_eq!(pod.signal(id, 9, false).unwrap_err().code, refused);
        assert_eq!(pod.signal(id, 9, true).unwrap_err().code, refused);
        assert_eq!(pod.remove(id).await.unwrap_err().code, refused);
        assert_eq!(pod.termination_message(id).unwrap_err().code, refused);
        let spec = ExecSpec { args: vec!["sh".into()], env: Vec::new(), cwd: None, terminal: false };
        let exec = |_: &ContainerPlan| Ok(Exec::new(spec, Ports::default(), None));
        assert_eq!(pod.exec(id, "e", exec).unwrap_err().code, refused);
        let connect = async |_| Ok(Streams::default());
        assert_eq!(pod.exec_start(id, "e", connect).await.unwrap_err().code, refused);
        assert_eq!(pod.exec_signal(id, "e", 9).unwrap_err().code, refused);
        assert_eq!(pod.exec_remove(id, "e").err().unwrap().code, refused);
        assert!(pod.known(id).unwrap().is_none() && pod.exec_known(id, "e").unwrap().is_none());
    }
    assert!(pod.named("evil").is_err() && pod.named("main").is_ok());
    assert_eq!(pod.status().0, "failed");
    pod.shut_down().await;
    pod.off().await;
}
