//! Finding QEMU and asking it about itself.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::Error;
use crate::Machine;
use crate::keeper::{Copy, Kept};

/// Where some distributions keep the binary of the machine's own architecture, which has no name of its own.
const OWN: &str = "/usr/libexec/qemu-kvm";

/// How long QEMU may take to print a version or a list.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// QEMU's version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// Major number; 9 brought SEV-SNP, 10 TDX.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Patch level.
    pub micro: u32,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.micro)
    }
}

/// A QEMU binary.
#[derive(Clone, Debug)]
pub struct Qemu {
    path: PathBuf,
}

impl Qemu {
    /// The QEMU of x86 machines.
    ///
    /// # Errors
    /// [`Error::QemuMissing`].
    pub fn find() -> Result<Self, Error> {
        Qemu::find_for(Machine::Q35)
    }

    /// The QEMU that has this machine model: of the names below the first that is in the `PATH`.
    ///
    /// # Errors
    /// [`Error::QemuMissing`].
    pub fn find_for(machine: Machine) -> Result<Self, Error> {
        let (name, architecture) = match machine {
            Machine::Q35 => ("qemu-system-x86_64", "x86_64"),
            Machine::S390Ccw => ("qemu-system-s390x", "s390x"),
            Machine::Virt => ("qemu-system-aarch64", "aarch64"),
        };
        let path = std::env::var_os("PATH").unwrap_or_default();
        let in_path = std::env::split_paths(&path).map(|dir| dir.join(name));
        let own = (std::env::consts::ARCH == architecture).then(|| OWN.into());
        let found = in_path.chain(own).find(|p| p.is_absolute() && p.is_file());
        found.map(Qemu::at).ok_or_else(|| Error::QemuMissing(name.into()))
    }

    /// The QEMU at a path, not looked at yet.
    pub fn at(path: PathBuf) -> Self {
        Qemu { path }
    }

    /// The binary.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its version.
    ///
    /// # Errors
    /// [`Error::QemuMissing`] or [`Error::Inspect`].
    pub async fn version(&self) -> Result<Version, Error> {
        let text = self.ask(&["--version"]).await?;
        parse_version(&text).ok_or_else(|| self.fail("prints no version"))
    }

    /// Whether the device model is compiled in.
    ///
    /// # Errors
    /// As [`Qemu::version`].
    pub async fn has_device(&self, name: &str) -> Result<bool, Error> {
        // The whole list is longer than what is kept of an output; a device's own help is short.
        let mut child = self.start(&["-device", &format!("{name},help")]).await?;
        let status = self.finish(&mut child).await?;
        Ok(status && child.output.text().contains(name))
    }

    /// Whether the object type (`memory-backend-memfd`, `sev-snp-guest`, …) is compiled in.
    ///
    /// # Errors
    /// As [`Qemu::version`].
    pub async fn has_object(&self, name: &str) -> Result<bool, Error> {
        Ok(listed(&self.ask(&["-object", "help"]).await?, name))
    }

    /// Whether the network backend (`user`, `tap`, …) is compiled in.
    ///
    /// # Errors
    /// As [`Qemu::version`].
    pub async fn has_netdev(&self, name: &str) -> Result<bool, Error> {
        Ok(listed(&self.ask(&["-netdev", "help"]).await?, name))
    }

    async fn ask(&self, args: &[&str]) -> Result<String, Error> {
        let mut child = self.start(args).await?;
        match self.finish(&mut child).await? {
            true => Ok(child.output.text()),
            false => Err(self.fail(&child.errors.text())),
        }
    }

    async fn start(&self, args: &[&str]) -> Result<Kept, Error> {
        let mut command = Command::new(&self.path);
        command.args(args);
        Kept::start(command, std::process::Stdio::null(), Copy { file: None, limit: 0 }).await.map_err(|e| {
            match e.kind() {
                std::io::ErrorKind::NotFound => Error::QemuMissing(self.path.clone()),
                _ => Error::Spawn(e),
            }
        })
    }

    async fn finish(&self, child: &mut Kept) -> Result<bool, Error> {
        match tokio::time::timeout(ANSWER_LIMIT, child.wait()).await {
            Ok(Ok(status)) => Ok(status.success()),
            Ok(Err(error)) => Err(self.fail(&error.to_string())),
            Err(_) => Err(self.fail("does not answer")),
        }
    }

    fn fail(&self, reason: &str) -> Error {
        Error::Inspect { program: self.path.clone(), reason: reason.to_owned() }
    }
}

fn listed(list: &str, name: &str) -> bool {
    list.split_whitespace().any(|word| word == name)
}

/// From "QEMU emulator version 7.2.22 (Debian …)".
fn parse_version(text: &str) -> Option<Version> {
    let (_, rest) = text.split_once("version ")?;
    let numbers = rest.split(|c: char| !c.is_ascii_digit() && c != '.').next()?;
    let mut parts = numbers.split('.').map(|n| n.parse().ok());
    Some(Version { major: parts.next()??, minor: parts.next()??, micro: parts.next().flatten().unwrap_or(0) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_what_distributions_print() {
        let v = |text| parse_version(text).map(|v| v.to_string());
        assert_eq!(v("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7)"), Some("7.2.22".into()));
        assert_eq!(v("QEMU emulator version 10.1.0\nCopyright"), Some("10.1.0".into()));
        assert_eq!(v("QEMU emulator version 9.2"), Some("9.2.0".into()));
        for bad in ["", "version", "version x", "version 9", "version 99999999999.1"] {
            assert_eq!(v(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_name_is_listed_only_as_a_whole_word() {
        assert!(listed("socket\nuser\ntap", "user"));
        assert!(!listed("socket\nvhost-user\ntap", "user"));
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_missing() {
        let error = Qemu::at("/nonexistent/qemu".into()).version().await.unwrap_err();
        assert!(matches!(error, Error::QemuMissing(_)), "{error}");
    }
}
