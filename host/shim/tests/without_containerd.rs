//! The program, started and spoken to as containerd does, without a containerd and without a VM.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::io::Write;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use containerd_shim_protos::api::{
    ConnectRequest, ConnectResponse, CreateTaskRequest, DeleteResponse, ShutdownRequest, StateRequest,
};
use containerd_shim_protos::bootstrap_api::{BootstrapParams, BootstrapResult};
use containerd_shim_protos::shim_async::{Client, TaskClient};
use containerd_shim_protos::types::introspection::RuntimeInfo;
use protobuf::Message;
use protobuf::well_known_types::any::Any;
use serde_json::json;

const SHIM: &str = env!("CARGO_BIN_EXE_containerd-shim-cocoon-v2");

/// A containerd's folders.
struct Node {
    dir: tempfile::TempDir,
}

impl Node {
    fn new() -> Node {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).display().to_string();
        let config = format!(
            "guest_image = {:?}\nstate = {:?}\ndata = {:?}\nprotection = \"sim\"\nacceleration = \"tcg\"\n",
            at("no-image"),
            at("state"),
            at("data")
        );
        std::fs::write(dir.path().join("class.toml"), config).unwrap();
        Node { dir }
    }

    fn bundle(&self, id: &str, spec: &serde_json::Value) -> PathBuf {
        let bundle = self.dir.path().join("bundles").join(id);
        std::fs::create_dir_all(&bundle).unwrap();
        std::fs::write(bundle.join("config.json"), spec.to_string()).unwrap();
        bundle
    }

    /// What containerd writes to standard input: the runtime's options.
    fn options(&self) -> Any {
        let path = self.dir.path().join("class.toml").display().to_string();
        let mut value = vec![0x12, u8::try_from(path.len()).unwrap()];
        value.extend_from_slice(path.as_bytes());
        Any { type_url: "runtimeoptions.v1.Options".into(), value, ..Any::default() }
    }

    fn run(&self, id: &str, action: &str, input: &[u8], version: Option<&str>) -> Output {
        let bundle = self.dir.path().join("bundles").join(id);
        let mut command = Command::new(SHIM);
        command
            .args(["-namespace", "test", "-id", id, "-address", "/run/none.sock"])
            .args(["-publish-binary", "/bin/false", action])
            .current_dir(&bundle)
            .env_remove("MAX_SHIM_VERSION")
            .env_remove("TTRPC_ADDRESS")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if let Some(version) = version {
            command.env("MAX_SHIM_VERSION", version);
        }
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        child.wait_with_output().unwrap()
    }

    fn start(&self, id: &str) -> String {
        let options = self.options().write_to_bytes().unwrap();
        let output = self.run(id, "start", &options, None);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn pid(&self, id: &str) -> u32 {
        let pid = std::fs::read_to_string(self.dir.path().join("bundles").join(id).join("shim.pid"));
        pid.unwrap().parse().unwrap()
    }
}

fn pod() -> serde_json::Value {
    json!({
        "annotations": {"io.kubernetes.cri.container-type": "sandbox"},
        "linux": {"namespaces": [{"type": "network"}, {"type": "pid"}, {"type": "ipc"}]}
    })
}

async fn client(address: &str) -> TaskClient {
    TaskClient::new(Client::connect(address).await.unwrap())
}

fn soon() -> ttrpc::context::Context {
    ttrpc::context::with_duration(Duration::from_secs(20))
}

fn text(error: ttrpc::Error) -> String {
    let ttrpc::Error::RpcStatus(status) = error else { panic!("{error}") };
    status.message
}

async fn create(client: &TaskClient, node: &Node, id: &str) -> String {
    let bundle = node.dir.path().join("bundles").join(id).display().to_string();
    let request = CreateTaskRequest { id: id.into(), bundle, ..CreateTaskRequest::default() };
    text(client.create(soon(), &request).await.unwrap_err())
}

