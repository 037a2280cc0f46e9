//! A host that drives pods over the Task service, well and badly, with real containers. Needs root, busybox and the guest's
//! own binary beside this test's; says "skipped" otherwise.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Mutex;

use cocoon_plan::{PLAN_FILE, Plan};
use cocoon_protocol::HashAlgorithm;
use cocoon_protocol::initdata::InitData;
use cocoon_sandbox_api::sandbox::ContainerOptions;
use cocoon_sandbox_api::{CONTAINER_OPTIONS, from_ttrpc};
use serde_json::json;

use super::*;
use crate::container::{ExecSpec, Settings, Streams};
use crate::events::Events;
use crate::open::HostSettings;
use crate::prepare::{Backend, Documents, Images, Secret, Secrets};
use crate::reaper::Reaper;
use crate::volumes::Place;

const BUSYBOX: &str = "/bin/busybox";

#[derive(Default)]
struct Fake {
    delivered: Mutex<Vec<String>>,
    removed: Mutex<Vec<(String, bool)>>,
}

#[async_trait]
impl Secrets for Fake {
    async fn attest(&self) -> Result<(), Failure> {
        Ok(())
    }

    async fn resource(&self, uri: &str) -> Result<Secret, Failure> {
        Err(Failure::new(Code::ReleaseDenied, uri))
    }

    async fn serve_rest(&self, _: BTreeSet<String>, _: bool) -> Result<(), Failure> {
        Ok(())
    }
}

#[async_trait]
impl Images for Fake {
    async fn deliver(
        &self,
        plan: &cocoon_plan::ContainerPlan,
        rootfs: &Path,
        _: Documents,
    ) -> Result<(), Failure> {
        self.delivered.lock().unwrap().push(plan.name.clone());
        for folder in ["bin", "etc", "tmp"] {
            fs::create_dir_all(rootfs.join(folder)).unwrap();
        }
        fs::copy(BUSYBOX, rootfs.join("bin/busybox")).unwrap();
        symlink("busybox", rootfs.join("bin/sh")).unwrap();
        Ok(())
    }

    async fn space(&self) -> Result<Place, Failure> {
        Ok(Place { folder: "/nowhere".into(), memory: true })
    }

    async fn remove(&self, container: &str, rootfs: &Path, again: bool) {
        fs::remove_dir_all(rootfs).unwrap();
        self.removed.lock().unwrap().push((container.to_owned(), again));
    }
}

/// A guest without its VM.
struct Guest {
    service: TaskService,
    images: Arc<Fake>,
    context: TtrpcContext,
    /// Last, so that nothing is mounted below it any more when it goes.
    _dir: tempfile::TempDir,
}

