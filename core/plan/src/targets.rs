//! Where in a container things are mounted, and what must not lie on or over what.
//!
//! Files of the host may change while the pod runs: what is mounted on or below them could go with one of them, and a
//! volume over a secret would take its place. This is about the paths as the plan has them; links of an image may make two
//! of them one, which is for the guest to find out when it mounts.

use std::collections::{BTreeMap, BTreeSet};

use crate::pod::VolumeSource;
use crate::{ContainerPlan, Error, MountPlan, SecretPlan};

/// A path without what means nothing in it: `/a//./b/` and `/a/b` are one.
fn parts(path: &str) -> Vec<&str> {
    path.split('/').filter(|part| !matches!(*part, "" | ".")).collect()
}

/// Something that appears in a container.
struct Place<'a> {
    field: String,
    parts: Vec<&'a str>,
    /// Whether it is a volume, and whether one of files.
    volume: bool,
    files: bool,
}

/// Checks the targets of one container. `at` is its field in the plan.
///
/// # Errors
/// [`Error::Field`] where one path is used twice, where something is at or below a volume of files, or a volume at or
/// above a secret.
pub(crate) fn check(
    at: &str,
    container: &ContainerPlan,
    volumes: &BTreeMap<&str, &VolumeSource>,
    secrets: &[SecretPlan],
) -> Result<(), Error> {
    let place = |field: String, path| Place { field, parts: parts(path), volume: false, files: false };
    let mut places = Vec::new();
    for (i, mount) in container.mounts.iter().enumerate() {
        let mut place = place(format!("{at}.mounts[{i}].target"), mount.target());
        if let MountPlan::Volume { volume, .. } = mount {
            place.volume = true;
            place.files = matches!(volumes.get(volume.as_str()), Some(VolumeSource::Files { .. }));
        }
        places.push(place);
    }
    for (i, device) in container.devices.iter().enumerate() {
        places.push(place(format!("{at}.devices[{i}].path"), &device.path));
    }
    let mut targets = BTreeSet::new();
    if let Some(twice) = places.iter().find(|p| !targets.insert(p.parts.as_slice())) {
        return Err(Error::field(twice.field.clone(), "is mounted twice"));
    }
    if let Some(path) = &container.termination_message {
        places.push(place(format!("{at}.termination_message"), path));
    }
    let secrets: Vec<_> = secrets
        .iter()
        .enumerate()
        .filter_map(|(i, secret)| Some(place(format!("secrets[{i}].file"), secret.file.as_deref()?)))
        .collect();
    for volume in places.iter().filter(|p| p.volume) {
        if let Some(secret) = secrets.iter().find(|s| s.parts.starts_with(&volume.parts)) {
            let problem = format!("is a volume at or above {}", secret.field);
            return Err(Error::field(volume.field.clone(), problem));
        }
    }
    for files in places.iter().filter(|p| p.files) {
        let below = |p: &&Place<'_>| p.field != files.field && p.parts.starts_with(&files.parts);
        if let Some(place) = places.iter().find(below) {
            let problem = format!("is at or below files of the host ({})", files.field);
            return Err(Error::field(place.field.clone(), problem));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::pod::{DevicePlan, VolumePlan, VolumeSource};
    use crate::types::tests::sample;
    use crate::{MountPlan, Plan, SecretPlan};

    /// What is said of a plan whose container has `mounts` (target, volume) and one secret at `secret`.
    fn said(mounts: &[(&str, &str)], secret: &str, change: impl Fn(&mut Plan)) -> String {
        let mut plan = sample();
        let volume = |name: &str, source| VolumePlan { name: name.into(), source };
        plan.volumes = vec![
            volume("files", VolumeSource::Files { digests: None }),
            volume("pinned", VolumeSource::Files { digests: Some(Default::default()) }),
            volume("memory", VolumeSource::Memory { size: 1, gid: None }),
            volume("disk", VolumeSource::Block {}),
        ];
        plan.secrets = vec![SecretPlan { uri: "kbs:///a/b/c".into(), file: Some(secret.into()) }];
        plan.containers[0].mounts = mounts
            .iter()
            .map(|(target, volume)| match *volume {
                "tmpfs" => MountPlan::Tmpfs { target: (*target).into(), size: 1 },
                volume => MountPlan::Volume {
                    target: (*target).into(),
                    volume: volume.into(),
                    sub_path: String::new(),
                    read_only: true,
                },
            })
            .collect();
        change(&mut plan);
        plan.to_canonical().map_or_else(|e| e.to_string(), |_| String::new())
    }

    #[test]
    fn nothing_lies_at_or_below_files_of_the_host() {
        let with = |mounts: &[(&str, &str)]| said(mounts, "/run/secrets/token", |_| {});
        for below in ["/etc/app/key", "/etc/./app//d/x/", "/etc/app/"] {
            let secret = said(&[("/etc/app", "files")], below, |_| {});
            assert!(secret.contains("above secrets[0].file"), "{below}: {secret}");
            let message = said(&[("/etc/app", "files")], "/s", |p| {
                p.containers[0].termination_message = Some(below.into());
            });
            assert!(message.contains("termination_message: is at or below"), "{below}: {message}");
        }
        for kind in ["tmpfs", "memory", "pinned", "files"] {
            let why = with(&[("/etc/app/x", kind), ("/etc/app", "files")]);
            assert!(why.contains("mounts[0].target: is at or below"), "{kind}: {why}");
            assert!(with(&[("/etc/app", "pinned"), ("/etc/app/x", kind)]).contains("mounts[1]"), "{kind}");
        }
        let device = said(&[("/data", "files")], "/s", |p| {
            p.containers[0].devices =
                vec![DevicePlan { path: "/data/disk".into(), volume: "disk".into(), read_only: false }];
        });
        assert!(device.contains("devices[0].path: is at or below"), "{device}");
        // A name that begins alike is another, and what is the guest's own may hold more.
        let fine = [("/etc/app", "files"), ("/etc/apple", "files"), ("/m", "memory"), ("/m/x", "files")];
        assert_eq!(with(&fine), "");
    }

    #[test]
    fn no_volume_is_at_or_above_a_secret() {
        let with = |target, kind| said(&[(target, kind)], "/run/secrets/token", |_| {});
        for target in ["/run", "/run/secrets", "/run/secrets/", "/run/secrets/token", "/./run"] {
            for kind in ["files", "pinned", "memory"] {
                let why = with(target, kind);
                assert!(why.contains("at or above secrets[0].file"), "{target} {kind}: {why}");
            }
        }
        assert_eq!(with("/run/secrets/kubernetes.io/serviceaccount", "files"), "");
        assert_eq!(with("/var/run/secrets/kubernetes.io/serviceaccount", "files"), "");
        assert_eq!(with("/run", "tmpfs"), "");
    }

    #[test]
    fn one_path_written_in_two_ways_is_one() {
        let why = said(&[("/a/b", "memory"), ("/a/./b", "files")], "/s", |_| {});
        assert!(why.contains("mounts[1].target: is mounted twice"), "{why}");
    }
}
