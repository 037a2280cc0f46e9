//! containerd: there, of a known version, and told of Cocoon in its effective configuration.

use super::{Installed, Look};
use crate::Check;
use crate::containerd::{Containerd, Effective, RUNTIME_TYPE, SNAPSHOTTER};
use crate::install::Store;

const INSTALL: &str = "cocoon node install";

pub(crate) fn checks(look: &Look<'_>, installed: &[Installed]) -> Vec<Check> {
    let name = "containerd";
    let none = "Kubernetes cannot start pods of Cocoon on this node";
    let containerd = match Containerd::find(look.containerd.as_deref()) {
        Ok(containerd) => containerd,
        Err(e) => {
            let mend =
                "apt-get install --no-install-recommends containerd, or name the program with --containerd";
            return vec![Check::missing(name, e.reason, none).mend(mend)];
        }
    };
    let found = format!("{}, {}", containerd.version(), containerd.program().display());
    let Ok(_) = containerd.dialect() else {
        return vec![
            Check::missing(name, found, "of a version that Cocoon does not know")
                .mend("install containerd 1.6, 1.7 or 2.x"),
        ];
    };
    let mut checks = vec![Check::ok(name, found, "runs pods")];
    let name = "configuration";
    match containerd.effective(&look.places.on_disk(&look.places.config)) {
        Ok(effective) => {
            checks.push(runtimes(&effective, look, installed));
            if effective.cri_disabled() {
                let mend = format!("take cri out of disabled_plugins in {}", look.places.config.display());
                let means = "kubelet cannot use this containerd at all";
                checks.push(Check::missing("CRI", "switched off (disabled_plugins)", means).mend(mend));
            }
            checks.extend(snapshotter(&effective));
        }
        Err(e) => {
            let means = "containerd does not start with this configuration";
            let mend = format!(
                "mend {}; `cocoon node uninstall` takes Cocoon's part out",
                look.places.config.display()
            );
            checks.push(Check::missing(name, e, means).mend(mend));
        }
    }
    checks.push(installation(look));
    checks
}

fn runtimes(effective: &Effective, look: &Look<'_>, installed: &[Installed]) -> Check {
    let name = "runtimes";
    let runtimes = effective.runtimes();
    let ours: Vec<(&String, &toml::Value)> = runtimes
        .iter()
        .filter(|(_, r)| r.get("runtime_type").and_then(toml::Value::as_str) == Some(RUNTIME_TYPE))
        .collect();
    if ours.is_empty() {
        let means = "containerd does not know Cocoon: pods of its classes fail with \"no runtime for … is configured\"";
        return Check::missing(name, "none of Cocoon's in the effective configuration", means).mend(INSTALL);
    }
    let files = |r: &toml::Value| -> Option<String> {
        let file = r.get("options")?.get("ConfigPath")?.as_str()?;
        (!look.places.on_disk(std::path::Path::new(file)).is_file()).then(|| file.to_owned())
    };
    let lacking: Vec<String> = ours.iter().filter_map(|(_, r)| files(r)).collect();
    let names: Vec<&str> = ours.iter().map(|(name, _)| name.as_str()).collect();
    let unknown: Vec<&str> =
        installed.iter().map(|i| i.class.name).filter(|class| !names.contains(class)).collect();
    if !lacking.is_empty() {
        let found = format!("{}; not there: {}", names.join(", "), lacking.join(", "));
        return Check::missing(name, found, "pods of that class cannot start").mend(INSTALL);
    }
    if !unknown.is_empty() {
        let found = format!("{}; containerd does not know {}", names.join(", "), unknown.join(", "));
        return Check::warn(name, found, "pods of that class cannot start here").mend(INSTALL);
    }
    Check::ok(name, names.join(", "), "RuntimeClasses with these handlers can be used")
}

fn snapshotter(effective: &Effective) -> Option<Check> {
    let name = "snapshotter";
    let plugins = effective.proxy_plugins();
    let address = plugins.get(SNAPSHOTTER)?.get("address")?.as_str()?;
    if !std::path::Path::new(address).exists() {
        let means = "containerd cannot prepare images of Cocoon's pods";
        return Some(
            Check::missing(name, format!("nothing at {address}"), means)
                .mend("run `cocoon node snapshotter` as a service"),
        );
    }
    let means = "layers that only guests read are not fetched by this node";
    Some(if std::os::unix::net::UnixStream::connect(address).is_ok() {
        Check::ok(name, address, means)
    } else {
        Check::missing(
            name,
            format!("nobody answers at {address}"),
            "containerd cannot prepare images of Cocoon's pods",
        )
        .mend("run `cocoon node snapshotter` as a service")
    })
}

/// What the installer remembers, against what is there.
fn installation(look: &Look<'_>) -> Check {
    let name = "installation";
    let places = &look.places;
    let (manifest, journal) = match Store::look(&places.on_disk(&places.state)) {
        Ok(found) => found,
        Err(e) => {
            return Check::missing(name, e.reason, "it cannot be repaired or removed")
                .mend("restore that file, or remove it");
        }
    };
    if journal.is_some() {
        return Check::missing(name, "was cut off in the middle", "files of two states may be mixed")
            .mend(INSTALL);
    }
    let Some(manifest) = manifest else {
        return Check::warn(name, "none by `cocoon node install`", "whatever is there was put there by hand")
            .mend(INSTALL);
    };
    let drifted: Vec<String> = manifest
        .entries
        .iter()
        .filter(|e| !matches!(crate::install::Print::of(&e.path), Ok(Some(now)) if now == e.installed))
        .map(|e| e.path.display().to_string())
        .collect();
    if drifted.is_empty() {
        return Check::ok(
            name,
            format!("{} files, version {}", manifest.entries.len(), manifest.by),
            "as it was installed",
        );
    }
    let means =
        "changed since by someone; class files may be changed, the others are repaired by installing again";
    Check::warn(name, format!("not as installed: {}", drifted.join(", ")), means).mend(INSTALL)
}