impl Guest {
    async fn new(containers: serde_json::Value) -> Option<Self> {
        let exe = std::env::current_exe().unwrap().parent().unwrap().with_file_name("cocoon-guest");
        let able = rustix::process::geteuid().is_root() && Path::new(BUSYBOX).exists() && exe.exists();
        let namespaces = std::process::Command::new("unshare").args(["-m", "-p", "-f", "true"]).status();
        if !able || !namespaces.is_ok_and(|s| s.success()) {
            println!("skipped: needs root, namespaces, {BUSYBOX} and {}", exe.display());
            return None;
        }
        let plan = json!({"version": 1, "name": "pod", "containers": containers}).to_string();
        Plan::parse(plan.as_bytes()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings {
            exe: File::open(exe).unwrap().into(),
            work: dir.path().join("work"),
            etc: dir.path().join("etc"),
            cgroups: None,
            reaper: Arc::new(Reaper::default()),
        };
        let images = Arc::new(Fake::default());
        let backend = Backend { secrets: Arc::clone(&images) as _, images: Arc::clone(&images) as _ };
        let connect: crate::pod::Connect = Box::new(move |_, _, _| {
            let backend = backend.clone();
            Box::pin(async move { Ok(backend) })
        });
        let files = BTreeMap::from([(PLAN_FILE.to_owned(), plan)]);
        let initdata = Ok(InitData::new(HashAlgorithm::Sha256, files));
        let (events, _) = Events::channel();
        let pod = Arc::new(Pod::new(settings, dir.path().join("roots"), events, connect, initdata, false));
        pod.configure("pod".into(), None, HostSettings::default(), || Ok(())).unwrap();
        Some(Guest { service: TaskService(pod), images, context: context(), _dir: dir })
    }

    async fn create(&self, id: &str, name: &str) -> ttrpc::Result<CreateTaskResponse> {
        let options = ContainerOptions { name: name.into(), ..ContainerOptions::default() };
        let value = options.write_to_bytes().unwrap();
        let options = Any { type_url: CONTAINER_OPTIONS.into(), value, ..Any::default() };
        let req = CreateTaskRequest {
            id: id.into(),
            bundle: "/lies".into(),
            options: Some(options).into(),
            ..CreateTaskRequest::default()
        };
        self.service.create(&self.context, req).await
    }

    async fn start(&self, id: &str, exec_id: &str) -> ttrpc::Result<StartResponse> {
        let req = StartRequest { id: id.into(), exec_id: exec_id.into(), ..StartRequest::default() };
        self.service.start(&self.context, req).await
    }

    async fn wait(&self, id: &str, exec_id: &str) -> ttrpc::Result<u32> {
        let req = WaitRequest { id: id.into(), exec_id: exec_id.into(), ..WaitRequest::default() };
        self.service.wait(&self.context, req).await.map(|r| r.exit_status)
    }

    async fn kill(&self, id: &str, exec_id: &str, signal: u32) -> ttrpc::Result<Empty> {
        let req = KillRequest { id: id.into(), exec_id: exec_id.into(), signal, ..KillRequest::default() };
        self.service.kill(&self.context, req).await
    }

    async fn delete(&self, id: &str, exec_id: &str) -> ttrpc::Result<u32> {
        let req = DeleteRequest { id: id.into(), exec_id: exec_id.into(), ..DeleteRequest::default() };
        self.service.delete(&self.context, req).await.map(|r| r.exit_status)
    }

    async fn state(&self, id: &str, exec_id: &str) -> ttrpc::Result<Status> {
        let req = StateRequest { id: id.into(), exec_id: exec_id.into(), ..StateRequest::default() };
        self.service.state(&self.context, req).await.map(|r| r.status.unwrap())
    }

    async fn exec(&self, id: &str, exec_id: &str, args: &[&str]) -> ttrpc::Result<Empty> {
        let value = json!({"args": args, "cwd": "/", "user": {"uid": 0}}).to_string().into_bytes();
        let spec = Any { value, ..Any::default() };
        let (id, exec_id) = (id.into(), exec_id.into());
        let req =
            ExecProcessRequest { id, exec_id, spec: Some(spec).into(), ..ExecProcessRequest::default() };
        self.service.exec(&self.context, req).await
    }

    /// An instance from its creation to its removal.
    async fn run(&self, id: &str, name: &str) -> ttrpc::Result<u32> {
        self.create(id, name).await?;
        self.start(id, "").await?;
        self.wait(id, "").await?;
        self.delete(id, "").await
    }
}

fn context() -> TtrpcContext {
    TtrpcContext {
        mh: ttrpc::MessageHeader::default(),
        metadata: HashMap::new(),
        timeout_nano: 0,
        connection_data: Arc::default(),
    }
}

fn container(name: &str, script: &str, restart: &str) -> serde_json::Value {
    json!({
        "name": name, "image": {"reference": "x", "digest": format!("sha256:{}", "a".repeat(64))},
        "args": ["/bin/sh", "-c", script], "cwd": "/", "env": ["PATH=/bin"], "no_new_privileges": true,
        "seccomp": "runtime-default", "logs": true, "restart": restart, "stop_signal": 15
    })
}

fn code<T>(result: ttrpc::Result<T>) -> ttrpc::Code {
    match result.err().unwrap() {
        ttrpc::Error::RpcStatus(status) => status.code(),
        other => panic!("{other}"),
    }
}

fn refused<T>(result: ttrpc::Result<T>) -> String {
    let failure = from_ttrpc(&result.err().unwrap()).unwrap();
    assert_eq!(failure.code, Code::PlanRequestRefused);
    failure.reason.unwrap()
}

#[tokio::test]
async fn a_pod_from_its_init_container_to_restarts() {
    let mut init = container("init", "exit 0", "on-failure");
    init["kind"] = "init".into();
    let main = container("main", "exit 3", "always");
    let mut debug = container("debug", "exit 5", "never");
    debug["kind"] = "ephemeral".into();
    let Some(guest) = Guest::new(json!([init, main, debug])).await else { return };
    assert!(refused(guest.create("c1", "main").await).contains("must come first"));
    assert_eq!(guest.run("c1", "init").await.unwrap(), 0);
    assert!(refused(guest.create("c2", "init").await).contains("not run again"));
    for id in ["c2", "c3", "c6"] {
        assert_eq!(guest.run(id, "main").await.unwrap(), 3, "{id}");
    }
    assert!(refused(guest.create("c2", "main").await).contains("used before"));
    assert_eq!(guest.run("c4", "debug-x1").await.unwrap(), 5);
    assert!(refused(guest.create("c5", "debug-x1").await).contains("not run again"));
    assert!(refused(guest.create("c5", "evil").await).contains("no container"));
    let delivered = guest.images.delivered.lock().unwrap().clone();
    assert_eq!(delivered.iter().filter(|n| *n == "main").count(), 3, "each its own: {delivered:?}");
    while guest.images.removed.lock().unwrap().len() < 5 {
        tokio::task::yield_now().await;
    }
    let removed = guest.images.removed.lock().unwrap().clone();
    assert!(
        removed.contains(&("init".into(), false)) && removed.contains(&("main".into(), true)),
        "{removed:?}"
    );
}

#[tokio::test]
async fn answers_are_those_of_containerds_own_shims() {
    let mut main = container("main", "echo gone > /dev/termination-log; exec busybox sleep 1000", "never");
    main["termination_message"] = "/dev/termination-log".into();
    let Some(guest) = Guest::new(json!([main])).await else { return };
    let (missing, exists) = (ttrpc::Code::NOT_FOUND, ttrpc::Code::ALREADY_EXISTS);
    assert_eq!(code(guest.start("c1", "").await), missing);
    assert_eq!(code(guest.wait("c1", "").await), missing);
    assert_eq!(code(guest.kill("c1", "", 9).await), missing);
    assert_eq!(code(guest.delete("c1", "").await), missing);
    assert_eq!(code(guest.state("c1", "").await), missing);
    assert_eq!(code(guest.exec("c1", "e", &["x"]).await), missing);
    guest.create("c1", "main").await.unwrap();
    assert_eq!(code(guest.create("c1", "main").await), exists);
    assert_eq!(guest.state("c1", "").await.unwrap(), Status::CREATED);
    let waiting = guest.wait("c1", "");
    guest.start("c1", "").await.unwrap();
    assert_eq!(guest.state("c1", "").await.unwrap(), Status::RUNNING);
    assert!(refused(guest.start("c1", "").await).contains("started before"));
    assert!(refused(guest.delete("c1", "").await).contains("which runs"));
    assert!(refused(guest.kill("c1", "", 65).await).contains("not a signal"));
    let message = || guest.service.0.termination_message("c1");
    assert_eq!(message().unwrap_err().code, Code::PlanRequestRefused, "it has not ended");
    while fs::read_to_string(format!("/proc/{}/comm", pid(&guest).await)).unwrap().trim() != "busybox" {
        tokio::task::yield_now().await;
    }
    guest.kill("c1", "", 9).await.unwrap();
    assert_eq!(waiting.await.unwrap(), 137);
    assert_eq!(guest.state("c1", "").await.unwrap(), Status::STOPPED);
    assert_eq!(code(guest.kill("c1", "", 9).await), missing);
    assert_eq!(message().unwrap(), b"gone\n");
    assert_eq!(guest.delete("c1", "").await.unwrap(), 137);
    assert_eq!(code(guest.delete("c1", "").await), missing);
    assert!(refused(guest.create("c2", "main").await).contains("not run again"));
}

async fn pid(guest: &Guest) -> u32 {
    let req = ConnectRequest { id: "c1".into(), ..ConnectRequest::default() };
    guest.service.connect(&guest.context, req).await.unwrap().task_pid
}

#[tokio::test]
async fn further_processes_are_those_of_the_plan() {
    let mut main = container("main", "exec busybox sleep 1000", "never");
    main["exec"] =
        json!({"commands": [["/bin/sh", "-c", "exit 4"], ["busybox", "sleep", "1000"], ["/nothing"]]});
    let Some(guest) = Guest::new(json!([main])).await else { return };
    guest.create("c1", "main").await.unwrap();
    let probe = ["/bin/sh", "-c", "exit 4"];
    assert!(refused(guest.exec("c1", "e1", &probe).await).contains("does not run"));
    guest.start("c1", "").await.unwrap();
    for other in [&["/bin/sh"][..], &["/bin/sh", "-c", "exit 5"], &["/bin/sh", "-c", "exit 4", "x"]] {
        assert!(refused(guest.exec("c1", "e1", other).await).contains("does not allow"));
    }
    assert!(refused(guest.exec("c1", "../e", &probe).await).contains("id"));
    guest.exec("c1", "e1", &probe).await.unwrap();
    assert_eq!(code(guest.exec("c1", "e1", &probe).await), ttrpc::Code::ALREADY_EXISTS);
    assert_eq!(guest.state("c1", "e1").await.unwrap(), Status::CREATED);
    // As containerd does: the wait comes before the start.
    let (waited, started) = tokio::join!(guest.wait("c1", "e1"), guest.start("c1", "e1"));
    assert!(started.unwrap().pid > 0);
    assert_eq!(waited.unwrap(), 4);
    assert_eq!(guest.state("c1", "e1").await.unwrap(), Status::STOPPED);
    assert_eq!(code(guest.kill("c1", "e1", 9).await), ttrpc::Code::NOT_FOUND);
    assert_eq!(guest.delete("c1", "e1").await.unwrap(), 4);
    assert_eq!(code(guest.state("c1", "e1").await), ttrpc::Code::NOT_FOUND);
    assert!(refused(guest.exec("c1", "e1", &probe).await).contains("used before"));

    guest.exec("c1", "e2", &["/nothing"]).await.unwrap();
    let failed = from_ttrpc(&guest.start("c1", "e2").await.unwrap_err()).unwrap();
    assert_eq!((failed.code, failed.reason), (Code::StartContainerFailed, None));
    assert_eq!(guest.wait("c1", "e2").await.unwrap(), 127);
    assert_eq!(guest.delete("c1", "e2").await.unwrap(), 127);

    guest.exec("c1", "e3", &["busybox", "sleep", "1000"]).await.unwrap();
    guest.start("c1", "e3").await.unwrap();
    assert!(refused(guest.delete("c1", "e3").await).contains("which runs"));
    guest.exec("c1", "e4", &probe).await.unwrap();
    let left = guest.wait("c1", "e4");
    tokio::pin!(left);
    assert!(futures::poll!(&mut left).is_pending());
    guest.kill("c1", "", 9).await.unwrap();
    assert_eq!(guest.wait("c1", "").await.unwrap(), 137);
    assert_eq!(guest.wait("c1", "e3").await.unwrap(), 137, "it ends with the container");
    assert!(refused(guest.start("c1", "e4").await).contains("does not run"));
    guest.delete("c1", "").await.unwrap();
    assert_eq!(left.await.unwrap(), 255, "nobody waits for what cannot be any more");
    assert_eq!(code(guest.state("c1", "e3").await), ttrpc::Code::NOT_FOUND);
}

#[tokio::test]
async fn a_process_is_made_by_its_instances_plan_and_started_with_its_ports() {
    let mut open = container("open", "exec busybox sleep 1000", "never");
    open["exec"] = json!({"any": true});
    let mut shut = container("shut", "exec busybox sleep 1000", "never");
    shut["exec"] = json!({"commands": [["/bin/sh", "-c", "exit 4"]]});
    shut["logs"] = false.into();
    let Some(guest) = Guest::new(json!([open, shut])).await else { return };
    let pod = &guest.service.0;
    let all: Vec<String> = ["/bin/sh", "-c", "exit 4"].map(String::from).into();
    for (id, port) in [("open", 5000), ("shut", 6000)] {
        guest.create(id, id).await.unwrap();
        guest.start(id, "").await.unwrap();
        let req = ExecProcessRequest { stdout: format!("vsock://2:{port}"), ..ExecProcessRequest::default() };
        let make = |plan: &ContainerPlan| {
            assert_eq!(plan.name, id);
            let spec = ExecSpec { args: all.clone(), env: Vec::new(), cwd: None, terminal: false };
            Ok(Exec::new(spec, Ports::of_exec(&req, false, plan)?, None))
        };
        pod.exec(id, "e", make).unwrap();
        let checked = Ports::of_exec(&req, false, &pod.named(id).unwrap()).unwrap();
        let connect = async |ports: Ports| {
            assert_eq!(ports, checked);
            Ok(Streams::default())
        };
        pod.exec_start(id, "e", connect).await.unwrap();
        assert_eq!(guest.wait(id, "e").await.unwrap(), 4);
        guest.kill(id, "", 9).await.unwrap();
    }
}

#[tokio::test]
async fn requests_at_once_make_one_instance() {
    let Some(guest) = Guest::new(json!([container("main", "exec busybox sleep 1000", "always")])).await
    else {
        return;
    };
    let ids: Vec<String> = (0..8).map(|i| format!("c{i}")).collect();
    let made = futures::future::join_all(ids.iter().map(|id| guest.create(id, "main"))).await;
    assert_eq!(made.iter().filter(|m| m.is_ok()).count(), 1);
    let id = ids.get(made.iter().position(|m| m.is_ok()).unwrap()).unwrap();
    let started = futures::future::join_all((0..8).map(|_| guest.start(id, ""))).await;
    assert_eq!(started.iter().filter(|s| s.is_ok()).count(), 1);
    guest.kill(id, "", 9).await.unwrap();
    guest.wait(id, "").await.unwrap();
    let gone = futures::future::join_all((0..8).map(|_| guest.delete(id, ""))).await;
    assert_eq!(gone.iter().filter(|g| g.is_ok()).count(), 1);
    assert_eq!(guest.images.delivered.lock().unwrap().len(), 1);
}
