//! Real containers on this machine, without a VM: namespaces, mounts, users, filters, streams. Needs root and
//! busybox; says "skipped" otherwise. cgroups are left out, since hosts may not have the unified hierarchy.

// Helpers of tests are tests too.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod common;

use std::sync::Arc;
use std::time::Duration;

use cocoon_guest::container::{SecretFile, Streams};
use cocoon_stage::{Code, Failure};
use common::{Machine, plan};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use zeroize::Zeroizing;

fn secret(path: &str) -> SecretFile {
    SecretFile { path: path.into(), bytes: Arc::new(Zeroizing::new(b"s3cret".to_vec())) }
}

#[tokio::test]
async fn output_and_exit_status_arrive() {
    let Some(machine) = Machine::new() else { return };
    let done = machine.run(&plan("plain", "echo out; echo err >&2; exit 42"), &[]).await;
    assert_eq!((done.stdout.as_str(), done.stderr.as_str(), done.exit.status), ("out\n", "err\n", 42));
    let done = machine.run(&plan("signal", "kill -9 $$; sh -c 'kill -9 $$'; echo $?"), &[]).await;
    assert_eq!(done.stdout, "137\n", "PID 1 ignores a signal that it sends to itself: {}", done.stderr);
}

#[tokio::test]
async fn much_output_arrives_complete() {
    let Some(machine) = Machine::new() else { return };
    let done = machine
        .run(&plan("much", "i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done"), &[])
        .await;
    assert_eq!(done.stdout.lines().count(), 20_000);
    assert!(done.stdout.ends_with("line 19999\n"));
}

#[tokio::test]
async fn the_container_sees_itself_only() {
    let Some(machine) = Machine::new() else { return };
    let script = "echo pid $$; cat /proc/sys/kernel/hostname; ls /proc | grep -c '^[0-9]' || true; \
        cat /etc/resolv.conf; echo $HOME; ls /dev | sort | tr '\\n' ' '; ls /proc/self/fd | wc -l";
    let mut plan = plan("self", &script.replace("grep", "busybox grep").replace("sort", "busybox sort"));
    let wc = plan.args[2].replace("| tr", "| busybox tr").replace("| wc", "| busybox wc");
    plan.args[2] = wc;
    let done = machine.run(&plan, &[]).await;
    let lines: Vec<&str> = done.stdout.lines().collect();
    assert_eq!(lines[0], "pid 1", "{}", done.stderr);
    assert_eq!(lines[1], "pod");
    assert!(lines[2].parse::<u32>().unwrap() <= 4, "{}", done.stdout);
    assert_eq!(lines[3], "nameserver 192.0.2.1");
    assert_eq!(lines[4], "/root");
    assert!(
        lines[5].starts_with("fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero")
    );
    assert!(lines[5].ends_with(" 4"), "0, 1, 2 and the folder itself: {}", lines[5]);
}

#[tokio::test]
async fn users_come_from_the_image() {
    let Some(machine) = Machine::new() else { return };
    let mut alice = plan(
        "alice",
        "id -u; id -g; id -G; echo $HOME; echo hi > /dev/stdout; busybox grep Cap /proc/1/status",
    );
    alice.user = "alice".into();
    let done = machine.run(&alice, &[]).await;
    assert!(
        done.stdout.starts_with("1000\n1000\n1000 50\n/home/alice\nhi\n"),
        "{} {}",
        done.stdout,
        done.stderr
    );
    assert!(
        done.stdout.contains("CapEff:\t0000000000000000")
            && done.stdout.contains("CapPrm:\t0000000000000000")
    );
    let mut nobody = plan("nobody", "id");
    nobody.user = "mallory".into();
    let failure = machine.create(&nobody, &[], Streams::default()).await.unwrap_err();
    assert_eq!(failure.code, Code::StartUserUnknown);
}

#[tokio::test]
async fn capabilities_are_the_plans() {
    let Some(machine) = Machine::new() else { return };
    let mut few = plan("caps", "busybox grep Cap /proc/self/status");
    few.capabilities = vec!["CAP_CHOWN".into(), "CAP_KILL".into()];
    let done = machine.run(&few, &[]).await;
    for set in ["CapPrm", "CapEff", "CapBnd"] {
        assert!(done.stdout.contains(&format!("{set}:\t0000000000000021")), "{}", done.stdout);
    }
    for set in ["CapInh", "CapAmb"] {
        assert!(done.stdout.contains(&format!("{set}:\t0000000000000000")), "{}", done.stdout);
    }
    few.name = "wrong".into();
    few.capabilities.push("CAP_NO_SUCH".into());
    assert_eq!(machine.create(&few, &[], Streams::default()).await.unwrap_err().code, Code::PlanInvalid);
}

