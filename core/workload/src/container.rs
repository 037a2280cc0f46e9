//! One container.

use std::collections::BTreeMap;

use cocoon_plan::compile::{self, ImageDefaults};
use cocoon_plan::pod::{ContainerKind, ExecRules};
use cocoon_plan::{ContainerPlan, ImagePlan, Restart, SignatureRequirement};
use serde_json::Value;

use crate::env::{Env, expanded, host_patterns};
use crate::fields::Fields;
use crate::inputs::ImageFacts;
use crate::log::Log;
use crate::mounts::{self, Placed};
use crate::probes::Hooks;
use crate::resources::Limits;
use crate::security::PodSecurity;
use crate::template::Pod;
use crate::volumes::Volumes;

/// Where the guest itself answers the workload; no port of a container's may be that.
use cocoon_plan::pod::REST_PORT;

/// What containers of a pod share.
pub(crate) struct Shared<'a> {
    pub(crate) pod: &'a Pod<'a>,
    pub(crate) security: &'a PodSecurity,
    pub(crate) volumes: &'a Volumes,
    /// The pod's restart policy.
    pub(crate) restart: Restart,
}

/// A compiled container.
pub(crate) struct Compiled {
    pub(crate) plan: ContainerPlan,
    pub(crate) ports: Vec<u16>,
}

/// The name of an image with its tag and its digest.
pub(crate) fn pinned(written: &str, digest: &str) -> String {
    if written.contains('@') { written.to_owned() } else { format!("{written}@{digest}") }
}

