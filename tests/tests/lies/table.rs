//! Every request that a pod's guest takes, field by field, and messages that mean something that no plan allows.

use cocoon_sandbox_api::CONTAINER_OPTIONS;
use cocoon_sandbox_api::sandbox::ContainerOptions;
use protobuf::Message;

use super::{Method, any, bytes, flag, message, number, text, varied};

/// containerd's service in the guest.
pub const TASK: &str = "containerd.task.v3.Task";
/// Cocoon's.
pub const SANDBOX: &str = "cocoon.sandbox.v1.Sandbox";

/// A container's options in an Any.
pub fn options(name: &str, change: impl FnOnce(&mut ContainerOptions)) -> Vec<u8> {
    let mut options = ContainerOptions { name: name.into(), ..ContainerOptions::default() };
    change(&mut options);
    any(CONTAINER_OPTIONS, &options.write_to_bytes().unwrap())
}

/// Every request that a guest takes, but for its own end. What is asked for is `spare`: a container that may run often; or
/// `victim`, which runs. One line a field.
pub fn methods() -> Vec<Method> {
    let id = || text(1, "id", "victim");
    let exec = || text(2, "exec_id", "");
    let task = |name, fields| Method { service: TASK, name, fields };
    let sandbox = |name, fields| Method { service: SANDBOX, name, fields };
    vec![
        task(
            "Create",
            vec![
                text(1, "id", ""),
                text(2, "bundle", "/bundle"),
                message(3, "rootfs", &[]),
                flag(4, "terminal"),
                text(5, "stdin", ""),
                text(6, "stdout", ""),
                text(7, "stderr", ""),
                text(8, "checkpoint", ""),
                text(9, "parent_checkpoint", ""),
                message(10, "options", &options("spare", |_| {})),
            ],
        ),
        task(
            "Exec",
            vec![
                id(),
                text(2, "exec_id", "again"),
                flag(3, "terminal"),
                text(4, "stdin", ""),
                text(5, "stdout", ""),
                text(6, "stderr", ""),
                message(7, "spec", &any("process", br#"{"args":["/bin/sh","-c","cat /run/secrets/token"]}"#)),
            ],
        ),
        task("Start", vec![id(), exec()]),
        task("State", vec![id(), exec()]),
        task("Delete", vec![id(), exec()]),
        task("Kill", vec![id(), exec(), number(3, "signal", 0), flag(4, "all")]),
        task("ResizePty", vec![id(), exec(), number(3, "width", 80), number(4, "height", 24)]),
        task("CloseIO", vec![id(), exec(), flag(3, "stdin")]),
        task("Pids", vec![id()]),
        task("Stats", vec![id()]),
        task("Connect", vec![id()]),
        task("Wait", vec![id(), text(2, "exec_id", "nothing")]),
        task("Resume", vec![id()]),
        task("Checkpoint", vec![id(), text(2, "path", "/x"), message(3, "options", &[])]),
        task(
            "Update",
            vec![id(), message(2, "resources", &any("resources", b"{}")), message(3, "annotations", &[])],
        ),
        task("Shutdown", vec![id(), flag(2, "now")]),
        sandbox(
            "Configure",
            vec![
                message(1, "interfaces", &[bytes(1, b"eth0"), bytes(2, b"10.9.9.9/24")].concat()),
                message(2, "routes", &[bytes(2, b"10.9.9.1"), bytes(3, b"eth0")].concat()),
                text(3, "resolv_conf", "nameserver 10.9.9.9\n"),
                text(4, "hosts", "127.0.0.1 localhost\n"),
                text(5, "hostname", "other"),
                text(6, "host_loopback", "10.9.9.2"),
                message(7, "neighbours", &[bytes(1, b"10.9.9.1"), bytes(2, b"02:00:00:00:00:01")].concat()),
                message(8, "sysctls", &[bytes(1, b"kernel.core_pattern"), bytes(2, b"|/bin/sh")].concat()),
                flag(9, "share_process_namespace"),
            ],
        ),
        sandbox("Status", vec![text(1, "nothing", "x")]),
        sandbox(
            "PutFiles",
            vec![
                text(1, "volume", "files"),
                number(2, "generation", 1),
                message(3, "files", &file("name", 0, b"content")),
                flag(4, "commit"),
            ],
        ),
        sandbox("TerminationMessage", vec![id()]),
    ]
}

fn file(path: &str, offset: u64, data: &[u8]) -> Vec<u8> {
    [bytes(1, path.as_bytes()), varied(2, 0o644), varied(5, offset), bytes(6, data)].concat()
}

/// Messages that mean something, but nothing that the plan allows.
pub fn messages() -> Vec<Vec<u8>> {
    let many = |text: &str, n: usize| vec![text.to_owned(); n];
    let process = |json: &str| any("process", json.as_bytes());
    let mut all = vec![
        options("witness", |_| {}),
        options("victim", |_| {}),
        options("..", |_| {}),
        options("nobody", |o| o.image = "evil.example/x".into()),
        options("spare", |o| o.env = vec!["LD_PRELOAD=/x".into(), "A\0=b".into(), "=".into(), String::new()]),
        options("spare", |o| o.env = many("X=1", 100_000)),
        options("spare", |o| o.hosts = "x".repeat(1 << 20)),
        options("spare", |o| o.hosts = "1.2.3.4 trustee\0\n".into()),
        options("spare", |o| o.resources = br#"{"memory":{"limit":-9223372036854775808}}"#.to_vec()),
        options("spare", |o| o.resources = br#"{"memory":{"limit":1},"pids":{"limit":1}}"#.to_vec()),
        options("spare", |o| o.spec = br#"{"process":{"args":["/bin/cat","/run/secrets/token"]}}"#.to_vec()),
        any("runtimeoptions.v1.Options", &options("spare", |_| {})),
        process(r#"{"args":["/bin/echo","healthy","/run/secrets/token"]}"#),
        process(r#"{"args":["/bin/echo","healthy"],"cwd":"/run/secrets","user":{"uid":0}}"#),
        process(r#"{"args":["/bin/echo","healthy"],"env":["LD_PRELOAD=/x","PATH=/evil"]}"#),
        process(r#"{"args":["/bin/echo\u0000","healthy"]}"#),
        process(&"[".repeat(100_000)),
        process(&format!(r#"{{"args":[{}"x"]}}"#, r#""x","#.repeat(100_000))),
        process(
            r#"{"args":["/bin/echo","healthy"],"terminal":true,"consoleSize":{"height":18446744073709551615,"width":1}}"#,
        ),
        any("resources", br#"{"cpu":{"quota":-5,"period":0,"shares":18446744073709551615}}"#),
        any("resources", br#"{"unified":{"../../cgroup.kill":"1","memory.oom.group":"x\n1"}}"#),
        any("resources", " ".repeat(1 << 20).as_bytes()),
    ];
    let paths =
        ["", ".", "..", "../x", "/etc/passwd", "a/../../b", "a//b", "a\0b", "..data", "run/secrets/token"];
    all.extend(paths.iter().map(|path| file(path, 0, b"evil")));
    all.push(file(&"d/".repeat(2000), 0, b"deep"));
    all.push(file("gap", 1 << 40, b"far"));
    all.push(file("max", u64::MAX, b"far"));
    all
}
