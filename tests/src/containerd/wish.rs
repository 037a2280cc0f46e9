//! Pods and containers as a test wishes them: one description for kubelet's request and for the owner's plan.

use std::collections::HashMap;

use protobuf::{EnumOrUnknown, MessageField};

use super::cri;

/// A pod.
#[derive(Clone, Debug)]
pub struct PodWish {
    /// Its name, unique on the node.
    pub name: String,
    /// The runtime: `runc` or `cocoon`.
    pub runtime: String,
    /// Its annotations.
    pub annotations: HashMap<String, String>,
    /// Kernel settings.
    pub sysctls: HashMap<String, String>,
    /// Whether its containers see each other's processes.
    pub shared_pid: bool,
    /// Whether it asks for the node's network.
    pub host_network: bool,
    /// Name servers.
    pub dns: Vec<String>,
    /// The sum of its containers' memory limits in bytes; 0: none.
    pub memory: i64,
}

/// A container.
#[derive(Clone, Debug, Default)]
pub struct ContainerWish {
    /// Its name in the pod.
    pub name: String,
    /// The image's reference.
    pub image: String,
    /// Program and arguments; empty: the image's.
    pub command: Vec<String>,
    /// Environment.
    pub env: Vec<(String, String)>,
    /// Folders or files of the node: path in the container, path on the node, whether it is read-only.
    pub mounts: Vec<(String, String, bool)>,
    /// Block devices of the node: path in the container, path on the node, what the container may (`mrw`, `r`).
    pub devices: Vec<(String, String, String)>,
    /// Whether it has a terminal.
    pub tty: bool,
    /// Whether it has standard input.
    pub stdin: bool,
    /// Memory limit in bytes; 0: none.
    pub memory: i64,
    /// User, where not the image's.
    pub user: Option<i64>,
    /// How often it was made before.
    pub attempt: u32,
    /// Whether it asks for all rights.
    pub privileged: bool,
}

impl PodWish {
    /// A pod of this name on this runtime, with a network of its own.
    pub fn new(name: &str, runtime: &str) -> Self {
        PodWish {
            name: name.into(),
            runtime: runtime.into(),
            annotations: HashMap::new(),
            sysctls: HashMap::new(),
            shared_pid: false,
            host_network: false,
            dns: vec![super::Node::ADDRESS.into()],
            memory: 0,
        }
    }

    /// kubelet's description.
    pub(super) fn config(&self, logs: &str, cgroups: &str) -> cri::PodSandboxConfig {
        let network = if self.host_network { cri::NamespaceMode::NODE } else { cri::NamespaceMode::POD };
        cri::PodSandboxConfig {
            metadata: MessageField::some(cri::PodSandboxMetadata {
                name: self.name.clone(),
                uid: format!("uid-{}", self.name),
                namespace: "default".into(),
                ..Default::default()
            }),
            hostname: if self.host_network { String::new() } else { self.name.clone() },
            log_directory: logs.into(),
            dns_config: MessageField::some(cri::DNSConfig {
                servers: self.dns.clone(),
                searches: vec!["default.svc.cluster.local".into()],
                options: vec!["ndots:5".into()],
                ..Default::default()
            }),
            annotations: self.annotations.clone(),
            linux: MessageField::some(cri::LinuxPodSandboxConfig {
                cgroup_parent: cgroups.into(),
                security_context: MessageField::some(cri::LinuxSandboxSecurityContext {
                    namespace_options: MessageField::some(self.namespaces(network)),
                    ..Default::default()
                }),
                sysctls: self.sysctls.clone(),
                resources: MessageField::some(cri::LinuxContainerResources {
                    memory_limit_in_bytes: self.memory,
                    ..Default::default()
                }),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    fn namespaces(&self, network: cri::NamespaceMode) -> cri::NamespaceOption {
        let pid = if self.shared_pid { cri::NamespaceMode::POD } else { cri::NamespaceMode::CONTAINER };
        cri::NamespaceOption {
            network: EnumOrUnknown::new(network),
            pid: EnumOrUnknown::new(pid),
            ..Default::default()
        }
    }

    /// kubelet's description of a container in it.
    pub(super) fn container(&self, wish: &ContainerWish) -> cri::ContainerConfig {
        let network = if self.host_network { cri::NamespaceMode::NODE } else { cri::NamespaceMode::POD };
        let value = |value| MessageField::some(cri::Int64Value { value, ..Default::default() });
        cri::ContainerConfig {
            metadata: MessageField::some(cri::ContainerMetadata {
                name: wish.name.clone(),
                attempt: wish.attempt,
                ..Default::default()
            }),
            image: MessageField::some(cri::ImageSpec { image: wish.image.clone(), ..Default::default() }),
            command: wish.command.clone(),
            envs: wish.env.iter().map(|(k, v)| pair(k, v)).collect(),
            mounts: wish
                .mounts
                .iter()
                .map(|(target, source, readonly)| mount(target, source, *readonly))
                .collect(),
            devices: wish.devices.iter().map(device).collect(),
            log_path: format!("{}/{}.log", wish.name, wish.attempt),
            stdin: wish.stdin,
            tty: wish.tty,
            linux: MessageField::some(cri::LinuxContainerConfig {
                resources: MessageField::some(cri::LinuxContainerResources {
                    memory_limit_in_bytes: wish.memory,
                    ..Default::default()
                }),
                security_context: MessageField::some(cri::LinuxContainerSecurityContext {
                    namespace_options: MessageField::some(self.namespaces(network)),
                    privileged: wish.privileged,
                    run_as_user: wish.user.map(value).unwrap_or_default(),
                    ..Default::default()
                }),
                ..Default::default()
            }),
            ..Default::default()
        }
    }
}

impl ContainerWish {
    /// A container of this name that runs a shell script in this image.
    pub fn script(name: &str, image: &str, script: &str) -> Self {
        ContainerWish {
            name: name.into(),
            image: image.into(),
            command: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
            ..ContainerWish::default()
        }
    }
}

fn pair(key: &str, value: &str) -> cri::KeyValue {
    cri::KeyValue { key: key.into(), value: value.into(), ..Default::default() }
}

fn device((path, source, rights): &(String, String, String)) -> cri::Device {
    cri::Device {
        container_path: path.clone(),
        host_path: source.clone(),
        permissions: rights.clone(),
        ..Default::default()
    }
}

fn mount(target: &str, source: &str, readonly: bool) -> cri::Mount {
    cri::Mount { container_path: target.into(), host_path: source.into(), readonly, ..Default::default() }
}
