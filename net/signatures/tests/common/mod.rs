//! A real registry with an image in it, and how the tests decide.
#![allow(dead_code)] // Each test program uses its part.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cocoon_image::{Digest, Reference};
use cocoon_registry::{Auth, Client};
use cocoon_signature::Subject;
use cocoon_signature::policy::{Decision, Policy};
use cocoon_signatures::{Places, check};
use cocoon_stage::Failure;
use serde_json::{Value, json};

pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Whether a program is here; says so where it is not.
pub fn has(program: &str) -> bool {
    let found =
        Command::new(program).arg("--help").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !found {
        println!("skipped: no {program}");
    }
    found
}

/// A docker-registry that ends with the test.
pub struct Registry {
    child: Child,
    dir: tempfile::TempDir,
    pub address: String,
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Registry {
    pub fn start() -> Option<Registry> {
        if !has("docker-registry") {
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = format!("127.0.0.1:{port}");
        let root = dir.path().join("registry");
        let config = dir.path().join("registry.yml");
        let text = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {root:?}}}, delete: {{enabled: true}}}}\nhttp: {{addr: {address:?}}}\n"
        );
        std::fs::write(&config, text).unwrap();
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let registry = Registry { child, dir, address };
        for _ in 0..200 {
            if TcpStream::connect(&registry.address).is_ok() {
                return Some(registry);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("docker-registry does not answer");
    }

    /// A folder that ends with the test.
    pub fn dir(&self, name: &str) -> PathBuf {
        let dir = self.dir.path().join(name);
        std::fs::create_dir_all(&dir).unwrap();
        dir
    }

    pub fn reference(&self, name: &str) -> Reference {
        Reference::parse(&format!("{}/{name}", self.address)).unwrap()
    }

    /// Pushes an image without layers, different for each text, as `app:v1`.
    pub async fn push(&self, text: &str) -> Digest {
        let reference = self.reference("app:v1");
        let config =
            json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []},
            "config": {"Labels": {"text": text}}})
            .to_string();
        let client = client();
        let digest = client.push_blob(&reference, config.clone().into()).await.unwrap();
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST,
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest, "size": config.len()},
            "layers": []});
        client.push_manifest(&reference, MANIFEST, manifest.to_string().into()).await.unwrap()
    }

    /// Decides on `app:v1` with that digest by one requirement.
    pub async fn decide(
        &self,
        digest: Digest,
        requirement: Value,
        places: &Places,
    ) -> Result<Decision, Failure> {
        let reference = self.reference("app:v1");
        let policy = json!({"default": [requirement]}).to_string();
        let policy = Policy::parse(policy.as_bytes()).unwrap();
        let subject = Subject { reference: &reference, digests: &[digest] };
        check(&client(), &http(), places, &subject, policy.for_image(&reference), now()).await
    }
}

pub fn http() -> cocoon_http::Client {
    cocoon_http::Client::new(cocoon_http::Options::default()).unwrap()
}

pub fn client() -> Client {
    let retry =
        cocoon_registry::Retry { attempts: 2, pause: Duration::from_millis(10), ..Default::default() };
    Client::new(http(), Auth::default()).with_retry(retry)
}

pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

pub fn base64(bytes: impl AsRef<[u8]>) -> String {
    STANDARD.encode(bytes)
}

/// Runs a program to its good end.
pub fn run(program: &str, args: &[&str], env: &[(&str, &Path)], dir: &Path) -> Vec<u8> {
    let mut command = Command::new(program);
    command.args(args).current_dir(dir).env("COSIGN_PASSWORD", "").stdin(Stdio::null());
    for (name, value) in env {
        command.env(name, value);
    }
    let out = command.output().unwrap();
    assert!(out.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    out.stdout
}

/// A web server over a folder, as look-aside places are; it tells which paths were asked for.
pub struct Web {
    pub address: String,
    pub asked: Arc<Mutex<Vec<String>>>,
    over: Arc<AtomicBool>,
}

impl Drop for Web {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(&self.address);
    }
}

impl Web {
    /// Serves the folder; where `status` is given, that is the answer to everything.
    pub fn serve(root: PathBuf, status: Option<&'static str>) -> Web {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let web = Web {
            address: listener.local_addr().unwrap().to_string(),
            asked: Arc::default(),
            over: Arc::default(),
        };
        let (asked, over) = (web.asked.clone(), web.over.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if over.load(Ordering::SeqCst) {
                    return;
                }
                let _ = answer(stream.unwrap(), &root, status, &asked);
            }
        });
        web
    }
}

fn answer(
    mut stream: TcpStream,
    root: &Path,
    status: Option<&str>,
    asked: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut first = String::new();
    reader.read_line(&mut first)?;
    let mut line = String::new();
    while reader.read_line(&mut line)? > 2 {
        line.clear();
    }
    let path = first.split(' ').nth(1).unwrap_or("/").to_owned();
    asked.lock().unwrap().push(path.clone());
    let body = std::fs::read(root.join(path.trim_start_matches('/'))).ok();
    // What lies under `moved/` is found without it; `circle/` leads to itself.
    let location = match path.strip_prefix("/moved") {
        Some(rest) => Some(rest.to_owned()),
        None => path.starts_with("/circle/").then(|| path.clone()),
    };
    if let Some(location) = location {
        let head = "HTTP/1.1 302 Found\r\ncontent-length: 0\r\nconnection: close\r\nlocation:";
        return write!(stream, "{head} {location}\r\n\r\n");
    }
    let (status, body) = match (status, body) {
        (Some(status), _) => (status, Vec::new()),
        (None, Some(body)) => ("200 OK", body),
        (None, None) => ("404 Not Found", Vec::new()),
    };
    write!(stream, "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len())?;
    stream.write_all(&body)
}
