//! `kubectl cocoon logs` and `exec`: kubectl's own, after a look at what the pod's plan allows.
//!
//! kubectl remains what moves the bytes. Where the plan forbids it, the guest would refuse; that is said at once, with the
//! setting that would allow it. The plan is read from the pod's annotation, which the cluster can exchange: a wrong answer here costs
//! a round trip, and opens nothing.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use cocoon_plan::decide::ExecRequest;
use cocoon_plan::{ContainerPlan, PLAN_FILE, Plan};
use cocoon_protocol::initdata::InitData;
use cocoon_stage::{Code, Failure};

use super::cluster::Cluster;
use super::pods::{self, Pod, Target, at};
use super::words::Words;
use crate::admin::usage;
use crate::args::{ClusterArgs, KubectlArgs};
use crate::output::Output;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    Logs,
    Exec,
}

impl Wish {
    fn word(self) -> &'static str {
        match self {
            Wish::Logs => "logs",
            Wish::Exec => "exec",
        }
    }
}

/// Runs kubectl in place of this program; comes back only where the plan forbids it (1), or it cannot be started.
pub async fn kubectl(wish: Wish, args: &KubectlArgs) -> Result<u8, Failure> {
    let words = Words::of(&args.args);
    // Whatever cannot be looked at is kubectl's to say.
    if let Ok(Some(failure)) = forbidden(wish, &words).await {
        Output { json: false, quiet: false }.failure(&failure, None);
        return Ok(1);
    }
    let mut command = vec![OsString::from(wish.word())];
    command.extend_from_slice(&args.args);
    let error = Command::new("kubectl").args(command).exec();
    Err(usage(format!("kubectl could not be started: {error}")))
}

/// Why the guest would refuse, if the plan says so.
async fn forbidden(wish: Wish, words: &Words) -> Result<Option<Failure>, Failure> {
    let Some(place) = words.places.first().filter(|_| !words.chosen_otherwise) else { return Ok(None) };
    let target = Target::parse(place)?;
    let cluster = Cluster::open(&ClusterArgs {
        kubeconfig: words.kubeconfig.clone().map(Into::into),
        context: words.context.clone(),
        namespace: words.namespace.clone(),
    })
    .await?;
    let found = pods::of(&cluster, &[target]).await?;
    let Some(pod) = found.pods.iter().find(|p| p.life() == pods::Life::On).or(found.pods.first()) else {
        return Ok(None);
    };
    let Some(plan) = plan_of(pod) else { return Ok(None) };
    Ok(judge(wish, words, pod, &plan))
}

fn plan_of(pod: &Pod) -> Option<Plan> {
    let initdata = InitData::from_annotation(pod.initdata()?).ok()?;
    Plan::parse(initdata.file(PLAN_FILE)?.as_bytes()).ok()
}

fn judge(wish: Wish, words: &Words, pod: &Pod, plan: &Plan) -> Option<Failure> {
    if words.all_containers {
        return None;
    }
    let default = pod.value.pointer("/metadata/annotations/kubectl.kubernetes.io~1default-container");
    let name = words
        .container
        .as_deref()
        .or_else(|| words.places.get(1).filter(|_| wish == Wish::Logs).map(String::as_str))
        .or_else(|| default.and_then(serde_json::Value::as_str))
        .unwrap_or_else(|| at(&pod.value, "/spec/containers/0/name"));
    let container = plan.containers.iter().find(|c| c.name == name)?;
    let why = match wish {
        Wish::Logs if container.logs => return None,
        Wish::Logs => "the plan keeps its output in the guest; cocoon.dev/logs: allowed opens it".to_owned(),
        Wish::Exec => exec(words, container)?,
    };
    let why = format!(
        "pod {}, container {name}: {why} (an annotation of the manifest, then cocoon apply)",
        pod.label()
    );
    Some(Failure::new(Code::PlanRequestRefused, why))
}

fn exec(words: &Words, container: &ContainerPlan) -> Option<String> {
    // Without a command kubectl itself says what is wrong.
    let asked = ExecRequest { args: &words.command, terminal: words.tty, stdin: words.stdin };
    if words.command.is_empty() || container.exec.allow(&asked) {
        return None;
    }
    let listed: Vec<String> = container.exec.commands.iter().map(|c| format!("{c:?}")).collect();
    Some(match listed.is_empty() {
        true => "the plan lets nobody run anything in it; cocoon.dev/exec: allowed opens it to whoever has the cluster".to_owned(),
        false => format!(
            "the plan lets the cluster run only its probes and hooks, without terminal and input: {}; cocoon.dev/exec: allowed \
             opens it to whoever has the cluster",
            listed.join(", ")
        ),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(initdata: &str) -> Pod {
        Pod {
            namespace: "shop".into(),
            name: "web-0".into(),
            workload: "web.shop".into(),
            value: json!({"metadata": {"annotations": {"dev.cocoon.initdata": initdata}}, "spec": {"containers": [{"name": "web"}]}}),
        }
    }

    fn plan(exec: serde_json::Value, logs: bool) -> Plan {
        let plan = json!({"version": 1, "name": "web.shop", "containers": [{"name": "web", "image": {"reference": format!("a/b:1@sha256:{}", "0".repeat(64)), "digest": format!("sha256:{}", "0".repeat(64))},
            "args": ["/bin/web"], "cwd": "/", "no_new_privileges": true, "seccomp": "runtime-default", "exec": exec, "logs": logs, "restart": "always", "stop_signal": 15}]});
        serde_json::from_value(plan).unwrap()
    }

    fn said(wish: Wish, line: &str, plan: &Plan) -> Option<String> {
        let words = Words::of(&line.split(' ').map(OsString::from).collect::<Vec<_>>());
        judge(wish, &words, &pod(""), plan).map(|f| f.reason)
    }

    #[test]
    fn what_the_plan_forbids_is_said_before_it_is_tried() {
        let closed = plan(json!({"commands": [["test", "-s", "/x"]]}), false);
        let why = said(Wish::Exec, "web-0 -- sh", &closed).unwrap();
        assert!(why.contains(r#"["test", "-s", "/x"]"#) && why.contains("cocoon.dev/exec"), "{why}");
        assert_eq!(said(Wish::Exec, "web-0 -- test -s /x", &closed), None);
        assert!(said(Wish::Exec, "-it web-0 -- test -s /x", &closed).is_some());
        assert!(said(Wish::Logs, "web-0", &closed).unwrap().contains("cocoon.dev/logs"));
        // Of what this plan does not have, kubectl speaks.
        assert_eq!(said(Wish::Exec, "web-0 -c other -- sh", &closed), None);
        assert_eq!(said(Wish::Exec, "web-0", &closed), None);
        let open = plan(json!({"any": true}), true);
        assert_eq!(said(Wish::Exec, "-it web-0 -- sh", &open), None);
        assert_eq!(said(Wish::Logs, "web-0", &open), None);
        assert!(plan_of(&pod("no initdata")).is_none());
    }
}
