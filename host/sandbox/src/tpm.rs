//! The vTPM platform's TPM: one software TPM for each pod, with an endorsement key that this node's own authority certifies.
//!
//! The authority's key lies in a folder of this host, so its word is worth what this host's is: nothing, to somebody who does
//! not trust the host. It says that a quote was made by a TPM of this node and by no other program. A Trustee believes it
//! only where its owner says so; `cocoon run` tells the Trustee inside itself to, as simulated.

use std::ffi::{OsStr, OsString};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use cocoon_stage::{Code, Failure, Stage};
use cocoon_vmm::{Platform, Swtpm};

use crate::run_dir::disk;

/// Longest that making a TPM's keys and certificates may take.
const LIMIT: Duration = Duration::from_secs(60);
/// The authority's certificate by which endorsement keys are issued.
const ISSUER: &str = "issuer.pem";
/// That certificate's own issuer.
const ROOT: &str = "swtpm-localca-rootca-cert.pem";

/// A node's authority for endorsement keys: a folder with its key and certificates, of which this user alone may read.
#[derive(Clone, Debug)]
pub struct TpmAuthority {
    dir: PathBuf,
}

impl TpmAuthority {
    /// Opens the authority in a folder; where there is none, makes one with a throw-away TPM.
    ///
    /// # Errors
    /// `BOOT-QEMU-MISSING` where swtpm's programs are not installed, `BOOT-PLATFORM-UNAVAILABLE` with their own words,
    /// `HOST-UNSUPPORTED` for the folder.
    pub async fn open_or_create(dir: &Path) -> Result<Self, Failure> {
        TpmAuthority::open_within(dir, dir).await
    }

    /// The same; what is needed on the way only lies in `scratch`, which goes with its pod, however that ends.
    async fn open_within(dir: &Path, scratch: &Path) -> Result<Self, Failure> {
        let authority = TpmAuthority { dir: dir.to_owned() };
        if !dir.join("ca").join(ISSUER).is_file() {
            private(&dir.join("ca")).map_err(disk)?;
            let first = tempfile::Builder::new().prefix(".first-").tempdir_in(scratch).map_err(disk)?;
            authority.manufacture(first.path(), first.path()).await?;
        }
        Ok(authority)
    }

    /// Certificates, PEM: that which issues endorsement keys, and its root.
    ///
    /// # Errors
    /// `HOST-UNSUPPORTED` where they cannot be read.
    pub fn certificates(&self) -> Result<Vec<Vec<u8>>, Failure> {
        let read = |name| std::fs::read(self.dir.join("ca").join(name));
        let mut found = vec![read(ISSUER).map_err(disk)?];
        // Absent where the node's owner gave the authority a certificate of their own.
        found.extend(read(ROOT).ok());
        Ok(found)
    }

    /// Makes a TPM's state in an empty folder: keys, endorsement certificates, the SHA-256 bank alone. The program's
    /// configuration lies in `scratch` meanwhile.
    async fn manufacture(&self, state: &Path, scratch: &Path) -> Result<(), Failure> {
        let config = tempfile::Builder::new().prefix(".setup-").tempdir_in(scratch).map_err(disk)?;
        let at = |name: &str| config.path().join(name);
        let ca = self.dir.join("ca");
        let file = |path: &Path, lines: &[(&str, &Path)]| {
            let mut text = Vec::new();
            for (name, value) in lines {
                text.extend_from_slice(name.as_bytes());
                text.extend_from_slice(OsStr::as_encoded_bytes(value.as_os_str()));
                text.push(b'\n');
            }
            write_private(path, &text)
        };
        file(
            &at("ca.conf"),
            &[
                ("statedir = ", &ca),
                ("signingkey = ", &ca.join("signkey.pem")),
                ("issuercert = ", &ca.join(ISSUER)),
                ("certserial = ", &ca.join("serial")),
            ],
        )
        .map_err(disk)?;
        write_private(
            &at("ca.options"),
            b"--platform-manufacturer Cocoon\n--platform-version 1\n--platform-model vTPM\n",
        )
        .map_err(disk)?;
        file(
            &at("setup.conf"),
            &[
                ("create_certs_tool = ", Path::new("swtpm_localca")),
                ("create_certs_tool_config = ", &at("ca.conf")),
                ("create_certs_tool_options = ", &at("ca.options")),
            ],
        )
        .map_err(disk)?;
        let mut command = Command::new("swtpm_setup");
        command
            .args(["--tpm2", "--create-ek-cert", "--pcr-banks", "sha256", "--tpmstate"])
            .arg(state)
            .arg("--config")
            .arg(at("setup.conf"));
        let unavailable = |reason: String| {
            Failure::new(Code::BootPlatformUnavailable, format!("swtpm_setup: {reason}")).at(Stage::Boot)
        };
        let output = match tokio::time::timeout(LIMIT, cocoon_vmm::finished(command)).await {
            Err(_) => return Err(unavailable(format!("not done within {LIMIT:?}"))),
            Ok(Err(e)) if e.kind() == std::io::ErrorKind::NotFound => {
                return Err(cocoon_vmm::Error::TpmMissing("swtpm_setup").into());
            }
            Ok(Err(e)) => return Err(unavailable(e.to_string())),
            Ok(Ok(output)) => output,
        };
        let (status, said) = output;
        if status.success() {
            return Ok(());
        }
        let last: Vec<&str> = said.lines().rev().filter(|line| !line.trim().is_empty()).take(3).collect();
        let last: String = last.into_iter().rev().collect::<Vec<_>>().join("; ");
        Err(unavailable(last.chars().filter(|c| !c.is_control()).take(400).collect()))
    }
}

