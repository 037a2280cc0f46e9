//! A configuration as containerd understands it, and what may differ between two of them.

use std::collections::BTreeMap;

use toml::{Table, Value};

const CRI_1: &str = "io.containerd.grpc.v1.cri";
const RUNTIME_2: &str = "io.containerd.cri.v1.runtime";
const IMAGES_2: &str = "io.containerd.cri.v1.images";
const TRANSFER_2: &str = "io.containerd.transfer.v1.local";

/// What of an effective configuration belongs to Cocoon: it may differ between before and after, nothing else may.
#[derive(Clone, Debug)]
pub struct Scope<'a> {
    /// Names of runtimes, of `runtime_platforms` too.
    pub runtimes: &'a [&'a str],
    /// Name of the proxy plugin.
    pub snapshotter: &'a str,
}

/// Output of `containerd config dump`.
#[derive(Clone, Debug, PartialEq)]
pub struct Effective(Table);

impl Effective {
    /// Reads a dump.
    ///
    /// # Errors
    /// A sentence, where it is not TOML.
    pub fn parse(text: &str) -> Result<Self, String> {
        text.parse()
            .map(Effective)
            .map_err(|e: toml::de::Error| format!("containerd's dump is not TOML: {e}"))
    }

    fn at(&self, path: &[&str]) -> Option<&Value> {
        let (last, tables) = path.split_last()?;
        let mut table = &self.0;
        for key in tables {
            table = table.get(*key)?.as_table()?;
        }
        table.get(*last)
    }

    /// The table of runtimes of the CRI plugin, by name.
    pub fn runtimes(&self) -> Table {
        [RUNTIME_2, CRI_1]
            .into_iter()
            .find_map(|plugin| self.at(&["plugins", plugin, "containerd", "runtimes"])?.as_table())
            .cloned()
            .unwrap_or_default()
    }

    /// The proxy plugins, by name.
    pub fn proxy_plugins(&self) -> Table {
        self.at(&["proxy_plugins"]).and_then(Value::as_table).cloned().unwrap_or_default()
    }

    /// The snapshotter that a runtime's images are unpacked into; containerd 2 keeps it with the images.
    pub fn snapshotter_of(&self, runtime: &str) -> Option<String> {
        let text = |value: &Value| value.as_str().filter(|s| !s.is_empty()).map(str::to_owned);
        if self.at(&["plugins", IMAGES_2]).is_some() {
            return self
                .at(&["plugins", IMAGES_2, "runtime_platforms", runtime, "snapshotter"])
                .and_then(text);
        }
        self.runtimes().get(runtime).and_then(|r| r.get("snapshotter")).and_then(text)
    }

    /// What containerd 2's transfer service unpacks into which snapshotter; where nothing is said, its own choice.
    pub fn unpacked(&self) -> Vec<Table> {
        let list = self.at(&["plugins", TRANSFER_2, "unpack_config"]).and_then(Value::as_array);
        let said: Vec<Table> = list.into_iter().flatten().filter_map(|e| e.as_table().cloned()).collect();
        if said.is_empty() { vec![super::unpacking("overlayfs")] } else { said }
    }

    /// Whether the transfer service unpacks all that `others` says, and into `snapshotter`.
    pub fn unpacks(&self, others: &[Table], snapshotter: &str) -> bool {
        let own = super::unpacking(snapshotter);
        let pair = |t: &Table| (t.get("platform").cloned(), t.get("snapshotter").cloned());
        let now: Vec<_> = self.unpacked().iter().map(pair).collect();
        others.iter().chain([&own]).all(|entry| now.contains(&pair(entry)))
    }

    /// Whether snapshotters are told what they unpack.
    pub fn snapshots_are_annotated(&self) -> bool {
        let paths: [&[&str]; 2] = [
            &["plugins", IMAGES_2, "disable_snapshot_annotations"],
            &["plugins", CRI_1, "containerd", "disable_snapshot_annotations"],
        ];
        paths.into_iter().find_map(|path| self.at(path)?.as_bool()) == Some(false)
    }

    /// The socket that containerd listens on.
    pub fn address(&self) -> String {
        let paths: [&[&str]; 2] =
            [&["grpc", "address"], &["plugins", "io.containerd.server.v1.grpc", "address"]];
        let found = paths.into_iter().find_map(|path| self.at(path)?.as_str().filter(|s| !s.is_empty()));
        found.unwrap_or("/run/containerd/containerd.sock").to_owned()
    }

    /// Whether the CRI plugin is switched off, as some packages ship it.
    pub fn cri_disabled(&self) -> bool {
        let list = self.at(&["disabled_plugins"]).and_then(Value::as_array);
        list.into_iter().flatten().filter_map(Value::as_str).any(|p| p == "cri" || p.contains(".cri"))
    }

