//! What a shim leaves in its bundle for containerd and for `delete`, and how its files are named.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The shim's address; containerd 1.6 reads it after a restart.
pub const ADDRESS: &str = "address";
/// The shim's process id.
pub const PID: &str = "shim.pid";
/// [`Record`], JSON.
const RECORD: &str = "cocoon.json";

/// What is to be removed when a shim is gone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Record {
    /// Its socket.
    pub socket: PathBuf,
    /// The pod's runtime folder.
    pub run_dir: PathBuf,
    /// The pod's control groups, as its specification names them.
    pub cgroups_path: String,
    /// The pod's network namespace, where it has one that others made.
    pub netns: String,
}

impl Record {
    /// Writes it into a bundle.
    ///
    /// # Errors
    /// The file system's.
    pub fn write(&self, bundle: &Path) -> io::Result<()> {
        // Whoever reads it meanwhile reads all of the one or the other.
        let (new, place) = (bundle.join(format!("{RECORD}.new")), bundle.join(RECORD));
        std::fs::write(&new, serde_json::to_vec(self)?).and_then(|()| std::fs::rename(&new, place))
    }

    /// Reads that of a bundle; none where it has no shim of its own.
    pub fn read(bundle: &Path) -> Option<Record> {
        serde_json::from_slice(&std::fs::read(bundle.join(RECORD)).ok()?).ok()
    }
}

/// The name of a pod's runtime folder: short, since sockets are in it.
pub fn pod_folder(namespace: &str, id: &str) -> String {
    format!("pod-{}", name(&[namespace, id]))
}

/// The socket of a pod's shim: one for each containerd, namespace and id.
pub fn socket(state: &Path, containerd: &str, namespace: &str, id: &str) -> PathBuf {
    state.join("s").join(format!("{}.sock", name(&[containerd, namespace, id])))
}

/// 24 hex digits that stand for these texts.
fn name(texts: &[&str]) -> String {
    let joined = texts.join("\0");
    let digest = cocoon_protocol::HashAlgorithm::Sha256.digest(joined.as_bytes());
    digest.iter().take(12).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_stable_and_of_one_pod() {
        let state = Path::new("/run/cocoon");
        let one = socket(state, "/run/containerd/containerd.sock", "k8s.io", &"a".repeat(64));
        assert!(one.as_os_str().len() < 60, "{}", one.display());
        assert_ne!(one, socket(state, "/run/containerd/containerd.sock", "default", &"a".repeat(64)));
        assert_ne!(pod_folder("a", "bc"), pod_folder("ab", "c"));
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Record::read(dir.path()), None);
        let record = Record {
            socket: "/s".into(),
            run_dir: "/r".into(),
            cgroups_path: "/c".into(),
            netns: "/n".into(),
        };
        record.write(dir.path()).unwrap();
        assert_eq!(Record::read(dir.path()), Some(record));
    }
}
