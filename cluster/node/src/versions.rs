//! Versions side by side: a folder below the prefix for each, so that pods keep the programs that they were started with.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// The name of what a shim and a guest image come to: the release, and eight hexadecimal digits of both their digests. The guest
/// image's manifest has digests of all its files.
///
/// # Errors
/// Where one of them cannot be read.
pub fn name(release: &str, shim: &Path, guest_manifest: &Path) -> io::Result<String> {
    let mut digest = Sha256::new();
    for path in [shim, guest_manifest] {
        let named = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", path.display()));
        let mut file = fs::File::open(path).map_err(named)?;
        let mut one = Sha256::new();
        io::copy(&mut file, &mut Sink(&mut one)).map_err(named)?;
        digest.update(one.finalize());
    }
    let mut hash = hex::encode(digest.finalize());
    hash.truncate(8);
    Ok(format!("{release}-{hash}"))
}

/// A digest that can be written to.
struct Sink<'a>(&'a mut Sha256);

impl io::Write for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Folders of versions below `prefix`, other than `current`.
pub fn others(prefix: &Path, current: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(prefix).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = entries
        .filter(|e| e.file_name().to_str() != Some(current))
        .map(|e| e.path())
        .filter(|p| p.is_dir())
        .collect();
    found.sort();
    found
}

/// Those of `folders` that a process of this machine names on its command line: a shim by its own path, QEMU by its kernel's.
/// Needs no right to look into other processes.
pub fn in_use(proc: &Path, folders: &[PathBuf]) -> Vec<PathBuf> {
    let mut used: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(proc).into_iter().flatten().flatten() {
        if !entry.file_name().to_string_lossy().bytes().all(|b| b.is_ascii_digit()) {
            continue;
        }
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        for folder in folders {
            let mut start = folder.as_os_str().as_encoded_bytes().to_vec();
            start.push(b'/');
            if !used.contains(folder) && line.windows(start.len()).any(|w| w == start) {
                used.push(folder.clone());
            }
        }
    }
    used.sort();
    used
}

/// Those of `others` whose files must stay. Where pods run and no process names a version, not even `current`, nobody says with what
/// they run, and nothing is taken from them.
pub fn to_keep(
    proc: &Path,
    others: &[PathBuf],
    current: &Path,
    pods_run: impl FnOnce() -> bool,
) -> Vec<PathBuf> {
    let all: Vec<PathBuf> = others.iter().cloned().chain([current.to_path_buf()]).collect();
    let mut used = in_use(proc, &all);
    if used.is_empty() && !others.is_empty() && pods_run() {
        return others.to_vec();
    }
    used.retain(|folder| folder != current);
    used
}

/// Removes what is left of a version's folder once its files are gone: empty folders, and those alone.
pub fn prune(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            prune(&entry.path());
        }
    }
    let _ = fs::remove_dir(folder);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_its_content() {
        let dir = tempfile::tempdir().unwrap();
        let (shim, manifest) = (dir.path().join("shim"), dir.path().join("manifest.json"));
        assert!(name("1.0", &shim, &manifest).unwrap_err().to_string().contains("shim"));
        fs::write(&shim, "a").unwrap();
        fs::write(&manifest, "b").unwrap();
        let one = name("1.0", &shim, &manifest).unwrap();
        assert!(one.starts_with("1.0-") && one.len() == 12, "{one}");
        assert_eq!(one, name("1.0", &shim, &manifest).unwrap());
        fs::write(&manifest, "c").unwrap();
        assert_ne!(one, name("1.0", &shim, &manifest).unwrap());
    }

    #[test]
    fn a_version_is_used_while_a_command_line_names_it() {
        let dir = tempfile::tempdir().unwrap();
        for version in ["1-a", "1-ab", "2-b"] {
            fs::create_dir_all(dir.path().join("opt").join(version).join("bin")).unwrap();
        }
        let proc = dir.path().join("proc");
        fs::create_dir_all(proc.join("12")).unwrap();
        let shim = dir.path().join("opt/1-ab/bin/shim");
        fs::write(proc.join("12/cmdline"), format!("{}\0-id\0x\0", shim.display())).unwrap();
        let others = others(&dir.path().join("opt"), "2-b");
        assert_eq!(others.len(), 2);
        assert_eq!(in_use(&proc, &others), [dir.path().join("opt/1-ab")]);
        let current = dir.path().join("opt/2-b");
        assert_eq!(to_keep(&proc, &others, &current, || true), [dir.path().join("opt/1-ab")]);
        fs::write(proc.join("12/cmdline"), format!("{}/bin/shim\0", current.display())).unwrap();
        assert!(to_keep(&proc, &others, &current, || true).is_empty(), "all pods use the current one");
        fs::write(proc.join("12/cmdline"), "shim\0").unwrap();
        assert_eq!(to_keep(&proc, &others, &current, || true), others, "nobody knows");
        assert!(to_keep(&proc, &others, &current, || false).is_empty());
        prune(&others[0]);
        assert!(!others[0].exists());
        fs::write(&shim, "").unwrap();
        prune(&others[1]);
        assert!(shim.exists());
    }
}
