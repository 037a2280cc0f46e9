//! A container's environment: what the plan sets, and what it leaves to the cluster.

use std::collections::{BTreeMap, BTreeSet};

use crate::expand::{OpenReference, Variable, expand};
use crate::fields::Fields;
use crate::inputs::Content;
use crate::log::Log;
use crate::quantity::Quantity;
use crate::resources::Limits;
use crate::services;
use crate::settings::{ServiceLinks, Trust};
use crate::template::Pod;

/// Longest value, in bytes.
const MAX_VALUE: usize = 128 * 1024;

/// The variables that a manifest gives a container, by name: their values, or nothing for those of the cluster.
#[derive(Debug, Default)]
pub(crate) struct Env {
    values: BTreeMap<String, Option<String>>,
    /// As written, for probes, whose commands know no more (`EnvVarsToMap`).
    written: BTreeMap<String, String>,
    links: bool,
}

impl Env {
    /// Reads `envFrom` and `env`.
    pub(crate) fn read(container: &mut Fields<'_>, pod: &Pod<'_>, limits: &Limits, log: &mut Log) -> Env {
        let mut env = Env { links: pod.service_links, ..Env::default() };
        for source in container.objects("envFrom", "", log) {
            env.source(source, pod, log);
        }
        for entry in container.objects("env", "name", log) {
            env.entry(entry, pod, limits, log);
        }
        env
    }

    /// Variables that the plan sets.
    pub(crate) fn fixed(&self) -> impl Iterator<Item = (&str, &str)> {
        self.values.iter().filter_map(|(name, value)| Some((name.as_str(), value.as_deref()?)))
    }

    /// Names that are the cluster's to set.
    pub(crate) fn open(&self) -> impl Iterator<Item = &str> {
        self.values.iter().filter(|(_, value)| value.is_none()).map(|(name, _)| name.as_str())
    }

    /// What a name stands for in `command`, `args` and `subPathExpr`.
    pub(crate) fn variable(&self, name: &str) -> Variable {
        match self.values.get(name) {
            Some(Some(value)) => Variable::Is(value.clone()),
            Some(None) => Variable::Open,
            None if services::is_variable(name, self.links) => Variable::Open,
            None => Variable::Unknown,
        }
    }

    /// What a name stands for in the commands of probes.
    pub(crate) fn written(&self, name: &str) -> Variable {
        self.written.get(name).map_or(Variable::Unknown, |value| Variable::Is(value.clone()))
    }

    fn set(&mut self, name: &str, value: String, at: &str, log: &mut Log) {
        if value.len() > MAX_VALUE {
            log.wrong(at, format!("has {} bytes; at most {MAX_VALUE} fit a plan", value.len()));
            return;
        }
        if value.contains('\0') {
            log.wrong(at, "holds a NUL character");
            return;
        }
        self.values.insert(name.to_owned(), Some(value));
    }

    fn source(&mut self, mut source: Fields<'_>, pod: &Pod<'_>, log: &mut Log) {
        let prefix = source.text("prefix", log).unwrap_or_default().to_owned();
        let references = [("configMapRef", false), ("secretRef", true)];
        let mut found = 0;
        for (field, secret) in references {
            let Some(mut reference) = source.object(field, log) else { continue };
            found += 1;
            let at = reference.at.clone();
            let name = reference.text("name", log).unwrap_or_default();
            let optional = reference.flag("optional", log).unwrap_or(false);
            reference.finish(log);
            let Some(content) = pod.content(secret, name) else {
                absent(secret, name, optional, &at, log);
                continue;
            };
            for key in content.keys() {
                let variable = format!("{prefix}{key}");
                let at = format!("{at}[{key}]");
                if key.contains('=') || !variable.bytes().all(|b| b.is_ascii_graphic() || b == b' ') {
                    log.open(&at, "left out", "is no name of a variable");
                } else if secret && pod.settings.sealed(name, key).is_some() {
                    self.sealed(&variable, &at, log);
                } else {
                    self.take_content(&variable, content, key, secret, pod, &at, log);
                }
            }
        }
        if found != 1 {
            log.wrong(&source.at, "must have one of configMapRef and secretRef");
        }
        source.finish(log);
    }

    /// One variable from a ConfigMap or Secret.
    #[allow(clippy::too_many_arguments)] // of one caller's making
    fn take_content(
        &mut self,
        variable: &str,
        content: &Content,
        key: &str,
        secret: bool,
        pod: &Pod<'_>,
        at: &str,
        log: &mut Log,
    ) {
        match (secret, if secret { pod.settings.secrets } else { pod.settings.config_maps }) {
            (_, Trust::Untrusted) => self.leave(variable, secret, at, log),
            (false, _) => {
                // Only what is text becomes a variable.
                let Some(value) = content.text.get(key) else { return };
                log.fixed(at, value, "the ConfigMap's content as it was when the plan was made");
                self.set(variable, value.clone(), at, log);
            }
            (true, trust) => secret_refused(trust, at, log),
        }
    }

