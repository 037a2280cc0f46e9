//! A pod's sandbox with a real VM, without containerd: its life, its figures, its end. Needs QEMU and a guest image
//! (`COCOON_GUEST_IMAGE`).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use cocoon_protocol::HashAlgorithm;
use cocoon_protocol::initdata::InitData;
use containerd_shim_protos::api::{
    CreateTaskRequest, DeleteRequest, Empty, ForwardRequest, PidsRequest, ShutdownRequest, StartRequest,
    StateRequest, StatsRequest, Status, WaitRequest,
};
use containerd_shim_protos::shim_async::{Client, Events, TaskClient, create_events};
use serde_json::json;
use tokio::sync::mpsc;
use ttrpc::r#async::{Server, TtrpcContext};

const SHIM: &str = env!("CARGO_BIN_EXE_containerd-shim-cocoon-v2");

struct Containerd(mpsc::UnboundedSender<String>);

#[async_trait]
impl Events for Containerd {
    async fn forward(&self, _: &TtrpcContext, request: ForwardRequest) -> ttrpc::Result<Empty> {
        let _ = self.0.send(request.envelope.unwrap().topic);
        Ok(Empty::new())
    }
}

fn guest_image() -> Option<PathBuf> {
    let dir = PathBuf::from(std::env::var_os("COCOON_GUEST_IMAGE")?);
    let there = dir.join("manifest.json").is_file();
    let qemu = Command::new("qemu-system-x86_64").arg("--version").output().is_ok();
    (there && qemu).then_some(dir)
}

/// A plan whose Trustee, at this port of the host, lets the guest wait.
fn annotation(port: u16) -> String {
    let plan = json!({
        "version": 1, "name": "pod",
        "containers": [{
            "name": "app", "image": {"reference": "x", "digest": format!("sha256:{}", "a".repeat(64))},
            "args": ["x"], "cwd": "/", "no_new_privileges": true, "seccomp": "runtime-default", "logs": true,
            "restart": "never", "stop_signal": 15
        }]
    });
    // QEMU's name for this host.
    let aa = format!("[token_configs.kbs]\nurl = \"https://10.0.2.2:{port}\"\n");
    let files = [("plan.json", plan.to_string()), ("aa.toml", aa), ("cdh.toml", String::new())];
    let files: BTreeMap<String, String> = files.map(|(name, text)| (name.to_owned(), text)).into();
    InitData::new(HashAlgorithm::Sha256, files).to_annotation().unwrap()
}

fn start(bundle: &Path, config: &Path, events: &Path) -> String {
    let mut child = Command::new(SHIM)
        .args(["-namespace", "test", "-id", "pod", "-address", "/run/none.sock", "-debug", "start"])
        .current_dir(bundle)
        .env("COCOON_RUNTIME_CONFIG", config)
        .env("TTRPC_ADDRESS", events)
        .env_remove("MAX_SHIM_VERSION")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().flush().unwrap();
    String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
}

/// Resident memory in KiB without that of the guest.
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let of = |name: &str| {
        let line = status.lines().find_map(|l| l.strip_prefix(name)).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
    };
    of("RssAnon:") + of("RssFile:")
}

/// A container that the guest does not make in time is nobody's: its id is not free, and there is nothing to delete.
async fn too_late(task: &TaskClient, dir: &Path) {
    let bundle = dir.join("late");
    std::fs::create_dir(&bundle).unwrap();
    let spec = json!({"annotations": {
        "io.kubernetes.cri.container-type": "container", "io.kubernetes.cri.sandbox-id": "pod",
        "io.kubernetes.cri.container-name": "app"
    }});
    std::fs::write(bundle.join("config.json"), spec.to_string()).unwrap();
    let limit = || ttrpc::context::with_duration(Duration::from_secs(60));
    let create = || async {
        let bundle = bundle.display().to_string();
        let request = CreateTaskRequest { id: "late".into(), bundle, ..CreateTaskRequest::default() };
        match task.create(limit(), &request).await.unwrap_err() {
            ttrpc::Error::RpcStatus(status) => status,
            other => panic!("{other}"),
        }
    };
    let late = create().await;
    assert!(late.message.contains("SERVE-FAILED") && late.message.contains("taken back"), "{}", late.message);
    assert_eq!(create().await.code, ttrpc::Code::ALREADY_EXISTS.into());
    let deleted =
        task.delete(limit(), &DeleteRequest { id: "late".into(), ..DeleteRequest::default() }).await;
    let Err(ttrpc::Error::RpcStatus(status)) = deleted else { panic!("{deleted:?}") };
    assert_eq!(status.code, ttrpc::Code::NOT_FOUND.into());
}

