//! Obtains Debian's cloud kernel package and unpacks it, without installing it.

use std::fs;
use std::path::{Path, PathBuf};

use crate::image::{PackageRecord, sha256_file};
use crate::{Error, tool};

/// The meta package whose first dependency is the current cloud kernel.
const META_PACKAGE: &str = "linux-image-cloud-amd64";

/// A kernel package at hand.
pub(crate) struct Package {
    deb: PathBuf,
    /// Name, version and digest, as the manifest records them.
    pub(crate) record: PackageRecord,
}

/// What a guest needs of a kernel package.
pub(crate) struct Kernel {
    /// The bzImage.
    pub(crate) image: Vec<u8>,
    /// The kernel's release, e.g. `6.1.0-56-cloud-amd64`.
    pub(crate) release: String,
    /// The unpacked `lib/modules/<release>`.
    pub(crate) modules: PathBuf,
}

impl Package {
    /// A package file that the caller has.
    pub(crate) fn from_file(deb: &Path) -> Result<Self, Error> {
        let sha256 = sha256_file(deb).map_err(Error::io(deb))?;
        let field = |name: &str| -> Result<String, Error> {
            let out = tool::run("dpkg-deb", ["-f".as_ref(), deb.as_os_str(), name.as_ref()])?;
            Ok(String::from_utf8_lossy(&out).trim().to_owned())
        };
        let (name, version) = (field("Package")?, field("Version")?);
        if name.is_empty() || version.is_empty() {
            let reason = "it has no Package or no Version field".into();
            return Err(Error::Package { package: deb.display().to_string(), reason });
        }
        Ok(Package { deb: deb.to_owned(), record: PackageRecord { name, version, sha256 } })
    }

    /// Downloads the current cloud kernel of this machine's release (or of `suite`) into `dir` through apt,
    /// which checks the archive's signatures.
    pub(crate) fn download(
        suite: Option<&str>,
        dir: &Path,
        progress: &mut dyn FnMut(&str),
    ) -> Result<Self, Error> {
        let apt = Apt { suite, lists: None };
        match apt.kernel(dir, progress) {
            Err(Error::Tool { .. }) => {
                // The machine's lists may be absent, or name versions that have left the archive. Refresh
                // into a private folder: the machine's own stay as they are and no root is needed.
                progress("refreshing the package lists");
                let lists = dir.join("apt");
                for sub in ["lists/partial", "cache/archives/partial"] {
                    let sub = lists.join(sub);
                    fs::create_dir_all(&sub).map_err(Error::io(&sub))?;
                }
                let apt = Apt { suite, lists: Some(&lists) };
                apt.run(dir, &["update"])?;
                apt.kernel(dir, progress)
            }
            done => done,
        }
    }

    /// Unpacks the package below `dir`.
    pub(crate) fn unpack(&self, dir: &Path) -> Result<Kernel, Error> {
        let root = dir.join("kernel");
        tool::run("dpkg-deb", ["-x".as_ref(), self.deb.as_os_str(), root.as_os_str()])?;
        let lack = |what: &str| Error::Package {
            package: self.record.name.clone(),
            reason: format!("it holds no {what}"),
        };
        let boot = root.join("boot");
        let mut names: Vec<String> = fs::read_dir(&boot)
            .map_err(|_| lack("/boot"))?
            .filter_map(|e| e.ok()?.file_name().into_string().ok())
            .filter_map(|n| n.strip_prefix("vmlinuz-").map(str::to_owned))
            .collect();
        names.sort();
        let release = names.pop().ok_or_else(|| lack("/boot/vmlinuz-*"))?;
        let path = boot.join(format!("vmlinuz-{release}"));
        let image = fs::read(&path).map_err(Error::io(&path))?;
        // Newer Debian releases ship modules below /usr/lib.
        let modules = ["lib/modules", "usr/lib/modules"]
            .map(|m| root.join(m).join(&release))
            .into_iter()
            .find(|m| m.is_dir())
            .ok_or_else(|| lack("modules"))?;
        Ok(Kernel { image, release, modules })
    }
}

