//! A host that lies in every field of every request to a pod's guest, over the very stream that the shim uses: it gets a coded
//! refusal or an answer that does no harm. The guest lives, the honest container runs on, and no secret comes out.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests

mod lies;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use cocoon_plan::pod::{VolumePlan, VolumeSource};
use cocoon_plan::{MountPlan, Restart, SecretPlan};
use cocoon_protocol::initdata::InitData;
use cocoon_sandbox::{GuestFiles, Network, Pod, PodSpec, Setup, TeePlatform};
use cocoon_sandbox_api::sandbox::{StatusRequest, StatusResponse};
use cocoon_sandbox_api::{FORWARD_PORT, GUEST_PORT, from_ttrpc};
use cocoon_stage::Code;
use cocoon_tests::containerd::{ContainerWish, Machine, Story, Version};
use cocoon_vmm::{Accel, Qemu};
use containerd_shim_protos::api::{StateResponse, Status};
use lies::table::{SANDBOX, TASK, messages, methods, options};
use lies::{any, bytes, varied};
use protobuf::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use ttrpc::r#async::Client;
use ttrpc::asynchronous::transport::Socket;

const SECRET: &str = "a secret that no lie brings out 91f3";
/// Longest answer to a lie.
const LIMIT: Duration = Duration::from_secs(60);

/// A host and what it knows of its pod.
struct Host {
    pod: Pod,
    client: Client,
    console: PathBuf,
    answers: Vec<(String, String)>,
    probes: usize,
}

/// What came back.
enum Answer {
    Bytes(Vec<u8>),
    Refused(ttrpc::Error),
}

impl Host {
    async fn connect(pod: &Pod) -> Client {
        Client::new(Socket::new(pod.connect(GUEST_PORT).await.unwrap()))
    }

    /// Sends a request as it is. A guest that hangs up is called again: it may, on one that breaks the protocol.
    async fn send(&mut self, service: &str, method: &str, payload: &[u8], limit: Duration) -> Option<Answer> {
        let mut request = ttrpc::Request::new();
        request.service = service.into();
        request.method = method.into();
        request.payload = payload.to_vec();
        request.timeout_nano = i64::try_from(limit.as_nanos()).unwrap();
        let began = Instant::now();
        let answer = tokio::time::timeout(limit * 2, self.client.request(request)).await.ok()?;
        match answer {
            Ok(response) => Some(Answer::Bytes(response.payload)),
            Err(ttrpc::Error::RpcStatus(status)) if status.code == ttrpc::Code::DEADLINE_EXCEEDED.into() => {
                None
            }
            Err(_) if began.elapsed() >= limit => None,
            Err(error) => {
                if !matches!(error, ttrpc::Error::RpcStatus(_)) {
                    self.client = Host::connect(&self.pod).await;
                }
                Some(Answer::Refused(error))
            }
        }
    }

    /// An honest request.
    async fn ask(&mut self, service: &str, method: &str, payload: &[u8]) -> Vec<u8> {
        match self.send(service, method, payload, LIMIT).await {
            Some(Answer::Bytes(bytes)) => bytes,
            Some(Answer::Refused(error)) => panic!("{method}: {error}"),
            None => panic!("{method}: no answer; {}", self.console()),
        }
    }

    /// What the guest has said on its console.
    fn console(&self) -> String {
        std::fs::read_to_string(&self.console).unwrap_or_default()
    }

