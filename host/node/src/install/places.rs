//! Where things are on a node.

use std::path::{Path, PathBuf};

/// Paths as the running node sees them; [`Places::on_disk`] says where they are now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    /// The node's file system: `/`, or the folder of a system's image.
    pub root: PathBuf,
    /// containerd's main file.
    pub config: PathBuf,
    /// Folder of programs and the guest image.
    pub prefix: PathBuf,
    /// Folder of class files.
    pub classes: PathBuf,
    /// What is remembered between runs.
    pub state: PathBuf,
    /// Folder of node-feature-discovery's local features.
    pub features: PathBuf,
    /// Folder of running pods.
    pub pods: PathBuf,
}

impl Default for Places {
    fn default() -> Self {
        Places {
            root: "/".into(),
            config: crate::containerd::CONFIG.into(),
            prefix: "/opt/cocoon".into(),
            classes: cocoon_runtime::FOLDER.into(),
            state: "/var/lib/cocoon/node".into(),
            features: "/etc/kubernetes/node-feature-discovery/features.d".into(),
            pods: "/run/cocoon".into(),
        }
    }
}

impl Places {
    /// Where a path of the node is on this machine.
    pub fn on_disk(&self, path: &Path) -> PathBuf {
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// Whether the node is this machine, not an image.
    pub fn is_live(&self) -> bool {
        self.root == Path::new("/")
    }

    /// The shim.
    pub fn shim(&self) -> PathBuf {
        self.prefix.join("bin").join(crate::pods::SHIM)
    }

    /// The guest image's folder.
    pub fn guest_image(&self) -> PathBuf {
        self.prefix.join("share/guest")
    }

    /// containerd's file of Cocoon's own; containerd 2 merges it.
    pub fn drop_in(&self) -> PathBuf {
        self.config.parent().unwrap_or(Path::new("/")).join("conf.d/cocoon.toml")
    }

    /// The pattern that imports it. A pattern, since containerd does not start where a file that is named is not there.
    pub fn import(&self) -> String {
        self.drop_in().with_file_name("cocoon*.toml").to_string_lossy().into_owned()
    }

    /// A class's file.
    pub fn class(&self, name: &str) -> PathBuf {
        self.classes.join(format!("{name}.toml"))
    }

    /// The file of features.
    pub fn feature_file(&self) -> PathBuf {
        self.features.join("cocoon")
    }
}

/// Whether a pattern of containerd's `imports` matches `path`: `*` and `?` within one part of an absolute path.
pub fn covers(pattern: &str, path: &Path) -> bool {
    let parts: Vec<_> = Path::new(pattern).components().collect();
    let names: Vec<_> = path.components().collect();
    Path::new(pattern).is_absolute()
        && parts.len() == names.len()
        && parts.iter().zip(&names).all(|(p, n)| {
            let (p, n) = (p.as_os_str().to_string_lossy(), n.as_os_str().to_string_lossy());
            part_matches(&p.chars().collect::<Vec<_>>(), &n.chars().collect::<Vec<_>>())
        })
}

fn part_matches(pattern: &[char], name: &[char]) -> bool {
    match pattern.split_first() {
        None => name.is_empty(),
        Some(('*', rest)) => (0..=name.len()).any(|n| part_matches(rest, name.get(n..).unwrap_or_default())),
        Some(('?', rest)) => name.split_first().is_some_and(|(_, left)| part_matches(rest, left)),
        Some((c, rest)) => name.split_first().is_some_and(|(n, left)| n == c && part_matches(rest, left)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_cover_what_containerd_would_read() {
        let path = Path::new("/etc/containerd/conf.d/cocoon.toml");
        for yes in [
            "/etc/containerd/conf.d/*.toml",
            "/etc/containerd/conf.d/cocoon*.toml",
            "/etc/*/conf.d/c?coon.toml",
        ] {
            assert!(covers(yes, path), "{yes}");
        }
        for no in [
            "/etc/containerd/*.toml",
            "conf.d/*.toml",
            "/etc/containerd/conf.d/x*.toml",
            "",
            "/etc/containerd/conf.d",
        ] {
            assert!(!covers(no, path), "{no}");
        }
        assert!(covers(&Places::default().import(), &Places::default().drop_in()));
    }

    #[test]
    fn an_image_of_a_system_has_its_own_places() {
        let places = Places { root: "/mnt/x".into(), ..Places::default() };
        assert_eq!(
            places.on_disk(&places.shim()),
            Path::new("/mnt/x/opt/cocoon/bin/containerd-shim-cocoon-v2")
        );
        assert!(!places.is_live() && Places::default().is_live());
    }
}
