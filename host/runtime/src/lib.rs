//! Runtime configuration: what a RuntimeClass of Cocoon boots, and how.
//!
//! One TOML file a class, `/etc/cocoon/<class>.toml`, written by `cocoon node install` and named to the shim by containerd
//! (`ConfigPath` of the runtime's options). Host side: nothing in it is a secret and nothing of it is trusted by a guest.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Where the files of all classes are.
pub const FOLDER: &str = "/etc/cocoon";
/// The class whose file is read where containerd names none.
pub const DEFAULT_CLASS: &str = "cocoon";
/// Largest file that is read, in bytes.
const MAX_BYTES: u64 = 64 * 1024;

/// How pods of a class are protected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protection {
    /// The best that this machine has: SNP, TDX, else the simulated platform.
    #[default]
    Auto,
    /// AMD SEV-SNP.
    Snp,
    /// Intel TDX.
    Tdx,
    /// A virtual TPM over measured boot.
    Tpm,
    /// IBM Secure Execution.
    Se,
    /// Arm CCA.
    Cca,
    /// The simulated secure processor; protects from nobody.
    Sim,
}

/// What executes guests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Acceleration {
    /// KVM where it works, else emulation. Found out once per boot of the machine and kept in `state`.
    #[default]
    Auto,
    /// The kernel's hypervisor.
    Kvm,
    /// QEMU's emulation.
    Tcg,
}

/// A class. Every field has a default, so that an empty file is one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RuntimeConfig {
    /// How pods are protected.
    pub protection: Protection,
    /// Folder of the guest image: `manifest.json`, `vmlinuz`, `initrd.img`, `firmware.bin`.
    pub guest_image: PathBuf,
    /// The QEMU binary; looked for on the PATH where it is not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub qemu: Option<PathBuf>,
    /// What executes guests.
    pub acceleration: Acceleration,
    /// Folder of running pods: sockets and initdata, one folder a pod. In memory.
    pub state: PathBuf,
    /// Folder of what outlives pods: the layer cache, the simulated processor's keys.
    pub data: PathBuf,
    /// CPUs of a pod that asks for none.
    pub default_cpus: u32,
    /// Most CPUs of a pod.
    pub max_cpus: u32,
    /// Memory in MiB of a pod that asks for none, the guest's own included.
    pub default_memory_mib: u32,
    /// Memory in MiB that the guest itself takes beside what the pod asks for.
    pub overhead_memory_mib: u32,
    /// Most memory of a pod in MiB.
    pub max_memory_mib: u32,
    /// Seconds that a guest may take to announce itself.
    pub boot_timeout_s: u64,
    /// Seconds that a container may take to be created: attesting, fetching and pulling included.
    pub create_timeout_s: u64,
    /// Whether guests' consoles are kept, as `console.log` in the pod's state folder.
    pub console: bool,
    /// SNP only.
    pub snp: SnpConfig,
    /// TDX only.
    pub tdx: TdxConfig,
}

/// SNP's own settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SnpConfig {
    /// Guest policy (SEV-SNP ABI, 56860, table 9).
    pub policy: u64,
    /// ID block, base64 of 96 bytes; only together with `id_auth`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id_block: Option<String>,
    /// ID authentication block, base64 of 4096 bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id_auth: Option<String>,
}

/// TDX's own settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TdxConfig {
    /// Socket of the quote generation service: a path, or `vsock:PORT`.
    pub quote_socket: String,
}

impl Default for RuntimeConfig {
    fn default() -> Self {
        RuntimeConfig {
            protection: Protection::Auto,
            guest_image: "/usr/share/cocoon/guest".into(),
            qemu: None,
            acceleration: Acceleration::Auto,
            state: "/run/cocoon".into(),
            data: "/var/lib/cocoon".into(),
            default_cpus: 1,
            max_cpus: 64,
            default_memory_mib: 512,
            overhead_memory_mib: 192,
            max_memory_mib: 1024 * 1024,
            boot_timeout_s: 180,
            create_timeout_s: 600,
            console: false,
            snp: SnpConfig::default(),
            tdx: TdxConfig::default(),
        }
    }
}

impl Default for SnpConfig {
    fn default() -> Self {
        SnpConfig { policy: 0x3_0000, id_block: None, id_auth: None }
    }
}

impl Default for TdxConfig {
    fn default() -> Self {
        TdxConfig { quote_socket: "/var/run/tdx-qgs/qgs.socket".into() }
    }
}

/// Why a file is no runtime configuration.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// It is not what such a file holds.
    #[error("{}: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the line.
        reason: String,
    },
}

impl RuntimeConfig {
    /// Reads a file.
    ///
    /// # Errors
    /// [`Error`].
    pub fn read(path: &Path) -> Result<Self, Error> {
        use std::io::Read;
        let read = |source| Error::Read { path: path.into(), source };
        let malformed = |reason: String| Error::Malformed { path: path.into(), reason };
        let mut text = String::new();
        let mut file = std::fs::File::open(path).map_err(read)?.take(MAX_BYTES + 1);
        let length = file.read_to_string(&mut text).map_err(read)?;
        if u64::try_from(length).unwrap_or(u64::MAX) > MAX_BYTES {
            return Err(malformed(format!("larger than {MAX_BYTES} bytes")));
        }
        Self::parse(&text, path)
    }

    /// Reads a file's text. `path` is what errors call it.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn parse(text: &str, path: &Path) -> Result<Self, Error> {
        let malformed = |reason: String| Error::Malformed { path: path.into(), reason };
        let config: RuntimeConfig = toml::from_str(text).map_err(|e| malformed(e.to_string()))?;
        config.check().map_err(malformed)?;
        Ok(config)
    }

    /// The text of a file that says this.
    pub fn to_toml(&self) -> String {
        toml::to_string_pretty(self).unwrap_or_default()
    }

    fn check(&self) -> Result<(), String> {
        let absolute = [&self.guest_image, &self.state, &self.data];
        if let Some(path) = absolute.into_iter().chain(&self.qemu).find(|p| !p.is_absolute()) {
            return Err(format!("{} is not an absolute path", path.display()));
        }
        if self.default_cpus == 0 || self.default_cpus > self.max_cpus {
            return Err("default_cpus must be 1 to max_cpus".into());
        }
        if self.default_memory_mib < 128 || self.default_memory_mib > self.max_memory_mib {
            return Err("default_memory_mib must be 128 to max_memory_mib".into());
        }
        if self.snp.id_block.is_some() != self.snp.id_auth.is_some() {
            return Err("snp.id_block and snp.id_auth are given both or not at all".into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<RuntimeConfig, Error> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.toml");
        std::fs::write(&path, text).unwrap();
        RuntimeConfig::read(&path)
    }

    #[test]
    fn an_empty_file_is_the_default_and_files_round_trip() {
        assert_eq!(read("").unwrap(), RuntimeConfig::default());
        let config = RuntimeConfig { protection: Protection::Tpm, console: true, ..RuntimeConfig::default() };
        assert_eq!(read(&config.to_toml()).unwrap(), config);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, why) in [
            ("x = 1", "unknown field"),
            ("protection = \"none\"", "unknown variant"),
            ("state = \"run\"", "absolute"),
            ("default_cpus = 0", "default_cpus"),
            ("default_memory_mib = 1", "default_memory_mib"),
            ("[snp]\nid_block = \"x\"", "id_auth"),
            ("= =", "x.toml"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
        assert!(read(&"#".repeat(70_000)).unwrap_err().to_string().contains("larger"));
        assert!(RuntimeConfig::read(Path::new("/proc/cocoon-nothing")).is_err());
    }
}
