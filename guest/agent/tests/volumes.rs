//! Volumes in real containers on this machine, without a VM: files of the host and their updates, private copies, paths
//! below a volume and traps in them, shared memory and its limits, kernel settings, system call profiles. Needs root and
//! busybox; says "skipped" otherwise.

// Helpers of tests are tests too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::fs;
use std::path::Path;

use cocoon_stage::Code;
use serde_json::json;
use tokio::io::AsyncReadExt;

use common::volumes::{Machine, mount, plan};

#[tokio::test]
async fn updates_of_files_reach_a_running_container() {
    let Some(machine) = Machine::new(&[]) else { return };
    machine.put("config", 1, &[("key", "one"), ("old", "x"), ("d/deep", "y")]).unwrap();
    let script = "readlink /cfg/key; readlink /cfg/..data; cat /cfg/d/deep; touch /cfg/new || echo readonly; \
        echo; n=0; while { [ -e /cfg/..1 ] || [ \"$(cat /cfg/key)\" != two ]; } && [ $n -lt 20000 ]; do n=$((n+1)); done; ls -A /cfg; cat /cfg/key";
    let plan = plan("updates", script, json!([mount("/cfg", "config", "", true)]));
    let mut running = machine.start(&plan).await;
    let mut first = Vec::new();
    while !first.ends_with(b"readonly\n\n") {
        first.push(running.out.read_u8().await.unwrap());
    }
    assert_eq!(String::from_utf8(first).unwrap(), "..data/key\n..1\nyreadonly\n\n");
    machine.put("config", 2, &[("key", "two")]).unwrap();
    let done = running.finish().await;
    assert_eq!(done.stdout, "..2\n..data\nkey\ntwo", "{}", done.stderr);
}

#[tokio::test]
async fn a_writable_volume_of_files_is_a_copy() {
    let Some(machine) = Machine::new(&[]) else { return };
    machine.put("config", 1, &[("key", "one")]).unwrap();
    let script = "echo changed > /cfg/key; echo more > /cfg/more; cat /cfg/key; ls -A /cfg";
    let plan = plan("copy", script, json!([mount("/cfg", "config", "", false)]));
    let done = machine.run(&plan).await;
    assert_eq!(done.stdout, "changed\nkey\nmore\n", "{}", done.stderr);
    let other = self::plan("other", "cat /cfg/key; ls -A /cfg", json!([mount("/cfg", "config", "", true)]));
    assert_eq!(machine.run(&other).await.stdout, "one..1\n..data\nkey\n");
}

#[tokio::test]
async fn single_files_cover_files_and_appear_where_nothing_was() {
    let Some(machine) = Machine::new(&[]) else { return };
    machine.put("config", 1, &[("app.conf", "of the host\n"), ("dir/a", "A")]).unwrap();
    let script = "cat /etc/app.conf /opt/new/app.conf; cat /etc/dir/a; echo x > /etc/app.conf || echo readonly; \
        ls -A /etc/dir; cat /etc/hosts";
    let mounts = json!([
        mount("/etc/dir", "config", "dir", true),
        mount("/opt/new/app.conf", "config", "app.conf", true),
        mount("/etc/app.conf", "config", "app.conf", true),
    ]);
    let done = machine.run(&plan("single", script, mounts)).await;
    let expected = "of the host\nof the host\nAreadonly\na\n127.0.0.1 localhost\n";
    assert_eq!(done.stdout, expected, "{}", done.stderr);
    let missing = plan("missing", "true", json!([mount("/x", "config", "nothing", true)]));
    let failure = machine.refused(&missing).await;
    assert_eq!(failure.code, Code::StartContainerFailed, "{failure}");
    assert!(failure.reason.contains("/x"));
}

#[tokio::test]
async fn files_come_first_and_pinned_ones_are_exactly_those() {
    let Some(machine) = Machine::new(&[]) else { return };
    let plan = plan("pinned", "cat /cfg/key", json!([mount("/cfg", "pinned", "", true)]));
    let failure = machine.refused(&plan).await;
    assert_eq!(failure.code, Code::PlanFilesMissing);
    let wrong = [&[("key", "altered")][..], &[("key", "pinned"), ("more", "")], &[]];
    for (generation, files) in (1..).zip(wrong) {
        let failure = machine.put("pinned", generation, files).unwrap_err();
        assert_eq!(failure.code, Code::PlanFilesMismatch, "{files:?}");
    }
    let failure = machine.refused(&plan).await;
    assert_eq!(failure.code, Code::PlanFilesMissing, "nothing of what was refused counts");
    machine.put("pinned", 100, &[("key", "pinned")]).unwrap();
    assert_eq!(machine.run(&plan).await.stdout, "pinned");
}

#[tokio::test]
async fn memory_is_shared_limited_and_anybodys() {
    let Some(machine) = Machine::new(&[]) else { return };
    let script = "stat -c %a /mem; echo hi > /mem/x; dd if=/dev/zero of=/mem/big bs=64k count=64 2>&1 | grep -o 'No space.*'; \
        rm /mem/big; cp /bin/busybox /mem/ls 2>/dev/null; ";
    let mut first = plan("first", script, json!([mount("/mem", "memory", "", false)]));
    first.user = "1000:2000".into();
    let done = machine.run(&first).await;
    assert_eq!(done.stdout, "777\nNo space left on device\n", "{}", done.stderr);
    let second = plan(
        "second",
        "cat /mem/x; touch /mem/y || echo readonly",
        json!([mount("/mem", "memory", "", true)]),
    );
    assert_eq!(machine.run(&second).await.stdout, "hi\nreadonly\n");
    let limited = plan(
        "limited",
        "dd if=/dev/zero of=/l/big bs=64k count=64 2>&1 | grep -o 'No space.*'; stat -c %a /s",
        json!([mount("/l", "limited", "", false), mount("/s", "scratch", "", false)]),
    );
    assert_eq!(machine.run(&limited).await.stdout, "No space left on device\n777\n");
}