#[tokio::test]
async fn the_root_can_be_read_only_and_mounts_are_the_plans() {
    let Some(machine) = Machine::new() else { return };
    let mut plan = plan("readonly", "touch /x || echo refused; touch /scratch/x && echo scratch; pwd");
    plan.args[2] = plan.args[2].replace("touch", "busybox touch");
    plan.read_only_root = true;
    plan.cwd = "/work/deep".into();
    plan.mounts = vec![cocoon_plan::MountPlan::Tmpfs { target: "/scratch".into(), size: 1 << 20 }];
    let done = machine.run(&plan, &[]).await;
    assert_eq!(done.stdout, "refused\nscratch\n/work/deep\n", "{}", done.stderr);
    assert!(done.stderr.contains("Read-only"), "{}", done.stderr);
}

#[tokio::test]
async fn the_kernel_is_masked() {
    let Some(machine) = Machine::new() else { return };
    let script = "cat /proc/keys | busybox wc -c; cat /proc/timer_list | busybox wc -c; ls /sys/firmware | busybox wc -l; \
        echo 1 > /proc/sys/kernel/panic || echo sys; busybox mkdir /sys/fs/x || echo sysfs; echo b > /proc/sysrq-trigger || echo sysrq";
    let done = machine.run(&plan("masked", script), &[]).await;
    let words: Vec<&str> = done.stdout.split_whitespace().collect();
    assert_eq!(words, ["0", "0", "0", "sys", "sysfs", "sysrq"], "{}", done.stderr);
}

#[tokio::test]
async fn dangerous_calls_are_refused() {
    let Some(machine) = Machine::new() else { return };
    let script = "mount -t tmpfs x /tmp || echo mount; unshare -U true || echo userns; dmesg >/dev/null || echo dmesg; \
        mknod /tmp/null c 1 3 && (cat /tmp/null || echo nodev); mknod /dev/mem2 c 1 3 && (cat /dev/mem2 || echo nodev2); \
        cat /dev/null && echo null; busybox grep Seccomp: /proc/self/status; busybox grep NoNewPrivs /proc/self/status";
    let done = machine.run(&plan("filter", script), &[]).await;
    let expected = "mount\nuserns\ndmesg\nnodev\nnodev2\nnull\nSeccomp:\t2\nNoNewPrivs:\t0\n";
    assert_eq!(done.stdout, expected, "{}", done.stderr);
    let mut hardened = plan("hardened", "busybox grep -E 'Seccomp:|NoNewPrivs' /proc/self/status");
    hardened.no_new_privileges = true;
    hardened.user = "1000".into();
    let done = machine.run(&hardened, &[]).await;
    assert_eq!(done.stdout, "NoNewPrivs:\t1\nSeccomp:\t2\n", "{}", done.stderr);
    let mut open = plan("open", "busybox grep Seccomp: /proc/self/status");
    open.seccomp = cocoon_plan::Seccomp::Unconfined;
    assert_eq!(machine.run(&open, &[]).await.stdout, "Seccomp:\t0\n");
}

#[tokio::test]
async fn there_is_no_way_out_by_chroot() {
    let Some(machine) = Machine::new() else { return };
    // The old escape: a root below the working directory, and up from there. busybox's chroot changes directory,
    // so `..` is tried from both sides.
    let script = "busybox mkdir -p /tmp/a; cd /; chroot /tmp/a /nothing; ls ../../../../../.. | busybox tr '\\n' ' '; \
        ls /proc/1/root/../../.. | busybox tr '\\n' ' '";
    let done = machine.run(&plan("escape", script), &[]).await;
    let root = "bin dev etc home proc sys tmp ";
    assert_eq!(done.stdout, format!("{root}{root}"), "{}", done.stderr);
}

#[tokio::test]
async fn secrets_are_files_of_the_user() {
    let Some(machine) = Machine::new() else { return };
    let script = "cat /run/secrets/token /etc/app/key; stat -c ' %a %u' /run/secrets/token /etc/app/key; \
        echo x > /run/secrets/new || echo readonly";
    let mut plan = plan("secrets", script);
    plan.user = "alice".into();
    let done = machine.run(&plan, &[secret("/run/secrets/token"), secret("/etc/app/key")]).await;
    assert_eq!(done.stdout, "s3crets3cret 400 1000\n 400 1000\nreadonly\n", "{}", done.stderr);
    assert!(!machine.dir.path().join("work/secrets").exists(), "nothing is left after the container");
}

