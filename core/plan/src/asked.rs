//! What the host says of a container, held against the plan.
//!
//! The container is built from the plan whatever the host says, so this protects nothing that was not protected before. It
//! makes an edit in the cluster visible: who changed an image, an argument, a variable, a mount or the user after the plan
//! was made hears which field it was, in place of a container that silently runs as if nothing had happened. A host that
//! lies gets the plan's container.

use cocoon_stage::{Code, Failure, Stage};

use crate::host_env::{is_named, is_service};
use crate::oci::{MAX_SPEC, Mount, Spec, User};
use crate::open::STANDARD;
use crate::{ContainerPlan, Plan};

/// Where the cluster's token is mounted.
const TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// Where kubelet takes a container's last message from, unless told otherwise.
const TERMINATION: &str = "/dev/termination-log";

/// Whether the host's image and its OCI runtime-spec document (JSON) are those of the plan's container.
///
/// # Errors
/// `PLAN-REQUEST-REFUSED`, naming the first field that differs; also for a document that is missing, too large or none.
pub fn check(plan: &Plan, container: &ContainerPlan, image: &str, spec: &[u8]) -> Result<(), Failure> {
    let name = &container.name;
    let refused = |field: &str, why: &str| Err(refused(format!("container {name:?}: {field}: {why}")));
    if spec.is_empty() || spec.len() > MAX_SPEC {
        return refused("specification", "there is none, or it is too large");
    }
    let Ok(Spec { process, root, mounts, .. }) = serde_json::from_slice(spec) else {
        return refused("specification", "it is no OCI runtime-spec document");
    };
    if !same_image(image, &container.image.reference, &container.image.digest) {
        return refused("image", &format!("the host asks for {}, which is not the plan's", short(image)));
    }
    if process.args != container.args {
        let differs =
            process.args.iter().zip(&container.args).take_while(|(asked, planned)| asked == planned);
        return refused(&format!("args[{}]", differs.count()), "not the plan's");
    }
    if plain(&process.cwd) != plain(&container.cwd) {
        return refused("workingDir", "not the plan's");
    }
    if let Some(variable) = other_variable(container, process.env.as_deref().unwrap_or_default()) {
        return refused(&format!("env {}", short(variable)), "not the plan's");
    }
    if let Some(problem) = other_user(container, &process.user) {
        return refused("user", problem);
    }
    let bounding = process.capabilities.unwrap_or_default().bounding.unwrap_or_default();
    if let Some(more) = bounding.iter().find(|c| !container.capabilities.contains(c)) {
        return refused("capabilities", &format!("{} is not the plan's", short(more)));
    }
    if container.no_new_privileges && !process.no_new_privileges {
        return refused("allowPrivilegeEscalation", "the plan says no");
    }
    if container.read_only_root && !root.readonly {
        return refused("readOnlyRootFilesystem", "the plan says yes");
    }
    if process.terminal != container.terminal {
        return refused("tty", "not the plan's");
    }
    let mounts = mounts.unwrap_or_default();
    let secret = |target: &str| {
        plan.secrets.iter().filter_map(|s| s.file.as_deref()).any(|file| plain(file) == target)
    };
    for mount in mounts.iter().filter(|m| m.is_bind()) {
        let target = plain(&mount.destination);
        let known = STANDARD.contains(&target)
            || matches!(target, TOKEN | TERMINATION)
            || container.termination_message.as_deref().map(plain) == Some(target)
            || container.mounts.iter().any(|m| plain(m.target()) == target);
        if !known || secret(target) {
            return refused(&format!("mount {}", short(target)), "the plan has none there");
        }
    }
    Ok(())
}

impl Mount {
    fn is_bind(&self) -> bool {
        self.kind == "bind" || self.options.iter().flatten().any(|o| o == "bind" || o == "rbind")
    }
}

fn plain(path: &str) -> &str {
    match path.trim_end_matches('/') {
        "" => "/",
        path => path,
    }
}

