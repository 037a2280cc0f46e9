//! The built program with folders of its own.
#![allow(dead_code, missing_docs)]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// A home with nothing in it.
pub struct Home(tempfile::TempDir, Vec<(String, String)>);

/// What a command said.
pub struct Said {
    pub status: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Home {
    pub fn new() -> Self {
        Home(tempfile::tempdir().unwrap(), Vec::new())
    }

    /// Sets a variable for all commands.
    pub fn env(&mut self, name: &str, value: &str) {
        self.1.push((name.into(), value.into()));
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file; gives its path as an argument.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path.display().to_string()
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cocoon"));
        command.args(args).env_clear().stdin(Stdio::null());
        command.env("PATH", "/usr/bin:/bin").env("HOME", self.path("home"));
        command.env("XDG_DATA_HOME", self.path("data")).env("XDG_RUNTIME_DIR", self.path("run"));
        command.envs(self.1.iter().map(|(name, value)| (name, value)));
        command
    }

    pub fn run(&self, args: &[&str]) -> Said {
        let output = self.command(args).output().unwrap();
        Said {
            status: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Runs what must succeed; gives its standard output.
    pub fn ok(&self, args: &[&str]) -> String {
        let said = self.run(args);
        assert_eq!(said.status, Some(0), "{args:?}: {}{}", said.stdout, said.stderr);
        said.stdout
    }

    /// [`Home::ok`] as JSON.
    pub fn json(&self, args: &[&str]) -> Value {
        let text = self.ok(args);
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{args:?}: {e}: {text}"))
    }

    /// Runs what must be refused with this code; gives its standard error.
    pub fn refused(&self, code: &str, args: &[&str]) -> String {
        let said = self.run(args);
        assert_ne!(said.status, Some(0), "{args:?} succeeded: {}", said.stdout);
        assert!(said.stderr.contains(code), "{args:?}: {}", said.stderr);
        assert!(said.stderr.contains("next"), "no next step: {}", said.stderr);
        said.stderr
    }

    /// Starts a server on a free loopback port, with its state in `folder`.
    pub fn serve(&self, folder: &str, more: &[&str]) -> Server {
        let state = self.path(folder);
        let mut args = vec!["trustee", "serve", "--state", state.to_str().unwrap()];
        if !more.contains(&"--config") {
            args.extend(["--listen", "127.0.0.1:0"]);
        }
        args.extend(more);
        let mut child = self.command(&args).stderr(Stdio::piped()).spawn().unwrap();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (kept, stderr) = (lines.clone(), child.stderr.take().unwrap());
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                kept.lock().unwrap().push(line);
            }
        });
        let mut server = Server { child, lines, reader: Some(reader), url: String::new(), state };
        let line = server.wait_for("cocoon: Trustee on ");
        server.url = line["cocoon: Trustee on ".len()..].split(',').next().unwrap().to_owned();
        server
    }
}

/// A running `cocoon trustee serve`; killed when dropped.
pub struct Server {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    reader: Option<std::thread::JoinHandle<()>>,
    pub url: String,
    pub state: PathBuf,
}

impl Server {
    /// Waits for a line of standard error that holds this.
    pub fn wait_for(&mut self, text: &str) -> String {
        let end = Instant::now() + Duration::from_secs(30);
        loop {
            if let Some(line) = self.said().into_iter().find(|line| line.contains(text)) {
                return line;
            }
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none() && Instant::now() < end, "no {text:?} in {:?}", self.said());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn said(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    /// Forgets what was said so far.
    pub fn forget(&self) {
        self.lines.lock().unwrap().clear();
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Ends it by SIGTERM; it must end well.
    pub fn stop(mut self) {
        self.signal(Signal::TERM);
        let status = self.child.wait().unwrap();
        self.reader.take().unwrap().join().unwrap();
        assert_eq!(status.code(), Some(0), "{:?}", self.said());
    }

    /// The flags by which its owner reaches it.
    pub fn flags(&self) -> Vec<String> {
        let path = |p: &Path| p.display().to_string();
        let (token, cert) =
            (path(&self.state.join("admin.token")), path(&self.state.join("tls-certificate.pem")));
        ["--trustee", &self.url, "--trustee-token", &token, "--trustee-cert", &cert]
            .map(str::to_owned)
            .to_vec()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A command's arguments, then a server's flags.
pub fn with<'a>(args: &[&'a str], flags: &'a [String]) -> Vec<&'a str> {
    args.iter().copied().chain(flags.iter().map(String::as_str)).collect()
}

/// Alters one byte of the audit log's first entry in a store that nobody uses.
pub fn tamper(state: &Path) {
    use cocoon_store::{PutMode, RedbStore, Store};
    let store = RedbStore::open_exclusive(&state.join("state.redb")).unwrap();
    let (key, mut pack) = store.scan("audit_entry", "", 1).unwrap().pop().unwrap();
    let last = pack.len() - 3;
    pack[last] ^= 1;
    store.put("audit_entry", &key, &pack, PutMode::Replace).unwrap();
}
