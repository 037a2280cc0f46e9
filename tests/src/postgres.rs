//! PostgreSQL of a test's own.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, getuid, kill_process};
use tempfile::TempDir;

use crate::wait_until;

/// Ends the server when our end of standard input closes: because the fixture was dropped, or because the test's
/// process died in whatever way.
const KEEPER: &str = r#""$@" & pid=$!; cat >/dev/null; kill -INT $pid 2>/dev/null; wait $pid 2>/dev/null"#;

const USER: &str = "cocoon";
const PASSWORD: &str = "only-for-this-test";
const DATABASE: &str = "trustee";
/// How long the server may take to answer.
const READY: Duration = Duration::from_secs(30);

/// A PostgreSQL server with one empty database, on a unix socket and a loopback port. All its data vanish with it.
pub struct Postgres {
    folder: TempDir,
    programs: PathBuf,
    // The server refuses to run as root.
    account: Option<(u32, u32)>,
    port: u16,
    // An address that others reach, and the certificate with which it is proved there.
    exposed: Option<(String, String)>,
    keeper: Option<Child>,
}

impl Postgres {
    /// Starts one; `None`, and the reason printed, where it is not installed.
    ///
    /// # Errors
    /// Where it does not start: with its words.
    pub fn start() -> Result<Option<Self>> {
        Self::start_with(None)
    }

    /// Starts one that serves on this address too, with TLS.
    ///
    /// # Errors
    /// As [`Postgres::start`].
    pub fn start_on(address: &str) -> Result<Option<Self>> {
        Self::start_with(Some(address))
    }

