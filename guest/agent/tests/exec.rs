//! What the host may run in a running container, and how it ends.

// Helpers of tests are tests too.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod common;

use std::sync::Arc;
use std::time::Duration;

use cocoon_guest::container::{Container, ExecSpec, Process, Streams};
use cocoon_plan::ContainerPlan;
use common::{Machine, plan};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn spec(script: &str) -> ExecSpec {
    let args = ["sh", "-c", script].map(String::from).to_vec();
    ExecSpec { args, env: Vec::new(), cwd: None, terminal: false }
}

/// A container that does nothing for a long time.
async fn idle(machine: &Machine, plan: &ContainerPlan) -> Container {
    let container = machine.create(plan, &[], Streams::default()).await.unwrap();
    container.start().await.unwrap();
    container
}

fn sleeper(name: &str) -> ContainerPlan {
    plan(name, "exec busybox sleep 1000")
}

async fn run(machine: &Machine, container: &Container, spec: &ExecSpec) -> (String, u32) {
    let (mut out, near) = tokio::io::duplex(4096);
    let streams = Streams { stdout: Some(Box::new(near)), ..Streams::default() };
    let process = container.exec(&machine.settings, spec, streams).await.unwrap();
    process.start().await.unwrap();
    let mut text = String::new();
    out.read_to_string(&mut text).await.unwrap();
    (text, process.wait().await.status)
}

async fn soon(process: &Arc<Process>) -> u32 {
    tokio::time::timeout(Duration::from_secs(10), process.wait()).await.unwrap().status
}

#[tokio::test]
async fn it_runs_among_the_containers_own() {
    for shared in [false, true] {
        let Some(machine) = Machine::of(shared) else { return };
        let mut plan = sleeper("among");
        (plan.user, plan.cwd, plan.groups) = ("alice".into(), "/home/alice".into(), vec![4242]);
        plan.env.push("OWN=1".into());
        let container = idle(&machine, &plan).await;
        let script = "id -u; id -G; pwd; cat /proc/sys/kernel/hostname; echo $OWN $HOME; \
            busybox ps -o args | busybox grep -c 'sleep 100[0]'; busybox grep -E 'CapEff|Seccomp:' /proc/self/status; exit 3";
        let (text, status) = run(&machine, &container, &spec(script)).await;
        let expected = "1000\n1000 50 4242\n/home/alice\npod\n1 /home/alice\n1\nCapEff:\t0000000000000000\nSeccomp:\t2\n";
        assert_eq!((text.as_str(), status), (expected, 3), "shared: {shared}");
        for space in ["mnt", "uts", "ipc", "pid"] {
            let script = format!("ls -l /proc/self/ns/{space} | busybox sed 's/.*-> //'");
            let (inside, _) = run(&machine, &container, &spec(&script)).await;
            let own = format!("/proc/{}/ns/{space}", container.process().pid());
            assert_eq!(inside.trim(), std::fs::read_link(own).unwrap().to_string_lossy(), "{space}");
        }
        container.destroy().await;
    }
}

#[tokio::test]
async fn privileges_are_the_containers_with_and_without_no_new_privileges() {
    let Some(machine) = Machine::new() else { return };
    for hardened in [false, true] {
        let mut plan = sleeper(if hardened { "hardened" } else { "plain" });
        (plan.no_new_privileges, plan.capabilities) = (hardened, vec!["CAP_CHOWN".into(), "CAP_KILL".into()]);
        let container = idle(&machine, &plan).await;
        let script = "busybox grep -E 'CapPrm|CapEff|CapBnd|NoNewPrivs|Seccomp:' /proc/self/status; mount -t tmpfs x /tmp || echo no";
        let (text, status) = run(&machine, &container, &spec(script)).await;
        let caps = "0000000000000021";
        let new = u8::from(hardened);
        let expected = format!(
            "CapPrm:\t{caps}\nCapEff:\t{caps}\nCapBnd:\t{caps}\nNoNewPrivs:\t{new}\nSeccomp:\t2\nno\n"
        );
        assert_eq!((text, status), (expected, 0));
        container.destroy().await;
    }
}

#[tokio::test]
async fn folder_and_variables_may_be_others() {
    let Some(machine) = Machine::new() else { return };
    let mut plan = sleeper("other");
    plan.env.push("A=plan".into());
    let container = idle(&machine, &plan).await;
    let mut spec = spec("pwd; echo $A $B $TERM.");
    (spec.cwd, spec.env) = (Some("/etc".into()), vec!["A=host".into(), "B=2".into()]);
    assert_eq!(run(&machine, &container, &spec).await, ("/etc\nhost 2 .\n".into(), 0));
    spec.cwd = Some("/no/such".into());
    let process = container.exec(&machine.settings, &spec, Streams::default()).await.unwrap();
    assert!(process.start().await.unwrap_err().to_string().contains("/no/such"));
    spec.args = vec!["no-such-program".into()];
    spec.cwd = None;
    let process = container.exec(&machine.settings, &spec, Streams::default()).await.unwrap();
    assert!(process.start().await.unwrap_err().to_string().contains("os error 2"));
    assert_eq!(soon(&process).await, 127);
    container.destroy().await;
}

