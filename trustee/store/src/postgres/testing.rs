//! A PostgreSQL server of our own for the tests: in a temporary folder, on loopback, ended with the last test that
//! uses it (or with the test process, whose end closes the pipe that the wrapping shell waits on).

use std::io::Write;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, getuid, kill_process};
use tempfile::TempDir;

use super::PostgresOptions;

pub(crate) const PASSWORD: &str = "correct-horse-battery";

pub(crate) fn options() -> PostgresOptions {
    PostgresOptions { wait: Duration::from_secs(20), ..PostgresOptions::default() }
}

pub(crate) struct Server {
    folder: TempDir,
    programs: PathBuf,
    account: Option<(u32, u32)>,
    pub(crate) port: u16,
    /// PEM of the certificate, which is valid for `localhost`.
    pub(crate) certificate: String,
    shell: Mutex<Option<Child>>,
    databases: AtomicU32,
}

/// The server that tests share; `None`, with a word on why, where PostgreSQL is not installed.
pub(crate) fn shared_server() -> Option<Arc<Server>> {
    static SHARED: Mutex<Weak<Server>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(server) = shared.upgrade() {
        return Some(server);
    }
    let server = Arc::new(Server::start()?);
    *shared = Arc::downgrade(&server);
    Some(server)
}

fn programs() -> Option<PathBuf> {
    let mut found: Vec<_> =
        std::fs::read_dir("/usr/lib/postgresql").ok()?.flatten().map(|e| e.path().join("bin")).collect();
    found.retain(|bin| bin.join("initdb").exists() && bin.join("postgres").exists());
    found.sort();
    found.pop()
}

/// User and group to run as: the server refuses root.
fn account() -> Option<(u32, u32)> {
    if !getuid().is_root() {
        return None;
    }
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap();
    let line = passwd.lines().find(|line| line.starts_with("postgres:")).expect("the package made its user");
    let fields: Vec<_> = line.split(':').collect();
    Some((fields[2].parse().unwrap(), fields[3].parse().unwrap()))
}

impl Server {
    pub(crate) fn start() -> Option<Self> {
        let Some(programs) = programs() else {
            println!("skipped: PostgreSQL (Debian package postgresql) is not installed");
            return None;
        };
        let account = account();
        let folder = tempfile::Builder::new().prefix("cocoon-pg").tempdir().unwrap();
        let signed = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let files = [
            ("password", PASSWORD.to_owned()),
            ("server.crt", signed.cert.pem()),
            ("server.key", signed.signing_key.serialize_pem()),
        ];
        for (name, content) in files {
            let path = folder.path().join(name);
            std::fs::write(&path, content).unwrap();
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
            if let Some((user, group)) = account {
                chown(&path, Some(user), Some(group)).unwrap();
            }
        }
        if let Some((user, group)) = account {
            chown(folder.path(), Some(user), Some(group)).unwrap();
        }
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let server = Server {
            folder,
            programs,
            account,
            port,
            certificate: signed.cert.pem(),
            shell: Mutex::new(None),
            databases: AtomicU32::new(0),
        };
        // A default order of texts that is not that of bytes, so that ours has to be asked for.
        let made = server
            .command(&server.programs.join("initdb"))
            .args(["-U", "cocoon", "-A", "scram-sha-256", "-E", "UTF8", "--no-sync", "--locale=C.UTF-8"])
            .args(["--locale-provider=icu", "--icu-locale=en-US"])
            .arg("--pwfile")
            .arg(server.path().join("password"))
            .arg("-D")
            .arg(server.path().join("data"))
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        server.run(&[]);
        Some(server)
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir("/").env_clear().env("LC_ALL", "C.UTF-8").env("PATH", "/usr/bin:/bin");
        if let Some((user, group)) = self.account {
            command.uid(user).gid(group);
        }
        command
    }

