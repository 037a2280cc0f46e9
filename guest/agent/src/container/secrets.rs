//! Secret files: written to the guest's memory for one container's user, mounted read-only.

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

use super::rootfs::Bind;
use super::user::User;
use crate::Error;
use crate::prepare::Secret;

/// The usual place; files below it are mounted together, as one directory.
const USUAL: &str = "/run/secrets/";

/// A secret and where the container finds it.
#[derive(Clone)]
pub struct SecretFile {
    /// Absolute path in the container, without `..`.
    pub path: String,
    /// Its content.
    pub bytes: Secret,
}

impl fmt::Debug for SecretFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretFile").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Writes the files below `folder` (0400, the user's) and says what to mount where.
///
/// # Errors
/// [`Error::Container`]; [`Error::Plan`] for two secrets of one path.
pub(crate) fn stage(folder: &Path, secrets: &[SecretFile], user: &User) -> Result<Vec<Bind>, Error> {
    let make = |path: &Path, mode| DirBuilder::new().recursive(true).mode(mode).create(path);
    match fs::remove_dir_all(folder) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            return Err(Error::container("clear old secrets")(e));
        }
        _ => {}
    }
    make(folder, 0o700).map_err(Error::container("make the container's folder"))?;
    let mut binds = Vec::new();
    let usual = folder.join("secrets");
    let mut usual_paths = Vec::new();
    for (number, secret) in secrets.iter().enumerate() {
        let source = match usual_name(&secret.path) {
            Some(name) => {
                let path = usual.join(name);
                let parent = path.parent().unwrap_or(&usual);
                make(parent, 0o755).map_err(Error::container("make the folder of secrets"))?;
                usual_paths.push(secret.path.clone());
                path
            }
            None => {
                let path = folder.join(format!("secret-{number}"));
                binds.push(Bind {
                    source: path.clone(),
                    target: secret.path.clone(),
                    directory: false,
                    writable: false,
                    stays: vec![secret.path.clone()],
                });
                path
            }
        };
        write(&source, &secret.bytes, user).map_err(|e| match e.kind() {
            io::ErrorKind::AlreadyExists => Error::Plan(format!("two secrets are to be {}", secret.path)),
            _ => Error::container(format!("write {}", secret.path))(e),
        })?;
    }
    if usual.is_dir() {
        binds.push(Bind {
            source: usual,
            target: USUAL.trim_end_matches('/').into(),
            directory: true,
            writable: false,
            stays: usual_paths,
        });
    }
    Ok(binds)
}

/// The part of a path below `/run/secrets`; `None` for other places.
fn usual_name(path: &str) -> Option<PathBuf> {
    let name = path.strip_prefix(USUAL)?;
    let plain = name.split('/').all(|part| !matches!(part, "" | "." | ".."));
    plain.then(|| name.into())
}

fn write(path: &Path, bytes: &[u8], user: &User) -> io::Result<()> {
    let mut file: File = OpenOptions::new().write(true).create_new(true).mode(0o400).open(path)?;
    file.write_all(bytes)?;
    fchown(&file, Some(user.uid), Some(user.gid))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn secret(path: &str) -> SecretFile {
        SecretFile {
            path: path.into(),
            bytes: std::sync::Arc::new(zeroize::Zeroizing::new(b"very secret".to_vec())),
        }
    }

    fn me() -> User {
        User {
            uid: rustix::process::getuid().as_raw(),
            gid: rustix::process::getgid().as_raw(),
            groups: Vec::new(),
            home: "/".into(),
        }
    }

    #[test]
    fn files_are_the_users_alone_and_mounted_where_the_plan_says() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("main");
        let secrets = [secret("/run/secrets/token"), secret("/run/secrets/deep/key"), secret("/etc/app/key")];
        let binds = stage(&folder, &secrets, &me()).unwrap();
        let targets: Vec<(&str, bool)> = binds.iter().map(|b| (b.target.as_str(), b.directory)).collect();
        assert_eq!(targets, [("/etc/app/key", false), ("/run/secrets", true)]);
        let token = fs::metadata(binds[1].source.join("token")).unwrap();
        assert_eq!(token.mode() & 0o7777, 0o400);
        assert_eq!(token.uid(), me().uid);
        assert_eq!(fs::read(binds[1].source.join("deep/key")).unwrap(), b"very secret");
        assert_eq!(stage(&folder, &[], &me()).unwrap().len(), 0);
        assert!(!folder.join("secrets").exists(), "what an earlier attempt left is gone");
    }

    #[test]
    fn two_secrets_of_one_path_are_refused_and_nothing_prints_them() {
        let dir = tempfile::tempdir().unwrap();
        let twice = [secret("/run/secrets/a"), secret("/run/secrets/a")];
        let error = stage(&dir.path().join("x"), &twice, &me()).unwrap_err();
        assert!(matches!(error, Error::Plan(_)), "{error}");
        assert!(!format!("{twice:?}").contains("very secret"));
        assert_eq!(usual_name("/run/secrets/../x"), None);
        assert_eq!(usual_name("/run/secrets/"), None);
    }
}
