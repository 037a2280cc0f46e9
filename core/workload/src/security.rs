//! Security contexts: as whom a container runs, and what the kernel lets it do.

use std::collections::BTreeMap;

use cocoon_plan::Seccomp;
use cocoon_plan::compile::DEFAULT_CAPABILITIES;

use crate::fields::Fields;
use crate::log::Log;

/// The capabilities that Linux has (capabilities(7)).
const CAPABILITIES: [&str; 41] = [
    "AUDIT_CONTROL",
    "AUDIT_READ",
    "AUDIT_WRITE",
    "BLOCK_SUSPEND",
    "BPF",
    "CHECKPOINT_RESTORE",
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "IPC_LOCK",
    "IPC_OWNER",
    "KILL",
    "LEASE",
    "LINUX_IMMUTABLE",
    "MAC_ADMIN",
    "MAC_OVERRIDE",
    "MKNOD",
    "NET_ADMIN",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_RAW",
    "PERFMON",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYSLOG",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_CHROOT",
    "SYS_MODULE",
    "SYS_NICE",
    "SYS_PACCT",
    "SYS_PTRACE",
    "SYS_RAWIO",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "WAKE_ALARM",
];

/// The settings of the kernel that belong to a pod.
const SYSCTLS: [&str; 5] = ["net.", "kernel.shm", "kernel.msg", "kernel.sem", "fs.mqueue."];

/// What holds for the pod, and for its containers unless they say otherwise.
#[derive(Clone, Debug, Default)]
pub(crate) struct PodSecurity {
    user: Option<u32>,
    group: Option<u32>,
    non_root: Option<bool>,
    seccomp: Option<Seccomp>,
    /// `fsGroup`.
    pub(crate) fs_group: Option<u32>,
    /// `supplementalGroups`.
    pub(crate) groups: Vec<u32>,
    pub(crate) sysctls: BTreeMap<String, String>,
}

/// What holds for a container.
#[derive(Clone, Debug)]
pub(crate) struct Security {
    /// As a plan has it.
    pub(crate) user: String,
    pub(crate) non_root: bool,
    pub(crate) capabilities: Vec<String>,
    pub(crate) no_new_privileges: bool,
    pub(crate) read_only_root: bool,
    pub(crate) seccomp: Seccomp,
    pub(crate) unmasked: bool,
}

/// What pod and containers have in common.
fn common(
    context: &mut Fields<'_>,
    log: &mut Log,
) -> (Option<u32>, Option<u32>, Option<bool>, Option<Seccomp>) {
    let user = context.id("runAsUser", log);
    let group = context.id("runAsGroup", log);
    let non_root = context.flag("runAsNonRoot", log);
    let seccomp = profile(context, "seccompProfile", log).map(|kind| match kind {
        "Unconfined" => Seccomp::Unconfined,
        _ => Seccomp::RuntimeDefault,
    });
    if profile(context, "appArmorProfile", log).is_some() {
        let at = context.path("appArmorProfile");
        log.open(&at, "", "of the node's; the guest's kernel has none");
    }
    context.open("seLinuxOptions", log, "of the node's; the guest's kernel has none");
    context.refuse("windowsOptions", log, "guests run Linux");
    (user, group, non_root, seccomp)
}

fn profile<'v>(context: &mut Fields<'v>, name: &str, log: &mut Log) -> Option<&'v str> {
    let mut profile = context.object(name, log)?;
    let kind = profile.one_of("type", log, &["RuntimeDefault", "Unconfined", "Localhost"]);
    if kind.is_none() {
        log.wrong(&profile.at, "has no type");
    }
    if kind == Some("Localhost") {
        profile.take("localhostProfile");
        log.refuse(&profile.at, "a profile in a file of the node cannot reach the guest: use RuntimeDefault");
    }
    profile.finish(log);
    kind
}

impl PodSecurity {
    /// Reads the pod's `securityContext`.
    pub(crate) fn read(spec: &mut Fields<'_>, log: &mut Log) -> PodSecurity {
        let Some(mut context) = spec.object("securityContext", log) else { return PodSecurity::default() };
        let (user, group, non_root, seccomp) = common(&mut context, log);
        let fs_group = context.id("fsGroup", log);
        let groups = context.ids("supplementalGroups", log);
        if let Some(gid) = fs_group {
            log.fixed(
                &context.path("fsGroup"),
                gid.to_string(),
                "a group of every process, and of emptyDir volumes",
            );
        }
        if !groups.is_empty() {
            log.fixed(&context.path("supplementalGroups"), format!("{groups:?}"), "");
        }
        context.open("fsGroupChangePolicy", log, "volumes of files come from the cluster with their owners");
        context.open("seLinuxChangePolicy", log, "of the node's; the guest's kernel has none");
        if context.one_of("supplementalGroupsPolicy", log, &["Merge", "Strict"]) == Some("Strict") {
            let at = context.path("supplementalGroupsPolicy");
            log.refuse(&at, "groups of the image's /etc/group are always added: use Merge");
        }
        let mut sysctls = BTreeMap::new();
        for mut sysctl in context.objects("sysctls", "name", log) {
            let at = sysctl.at.clone();
            let name = sysctl.text("name", log).unwrap_or_default();
            // Both ways of writing are Kubernetes'.
            let name = match name.find(['.', '/']).and_then(|i| name.as_bytes().get(i)) {
                Some(b'/') => name
                    .chars()
                    .map(|c| match c {
                        '/' => '.',
                        '.' => '/',
                        c => c,
                    })
                    .collect(),
                _ => name.to_owned(),
            };
            let value = sysctl.text("value", log).unwrap_or_default();
            sysctl.finish(log);
            if !SYSCTLS.iter().any(|known| name.starts_with(known)) {
                log.refuse(&at, "is no setting of a pod's own: only net.*, kernel.shm*, kernel.msg*, kernel.sem and fs.mqueue.*");
                continue;
            }
            log.fixed(&at, value, "");
            if sysctls.insert(name, value.to_owned()).is_some() {
                log.wrong(&at, "is there twice");
            }
        }
        context.finish(log);
        PodSecurity { user, group, non_root, seccomp, fs_group, groups, sysctls }
    }

