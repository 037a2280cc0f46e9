//! The bundle's `config.json` (OCI runtime-spec), as far as a pod VM's host needs it, and what annotations say.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use cocoon_protocol::initdata::InitData;
use cocoon_stage::{Code, Failure, Stage};
use serde::Deserialize;

/// Largest specification that is read, in bytes: it may hold initdata in an annotation.
const MAX_SPEC: u64 = 4 << 20;

/// Our annotation for initdata; it wins over CoCo's.
const INITDATA: &str = "dev.cocoon.initdata";
/// CoCo's annotation for initdata, of the same form.
const COCO_INITDATA: &str = "io.katacontainers.config.hypervisor.cc_init_data";
/// Our annotation for the ports that `kubectl port-forward` reaches in a pod without plan: numbers with commas between.
const FORWARD_PORTS: &str = "dev.cocoon.forward-ports";
/// Begins the names of annotations that change the VM.
const HYPERVISOR: &str = "io.katacontainers.config.hypervisor.";
/// Settings below [`HYPERVISOR`] that change what is measured, or would be if they were followed.
const MEASURED: [&str; 12] = [
    "kernel_params",
    "kernel_verity_params",
    "kernel",
    "image",
    "initrd",
    "firmware",
    "firmware_volume",
    "machine_type",
    "machine_accelerators",
    "cpu_features",
    "path",
    "confidential_guest",
];

/// A bundle.
#[derive(Clone, Debug)]
pub struct Bundle {
    /// Its folder.
    pub dir: PathBuf,
    /// What of its specification matters here.
    pub spec: Spec,
    /// The specification, without annotations that hold initdata.
    pub json: Vec<u8>,
}

/// A runtime specification.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Spec {
    /// The host name.
    pub hostname: String,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
    /// Mounts, in order.
    pub mounts: Vec<Mount>,
    /// The first process.
    pub process: Process,
    /// What is Linux's own.
    pub linux: Linux,
}

/// A mount.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Mount {
    /// Path in the container.
    pub destination: String,
    /// The file system's type; `bind` for paths of the host.
    #[serde(rename = "type")]
    pub kind: String,
    /// Path on the host.
    pub source: String,
    /// Mount options.
    pub options: Vec<String>,
}

impl Mount {
    /// Whether it shows a path of the host.
    pub fn is_bind(&self) -> bool {
        self.kind == "bind" || self.options.iter().any(|o| o == "bind" || o == "rbind")
    }

    /// Whether the container may only read it.
    pub fn is_read_only(&self) -> bool {
        self.options.iter().any(|o| o == "ro")
    }
}

/// A process.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Process {
    /// Environment, `NAME=value`.
    pub env: Vec<String>,
    /// How gladly the kernel kills it where memory is short.
    pub oom_score_adj: Option<i32>,
}

/// What is Linux's own.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Linux {
    /// Namespaces that the container does not share with the host.
    pub namespaces: Vec<Namespace>,
    /// Where its control groups are.
    pub cgroups_path: String,
    /// Kernel settings.
    pub sysctl: BTreeMap<String, String>,
    /// Limits.
    pub resources: Option<serde_json::Value>,
    /// Device nodes.
    pub devices: Vec<Device>,
}

/// A namespace.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Namespace {
    /// `network`, `pid`, `ipc` …
    #[serde(rename = "type")]
    pub kind: String,
    /// The existing one to enter; empty: a new one.
    pub path: String,
}

/// A device node.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Device {
    /// Path in the container.
    pub path: String,
    /// `b` for block devices.
    #[serde(rename = "type")]
    pub kind: String,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
}

/// What a container is to its pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// All of it: `ctr run`.
    Single,
    /// The pod itself; as a container it does not exist in the guest.
    Sandbox,
    /// One of the containers of the pod with this id.
    Member(String),
}

impl Bundle {
    /// Reads `config.json` in `dir`.
    ///
    /// # Errors
    /// `HOST-UNSUPPORTED` for what is no specification.
    pub fn read(dir: &Path) -> Result<Bundle, Failure> {
        let path = dir.join("config.json");
        let wrong = |why: String| unsupported(format!("{}: {why}", path.display()));
        let mut bytes = Vec::new();
        let file = std::fs::File::open(&path).map_err(|e| wrong(e.to_string()))?;
        let length = file.take(MAX_SPEC + 1).read_to_end(&mut bytes).map_err(|e| wrong(e.to_string()))?;
        if u64::try_from(length).unwrap_or(u64::MAX) > MAX_SPEC {
            return Err(wrong(format!("larger than {MAX_SPEC} bytes")));
        }
        if bytes.trim_ascii_start().first() != Some(&b'{') {
            return Err(wrong("it is no object".into()));
        }
        let spec: Spec = serde_json::from_slice(&bytes).map_err(|e| wrong(e.to_string()))?;
        let json = without_initdata(bytes, &spec).map_err(|e| wrong(e.to_string()))?;
        Ok(Bundle { dir: dir.to_owned(), spec, json })
    }
}

/// The guest has its initdata from a disk.
fn without_initdata(bytes: Vec<u8>, spec: &Spec) -> serde_json::Result<Vec<u8>> {
    if ![INITDATA, COCO_INITDATA].iter().any(|name| spec.annotations.contains_key(*name)) {
        return Ok(bytes);
    }
    let mut value: serde_json::Value = serde_json::from_slice(&bytes)?;
    if let Some(annotations) = value.get_mut("annotations").and_then(|a| a.as_object_mut()) {
        annotations.retain(|name, _| name != INITDATA && name != COCO_INITDATA);
    }
    serde_json::to_vec(&value)
}

