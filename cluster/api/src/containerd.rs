//! Where a node's containerd is, and how it is restarted.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(crate) const PATH: &str = "^/[^\\n\\r\\x00]*$";

/// A node's containerd.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Containerd {
    /// Its main configuration file on the node. Distributions that bring a containerd of their own keep it elsewhere.
    #[schemars(length(min = 2, max = 512), regex(pattern = PATH))]
    pub config: String,
    /// Its program; looked for in the usual places where it is not given.
    #[schemars(length(min = 2, max = 512), regex(pattern = PATH))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub program: Option<String>,
    /// How it is restarted. Running pods go on meanwhile.
    pub restart: Restart,
}

impl Default for Containerd {
    fn default() -> Self {
        Containerd {
            config: "/etc/containerd/config.toml".into(),
            program: None,
            restart: Restart::default(),
        }
    }
}

/// How containerd is restarted.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "!(has(self.command) && self.unit != 'containerd')", "message": "give either unit or command"}
]))]
pub struct Restart {
    /// The systemd unit, such as containerd, k3s or rke2-agent.
    #[schemars(length(min = 1, max = 128), regex(pattern = "^[A-Za-z0-9@_.:-]+$"))]
    pub unit: String,
    /// A shell command on the node instead, for other service managers.
    #[schemars(length(min = 1, max = 1024))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// Seconds that the restart may take, and then containerd's first answer; after that everything is put back.
    #[schemars(range(min = 5, max = 3600))]
    pub timeout_seconds: u32,
}

impl Default for Restart {
    fn default() -> Self {
        Restart { unit: "containerd".into(), command: None, timeout_seconds: 90 }
    }
}

impl Restart {
    /// The shell command, where it is not systemd's usual one.
    pub fn shell(&self) -> Option<String> {
        match &self.command {
            Some(command) => Some(command.clone()),
            None if self.unit == "containerd" => None,
            // The schema leaves no character in a unit's name that means something to a shell.
            None => Some(format!("systemctl restart {}", self.unit)),
        }
    }
}

/// Folders on a node.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Paths {
    /// Where programs and guest images go, one folder a version.
    #[schemars(length(min = 2, max = 256), regex(pattern = PATH))]
    pub prefix: String,
    /// Where the class files go.
    #[schemars(length(min = 2, max = 256), regex(pattern = PATH))]
    pub classes: String,
    /// Where the node remembers what was there before.
    #[schemars(length(min = 2, max = 256), regex(pattern = PATH))]
    pub state: String,
    /// Where running pods have their sockets; in memory.
    #[schemars(length(min = 2, max = 64), regex(pattern = PATH))]
    pub pods: String,
    /// What outlives pods: the cache of shared layers.
    #[schemars(length(min = 2, max = 256), regex(pattern = PATH))]
    pub data: String,
}

impl Default for Paths {
    fn default() -> Self {
        Paths {
            prefix: "/opt/cocoon".into(),
            classes: "/etc/cocoon".into(),
            state: "/var/lib/cocoon/node".into(),
            pods: "/run/cocoon".into(),
            data: "/var/lib/cocoon".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_and_commands_become_shell_commands() {
        assert_eq!(Restart::default().shell(), None);
        let k3s = Restart { unit: "k3s".into(), ..Restart::default() };
        assert_eq!(k3s.shell().as_deref(), Some("systemctl restart k3s"));
        let command = Restart { command: Some("rc-service containerd restart".into()), ..Restart::default() };
        assert_eq!(command.shell().as_deref(), Some("rc-service containerd restart"));
    }
}
