//! The cluster as `kubectl` shows and changes it.

use std::io::Write;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::Cluster;

impl Cluster {
    /// `kubectl` of the cluster's administrator with these arguments, not started. Whoever starts it must be in the node's network.
    pub fn kubectl_command<A: AsRef<std::ffi::OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Command {
        let mut command = Command::new(self.programs().path("kubectl"));
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.node().folder())
            .env("KUBECONFIG", self.kubeconfig())
            .args(args)
            .stdin(Stdio::null());
        command
    }

    /// Runs `kubectl` to its end, whatever that is.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub fn try_kubectl(&self, args: &[&str]) -> Result<Output> {
        Ok(self.kubectl_command(args).output()?)
    }

    /// Runs `kubectl` to its end; gives its standard output.
    ///
    /// # Errors
    /// Where it does not succeed: with its standard error.
    pub fn kubectl(&self, args: &[&str]) -> Result<String> {
        succeeded(args, &self.try_kubectl(args)?)
    }

    /// `kubectl apply` of a manifest, JSON or YAML; gives what kubectl says.
    ///
    /// # Errors
    /// The API's refusal.
    pub fn apply(&self, manifest: &str) -> Result<String> {
        self.kubectl_with(&["apply", "-f", "-"], manifest.as_bytes())
    }

    /// [`Cluster::kubectl`] with standard input.
    ///
    /// # Errors
    /// As there.
    pub fn kubectl_with(&self, args: &[&str], input: &[u8]) -> Result<String> {
        let mut child = self
            .kubectl_command(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start kubectl")?;
        // One that ends without reading says why itself.
        let _ = child.stdin.take().context("no standard input")?.write_all(input);
        succeeded(args, &child.wait_with_output()?)
    }

    /// An object, or a list of them: `get(&["pod", "web"])`, `get(&["pods", "-A"])`.
    ///
    /// # Errors
    /// Where there is none.
    pub fn get(&self, what: &[&str]) -> Result<Value> {
        let args = [&["get", "-o", "json"], what].concat();
        Ok(serde_json::from_str(&self.kubectl(&args)?)?)
    }

    /// Waits until the object is as wished and gives it: what changes is watched. `kind` may hold more of kubectl's arguments,
    /// such as a namespace.
    ///
    /// # Errors
    /// Where it is not in time: with the object as it was last, and what happened.
    pub fn wait_for(
        &self,
        kind: &[&str],
        name: &str,
        limit: Duration,
        mut wished: impl FnMut(&Value) -> bool,
    ) -> Result<Value> {
        let began = Instant::now();
        let selector = format!("--field-selector=metadata.name={name}");
        let mut last = Value::Null;
        // A watch ends where the API is started again.
        while let Some(left) = limit.checked_sub(began.elapsed()) {
            let mut watch = Watch::start(
                self.kubectl_command(["get", "-o", "json", "--watch", selector.as_str()].iter().chain(kind)),
            )?;
            let until = Instant::now() + left;
            while let Some(object) = watch.next(until) {
                if wished(&object) {
                    return Ok(object);
                }
                last = object;
            }
        }
        bail!(
            "{kind:?} {name} is not as wished after {limit:?}: {}\n{}\n{}",
            last.get("status").map(Value::to_string).unwrap_or_default(),
            self.kubectl(&["get", "events", "-A", "--sort-by=.lastTimestamp"]).unwrap_or_default(),
            self.last_words()
        )
    }

    /// Waits until a pod's condition is true: `Ready`, `PodScheduled`, …
    ///
    /// # Errors
    /// As [`Cluster::wait_for`].
    pub fn wait_for_pod(&self, name: &str, condition: &str, limit: Duration) -> Result<Value> {
        self.wait_for(&["pods"], name, limit, |pod| holds(pod, condition))
    }

    /// Waits until a pod is over; gives its phase (`Succeeded`, `Failed`) and the pod.
    ///
    /// # Errors
    /// As [`Cluster::wait_for`].
    pub fn wait_for_end(&self, name: &str, limit: Duration) -> Result<(String, Value)> {
        let phase = |pod: &Value| pod.pointer("/status/phase").and_then(Value::as_str).map(str::to_owned);
        let pod = self.wait_for(&["pods"], name, limit, |pod| {
            matches!(phase(pod).as_deref(), Some("Succeeded" | "Failed"))
        })?;
        Ok((phase(&pod).unwrap_or_default(), pod))
    }
}

/// A field of an object's condition of this type, such as `reason`; empty where there is none.
pub fn condition<'a>(object: &'a Value, kind: &str, field: &str) -> &'a str {
    let conditions = object.pointer("/status/conditions").and_then(Value::as_array);
    let mut conditions = conditions.into_iter().flatten();
    let found = conditions.find(|c| c.get("type").and_then(Value::as_str) == Some(kind));
    found.and_then(|c| c.get(field)?.as_str()).unwrap_or_default()
}

/// Whether an object's condition of this type is true.
pub fn holds(object: &Value, kind: &str) -> bool {
    condition(object, kind, "status") == "True"
}

fn succeeded(args: &[&str], output: &Output) -> Result<String> {
    if !output.status.success() {
        bail!("kubectl {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Objects as they change; it ends with this.
struct Watch {
    child: Child,
    objects: mpsc::Receiver<Value>,
}

impl Watch {
    fn start(mut command: Command) -> Result<Self> {
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().context("cannot start kubectl")?;
        let output = child.stdout.take().context("no standard output")?;
        let (send, objects) = mpsc::channel();
        std::thread::spawn(move || {
            let stream =
                serde_json::Deserializer::from_reader(std::io::BufReader::new(output)).into_iter::<Value>();
            for object in stream.map_while(Result::ok) {
                if send.send(object).is_err() {
                    break;
                }
            }
        });
        Ok(Watch { child, objects })
    }

    /// The next object; none at the watch's end or when it is time.
    fn next(&mut self, until: Instant) -> Option<Value> {
        self.objects.recv_timeout(until.saturating_duration_since(Instant::now())).ok()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
