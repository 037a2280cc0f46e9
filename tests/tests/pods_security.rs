//! What a pod's plan says about rights, limits and names holds in the guest, whatever the host asks for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests

use std::collections::BTreeMap;

use cocoon_plan::pod::ContainerKind;
use cocoon_plan::{ContainerPlan, Plan, Seccomp};
use cocoon_tests::containerd::{ContainerWish, Machine, Pod, PodWish, Story, Version};

/// What a container's first process may and may not, one `name=value` a line.
const LOOK: &str = r#"
status() { while read name rest; do [ "$name" = "$1:" ] && echo "$rest"; done </proc/self/status; }
echo "uid=$(id -u)"; echo "gid=$(id -g)"; echo "groups=$(id -G)"
echo "effective=$(status CapEff)"; echo "bounding=$(status CapBnd)"; echo "ambient=$(status CapAmb)"
echo "nnp=$(status NoNewPrivs)"; echo "seccomp=$(status Seccomp)"
if touch /x 2>/dev/null; then echo "root=writable"; else echo "root=read-only"; fi
if echo 1 2>/dev/null >/proc/sys/kernel/printk; then echo "sysctl=writable"; else echo "sysctl=read-only"; fi
echo "kcore=$(head -c 1 /proc/kcore 2>/dev/null | wc -c)"
if busybox unshare -U true 2>/dev/null; then echo "unshare=yes"; else echo "unshare=no"; fi
echo "somaxconn=$(cat /proc/sys/net/core/somaxconn)"
echo "host_env=[$KUBERNETES_SERVICE_HOST]"; echo "other_env=[$OTHER]"; echo "own_env=[$OWN]"
"#;

async fn look(pod: &Pod, wish: &ContainerWish) -> BTreeMap<String, String> {
    let id = pod.container(wish).await.unwrap();
    let ended = pod.wait(&id).await.unwrap();
    let log = pod.log(&wish.name, 0, "stdout").unwrap();
    assert_eq!(ended.code, 0, "{log}{}", pod.log(&wish.name, 0, "stderr").unwrap());
    log.lines().filter_map(|l| l.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}

fn expect(seen: &BTreeMap<String, String>, wanted: &[(&str, &str)]) {
    for (name, value) in wanted {
        assert_eq!(seen.get(*name).map(String::as_str), Some(*value), "{name}; all of it: {seen:?}");
    }
}

fn narrow(c: &mut ContainerPlan) {
    c.user = "1234:99".into();
    c.groups = vec![2000, 3000];
    c.capabilities = vec!["CAP_NET_BIND_SERVICE".into()];
    c.no_new_privileges = true;
    c.read_only_root = true;
    c.env = vec!["PATH=/bin".into(), "OWN=the owner's".into()];
    c.host_env = vec!["KUBERNETES_*".into(), "OWN".into()];
}

fn wide(c: &mut ContainerPlan) {
    c.capabilities.push("CAP_SYS_ADMIN".into());
    c.unmasked = true;
    c.seccomp = Seccomp::Unconfined;
}

fn plan_of(plan: &mut Plan) {
    plan.sysctls.insert("net.core.somaxconn".into(), "777".into());
    narrow(&mut plan.containers[0]);
    wide(&mut plan.containers[1]);
    plan.containers[2].run_as_non_root = true;
    plan.containers[4].termination_message = Some("/dev/termination-log".into());
    plan.containers[5].kind = ContainerKind::Ephemeral;
}

async fn rights(machine: Machine) -> Machine {
    let image = &machine.image;
    let mut small = ContainerWish::script("small", image, LOOK);
    let large = ContainerWish::script("large", image, LOOK);
    let rooted = ContainerWish::script("rooted", image, "true");
    let mut hungry = ContainerWish::script("hungry", image, "exec tail /dev/zero");
    hungry.memory = 24 << 20;
    let mut tells = ContainerWish::script("tells", image, "echo because >/dev/termination-log; exit 9");
    let mut debug = ContainerWish::script("debug", image, "echo helping");
    let all = [&small, &large, &rooted, &hungry, &tells, &debug].map(Clone::clone);
    let pod = machine.planned(PodWish::new("rights", "cocoon"), &all.each_ref(), &[], plan_of).await.unwrap();

    // What the host would have otherwise: another user, another program, variables of its own.
    small.user = Some(0);
    small.env = vec![
        ("KUBERNETES_SERVICE_HOST".into(), "10.96.0.1".into()),
        ("OTHER".into(), "the host's".into()),
        ("OWN".into(), "the host's".into()),
    ];
    small.command = vec!["/bin/false".into()];
    let seen = look(&pod, &small).await;
    expect(&seen, &[("uid", "1234"), ("gid", "99"), ("groups", "99 2000 3000")]);
    expect(&seen, &[("bounding", "0000000000000400"), ("nnp", "1"), ("seccomp", "2")]);
    expect(&seen, &[("root", "read-only"), ("sysctl", "read-only"), ("kcore", "0"), ("somaxconn", "777")]);
    expect(&seen, &[("host_env", "[10.96.0.1]"), ("other_env", "[]"), ("own_env", "[the owner's]")]);
    let seen = look(&pod, &large).await;
    expect(
        &seen,
        &[("uid", "0"), ("root", "writable"), ("sysctl", "writable"), ("seccomp", "0"), ("nnp", "0")],
    );

    let refused = pod.container(&rooted).await.unwrap_err().to_string();
    assert!(refused.contains("root"), "{refused}");

    let id = pod.container(&hungry).await.unwrap();
    let ended = pod.wait(&id).await.unwrap();
    assert_eq!((ended.code, ended.reason.as_str()), (137, "OOMKilled"));

    // As kubelet has it: a file of the node, mounted there.
    let folder = machine.node.folder().join("kubelet/pods/uid-security/containers/tells");
    std::fs::create_dir_all(&folder).unwrap();
    let message = folder.join("0a1b2c3d");
    std::fs::write(&message, "").unwrap();
    tells.mounts = vec![("/dev/termination-log".into(), message.display().to_string(), false)];
    let id = pod.container(&tells).await.unwrap();
    assert_eq!(pod.wait(&id).await.unwrap().code, 9);
    assert_eq!(std::fs::read_to_string(&message).unwrap(), "because\n");

    // What `kubectl debug` adds to a pod that runs.
    debug.name = "debug-x7k2p".into();
    let id = pod.container(&debug).await.unwrap();
    assert_eq!(pod.wait(&id).await.unwrap().code, 0);
    assert_eq!(pod.log("debug-x7k2p", 0, "stdout").unwrap(), "helping\n");
    pod.remove().await.unwrap();
    machine
}

#[test]
fn rights_limits_and_names_are_the_plans() {
    Story::Cocoon(|_| {}).tell(Version::V2, rights);
}
