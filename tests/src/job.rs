//! A program under way, and how it ended.

use std::fs::File;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::wait_until;

/// How long a run with one pod VM may take, emulated on a busy machine.
pub const VM_LIMIT: Duration = Duration::from_secs(300);

/// How many VMs run at once, of all tests on this machine: under emulation more of them only slow each other.
const VMS_AT_ONCE: usize = 2;
/// How long to wait for one's turn.
const TURN_LIMIT: Duration = Duration::from_secs(1800);

/// A program that runs, with its output being read. Dropping it kills it.
pub struct Job {
    child: Child,
    stdout: Output,
    stderr: Output,
    began: Instant,
    // Held while the VM may keep a processor busy.
    turn: Option<File>,
}

/// How a program ended.
#[derive(Debug)]
pub struct Outcome {
    /// Its exit status; `None` where a signal ended it.
    pub status: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// All it wrote to standard output.
    pub stdout: Vec<u8>,
    /// All it wrote to standard error.
    pub stderr: String,
    /// From its start to its end.
    pub took: Duration,
}

/// A failure as people see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The code.
    pub code: String,
    /// The stage.
    pub stage: String,
    /// What happened in detail.
    pub reason: String,
    /// The next step.
    pub next: String,
}

impl Job {
    /// Starts a program that runs no VM.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub fn start(command: Command) -> Result<Self> {
        Self::spawn(command, None)
    }

    /// Waits for its turn, then starts a program that runs one VM.
    ///
    /// # Errors
    /// Where it cannot be started, or its turn does not come within half an hour.
    pub fn start_vm(command: Command) -> Result<Self> {
        let turn = turn()?;
        Self::spawn(command, Some(turn))
    }

    /// [`Job::start_vm`] with the standard output that the command already has; the outcome's stays empty.
    ///
    /// # Errors
    /// As there.
    pub fn start_vm_with_stdout(command: Command) -> Result<Self> {
        let turn = turn()?;
        Self::spawn_as_is(command, Some(turn))
    }

    fn spawn(mut command: Command, turn: Option<File>) -> Result<Self> {
        command.stdout(Stdio::piped());
        Self::spawn_as_is(command, turn)
    }

    fn spawn_as_is(mut command: Command, turn: Option<File>) -> Result<Self> {
        let began = Instant::now();
        let mut child = command.stderr(Stdio::piped()).spawn().context("cannot start")?;
        let stdout = match child.stdout.take() {
            Some(stdout) => Output::read(stdout),
            None => Output::read(std::io::empty()),
        };
        let stderr = Output::read(child.stderr.take().context("no standard error")?);
        Ok(Job { child, stdout, stderr, began, turn })
    }

    /// The program's standard input, where the command has it piped; closed when dropped.
    pub fn stdin(&mut self) -> Option<ChildStdin> {
        self.child.stdin.take()
    }

    /// The process's id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// Where the process is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).context("no process id")?;
        Ok(kill_process(pid, signal)?)
    }

    /// Lets another VM have this one's turn: from here on it only waits for something.
    pub fn end_turn(&mut self) {
        self.turn = None;
    }

    /// What it has written to standard error so far.
    pub fn errors(&self) -> String {
        self.stderr.text()
    }

    /// Waits until its standard output holds a text.
    ///
    /// # Errors
    /// Where it does not within the limit, or the program ended before: with its standard error.
    pub fn wait_for_stdout(&mut self, text: &str, limit: Duration) -> Result<()> {
        self.wait_for(text, limit, false)
    }

    /// [`Job::wait_for_stdout`] for standard error.
    ///
    /// # Errors
    /// As there.
    pub fn wait_for_stderr(&mut self, text: &str, limit: Duration) -> Result<()> {
        self.wait_for(text, limit, true)
    }

    fn wait_for(&mut self, text: &str, limit: Duration, errors: bool) -> Result<()> {
        let output = if errors { self.stderr.clone() } else { self.stdout.clone() };
        let mut ended = false;
        wait_until(limit, || {
            // First the end, then the text: what comes last is not missed.
            ended = matches!(self.child.try_wait(), Ok(Some(_)) | Err(_)) && output.ended();
            ended || output.text().contains(text)
        });
        if output.text().contains(text) {
            return Ok(());
        }
        let how = if ended { "the program ended" } else { "nothing came in time" };
        bail!("waiting for {text:?}: {how}; standard error:\n{}", self.errors())
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// Where it has not ended after the limit: it is killed, and the error says what it wrote.
    pub fn finish(mut self, limit: Duration) -> Result<Outcome> {
        let mut status = None;
        let ended = wait_until(limit, || {
            status = self.child.try_wait().ok().flatten();
            status.is_some() && self.stdout.ended() && self.stderr.ended()
        });
        let Some(status) = status.filter(|_| ended) else {
            let how = if status.is_some() { "ended, but its output is held open" } else { "still runs" };
            bail!("it {how} after {limit:?}; standard error:\n{}", self.errors());
        };
        Ok(Outcome {
            status: status.code(),
            signal: status.signal(),
            stdout: self.stdout.bytes(),
            stderr: self.errors(),
            took: self.began.elapsed(),
        })
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Outcome {
    /// Its standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// The failure that it printed for people.
    ///
    /// # Errors
    /// Where it printed none, or one without all its parts.
    pub fn refusal(&self) -> Result<Refusal> {
        let all = || format!("in standard error:\n{}", self.stderr);
        let part = |label: &str| self.stderr.lines().find_map(|l| l.strip_prefix(label)).map(str::to_owned);
        let head = part("cocoon: ").with_context(all)?;
        let (code, stage) = head.split_once(" (").with_context(all)?;
        let what = part("  what:   ").with_context(all)?;
        Ok(Refusal {
            code: code.to_owned(),
            stage: stage.trim_end_matches(')').to_owned(),
            reason: part("  reason: ").unwrap_or(what),
            next: part("  next:   ").with_context(all)?,
        })
    }

    /// The JSON objects that it printed on standard error with `--json`.
    ///
    /// # Errors
    /// Where a line is not JSON.
    pub fn json_lines(&self) -> Result<Vec<Value>> {
        self.stderr.lines().map(|l| serde_json::from_str(l).with_context(|| format!("{l:?}"))).collect()
    }

    /// The one failure that it printed with `--json`.
    ///
    /// # Errors
    /// Where a line is not JSON, or there is not exactly one failure with all its parts.
    pub fn json_refusal(&self) -> Result<Refusal> {
        let lines = self.json_lines()?;
        let failures: Vec<&Value> =
            lines.iter().filter(|l| text(l, "type").as_deref() == Some("failure")).collect();
        let [failure] = failures.as_slice() else {
            bail!("{} failures in:\n{}", failures.len(), self.stderr)
        };
        let part = |name: &str| text(failure, name).with_context(|| format!("no {name} in {failure}"));
        Ok(Refusal {
            code: part("code")?,
            stage: part("stage")?,
            reason: part("reason")?,
            next: part("next")?,
        })
    }
}

fn text(object: &Value, name: &str) -> Option<String> {
    object.get(name)?.as_str().map(str::to_owned)
}

/// A stream, read by a thread until its end.
#[derive(Clone)]
struct Output {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: Arc<JoinHandle<()>>,
}

impl Output {
    fn read(mut stream: impl Read + Send + 'static) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&bytes);
        let reader = std::thread::spawn(move || {
            let mut buffer = vec![0; 64 << 10];
            while let Ok(n) = stream.read(&mut buffer) {
                let Some(piece) = buffer.get(..n).filter(|p| !p.is_empty()) else { return };
                sink.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(piece);
            }
        });
        Output { bytes, reader: Arc::new(reader) }
    }

    fn ended(&self) -> bool {
        self.reader.is_finished()
    }

    fn bytes(&self) -> Vec<u8> {
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes()).into_owned()
    }
}

/// One of the machine's turns to run a VM: a lock that ends with the process, however it ends.
pub(crate) fn turn() -> Result<File> {
    let user = rustix::process::geteuid().as_raw();
    let files = (0..VMS_AT_ONCE)
        .map(|n| {
            let path = std::env::temp_dir().join(format!("cocoon-test-vm-{user}-{n}.lock"));
            File::options().create(true).append(true).open(&path).with_context(|| path.display().to_string())
        })
        .collect::<Result<Vec<File>>>()?;
    let mut free = None;
    wait_until(TURN_LIMIT, || {
        free = files.iter().position(|file| file.try_lock().is_ok());
        free.is_some()
    });
    let free = free.context("no VM of the other tests ended")?;
    files.into_iter().nth(free).context("no such lock")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Job {
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdin(Stdio::null());
        Job::start(command).unwrap()
    }

    #[test]
    fn a_job_that_hangs_is_given_up_and_killed() {
        let job = shell("echo $$ >&2; exec sleep 600");
        let error = job.finish(Duration::from_millis(200)).unwrap_err().to_string();
        let pid = error.lines().find_map(|l| l.parse().ok()).and_then(Pid::from_raw).unwrap();
        assert!(kill_process(pid, Signal::TERM).is_err(), "it still runs");

        let mut job = shell("echo words; exit 3");
        assert!(job.wait_for_stdout("other words", Duration::from_secs(10)).is_err());
        job.wait_for_stdout("words", Duration::from_secs(10)).unwrap();
        assert_eq!(job.finish(Duration::from_secs(10)).unwrap().status, Some(3));
    }

    #[test]
    fn refusals_are_read_as_people_and_as_programs_see_them() {
        let text = "[boot    ] x\ncocoon: A-CODE (pull)\n  what:   It failed.\n  next:   Mend it.\n";
        let json =
            r#"{"type":"failure","code":"A-CODE","stage":"pull","reason":"It failed.","next":"Mend it."}"#;
        let outcome = |stderr: &str| Outcome {
            status: Some(125),
            signal: None,
            stdout: Vec::new(),
            stderr: stderr.to_owned(),
            took: Duration::ZERO,
        };
        let refusal = outcome(text).refusal().unwrap();
        assert_eq!(refusal, outcome(json).json_refusal().unwrap());
        assert_eq!((refusal.code.as_str(), refusal.stage.as_str()), ("A-CODE", "pull"));
        assert!(outcome("all is well").refusal().is_err() && outcome("{}").json_refusal().is_err());
        assert!(outcome(&format!("{json}\n{json}")).json_refusal().is_err(), "said twice");
        assert!(outcome(&format!("{json}\nnot json")).json_refusal().is_err());
    }
}