    /// A lie: it must be answered in time, without the secret.
    async fn lie(&mut self, service: &str, method: &str, what: &str, payload: &[u8]) -> Answer {
        // A wait may last: only that it does no harm counts.
        let limit = if method == "Wait" { Duration::from_millis(300) } else { LIMIT };
        let answer = match self.send(service, method, payload, limit).await {
            Some(answer) => answer,
            None if method == "Wait" => Answer::Bytes(Vec::new()),
            None => panic!("{what}: no answer; {}", self.console()),
        };
        let said = match &answer {
            Answer::Bytes(bytes) => {
                assert!(!contains(bytes, SECRET), "{what}: the secret is out");
                "done".to_owned()
            }
            Answer::Refused(error) => {
                let said = error.to_string();
                assert!(!said.contains(SECRET), "{what}: {said}");
                // What is not the protocol's own word has a code of ours.
                if let ttrpc::Error::RpcStatus(status) = error
                    && status.code == ttrpc::Code::FAILED_PRECONDITION.into()
                {
                    assert!(from_ttrpc(error).is_some(), "{what}: no code in {said}");
                }
                said
            }
        };
        self.answers.push((what.to_owned(), said));
        answer
    }

    /// The guest answers, and the honest container runs and takes its probes.
    async fn unharmed(&mut self, after: &str) {
        let state = self.ask(TASK, "State", &bytes(1, b"witness")).await;
        let state = StateResponse::parse_from_bytes(&state).unwrap();
        assert_eq!(state.status, Status::RUNNING.into(), "after {after}");
        let status = self.ask(SANDBOX, "Status", &StatusRequest::new().write_to_bytes().unwrap()).await;
        let status = StatusResponse::parse_from_bytes(&status).unwrap();
        assert_eq!((status.state.as_str(), status.failure.as_str()), ("ready", ""), "after {after}");
        assert!(status.peak_rss_bytes < 128 << 20, "after {after}: {} MiB", status.peak_rss_bytes >> 20);
        self.probes += 1;
        let id = format!("probe-{}", self.probes);
        let stream = self.pod.stream().unwrap();
        let probe = [
            bytes(1, b"witness"),
            bytes(2, id.as_bytes()),
            bytes(5, stream.uri.as_bytes()),
            bytes(7, &any("process", br#"{"args":["/bin/echo","healthy"]}"#)),
        ];
        let read = tokio::spawn(async move {
            let mut said = String::new();
            stream.open().await.unwrap().read_to_string(&mut said).await.unwrap();
            said
        });
        self.ask(TASK, "Exec", &probe.concat()).await;
        let its = [bytes(1, b"witness"), bytes(2, id.as_bytes())].concat();
        self.ask(TASK, "Start", &its).await;
        assert_eq!(tokio::time::timeout(LIMIT, read).await.unwrap().unwrap(), "healthy\n", "after {after}");
        self.ask(TASK, "Wait", &its).await;
        self.ask(TASK, "Delete", &its).await;
    }
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

/// A pod's VM with an honest container, on a host that this test is.
async fn boot(machine: &Machine, annotation: &str) -> Pod {
    let class = machine.owner().unwrap().class(&machine.node);
    let guest = GuestFiles::open(&class.guest_image).unwrap();
    let spec = PodSpec {
        qemu: Qemu::find().unwrap().path().to_owned(),
        kernel: guest.kernel,
        initrd: guest.initrd,
        firmware: guest.firmware,
        cmdline: guest.cmdline,
        initdata: Some(InitData::from_annotation(annotation).unwrap()),
        platform: TeePlatform::Sim { dir: class.data.join("sim") },
        accel: Accel::Tcg,
        cpus: 1,
        memory_mib: 256,
        network: Network::User,
        disks: Vec::new(),
        ports: 0,
        scratch_bytes: None,
        scratch_dir: None,
        setup: Setup::default(),
        run_dir: class.state.join("pod-lied-to"),
        console: Some(machine.node.folder().join("console.log")),
        boot_timeout: Duration::from_secs(180),
        adversary: None,
    };
    let (observer, mut observed) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move { while observed.recv().await.is_some() {} });
    Pod::boot(spec, Instant::now(), observer).await.unwrap()
}

async fn create(host: &mut Host, name: &str) {
    let made = [bytes(1, name.as_bytes()), bytes(10, &options(name, |_| {}))].concat();
    host.ask(TASK, "Create", &made).await;
    host.ask(TASK, "Start", &bytes(1, name.as_bytes())).await;
}

/// All of [`methods`], one lie at a time.
async fn in_every_field(host: &mut Host) {
    let messages = messages();
    for method in methods() {
        let foreign = ["witness", "spare", "made", "vsock://2:5000", "vsock://2:5001"];
        let honest = [(format!("{} as it should be", method.name), method.honest())];
        for (what, payload) in honest.into_iter().chain(method.lies(&foreign, &messages)) {
            // An id counts once; the last one that is said is the one that counts.
            let fresh = format!("made-{}", host.answers.len());
            let payload = match method.name {
                "Create" => [bytes(1, fresh.as_bytes()), payload].concat(),
                _ => payload,
            };
            let answer = host.lie(method.service, method.name, &what, &payload).await;
            if method.name == "Create" && matches!(answer, Answer::Bytes(_)) {
                // It was made as the plan says, whatever else was said: room for the next one.
                let asked =
                    containerd_shim_protos::api::CreateTaskRequest::parse_from_bytes(&payload).unwrap();
                host.ask(TASK, "Delete", &bytes(1, asked.id.as_bytes())).await;
            }
        }
        host.unharmed(method.name).await;
    }
}

/// The same requests again, and in another order than makes sense.
async fn again_and_out_of_order(host: &mut Host) {
    let id = |id: &str| bytes(1, id.as_bytes());
    let one = |id: &str| [bytes(1, id.as_bytes()), bytes(10, &options("spare", |_| {}))].concat();
    let refused = |answer: Answer, what: &str| match answer {
        Answer::Refused(error) => error,
        Answer::Bytes(_) => panic!("{what}: it was done"),
    };
    for (method, payload) in [
        ("Start", id("late")),
        ("Delete", id("late")),
        ("Start", id("witness")),
        ("Delete", id("witness")),
        ("Create", one("witness")),
    ] {
        let what = format!("{method} out of order");
        refused(host.lie(TASK, method, &what, &payload).await, &what);
    }
    host.ask(TASK, "Create", &one("once")).await;
    refused(host.lie(TASK, "Create", "Create twice", &one("once")).await, "Create twice");
    refused(host.lie(TASK, "Create", "Create beside", &one("twice")).await, "Create beside");
    host.ask(TASK, "Delete", &id("once")).await;
    let error = refused(host.lie(TASK, "Create", "Create replayed", &one("once")).await, "Create replayed");
    assert_eq!(from_ttrpc(&error).unwrap().code, Code::PlanRequestRefused);
    for (method, payload) in [("Delete", id("once")), ("Start", id("once")), ("Stats", id("once"))] {
        refused(host.lie(TASK, method, method, &payload).await, method);
    }
    // Many at once: one of them is made.
    let (pod, payload) = (&host.pod, one("race"));
    let racing = (0..8).map(|_| async {
        let mut request = ttrpc::Request::new();
        request.service = TASK.into();
        request.method = "Create".into();
        request.payload = payload.clone();
        request.timeout_nano = 60_000_000_000;
        Host::connect(pod).await.request(request).await.is_ok()
    });
    let made = futures_util::future::join_all(racing).await;
    assert_eq!(made.iter().filter(|made| **made).count(), 1, "{made:?}");
    host.ask(TASK, "Delete", &id("race")).await;
    host.unharmed("replays").await;
}

/// What is no request at all.
async fn noise(host: &mut Host) {
    let header = |length: u32, stream: u32, kind: u8| {
        [&length.to_be_bytes()[..], &stream.to_be_bytes(), &[kind, 0]].concat()
    };
    let pieces = [
        vec![0xff; 4096],
        vec![0; 4096],
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        header(u32::MAX, 1, 1),
        header(4 << 20, 1, 1),
        [header(4, 2, 1), vec![0xff; 4]].concat(),
        [header(0, 1, 1), header(0, 1, 3), header(0, 3, 9)].concat(),
        header(10, 1, 1)[..7].to_vec(),
    ];
    for port in [GUEST_PORT, FORWARD_PORT] {
        for piece in &pieces {
            let mut stream = host.pod.connect(port).await.unwrap();
            let _ = stream.write_all(piece).await;
            let _ = tokio::time::timeout(Duration::from_millis(50), stream.read(&mut [0; 64])).await;
        }
    }
    for line in ["8006\n", "22\n", "0\n", "-1\n", "99999\n", "80 80\n", "\n", "8\0\n", &"1".repeat(100_000)] {
        let mut stream = host.pod.connect(FORWARD_PORT).await.unwrap();
        let _ = stream.write_all(line.as_bytes()).await;
        let mut said = [0; 64];
        let got = tokio::time::timeout(LIMIT, stream.read(&mut said)).await.expect("no answer");
        assert!(!said[..got.unwrap_or(0)].starts_with(b"ok"), "{line:?} is forwarded");
    }
    for (service, method) in
        [("", ""), (TASK, "Nothing"), ("grpc.AgentService", "ExecProcess"), (SANDBOX, "../x")]
    {
        let answer = host.lie(service, method, "another service", &[0xff; 100]).await;
        assert!(matches!(answer, Answer::Refused(_)), "{service} {method}");
    }
    // Many that say nothing.
    let mut silent = Vec::new();
    for _ in 0..300 {
        silent.extend(host.pod.connect(GUEST_PORT).await);
    }
    host.unharmed("300 silent connections").await;
    drop(silent);
    host.unharmed("noise").await;
}

async fn lied_to(machine: Machine) -> Machine {
    let owner = machine.owner().unwrap();
    let script =
        ContainerWish::script("witness", &machine.image, "test -s /run/secrets/token && sleep 1000000");
    let containers = ["witness", "victim", "spare"].map(|name| {
        let mut wish = script.clone();
        wish.name = name.into();
        let mut plan = owner.container(&wish).unwrap();
        plan.restart = Restart::Always;
        plan.exec.any = false;
        plan.exec.commands = vec![vec!["/bin/echo".into(), "healthy".into()]];
        let (target, volume) = ("/files".into(), "files".into());
        plan.mounts = vec![MountPlan::Volume { target, volume, sub_path: String::new(), read_only: true }];
        plan
    });
    let mut plan = owner.plan("lied-to", containers.to_vec()).unwrap();
    plan.secrets = vec![SecretPlan {
        uri: "kbs:///default/secret/token".into(),
        file: Some("/run/secrets/token".into()),
    }];
    plan.volumes = vec![VolumePlan { name: "files".into(), source: VolumeSource::Files { digests: None } }];
    let annotation = owner.register(&plan, &[("default/secret/token", SECRET)]).await.unwrap();
    let pod = boot(&machine, &annotation).await;
    let client = Host::connect(&pod).await;
    let console = machine.node.folder().join("console.log");
    let mut host = Host { pod, client, console, answers: Vec::new(), probes: 0 };
    // A container waits for the files that it mounts.
    let files = methods().into_iter().find(|m| m.name == "PutFiles").unwrap();
    let complete = [files.honest(), varied(4, 1)].concat();
    host.ask(files.service, files.name, &complete).await;
    create(&mut host, "witness").await;
    create(&mut host, "victim").await;
    host.unharmed("nothing").await;

    in_every_field(&mut host).await;
    again_and_out_of_order(&mut host).await;
    noise(&mut host).await;

    let refused = host.answers.iter().filter(|(_, said)| said != "done").count();
    println!("{} lies, {refused} refused", host.answers.len());
    if std::env::var_os("COCOON_LIES").is_some() {
        host.answers.iter().for_each(|(what, said)| println!("{what}: {said}"));
    }
    let Host { pod, console, .. } = host;
    pod.stop().await;
    let console = std::fs::read_to_string(console).unwrap();
    assert!(!console.contains("panicked") && !console.contains(SECRET), "{console}");
    machine
}

#[test]
fn in_every_field_of_every_request() {
    Story::Cocoon(|_| {}).tell(Version::V2, lied_to);
}
