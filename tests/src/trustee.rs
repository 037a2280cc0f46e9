//! Trustee as an operator runs it: the program with a settings file, started, told to stop, or killed.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use cocoon_http::{Client, HeaderMap, Method, Options, Request, Response, Roots, header};
use cocoon_sim::SecureProcessor;
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::{Job, Outcome, cocoon_program, wait_until};

/// How long a start, a stop or a command may take.
const LIMIT: Duration = Duration::from_secs(30);
/// Largest answer that is read.
const MAX_ANSWER: usize = 16 << 20;
const ANNOUNCEMENT: &str = "cocoon: Trustee on ";

/// Folders of one Trustee that outlive its process, gone when this is dropped.
pub struct TrusteeHome {
    folder: TempDir,
    program: PathBuf,
}

impl TrusteeHome {
    /// A new home; `None`, and the reason printed, where this call of the tests names no program.
    ///
    /// # Errors
    /// Where the folders cannot be made.
    pub fn open() -> Result<Option<Self>> {
        let Some(program) = cocoon_program() else {
            println!("skipped: COCOON_BIN does not name what to test (make test does)");
            return Ok(None);
        };
        let folder = tempfile::Builder::new().prefix("ctt").tempdir()?;
        for name in ["data", "tmp"] {
            fs::create_dir(folder.path().join(name))?;
        }
        Ok(Some(TrusteeHome { folder, program: fs::canonicalize(program)? }))
    }

    /// A path in the home.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Trustee's state folder, where it does not say otherwise.
    pub fn state(&self) -> PathBuf {
        self.file("data/trustee")
    }

    /// Writes the settings file: an ephemeral loopback port and no limit on handshakes, then this.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn settings(&self, text: &str) -> Result<()> {
        let first = "[server]\nlisten = [\"127.0.0.1:0\"]\n\
                     [server.limits]\nhandshakes_per_peer_per_minute = 1000000\n";
        self.settings_as_they_are(&format!("{first}{text}"))
    }

    /// Writes the settings file.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn settings_as_they_are(&self, text: &str) -> Result<()> {
        Ok(fs::write(self.file("settings.toml"), text)?)
    }

    /// `cocoon` with these arguments and this home's data folder, not started. It dies with the thread that starts it.
    pub fn command<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(&self.program).args(args);
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.folder.path())
            .env("TMPDIR", self.file("tmp"))
            .env("COCOON_DATA_DIR", self.file("data"))
            .stdin(Stdio::null());
        command
    }

    /// `cocoon trustee serve` with the settings file, not started.
    pub fn serve_command(&self) -> Command {
        let settings = self.file("settings.toml");
        self.command([
            OsStr::new("trustee"),
            OsStr::new("serve"),
            OsStr::new("--config"),
            settings.as_os_str(),
        ])
    }

    /// Starts Trustee and waits until it says where it listens.
    ///
    /// # Errors
    /// Where it ends or says nothing in time: with its standard error.
    pub fn start(&self) -> Result<Served> {
        let job = Job::start(self.serve_command())?;
        Served::when_ready(job, &self.state().join("admin.token"))
    }

    /// The simulated secure processor that Trustee accepts where its settings say so.
    ///
    /// # Errors
    /// Where its folder cannot be used.
    pub fn processor(&self) -> Result<SecureProcessor> {
        Ok(SecureProcessor::open_or_create(&self.file("data/sim"))?)
    }

    /// Runs a command of the owner's against a served Trustee to its end.
    ///
    /// # Errors
    /// Where it cannot be started or takes too long.
    pub fn owner(&self, trustee: &Served, args: &[&str]) -> Result<Outcome> {
        let certificate = trustee.certificate.as_ref().context("Trustee has no certificate")?;
        let mut command = self.command(args);
        command.args(["--trustee", &trustee.url, "--trustee-token"]).arg(&trustee.token_file);
        command.arg("--trustee-cert").arg(certificate);
        Job::start(command)?.finish(LIMIT)
    }

    /// [`TrusteeHome::owner`] for commands that must succeed; gives their standard output.
    ///
    /// # Errors
    /// Where it does not succeed: with its standard error.
    pub fn owner_succeeds(&self, trustee: &Served, args: &[&str]) -> Result<String> {
        let outcome = self.owner(trustee, args)?;
        match outcome.status {
            Some(0) => Ok(outcome.text()),
            status => bail!("{args:?}: status {status:?}: {}", outcome.stderr),
        }
    }
}

/// A Trustee that serves. Dropping it kills it.
pub struct Served {
    job: Job,
    url: String,
    certificate: Option<PathBuf>,
    token_file: PathBuf,
}

impl Served {
    /// Waits for the announcement of a Trustee that was started.
    ///
    /// # Errors
    /// As [`TrusteeHome::start`].
    pub fn when_ready(mut job: Job, token_file: &Path) -> Result<Self> {
        job.wait_for_stderr(ANNOUNCEMENT, LIMIT)?;
        let mut line = None;
        wait_until(LIMIT, || {
            let errors = job.errors();
            let after = errors.split(ANNOUNCEMENT).nth(1);
            line = after.and_then(|text| text.split_once('\n')).map(|(line, _)| line.to_owned());
            line.is_some()
        });
        let line = line.context("the announcement has no end")?;
        let (url, rest) = line.split_once(", ").unwrap_or((&line, ""));
        let certificate = rest.strip_prefix("certificate ").map(PathBuf::from);
        Ok(Served { job, url: url.to_owned(), certificate, token_file: token_file.to_owned() })
    }

