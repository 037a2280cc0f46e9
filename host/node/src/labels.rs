//! What this node can do, as labels for a scheduler.

use std::collections::BTreeMap;
use std::path::Path;

use cocoon_runtime::Protection;
use serde::Serialize;

use crate::install::Class;
use crate::tee::Tees;

/// Pods of a TEE at once, whatever the kernel has keys for: they reach the host by the kernel's vsock, where all pods share its
/// port numbers, and the port of guests' events can be listened on once.
const PODS: u64 = 1;

/// Labels of a node: name to value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Labels(pub BTreeMap<String, String>);

impl Labels {
    /// For the machine below `root` with these classes installed.
    pub fn of(root: &Path, classes: &[Class]) -> Self {
        let tees = Tees::of(root);
        let mut labels = BTreeMap::new();
        let mut set = |name: &str, value: String| labels.insert(format!("cocoon.dev/{name}"), value);
        let has = |protection| classes.iter().any(|c| c.protection == protection);
        set("runtime", (!classes.is_empty()).to_string());
        // A platform counts where the machine has it and a class uses it.
        set("platform.snp", (tees.snp && (has(Protection::Snp) || has(Protection::Auto))).to_string());
        set("platform.tdx", (tees.tdx && (has(Protection::Tdx) || has(Protection::Auto))).to_string());
        set("platform.tpm", (tees.tpm && has(Protection::Tpm)).to_string());
        set("platform.sim", has(Protection::Sim).to_string());
        for class in classes {
            set(&format!("class.{}", class.name), "true".into());
        }
        if let Some(guests) = tees.snp_guests {
            set("capacity.snp", guests.min(PODS).to_string());
        }
        if let Some(guests) = tees.tdx_guests {
            set("capacity.tdx", guests.min(PODS).to_string());
        }
        Labels(labels)
    }

    /// The text of a file of node-feature-discovery's local source.
    pub fn feature_file(&self) -> String {
        self.0.iter().map(|(name, value)| format!("{name}={value}\n")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::install::CLASSES;

    #[test]
    fn a_label_is_true_only_where_machine_and_class_agree() {
        let root = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let labels = Labels::of(root.path(), &CLASSES);
        assert_eq!(labels.0["cocoon.dev/platform.snp"], "false");
        assert_eq!(labels.0["cocoon.dev/platform.sim"], "true");
        assert!(!labels.0.contains_key("cocoon.dev/capacity.snp"));
        put("sys/module/kvm_amd/parameters/sev_snp", "Y");
        put("dev/sev", "");
        put("sys/fs/cgroup/misc.capacity", "sev_es 99\n");
        let labels = Labels::of(root.path(), &CLASSES[..2]);
        assert!(labels.feature_file().contains("cocoon.dev/platform.snp=true\n"));
        assert!(labels.feature_file().contains("cocoon.dev/capacity.snp=1\n"));
        assert_eq!(labels.0["cocoon.dev/platform.sim"], "false");
        assert_eq!(Labels::of(root.path(), &[]).0["cocoon.dev/platform.snp"], "false");
    }
}
