//! Where Kubernetes' programs are.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::run;

/// The folders that `scripts/kubernetes.sh` fills.
#[derive(Clone, Debug)]
pub struct Programs(Vec<PathBuf>);

/// Without one of these there is no cluster.
const NEEDED: [&str; 8] = [
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
    "kubectl",
    "coredns",
    "helm",
];

impl Programs {
    /// Finds them; `None`, and the reason printed, where `COCOON_SKIP_KUBERNETES=1`.
    ///
    /// # Errors
    /// Where one is absent: `make test` builds them.
    pub fn find() -> Result<Option<Self>> {
        if std::env::var_os("COCOON_SKIP_KUBERNETES").is_some_and(|v| v == "1") {
            println!("skipped: COCOON_SKIP_KUBERNETES=1");
            return Ok(None);
        }
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/kubernetes.sh");
        let folders = String::from_utf8(run(&script.display().to_string(), ["--path"])?)?;
        let programs = Programs(std::env::split_paths(folders.trim()).collect());
        for name in NEEDED {
            if !programs.path(name).is_file() {
                bail!(
                    "{name} is not in {folders} (scripts/kubernetes.sh builds it; COCOON_SKIP_KUBERNETES=1 goes without)"
                );
            }
        }
        Ok(Some(programs))
    }

    /// A program's file; its bare name where it is none of Kubernetes'.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.iter().map(|folder| folder.join(name)).find(|p| p.is_file()).unwrap_or_else(|| name.into())
    }

    /// The folders.
    pub fn folders(&self) -> &[PathBuf] {
        &self.0
    }
}