/// Ends the shim and waits until it has.
async fn end(client: &TaskClient, node: &Node, id: &str) {
    let pid = node.pid(id);
    let _ = client.shutdown(soon(), &ShutdownRequest { id: id.into(), ..ShutdownRequest::default() }).await;
    gone(pid);
}

fn gone(pid: u32) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    let Ok(descriptor) = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()) else {
        return;
    };
    let mut polled = [rustix::event::PollFd::new(&descriptor, rustix::event::PollFlags::IN)];
    let limit = rustix::event::Timespec { tv_sec: 20, tv_nsec: 0 };
    assert_eq!(rustix::event::poll(&mut polled, Some(&limit)).unwrap(), 1, "the shim does not end");
}

fn path_of(address: &str) -> &Path {
    Path::new(address.strip_prefix("unix://").unwrap())
}

#[tokio::test]
async fn each_containerd_is_answered_in_its_form_and_served_under_its_name() {
    let node = Node::new();
    let options = node.options().write_to_bytes().unwrap();
    let extension = containerd_shim_protos::bootstrap_api::Extension {
        value: Some(node.options()).into(),
        ..Default::default()
    };
    let newest = BootstrapParams {
        instance_id: "newest".into(),
        namespace: "test".into(),
        extensions: vec![extension],
        ..BootstrapParams::default()
    };
    let cases = [
        ("plain", None, options.clone()),
        ("json2", Some("2"), options.clone()),
        ("json3", Some("3"), options),
        ("newest", Some("3"), newest.write_to_bytes().unwrap()),
    ];
    for (id, version, input) in cases {
        node.bundle(id, &pod());
        let output = node.run(id, "start", &input, version);
        assert!(output.status.success(), "{id}: {}", String::from_utf8_lossy(&output.stderr));
        let address = match id {
            "plain" => String::from_utf8(output.stdout).unwrap(),
            "newest" => {
                let result = BootstrapResult::parse_from_bytes(&output.stdout).unwrap();
                assert_eq!((result.version, result.protocol.as_str()), (3, "ttrpc"));
                result.address
            }
            _ => {
                let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
                assert_eq!(json["version"].to_string(), version.unwrap());
                assert_eq!(json["protocol"], "ttrpc");
                json["address"].as_str().unwrap().to_owned()
            }
        };
        let bundle = node.dir.path().join("bundles").join(id);
        assert_eq!(std::fs::read_to_string(bundle.join("address")).unwrap(), address);
        assert!(std::fs::metadata(path_of(&address)).unwrap().file_type().is_socket());
        let connection = Client::connect(&address).await.unwrap();
        for service in ["containerd.task.v2.Task", "containerd.task.v3.Task"] {
            let connect = ConnectRequest { id: id.into(), ..ConnectRequest::default() };
            let request = ttrpc::proto::Request {
                service: service.into(),
                method: "Connect".into(),
                payload: connect.write_to_bytes().unwrap(),
                timeout_nano: 20_000_000_000,
                ..Default::default()
            };
            let answer = connection.request(request).await.unwrap();
            let answer = ConnectResponse::parse_from_bytes(&answer.payload).unwrap();
            assert_eq!(answer.shim_pid, node.pid(id), "{service}");
        }
        end(&client(&address).await, &node, id).await;
        assert!(!path_of(&address).exists(), "{id}: the socket stays behind");
    }
}

