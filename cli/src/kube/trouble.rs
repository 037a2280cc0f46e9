//! What keeps a pod from running, as the cluster tells it: the codes of ours in what kubelet passed on.

use cocoon_stage::Code;
use serde_json::Value;

/// Longest text of the cluster's that is repeated, in characters.
const MAX_WORDS: usize = 600;

/// Something that keeps a pod from running.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// The container, or nothing for the pod as a whole.
    pub container: Option<String>,
    /// Our code, where one is in it.
    pub code: Option<Code>,
    /// The cluster's words.
    pub words: String,
}

impl Trouble {
    fn new(container: Option<&str>, words: &str) -> Self {
        let plain: String =
            words.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_WORDS).collect();
        Trouble {
            container: container.map(str::to_owned),
            code: code_in(words),
            words: plain.trim().to_owned(),
        }
    }

    /// Whether trying again will not help.
    pub fn is_final(&self) -> bool {
        self.code.is_some_and(|code| code != Code::AttestTrusteeUnreachable)
    }
}

/// The last code of ours in a text: what wraps a failure stands before it.
pub fn code_in(text: &str) -> Option<Code> {
    let found = |code: &Code| {
        text.match_indices(code.as_str())
            .filter(|(at, matched)| {
                let around = |c: Option<char>| {
                    c.is_none_or(|c| !c.is_ascii_uppercase() && c != '-' && !c.is_ascii_digit())
                };
                let before = text.get(..*at).and_then(|t| t.chars().last());
                let after = text.get(at + matched.len()..).and_then(|t| t.chars().next());
                around(before) && around(after)
            })
            .map(|(at, _)| at)
            .last()
    };
    Code::ALL
        .iter()
        .filter_map(|code| Some((found(code)?, *code)))
        .max_by_key(|(at, _)| *at)
        .map(|(_, code)| code)
}

fn text<'v>(value: &'v Value, pointer: &str) -> &'v str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// What a pod's own status says.
pub fn of_pod(pod: &Value) -> Vec<Trouble> {
    let mut found = Vec::new();
    for list in ["initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses"] {
        let statuses = pod.pointer(&format!("/status/{list}")).and_then(Value::as_array);
        for status in statuses.into_iter().flatten() {
            let name = text(status, "/name");
            let reason = text(status, "/state/waiting/reason");
            if !matches!(reason, "" | "ContainerCreating" | "PodInitializing") {
                let words = format!("{reason}: {}", text(status, "/state/waiting/message"));
                found.push(Trouble::new(Some(name), &words));
            }
            for state in ["state", "lastState"] {
                let message = text(status, &format!("/{state}/terminated/message"));
                if code_in(message).is_some() {
                    found.push(Trouble::new(Some(name), message));
                }
            }
        }
    }
    if text(pod, "/status/phase") == "Failed" {
        let words = format!("{}: {}", text(pod, "/status/reason"), text(pod, "/status/message"));
        found.push(Trouble::new(None, words.trim_matches([':', ' '])));
    }
    found
}

/// What an event says, if it is a warning.
pub fn of_event(event: &Value) -> Option<Trouble> {
    (text(event, "/type") == "Warning").then(|| {
        let field = text(event, "/involvedObject/fieldPath");
        let container = field.split_once('{').map(|(_, rest)| rest.trim_end_matches('}'));
        Trouble::new(container, &format!("{}: {}", text(event, "/reason"), text(event, "/message")))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn codes_are_found_whole() {
        let text = "failed to create task: HOST-UNSUPPORTED at boot: then PLAN-REQUEST-REFUSED at start: image: other";
        assert_eq!(code_in(text), Some(Code::PlanRequestRefused));
        assert_eq!(code_in("XPLAN-REQUEST-REFUSED"), None);
        assert_eq!(code_in("PLAN-REQUEST-REFUSEDX"), None);
        assert_eq!(code_in("IMAGE-NOT-FOUND."), Some(Code::ImageNotFound));
        assert_eq!(code_in(""), None);
    }

    #[test]
    fn a_pods_troubles() {
        let pod = json!({"status": {
            "phase": "Pending",
            "initContainerStatuses": [{"name": "a", "state": {"waiting": {"reason": "PodInitializing"}}}],
            "containerStatuses": [
                {"name": "app", "state": {"waiting": {"reason": "CreateContainerError", "message": "PLAN-REQUEST-REFUSED: \u{1b}[31m env A"}}},
                {"name": "fine", "state": {"running": {}}},
            ],
        }});
        let found = of_pod(&pod);
        assert_eq!(found.len(), 1);
        assert_eq!(
            (found[0].container.as_deref(), found[0].code),
            (Some("app"), Some(Code::PlanRequestRefused))
        );
        assert!(found[0].is_final() && !found[0].words.contains('\u{1b}'));
        let event = json!({"type": "Warning", "reason": "Failed", "message": "ATTEST-TRUSTEE-UNREACHABLE",
            "involvedObject": {"fieldPath": "spec.containers{app}"}});
        let trouble = of_event(&event).unwrap();
        assert!(!trouble.is_final() && trouble.container.as_deref() == Some("app"));
        assert_eq!(of_event(&json!({"type": "Normal", "message": "PLAN-INVALID"})), None);
    }
}
