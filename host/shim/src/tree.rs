//! The content of a volume as it lies on this host, flattened: kubelet's links are followed, its own names left out.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use cocoon_plan::files::{MAX_DEPTH, MAX_FILE_BYTES, MAX_FILES, MAX_POD_BYTES, names};
use cocoon_stage::{Code, Failure, Stage};

/// A file of a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Content.
    pub data: Vec<u8>,
}

/// A volume's content: files by their paths below it.
pub type Content = BTreeMap<String, Entry>;

/// Reads the parts of a volume, which are folders or files by where they belong. A part that is the whole wins.
///
/// # Errors
/// `HOST-UNSUPPORTED` for what is more than a volume may be, or cannot be read.
pub fn read(volume: &str, parts: &BTreeMap<String, PathBuf>) -> Result<Content, Failure> {
    let failed =
        |why: String| Failure::new(Code::HostUnsupported, format!("volume {volume}: {why}")).at(Stage::Start);
    let whole = parts.get_key_value("");
    let parts: Vec<_> = whole.map_or_else(|| parts.iter().collect(), |part| vec![part]);
    let mut walk = Walk { content: Content::new(), bytes: 0 };
    for (place, source) in parts {
        let root = source.canonicalize().map_err(|e| failed(format!("{}: {e}", source.display())))?;
        walk.take(&root, &root, place, 0).map_err(|e| failed(format!("{}: {e}", source.display())))?;
    }
    Ok(walk.content)
}

struct Walk {
    content: Content,
    bytes: u64,
}

fn too_much(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::FileTooLarge, why)
}

impl Walk {
    /// Takes what is at `at`, which is at or below `root`, as `path` of the volume.
    fn take(&mut self, root: &Path, at: &Path, path: &str, depth: usize) -> io::Result<()> {
        let found = fs::metadata(at)?;
        if found.is_dir() {
            return self.folder(root, at, path, depth);
        }
        if !found.is_file() {
            // Sockets, pipes and devices are of this host.
            return Ok(());
        }
        self.file(at, path, &found)
    }

    fn folder(&mut self, root: &Path, at: &Path, path: &str, depth: usize) -> io::Result<()> {
        if depth >= MAX_DEPTH {
            return Err(too_much(format!("{} is deeper than {MAX_DEPTH} folders", at.display())));
        }
        for entry in fs::read_dir(at)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            // Kubelet's own: `..data` and what it leads to.
            if depth == 0 && name.starts_with("..") {
                continue;
            }
            // Where a link leads out of the volume, it leads to what nobody asked for.
            let target = match entry.path().canonicalize() {
                Ok(target) if target.starts_with(root) => target,
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {
                    tracing::debug!(file = %entry.path().display(), "a link that leads out of its volume, or nowhere");
                    continue;
                }
            };
            let below = if path.is_empty() { name } else { format!("{path}/{name}") };
            self.take(root, &target, &below, depth + 1)?;
        }
        Ok(())
    }

    fn file(&mut self, at: &Path, path: &str, found: &Metadata) -> io::Result<()> {
        if let Err(e) = names(path) {
            return Err(io::Error::new(io::ErrorKind::InvalidFilename, format!("{path:?} {e}")));
        }
        if self.content.len() >= MAX_FILES {
            return Err(too_much(format!("more than {MAX_FILES} files")));
        }
        let mut data = Vec::new();
        fs::File::open(at)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut data)?;
        let length = u64::try_from(data.len()).unwrap_or(u64::MAX);
        self.bytes = self.bytes.saturating_add(length);
        if length > MAX_FILE_BYTES || self.bytes > MAX_POD_BYTES {
            return Err(too_much(format!(
                "{path:?} makes it larger than {MAX_FILE_BYTES} bytes a file or {MAX_POD_BYTES} in all"
            )));
        }
        let (mode, uid, gid) = (found.mode() & 0o7777, found.uid(), found.gid());
        self.content.insert(path.to_owned(), Entry { mode, uid, gid, data });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn parts(list: &[(&str, &Path)]) -> BTreeMap<String, PathBuf> {
        list.iter().map(|(place, source)| ((*place).to_owned(), source.to_path_buf())).collect()
    }

    #[test]
    fn kubelets_links_are_flattened() {
        let dir = tempfile::tempdir().unwrap();
        let generation = dir.path().join("..2026_11_27");
        fs::create_dir(&generation).unwrap();
        fs::write(generation.join("key"), "value").unwrap();
        fs::create_dir(generation.join("sub")).unwrap();
        fs::write(generation.join("sub/other"), "x").unwrap();
        symlink("..2026_11_27", dir.path().join("..data")).unwrap();
        symlink("..data/key", dir.path().join("key")).unwrap();
        symlink("..data/sub", dir.path().join("sub")).unwrap();
        symlink("/etc/passwd", dir.path().join("out")).unwrap();
        symlink("nowhere", dir.path().join("broken")).unwrap();
        let content = read("c", &parts(&[("", dir.path())])).unwrap();
        assert_eq!(content.keys().collect::<Vec<_>>(), ["key", "sub/other"]);
        assert_eq!(
            (content["key"].data.as_slice(), content["key"].mode & 0o400),
            (b"value".as_slice(), 0o400)
        );
    }

    #[test]
    fn parts_have_their_places_and_the_whole_wins() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("f"), "1").unwrap();
        let file = dir.path().join("f");
        let content = read("c", &parts(&[("a/b", &file), ("d", dir.path())])).unwrap();
        assert_eq!(content.keys().collect::<Vec<_>>(), ["a/b", "d/f"]);
        let content = read("c", &parts(&[("a/b", &file), ("", dir.path())])).unwrap();
        assert_eq!(content.keys().collect::<Vec<_>>(), ["f"]);
    }

    #[test]
    fn what_is_too_much_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = fs::File::create(dir.path().join("large")).unwrap();
        file.set_len(MAX_FILE_BYTES + 1).unwrap();
        let refused = read("big", &parts(&[("", dir.path())])).unwrap_err();
        assert!(refused.code == Code::HostUnsupported && refused.reason.contains("big"));
        fs::remove_file(dir.path().join("large")).unwrap();
        symlink(".", dir.path().join("loop")).unwrap();
        assert!(read("deep", &parts(&[("", dir.path())])).unwrap_err().reason.contains("deeper"));
        assert!(read("gone", &parts(&[("", Path::new("/proc/cocoon-nothing"))])).is_err());
        rustix::fs::mknodat(
            rustix::fs::CWD,
            dir.path().join("p"),
            rustix::fs::FileType::Fifo,
            0o600.into(),
            0,
        )
        .unwrap();
        fs::remove_file(dir.path().join("loop")).unwrap();
        assert!(read("pipe", &parts(&[("", dir.path())])).unwrap().is_empty());
    }
}