    /// Reads a container's `securityContext`. `image_user` is what the image says.
    pub(crate) fn container(&self, container: &mut Fields<'_>, image_user: &str, log: &mut Log) -> Security {
        let at = container.path("securityContext");
        let empty = serde_json::Value::Object(serde_json::Map::new());
        let context =
            container.object("securityContext", log).or_else(|| Fields::of(at.clone(), &empty, log));
        let mut security = Security {
            user: String::new(),
            non_root: false,
            capabilities: Vec::new(),
            no_new_privileges: false,
            read_only_root: false,
            seccomp: Seccomp::RuntimeDefault,
            unmasked: false,
        };
        let Some(mut context) = context else { return security };
        let (user, group, non_root, seccomp) = common(&mut context, log);
        let (user, group) = (user.or(self.user), group.or(self.group));
        security.non_root = non_root.or(self.non_root).unwrap_or(false);
        security.seccomp = seccomp.or(self.seccomp).unwrap_or(Seccomp::RuntimeDefault);
        // Kubelet passes on an image's user without its group.
        let image_user = image_user.split(':').next().unwrap_or_default();
        security.user = match (user, group) {
            (Some(user), Some(group)) => format!("{user}:{group}"),
            (Some(user), None) => user.to_string(),
            (None, Some(group)) if image_user.is_empty() => format!("0:{group}"),
            (None, Some(group)) => format!("{image_user}:{group}"),
            (None, None) => image_user.to_owned(),
        };
        if security.non_root && user == Some(0) {
            log.wrong(&at, "says both runAsNonRoot and runAsUser 0");
        }
        let user = match security.user.as_str() {
            "" => "root (the image names nobody)",
            user => user,
        };
        log.fixed(&context.path("runAsUser"), user, "the cluster cannot make it another");
        if security.non_root {
            log.fixed(
                &context.path("runAsNonRoot"),
                "true",
                "the guest looks at the image's users before it starts",
            );
        }
        security.capabilities = capabilities(&mut context, log);
        context.refuse(
            "privileged",
            log,
            "a privileged container could take over the guest that protects it: add the capabilities that it needs",
        );
        let escalation = context.flag("allowPrivilegeEscalation", log);
        security.no_new_privileges = escalation == Some(false);
        if security.no_new_privileges && security.capabilities.iter().any(|c| c == "CAP_SYS_ADMIN") {
            log.wrong(&at, "adds SYS_ADMIN, but allowPrivilegeEscalation is false");
        }
        if escalation.is_some() {
            log.fixed(
                &context.path("allowPrivilegeEscalation"),
                (!security.no_new_privileges).to_string(),
                "",
            );
        }
        security.read_only_root = context.flag("readOnlyRootFilesystem", log).unwrap_or(false);
        if security.read_only_root {
            log.fixed(&context.path("readOnlyRootFilesystem"), "true", "");
        }
        security.unmasked = context.one_of("procMount", log, &["Default", "Unmasked"]) == Some("Unmasked");
        if security.unmasked {
            log.fixed(&context.path("procMount"), "Unmasked", "");
        }
        let (seccomp, why) = match security.seccomp {
            Seccomp::RuntimeDefault => ("the guest's default filter", "also where nothing is written"),
            Seccomp::Unconfined => ("none", "as written"),
        };
        log.fixed(&context.path("seccompProfile"), seccomp, why);
        context.finish(log);
        security
    }
}

fn capabilities(context: &mut Fields<'_>, log: &mut Log) -> Vec<String> {
    let short = |name: &str| name.strip_prefix("CAP_").unwrap_or(name).to_owned();
    let mut kept: Vec<String> = DEFAULT_CAPABILITIES.iter().map(|c| short(c)).collect();
    let at = context.path("capabilities");
    if let Some(mut capabilities) = context.object("capabilities", log) {
        let mut names = |field: &str, log: &mut Log| {
            let names: Vec<String> =
                capabilities.texts(field, log).iter().map(|n| short(&n.to_ascii_uppercase())).collect();
            for name in names.iter().filter(|n| *n != "ALL" && !CAPABILITIES.contains(&n.as_str())) {
                log.wrong(&format!("{at}.{field}"), format!("{name:?} is no capability of Linux"));
            }
            names
        };
        let (add, drop) = (names("add", log), names("drop", log));
        if add.iter().any(|n| n == "ALL") {
            kept = CAPABILITIES.map(str::to_owned).to_vec();
        }
        if drop.iter().any(|n| n == "ALL") {
            kept.clear();
        }
        kept.extend(add.into_iter().filter(|n| n != "ALL"));
        kept.retain(|n| !drop.contains(n));
        capabilities.finish(log);
    }
    kept.retain(|n| CAPABILITIES.contains(&n.as_str()));
    kept.sort();
    kept.dedup();
    let shown = if kept.is_empty() { "none".to_owned() } else { kept.join(", ") };
    log.fixed(&at, shown, "");
    kept.into_iter().map(|n| format!("CAP_{n}")).collect()
}
