//! State in PostgreSQL, secrets and keys in a PKCS#11 token: `serve` with the real ones.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::io::Write;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use support::{Home, with};

const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";

#[test]
fn keys_and_secrets_live_in_a_token() {
    let mut home = Home::new();
    if !Path::new(MODULE).exists() {
        println!("skipped: softhsm2 is not installed");
        return;
    }
    std::fs::create_dir(home.path("tokens")).unwrap();
    let conf =
        home.file("softhsm2.conf", format!("directories.tokendir = {}\n", home.path("tokens").display()));
    let made = Command::new("softhsm2-util")
        .args(["--init-token", "--free", "--label", "trustee", "--pin", "1234", "--so-pin", "567890"])
        .env("SOFTHSM2_CONF", &conf)
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    home.env("SOFTHSM2_CONF", &conf);
    let pin = home.file("pin", "1234\n");
    std::fs::set_permissions(&pin, PermissionsExt::from_mode(0o600)).unwrap();
    let token = format!("module = \"{MODULE}\"\ntoken_label = \"trustee\"\npin_file = \"{pin}\"\n");
    let config = home.file(
        "trustee.toml",
        format!(
            "[server]\nlisten = [\"127.0.0.1:0\"]\n[seal]\nkind = \"pkcs11\"\n[seal.pkcs11]\nkey_label = \"seal\"\n{token}\
             [secrets]\nbackend = \"pkcs11\"\n[secrets.pkcs11]\n{token}\
             [[plugins]]\nkind = \"pkcs11\"\nkey_label = \"wrap\"\nmodule = \"{MODULE}\"\nslot = 0\npin = \"1234\"\n\
             [[plugins]]\nkind = \"provisioner\"\n"
        ),
    );
    let serve = |home: &Home| home.serve("state", &["--config", &config]);
    let mut server = serve(&home);
    home.ok(&with(&["secret", "set", "default/key/one", "x"], &server.flags()));
    server.signal(rustix::process::Signal::HUP);
    server.wait_for("read anew");
    assert_eq!(home.ok(&with(&["secret", "list"], &server.flags())), "default/key/one\n");
    server.stop();
    let server = serve(&home);
    assert_eq!(home.ok(&with(&["secret", "list"], &server.flags())), "default/key/one\n");
    server.stop();
    assert!(home.path("state/seal.blob").exists() && !home.path("state/seal.key").exists());
}

/// A PostgreSQL server in a folder of its own, ended when dropped.
struct Postgres {
    child: Child,
    port: u16,
}

impl Postgres {
    /// `None`, with a word on why, where it is not installed.
    fn start(home: &Home) -> Option<Self> {
        let mut bins: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
            .into_iter()
            .flatten()
            .flatten()
            .map(|e| e.path().join("bin"))
            .filter(|bin| bin.join("postgres").exists())
            .collect();
        bins.sort();
        let Some(bin) = bins.pop() else {
            println!("skipped: PostgreSQL (Debian package postgresql) is not installed");
            return None;
        };
        let folder = home.path("pg");
        std::fs::create_dir(&folder).unwrap();
        // The server refuses root.
        let passwd = std::fs::read_to_string("/etc/passwd").unwrap();
        let root = rustix::process::getuid().is_root();
        let account = passwd.lines().find(|l| root && l.starts_with("postgres:")).map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            (fields[2].parse::<u32>().unwrap(), fields[3].parse::<u32>().unwrap())
        });
        let command = |program: &str| {
            let mut command = Command::new(bin.join(program));
            command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::null());
            if let Some((user, group)) = account {
                command.uid(user).gid(group);
            }
            command
        };
        if let Some((user, group)) = account {
            std::fs::set_permissions(home.path(""), PermissionsExt::from_mode(0o711)).unwrap();
            chown(&folder, Some(user), Some(group)).unwrap();
        }
        let data = folder.join("data");
        let made = command("initdb")
            .args(["-U", "cocoon", "-A", "trust", "-E", "UTF8", "--no-sync", "--locale=C.UTF-8", "-D"])
            .arg(&data)
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = command("postgres")
            .arg("-D")
            .arg(&data)
            .args(["-p", &port.to_string(), "-c", "listen_addresses=127.0.0.1", "-k", ""])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let postgres = Postgres { child, port };
        let end = Instant::now() + Duration::from_secs(30);
        // It listens before it takes clients, so that a connection alone says nothing.
        let ready = || {
            let mut asked = command("pg_isready");
            asked.args(["-q", "-h", "127.0.0.1", "-p", &port.to_string()]).status().is_ok_and(|s| s.success())
        };
        while !ready() {
            assert!(Instant::now() < end, "PostgreSQL does not answer");
            std::thread::sleep(Duration::from_millis(50));
        }
        Some(postgres)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // SIGQUIT: at once, children included.
        let pid = rustix::process::Pid::from_child(&self.child);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::QUIT);
        let _ = self.child.wait();
    }
}

#[test]
fn two_servers_share_one_database() {
    let mut home = Home::new();
    let Some(postgres) = Postgres::start(&home) else { return };
    // The password must not be needed in a file: the environment may hold the URL.
    home.env("POSTGRES_URL", &format!("postgres://cocoon:x@127.0.0.1:{}/postgres", postgres.port));
    let seal = home.path("seal.key");
    let mut key = std::fs::OpenOptions::new().write(true).create_new(true).open(&seal).unwrap();
    key.write_all(&[7; 32]).unwrap();
    std::fs::set_permissions(&seal, PermissionsExt::from_mode(0o600)).unwrap();
    let config = home.file(
        "trustee.toml",
        format!(
            "[server]\nlisten = [\"127.0.0.1:0\"]\n[state]\nkind = \"postgres\"\n[seal]\nfile = \"{}\"\n",
            seal.display()
        ),
    );
    let (one, two) = (home.serve("one", &["--config", &config]), home.serve("two", &["--config", &config]));
    home.ok(&with(&["secret", "set", "default/key/one", "x"], &one.flags()));
    assert_eq!(home.ok(&with(&["secret", "list"], &two.flags())), "default/key/one\n");
    assert!(home.ok(&with(&["audit", "verify"], &two.flags())).starts_with("verified: 1 entries"));
    // A backup of what is in use.
    let (backup, state) = (home.path("backup"), home.path("one"));
    let args = ["trustee", "backup", backup.to_str().unwrap(), "--config", &config];
    home.ok(&[&args[..], &["--state", state.to_str().unwrap()]].concat());
    one.stop();
    two.stop();
}
