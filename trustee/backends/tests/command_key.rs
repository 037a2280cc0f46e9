//! The store's key behind an operator's command, with scripts that do it right and scripts that do not.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cocoon_backends::{CommandKey, CommandKeyConfig, Error, KeyProtector};

/// Wraps with the letters of base64 turned around, which is enough to be another text.
const TURNS: &str = r#"
turn() { tr 'A-Za-z' 'N-ZA-Mn-za-m'; }
case "$1" in wrap) printf 'v1:'; turn ;; unwrap) read -r line; printf '%s\n' "${line#v1:}" | turn ;; esac
"#;

struct Scripts(tempfile::TempDir);

impl Scripts {
    fn new() -> Self {
        Scripts(tempfile::tempdir().unwrap())
    }

    /// Writes a script; the shell is the program, so that no fork of another test can hold it open for writing.
    fn key(&self, body: &str) -> CommandKey {
        self.with(body, Duration::from_secs(20), &[])
    }

    fn with(&self, body: &str, timeout: Duration, environment: &[&str]) -> CommandKey {
        let script: PathBuf = self.0.path().join("script.sh");
        std::fs::write(&script, body).unwrap();
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o600)).unwrap();
        CommandKey::new(CommandKeyConfig {
            argv: vec!["/bin/sh".into(), script.display().to_string()],
            timeout,
            environment: environment.iter().map(|s| (*s).to_owned()).collect(),
        })
        .unwrap()
    }
}

fn failure(key: &CommandKey, blob: Option<&[u8]>) -> String {
    match key.seal_key(blob) {
        Err(error @ Error::Command { .. }) => error.to_string(),
        other => panic!("{:?}", other.map(|_| ())),
    }
}

#[test]
fn wraps_once_and_unwraps_ever_after() {
    let scripts = Scripts::new();
    let protector = scripts.key(TURNS);
    let (key, blob) = protector.seal_key(None).unwrap();
    assert!(blob.starts_with(b"v1:"));
    let (again, same) = protector.seal_key(Some(&blob)).unwrap();
    assert_eq!((*again, same), (*key, blob.clone()));
    assert_ne!(*protector.seal_key(None).unwrap().0, *key);
    let hex = scripts.key(&format!("printf '  %s\\n' {}", "0f".repeat(32)));
    assert_eq!(*hex.seal_key(Some(b"x")).unwrap().0, [15; 32]);
}

#[test]
fn blobs_are_bytes_up_to_64_kib() {
    let scripts = Scripts::new();
    let file = scripts.0.path().join("kept");
    let keeps = |size: usize| {
        format!(
            r#"case "$1" in wrap) cat > {0}; head -c {size} /dev/zero ;; unwrap) [ "$(wc -c)" = {size} ] && cat {0} ;; esac"#,
            file.display()
        )
    };
    let (key, blob) = scripts.key(&keeps(65536)).seal_key(None).unwrap();
    assert_eq!(blob, vec![0; 65536]);
    assert_eq!(*scripts.key(&keeps(65536)).seal_key(Some(&blob)).unwrap().0, *key);
    assert!(failure(&scripts.key(&keeps(65537)), None).contains("more than 65536 bytes"));
    assert!(failure(&scripts.key(&keeps(0)), None).contains("printed nothing"));
    for size in [0, 65537] {
        assert!(matches!(scripts.key(TURNS).seal_key(Some(&vec![1; size])), Err(Error::Blob(_))));
    }
}

#[test]
fn commands_that_do_not_protect_are_found_out() {
    let scripts = Scripts::new();
    assert!(failure(&scripts.key("cat"), None).contains("holds the key itself"));
    assert!(failure(&scripts.key("base64 -d"), None).contains("holds the key itself"));
    let forgets = format!("case $1 in wrap) echo x ;; unwrap) echo {} ;; esac", "00".repeat(32));
    assert!(failure(&scripts.key(&forgets), None).contains("another key"));
    assert!(
        failure(&scripts.key("case $1 in wrap) echo x ;; unwrap) echo y ;; esac"), None).contains("32 bytes")
    );
}