    /// Starts the server process and waits until it answers.
    pub(crate) fn run(&self, settings: &[&str]) {
        let deadline = Instant::now() + Duration::from_secs(30);
        // After a kill, the old server's children may still hold its memory for a moment; then a start fails.
        while !self.try_run(settings) {
            assert!(
                Instant::now() < deadline,
                "{}",
                std::fs::read_to_string(self.path().join("log")).unwrap()
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn try_run(&self, settings: &[&str]) -> bool {
        self.stop();
        let log = std::fs::File::create(self.path().join("log")).unwrap();
        let mut command = self.command(Path::new("/bin/sh"));
        command
            .args(["-c", r#""$@" & pid=$!; read -r _; kill -INT $pid; wait $pid"#, "sh"])
            .arg(self.programs.join("postgres"))
            .arg("-D")
            .arg(self.path().join("data"))
            .args(["-p", &self.port.to_string(), "-c", "listen_addresses=127.0.0.1", "-k"])
            .arg(self.path())
            .args(["-c", "shared_buffers=16MB", "-c", "max_connections=60", "-c", "ssl=on"])
            .arg("-c")
            .arg(format!("ssl_cert_file={}", self.path().join("server.crt").display()))
            .arg("-c")
            .arg(format!("ssl_key_file={}", self.path().join("server.key").display()));
        for setting in settings {
            command.args(["-c", setting]);
        }
        let shell = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        *self.shell.lock().unwrap() = Some(shell);
        for _ in 0..200 {
            if self.try_sql("postgres", "SELECT 1").is_ok() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(50));
            let log = std::fs::read_to_string(self.path().join("log")).unwrap_or_default();
            if log.contains("FATAL:  pre-existing")
                || log.contains("could not bind")
                || log.contains("lock file")
            {
                return false;
            }
        }
        false
    }

    /// Ends the server in an orderly way and waits for it.
    pub(crate) fn stop(&self) {
        let Some(mut shell) = self.shell.lock().unwrap_or_else(PoisonError::into_inner).take() else {
            return;
        };
        if let Some(mut pipe) = shell.stdin.take() {
            drop(pipe.write_all(b"\n"));
        }
        shell.wait().unwrap();
    }

    /// `kill -9` of the server.
    pub(crate) fn kill(&self) {
        let file = std::fs::read_to_string(self.path().join("data/postmaster.pid")).unwrap();
        let pid = file.lines().next().unwrap().parse().unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    }

    /// Makes an empty database; its URL over the Unix socket.
    pub(crate) fn new_database(&self) -> String {
        let name = format!("test{}", self.databases.fetch_add(1, Ordering::SeqCst));
        self.sql("postgres", &format!("CREATE DATABASE {name}"));
        self.socket_url(&name)
    }

    fn socket_url(&self, database: &str) -> String {
        let host = self.path().display().to_string().replace('/', "%2F");
        format!("postgres://cocoon:{PASSWORD}@{host}:{}/{database}", self.port)
    }

    /// A database's URL with another host and query.
    pub(crate) fn tcp_url(url: &str, host: &str, query: &str) -> String {
        let database = url.rsplit('/').next().unwrap();
        format!("postgres://cocoon:{PASSWORD}@{host}/{database}{query}")
    }

    /// The first column of a statement's first row, as text.
    pub(crate) fn sql(&self, database: &str, statement: &str) -> Option<String> {
        self.try_sql(database, statement).unwrap()
    }

    fn try_sql(&self, database: &str, statement: &str) -> Result<Option<String>, tokio_postgres::Error> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let database = database.rsplit('/').next().unwrap();
        runtime.block_on(async {
            let config: tokio_postgres::Config = self.socket_url(database).parse().unwrap();
            let (client, connection) = config.connect(tokio_postgres::NoTls).await?;
            let driver = tokio::spawn(connection);
            let answers = client.simple_query(statement).await?;
            drop(client);
            driver.await.unwrap()?;
            Ok(answers.iter().find_map(|answer| match answer {
                tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
                _ => None,
            }))
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}
