//! From an image's config and a person's wishes to a plan.

use crate::images::{ImageSettings, SharedLayer};
use crate::pod::{ContainerKind, ExecRules};
use crate::{ContainerPlan, Error, ImagePlan, Plan, Restart, Seccomp, SecretPlan, SignatureRequirement};

/// What an image config says a container of it should be (OCI image-spec, config, "config" object).
#[derive(Clone, Debug, Default)]
pub struct ImageDefaults {
    /// `Entrypoint`.
    pub entrypoint: Vec<String>,
    /// `Cmd`.
    pub cmd: Vec<String>,
    /// `Env`, `NAME=value`.
    pub env: Vec<String>,
    /// `WorkingDir`; empty means `/`.
    pub working_dir: String,
    /// `User`.
    pub user: String,
    /// `StopSignal`: a name such as `SIGTERM` or a number; empty means SIGTERM.
    pub stop_signal: String,
}

/// What a person asks for with `cocoon run`.
#[derive(Clone, Debug, Default)]
pub struct RunWishes {
    /// The workload's name.
    pub name: String,
    /// Hex that makes this run's plan unique.
    pub instance: String,
    /// The image reference as written.
    pub reference: String,
    /// The digest that the reference was resolved to.
    pub digest: String,
    /// Command and arguments that replace the image's `Cmd`; empty keeps it.
    pub command: Vec<String>,
    /// Environment added to (or replacing, by name) the image's.
    pub env: Vec<String>,
    /// Working directory, where not the image's.
    pub workdir: Option<String>,
    /// User, where not the image's.
    pub user: Option<String>,
    /// Public key that must have signed the image, PEM.
    pub signature_key_pem: Option<String>,
    /// Secrets to fetch.
    pub secrets: Vec<SecretPlan>,
    /// Registry credentials in Trustee.
    pub registry_auth: Option<String>,
    /// The image's layers as block devices; without them the guest pulls it.
    pub layers: Option<Vec<SharedLayer>>,
    /// How images reach the guest, and which it may take.
    pub images: ImageSettings,
    /// Whether the workload may ask for tokens and evidence.
    pub attestation_api: bool,
    /// Whether standard input is passed.
    pub stdin: bool,
    /// Whether the container has a terminal.
    pub terminal: bool,
}

/// The capabilities that container runtimes keep by default.
pub const DEFAULT_CAPABILITIES: [&str; 14] = [
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Compiles the plan of one container, named `main`.
///
/// # Errors
/// [`Error::Field`] where image and wishes together name no program, or a value is not allowed.
pub fn compile_run(image: &ImageDefaults, wishes: &RunWishes) -> Result<Plan, Error> {
    let mut args = image.entrypoint.clone();
    args.extend(if wishes.command.is_empty() { image.cmd.clone() } else { wishes.command.clone() });
    if args.is_empty() {
        return Err(Error::field("args", "the image names no program and none was given after --"));
    }
    let env = environment(image.env.iter().chain(&wishes.env));
    let image_cwd = if image.working_dir.is_empty() { "/" } else { &image.working_dir };
    let container = ContainerPlan {
        name: "main".into(),
        kind: ContainerKind::App,
        image: ImagePlan {
            reference: wishes.reference.clone(),
            digest: wishes.digest.clone(),
            signature: wishes.signature_key_pem.clone().map(|key_pem| SignatureRequirement { key_pem }),
            layers: wishes.layers.clone(),
        },
        args,
        env,
        host_env: Vec::new(),
        groups: Vec::new(),
        run_as_non_root: false,
        seccomp_profile: None,
        unmasked: false,
        devices: Vec::new(),
        exec: ExecRules::default(),
        termination_message: None,
        cwd: wishes.workdir.clone().unwrap_or_else(|| image_cwd.to_owned()),
        user: wishes.user.clone().unwrap_or_else(|| image.user.clone()),
        capabilities: DEFAULT_CAPABILITIES.iter().map(|c| (*c).to_owned()).collect(),
        no_new_privileges: false,
        read_only_root: false,
        seccomp: Seccomp::RuntimeDefault,
        mounts: Vec::new(),
        terminal: wishes.terminal,
        stdin: wishes.stdin,
        logs: true,
        restart: Restart::Never,
        stop_signal: parse_signal(&image.stop_signal)?,
    };
    let plan = Plan {
        version: 1,
        name: wishes.name.clone(),
        instance: wishes.instance.clone(),
        containers: vec![container],
        secrets: wishes.secrets.clone(),
        secret_env: Vec::new(),
        sealed: Vec::new(),
        attestation_api: wishes.attestation_api,
        registry_auth: wishes.registry_auth.clone(),
        images: wishes.images.clone(),
        volumes: Vec::new(),
        sysctls: std::collections::BTreeMap::new(),
        share_process_namespace: false,
        forward_ports: Vec::new(),
        exact: false,
    };
    plan.to_canonical()?;
    Ok(plan)
}

/// The environment that these `NAME=value` come to, beginning with the usual `PATH`; of two of one name the last counts.
pub fn environment<'a>(entries: impl Iterator<Item = &'a String>) -> Vec<String> {
    let mut env = vec![DEFAULT_PATH.to_owned()];
    entries.for_each(|entry| set_env(&mut env, entry));
    env
}