    /// Scheme, address and port.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The certificate that it shows, PEM.
    ///
    /// # Errors
    /// Where it has none or it cannot be read.
    pub fn certificate_pem(&self) -> Result<String> {
        Ok(fs::read_to_string(self.certificate.as_ref().context("Trustee has no certificate")?)?)
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.job.pid()
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        self.job.errors()
    }

    /// A client of its own connections that trusts this Trustee's certificate only.
    ///
    /// # Errors
    /// Where the certificate cannot be read.
    pub fn http(&self) -> Result<Client> {
        let roots = match &self.certificate {
            Some(file) => Roots::Pinned(vec![fs::read_to_string(file)?]),
            None => Roots::Pinned(Vec::new()),
        };
        let roots = if self.certificate.is_some() { roots } else { Options::default().roots };
        Ok(Client::new(Options { roots, ..Options::default() })?)
    }

    /// A client with the admin token.
    ///
    /// # Errors
    /// Where the token cannot be read.
    pub fn admin(&self) -> Result<Admin> {
        let token = fs::read_to_string(&self.token_file).context("the admin token")?;
        Ok(Admin { http: self.http()?, url: self.url.clone(), bearer: format!("Bearer {}", token.trim()) })
    }

    /// Tells it to read its settings again.
    ///
    /// # Errors
    /// Where it is gone.
    pub fn hang_up(&self) -> Result<()> {
        self.job.signal(Signal::HUP)
    }

    /// Tells it to stop and waits for its end.
    ///
    /// # Errors
    /// Where it does not end in time.
    pub fn stop(self) -> Result<Outcome> {
        self.job.signal(Signal::TERM)?;
        self.job.finish(LIMIT)
    }

    /// `kill -9`.
    ///
    /// # Errors
    /// Where it was gone before.
    pub fn kill(self) -> Result<()> {
        self.job.signal(Signal::KILL)?;
        let outcome = self.job.finish(LIMIT)?;
        match outcome.signal {
            Some(9) => Ok(()),
            other => bail!("it had ended by itself: signal {other:?}: {}", outcome.stderr),
        }
    }
}

/// An administrator over HTTP. Clones share connections.
#[derive(Clone)]
pub struct Admin {
    http: Client,
    url: String,
    bearer: String,
}

impl Admin {
    /// The administrator whose `Authorization` is `bearer`, at the Trustee at `url`.
    pub fn new(http: Client, url: &str, bearer: &str) -> Self {
        Admin { http, url: url.to_owned(), bearer: format!("Bearer {bearer}") }
    }

    /// Sends a request.
    ///
    /// # Errors
    /// Where no answer comes.
    pub async fn send(&self, method: Method, path: &str, body: impl Into<Vec<u8>>) -> Result<Reply> {
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.url))
            .header(header::AUTHORIZATION, &self.bearer)
            .body(body.into().into())?;
        Reply::of(&self.http, request).await
    }

    /// Reads something that must be there.
    ///
    /// # Errors
    /// Where no answer comes or it is no success.
    pub async fn get(&self, path: &str) -> Result<Value> {
        self.send(Method::GET, path, "").await?.succeeded()?.json()
    }

    /// Sets something.
    ///
    /// # Errors
    /// As [`Admin::get`].
    pub async fn put(&self, path: &str, body: impl Into<Vec<u8>>) -> Result<Reply> {
        self.send(Method::PUT, path, body).await?.succeeded()
    }

    /// All entries of the audit log.
    ///
    /// # Errors
    /// As [`Admin::get`].
    pub async fn audit_entries(&self) -> Result<Vec<Value>> {
        let mut all = Vec::new();
        loop {
            let page = self.get(&format!("/cocoon/v0/audit/entries?from={}&limit=1000", all.len())).await?;
            let page = page.as_array().context("a list")?.clone();
            if page.is_empty() {
                return Ok(all);
            }
            all.extend(page);
        }
    }
}

/// An answer.
#[derive(Debug)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// All headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Vec<u8>,
}

impl Reply {
    /// Sends a request and reads the whole answer, whatever its status.
    ///
    /// # Errors
    /// Where no answer comes.
    pub async fn of(http: &Client, request: Request<bytes::Bytes>) -> Result<Self> {
        let answer: Response = http.send(request).await?;
        let (status, headers) = (answer.status.as_u16(), answer.headers.clone());
        Ok(Reply { status, headers, body: answer.bytes(MAX_ANSWER).await?.to_vec() })
    }

    /// A header's value; empty where there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The id under which Trustee keeps what it decided.
    pub fn request_id(&self) -> &str {
        self.header("x-request-id")
    }

    /// The code of a refusal.
    pub fn code(&self) -> &str {
        self.header("x-cocoon-code")
    }

    /// The answer, if it is a success.
    ///
    /// # Errors
    /// Where it is none: with its body.
    pub fn succeeded(self) -> Result<Self> {
        match self.status {
            200..=299 => Ok(self),
            status => bail!("status {status}: {}", String::from_utf8_lossy(&self.body)),
        }
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// Where it is none.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_slice(&self.body).with_context(|| String::from_utf8_lossy(&self.body).into_owned())
    }
}