/// A pod's TPM, running. Dropping it ends it.
pub(crate) struct PodTpm {
    _swtpm: Swtpm,
    socket: PathBuf,
    vars: PathBuf,
}

impl PodTpm {
    /// Makes and starts a TPM whose state goes with the pod's folder, and a copy of the firmware's variable store.
    pub(crate) async fn start(dir: &Path, vars: &Path, run_dir: &Path) -> Result<Self, Failure> {
        let authority = TpmAuthority::open_within(dir, run_dir).await?;
        let (state, socket) = (run_dir.join("tpm"), run_dir.join("tpm.sock"));
        private(&state).map_err(disk)?;
        authority.manufacture(&state, run_dir).await?;
        let own = run_dir.join("vars.fd");
        let store = std::fs::read(vars).map_err(|e| {
            let reason = format!("{}: {e} (Debian package ovmf)", vars.display());
            Failure::new(Code::BootQemuMissing, reason)
        })?;
        write_private(&own, &store).map_err(disk)?;
        let swtpm = Swtpm::start(&state, &socket).await?;
        Ok(PodTpm { _swtpm: swtpm, socket, vars: own })
    }

    /// QEMU's part of it.
    pub(crate) fn platform(&self) -> Platform {
        Platform::Tpm { socket: self.socket.clone(), vars: self.vars.clone() }
    }
}

/// The variable store that belongs to a firmware's code: `OVMF_CODE_4M.fd` has `OVMF_VARS_4M.fd` beside it.
pub(crate) fn variables_of(code: &Path) -> PathBuf {
    let name: OsString = match code.file_name().and_then(OsStr::to_str) {
        Some(name) => name.replace("CODE", "VARS").into(),
        None => OsString::new(),
    };
    code.with_file_name(name)
}

fn private(dir: &Path) -> std::io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

fn write_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::io::Write;
    let mut file = std::fs::OpenOptions::new().create_new(true).write(true).mode(0o600).open(path)?;
    file.write_all(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn installed() -> bool {
        let there = ["/usr/bin/swtpm", "/usr/bin/swtpm_setup"].iter().all(|path| Path::new(path).exists());
        if !there {
            println!("skipped: swtpm is not installed");
        }
        there
    }

    #[tokio::test]
    async fn pods_of_a_node_have_tpms_of_their_own_and_one_authority() {
        if !installed() {
            return;
        }
        let base = tempfile::tempdir().unwrap();
        let dir = base.path().join("tpm");
        let authority = TpmAuthority::open_or_create(&dir).await.unwrap();
        let certificates = authority.certificates().unwrap();
        assert_eq!(certificates.len(), 2);
        let vars = base.path().join("OVMF_VARS.fd");
        std::fs::write(&vars, "variables").unwrap();
        let mut pods = Vec::new();
        for name in ["one", "two"] {
            let run = base.path().join(name);
            private(&run).unwrap();
            let tpm = PodTpm::start(&dir, &vars, &run).await.unwrap();
            let Platform::Tpm { socket, vars } = tpm.platform() else { unreachable!() };
            assert_eq!(std::fs::read(&vars).unwrap(), b"variables");
            // It listens already; QEMU's first words are not awaited here.
            std::os::unix::net::UnixStream::connect(&socket).unwrap();
            pods.push((tpm, run));
        }
        let states: Vec<Vec<u8>> =
            pods.iter().map(|(_, run)| std::fs::read(run.join("tpm/tpm2-00.permall")).unwrap()).collect();
        assert_ne!(states[0], states[1]);
        // The same authority as before, and nothing left beside it.
        assert_eq!(TpmAuthority::open_or_create(&dir).await.unwrap().certificates().unwrap(), certificates);
        let left: Vec<_> = std::fs::read_dir(&dir).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["ca"]);
        // What the setup needs on its way lies with the pod, so that a kill leaves nothing with the authority.
        let state = base.path().join("three");
        private(&state).unwrap();
        let nowhere = base.path().join("nowhere");
        assert!(authority.manufacture(&state, &nowhere).await.is_err());
        let pids: Vec<u32> = pods.iter().map(|(tpm, _)| tpm._swtpm.pid()).collect();
        drop(pods);
        for pid in pids {
            let gone = || !Path::new(&format!("/proc/{pid}/cmdline")).exists();
            let begun = std::time::Instant::now();
            while !gone() && begun.elapsed() < Duration::from_secs(5) {
                tokio::task::yield_now().await;
            }
            assert!(gone(), "swtpm {pid} outlives its pod");
        }
    }

    #[tokio::test]
    async fn what_the_setup_program_says_is_the_reason() {
        if !installed() {
            return;
        }
        let base = tempfile::tempdir().unwrap();
        let dir = base.path().join("tpm");
        // Its state cannot be made where a file is in the way.
        private(&dir).unwrap();
        std::fs::write(dir.join("ca"), "").unwrap();
        let failure = TpmAuthority::open_or_create(&dir).await.unwrap_err();
        assert_eq!(failure.code, Code::HostUnsupported, "{failure}");
    }

    #[test]
    fn a_firmware_has_its_variables_beside_it() {
        let of = |code: &str| variables_of(Path::new(code)).display().to_string();
        assert_eq!(of("/usr/share/OVMF/OVMF_CODE_4M.fd"), "/usr/share/OVMF/OVMF_VARS_4M.fd");
    }
}