impl Spec {
    /// The first of these annotations that is there and says something.
    fn annotation(&self, names: &[&str]) -> Option<&str> {
        names
            .iter()
            .find_map(|name| self.annotations.get(*name).map(String::as_str).filter(|v| !v.is_empty()))
    }

    /// What the container is to its pod, as containerd's CRI plugin or CRI-O says.
    ///
    /// # Errors
    /// A container whose pod is not named.
    pub fn kind(&self) -> Result<Kind, Failure> {
        let kind = ["io.kubernetes.cri.container-type", "io.kubernetes.cri-o.ContainerType"];
        match self.annotation(&kind) {
            None => Ok(Kind::Single),
            Some("sandbox") => Ok(Kind::Sandbox),
            Some("container") => {
                let id = ["io.kubernetes.cri.sandbox-id", "io.kubernetes.cri-o.SandboxID"];
                let id = self.annotation(&id).filter(|id| crate::args::is_identifier(id));
                id.map(|id| Kind::Member(id.into()))
                    .ok_or_else(|| unsupported("a container's annotations do not name its sandbox".into()))
            }
            Some(other) => Err(unsupported(format!("container type {other:?}"))),
        }
    }

    /// The container's name in its pod.
    pub fn container_name(&self) -> Option<&str> {
        self.annotation(&["io.kubernetes.cri.container-name", "io.kubernetes.cri-o.ContainerName"])
    }

    /// The image's reference.
    pub fn image_name(&self) -> Option<&str> {
        self.annotation(&["io.kubernetes.cri.image-name", "io.kubernetes.cri-o.ImageName"])
    }

    /// A number in one of the annotations; nothing for what is no number.
    pub fn number(&self, names: &[&str]) -> Option<i64> {
        self.annotation(names)?.trim().parse().ok()
    }

    /// A hypervisor setting of CoCo's.
    pub fn hypervisor(&self, setting: &str) -> Option<&str> {
        self.annotation(&[&format!("{HYPERVISOR}{setting}")])
    }

    /// The initdata in the annotations.
    ///
    /// # Errors
    /// `INITDATA-MALFORMED`: base64 of gzip of TOML, at most 256 KiB of it.
    pub fn initdata(&self) -> Result<Option<InitData>, Failure> {
        self.annotation(&[INITDATA, COCO_INITDATA])
            .map(|value| InitData::from_annotation(value.trim()).map_err(Failure::from))
            .transpose()
    }

    /// The ports that a pod without plan is to be reached at through its loopback.
    ///
    /// # Errors
    /// `PLAN-REQUEST-REFUSED` for what are no ports, and for more than 64.
    pub fn forward_ports(&self) -> Result<Vec<u16>, Failure> {
        let text = self.annotation(&[FORWARD_PORTS]).unwrap_or_default();
        let named = text.split(',').map(str::trim).filter(|port| !port.is_empty());
        let ports: Result<Vec<u16>, _> = named.map(str::parse).collect();
        match ports {
            Ok(ports) if ports.len() <= 64 && !ports.contains(&0) => Ok(ports),
            _ => Err(refused(format!("annotation {FORWARD_PORTS}: up to 64 ports, with commas between"))),
        }
    }

    /// The content of the host's file that is mounted at `target`; nothing where there is none. At most 64 KiB.
    pub fn mounted_text(&self, target: &str) -> Option<String> {
        let mount = self.mounts.iter().find(|m| m.destination == target && m.is_bind())?;
        String::from_utf8(crate::host_file::read(Path::new(&mount.source), 64 << 10).ok()?).ok()
    }

    /// Whether the host lets the container write to this block device; nothing where it does not say.
    pub fn may_write(&self, device: &Device) -> Option<bool> {
        let rules = self.linux.resources.as_ref()?.get("devices")?.as_array()?;
        let is =
            |rule: &serde_json::Value, name: &str, number: u32| rule[name].as_u64() == Some(number.into());
        let of_it = |rule: &&serde_json::Value| {
            rule["allow"] == true
                && rule["type"] == "b"
                && is(rule, "major", device.major)
                && is(rule, "minor", device.minor)
        };
        // The last one that speaks of it counts (device_cgroup).
        let access = rules.iter().rfind(of_it)?.get("access")?.as_str()?;
        Some(access.contains('w'))
    }

    /// The namespace of this kind; `None`: the host's.
    pub fn namespace(&self, kind: &str) -> Option<&Namespace> {
        self.linux.namespaces.iter().find(|n| n.kind == kind)
    }

    /// Refuses what no pod of Cocoon can have: namespaces of the host's, and annotations that change what is measured.
    ///
    /// # Errors
    /// `PLAN-REQUEST-REFUSED`, naming it.
    pub fn check_pod(&self) -> Result<(), Failure> {
        let shared = [("network", "hostNetwork"), ("pid", "hostPID"), ("ipc", "hostIPC")];
        for (kind, name) in shared {
            if self.namespace(kind).is_none() {
                return Err(refused(format!(
                    "{name}: a pod in a VM of its own cannot have the host's {kind} namespace"
                )));
            }
        }
        for setting in MEASURED {
            if self.hypervisor(setting).is_some() {
                return Err(refused(format!(
                    "annotation {HYPERVISOR}{setting}: it changes what is measured; the guest image is constant"
                )));
            }
        }
        self.forward_ports().map(drop)
    }
}

fn unsupported(reason: String) -> Failure {
    Failure::new(Code::HostUnsupported, reason).at(Stage::Boot)
}

/// A refusal of the shim's own.
pub fn refused(reason: String) -> Failure {
    Failure::new(Code::PlanRequestRefused, reason).at(Stage::Boot)
}

#[cfg(test)]
#[path = "spec_tests.rs"]
mod tests;
