//! `cocoon node check`: whether pods of Cocoon can run on this node, and what its scheduler may be told.

mod containerd;
mod network;
mod platform;
mod runtime;

use std::path::{Path, PathBuf};

use cocoon_runtime::RuntimeConfig;
use cocoon_vmm::Qemu;
use serde::Serialize;

use crate::install::{CLASSES, Class, Places};
use crate::{Labels, Report, accel, host, qemu, tee};

/// Where to look.
pub struct Look<'a> {
    /// The node's places.
    pub places: Places,
    /// containerd's program; looked for where it is not given.
    pub containerd: Option<PathBuf>,
    /// Checks every byte of the guest image in a folder, and says what it is.
    pub verify_image: &'a (dyn Fn(&Path) -> Result<String, String> + Sync),
}

/// What was seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NodeReport {
    /// The checks.
    #[serde(flatten)]
    pub report: Report,
    /// What a scheduler may be told of this node.
    pub labels: Labels,
}

/// A class whose file is there.
pub(crate) struct Installed {
    pub(crate) class: Class,
    pub(crate) config: Result<RuntimeConfig, String>,
}

/// Looks at this node. Takes some seconds where KVM is present but does not work.
pub async fn check(look: &Look<'_>) -> NodeReport {
    let places = &look.places;
    let root = places.root.as_path();
    let installed = installed(places);
    let mut checks = vec![host::kernel(root)];
    checks.extend(containerd::checks(look, &installed));
    checks.extend(runtime::checks(look, &installed));
    checks.extend(platform::checks(root, &installed));
    let qemu = Qemu::find().ok();
    let image = installed.iter().find_map(|i| Some(i.config.as_ref().ok()?.guest_image.clone()));
    checks.push(accel::kvm(root, qemu.as_ref(), &image.unwrap_or_else(|| places.guest_image())).await);
    checks.extend(tee::checks(root));
    checks.extend(qemu::checks(qemu.as_ref()).await);
    checks.push(qemu::vsock(root, qemu.as_ref()).await);
    checks.extend(network::checks(root));
    checks.push(platform::cgroups(root));
    checks.push(host::memory(root));
    checks.extend(runtime::space(places, &installed));
    // The class as its file has it: a person may have changed the protection.
    let classes: Vec<Class> = installed
        .iter()
        .filter_map(|i| Some(Class { protection: i.config.as_ref().ok()?.protection, ..i.class }))
        .collect();
    NodeReport { report: Report { checks }, labels: Labels::of(root, &classes) }
}

fn installed(places: &Places) -> Vec<Installed> {
    let of = |class: Class| {
        let path = places.on_disk(&places.class(class.name));
        path.exists()
            .then(|| Installed { class, config: RuntimeConfig::read(&path).map_err(|e| e.to_string()) })
    };
    CLASSES.into_iter().filter_map(of).collect()
}