impl Shared<'_> {
    /// Compiles a member of `containers`, or of `initContainers`.
    pub(crate) fn container(&self, mut c: Fields<'_>, init: bool, log: &mut Log) -> Option<Compiled> {
        let at = c.at.clone();
        let name = c.text("name", log).unwrap_or_default().to_owned();
        let valid = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if !(1..=63).contains(&name.len())
            || !name.bytes().all(valid)
            || name.starts_with('-')
            || name.ends_with('-')
        {
            log.wrong(&c.path("name"), format!("{name:?} is no name of a container"));
        }
        let image = self.image(&mut c, log);
        let defaults = image.as_ref().map(|(_, facts)| facts.defaults.clone()).unwrap_or_default();
        let (kind, restart) = self.kind(&mut c, init, log);
        let limits = Limits::read(&mut c, log);
        let env = Env::read(&mut c, self.pod, &limits, log);
        let args = program(&mut c, &env, &defaults, image.is_some(), log);
        let cwd = c.text("workingDir", log).filter(|d| !d.is_empty());
        if let Some(cwd) = cwd {
            log.fixed(&c.path("workingDir"), cwd, "");
        }
        let security = self.security.container(&mut c, &defaults.user, log);
        let placed = mounts::read(&mut c, self.volumes, &env, log);
        let (ports, named) = ports(&mut c, log);
        let hooks = Hooks::read(&mut c, &env, &named, log);
        let exec = self.exec(&c, &hooks, log);
        let (stdin, terminal) = self.streams(&mut c, log);
        let termination = c.text("terminationMessagePath", log).filter(|p| !p.is_empty());
        c.one_of("terminationMessagePolicy", log, &["File", "FallbackToLogsOnError"]);
        c.open("imagePullPolicy", log, "the guest pulls by itself, by digest");
        c.open("resizePolicy", log, "limits are the cluster's");
        let variables = environment(&defaults, &env);
        let host_env = self.host_env(&c, &env, log);
        let stop_signal = stop_signal(&c, &hooks, &defaults, log);
        c.finish(log);
        let (reference, facts) = image?;
        let image = ImagePlan {
            reference,
            digest: facts.digest.clone(),
            signature: self
                .pod
                .inputs
                .wishes
                .signature_key_pem
                .clone()
                .map(|key_pem| SignatureRequirement { key_pem }),
            layers: None,
        };
        let Placed { mounts, devices } = placed;
        let cwd = cwd.map_or_else(|| absolute(&defaults.working_dir), str::to_owned);
        if !cwd.starts_with('/') {
            log.wrong(&format!("{at}.workingDir"), "must be an absolute path");
        }
        let plan = ContainerPlan {
            name,
            kind,
            image,
            args,
            env: variables,
            host_env,
            cwd,
            user: security.user,
            groups: self.groups(),
            run_as_non_root: security.non_root,
            capabilities: security.capabilities,
            no_new_privileges: security.no_new_privileges,
            read_only_root: security.read_only_root,
            seccomp: security.seccomp,
            seccomp_profile: None,
            unmasked: security.unmasked,
            mounts,
            devices,
            exec,
            termination_message: Some(termination.unwrap_or("/dev/termination-log").to_owned()),
            terminal,
            stdin,
            logs: self.pod.settings.logs,
            restart,
            stop_signal,
        };
        Some(Compiled { plan, ports })
    }

    /// The container that `kubectl debug` may add, from an annotation.
    pub(crate) fn debugger(&self, log: &mut Log) -> Option<Compiled> {
        let image = self.pod.settings.debug_image.as_deref()?;
        let value = serde_json::json!({
            "name": "debugger", "image": image, "stdin": true, "tty": true,
        });
        let at = "metadata.annotations[cocoon.dev/debug-image]";
        let fields = Fields::of(at, &value, log)?;
        let mut compiled = self.container(fields, false, log)?;
        compiled.plan.kind = ContainerKind::Ephemeral;
        compiled.plan.restart = Restart::Never;
        compiled.plan.exec.any = true;
        log.open(at, image, "whoever may use `kubectl debug` gets a shell of this image beside the workload");
        Some(compiled)
    }

    fn image(&self, c: &mut Fields<'_>, log: &mut Log) -> Option<(String, &ImageFacts)> {
        let at = c.path("image");
        let Some(written) = c.text("image", log).filter(|i| !i.is_empty()) else {
            log.wrong(&at, "is missing");
            return None;
        };
        let Some(facts) = self.pod.inputs.images.get(written) else {
            log.wrong(&at, format!("{written:?} was not resolved to a digest"));
            return None;
        };
        if written.split_once('@').is_some_and(|(_, digest)| digest != facts.digest) {
            log.wrong(
                &at,
                format!("{written:?} names another digest than the registry has: {}", facts.digest),
            );
            return None;
        }
        let reference = pinned(written, &facts.digest);
        log.fixed(&at, &reference, "by digest; another image does not run");
        Some((reference, facts))
    }

    fn kind(&self, c: &mut Fields<'_>, init: bool, log: &mut Log) -> (ContainerKind, Restart) {
        let at = c.path("restartPolicy");
        let own = c.one_of("restartPolicy", log, &["Always", "OnFailure", "Never"]);
        c.refuse("restartPolicyRules", log, "the guest knows no rules by exit status: leave them out");
        if let Some(own) = own {
            log.fixed(&at, own, "the guest counts starts and ends itself");
        }
        match (init, own) {
            (true, Some("Always")) => (ContainerKind::Sidecar, Restart::Always),
            (true, own) => {
                let failed = match own {
                    Some("Never") => Restart::Never,
                    Some("OnFailure") => Restart::OnFailure,
                    _ if self.restart == Restart::Never => Restart::Never,
                    _ => Restart::OnFailure,
                };
                (ContainerKind::Init, failed)
            }
            (false, Some("Always")) => (ContainerKind::App, Restart::Always),
            (false, Some("OnFailure")) => (ContainerKind::App, Restart::OnFailure),
            (false, Some(_)) => (ContainerKind::App, Restart::Never),
            (false, None) => (ContainerKind::App, self.restart),
        }
    }

    fn groups(&self) -> Vec<u32> {
        let mut groups = self.security.groups.clone();
        groups.extend(self.security.fs_group);
        groups.sort_unstable();
        groups.dedup();
        groups
    }

    fn exec(&self, c: &Fields<'_>, hooks: &Hooks, log: &mut Log) -> ExecRules {
        let at = c.path("exec");
        let any = self.pod.settings.exec_any;
        if any {
            log.open(&at, "anything", "by the annotation cocoon.dev/exec: whoever may use `kubectl exec` can read all that the container can");
        } else if hooks.commands.is_empty() {
            log.fixed(&at, "nothing", "`kubectl exec` is refused (cocoon.dev/exec: allowed opens it)");
        } else {
            log.fixed(&at, "probes and hooks", "other commands, and `kubectl exec`, are refused");
        }
        ExecRules { any, commands: hooks.commands.clone() }
    }

    fn streams(&self, c: &mut Fields<'_>, log: &mut Log) -> (bool, bool) {
        let stdin = c.flag("stdin", log).unwrap_or(false);
        let terminal = c.flag("tty", log).unwrap_or(false);
        c.flag("stdinOnce", log);
        if stdin {
            log.open(&c.path("stdin"), "true", "whoever may use `kubectl attach` writes to it");
        }
        if terminal {
            log.fixed(&c.path("tty"), "true", "");
        }
        let at = c.path("logs");
        if self.pod.settings.logs {
            log.open(
                &at,
                "standard output and error",
                "the node and the cluster read them (cocoon.dev/logs: refused closes it)",
            );
        } else {
            log.fixed(&at, "none", "by the annotation cocoon.dev/logs");
        }
        (stdin, terminal)
    }

    fn host_env(&self, c: &Fields<'_>, env: &Env, log: &mut Log) -> Vec<String> {
        let mut patterns = host_patterns(self.pod);
        patterns.extend(env.open().map(str::to_owned));
        let shown: Vec<&str> = patterns.iter().map(String::as_str).collect();
        log.open(
            &c.path("env"),
            shown.join(", "),
            "variables that the cluster may set beside those of the plan; no others reach the program",
        );
        patterns.into_iter().collect()
    }
}

