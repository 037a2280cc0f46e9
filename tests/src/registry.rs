//! A real registry on loopback.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};
use cocoon_image::Digest;
use tempfile::TempDir;

/// Keeps the registry's life tied to ours without signals: when our end of standard input closes, because the
/// fixture was dropped or because the test's process died in whatever way, the registry is killed.
const KEEPER: &str = r#""$@" & pid=$!; cat >/dev/null; kill -9 $pid; wait $pid 2>/dev/null"#;

/// A running `docker-registry`, plain HTTP, on a port of its own choice. Its blobs vanish with it.
pub struct Registry {
    keeper: Child,
    folder: TempDir,
    address: String,
    port: u16,
}

impl Registry {
    /// Starts one and waits until it says that it listens.
    ///
    /// # Errors
    /// Where `docker-registry` is not installed or ends at once: with the last it said.
    pub fn start() -> Result<Self> {
        Self::start_with("127.0.0.1", "")
    }

    /// [`Registry::start`] on another address than loopback.
    ///
    /// # Errors
    /// As there.
    pub fn start_on(address: &str) -> Result<Self> {
        Self::start_with(address, "")
    }

    /// [`Registry::start`] with TLS: files of a certificate and its key, PEM.
    ///
    /// # Errors
    /// As there.
    pub fn start_tls(certificate: &Path, key: &Path) -> Result<Self> {
        let tls = format!(", tls: {{certificate: '{}', key: '{}'}}", certificate.display(), key.display());
        Self::start_with("127.0.0.1", &tls)
    }

    fn start_with(address: &str, more: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let config = folder.path().join("config.yml");
        let blobs = folder.path().join("blobs");
        fs::write(
            &config,
            format!(
                "version: 0.1\n\
                 log: {{level: info, accesslog: {{disabled: true}}}}\n\
                 storage: {{filesystem: {{rootdirectory: '{}'}}, delete: {{enabled: true}}}}\n\
                 http: {{addr: '{address}:0'{more}}}\n",
                blobs.display()
            ),
        )?;
        let mut keeper = Command::new("sh")
            .args(["-c", KEEPER, "keeper", "docker-registry", "serve"])
            .arg(&config)
            // Variables named REGISTRY_… would change its configuration.
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start sh")?;
        let mut log = BufReader::new(keeper.stderr.take().context("no standard error")?);
        let mut line = String::new();
        loop {
            let before = line.clone();
            line.clear();
            if log.read_line(&mut line)? == 0 || line.contains("not found") {
                drop(keeper.stdin.take());
                let _ = keeper.wait();
                bail!("docker-registry did not start: {before}{line}");
            }
            if let Some(port) = listening_port(&line, address) {
                // Somebody must read on, or the registry blocks once the pipe is full.
                std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
                return Ok(Registry { keeper, folder, address: address.to_owned(), port });
            }
        }
    }

    /// `127.0.0.1:PORT`, as it stands at the front of references, or what it listens on instead.
    pub fn address(&self) -> String {
        format!("{}:{}", self.address, self.port)
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The reference of an image in this registry, e.g. of `demo:plain`.
    pub fn reference(&self, name: &str) -> String {
        format!("{}/{name}", self.address())
    }

    /// The folder that holds its blobs; tests of damaged images change files there.
    pub fn blobs(&self) -> std::path::PathBuf {
        self.folder.path().join("blobs/docker/registry/v2/blobs")
    }

    /// A blob vanishes.
    ///
    /// # Errors
    /// Where it is not there.
    pub fn lose(&self, digest: &Digest) -> Result<()> {
        Ok(fs::remove_dir_all(self.blob(digest))?)
    }

    /// A bit in the middle of a blob flips; its length stays.
    ///
    /// # Errors
    /// Where it is not there or empty.
    pub fn alter(&self, digest: &Digest) -> Result<()> {
        let file = self.blob(digest).join("data");
        let mut bytes = fs::read(&file)?;
        let middle = bytes.len() / 2;
        *bytes.get_mut(middle).context("an empty blob")? ^= 1;
        Ok(fs::write(file, bytes)?)
    }

    fn blob(&self, digest: &Digest) -> std::path::PathBuf {
        let hex = digest.hex();
        self.blobs().join("sha256").join(hex.get(..2).unwrap_or_default()).join(hex)
    }
}

/// From a log line such as `… msg="listening on 127.0.0.1:43447" …`.
fn listening_port(line: &str, address: &str) -> Option<u16> {
    let rest = line.split(&format!("listening on {address}:")).nth(1)?;
    let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

impl Drop for Registry {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn the_port_is_read_from_the_log() {
        assert_eq!(listening_port(r#"msg="listening on 127.0.0.1:43447" go.v=1"#, "127.0.0.1"), Some(43447));
        assert_eq!(listening_port("listening on 127.0.0.1:99999", "127.0.0.1"), None);
        assert_eq!(listening_port("redis not configured", "127.0.0.1"), None);
    }

    #[test]
    fn it_answers_while_it_lives_and_leaves_nothing() {
        if let Some(tool) = crate::missing(&["docker-registry"]) {
            println!("skipped: {tool} is not installed");
            return;
        }
        let registry = Registry::start().unwrap();
        let (address, folder) = (registry.address(), registry.folder.path().to_owned());
        TcpStream::connect(&address).unwrap();
        drop(registry);
        assert!(TcpStream::connect(&address).is_err() && !folder.exists());
    }
}
