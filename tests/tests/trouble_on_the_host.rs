//! What can go wrong around a run: signals, killed processes, a full disk, two runs at once, and a Trustee elsewhere
//! that is the wrong one or goes away. Each ends in bounded time, with a code, and leaves nothing running.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests

use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use cocoon_stage::Code;
use cocoon_tests::{Home, Job, Outcome, Registry, VM_LIMIT, make_busybox_image, wait_until};
use rustix::process::{Signal, kill_process};

const NOTHING: Vec<String> = Vec::new();
/// For what takes moments.
const SOON: Duration = Duration::from_secs(20);
/// Until QEMU is started: before it come only hashing and talks on this machine.
const STARTED: Duration = Duration::from_secs(60);

fn refused(outcome: &Outcome, codes: &[Code]) {
    let refusal = outcome.json_refusal().unwrap();
    assert!(codes.iter().any(|c| c.as_str() == refusal.code), "{refusal:?}\n{}", outcome.stderr);
    assert_eq!(outcome.status, Some(125), "{}", outcome.stderr);
}

/// The image that prints its secret and then works until it is asked to stop, which it does with status 5.
fn worker(registry: &Registry) -> String {
    let script =
        "cat /run/secrets/token; trap 'echo stopping; exit 5' TERM; echo; echo ready; sleep 3600 & wait $!";
    make_busybox_image(registry, "demo:worker", &["/bin/sh", "-c", script]).unwrap()
}

#[test]
fn an_interrupt_during_boot_ends_everything() {
    let Some(home) = Home::open().unwrap() else { return };
    let registry = Registry::start().unwrap();
    let image = worker(&registry);
    for (signal, status) in [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 129)] {
        let job = Job::start_vm(home.run_command([&image])).unwrap();
        home.wait_for_vm(STARTED).unwrap();
        job.signal(signal).unwrap();
        let outcome = job.finish(SOON).unwrap();
        assert_eq!((outcome.status, outcome.text().as_str()), (Some(status), ""), "{}", outcome.stderr);
        assert!(!outcome.stderr.contains("the guest is up"), "it came too late: {}", outcome.stderr);
        assert_eq!(home.left(SOON).unwrap(), NOTHING);
    }
}

/// Nobody is left to clean up, but the VM must not outlive the one who answers for it.
#[test]
fn the_vm_dies_with_the_program_however_it_dies() {
    let Some(home) = Home::open().unwrap() else { return };
    let registry = Registry::start().unwrap();
    let image = worker(&registry);
    let job = Job::start_vm(home.run_command(["--secret", "token=x", &image])).unwrap();
    home.wait_for_vm(STARTED).unwrap();
    job.signal(Signal::KILL).unwrap();
    assert_eq!(job.finish(SOON).unwrap().signal, Some(9));
    assert!(wait_until(SOON, || home.vms().is_empty()), "QEMU outlives cocoon: {:?}", home.vms());
    // Its state is whole, and what it could not take back can be taken back.
    let workloads: serde_json::Value =
        serde_json::from_str(&home.succeed(["workload", "list"]).unwrap()).unwrap();
    let workloads = workloads.as_array().unwrap();
    assert_eq!(workloads.len(), 1, "{workloads:?}");
    let digest = workloads[0]["digest_hex"].as_str().unwrap();
    home.succeed(["workload", "rm", digest]).unwrap();
    assert_eq!(home.succeed(["workload", "list"]).unwrap().trim(), "[]");
}

/// Two at once with one data folder: each has its own secret; one is asked to stop, the other's VM is killed.
#[test]
fn two_runs_at_once_keep_apart_and_end_each_in_its_way() {
    let Some(home) = Home::open().unwrap() else { return };
    let registry = Registry::start().unwrap();
    let image = worker(&registry);
    let mut one = Job::start_vm(home.run_command(["--secret", "token=alpha", &image])).unwrap();
    let first_vm = home.wait_for_vm(STARTED).unwrap();
    let mut two = Job::start_vm(home.run_command(["--json", "--secret", "token=beta", &image])).unwrap();
    one.wait_for_stdout("ready\n", VM_LIMIT).unwrap();
    two.wait_for_stdout("ready\n", VM_LIMIT).unwrap();

    one.signal(Signal::TERM).unwrap();
    let outcome = one.finish(SOON).unwrap();
    assert_eq!(outcome.text(), "alpha\nready\nstopping\n", "{}", outcome.stderr);
    assert_eq!(outcome.status, Some(5), "{}", outcome.stderr);

    let vms = home.vms();
    assert!(vms.len() == 1 && vms[0] != first_vm, "{vms:?}");
    kill_process(vms[0], Signal::KILL).unwrap();
    let killed = Instant::now();
    let outcome = two.finish(SOON).unwrap();
    assert!(killed.elapsed() < SOON);
    assert_eq!(outcome.text(), "beta\nready\n");
    refused(&outcome, &[Code::BootQemuFailed, Code::ServeFailed]);
    assert_eq!(home.left(SOON).unwrap(), NOTHING);
}

