//! A registry for tests.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::support::Home;

/// Ends the registry when our end of its standard input closes, however this process ends.
const KEEPER: &str = r#""$@" & pid=$!; cat >/dev/null; kill -9 $pid; wait $pid 2>/dev/null"#;

/// A real registry on loopback.
pub struct Registry {
    keeper: Child,
    pub address: String,
    pub blobs: PathBuf,
}

impl Registry {
    pub fn start(home: &Home) -> Self {
        let blobs = home.path("registry");
        let config = home.file(
            "registry.yml",
            format!(
                "version: 0.1\nlog: {{level: info, accesslog: {{disabled: true}}}}\n\
                 storage: {{filesystem: {{rootdirectory: '{}'}}}}\nhttp: {{addr: '127.0.0.1:0'}}\n",
                blobs.display()
            ),
        );
        let mut keeper = Command::new("sh")
            .args(["-c", KEEPER, "keeper", "docker-registry", "serve", &config])
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(keeper.stderr.take().unwrap());
        let mut line = String::new();
        let address = loop {
            line.clear();
            assert_ne!(log.read_line(&mut line).unwrap(), 0, "the registry ended");
            if let Some(rest) = line.split("listening on ").nth(1) {
                break rest.split([' ', '"', ',']).next().unwrap().replace("[::]", "127.0.0.1");
            }
        };
        std::thread::spawn(move || drop(std::io::copy(&mut log, &mut std::io::sink())));
        Registry { keeper, address, blobs }
    }

    /// The file of a blob.
    pub fn blob(&self, digest: &str) -> PathBuf {
        let hex = digest.strip_prefix("sha256:").unwrap();
        self.blobs.join("docker/registry/v2/blobs/sha256").join(&hex[..2]).join(hex).join("data")
    }

    pub fn name(&self, image: &str) -> String {
        format!("{}/{image}", self.address)
    }

    pub fn has_tag(&self, repository: &str, tag: &str) -> bool {
        let base = self.blobs.join("docker/registry/v2/repositories").join(repository);
        base.join("_manifests/tags").join(tag).is_dir()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}
