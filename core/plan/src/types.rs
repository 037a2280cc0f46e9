//! The plan document, version 1: its types, its limits and its canonical form.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::images::{ImageSettings, MAX_SHARED_LAYERS, SharedLayer};
use crate::pod::{self, ContainerKind, DevicePlan, ExecRules, VolumePlan};

/// The name of the plan's file in initdata's `[data]` table.
pub const PLAN_FILE: &str = "plan.json";

/// Largest plan in bytes: it must fit the 256 KiB annotation together with everything else in initdata.
pub const MAX_PLAN_BYTES: usize = 192 * 1024;

const VERSION: u64 = 1;
const MAX_CONTAINERS: usize = 64;
const MAX_LIST: usize = 4096;

/// A sandbox plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Format version; 1.
    pub version: u64,
    /// The workload's name, for people: `[a-z0-9.-]`, 1 to 63 characters.
    pub name: String,
    /// A random value that makes two plans of the same workload differ, so that each run has a digest, and so
    /// secrets, of its own. Hex, at most 64 characters.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub instance: String,
    /// The containers, in start order.
    pub containers: Vec<ContainerPlan>,
    /// The secrets that the guest fetches before any container starts.
    #[serde(default)]
    pub secrets: Vec<SecretPlan>,
    /// Whether the workload may ask for tokens and evidence of its own (`/aa/…` on its REST endpoint). With evidence it
    /// can act towards Trustee as the guest itself, and so fetch image keys and registry credentials.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub attestation_api: bool,
    /// `kbs:///…` of a registry `auth.json`, where the images need credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registry_auth: Option<String>,
    /// How images reach the guest, and which it may take.
    #[serde(default, skip_serializing_if = "ImageSettings::is_default")]
    pub images: ImageSettings,
    /// What containers may mount beside their own tmpfs; shared by the pod's containers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<VolumePlan>,
    /// Kernel settings of the pod: dotted names below `/proc/sys`, such as `net.core.somaxconn`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sysctls: BTreeMap<String, String>,
    /// Whether the pod's containers see each other's processes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub share_process_namespace: bool,
    /// TCP ports of the pod's loopback to which the host may forward connections (`kubectl port-forward`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub forward_ports: Vec<u16>,
}

/// One container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContainerPlan {
    /// The name by which the host asks for it: `[a-z0-9.-]`, 1 to 63 characters, unique in the plan.
    pub name: String,
    /// When it runs, and how often.
    #[serde(default, skip_serializing_if = "ContainerKind::is_app")]
    pub kind: ContainerKind,
    /// The image, pinned by digest.
    pub image: ImagePlan,
    /// Program and arguments; never empty.
    pub args: Vec<String>,
    /// Environment as `NAME=value`, in order.
    #[serde(default)]
    pub env: Vec<String>,
    /// Names of further variables that the host may set, untrusted: service discovery, downward API. A `*` may stand for
    /// any characters, at the beginning or the end. A name that `env` sets is never the host's to change.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub host_env: Vec<String>,
    /// Working directory, absolute.
    pub cwd: String,
    /// User as in an image config: empty (root), `user`, `uid`, `user:group` or `uid:gid`. Names are looked up
    /// in the verified image's `/etc/passwd` and `/etc/group`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// Groups beside those of `user`: `fsGroup` and `supplementalGroups`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<u32>,
    /// Refuse to start where `user` turns out to be root.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub run_as_non_root: bool,
    /// Linux capabilities kept (`CAP_…`), as bounding, permitted, effective and inheritable set.
    #[serde(default)]
    pub capabilities: Vec<String>,
    /// Whether `no_new_privs` is set.
    pub no_new_privileges: bool,
    /// Whether the root file system is read-only.
    #[serde(default)]
    pub read_only_root: bool,
    /// The system call filter.
    pub seccomp: Seccomp,
    /// A profile (OCI runtime-spec, Linux, seccomp) in place of `seccomp`'s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seccomp_profile: Option<serde_json::Value>,
    /// Whether nothing of `/proc` and `/sys` is masked or read-only (`procMount: Unmasked`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unmasked: bool,
    /// Mounts beside the standard ones (/proc, /dev, /sys, /tmp stays in the image).
    #[serde(default)]
    pub mounts: Vec<MountPlan>,
    /// Block volumes as devices.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<DevicePlan>,
    /// What the host may run in it: probes, hooks, `kubectl exec`.
    #[serde(default, skip_serializing_if = "ExecRules::is_none")]
    pub exec: ExecRules,
    /// Absolute path of the file, at most 4 KiB of which the host may read once the container ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub termination_message: Option<String>,
    /// Whether the container has a terminal.
    #[serde(default)]
    pub terminal: bool,
    /// Whether the host may write to standard input.
    #[serde(default)]
    pub stdin: bool,
    /// Whether the host may read standard output and error.
    pub logs: bool,
    /// What happens when it ends.
    pub restart: Restart,
    /// The signal that asks it to stop, as a number (15 = SIGTERM).
    pub stop_signal: u32,
}