/// `command` and `args` against the image's `Entrypoint` and `Cmd`.
fn program(c: &mut Fields<'_>, env: &Env, image: &ImageDefaults, known: bool, log: &mut Log) -> Vec<String> {
    let command = c.texts("command", log);
    let command = expanded(&command, &c.path("command"), env, log);
    let args = c.texts("args", log);
    let args = expanded(&args, &c.path("args"), env, log);
    let (whole, of) = match (command.is_empty(), args.is_empty()) {
        (false, _) => ([command, args].concat(), "command and args of the manifest"),
        (true, false) => {
            ([image.entrypoint.clone(), args].concat(), "the image's entrypoint and the manifest's args")
        }
        (true, true) => ([image.entrypoint.clone(), image.cmd.clone()].concat(), "the image's own"),
    };
    let at = c.path("command");
    if whole.first().is_none_or(String::is_empty) {
        if known {
            log.wrong(&at, "is missing: the image names no program");
        }
    } else {
        log.fixed(&at, whole.join(" "), of);
    }
    whole
}

fn environment(image: &ImageDefaults, env: &Env) -> Vec<String> {
    let open: Vec<&str> = env.open().collect();
    let of_image = image.env.iter().filter(|e| e.split('=').next().is_none_or(|n| !open.contains(&n)));
    let own: Vec<String> = env.fixed().map(|(name, value)| format!("{name}={value}")).collect();
    compile::environment(of_image.chain(&own))
}

fn absolute(image: &str) -> String {
    if image.starts_with('/') { image.to_owned() } else { format!("/{image}") }
}

fn ports(c: &mut Fields<'_>, log: &mut Log) -> (Vec<u16>, BTreeMap<String, u16>) {
    let (mut tcp, mut named) = (Vec::new(), BTreeMap::new());
    for mut port in c.objects("ports", "containerPort", log) {
        let at = port.at.clone();
        let name = port.text("name", log).map(str::to_owned);
        let number = port.number("containerPort", log).and_then(|n| u16::try_from(n).ok()).filter(|n| *n > 0);
        let protocol = port.one_of("protocol", log, &["TCP", "UDP", "SCTP"]).unwrap_or("TCP");
        port.number("hostPort", log);
        port.text("hostIP", log);
        port.finish(log);
        let Some(number) = number else {
            log.wrong(&at, "containerPort must be 1 to 65535");
            continue;
        };
        if number == REST_PORT && protocol == "TCP" {
            log.open(
                &at,
                number.to_string(),
                "not forwarded: on 127.0.0.1 it is the guest's own, which answers the workload",
            );
        } else if protocol == "TCP" {
            tcp.push(number);
        }
        named.extend(name.map(|name| (name, number)));
    }
    (tcp, named)
}

fn stop_signal(c: &Fields<'_>, hooks: &Hooks, image: &ImageDefaults, log: &mut Log) -> u32 {
    let (text, at) = match &hooks.stop_signal {
        Some(own) => (own.as_str(), c.path("lifecycle.stopSignal")),
        None => (image.stop_signal.as_str(), c.path("image")),
    };
    match compile::parse_signal(text) {
        Ok(signal) => signal,
        Err(_) => {
            log.wrong(&at, format!("{text:?} is no signal"));
            15
        }
    }
}

/// The limits of every container, by name; what is wrong with them is told where they are read for good.
pub(crate) fn limits(spec: &Value) -> BTreeMap<String, Limits> {
    let mut quiet = Log::default();
    let mut found = BTreeMap::new();
    for list in ["containers", "initContainers"] {
        for container in spec.get(list).and_then(Value::as_array).into_iter().flatten() {
            let Some(mut fields) = Fields::of("", container, &mut quiet) else { continue };
            let Some(name) = fields.text("name", &mut quiet) else { continue };
            found.insert(name.to_owned(), Limits::read(&mut fields, &mut quiet));
        }
    }
    found
}