    /// One that the guest unseals.
    fn sealed(&mut self, variable: &str, at: &str, log: &mut Log) {
        log.fixed(
            at,
            variable,
            "a sealed secret, which the guest unseals; the cluster cannot put another value there",
        );
        self.values.insert(variable.to_owned(), None);
    }

    fn leave(&mut self, variable: &str, secret: bool, at: &str, log: &mut Log) {
        let why = if secret {
            "from a Secret of the cluster, which can read and change it: untrusted. What must stay secret belongs into \
             Trustee (--secret)"
        } else {
            "from a ConfigMap that was declared untrusted: the cluster may change it"
        };
        log.open(at, variable, why);
        self.values.insert(variable.to_owned(), None);
    }

    fn entry(&mut self, mut entry: Fields<'_>, pod: &Pod<'_>, limits: &Limits, log: &mut Log) {
        let at = entry.at.clone();
        let Some(name) = entry.text("name", log).filter(|n| !n.is_empty()) else {
            log.wrong(&at, "has no name");
            return;
        };
        if name.contains(['=', '\0']) {
            log.wrong(&at, "is no name of a variable");
            return;
        }
        let written = entry.text("value", log);
        let from = entry.object("valueFrom", log);
        self.written.insert(name.to_owned(), written.unwrap_or_default().to_owned());
        match (written.filter(|v| !v.is_empty()), from) {
            (Some(_), Some(_)) => log.wrong(&at, "has both value and valueFrom"),
            (Some(value), None) => match expand(value, |n| self.variable(n)) {
                Ok(value) => {
                    log.fixed(&at, &value, "");
                    self.set(name, value, &at, log);
                }
                Err(OpenReference(open)) => {
                    log.open(&at, value, &format!("made of {open}, which only the cluster knows"));
                    self.values.insert(name.to_owned(), None);
                }
            },
            (None, Some(from)) => self.value_from(name, from, pod, limits, log),
            (None, None) => {
                log.fixed(&at, "", "");
                self.set(name, String::new(), &at, log);
            }
        }
        entry.finish(log);
    }

    fn value_from(
        &mut self,
        name: &str,
        mut from: Fields<'_>,
        pod: &Pod<'_>,
        limits: &Limits,
        log: &mut Log,
    ) {
        let mut found = 0;
        for (field, secret) in [("configMapKeyRef", false), ("secretKeyRef", true)] {
            let Some(mut reference) = from.object(field, log) else { continue };
            found += 1;
            let at = reference.at.clone();
            let object = reference.text("name", log).unwrap_or_default();
            let key = reference.text("key", log).unwrap_or_default();
            let optional = reference.flag("optional", log).unwrap_or(false);
            reference.finish(log);
            let trust = if secret { pod.settings.secrets } else { pod.settings.config_maps };
            match pod.content(secret, object) {
                _ if secret && pod.settings.sealed(object, key).is_some() => self.sealed(name, &at, log),
                // Its name is all that must be known.
                _ if trust == Trust::Untrusted => self.leave(name, secret, &at, log),
                None => absent(secret, object, optional, &at, log),
                Some(content) if content.file(key).is_none() => {
                    absent(secret, &format!("{object}[{key}]"), optional, &at, log);
                }
                Some(content) => self.take_content(name, content, key, secret, pod, &at, log),
            }
        }
        if let Some(mut field) = from.object("fieldRef", log) {
            found += 1;
            let at = field.at.clone();
            field.one_of("apiVersion", log, &["v1"]);
            let path = field.text("fieldPath", log).unwrap_or_default();
            field.finish(log);
            match pod.downward(path) {
                Some(Some(value)) => {
                    log.fixed(&at, &value, "the same for all pods of this workload");
                    self.set(name, value, &at, log);
                }
                Some(None) => {
                    log.open(&at, path, "only the cluster knows it: untrusted");
                    self.values.insert(name.to_owned(), None);
                }
                None => log.wrong(&at, format!("{path:?} is no field that a variable can have")),
            }
        }
        if let Some(field) = from.object("resourceFieldRef", log) {
            found += 1;
            let at = field.at.clone();
            match resource(field, pod, limits, log) {
                Some(value) => {
                    log.fixed(&at, &value, "from the manifest's resources");
                    self.set(name, value, &at, log);
                }
                None => {
                    log.open(&at, "", "no limit is written, so the node says it: untrusted");
                    self.values.insert(name.to_owned(), None);
                }
            }
        }
        found += usize::from(from.has("fileKeyRef"));
        from.refuse("fileKeyRef", log, "a variable from a file of a volume is not supported");
        if found != 1 {
            log.wrong(
                &from.at,
                "must have one of configMapKeyRef, secretKeyRef, fieldRef and resourceFieldRef",
            );
        }
        from.finish(log);
    }
}