/// An image pinned by digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImagePlan {
    /// The reference as the owner wrote it; signature policy is decided on this name. A digest in it must be `digest`.
    pub reference: String,
    /// The manifest's (or index's) digest, `sha256:<64 hex>`.
    pub digest: String,
    /// The signature that the image must carry, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<SignatureRequirement>,
    /// Its layers as block devices that the host attaches, lowest first; without it the guest pulls the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layers: Option<Vec<SharedLayer>>,
}

/// A signature that an image must carry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignatureRequirement {
    /// The public key, PEM (SubjectPublicKeyInfo).
    pub key_pem: String,
}

/// The system call filter of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Seccomp {
    /// The guest's built-in profile.
    RuntimeDefault,
    /// No filter.
    Unconfined,
}

/// What happens when a container ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    /// It stays ended.
    Never,
    /// The host may run it again where its exit status was not 0.
    OnFailure,
    /// The host may run it again.
    Always,
}

/// A mount beside the standard ones.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", deny_unknown_fields)]
pub enum MountPlan {
    /// An empty directory in the guest's encrypted memory.
    Tmpfs {
        /// Absolute path in the container.
        target: String,
        /// Size limit in bytes.
        size: u64,
    },
    /// One of the plan's volumes.
    Volume {
        /// Absolute path in the container.
        target: String,
        /// The volume's name.
        volume: String,
        /// A path below the volume, in place of its root.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        sub_path: String,
        /// Whether the container may only read it.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        read_only: bool,
    },
}

impl MountPlan {
    /// Absolute path in the container.
    pub fn target(&self) -> &str {
        match self {
            MountPlan::Tmpfs { target, .. } | MountPlan::Volume { target, .. } => target,
        }
    }
}

/// A secret that the guest fetches from Trustee before any container starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretPlan {
    /// `kbs:///<repository>/<type>/<tag>`.
    pub uri: String,
    /// Absolute path of the file in every container, or none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
}

impl Plan {
    /// Reads and checks a plan.
    ///
    /// # Errors
    /// [`Error`] for a document that is too large, malformed, of another version, or whose values are not allowed.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        if bytes.len() > MAX_PLAN_BYTES {
            return Err(Error::TooLarge(bytes.len()));
        }
        // The version is looked at first, so that a newer plan is named as such and not as malformed.
        #[derive(Deserialize)]
        struct Versioned {
            version: u64,
        }
        let versioned: Versioned = serde_json::from_slice(bytes).map_err(Error::Malformed)?;
        if versioned.version != VERSION {
            return Err(Error::Version { found: versioned.version, supported: VERSION });
        }
        let plan: Plan = serde_json::from_slice(bytes).map_err(Error::Malformed)?;
        plan.check()?;
        Ok(plan)
    }

    /// The canonical form (RFC 8785): the bytes that go into initdata.
    ///
    /// # Errors
    /// [`Error`] where the plan is not a valid one.
    pub fn to_canonical(&self) -> Result<Vec<u8>, Error> {
        self.check()?;
        let value = serde_json::to_value(self).map_err(Error::Malformed)?;
        let bytes =
            cocoon_protocol::jcs::canonicalize(&value).map_err(|e| Error::field("plan", e.to_string()))?;
        if bytes.len() > MAX_PLAN_BYTES {
            return Err(Error::TooLarge(bytes.len()));
        }
        Ok(bytes)
    }

    /// The container of this name.
    pub fn container(&self, name: &str) -> Option<&ContainerPlan> {
        self.containers.iter().find(|c| c.name == name)
    }

    fn check(&self) -> Result<(), Error> {
        if self.version != VERSION {
            return Err(Error::Version { found: self.version, supported: VERSION });
        }
        check_name("name", &self.name)?;
        if self.instance.len() > 64 || !self.instance.chars().all(|c| c.is_ascii_hexdigit()) {
            return Err(Error::field("instance", "must be at most 64 hex characters"));
        }
        if self.containers.is_empty() || self.containers.len() > MAX_CONTAINERS {
            return Err(Error::field("containers", format!("must hold 1 to {MAX_CONTAINERS}")));
        }
        let mut names = BTreeSet::new();
        for (i, container) in self.containers.iter().enumerate() {
            let at = format!("containers[{i}]");
            container.check(&at)?;
            if !names.insert(&container.name) {
                return Err(Error::field(format!("{at}.name"), "is used twice"));
            }
        }
        if self.secrets.len() > MAX_LIST {
            return Err(Error::field("secrets", "too many"));
        }
        for (i, secret) in self.secrets.iter().enumerate() {
            check_uri(&format!("secrets[{i}].uri"), &secret.uri)?;
            if let Some(file) = &secret.file {
                check_path(&format!("secrets[{i}].file"), file)?;
            }
        }
        if let Some(uri) = &self.registry_auth {
            check_uri("registry_auth", uri)?;
        }
        self.images.check("images")?;
        pod::check(self)
    }
}

