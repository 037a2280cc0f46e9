//! Real peers: containerd of several versions in namespaces of its own, a registry, and this crate's server.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;

use cocoon_grpc::{Client, Limits, Status, bind_unix};
use cocoon_snapshotter::{ImageUsers, Snapshotter, Store, server};
use protobuf::Message;
use protobuf::well_known_types::wrappers::{BytesValue, StringValue};
use tokio::sync::oneshot;

/// Versions that containerd says of itself, and whether its configuration is of the third version.
pub const VERSIONS: [&str; 3] = ["1.6", "1.7", "2"];

const NEEDED: [&str; 7] = ["docker-registry", "skopeo", "umoci", "unshare", "nsenter", "busybox", "runc"];

/// The folder of a version's programs; `None`, and the reason printed, where it or another peer is absent.
pub fn find(version: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = || std::env::split_paths(&path);
    if let Some(tool) = NEEDED.iter().find(|tool| !on_path().any(|dir| dir.join(tool).is_file())) {
        println!("skipped: {tool} is not installed");
        return None;
    }
    if !rustix::process::geteuid().is_root() {
        println!("skipped: containerd needs root");
        return None;
    }
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let peers = cache.or(home).unwrap_or_default().join("cocoon/peers");
    let unpacked = peers.join(format!("containerd-{version}")).join("usr/bin");
    let found = std::iter::once(unpacked).chain(on_path()).find(|dir| {
        let output = Command::new(dir.join("containerd")).arg("--version").output();
        let text = output.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default();
        let said = text.split_whitespace().nth(2).unwrap_or_default().trim_start_matches('v').to_owned();
        said.starts_with(&format!("{version}."))
    });
    if found.is_none() {
        println!("skipped: containerd {version} is not here");
    }
    found
}