/// Whether the host's name for an image may stand for the plan's: by digest where it has one, else by name and tag. An id
/// without a name says nothing.
fn same_image(asked: &str, reference: &str, digest: &str) -> bool {
    if let Some((_, asked)) = asked.split_once('@') {
        return asked == digest;
    }
    asked.is_empty() || asked.starts_with("sha256:") || normal(asked) == normal(reference)
}

/// A name of an image as containerd writes it (distribution/reference), without digest.
fn normal(name: &str) -> String {
    let name = name.split('@').next().unwrap_or_default();
    let first = name.split('/').next().unwrap_or_default();
    let host = name.contains('/') && (first.contains(['.', ':']) || first == "localhost");
    let mut full = match (host, name.contains('/')) {
        (true, _) => name.to_owned(),
        (false, true) => format!("docker.io/{name}"),
        (false, false) => format!("docker.io/library/{name}"),
    };
    if !full.rsplit('/').next().unwrap_or_default().contains(':') {
        full.push_str(":latest");
    }
    full
}

/// The name of a variable that the plan does not have like that. Those that it leaves to the host are the host's; those of
/// services that it does not leave to it, and what the runtime adds by itself, reach no program.
fn other_variable<'a>(container: &ContainerPlan, asked: &'a [String]) -> Option<&'a str> {
    asked.iter().find_map(|entry| {
        let name = entry.split('=').next().unwrap_or_default();
        let own = container.env.iter().find(|e| e.split('=').next() == Some(name));
        let fine = match own {
            Some(own) => own == entry,
            None => {
                is_named(container, name)
                    || is_service(name)
                    || name == "HOSTNAME"
                    || name == "TERM" && container.terminal
            }
        };
        (!fine).then_some(name)
    })
}

/// What is wrong with the user, where the plan has a number for it.
fn other_user(container: &ContainerPlan, asked: &User) -> Option<&'static str> {
    let (user, group) = container.user.split_once(':').unwrap_or((&container.user, ""));
    let user = if user.is_empty() { "0" } else { user };
    if user.parse::<u32>().is_ok_and(|uid| uid != asked.uid) {
        return Some("runAsUser is not the plan's");
    }
    if group.parse::<u32>().is_ok_and(|gid| gid != asked.gid) {
        return Some("runAsGroup is not the plan's");
    }
    None
}

fn short(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(80).collect()
}