/// A `cocoon trustee serve` of its own.
struct Server {
    job: Job,
    url: String,
    certificate: PathBuf,
    token: PathBuf,
}

fn serve(home: &Home, state: &Path) -> Server {
    let token = state.with_extension("token");
    let mut command = home.command(["trustee", "serve", "--listen", "127.0.0.1:0", "--accept-simulated"]);
    command.arg("--state").arg(state).arg("--admin-token").arg(&token);
    let mut job = Job::start(command).unwrap();
    job.wait_for_stderr("certificate ", SOON).unwrap();
    let said = job.errors();
    let line = said.lines().find_map(|l| l.strip_prefix("cocoon: Trustee on ")).unwrap();
    let url = line.split(',').next().unwrap().to_owned();
    Server { job, url, certificate: state.join("tls-certificate.pem"), token }
}

impl Server {
    fn flags(&self) -> [String; 6] {
        let path = |p: &Path| p.display().to_string();
        let (token, cert) = (path(&self.token), path(&self.certificate));
        ["--trustee".into(), self.url.clone(), "--trustee-token".into(), token, "--trustee-cert".into(), cert]
    }
}

#[test]
fn a_trustee_elsewhere_serves_is_checked_and_may_go_away() {
    let Some(home) = Home::open().unwrap() else { return };
    let registry = Registry::start().unwrap();
    let image = worker(&registry);
    let server = serve(&home, &home.file("trustee"));
    let secret = ["--secret".to_owned(), "token=gamma".to_owned()];
    let run = |flags: &[String]| {
        let mut command = home.run_command(["--json"]);
        command.args(flags).args(&secret).arg(&image);
        command
    };

    // It works. This workload's first process ignores the signal, as most do: it is killed when its time is over.
    let mut command = run(&server.flags());
    command.args(["--", "/bin/sh", "-c", "cat /run/secrets/token; echo; exec sleep 3600"]);
    let mut job = Job::start_vm(command).unwrap();
    job.wait_for_stdout("gamma\n", VM_LIMIT).unwrap();
    job.signal(Signal::TERM).unwrap();
    let outcome = job.finish(Duration::from_secs(40)).unwrap();
    assert_eq!((outcome.status, outcome.text().as_str()), (Some(143), "gamma\n"), "{}", outcome.stderr);
    assert_eq!(home.left(SOON).unwrap(), NOTHING);

    // Another's certificate, and another's token: nothing is told to it, nothing boots.
    let other = serve(&home, &home.file("other"));
    for wrong in [
        Server {
            job: other.job,
            url: server.url.clone(),
            certificate: other.certificate,
            token: server.token.clone(),
        },
        Server { token: other.token, ..serve(&home, &home.file("third")) },
    ] {
        let outcome = Job::start(run(&wrong.flags())).unwrap().finish(STARTED).unwrap();
        refused(&outcome, &[Code::AccessDenied, Code::RegisterFailed, Code::AttestTrusteeCertificate]);
        assert!(!outcome.stderr.contains("starting the pod VM"), "{}", outcome.stderr);
    }

    // It goes away while the guest boots.
    let mut job = Job::start_vm(run(&server.flags())).unwrap();
    job.wait_for_stderr("plan registered with Trustee", STARTED).unwrap();
    server.job.signal(Signal::KILL).unwrap();
    assert_eq!(server.job.finish(SOON).unwrap().signal, Some(9));
    let outcome = job.finish(Duration::from_secs(180)).unwrap();
    refused(&outcome, &[Code::AttestTrusteeUnreachable]);
    assert_eq!(outcome.text(), "");
    assert_eq!(home.left(SOON).unwrap(), NOTHING);
}

/// A Trustee that accepts connections and says nothing.
#[test]
fn a_trustee_that_never_answers_is_given_up() {
    let Some(home) = Home::open().unwrap() else { return };
    let registry = Registry::start().unwrap();
    let image = worker(&registry);
    // The kernel accepts for it.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    fs::write(home.file("token"), "a".repeat(64)).unwrap();
    let mut command =
        home.run_command(["--json", "--trustee", &format!("https://{}", silent.local_addr().unwrap())]);
    command.arg("--trustee-token").arg(home.file("token")).arg(&image);
    let outcome = Job::start(command).unwrap().finish(Duration::from_secs(90)).unwrap();
    refused(&outcome, &[Code::RegisterFailed]);
    assert!(!outcome.stderr.contains("starting the pod VM"), "{}", outcome.stderr);
    assert_eq!(home.left(SOON).unwrap(), NOTHING);
}