/// Content that nobody knows.
pub(crate) fn absent(secret: bool, name: &str, optional: bool, at: &str, log: &mut Log) {
    let kind = if secret { "Secret" } else { "ConfigMap" };
    if optional {
        log.fixed(at, "absent", "it was not there when the plan was made, and is not needed");
    } else {
        log.wrong(
            at,
            format!(
                "{kind} {name:?} is neither among the manifests nor in the cluster: give it, or declare the content \
                 untrusted by the annotation cocoon.dev/{}: untrusted",
                if secret { "secrets" } else { "config-maps" }
            ),
        );
    }
}

/// Why a Secret's content does not go into the environment.
fn secret_refused(trust: Trust, at: &str, log: &mut Log) {
    let why = match trust {
        Trust::Refused => "Secrets of the cluster are refused by the annotation cocoon.dev/secrets",
        _ => {
            "a Secret's value cannot be pinned in the environment: whoever may read the pod would read it in the plan. \
             Mount it as a file, give it by --secret, or leave it untrusted (cocoon.dev/secrets: untrusted)"
        }
    };
    log.refuse(at, why);
}

/// The value of a `resourceFieldRef`, if the manifest says it.
pub(crate) fn resource(
    mut field: Fields<'_>,
    pod: &Pod<'_>,
    limits: &Limits,
    log: &mut Log,
) -> Option<String> {
    let at = field.at.clone();
    let container = field.text("containerName", log);
    let resource = field.text("resource", log).unwrap_or_default();
    let divisor = field.take("divisor");
    field.finish(log);
    let divisor = match divisor.map(Quantity::of) {
        // `0` stands for the default.
        None => 1000,
        Some(Some(divisor)) if divisor.milli() == 0 => 1000,
        Some(Some(divisor)) => divisor.milli(),
        Some(None) => {
            log.wrong(&at, "has a divisor that is no quantity");
            return None;
        }
    };
    let limits = match container {
        None | Some("") => limits,
        Some(name) => match pod.limits.get(name) {
            Some(limits) => limits,
            None => {
                log.wrong(&at, format!("there is no container {name:?}"));
                return None;
            }
        },
    };
    let Some((side, name)) = resource.split_once('.') else {
        log.wrong(&at, format!("{resource:?} is neither limits.… nor requests.…"));
        return None;
    };
    let amount = match side {
        "limits" => limits.limits.get(name),
        // What is not requested is what it is limited to (defaulting of the API server).
        "requests" => limits.requests.get(name).or_else(|| limits.limits.get(name)),
        _ => {
            log.wrong(&at, format!("{resource:?} is neither limits.… nor requests.…"));
            return None;
        }
    };
    let milli = amount?.milli();
    Some((milli / divisor + i128::from(milli % divisor != 0)).to_string())
}

/// Patterns of variables that the cluster may set, whatever the manifest says.
pub(crate) fn host_patterns(pod: &Pod<'_>) -> BTreeSet<String> {
    let services = pod
        .inputs
        .services
        .iter()
        .filter(|(namespace, _)| *namespace == pod.namespace)
        .map(|(_, name)| name.as_str());
    let links = if pod.service_links { pod.settings.service_links } else { ServiceLinks::None };
    let mut patterns = services::patterns(links, pod.service_links, services);
    // The runtime sets it to the pod's host name.
    patterns.insert("HOSTNAME".into());
    patterns.extend(pod.settings.host_env.iter().cloned());
    patterns
}

/// The texts of a list, expanded; one that refers to what only the cluster knows is refused.
pub(crate) fn expanded(texts: &[String], at: &str, env: &Env, log: &mut Log) -> Vec<String> {
    let mut out = Vec::with_capacity(texts.len());
    for (i, text) in texts.iter().enumerate() {
        match expand(text, |name| env.variable(name)) {
            Ok(text) => out.push(text),
            Err(OpenReference(name)) => log.refuse(
                &format!("{at}[{i}]"),
                format!(
                    "refers to {name}, which only the cluster knows, and arguments are fixed: have the program read the \
                     variable itself, for example by `sh -c`"
                ),
            ),
        }
    }
    out
}
