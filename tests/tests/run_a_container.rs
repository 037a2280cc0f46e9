//! An unmodified image runs in an attested pod VM as it would run anywhere: its streams, environment, user, working
//! directory and exit status are its own, and it finds its secrets, and no others.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests

use std::collections::HashMap;
use std::io::Write;
use std::process::Stdio;
use std::time::Duration;

use cocoon_image::Digest;
use cocoon_stage::Stage;
use cocoon_tests::{Home, Job, Registry, VM_LIMIT, make_busybox_image};

/// Prints what the container sees, one `name=value` a line, reads all of its standard input and ends with 7.
const LOOK: &str = r#"
rest=http://127.0.0.1:8006/cdh/resource/default/secret
echo "uid=$(id -u)"; echo "gid=$(id -g)"
echo "cwd=$(pwd)"
echo "set=$SET"; echo "taken=$TAKEN"; echo "path=$PATH"; echo "absent=[$ABSENT]"
echo "arg=$1"
echo "secrets=$(ls /run/secrets | tr '\n' ' ')"
echo "secret=$(cat /run/secrets/token)"
echo "mode=$(stat -c '%a %u' /run/secrets/token)"
echo "rest=$(wget -q -O - $rest/token)"
echo "other=[$(wget -q -O - $rest/other)]"
echo "key=[$(wget -q -O - http://127.0.0.1:8006/cdh/resource/default/image-key/any)]"
echo "pid=$$"
echo "stdin=$(sha256sum)"
echo "to stderr" >&2
exit 7
"#;

#[test]
fn a_workload_sees_what_it_was_given_and_nothing_else() {
    let Some(home) = Home::open().unwrap() else { return };
    let registry = Registry::start().unwrap();
    let image = make_busybox_image(&registry, "demo:plain", &["/bin/false"]).unwrap();
    home.succeed(["secret", "set", "default/secret/other", "another workload's"]).unwrap();
    home.succeed(["secret", "set", "default/image-key/any", "an image's key, as it were"]).unwrap();
    std::fs::write(home.file("token"), "the owner's secret").unwrap();

    let secret = format!("token=@{}", home.file("token").display());
    let mut command =
        home.run_command(["--timings", "--interactive", "--user", "1234:99", "--workdir", "/tmp"]);
    command.args(["--secret", &secret, "--env", "SET=a b = c", "--env", "TAKEN", "--env", "ABSENT", &image]);
    command.args(["--", "/bin/sh", "-c", LOOK, "sh", "an argument; with $signs"]);
    let mut job = Job::start_vm({
        command.env("TAKEN", "from here").stdin(Stdio::piped());
        command
    })
    .unwrap();
    // More than pipes and sockets hold, and bytes of every kind.
    let input: Vec<u8> = (0..300_000_u32).map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect();
    let mut stdin = job.stdin().unwrap();
    let expected = Digest::sha256(&input).hex();
    // Written aside, so that a workload which reads nothing fails the test instead of blocking it.
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let outcome = job.finish(VM_LIMIT).unwrap();
    writer.join().unwrap().unwrap();

    let all = outcome.text();
    let seen: HashMap<&str, &str> = all.lines().filter_map(|l| l.split_once('=')).collect();
    let expected = format!("{expected}  -");
    let wanted = [
        ("uid", "1234"),
        ("gid", "99"),
        ("cwd", "/tmp"),
        ("set", "a b = c"),
        ("taken", "from here"),
        ("path", "/bin"),
        ("absent", "[]"),
        ("arg", "an argument; with $signs"),
        ("secrets", "token "),
        ("secret", "the owner's secret"),
        ("mode", "400 1234"),
        ("rest", "the owner's secret"),
        ("other", "[]"),
        ("key", "[]"),
        ("pid", "1"),
        ("stdin", &expected),
    ];
    for (name, value) in wanted {
        assert_eq!(seen.get(name), Some(&value), "{name}; all of it:\n{all}\n{}", outcome.stderr);
    }
    assert_eq!(outcome.status, Some(7), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("to stderr\n") && !all.contains("to stderr"), "{}", outcome.stderr);
    assert_eq!(outcome.stderr.matches("403 Forbidden").count(), 2, "{}", outcome.stderr);
    for stage in Stage::ALL {
        let row = outcome.stderr.lines().any(|l| l.starts_with(stage.name()) && l.contains("|"));
        assert!(row, "no row for {stage}:\n{}", outcome.stderr);
    }
    assert!(!outcome.stderr.contains("the owner's secret"), "{}", outcome.stderr);
    assert_eq!(home.left(Duration::from_secs(5)).unwrap(), Vec::<String>::new());
}

/// The image's own command, as a user by name; much output; killed by a signal from within.
#[test]
fn much_output_arrives_whole_and_a_signal_shows_in_the_status() {
    let Some(home) = Home::open().unwrap() else { return };
    let registry = Registry::start().unwrap();
    // A container's first process ignores signals of its own; the limit on processor time kills any.
    let script = "id -un; yes 0123456789abcde | head -c 3145728; ulimit -t 1; while :; do :; done";
    let image = make_busybox_image(&registry, "demo:loud", &["/bin/sh", "-c", script]).unwrap();
    let mut command = home.run_command(["--json", "--timings", "--interactive", "--user", "user", &image]);
    command.stdin(Stdio::piped());
    let mut job = Job::start_vm(command).unwrap();
    // Held open, and never written to: the run ends all the same.
    let stdin = job.stdin().unwrap();
    let outcome = job.finish(VM_LIMIT).unwrap();
    drop(stdin);

    assert_eq!(outcome.status, Some(128 + 9), "{}", outcome.stderr);
    assert!(outcome.stdout.starts_with(b"user\n"), "{:.100}", outcome.text());
    let body = &outcome.stdout[5..];
    assert_eq!(body.len(), 3 << 20);
    assert!(body.chunks(16).all(|line| line == b"0123456789abcde\n"));

    let lines = outcome.json_lines().unwrap();
    let timings = lines.iter().find(|l| l["type"] == "timings").unwrap();
    let entries = timings["timeline"]["entries"].as_array().unwrap();
    for stage in Stage::ALL {
        assert!(entries.iter().any(|e| e[1]["stage"] == stage.name()), "no {stage} in {timings}");
    }
    assert!(
        lines.iter().any(|l| l["type"] == "warning" && l["text"].as_str().unwrap().contains("simulated"))
    );
    assert!(!lines.iter().any(|l| l["type"] == "failure"));
    assert_eq!(home.left(Duration::from_secs(5)).unwrap(), Vec::<String>::new());
}
