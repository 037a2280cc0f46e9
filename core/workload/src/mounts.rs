//! Where a container has volumes.

use cocoon_plan::MountPlan;
use cocoon_plan::pod::DevicePlan;

use crate::env::Env;
use crate::expand::{OpenReference, Variable, expand};
use crate::fields::Fields;
use crate::log::Log;
use crate::volumes::{Volume, Volumes, claim_is_no_folder};

/// What a container has of volumes.
#[derive(Debug, Default)]
pub(crate) struct Placed {
    pub(crate) mounts: Vec<MountPlan>,
    pub(crate) devices: Vec<DevicePlan>,
}

/// Reads `volumeMounts` and `volumeDevices`.
pub(crate) fn read(container: &mut Fields<'_>, volumes: &Volumes, env: &Env, log: &mut Log) -> Placed {
    let mut placed = Placed::default();
    for mount in container.objects("volumeMounts", "mountPath", log) {
        placed.mounts.extend(one(mount, volumes, env, log));
    }
    for mut device in container.objects("volumeDevices", "devicePath", log) {
        let at = device.at.clone();
        let name = device.text("name", log).unwrap_or_default().to_owned();
        let path = device.text("devicePath", log).unwrap_or_default().to_owned();
        device.finish(log);
        match volumes.get(&name) {
            Some((_, Volume::Claim { file_system: false, read_only })) => {
                let why = "the disk is the node's; what is on it is for the workload to encrypt and check";
                log.fixed(&at, &path, why);
                placed.devices.push(DevicePlan { path, volume: name, read_only: *read_only });
            }
            Some((_, Volume::Encrypted { read_only, .. })) => {
                if !path.starts_with('/')
                    || path.split('/').any(|part| part == "..")
                    || path.trim_matches('/').is_empty()
                {
                    log.wrong(&at, format!("devicePath {path:?} is no absolute path below the root"));
                    continue;
                }
                log.fixed(
                    &at,
                    &path,
                    "the encrypted volume's file system is mounted here, in place of a device",
                );
                placed.mounts.push(MountPlan::Volume {
                    target: path,
                    volume: name,
                    sub_path: String::new(),
                    read_only: *read_only,
                });
            }
            Some((_, Volume::Claim { .. })) => {
                log.wrong(&at, format!("volume {name:?} has volumeMode Filesystem; a device needs Block"));
            }
            Some((_, Volume::Refused)) => {}
            Some(_) => log.wrong(&at, format!("volume {name:?} is no persistentVolumeClaim")),
            None => log.wrong(&at, format!("there is no volume {name:?}")),
        }
    }
    placed
}

fn one(mut mount: Fields<'_>, volumes: &Volumes, env: &Env, log: &mut Log) -> Option<MountPlan> {
    let at = mount.at.clone();
    let name = mount.text("name", log).unwrap_or_default().to_owned();
    let target = mount.text("mountPath", log).unwrap_or_default().to_owned();
    let mut read_only = mount.flag("readOnly", log).unwrap_or(false);
    let propagation = mount.one_of("mountPropagation", log, &["None", "HostToContainer", "Bidirectional"]);
    if propagation.is_some_and(|p| p != "None") {
        log.refuse(
            &mount.path("mountPropagation"),
            "mounts of the node cannot reach the guest, nor the guest's the node",
        );
    }
    mount.one_of("recursiveReadOnly", log, &["Disabled", "IfPossible", "Enabled"]);
    let plain = mount.text("subPath", log).unwrap_or_default().to_owned();
    let sub_path = match mount.text("subPathExpr", log) {
        None | Some("") => plain,
        Some(_) if !plain.is_empty() => {
            log.wrong(&at, "has both subPath and subPathExpr");
            plain
        }
        Some(expression) => {
            let variable = |name: &str| match env.variable(name) {
                // Kubelet wants every name to be known.
                Variable::Unknown => Variable::Open,
                known => known,
            };
            expand(expression, variable).unwrap_or_else(|OpenReference(open)| {
                let why = format!(
                    "refers to {open}, which only the cluster knows, and where things are mounted is fixed"
                );
                log.refuse(&mount.path("subPathExpr"), why);
                String::new()
            })
        }
    };
    mount.finish(log);
    // `./a//b/` is `a/b` to kubelet.
    let sub_path: Vec<&str> = sub_path.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    if sub_path.contains(&"..") {
        log.wrong(&at, "has a subPath that leaves the volume");
        return None;
    }
    if !target.starts_with('/')
        || target.split('/').any(|part| part == "..")
        || target.trim_matches('/').is_empty()
    {
        log.wrong(&at, format!("mountPath {target:?} is no absolute path below the root"));
        return None;
    }
    match volumes.get(&name) {
        None => log.wrong(&at, format!("there is no volume {name:?}")),
        Some((_, Volume::Refused)) => {}
        Some((_, Volume::Encrypted { .. })) => {
            log.wrong(
                &at,
                format!(
                    "volume {name:?} is a disk: name it under volumeDevices, with the folder as devicePath"
                ),
            );
        }
        Some((_, Volume::Claim { .. })) => claim_is_no_folder(log, &at),
        Some((_, Volume::Mountable(source))) => {
            if matches!(source, cocoon_plan::pod::VolumeSource::Files { .. }) {
                // As kubelet does since such volumes are read-only (1.9.6): writing would change nothing.
                read_only = true;
            }
            let sub_path = sub_path.join("/");
            let what = if sub_path.is_empty() { name.clone() } else { format!("{name}: {sub_path}") };
            let access = if read_only { ", read-only" } else { "" };
            log.fixed(&at, format!("{what}{access}"), "only this is mounted here");
            return Some(MountPlan::Volume { target, volume: name, sub_path, read_only });
        }
    }
    None
}