#[tokio::test]
async fn input_reaches_the_program() {
    let Some(machine) = Machine::new() else { return };
    let (mut input, near_in) = tokio::io::duplex(4096);
    let (mut out, near_out) = tokio::io::duplex(4096);
    let streams = Streams { stdin: Some(Box::new(near_in)), stdout: Some(Box::new(near_out)), stderr: None };
    let container = machine.create(&plan("cat", "cat; echo end"), &[], streams).await.unwrap();
    container.start().await.unwrap();
    input.write_all(b"hello ").await.unwrap();
    drop(input);
    let mut text = String::new();
    out.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "hello end\n");
    assert_eq!(container.wait().await.status, 0);
}

#[tokio::test]
async fn a_terminal_is_the_containers_own() {
    let Some(machine) = Machine::new() else { return };
    let (mut input, near_in) = tokio::io::duplex(4096);
    let (mut out, near_out) = tokio::io::duplex(4096);
    let streams = Streams { stdin: Some(Box::new(near_in)), stdout: Some(Box::new(near_out)), stderr: None };
    let mut plan = plan("tty", "busybox tty; read x; stty size; echo got $x $TERM; ls -l /dev/console");
    plan.terminal = true;
    let container = machine.create(&plan, &[], streams).await.unwrap();
    container.start().await.unwrap();
    container.process().resize(132, 43).unwrap();
    input.write_all(b"typed\n").await.unwrap();
    let mut text = String::new();
    out.read_to_string(&mut text).await.unwrap();
    // The terminal echoes what is typed, before or after the first line.
    assert!(text.contains("/dev/pts/0\r\n"), "{text:?}");
    assert!(text.contains("43 132\r\n") && text.contains("got typed xterm\r\n"), "{text:?}");
    assert!(text.contains("136,"), "/dev/console is the terminal: {text:?}");
    assert_eq!(container.wait().await.status, 0);
}

#[tokio::test]
async fn what_cannot_start_says_so() {
    let Some(machine) = Machine::new() else { return };
    let mut missing = plan("missing", "");
    missing.args = vec!["no-such-program".into()];
    let container = machine.create(&missing, &[], Streams::default()).await.unwrap();
    let failure = Failure::from(container.start().await.unwrap_err());
    assert_eq!(failure.code, Code::StartContainerFailed);
    assert!(
        failure.reason.contains("no-such-program") && failure.reason.contains("os error 2"),
        "{}",
        failure.reason
    );
    assert_eq!(container.wait().await.status, 127);

    let mut folder = plan("folder", "");
    folder.cwd = "/etc/passwd".into();
    let failure = machine.create(&folder, &[], Streams::default()).await.unwrap_err();
    assert_eq!(failure.code, Code::StartContainerFailed);

    let mut sealed = plan("sealed", "");
    sealed.env.push("TOKEN=sealed.abc".into());
    assert!(machine.create(&sealed, &[], Streams::default()).await.is_err(), "never in sealed form");
}

#[tokio::test]
async fn signals_reach_it_and_killing_ends_all_of_it() {
    let Some(machine) = Machine::new() else { return };
    let (mut out, near_out) = tokio::io::duplex(4096);
    let streams = Streams { stdin: None, stdout: Some(Box::new(near_out)), stderr: None };
    let script = "trap 'echo term; exit 7' TERM; busybox sleep 1000 & echo ready; wait";
    let container = machine.create(&plan("trap", script), &[], streams).await.unwrap();
    container.start().await.unwrap();
    let mut ready = [0; 6];
    out.read_exact(&mut ready).await.unwrap();
    container.signal(15).unwrap();
    let mut rest = String::new();
    out.read_to_string(&mut rest).await.unwrap();
    assert_eq!((rest.as_str(), container.wait().await.status), ("term\n", 7));

    let container =
        machine.create(&plan("never", "busybox sleep 1000"), &[], Streams::default()).await.unwrap();
    assert!(container.exited().is_none(), "built, not started");
    tokio::time::timeout(Duration::from_secs(10), container.destroy()).await.unwrap();
    assert_eq!(container.exited().unwrap().status, 137);
}