#[tokio::test]
async fn a_sandbox_lives_and_dies_with_its_vm() {
    let Some(guest) = guest_image() else {
        return println!("skipped: no COCOON_GUEST_IMAGE with a guest image, or no QEMU");
    };
    let dir = tempfile::tempdir().unwrap();
    let (bundle, config, socket) =
        (dir.path().join("bundle"), dir.path().join("class.toml"), dir.path().join("events.sock"));
    std::fs::create_dir(&bundle).unwrap();
    let class = format!(
        "guest_image = {guest:?}\nstate = {:?}\ndata = {:?}\nprotection = \"sim\"\nacceleration = \"tcg\"\n\
         create_timeout_s = 1\n",
        dir.path().join("state"),
        dir.path().join("data")
    );
    std::fs::write(&config, class).unwrap();
    // Connections come about, and nobody says a word.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let spec = json!({
        "hostname": "pod-1",
        "annotations": {"io.kubernetes.cri.container-type": "sandbox", "dev.cocoon.initdata": annotation(port)},
        "linux": {"namespaces": [{"type": "network"}, {"type": "pid"}, {"type": "ipc"}]}
    });
    std::fs::write(bundle.join("config.json"), spec.to_string()).unwrap();
    let (heard, mut hears) = mpsc::unbounded_channel();
    let mut server = Server::new().bind(&format!("unix://{}", socket.display())).unwrap();
    server = server.register_service(create_events(Arc::new(Containerd(heard))));
    server.start().await.unwrap();

    let address = start(&bundle, &config, &socket);
    let task = TaskClient::new(Client::connect(&address).await.unwrap());
    let limit = || ttrpc::context::with_duration(Duration::from_secs(300));
    let id = || "pod".to_owned();
    let request =
        CreateTaskRequest { id: id(), bundle: bundle.display().to_string(), ..CreateTaskRequest::default() };
    let qemu = task.create(limit(), &request).await.unwrap().pid;
    assert!(Path::new(&format!("/proc/{qemu}")).exists());
    let started = task.start(limit(), &StartRequest { id: id(), ..StartRequest::default() }).await.unwrap();
    assert_eq!(started.pid, qemu);
    let state = || StateRequest { id: id(), ..StateRequest::default() };
    assert_eq!(task.state(limit(), &state()).await.unwrap().status, Status::RUNNING.into());
    let pids = task.pids(limit(), &PidsRequest { id: id(), ..PidsRequest::default() }).await.unwrap();
    assert_eq!(pids.processes[0].pid, qemu);
    let stats = task.stats(limit(), &StatsRequest { id: id(), ..StatsRequest::default() }).await.unwrap();
    assert!(stats.stats.type_url.starts_with("io.containerd.cgroups.v") && stats.stats.value.len() > 10);
    let shim = std::fs::read_to_string(bundle.join("shim.pid")).unwrap().parse().unwrap();
    println!("resident memory of the shim: {} KiB", resident(shim));

    too_late(&task, dir.path()).await;

    let raw = rustix::process::Pid::from_raw(i32::try_from(qemu).unwrap()).unwrap();
    rustix::process::kill_process(raw, rustix::process::Signal::KILL).unwrap();
    let ended = task.wait(limit(), &WaitRequest { id: id(), ..WaitRequest::default() }).await.unwrap();
    assert_eq!(ended.exit_status, 137);
    assert_eq!(task.state(limit(), &state()).await.unwrap().status, Status::STOPPED.into());
    let deleted =
        task.delete(limit(), &DeleteRequest { id: id(), ..DeleteRequest::default() }).await.unwrap();
    assert_eq!(deleted.exit_status, 137);
    for topic in ["/tasks/create", "/tasks/start", "/tasks/exit", "/tasks/delete"] {
        assert_eq!(hears.recv().await.unwrap(), topic);
    }
    let pidfd = rustix::process::pidfd_open(
        rustix::process::Pid::from_raw(i32::try_from(shim).unwrap()).unwrap(),
        rustix::process::PidfdFlags::empty(),
    )
    .unwrap();
    let _ = task.shutdown(limit(), &ShutdownRequest { id: id(), ..ShutdownRequest::default() }).await;
    let mut polled = [rustix::event::PollFd::new(&pidfd, rustix::event::PollFlags::IN)];
    let patience = rustix::event::Timespec { tv_sec: 20, tv_nsec: 0 };
    assert_eq!(rustix::event::poll(&mut polled, Some(&patience)).unwrap(), 1, "the shim does not end");
    let left: Vec<_> = dir.path().join("state").read_dir().unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["s"], "something stays behind");
    assert_eq!(dir.path().join("state/s").read_dir().unwrap().count(), 0);
}
