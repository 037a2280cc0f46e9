//! The command line, as containerd writes it (containerd, docs/runtime-v2: "Commands").

use std::path::PathBuf;

/// What the shim is to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Action {
    /// Serve a pod: what `start` runs itself as.
    #[default]
    Serve,
    /// Start a shim, or find the pod's, and say its address.
    Start,
    /// Remove what a dead shim left.
    Delete,
    /// Say the version.
    Version,
    /// Describe the runtime: a protobuf `RuntimeInfo`.
    Info,
}

/// The command line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Args {
    /// What to do.
    pub action: Action,
    /// The container's id, of a pod its sandbox's.
    pub id: String,
    /// containerd's namespace.
    pub namespace: String,
    /// containerd's socket.
    pub address: String,
    /// The program that publishes events where there is no [`Args`] of the environment for it; unused.
    pub publish_binary: String,
    /// The bundle, where it is not the working folder.
    pub bundle: Option<PathBuf>,
    /// The socket to listen on in place of the usual one.
    pub socket: Option<PathBuf>,
    /// Whether to log more.
    pub debug: bool,
}

impl Args {
    /// Reads arguments, the program's own name not among them. Flags may begin with one dash or two and have their
    /// value after `=` or as the next argument.
    ///
    /// # Errors
    /// A sentence that names the argument which is wrong.
    pub fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Args, String> {
        let mut args = Args::default();
        let mut rest = arguments.into_iter();
        while let Some(argument) = rest.next() {
            let Some(flag) = argument.strip_prefix('-') else {
                args.action = match argument.as_str() {
                    "start" => Action::Start,
                    "delete" => Action::Delete,
                    _ => return Err(format!("unknown command {argument:?}")),
                };
                continue;
            };
            let flag = flag.strip_prefix('-').unwrap_or(flag);
            let (name, inline) = match flag.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (flag, None),
            };
            match name {
                "v" | "version" => args.action = Action::Version,
                "info" => args.action = Action::Info,
                "debug" => args.debug = inline.as_deref() != Some("false"),
                "id" | "namespace" | "address" | "publish-binary" | "bundle" | "socket" => {
                    let value = inline.or_else(|| rest.next());
                    let value = value.ok_or_else(|| format!("-{name} needs a value"))?;
                    match name {
                        "id" => args.id = value,
                        "namespace" => args.namespace = value,
                        "address" => args.address = value,
                        "publish-binary" => args.publish_binary = value,
                        "bundle" => args.bundle = Some(value).filter(|v| !v.is_empty()).map(Into::into),
                        _ => args.socket = Some(value).filter(|v| !v.is_empty()).map(Into::into),
                    }
                }
                _ => return Err(format!("unknown flag -{name}")),
            }
        }
        args.check()?;
        Ok(args)
    }

    /// Ids go into paths and names.
    fn check(&self) -> Result<(), String> {
        if matches!(self.action, Action::Version | Action::Info) {
            return Ok(());
        }
        for (what, text) in [("id", &self.id), ("namespace", &self.namespace)] {
            if !is_identifier(text) {
                return Err(format!("-{what} {text:?} is no identifier"));
            }
        }
        Ok(())
    }
}

/// An identifier as containerd has them: letters, digits, and `_`, `.` or `-` between them; at most 76 characters.
pub fn is_identifier(text: &str) -> bool {
    (1..=76).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Args, String> {
        Args::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn containerds_lines_are_read() {
        let start = parse(
            "-namespace k8s.io -address /run/c.sock -publish-binary /usr/bin/containerd -id abc -debug start",
        );
        let start = start.unwrap();
        assert_eq!((start.action, start.id.as_str(), start.debug), (Action::Start, "abc", true));
        assert_eq!((start.namespace.as_str(), start.address.as_str()), ("k8s.io", "/run/c.sock"));
        let delete = parse("--namespace=default --id=abc -bundle /b delete").unwrap();
        assert_eq!((delete.action, delete.bundle), (Action::Delete, Some("/b".into())));
        assert_eq!(parse("-v").unwrap().action, Action::Version);
        assert_eq!(parse("-info").unwrap().action, Action::Info);
        assert_eq!(parse("-id a -namespace b").unwrap().action, Action::Serve);
    }

    #[test]
    fn what_is_no_identifier_goes_no_further() {
        for bad in
            ["start", "-id ../x -namespace n start", "-id x -namespace a/b delete", "-id x -namespace n go"]
        {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert!(parse("-id").unwrap_err().contains("needs a value"));
        assert!(parse("-colour red").unwrap_err().contains("colour"));
    }
}