#[tokio::test]
async fn what_cannot_be_is_refused_with_its_code() {
    let node = Node::new();
    let mut host_network = pod();
    host_network["linux"]["namespaces"] = json!([{"type": "pid"}, {"type": "ipc"}]);
    let mut measured = pod();
    measured["annotations"]["io.katacontainers.config.hypervisor.kernel_params"] = json!("x=y");
    let mut initdata = pod();
    initdata["annotations"]["dev.cocoon.initdata"] = json!("no base64!");
    let cases = [
        ("good", pod(), "BOOT-GUEST-IMAGE-MISSING"),
        ("hostnet", host_network, "hostNetwork"),
        ("measured", measured, "kernel_params"),
        ("initdata", initdata, "INITDATA-MALFORMED"),
    ];
    for (id, spec, expected) in cases {
        node.bundle(id, &spec);
        let client = client(&node.start(id)).await;
        let said = create(&client, &node, id).await;
        assert!(said.contains(expected), "{id}: {said}");
        let state = StateRequest { id: id.into(), ..StateRequest::default() };
        assert!(text(client.state(soon(), &state).await.unwrap_err()).contains("process"));
        end(&client, &node, id).await;
        assert!(node.dir.path().join("state").read_dir().unwrap().all(|e| e.unwrap().file_name() == "s"));
    }
}

#[tokio::test]
async fn containers_of_a_pod_have_its_shim() {
    let node = Node::new();
    node.bundle("pod1", &pod());
    let address = node.start("pod1");
    assert_eq!(node.start("pod1"), address, "a second start finds the first one's shim");
    let member = json!({"annotations": {
        "io.kubernetes.cri.container-type": "container", "io.kubernetes.cri.sandbox-id": "pod1"
    }});
    let bundle = node.bundle("c1", &member);
    assert_eq!(node.start("c1"), address);
    assert!(!bundle.join("shim.pid").exists());
    let client = client(&address).await;
    assert!(create(&client, &node, "c1").await.contains("not running"));
    // Of a container there is nothing to delete, and its pod stays.
    let answer = node.run("c1", "delete", &[], None);
    assert_eq!(DeleteResponse::parse_from_bytes(&answer.stdout).unwrap().exit_status, 137);
    assert!(path_of(&address).exists());
    end(&client, &node, "pod1").await;
    let orphan = node.run("c1", "start", &[], None);
    assert!(orphan.status.success(), "the address stays what it was");
}

#[tokio::test]
async fn a_killed_shim_leaves_nothing_after_delete() {
    let node = Node::new();
    node.bundle("killed", &pod());
    let address = node.start("killed");
    let pid = node.pid("killed");
    let raw = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(raw, rustix::process::Signal::KILL).unwrap();
    gone(pid);
    assert!(path_of(&address).exists());
    let answer = node.run("killed", "delete", &[], None);
    let response = DeleteResponse::parse_from_bytes(&answer.stdout).unwrap();
    assert!(response.exit_status == 137 && response.exited_at.is_some());
    assert!(!path_of(&address).exists());
    // A hung one is ended by it.
    node.bundle("hung", &pod());
    let address = node.start("hung");
    let pid = node.pid("hung");
    let raw = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(raw, rustix::process::Signal::STOP).unwrap();
    node.run("hung", "delete", &[], None);
    gone(pid);
    assert!(!path_of(&address).exists());
}

#[test]
fn it_describes_itself() {
    let say = |flag: &str| Command::new(SHIM).arg(flag).stdin(Stdio::null()).output().unwrap();
    assert!(String::from_utf8(say("-v").stdout).unwrap().starts_with("containerd-shim-cocoon-v2 "));
    assert_eq!(RuntimeInfo::parse_from_bytes(&say("-info").stdout).unwrap().name, "io.containerd.cocoon.v2");
    let wrong = Command::new(SHIM).args(["-id", "../x", "-namespace", "n", "start"]).output().unwrap();
    assert!(!wrong.status.success() && String::from_utf8(wrong.stderr).unwrap().contains("identifier"));
}

#[test]
fn a_shim_that_nobody_would_find_does_not_stay() {
    let node = Node::new();
    let bundle = node.bundle("lost", &pod());
    // The address cannot be written.
    std::fs::create_dir(bundle.join("address")).unwrap();
    let output = node.run("lost", "start", &node.options().write_to_bytes().unwrap(), None);
    assert!(!output.status.success());
    assert!(!Path::new("/proc").join(node.pid("lost").to_string()).exists());
    assert_eq!(std::fs::read_dir(node.dir.path().join("state/s")).unwrap().count(), 0);
}