/// How apt-get is called.
struct Apt<'a> {
    suite: Option<&'a str>,
    /// Private lists and cache instead of the machine's.
    lists: Option<&'a Path>,
}

impl Apt<'_> {
    fn run(&self, dir: &Path, args: &[&str]) -> Result<(), Error> {
        let mut all = vec!["-q".to_owned(), "-y".to_owned(), "-oAcquire::Retries=3".to_owned()];
        if let Some(suite) = self.suite {
            all.extend(["-t".to_owned(), suite.to_owned()]);
        }
        if let Some(lists) = self.lists {
            all.push(format!("-oDir::State::Lists={}", lists.join("lists").display()));
            all.push(format!("-oDir::Cache={}", lists.join("cache").display()));
        }
        all.extend(args.iter().map(|a| (*a).to_owned()));
        tool::run_in("apt-get", all, Some(dir)).map(drop)
    }

    fn kernel(&self, dir: &Path, progress: &mut dyn FnMut(&str)) -> Result<Package, Error> {
        let meta = self.fetch(dir, "meta", META_PACKAGE)?;
        let out = tool::run("dpkg-deb", ["-f".as_ref(), meta.as_os_str(), "Depends".as_ref()])?;
        let depends = String::from_utf8_lossy(&out);
        let wanted = kernel_dependency(&depends).ok_or_else(|| Error::Package {
            package: META_PACKAGE.into(),
            reason: format!("it depends on no kernel image: {}", depends.trim()),
        })?;
        progress(&format!("downloading {wanted}"));
        Package::from_file(&self.fetch(dir, "image", &wanted)?)
    }

    /// Downloads one package into an empty folder; gives its file.
    fn fetch(&self, dir: &Path, sub: &str, package: &str) -> Result<PathBuf, Error> {
        let dir = dir.join(sub);
        fs::create_dir_all(&dir).map_err(Error::io(&dir))?;
        self.run(&dir, &["download", package])?;
        let files = fs::read_dir(&dir).map_err(Error::io(&dir))?;
        files
            .filter_map(|e| Some(e.ok()?.path()))
            .find(|p| p.extension().is_some_and(|e| e == "deb"))
            .ok_or_else(|| Error::Package {
                package: package.into(),
                reason: "apt-get downloaded nothing".into(),
            })
    }
}

/// From a `Depends` field such as `linux-image-6.1.0-56-cloud-amd64 (= 6.1.192-2)`: the kernel package, with
/// its exact version where the field gives one, in apt's notation `name=version`.
fn kernel_dependency(depends: &str) -> Option<String> {
    let first = depends.split(',').map(str::trim).find(|d| d.starts_with("linux-image-"))?;
    let mut words = first.split_whitespace();
    let name = words.next()?;
    match (words.next(), words.next()) {
        (Some("(="), Some(version)) => Some(format!("{name}={}", version.trim_end_matches(')'))),
        _ => Some(name.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_is_the_first_image_of_the_meta_package() {
        let of = |text| kernel_dependency(text);
        assert_eq!(
            of("linux-image-6.1.0-56-cloud-amd64 (= 6.1.192-2)\n").unwrap(),
            "linux-image-6.1.0-56-cloud-amd64=6.1.192-2"
        );
        assert_eq!(of("x (>= 1), linux-image-6.12-cloud-amd64").unwrap(), "linux-image-6.12-cloud-amd64");
        assert_eq!(of("initramfs-tools"), None);
    }

    #[test]
    fn a_file_that_is_no_package_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.deb");
        assert!(matches!(Package::from_file(&path), Err(Error::Io { .. })));
        fs::write(&path, "<html>404</html>").unwrap();
        assert!(matches!(Package::from_file(&path), Err(Error::Tool { .. } | Error::ToolMissing(_))));
    }
}