#[tokio::test]
async fn a_terminal_can_be_typed_on_and_resized() {
    let Some(machine) = Machine::new() else { return };
    let mut plan = sleeper("tty");
    plan.user = "alice".into();
    let container = idle(&machine, &plan).await;
    let (mut input, near_in) = tokio::io::duplex(4096);
    let (mut out, near_out) = tokio::io::duplex(4096);
    let streams = Streams { stdin: Some(Box::new(near_in)), stdout: Some(Box::new(near_out)), stderr: None };
    let mut spec = spec("busybox tty; echo x > /dev/tty; read x; stty size; echo got $x $TERM");
    spec.terminal = true;
    let process = container.exec(&machine.settings, &spec, streams).await.unwrap();
    process.resize(132, 43).unwrap();
    process.start().await.unwrap();
    input.write_all(b"typed\n").await.unwrap();
    let mut text = String::new();
    out.read_to_string(&mut text).await.unwrap();
    assert!(text.contains("/dev/pts/0\r\n") && text.contains("x\r\n"), "{text:?}");
    assert!(text.contains("43 132\r\n") && text.contains("got typed xterm\r\n"), "{text:?}");
    assert_eq!(soon(&process).await, 0);
    container.destroy().await;
}

#[tokio::test]
async fn signals_and_the_end_of_input_reach_it() {
    let Some(machine) = Machine::new() else { return };
    let container = idle(&machine, &sleeper("signals")).await;
    let (mut out, near) = tokio::io::duplex(4096);
    let streams = Streams { stdout: Some(Box::new(near)), ..Streams::default() };
    let trap = spec("trap 'echo term; exit 7' TERM; busybox sleep 1000 & echo ready; wait");
    let process = container.exec(&machine.settings, &trap, streams).await.unwrap();
    process.start().await.unwrap();
    let mut ready = [0; 6];
    out.read_exact(&mut ready).await.unwrap();
    process.signal(15).unwrap();
    // The sleeper has its streams still: its end is not waited for.
    assert_eq!(soon(&process).await, 7);
    process.signal(9).unwrap();

    let (mut input, near) = tokio::io::duplex(4096);
    let streams = Streams { stdin: Some(Box::new(near)), ..Streams::default() };
    let process = container.exec(&machine.settings, &spec("cat >/dev/null; exit 5"), streams).await.unwrap();
    process.start().await.unwrap();
    input.write_all(b"hello").await.unwrap();
    process.close_stdin();
    assert_eq!(soon(&process).await, 5);
    container.destroy().await;
}

#[tokio::test]
async fn it_ends_with_the_container_and_not_before() {
    for shared in [false, true] {
        let Some(machine) = Machine::of(shared) else { return };
        let container = idle(&machine, &sleeper("ends")).await;
        let process = container
            .exec(&machine.settings, &spec("exec busybox sleep 1000"), Streams::default())
            .await
            .unwrap();
        process.start().await.unwrap();
        let waiting = container.exec(&machine.settings, &spec("exit 0"), Streams::default()).await.unwrap();
        assert!(process.exited().is_none());
        container.signal(9).unwrap();
        assert_eq!(container.wait().await.status, 137);
        assert_eq!(soon(&process).await, 137, "shared: {shared}");
        assert_ne!(soon(&waiting).await, 0, "one that was not started yet ends too");
        let late = container.exec(&machine.settings, &spec("exit 0"), Streams::default()).await;
        assert!(late.is_err(), "not in a container that has ended");
        container.destroy().await;
    }
}

#[tokio::test]
async fn a_container_cannot_put_something_in_the_place_of_a_terminal() {
    let Some(machine) = Machine::new() else { return };
    let mut plan = sleeper("trap");
    plan.capabilities.push("CAP_SYS_ADMIN".into());
    let container = idle(&machine, &plan).await;
    let script = "mount -t tmpfs x /dev/pts && busybox mkfifo /dev/pts/ptmx && echo done";
    assert_eq!(run(&machine, &container, &spec(script)).await.0, "done\n");
    let mut tty = spec("true");
    tty.terminal = true;
    let tried = container.exec(&machine.settings, &tty, Streams::default());
    let tried = tokio::time::timeout(Duration::from_secs(10), tried).await.unwrap();
    assert!(tried.unwrap_err().to_string().contains("open a terminal"));
    container.destroy().await;
}

#[tokio::test]
async fn many_at_once_all_arrive() {
    let Some(machine) = Machine::new() else { return };
    let container = idle(&machine, &sleeper("many")).await;
    let specs: Vec<_> = (0..16).map(|i| spec(&format!("echo {i}; exit {i}"))).collect();
    let all = futures::future::join_all(specs.iter().map(|s| run(&machine, &container, s))).await;
    for (i, (text, status)) in all.into_iter().enumerate() {
        assert_eq!((text, status), (format!("{i}\n"), u32::try_from(i).unwrap()));
    }
    container.destroy().await;
}