fn refused(reason: String) -> Failure {
    Failure::new(Code::PlanRequestRefused, reason).at(Stage::Start)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::MountPlan;
    use crate::types::tests::sample;

    fn planned() -> Plan {
        let mut plan = sample();
        let container = &mut plan.containers[0];
        container.name = "app".into();
        container.image.reference = format!("nginx:1.27@sha256:{}", "a".repeat(64));
        container.image.digest = format!("sha256:{}", "a".repeat(64));
        container.args = vec!["/entry".into(), "serve".into()];
        container.env = vec!["PATH=/bin".into(), "MODE=fast".into()];
        container.host_env = vec!["POD_IP".into(), "DB_*".into()];
        container.cwd = "/srv".into();
        container.user = "1000".into();
        container.capabilities = vec!["CAP_CHOWN".into()];
        container.no_new_privileges = true;
        container.read_only_root = true;
        container.terminal = false;
        container.termination_message = Some("/dev/termination-log".into());
        container.mounts = vec![MountPlan::Tmpfs { target: "/cache".into(), size: 1 }];
        plan
    }

    fn spec() -> Value {
        json!({
            "process": {
                "args": ["/entry", "serve"], "cwd": "/srv/", "user": {"uid": 1000, "gid": 0},
                "env": ["PATH=/bin", "HOSTNAME=web-1", "MODE=fast", "POD_IP=10.0.0.1", "DB_PORT=1", "WEB_SERVICE_HOST=x",
                    "KUBERNETES_PORT=x"],
                "capabilities": {"bounding": ["CAP_CHOWN"]}, "noNewPrivileges": true
            },
            "root": {"readonly": true},
            "mounts": [
                {"destination": "/proc", "type": "proc"},
                {"destination": "/etc/hosts", "type": "bind"},
                {"destination": "/cache", "type": "bind"},
                {"destination": "/dev/termination-log", "type": "bind"},
                {"destination": TOKEN, "type": "bind", "options": ["rbind", "ro"]}
            ]
        })
    }

    fn said(image: &str, change: impl Fn(&mut Value)) -> String {
        let (plan, mut spec) = (planned(), spec());
        change(&mut spec);
        check(&plan, &plan.containers[0], image, spec.to_string().as_bytes())
            .map_or_else(|f| f.reason, |()| String::new())
    }

    #[test]
    fn what_kubelet_adds_by_itself_is_no_change() {
        let digest = format!("docker.io/library/nginx@sha256:{}", "a".repeat(64));
        for image in ["", "nginx:1.27", "docker.io/library/nginx:1.27", &digest, "sha256:0123"] {
            assert_eq!(said(image, |_| {}), "", "{image}");
        }
    }

    #[test]
    fn every_change_is_named() {
        let evil = format!("nginx@sha256:{}", "b".repeat(64));
        for image in ["nginx:1.28", "nginx", "registry.example/nginx:1.27", "library/other:1.27", &evil] {
            let why = said(image, |_| {});
            assert!(why.starts_with("container \"app\": image: the host asks for"), "{image}: {why}");
        }
        type Change = fn(&mut Value);
        let changes: [(&str, Change); 15] = [
            ("args[2]", |s| s["process"]["args"] = json!(["/entry", "serve", "--debug"])),
            ("args[1]", |s| s["process"]["args"] = json!(["/entry", "steal"])),
            ("args[1]", |s| s["process"]["args"] = json!(["/entry"])),
            ("workingDir", |s| s["process"]["cwd"] = json!("/tmp")),
            ("env MODE", |s| s["process"]["env"] = json!(["MODE=slow"])),
            ("env LD_PRELOAD", |s| s["process"]["env"] = json!(["LD_PRELOAD=/x"])),
            ("env TERM", |s| s["process"]["env"] = json!(["TERM=xterm"])),
            ("user: runAsUser", |s| s["process"]["user"]["uid"] = json!(0)),
            ("capabilities: CAP_SYS_ADMIN", |s| {
                s["process"]["capabilities"]["bounding"] = json!(["CAP_CHOWN", "CAP_SYS_ADMIN"]);
            }),
            ("allowPrivilegeEscalation", |s| s["process"]["noNewPrivileges"] = json!(false)),
            ("readOnlyRootFilesystem", |s| s["root"]["readonly"] = json!(false)),
            ("tty", |s| s["process"]["terminal"] = json!(true)),
            ("mount /x", |s| s["mounts"] = json!([{"destination": "/x", "type": "bind"}])),
            ("mount /x", |s| s["mounts"] = json!([{"destination": "/x/", "options": ["rbind"]}])),
            ("specification", |s| *s = json!([])),
        ];
        for (field, change) in changes {
            let why = said("", change);
            assert!(why.contains(&format!("container \"app\": {field}")), "{field}: {why}");
        }
    }

    #[test]
    fn users_by_name_are_for_the_image_to_say() {
        let mut plan = planned();
        plan.containers[0].user = "www-data".into();
        let spec = spec().to_string();
        assert!(check(&plan, &plan.containers[0], "", spec.as_bytes()).is_ok());
        plan.containers[0].user = "1000:7".into();
        let why = check(&plan, &plan.containers[0], "", spec.as_bytes()).unwrap_err();
        assert!(why.reason.contains("runAsGroup") && why.code == Code::PlanRequestRefused);
    }

    #[test]
    fn a_document_that_is_none_is_refused() {
        let plan = planned();
        for bad in [&b""[..], b"{", b"{}", b"null", &vec![b' '; MAX_SPEC + 1]] {
            assert!(check(&plan, &plan.containers[0], "", bad).is_err());
        }
    }

    #[test]
    fn nothing_of_the_clusters_lies_where_a_secret_does() {
        let mut plan = planned();
        plan.secrets = vec![crate::SecretPlan { uri: "kbs:///a/b/c".into(), file: Some(TOKEN.into()) }];
        assert!(check(&plan, &plan.containers[0], "", spec().to_string().as_bytes()).is_err());
    }
}
