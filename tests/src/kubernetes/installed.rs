//! A cluster with Cocoon's operator in it, whose image comes from the cluster's registry.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::Cluster;
use super::installer::push;
use super::kubectl::holds;
use crate::containerd::shim_program;
use crate::{cocoon_program, guest_image};

/// How long something of the operator's may take.
const LONG: Duration = Duration::from_secs(180);

/// The operator, installed.
pub struct Installed<'a> {
    /// The cluster.
    pub cluster: &'a Cluster,
    image: String,
    program: PathBuf,
    flags: Vec<String>,
}

impl<'a> Installed<'a> {
    /// Puts the image of all roles into the registry and installs the operator as `cocoon operator manifests` with these flags says;
    /// `None`, and the reason printed, where this call of the tests lacks something.
    ///
    /// # Errors
    /// Where it does not come up.
    pub fn start(cluster: &'a Cluster, flags: &[&str]) -> Result<Option<Self>> {
        let (Some(program), Some(shim), Some(guest)) = (cocoon_program(), shim_program(), guest_image())
        else {
            println!(
                "skipped: COCOON_BIN, COCOON_SHIM_BIN, COCOON_GUEST_IMAGE do not name what to test (make test does)"
            );
            return Ok(None);
        };
        let image = push(cluster, &program, Path::new(&shim), &guest, "1")?;
        let flags = flags.iter().map(|f| (*f).to_owned()).collect();
        let installed = Installed { cluster, image, program, flags };
        let manifest = installed.cocoon("manifests")?;
        cluster.kubectl_with(&["apply", "--server-side", "-f", "-"], manifest.as_bytes())?;
        installed
            .wait(&["deployments", "-n", "cocoon-system"], "cocoon-operator", |d| holds(d, "Available"))?;
        Ok(Some(installed))
    }

    fn cocoon(&self, command: &str) -> Result<String> {
        let output = Command::new(&self.program)
            .args(["operator", command, "--image", &self.image])
            .args(&self.flags)
            .env("KUBECONFIG", self.cluster.kubeconfig())
            .output()?;
        if !output.status.success() {
            bail!("cocoon operator {command}: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Waits until an object is as wished.
    ///
    /// # Errors
    /// Where it is not in time: with what the operator and pods say.
    pub fn wait(&self, kind: &[&str], name: &str, wished: impl FnMut(&Value) -> bool) -> Result<Value> {
        self.cluster.wait_for(kind, name, LONG, wished).with_context(|| self.words())
    }

    /// What the operator and its namespace's pods say.
    pub fn words(&self) -> String {
        let look = |args: &[&str]| self.cluster.kubectl(args).unwrap_or_else(|e| e.to_string());
        [
            look(&[
                "logs",
                "-n",
                "cocoon-system",
                "-l",
                "app.kubernetes.io/name=cocoon",
                "--tail=60",
                "--prefix",
            ]),
            look(&["describe", "pods", "-n", "cocoon-system"]),
        ]
        .join("\n")
    }

    /// Takes the operator out of the cluster, and waits until its namespace is gone.
    ///
    /// # Errors
    /// Where it does not go.
    pub fn remove(&self) -> Result<()> {
        self.cocoon("uninstall")?;
        self.cluster.kubectl(&["wait", "--for=delete", "namespace/cocoon-system", "--timeout=120s"]).map(drop)
    }
}