/// Runs a program; gives what it said on both streams, and whether it succeeded.
pub fn run(program: impl AsRef<Path>, args: &[&str]) -> (bool, String) {
    let output = Command::new(program.as_ref()).args(args).stdin(Stdio::null()).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

/// Runs a program that must succeed.
pub fn must(program: impl AsRef<Path>, args: &[&str]) -> String {
    let (good, text) = run(program.as_ref(), args);
    assert!(good, "{} {args:?}: {text}", program.as_ref().display());
    text
}

/// A process that is killed when its standard input closes: when it is dropped or the test ends in whatever way.
pub struct Kept {
    keeper: Child,
    log: Option<JoinHandle<String>>,
}

impl Kept {
    fn start(mut command: Command, ready: impl Fn(&str) -> bool) -> Kept {
        let mut keeper =
            command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(keeper.stderr.take().unwrap());
        let mut seen = String::new();
        loop {
            let from = seen.len();
            assert!(log.read_line(&mut seen).unwrap() > 0, "{command:?} ended: {seen}");
            if ready(&seen[from..]) {
                break;
            }
        }
        // Somebody must read on, or the process blocks once the pipe is full.
        let log = std::thread::spawn(move || {
            let _ = log.read_to_string(&mut seen);
            seen
        });
        Kept { keeper, log: Some(log) }
    }

    /// Ends it; gives all that it said.
    pub fn end(mut self) -> String {
        drop(self.keeper.stdin.take());
        self.keeper.wait().unwrap();
        self.log.take().unwrap().join().unwrap()
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

/// A registry; gives it and its address.
pub fn registry(folder: &Path) -> (Kept, String) {
    let config = folder.join("registry.yml");
    fs::write(
        &config,
        format!(
            "version: 0.1\nlog: {{level: info, accesslog: {{disabled: true}}}}\n\
             storage: {{filesystem: {{rootdirectory: '{}'}}}}\nhttp: {{addr: '127.0.0.1:0'}}\n",
            folder.join("blobs").display()
        ),
    )
    .unwrap();
    let (sender, port) = std::sync::mpsc::channel();
    let mut command = Command::new("sh");
    command
        .args(["-c", r#""$@" & pid=$!; cat >/dev/null; kill -9 $pid; wait $pid 2>/dev/null"#, "keeper"])
        .args(["docker-registry", "serve"])
        .arg(&config)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default());
    let kept = Kept::start(command, |line| match line.split_once("listening on 127.0.0.1:") {
        Some((_, rest)) => {
            let port: String = rest.chars().take_while(char::is_ascii_digit).collect();
            sender.send(port).unwrap();
            true
        }
        None => false,
    });
    (kept, format!("127.0.0.1:{}", port.recv().unwrap()))
}

/// Pushes an image of three layers whose config names this user; gives its reference and its layers' digests.
pub fn push(folder: &Path, registry: &str, name: &str, user: &str) -> (String, Vec<String>) {
    let work = tempfile::tempdir_in(folder).unwrap();
    let layout = work.path().join("layout");
    let image = format!("{}:image", layout.display());
    must("umoci", &["init", "--layout", &layout.display().to_string()]);
    must("umoci", &["new", "--image", &image]);
    for (path, content) in [
        ("/bin/sh", "not really"),
        ("/etc/passwd", "root:x:0:0::/:/bin/sh\nweb:x:1234:1234::/:\n"),
        ("/data/x", name),
    ] {
        let file = work.path().join("file");
        fs::write(&file, content).unwrap();
        // The same content is the same layer.
        fs::File::options().write(true).open(&file).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
        must("umoci", &["insert", "--image", &image, &file.display().to_string(), path]);
    }
    must("umoci", &["config", "--image", &image, "--config.user", user, "--config.cmd", "/bin/sh"]);
    let reference = format!("{registry}/{name}:latest");
    must(
        "skopeo",
        &["copy", "-q", "--dest-tls-verify=false", &format!("oci:{image}"), &format!("docker://{reference}")],
    );
    let manifest = must("skopeo", &["inspect", "--raw", &format!("oci:{image}")]);
    let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    let layers =
        manifest["layers"].as_array().unwrap().iter().map(|l| l["digest"].as_str().unwrap().to_owned());
    (reference, layers.collect())
}

/// This crate's server, on a thread of its own.
pub struct Serving {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Serving {
    pub fn start(folder: &Path, containerd: Option<PathBuf>) -> Serving {
        let (store, socket) =
            (Store::open(&folder.join("snapshotter")).unwrap(), folder.join("snapshotter.sock"));
        let (stop, stopped) = oneshot::channel();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = bind_unix(&socket).unwrap();
                let snapshotter = Snapshotter::new(store, containerd.map(ImageUsers::new));
                ready.send(()).unwrap();
                let stopped = async { stopped.await.unwrap_or_default() };
                server(snapshotter, Limits::default()).serve(listener, stopped).await.unwrap();
            });
        });
        is_ready.recv().unwrap();
        Serving { stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        drop(self.stop.take());
        let _ = self.thread.take().unwrap().join();
    }
}

/// A containerd with the snapshotter `cocoon`, which CRI uses.
pub struct Containerd {
    pub ctr: PathBuf,
    pub socket: PathBuf,
    /// The first process of its namespaces.
    init: String,
    kept: Option<Kept>,
}

/// The first process of containerd's namespaces. What shims keep in `/run` is not this machine's.
const INIT: &str = r#"mount -t tmpfs -o mode=755 tmpfs /run && { "$@" & cat >/dev/null; }"#;

impl Containerd {
    pub fn start(programs: &Path, folder: &Path) -> Containerd {
        let socket = folder.join("containerd.sock");
        let two = programs.to_string_lossy().contains("containerd-2");
        let cri = if two {
            "version = 3\n[plugins.'io.containerd.cri.v1.images']\nsnapshotter = 'cocoon'\n\
             [[plugins.'io.containerd.transfer.v1.local'.unpack_config]]\n\
             platform = 'linux/amd64'\nsnapshotter = 'cocoon'\n"
        } else {
            "version = 2\n[plugins.'io.containerd.grpc.v1.cri'.containerd]\nsnapshotter = 'cocoon'\n"
        };
        let (root, state) = (folder.join("root"), folder.join("state"));
        let config = folder.join("config.toml");
        let (own, snapshotter) = (socket.display(), folder.join("snapshotter.sock"));
        let text = format!(
            "{cri}[grpc]\naddress = '{own}'\n[debug]\nlevel = 'debug'\n\
             [proxy_plugins.cocoon]\ntype = 'snapshot'\naddress = '{}'\n",
            snapshotter.display()
        );
        // Values of the first table must come first.
        let (version, rest) = text.split_once('\n').unwrap();
        let head = format!("{version}\nroot = '{}'\nstate = '{}'\n", root.display(), state.display());
        fs::write(&config, format!("{head}{rest}")).unwrap();
        let path = std::env::var("PATH").unwrap();
        let mut command = Command::new("unshare");
        command
            .args([
                "--mount",
                "--pid",
                "--fork",
                "--kill-child=KILL",
                "--mount-proc",
                "--propagation",
                "private",
            ])
            .args(["sh", "-c", INIT, "init"])
            .arg(programs.join("containerd"))
            .arg("--config")
            .arg(&config)
            .env("PATH", format!("{}:{path}", programs.display()));
        let kept = Kept::start(command, |line| line.contains("containerd successfully booted"));
        let keeper = kept.keeper.id();
        let init =
            fs::read_to_string(format!("/proc/{keeper}/task/{keeper}/children")).unwrap().trim().to_owned();
        Containerd { ctr: programs.join("ctr"), socket, init, kept: Some(kept) }
    }

    /// `ctr` in a namespace of containerd's.
    pub fn ctr(&self, namespace: &str, args: &[&str]) -> (bool, String) {
        let (ctr, socket) = (self.ctr.display().to_string(), self.socket.display().to_string());
        // It shares fifos with containerd's shims.
        let there = ["--mount", "--pid", "--target", &self.init, "--", &ctr, "--address", &socket];
        run("nsenter", &[&there[..], &["--namespace", namespace], args].concat())
    }

    /// `ctr`, which must succeed.
    pub fn must(&self, namespace: &str, args: &[&str]) -> String {
        let (good, text) = self.ctr(namespace, args);
        assert!(good, "ctr {args:?}: {text}");
        text
    }

    /// CRI's PullImage. On the wire a request is a message in a message with the name; the answer holds one text.
    pub fn pull(&self, reference: &str) -> Result<String, Status> {
        let image = StringValue { value: reference.into(), ..StringValue::default() };
        let request = BytesValue { value: image.write_to_bytes().unwrap(), ..BytesValue::default() };
        let client = Client::unix(&self.socket).with_timeout(std::time::Duration::from_secs(120));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        loop {
            let call = client.unary("/runtime.v1.ImageService/PullImage", &request, 1 << 20);
            match runtime.block_on(call) {
                // CRI is later than what containerd says when it has booted.
                Err(status) if status.message.contains("not initialized yet") => {}
                other => return other.map(|answer: StringValue| answer.value),
            }
        }
    }

    /// Names and parents of the snapshots in a namespace.
    pub fn snapshots(&self, namespace: &str) -> Vec<Vec<String>> {
        let text = self.must(namespace, &["snapshots", "--snapshotter", "cocoon", "ls"]);
        text.lines().skip(1).map(|l| l.split_whitespace().map(str::to_owned).collect()).collect()
    }

    /// Removes all images of a namespace and waits until what only they needed is gone.
    pub fn remove_images(&self, namespace: &str) {
        let names = self.must(namespace, &["images", "ls", "-q"]);
        let mut args = vec!["images", "rm", "--sync"];
        args.extend(names.lines());
        self.must(namespace, &args);
    }

    /// Ends it as a crash would; gives its log.
    pub fn kill(mut self) -> String {
        self.kept.take().unwrap().end()
    }
}
