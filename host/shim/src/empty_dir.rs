//! Kubelet's `emptyDir` volumes, as a container's mounts show them: their content is the guest's own.

use std::path::{Path, PathBuf};

use crate::mounts::is_volume_name;

/// Where kubelet makes them, below a pod's folder.
const PLACE: &str = "/volumes/kubernetes.io~empty-dir/";
/// Where kubelet mounts parts of volumes, below a pod's folder: `VOLUME/CONTAINER/INDEX`.
const SUB_PATHS: &str = "/volume-subpaths/";
/// Of a file system in memory (statfs(2)).
const TMPFS_MAGIC: u64 = 0x0102_1994;

/// An `emptyDir`, or what is below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EmptyDir {
    /// Its name in the pod.
    pub name: String,
    /// What is mounted of it; empty for all.
    pub sub_path: String,
    /// Its folder on this host.
    pub folder: PathBuf,
}

impl EmptyDir {
    /// The one that a mount's source is of, if it is.
    pub fn of(source: &str) -> Option<EmptyDir> {
        // Only where it says more: it has a line for each mount of this host.
        let mounts = match source.contains(SUB_PATHS) {
            true => std::fs::read_to_string("/proc/self/mountinfo").ok()?,
            false => String::new(),
        };
        EmptyDir::among(source, &mounts)
    }

    fn among(source: &str, mounts: &str) -> Option<EmptyDir> {
        if let Some((pod, rest)) = source.split_once(PLACE) {
            let (name, sub_path) = rest.split_once('/').unwrap_or((rest, ""));
            return EmptyDir::new(pod, name, sub_path);
        }
        let (pod, rest) = source.split_once(SUB_PATHS)?;
        let (name, _) = rest.split_once('/')?;
        // The path says the volume but not what of it.
        let whole = EmptyDir::new(pod, name, "").filter(|it| it.folder.is_dir())?;
        let from = root_of(mounts, source)?;
        let sub_path = match from.split_once(&format!("{PLACE}{name}/")) {
            Some((_, sub_path)) => sub_path.to_owned(),
            // In memory it is a file system of its own.
            None => {
                let begin = root_of(mounts, whole.folder.to_str()?)?;
                from.strip_prefix(begin.trim_end_matches('/'))?.to_owned()
            }
        };
        EmptyDir::new(pod, name, &sub_path)
    }

    fn new(pod: &str, name: &str, sub_path: &str) -> Option<EmptyDir> {
        let (name, sub_path) = (name.to_owned(), sub_path.trim_matches('/').to_owned());
        let folder = PathBuf::from(format!("{pod}{PLACE}{name}"));
        is_volume_name(&name).then_some(EmptyDir { name, sub_path, folder })
    }

    /// Whether kubelet made it in memory.
    pub fn in_memory(&self) -> bool {
        in_memory(&self.folder)
    }
}

fn in_memory(path: &Path) -> bool {
    rustix::fs::statfs(path).is_ok_and(|found| u64::try_from(found.f_type) == Ok(TMPFS_MAGIC))
}

/// What of its file system is mounted at `place`, in `/proc/PID/mountinfo` (proc_pid_mountinfo(5)): its fourth field, by its
/// fifth. The last one lies on top.
fn root_of(mounts: &str, place: &str) -> Option<String> {
    let of_it = |line: &str| {
        let mut fields = line.split(' ').skip(3);
        let (root, at) = (fields.next()?, fields.next()?);
        (plain(at) == place).then(|| plain(root))
    };
    mounts.lines().rev().find_map(of_it)
}

/// Without the escapes of mountinfo.
fn plain(field: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(field.to_owned(), |text, (escape, is)| text.replace(escape, is))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_ones_and_parts_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let pod = dir.path().join("pods/u").display().to_string();
        std::fs::create_dir_all(format!("{pod}{PLACE}data")).unwrap();
        std::fs::create_dir_all(format!("{pod}{PLACE}mem")).unwrap();
        let mounts = format!(
            "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
             30 22 8:1 {pod}{PLACE}data/a\\040b/c {pod}/volume-subpaths/data/app/0 rw - ext4 /dev/sda1 rw\n\
             31 22 0:50 / {pod}{PLACE}mem rw - tmpfs tmpfs rw\n\
             32 22 0:50 /logs {pod}/volume-subpaths/mem/app/1 rw - tmpfs tmpfs rw\n\
             33 22 8:1 /elsewhere {pod}/volume-subpaths/config/app/2 rw - ext4 /dev/sda1 rw\n"
        );
        let found =
            |below: &str| EmptyDir::among(&format!("{pod}{below}"), &mounts).map(|it| (it.name, it.sub_path));
        let is = |name: &str, sub_path: &str| Some((name.to_owned(), sub_path.to_owned()));
        assert_eq!(found("/volumes/kubernetes.io~empty-dir/data"), is("data", ""));
        assert_eq!(found("/volume-subpaths/data/app/0"), is("data", "a b/c"));
        assert_eq!(found("/volume-subpaths/mem/app/1"), is("mem", "logs"));
        assert_eq!(found("/volume-subpaths/config/app/2"), None, "a volume of another kind");
        assert_eq!(found("/volume-subpaths/data/app/9"), None, "nothing is mounted there");
        assert_eq!(found("/volumes/kubernetes.io~configmap/c"), None);
    }
}