    /// What differs in `after`, apart from what belongs to Cocoon: paths of keys with both values. At most ten.
    pub fn differences(&self, after: &Effective, scope: &Scope<'_>) -> Vec<String> {
        let (before, after) = (self.foreign(scope), after.foreign(scope));
        let keys: std::collections::BTreeSet<_> = before.keys().chain(after.keys()).collect();
        let show = |value: Option<&Value>| value.map_or_else(|| "nothing".into(), Value::to_string);
        keys.into_iter()
            .filter(|key| before.get(*key) != after.get(*key))
            .map(|key| format!("{key}: {} became {}", show(before.get(key)), show(after.get(key))))
            .take(10)
            .collect()
    }

    /// Every leaf but Cocoon's, by its path.
    fn foreign(&self, scope: &Scope<'_>) -> BTreeMap<String, Value> {
        let mut leaves = BTreeMap::new();
        flatten(&mut Vec::new(), &self.0, scope, &mut leaves);
        leaves
    }
}

fn flatten(path: &mut Vec<String>, table: &Table, scope: &Scope<'_>, leaves: &mut BTreeMap<String, Value>) {
    for (key, value) in table {
        path.push(key.clone());
        if !ours(path, scope) {
            match value {
                Value::Table(inner) if !inner.is_empty() => flatten(path, inner, scope, leaves),
                // An empty table and none are the same to containerd.
                Value::Table(_) => {}
                leaf => {
                    leaves.insert(path.join("."), leaf.clone());
                }
            }
        }
        path.pop();
    }
}

fn ours(path: &[String], scope: &Scope<'_>) -> bool {
    let parts: Vec<&str> = path.iter().map(String::as_str).collect();
    match parts.as_slice() {
        // Names of files, and whatever containerd calls its newest version: neither changes what it does.
        ["imports" | "version"] => true,
        ["proxy_plugins", name] => *name == scope.snapshotter,
        ["plugins", RUNTIME_2 | CRI_1, "containerd", "runtimes", name]
        | ["plugins", IMAGES_2, "runtime_platforms", name] => scope.runtimes.contains(name),
        ["plugins", IMAGES_2, "disable_snapshot_annotations"]
        | ["plugins", CRI_1, "containerd", "disable_snapshot_annotations"] => true,
        // Its entries are compared one by one, by `unpacks`.
        ["plugins", TRANSFER_2, "unpack_config"] => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCOPE: Scope<'_> = Scope { runtimes: &["cocoon"], snapshotter: "cocoon" };

    fn parse(text: &str) -> Effective {
        Effective::parse(text).unwrap()
    }

    #[test]
    fn only_cocoons_own_may_differ() {
        let before =
            parse("a = 1\n[plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.runc]\nx = 'y'\n");
        let good = parse(
            "a = 1\nimports = ['x']\n[plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.runc]\nx = 'y'\n\
             [plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.cocoon]\nx = 'z'\n[proxy_plugins.cocoon]\nt = 1\n",
        );
        assert!(before.differences(&good, &SCOPE).is_empty());
        assert_eq!(good.runtimes().len(), 2);
        let lost =
            parse("a = 1\n[plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.cocoon]\nx = 'z'\n");
        let differences = before.differences(&lost, &SCOPE);
        assert_eq!(differences.len(), 1, "{differences:?}");
        assert!(differences[0].contains("runc") && differences[0].contains("became nothing"));
        let other = parse("a = 2\n[proxy_plugins.nydus]\nt = 1\n");
        assert_eq!(before.differences(&other, &SCOPE).len(), 3);
    }

    #[test]
    fn what_is_asked_is_found_in_both_forms() {
        let one = parse(
            "[plugins.'io.containerd.grpc.v1.cri'.containerd]\ndisable_snapshot_annotations = false\n[plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.c]\nsnapshotter = 's'\n",
        );
        assert!(one.snapshots_are_annotated());
        assert_eq!(one.snapshotter_of("c").as_deref(), Some("s"));
        let two = parse(
            "disabled_plugins = ['cri']\n[grpc]\naddress = '/x'\n[plugins.'io.containerd.cri.v1.images'.runtime_platforms.c]\nsnapshotter = 's'\n",
        );
        assert_eq!(two.snapshotter_of("c").as_deref(), Some("s"));
        assert!(!two.snapshots_are_annotated() && two.cri_disabled());
        assert_eq!(
            (two.address().as_str(), parse("").address().as_str()),
            ("/x", "/run/containerd/containerd.sock")
        );
        assert!(Effective::parse("= =").is_err());
    }
}