    fn start_with(address: Option<&str>) -> Result<Option<Self>> {
        let Some(programs) = programs() else {
            println!("skipped: PostgreSQL is not installed");
            return Ok(None);
        };
        let folder = tempfile::Builder::new().prefix("ctpg").tempdir()?;
        let account = if getuid().is_root() { Some(account()?) } else { None };
        let password = folder.path().join("password");
        fs::write(&password, PASSWORD)?;
        fs::set_permissions(&password, PermissionsExt::from_mode(0o600))?;
        if let Some((user, group)) = account {
            chown(&password, Some(user), Some(group))?;
            chown(folder.path(), Some(user), Some(group))?;
        }
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut server = Postgres { folder, programs, account, port, exposed: None, keeper: None };
        let mut initdb = server.command("initdb");
        initdb.args(["-U", USER, "-A", "scram-sha-256", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"]);
        initdb.arg("--pwfile").arg(&password).arg("-D").arg(server.data());
        finish("initdb", initdb)?;
        if let Some(address) = address {
            server.expose(address)?;
        }
        server.run()?;
        let mut createdb = server.command("createdb");
        createdb.env("PGPASSWORD", PASSWORD).arg("-h").arg(server.folder.path());
        createdb.args(["-p", &port.to_string(), "-U", USER, DATABASE]);
        finish("createdb", createdb)?;
        Ok(Some(server))
    }

    /// The database's URL, over the unix socket.
    pub fn url(&self) -> String {
        let host = self.folder.path().display().to_string().replace('/', "%2F");
        format!("postgres://{USER}:{PASSWORD}@{host}:{}/{DATABASE}", self.port)
    }

    /// The URL at the address for others, without a certificate's file, and the certificate to trust (PEM).
    ///
    /// # Errors
    /// Where it serves this machine alone.
    pub fn exposed(&self) -> Result<(String, &str)> {
        let (address, certificate) = self.exposed.as_ref().context("it serves this machine alone")?;
        Ok((format!("postgres://{USER}:{PASSWORD}@{address}:{}/{DATABASE}", self.port), certificate))
    }

    /// A certificate for an address, and the right to log in from everywhere.
    fn expose(&mut self, address: &str) -> Result<()> {
        let made = rcgen::generate_simple_self_signed(vec![address.to_owned()])?;
        let key = self.folder.path().join("server.key");
        let certificate = self.folder.path().join("server.pem");
        fs::write(&key, made.signing_key.serialize_pem())?;
        fs::set_permissions(&key, PermissionsExt::from_mode(0o600))?;
        fs::write(&certificate, made.cert.pem())?;
        if let Some((user, group)) = self.account {
            chown(&key, Some(user), Some(group))?;
        }
        let rules = self.data().join("pg_hba.conf");
        let all = fs::read_to_string(&rules)? + "\nhostssl all all 0.0.0.0/0 scram-sha-256\n";
        fs::write(&rules, all)?;
        self.exposed = Some((address.to_owned(), made.cert.pem()));
        Ok(())
    }

    /// `kill -9` of the server. Its processes that serve connections end soon after.
    ///
    /// # Errors
    /// Where it does not run.
    pub fn kill(&self) -> Result<()> {
        let file = fs::read_to_string(self.data().join("postmaster.pid"))?;
        let pid = file.lines().next().and_then(|l| l.parse().ok()).and_then(Pid::from_raw);
        Ok(kill_process(pid.context("no process id")?, Signal::KILL)?)
    }

    /// Starts it anew after [`Postgres::kill`], on the same data and port.
    ///
    /// # Errors
    /// Where it does not answer in time: with its log.
    pub fn run(&mut self) -> Result<()> {
        let mut ready = false;
        // While an old server's last processes end, a new one cannot start.
        let within = wait_until(READY, || {
            ready = self.try_run().unwrap_or(false);
            ready
        });
        if !within || !ready {
            bail!("PostgreSQL did not start:\n{}", fs::read_to_string(self.log()).unwrap_or_default());
        }
        Ok(())
    }

    fn try_run(&mut self) -> Result<bool> {
        self.end();
        let mut command = self.command("postgres");
        command.arg("-D").arg(self.data()).arg("-k").arg(self.folder.path());
        let mut addresses = "listen_addresses=127.0.0.1".to_owned();
        if let Some((address, _)) = &self.exposed {
            addresses.push_str(&format!(",{address}"));
            let file = |name: &str| self.folder.path().join(name).display().to_string();
            for setting in [
                "ssl=on".to_owned(),
                format!("ssl_cert_file={}", file("server.pem")),
                format!("ssl_key_file={}", file("server.key")),
            ] {
                command.args(["-c", &setting]);
            }
        }
        command.args(["-p", &self.port.to_string(), "-c", &addresses]);
        command.args(["-c", "shared_buffers=16MB", "-c", "max_connections=60"]);
        let mut keeper = self.plain("/bin/sh");
        keeper.args(["-c", KEEPER, "keeper"]).arg(command.get_program()).args(command.get_args());
        let log = fs::File::create(self.log())?;
        keeper.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log);
        self.keeper = Some(keeper.spawn().context("cannot start sh")?);
        let mut answers = false;
        wait_until(READY, || {
            let mut ready = self.command("pg_isready");
            ready.arg("-h").arg(self.folder.path()).args(["-p", &self.port.to_string(), "-q"]);
            answers = ready.status().is_ok_and(|status| status.success());
            // Not every FATAL is an end: clients that come too early get one, too.
            let log = fs::read_to_string(self.log()).unwrap_or_default();
            answers || ["pre-existing", "could not bind", "lock file"].iter().any(|words| log.contains(words))
        });
        Ok(answers)
    }

    fn end(&mut self) {
        if let Some(mut keeper) = self.keeper.take() {
            drop(keeper.stdin.take());
            let _ = keeper.wait();
        }
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    fn command(&self, program: &str) -> Command {
        self.plain(self.programs.join(program))
    }

    fn plain(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        command.current_dir("/").env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C.UTF-8");
        command.stdin(Stdio::null());
        if let Some((user, group)) = self.account {
            command.uid(user).gid(group);
        }
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.end();
    }
}

/// The newest installed version's programs.
fn programs() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?.flatten();
    let folders = versions.map(|version| version.path().join("bin"));
    folders.filter(|bin| bin.join("postgres").exists() && bin.join("initdb").exists()).max()
}

/// User and group that the package made.
fn account() -> Result<(u32, u32)> {
    let passwd = fs::read_to_string("/etc/passwd")?;
    let line = passwd.lines().find(|line| line.starts_with("postgres:")).context("no user postgres")?;
    let mut numbers = line.split(':').skip(2).map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(user)), Some(Ok(group))) => Ok((user, group)),
        _ => bail!("unusable: {line}"),
    }
}

fn finish(name: &str, mut command: Command) -> Result<()> {
    let output = command.output().with_context(|| format!("cannot start {name}"))?;
    if !output.status.success() {
        bail!("{name}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
