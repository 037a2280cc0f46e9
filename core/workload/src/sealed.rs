//! Secrets of the cluster that are sealed: where a manifest uses them, by what the owner's annotation says of each.

use std::collections::BTreeSet;

use cocoon_plan::ContainerPlan;
use cocoon_plan::sealed::{SealedPlace, SealedPlan};
use serde_json::Value;

use crate::log::Log;
use crate::settings::{PREFIX, Settings};

/// The places of a plan where a sealed secret may be. `spec` is the pod's, `containers` what became of its containers, `at`
/// where annotations are.
pub(crate) fn places(
    spec: &Value,
    settings: &Settings,
    containers: &[ContainerPlan],
    at: &str,
    log: &mut Log,
) -> Vec<SealedPlan> {
    if settings.sealed.is_empty() {
        return Vec::new();
    }
    let mut found = Vec::new();
    for container in items(spec, "/initContainers").chain(items(spec, "/containers")) {
        let name = text(container, "/name");
        for entry in items(container, "/env") {
            let (secret, key) =
                (text(entry, "/valueFrom/secretKeyRef/name"), text(entry, "/valueFrom/secretKeyRef/key"));
            add_variable(&mut found, name, text(entry, "/name"), secret, key);
        }
        for source in items(container, "/envFrom") {
            let secret = text(source, "/secretRef/name");
            for (_, key) in settings.sealed.keys().filter(|(of, _)| of == secret) {
                let variable = format!("{}{key}", text(source, "/prefix"));
                add_variable(&mut found, name, &variable, secret, key);
            }
        }
    }
    for volume in items(spec, "/volumes") {
        let name = text(volume, "/name");
        let sources = items(volume, "/projected/sources").filter_map(|s| Some((s.get("secret")?, "/name")));
        for (secret, named) in volume.get("secret").map(|s| (s, "/secretName")).into_iter().chain(sources) {
            let of = text(secret, named);
            let listed = secret.get("items").and_then(Value::as_array);
            for (_, key) in settings.sealed.keys().filter(|(secret, _)| secret == of) {
                let path = match listed {
                    None => Some(key.as_str()),
                    Some(items) => items.iter().find(|i| text(i, "/key") == key).map(|i| text(i, "/path")),
                };
                if let Some(path) = path {
                    let place = SealedPlace::File { volume: name.to_owned(), path: path.to_owned() };
                    found.push((place, of.to_owned(), key.to_owned()));
                }
            }
        }
    }
    let mut used = BTreeSet::new();
    let mut plans = Vec::new();
    for (place, secret, key) in found {
        let id = (secret, key);
        let Some(resource) = settings.sealed.get(&id) else { continue };
        let exists = match &place {
            SealedPlace::Variable { container, name } => {
                containers.iter().any(|c| c.name == *container && c.host_env.contains(name))
            }
            SealedPlace::File { volume, .. } => containers
                .iter()
                .flat_map(|c| &c.mounts)
                .any(|m| matches!(m, cocoon_plan::MountPlan::Volume { volume: v, .. } if v == volume)),
        };
        used.insert(id);
        if !exists || plans.iter().any(|p: &SealedPlan| p.place == place) {
            continue;
        }
        let what = match &place {
            SealedPlace::Variable { container, name } => format!("variable {name} of {container}"),
            SealedPlace::File { volume, path } => format!("file {path} of volume {volume}"),
        };
        let why = "a sealed secret: the guest unseals it once it has proved what it is, to this resource and no other";
        log.fixed(&format!("{at}[{PREFIX}sealed-secrets]"), format!("{what} is {resource}"), why);
        plans.push(SealedPlan { place, signer: settings.sealing_key.clone(), resource: resource.clone() });
    }
    for (secret, key) in settings.sealed.keys().filter(|id| !used.contains(*id)) {
        log.wrong(
            &format!("{at}[{PREFIX}sealed-secrets]"),
            format!("no variable and no file is {key:?} of Secret {secret:?}"),
        );
    }
    if settings.sealing_key.is_empty() {
        log.wrong(
            &format!("{at}[{PREFIX}sealed-secrets]"),
            format!("needs {PREFIX}sealing-key, the resource with the public key of who seals"),
        );
    }
    plans
}

fn add_variable(
    found: &mut Vec<(SealedPlace, String, String)>,
    container: &str,
    name: &str,
    secret: &str,
    key: &str,
) {
    let place = SealedPlace::Variable { container: container.to_owned(), name: name.to_owned() };
    found.push((place, secret.to_owned(), key.to_owned()));
}

fn text<'v>(value: &'v Value, pointer: &str) -> &'v str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn items<'v>(value: &'v Value, pointer: &str) -> impl Iterator<Item = &'v Value> {
    value.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}