fn set_env(env: &mut Vec<String>, entry: &str) {
    let name = entry.split('=').next().unwrap_or_default();
    let same = |e: &String| e.split('=').next() == Some(name);
    match env.iter_mut().find(|e| same(e)) {
        Some(old) => *old = entry.to_owned(),
        None => env.push(entry.to_owned()),
    }
}

/// A signal's number from `SIGTERM`, `TERM` or `15`; 15 where empty.
///
/// # Errors
/// [`Error::Field`] for what is no signal.
pub fn parse_signal(text: &str) -> Result<u32, Error> {
    if text.is_empty() {
        return Ok(15);
    }
    if let Ok(number) = text.parse::<u32>() {
        return Ok(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    const NAMES: [(&str, u32); 10] = [
        ("HUP", 1),
        ("INT", 2),
        ("QUIT", 3),
        ("KILL", 9),
        ("USR1", 10),
        ("USR2", 12),
        ("TERM", 15),
        ("CONT", 18),
        ("WINCH", 28),
        ("PWR", 30),
    ];
    if let Some((_, number)) = NAMES.iter().find(|(n, _)| *n == name) {
        return Ok(*number);
    }
    // Real-time signals, as systemd-based images name them: SIGRTMIN+3 is 34 + 3.
    name.strip_prefix("RTMIN+")
        .and_then(|n| n.parse::<u32>().ok())
        .filter(|n| *n <= 30)
        .map(|n| 34 + n)
        .ok_or_else(|| Error::field("stop_signal", format!("{text:?} is not a signal")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wishes() -> RunWishes {
        RunWishes {
            name: "demo".into(),
            reference: "localhost:5000/a:1".into(),
            digest: format!("sha256:{}", "0".repeat(64)),
            ..RunWishes::default()
        }
    }

    #[test]
    fn command_replaces_cmd_and_keeps_entrypoint() {
        let image = ImageDefaults {
            entrypoint: vec!["/entry".into()],
            cmd: vec!["default".into()],
            env: vec!["A=1".into(), "PATH=/x".into()],
            stop_signal: "SIGQUIT".into(),
            ..ImageDefaults::default()
        };
        let plan = compile_run(&image, &wishes()).unwrap();
        assert_eq!(plan.containers[0].args, ["/entry", "default"]);
        let mut w = wishes();
        w.command = vec!["other".into(), "x".into()];
        w.env = vec!["A=2".into(), "B=3".into()];
        let plan = compile_run(&image, &w).unwrap();
        assert_eq!(plan.containers[0].args, ["/entry", "other", "x"]);
        assert_eq!(plan.containers[0].env, ["PATH=/x", "A=2", "B=3"]);
        assert_eq!(plan.containers[0].cwd, "/");
        assert_eq!(plan.containers[0].stop_signal, 3);
    }

    #[test]
    fn an_image_without_program_needs_a_command() {
        assert!(
            compile_run(&ImageDefaults::default(), &wishes()).unwrap_err().to_string().contains("no program")
        );
    }

    #[test]
    fn signals_by_name_and_number() {
        assert_eq!(parse_signal("SIGRTMIN+3").unwrap(), 37);
        assert_eq!(parse_signal("9").unwrap(), 9);
        assert!(parse_signal("SIGNOPE").is_err());
    }
}