/// `cocoon run … | head -1`: whoever reads the output leaves, so the workload that writes it must come to an end.
#[test]
fn a_reader_that_leaves_ends_the_run() {
    let Some(home) = Home::open().unwrap() else { return };
    let registry = Registry::start().unwrap();
    let image = make_busybox_image(&registry, "demo:endless", &["/bin/yes"]).unwrap();
    let (mut ours, theirs) = std::io::pipe().unwrap();
    let mut command = home.run_command(["--json", &image]);
    command.stdout(theirs);
    let job = Job::start_vm_with_stdout(command).unwrap();
    let mut first = [0; 2];
    // Ends also where the run fails, when its end of the pipe closes.
    let read = ours.read_exact(&mut first);
    drop(ours);
    let outcome = job.finish(Duration::from_secs(30)).unwrap();
    assert!(read.is_ok() && &first == b"y\n", "{}", outcome.stderr);
    refused(&outcome, &[Code::ServeFailed]);
    assert!(outcome.stderr.contains("Broken pipe"), "{}", outcome.stderr);
    assert_eq!(home.left(SOON).unwrap(), NOTHING);
}

#[test]
fn state_that_a_server_holds_is_busy() {
    let Some(home) = Home::open().unwrap() else { return };
    let registry = Registry::start().unwrap();
    let image = worker(&registry);
    let server = serve(&home, &home.data().join("trustee"));
    let outcome = Job::start(home.run_command(["--json", &image])).unwrap().finish(STARTED).unwrap();
    refused(&outcome, &[Code::StoreBusy]);
    let second = home.cocoon(["trustee", "serve", "--listen", "127.0.0.1:0"]).unwrap();
    assert_eq!(second.refusal().unwrap().code, Code::StoreBusy.as_str(), "{}", second.stderr);
    // The server took no harm, and ends when asked.
    server.job.signal(Signal::TERM).unwrap();
    assert_eq!(server.job.finish(SOON).unwrap().status, Some(0));
    assert_eq!(home.left(SOON).unwrap(), NOTHING);
}

/// The command, in a mount namespace where a small memory file system covers the folder.
fn with_small_disk(home: &Home, folder: &Path, kib: u32, args: &[&str], script: &str) -> Outcome {
    let inner = home.command(args);
    let mut command = Command::new("unshare");
    let script = format!("mount -t tmpfs -o size={kib}k,mode=700 none \"$1\" && shift && {script}");
    command.args(["--mount", "--propagation", "private", "sh", "-c", &script, "sh"]).arg(folder);
    command.arg(inner.get_program()).args(inner.get_args()).env_clear();
    command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    Job::start(command).unwrap().finish(STARTED).unwrap()
}

#[test]
fn a_full_disk_loses_nothing_that_was_acknowledged() {
    let Some(home) = Home::open().unwrap() else { return };
    let may = Command::new("unshare").args(["--mount", "mount", "-t", "tmpfs", "none", "/mnt"]).output();
    if !may.is_ok_and(|o| o.status.success()) {
        println!("skipped: only root may mount");
        return;
    }
    let registry = Registry::start().unwrap();
    let image = worker(&registry);

    // The runtime folder is full.
    let args = ["run", "--accel", "tcg", "--json", "--adversary", "changed-initrd", &image];
    let outcome = with_small_disk(&home, &home.run_folder(), 64, &args, "exec \"$@\"");
    refused(&outcome, &[Code::BootDiskFull]);
    assert_eq!(home.left(SOON).unwrap(), NOTHING);

    // The data folder becomes full: secrets are set until one no longer fits; all before it are still there.
    fs::write(home.file("big"), vec![b'x'; 100_000]).unwrap();
    let script = r#"
        put() { "$@" secret set "$path" "$value"; }
        n=0
        while path=default/secret/n$n value=@"$HOME/big"; put "$@"; status=$?; [ $status = 0 ]; do
            n=$((n+1)); [ $n -lt 100 ] || exit 9
        done
        echo "status $status after $n"
        "$@" secret list"#;
    let outcome = with_small_disk(&home, &home.data(), 4096, &[], script);
    let text = outcome.text();
    assert_eq!(outcome.status, Some(0), "{text}\n{}", outcome.stderr);
    let told = outcome.refusal().unwrap();
    assert_eq!(told.code, Code::StoreFull.as_str(), "{}", outcome.stderr);
    let count = text
        .lines()
        .find_map(|l| l.strip_prefix("status 125 after "))
        .expect(&text)
        .parse::<usize>()
        .unwrap();
    let listed = text.lines().filter(|l| l.starts_with("default/secret/n")).count();
    assert_eq!(listed, count, "{text}");
}