#[test]
fn failures_tell_a_bounded_part_of_standard_error_and_no_key() {
    let scripts = Scripts::new();
    let told = failure(&scripts.key("echo no access >&2; echo s3cret; exit 7"), Some(b"blob-s3cret"));
    assert!(told.contains("exit status: 7: no access") && !told.contains("s3cret"), "{told}");
    let long = failure(&scripts.key("head -c 300000 /dev/zero | tr '\\0' e >&2; exit 1"), Some(b"x"));
    assert!(long.contains("eeee") && long.len() < 2000);
    let colours = failure(&scripts.key(r"printf 'a\033[31mb\nc' >&2; exit 1"), Some(b"x"));
    assert!(colours.ends_with("a [31mb c"), "{colours}");
    // A script that shows its input on standard error.
    let shows = failure(&scripts.key("cat >&2; exit 1"), None);
    assert!(shows.ends_with("exit status: 1"), "{shows}");
    assert!(failure(&scripts.key("kill -9 $$"), Some(b"x")).contains("signal: 9"));
    let gone = CommandKey::new(CommandKeyConfig {
        argv: vec!["/nowhere/at/all".into()],
        timeout: Duration::from_secs(1),
        environment: vec![],
    });
    assert!(failure(&gone.unwrap(), None).contains("/nowhere/at/all"));
}

#[test]
fn what_does_not_end_is_killed_with_its_children() {
    let scripts = Scripts::new();
    let note = scripts.0.path().join("pids");
    let hangs = format!("sleep 1000 & echo $$ $! > {}; wait", note.display());
    let begun = Instant::now();
    let told = failure(&scripts.with(&hangs, Duration::from_millis(500), &[]), Some(b"x"));
    assert!(told.contains("was killed"), "{told}");
    assert_all_gone(&note);
    let endless = format!("echo $$ > {}; exec cat /dev/zero", note.display());
    assert!(failure(&scripts.key(&endless), Some(b"x")).contains("more than 256 bytes"));
    assert_all_gone(&note);
    // It ended, but left a child that holds its pipes open.
    let leaves = format!("sleep 1000 & echo $! > {}; echo {}", note.display(), "0f".repeat(32));
    assert_eq!(*scripts.key(&leaves).seal_key(Some(b"x")).unwrap().0, [15; 32]);
    assert_all_gone(&note);
    assert!(begun.elapsed() < Duration::from_secs(15));
}

/// The processes whose numbers are in the file are dead, or will be in a moment.
fn assert_all_gone(note: &Path) {
    let pids = std::fs::read_to_string(note).unwrap();
    assert!(!pids.trim().is_empty());
    for pid in pids.split_whitespace() {
        let until = Instant::now() + Duration::from_secs(5);
        // A killed child of init may stay as a zombie until it is reaped.
        let alive = || {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with(['Z', 'X']))
        };
        while alive() {
            assert!(Instant::now() < until, "process {pid} is still there");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

#[test]
fn large_input_to_a_command_that_does_not_read_it_is_no_failure() {
    let scripts = Scripts::new();
    let deaf = scripts.key(&format!("exec <&-; sleep 0.1; echo {}", "0f".repeat(32)));
    assert_eq!(*deaf.seal_key(Some(&[1; 65536])).unwrap().0, [15; 32]);
}

#[test]
fn the_environment_is_clean() {
    let scripts = Scripts::new();
    // Cargo sets CARGO_MANIFEST_DIR and CARGO_PKG_NAME for tests.
    let report = "env | cut -d= -f1 | sort | tr '\\n' ' ' >&2; exit 1";
    let told =
        failure(&scripts.with(report, Duration::from_secs(20), &["CARGO_PKG_NAME", "NOT_SET"]), Some(b"x"));
    let names: Vec<&str> = told.rsplit(": ").next().unwrap().split_whitespace().collect();
    assert!(names.contains(&"CARGO_PKG_NAME") && names.contains(&"PATH"), "{told}");
    for name in names {
        // The shell itself sets the others.
        assert!(["CARGO_PKG_NAME", "HOME", "OLDPWD", "PATH", "PWD", "SHLVL", "_"].contains(&name), "{name}");
    }
}
