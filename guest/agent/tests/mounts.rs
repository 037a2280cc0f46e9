//! What the guest mounts where in a real container: secrets beside volumes, in images whose links make one path of two, and
//! groups of volumes. Without a VM; needs root and busybox, says "skipped" otherwise.

// Helpers of tests are tests too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use cocoon_guest::container::SecretFile;
use cocoon_stage::Code;
use serde_json::{Value, json};

use common::volumes::{Machine, mount, plan};

/// A machine with files of the host, whose images have these links and whose pod has secrets at these paths.
fn machine(links: &[(&'static str, &'static str)], secrets: &[&str]) -> Option<Machine> {
    let mut machine = Machine::new(&[])?;
    let secret = |path: &&str| SecretFile {
        path: (*path).to_owned(),
        bytes: std::sync::Arc::new(zeroize::Zeroizing::new(b"very secret".to_vec())),
    };
    machine.links = links.to_vec();
    machine.secrets = secrets.iter().map(secret).collect();
    machine.put("config", 1, &[("key", "of the host"), ("token", "of the host")]).unwrap();
    machine.put("pinned", 1, &[("key", "pinned")]).unwrap();
    Some(machine)
}

async fn refused(machine: &Machine, mounts: Value, why: &str) {
    let failure = machine.refused(&plan("refused", "true", mounts.clone())).await;
    assert_eq!(failure.code, Code::StartContainerFailed, "{mounts}: {failure}");
    assert!(failure.reason.contains(why), "{mounts}: {failure}");
}

#[tokio::test]
async fn a_token_lies_among_secrets_where_var_run_is_a_link() {
    let token = "/var/run/secrets/kubernetes.io/serviceaccount";
    for var_run in ["/run", "../run"] {
        let Some(machine) = machine(&[("var/run", var_run)], &["/run/secrets/token"]) else { return };
        let script = format!(
            "cat /run/secrets/token; echo; cat {token}/key; echo; echo x > /run/secrets/new || echo readonly; \
             mkdir /var/run/secrets/kubernetes.io/x || echo readonly"
        );
        let done = machine.run(&plan("token", &script, json!([mount(token, "config", "", true)]))).await;
        assert_eq!(done.stdout, "very secret\nof the host\nreadonly\nreadonly\n", "{}", done.stderr);
    }
}

#[tokio::test]
async fn no_link_puts_a_secret_on_files_of_the_host_or_below_a_volume() {
    let secret = ["/run/secrets/token", "/etc/app/key"];
    let links = [("var/run", "/run"), ("opt/app", "/etc/app"), ("opt/a/b/etc", "/etc")];
    let Some(machine) = machine(&links, &secret) else { return };
    for volume in ["config", "pinned", "memory"] {
        for target in ["/var/run/secrets", "/opt/a/../../var/run/secrets/", "/opt/a/b/etc", "/opt/./app"] {
            refused(&machine, json!([mount(target, volume, "", true)]), "mount").await;
        }
        refused(&machine, json!([mount("/var/run/secrets/token", volume, "key", true)]), "/token").await;
    }
    // The link leads the secret onto the files, which are there first.
    let Some(machine) = self::machine(&[("deep/er/app", "/cfg")], &["/deep/er/app/key"]) else { return };
    for read_only in [true, false] {
        refused(&machine, json!([mount("/cfg", "config", "", read_only)]), "files of the host").await;
    }
}

#[tokio::test]
async fn nothing_covers_or_lies_on_pinned_files() {
    let Some(machine) = machine(&[("a/b/link", "/pinned"), ("a/b/up", "/x")], &[]) else { return };
    for (target, volume) in [("/a/b/link", "config"), ("/a/b/link/key", "memory"), ("/pinned/key", "config")]
    {
        let sub_path = if target.ends_with("key") && volume == "config" { "key" } else { "" };
        let mounts = json!([mount("/pinned", "pinned", "", true), mount(target, volume, sub_path, true)]);
        refused(&machine, mounts, "mount").await;
    }
    let mounts = json!([mount("/x/pinned", "pinned", "", true), mount("/a/b/up", "config", "", true)]);
    refused(&machine, mounts, "another mount covers").await;
}

#[tokio::test]
async fn a_volume_over_etc_has_its_own_hosts() {
    let Some(machine) = machine(&[], &[]) else { return };
    machine.put("config", 2, &[("hosts", "of the volume")]).unwrap();
    let done = machine.run(&plan("etc", "cat /etc/hosts", json!([mount("/etc", "config", "", true)]))).await;
    assert_eq!(done.stdout, "of the volume", "{}", done.stderr);
}

#[tokio::test]
async fn a_volumes_group_may_write_and_is_handed_on() {
    let Some(machine) = Machine::new(&[]) else { return };
    let script =
        "for v in /m /s /l; do stat -c '%a %g' $v; mkdir $v/d; stat -c %g $v/d; done; stat -c '%a %g' /sub";
    let mounts = json!([
        mount("/m", "memory-2000", "", false),
        mount("/s", "scratch-2000", "", false),
        mount("/l", "limited-2000", "", false),
        mount("/sub", "memory-2000", "x/y", false),
    ]);
    let mut plan = plan("group", script, mounts);
    plan.user = "1000:1000".into();
    plan.groups = vec![2000];
    let done = machine.run(&plan).await;
    let each = "2777 2000\n2000\n".repeat(3);
    assert_eq!(done.stdout, format!("{each}2777 2000\n"), "{}", done.stderr);
}

#[tokio::test]
async fn a_part_of_pinned_files_is_enough_for_who_mounts_no_more() {
    let Some(machine) = Machine::new(&[]) else { return };
    let part = plan("part", "cat /a", json!([mount("/a", "two", "a", true)]));
    let whole = plan("whole", "cat /two/a /two/d/b", json!([mount("/two", "two", "", true)]));
    let folder = plan("folder", "cat /d/b", json!([mount("/d", "two", "d", false)]));
    assert_eq!(machine.refused(&part).await.code, Code::PlanFilesMissing);
    machine.put("two", 1, &[("a", "A")]).unwrap();
    assert_eq!(machine.run(&part).await.stdout, "A");
    for more in [&whole, &folder] {
        assert_eq!(machine.refused(more).await.code, Code::PlanFilesMissing);
    }
    assert_eq!(machine.put("two", 2, &[("d/b", "B")]).unwrap_err().code, Code::PlanFilesMismatch);
    machine.put("two", 3, &[("a", "A"), ("d/b", "B")]).unwrap();
    assert_eq!(machine.run(&whole).await.stdout, "AB");
    assert_eq!(machine.run(&folder).await.stdout, "B");
}