#[tokio::test]
async fn links_in_a_shared_volume_lead_nowhere_else() {
    let Some(machine) = Machine::new(&[]) else { return };
    fs::write(machine.base.dir.path().join("secret"), "of the guest").unwrap();
    let script = "ln -s / /mem/root; ln -s /etc /mem/etc; ln -s ../../../../../../etc /mem/up; mkdir /mem/real; \
        echo in > /mem/real/f; ln -s real /mem/fine; ln -s /dangling /mem/dangling; busybox mkfifo /mem/fifo";
    let set = plan("set", script, json!([mount("/mem", "memory", "", false)]));
    assert_eq!(machine.run(&set).await.exit.status, 0);
    let secret = machine.base.dir.path().join("secret").to_string_lossy().trim_start_matches('/').to_owned();
    for trap in
        ["root", "etc", "up", "etc/passwd", "dangling", "dangling/x", "fifo", &format!("root/{secret}")]
    {
        let plan = plan("trap", "cat /x", json!([mount("/x", "memory", trap, false)]));
        let failure = machine.refused(&plan).await;
        assert_eq!(failure.code, Code::StartContainerFailed, "{trap}: {failure}");
    }
    assert!(!Path::new("/dangling").exists());
    let fine = plan(
        "fine",
        "cat /x/f; stat -c %a /y",
        json!([mount("/x", "memory", "fine", false), mount("/y", "memory", "made/here", false)]),
    );
    let done = machine.run(&fine).await;
    assert_eq!(done.stdout, "in\n777\n", "{}", done.stderr);
}

#[tokio::test]
async fn mounts_lie_in_each_other_in_any_order() {
    let Some(machine) = Machine::new(&[]) else { return };
    machine.put("config", 1, &[("key", "one")]).unwrap();
    let mounts = json!([
        mount("/data/deep/cfg", "config", "", true),
        {"kind": "tmpfs", "target": "/data/deep", "size": 65536},
        mount("/data", "memory", "", false),
    ]);
    let done = machine.run(&plan("nested", "cat /data/deep/cfg/key; ls /data", mounts)).await;
    assert_eq!(done.stdout, "onedeep\n", "{}", done.stderr);
}

#[tokio::test]
async fn unmasked_is_all_of_it() {
    let Some(machine) = Machine::new(&[]) else { return };
    let script =
        "ls /sys/firmware | busybox wc -l; grep -c ' /proc/sys ' /proc/mounts; grep ' /sys ' /proc/mounts";
    let mut plan = plan("unmasked", script, json!([]));
    plan.unmasked = true;
    let done = machine.run(&plan).await;
    let lines: Vec<&str> = done.stdout.lines().collect();
    assert_eq!(lines[1], "0", "{}", done.stdout);
    assert!(lines[2].contains(" rw,"), "{}", done.stdout);
}

#[tokio::test]
async fn settings_of_ipc_are_the_pods_own() {
    let here = fs::read_to_string("/proc/sys/kernel/shmmni").unwrap();
    let Some(machine) = Machine::new(&[("kernel.shmmni", "1234"), ("fs.mqueue.msg_max", "17")]) else {
        return;
    };
    let script = "cat /proc/sys/kernel/shmmni /proc/sys/fs/mqueue/msg_max; echo 1 > /proc/sys/kernel/shmmni || echo readonly";
    let done = machine.run(&plan("sysctls", script, json!([]))).await;
    assert_eq!(done.stdout, "1234\n17\nreadonly\n", "{}", done.stderr);
    assert_eq!(fs::read_to_string("/proc/sys/kernel/shmmni").unwrap(), here);
    let Some(machine) = Machine::new(&[("kernel.shmnothing", "1")]) else { return };
    let failure = machine.refused(&plan("none", "true", json!([]))).await;
    assert_eq!(failure.code, Code::PlanSysctlRefused);
}

#[tokio::test]
async fn system_call_profiles_are_the_plans() {
    let Some(machine) = Machine::new(&[]) else { return };
    let mut plan = plan(
        "profile",
        "mkdir /tmp/x || echo refused; touch /tmp/y && echo made; grep Seccomp: /proc/self/status",
        json!([]),
    );
    plan.seccomp_profile = Some(json!({
        "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 13}]
    }));
    for no_new_privileges in [false, true] {
        plan.no_new_privileges = no_new_privileges;
        let done = machine.run(&plan).await;
        assert_eq!(done.stdout, "refused\nmade\nSeccomp:\t2\n", "{}", done.stderr);
        assert!(done.stderr.contains("Permission denied"), "{}", done.stderr);
    }
    plan.seccomp_profile = Some(json!({"defaultAction": "SCMP_ACT_NOTIFY"}));
    assert_eq!(machine.refused(&plan).await.code, Code::PlanInvalid);
}