impl ContainerPlan {
    fn check(&self, at: &str) -> Result<(), Error> {
        check_name(&format!("{at}.name"), &self.name)?;
        let digest_ok = self
            .image
            .digest
            .strip_prefix("sha256:")
            .is_some_and(|h| h.len() == 64 && h.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f')));
        if !digest_ok {
            return Err(Error::field(format!("{at}.image.digest"), "must be sha256:<64 lower-case hex>"));
        }
        if self.image.reference.is_empty() || self.image.reference.len() > 512 {
            return Err(Error::field(format!("{at}.image.reference"), "must be 1 to 512 characters"));
        }
        // Two digests would leave open which image is meant: policies are decided on the name.
        if self.image.reference.split_once('@').is_some_and(|(_, digest)| digest != self.image.digest) {
            return Err(Error::field(format!("{at}.image.reference"), "holds another digest than the plan"));
        }
        for (i, layer) in self.image.layers.iter().flatten().enumerate() {
            layer.check(&format!("{at}.image.layers[{i}]"))?;
        }
        if self.image.layers.as_ref().is_some_and(|l| l.is_empty() || l.len() > MAX_SHARED_LAYERS) {
            return Err(Error::field(
                format!("{at}.image.layers"),
                format!("must hold 1 to {MAX_SHARED_LAYERS}"),
            ));
        }
        if self.args.first().is_none_or(String::is_empty) || self.args.len() > MAX_LIST {
            return Err(Error::field(format!("{at}.args"), "must name a program"));
        }
        if self.env.len() > MAX_LIST {
            return Err(Error::field(format!("{at}.env"), "too many"));
        }
        for (i, entry) in self.env.iter().enumerate() {
            if entry.find('=').is_none_or(|p| p == 0) {
                return Err(Error::field(format!("{at}.env[{i}]"), "must be NAME=value"));
            }
        }
        let texts = self.args.iter().chain(&self.env).chain([&self.cwd, &self.user]);
        if texts.into_iter().any(|t| t.contains('\0')) {
            return Err(Error::field(at, "holds a NUL character"));
        }
        check_path(&format!("{at}.cwd"), &self.cwd)?;
        for (i, cap) in self.capabilities.iter().enumerate() {
            if !cap.starts_with("CAP_") {
                return Err(Error::field(format!("{at}.capabilities[{i}]"), "must begin with CAP_"));
            }
        }
        for (i, mount) in self.mounts.iter().enumerate() {
            let target = mount.target();
            check_path(&format!("{at}.mounts[{i}].target"), target)?;
            if target == "/" {
                return Err(Error::field(format!("{at}.mounts[{i}].target"), "must not be the root"));
            }
        }
        if !(1..=64).contains(&self.stop_signal) {
            return Err(Error::field(format!("{at}.stop_signal"), "must be 1 to 64"));
        }
        Ok(())
    }
}

pub(crate) fn check_name(field: &str, name: &str) -> Result<(), Error> {
    let ok = (1..=63).contains(&name.len())
        && name.chars().all(|c| matches!(c, 'a'..='z' | '0'..='9' | '-' | '.'))
        && name.starts_with(|c: char| c.is_ascii_alphanumeric());
    if ok {
        Ok(())
    } else {
        Err(Error::field(field, "must be 1 to 63 of a-z 0-9 - . and begin with a letter or digit"))
    }
}

pub(crate) fn check_path(field: &str, path: &str) -> Result<(), Error> {
    let ok = path.starts_with('/')
        && path.len() <= 4096
        && !path.contains('\0')
        && path.split('/').all(|c| c != "..");
    if ok { Ok(()) } else { Err(Error::field(field, "must be an absolute path without `..`")) }
}

pub(crate) fn check_uri(field: &str, uri: &str) -> Result<(), Error> {
    uri.parse::<cocoon_protocol::uri::ResourceUri>()
        .map(|_| ())
        .map_err(|e| Error::field(field, e.to_string()))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn sample() -> Plan {
        Plan {
            version: 1,
            name: "demo".into(),
            instance: "00ff".into(),
            containers: vec![ContainerPlan {
                name: "main".into(),
                kind: ContainerKind::App,
                image: ImagePlan {
                    reference: "localhost:5000/busybox:1".into(),
                    digest: format!("sha256:{}", "a".repeat(64)),
                    signature: None,
                    layers: None,
                },
                args: vec!["/bin/true".into()],
                env: vec!["A=b".into()],
                host_env: Vec::new(),
                cwd: "/".into(),
                user: String::new(),
                groups: Vec::new(),
                run_as_non_root: false,
                capabilities: vec!["CAP_CHOWN".into()],
                no_new_privileges: true,
                read_only_root: false,
                seccomp: Seccomp::RuntimeDefault,
                seccomp_profile: None,
                unmasked: false,
                devices: Vec::new(),
                exec: ExecRules::default(),
                termination_message: None,
                mounts: vec![MountPlan::Tmpfs { target: "/scratch".into(), size: 1 << 20 }],
                terminal: false,
                stdin: true,
                logs: true,
                restart: Restart::Never,
                stop_signal: 15,
            }],
            secrets: vec![SecretPlan {
                uri: "kbs:///default/secret/token".into(),
                file: Some("/run/secrets/token".into()),
            }],
            attestation_api: false,
            registry_auth: None,
            images: ImageSettings::default(),
            volumes: Vec::new(),
            sysctls: BTreeMap::new(),
            share_process_namespace: false,
            forward_ports: Vec::new(),
        }
    }

    #[test]
    fn canonical_form_round_trips_and_is_stable() {
        let bytes = sample().to_canonical().unwrap();
        let again = Plan::parse(&bytes).unwrap();
        assert_eq!(again, sample());
        assert_eq!(again.to_canonical().unwrap(), bytes);
    }

    #[test]
    fn a_reference_holds_no_other_digest() {
        let mut plan = sample();
        let digest = plan.containers[0].image.digest.clone();
        let mut with = |reference: String| {
            plan.containers[0].image.reference = reference;
            plan.to_canonical().map_err(|e| e.to_string())
        };
        with(format!("localhost:5000/busybox:1@{digest}")).unwrap();
        for other in [
            format!("sha256:{}", "b".repeat(64)),
            digest.to_uppercase(),
            format!("sha512:{}", "a".repeat(128)),
            String::new(),
            format!("{digest}@{digest}"),
        ] {
            let e = with(format!("localhost:5000/busybox@{other}")).unwrap_err();
            assert!(e.contains("another digest"), "{e}");
        }
    }

    #[test]
    fn a_newer_version_is_named_as_such() {
        let mut value = serde_json::to_value(sample()).unwrap();
        value["version"] = 2.into();
        value["quantum"] = true.into();
        let err = Plan::parse(value.to_string().as_bytes()).unwrap_err();
        assert!(matches!(err, Error::Version { found: 2, supported: 1 }), "{err}");
    }

    #[test]
    fn unknown_fields_are_refused() {
        let mut value = serde_json::to_value(sample()).unwrap();
        value["containers"][0]["privileged"] = true.into();
        assert!(matches!(Plan::parse(value.to_string().as_bytes()), Err(Error::Malformed(_))));
    }

    #[test]
    fn bad_values_are_refused() {
        type Spoil = fn(&mut Plan);
        let spoils: &[(&str, Spoil)] = &[
            ("name", |p| p.name = "Bad Name".into()),
            ("containers", |p| p.containers.clear()),
            ("args", |p| p.containers[0].args.clear()),
            ("cwd", |p| p.containers[0].cwd = "/a/../../b".into()),
            ("digest", |p| p.containers[0].image.digest = "sha256:zz".into()),
            ("env", |p| p.containers[0].env.push("=x".into())),
            ("uri", |p| p.secrets[0].uri = "http://x".into()),
            ("file", |p| p.secrets[0].file = Some("relative".into())),
            ("target", |p| p.containers[0].mounts = vec![MountPlan::Tmpfs { target: "/".into(), size: 1 }]),
            ("name", |p| p.containers.push(p.containers[0].clone())),
        ];
        for (field, spoil) in spoils {
            let mut plan = sample();
            spoil(&mut plan);
            let err = plan.to_canonical().unwrap_err().to_string();
            assert!(err.contains(field), "{field}: {err}");
        }
    }

    #[test]
    fn a_huge_plan_is_refused() {
        let mut plan = sample();
        plan.containers[0].env.push(format!("X={}", "y".repeat(MAX_PLAN_BYTES)));
        assert!(matches!(plan.to_canonical(), Err(Error::TooLarge(_))));
        assert!(matches!(Plan::parse(&vec![b' '; MAX_PLAN_BYTES + 1]), Err(Error::TooLarge(_))));
    }
}
