//! kubectl's command line of `logs` and `exec`, read as far as it says which container is meant and what is to run there.

use std::ffi::{OsStr, OsString};

/// Flags of both whose value is the next word. One that is not known here takes a word for its value only if written `--flag=value`.
const WITH_VALUE: &[&str] = &[
    "as",
    "as-group",
    "as-uid",
    "as-user-extra",
    "c",
    "cache-dir",
    "certificate-authority",
    "client-certificate",
    "client-key",
    "cluster",
    "container",
    "context",
    "f-filename",
    "filename",
    "kubeconfig",
    "kuberc",
    "l",
    "limit-bytes",
    "max-log-requests",
    "n",
    "namespace",
    "pod-running-timeout",
    "profile",
    "profile-output",
    "proxy-url",
    "request-timeout",
    "s",
    "selector",
    "server",
    "since",
    "since-time",
    "tail",
    "tls-server-name",
    "token",
    "user",
    "v",
    "vmodule",
];
/// Letters of flags that stand together (`-it`).
const LETTERS: &str = "itqpf";

/// What a command line says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Words {
    pub kubeconfig: Option<String>,
    pub context: Option<String>,
    pub namespace: Option<String>,
    pub container: Option<String>,
    /// Whether pods are chosen by labels or a file.
    pub chosen_otherwise: bool,
    /// Whether all containers are meant.
    pub all_containers: bool,
    pub stdin: bool,
    pub tty: bool,
    /// What stands before `--` and is no flag.
    pub places: Vec<String>,
    /// What stands after it.
    pub command: Vec<String>,
}

impl Words {
    /// Reads a command line. What is not understood is kubectl's to refuse.
    pub fn of(args: &[OsString]) -> Self {
        let mut words = Words::default();
        let text = |arg: &OsStr| arg.to_string_lossy().into_owned();
        let mut rest = args.iter();
        while let Some(arg) = rest.next() {
            let arg = text(arg);
            if arg == "--" {
                words.command = rest.map(|a| text(a)).collect();
                break;
            }
            let Some(flag) =
                arg.strip_prefix("--").or_else(|| arg.strip_prefix('-')).filter(|f| !f.is_empty())
            else {
                words.places.push(arg);
                continue;
            };
            let long = arg.starts_with("--");
            let (name, value) = match flag.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None if !long && flag.len() > 1 && flag.chars().all(|c| LETTERS.contains(c)) => {
                    words.stdin |= flag.contains('i');
                    words.tty |= flag.contains('t');
                    continue;
                }
                // -nshop
                None if !long && flag.len() > 1 => {
                    let (name, value) = flag.split_at(flag.chars().next().map_or(1, char::len_utf8));
                    (name, Some(value.to_owned()))
                }
                None if WITH_VALUE.contains(&flag) => (flag, rest.next().map(|a| text(a))),
                None => (flag, None),
            };
            words.flag(name, value);
        }
        words
    }

    fn flag(&mut self, name: &str, value: Option<String>) {
        let is_on = value.as_deref() != Some("false");
        match name {
            "kubeconfig" => self.kubeconfig = value,
            "context" => self.context = value,
            "n" | "namespace" => self.namespace = value,
            "c" | "container" => self.container = value,
            "l" | "selector" | "filename" => self.chosen_otherwise = true,
            "all-containers" | "all-pods" => self.all_containers = is_on,
            "i" | "stdin" => self.stdin = is_on,
            "t" | "tty" => self.tty = is_on,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Words {
        Words::of(&line.split(' ').map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn lines_are_read_as_kubectl_reads_them() {
        let exec = words("-it -n shop web-0 -c app -- sh -c ls");
        assert_eq!(exec.places, ["web-0"]);
        assert_eq!(exec.command, ["sh", "-c", "ls"]);
        assert_eq!((exec.namespace.as_deref(), exec.container.as_deref()), (Some("shop"), Some("app")));
        assert!(exec.stdin && exec.tty);
        let other = words("deploy/web --container=app --namespace shop -- date");
        assert_eq!(
            (other.places.as_slice(), other.container.as_deref()),
            (&["deploy/web".to_owned()][..], Some("app"))
        );
        let logs = words("--tail 5 -f --since=1h pod/web-0 app --timestamps -nshop");
        assert_eq!(logs.places, ["pod/web-0", "app"]);
        assert_eq!(logs.namespace.as_deref(), Some("shop"));
        assert!(words("-l app=web").chosen_otherwise);
        assert!(
            words("web --all-containers").all_containers
                && !words("web --all-containers=false").all_containers
        );
        // What begins the command is no flag of ours.
        assert_eq!(words("web -- -n other").namespace, None);
        assert_eq!(words("web -").places, ["web", "-"]);
    }
}
