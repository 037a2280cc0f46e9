//! Which ConfigMaps and Secrets a compilation would have to know.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::examine::annotations;
use crate::inputs::Inputs;
use crate::log::Log;
use crate::manifest::Document;
use crate::settings::{Settings, Trust};
use crate::template::Kind;

/// Objects by namespace and name.
pub type Names = BTreeSet<(String, String)>;

/// The ConfigMaps and the Secrets that an object's pods mention, whose content is needed and not known yet.
pub fn wanted(document: &Document, inputs: &Inputs) -> (Names, Names) {
    let (mut config_maps, mut secrets) = (Names::new(), Names::new());
    let Some(pod) = Kind::of(document).and_then(|kind| kind.pod(document)) else {
        return (config_maps, secrets);
    };
    let mut log = Log::default();
    let settings = Settings::read(&annotations(document, pod, inputs, &mut log, ""), "", &mut log);
    let namespace = match document.namespace() {
        "" => inputs.namespace.as_str(),
        namespace => namespace,
    };
    let mut found = Vec::new();
    mentions(pod.get("spec").unwrap_or(&Value::Null), &mut found);
    for (kind, name) in found {
        let key = (namespace.to_owned(), name.to_owned());
        match kind {
            Mention::ConfigMap if inputs.config_maps.get(namespace, name).is_none() => {
                config_maps.insert(key);
            }
            // Names of variables are needed even where values are not trusted.
            Mention::SecretVariables if inputs.secrets.get(namespace, name).is_none() => {
                secrets.insert(key);
            }
            Mention::Secret
                if settings.secrets == Trust::Pinned && inputs.secrets.get(namespace, name).is_none() =>
            {
                secrets.insert(key);
            }
            _ => {}
        }
    }
    (config_maps, secrets)
}

#[derive(Clone, Copy)]
enum Mention {
    ConfigMap,
    Secret,
    SecretVariables,
}

fn mentions<'v>(value: &'v Value, found: &mut Vec<(Mention, &'v str)>) {
    match value {
        Value::Array(list) => list.iter().for_each(|value| mentions(value, found)),
        Value::Object(map) => {
            for (key, value) in map {
                let kind = match key.as_str() {
                    "configMapRef" | "configMapKeyRef" | "configMap" => Mention::ConfigMap,
                    "secretRef" => Mention::SecretVariables,
                    "secretKeyRef" | "secret" => Mention::Secret,
                    _ => {
                        mentions(value, found);
                        continue;
                    }
                };
                let name = value.get("name").or_else(|| value.get("secretName")).and_then(Value::as_str);
                found.extend(name.map(|name| (kind, name)));
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_mentioned_and_not_known() {
        let text = b"apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  volumes:\n  - {name: a, configMap: {name: c1}}\n  \
            - {name: b, secret: {secretName: s1}}\n  - {name: c, projected: {sources: [{configMap: {name: c2}}]}}\n  containers:\n  \
            - name: app\n    image: i\n    envFrom: [{configMapRef: {name: c3}}, {secretRef: {name: s2}}]\n    \
            env: [{name: A, valueFrom: {secretKeyRef: {name: s3, key: k}}}]\n";
        let document = crate::read(text).unwrap().remove(0);
        let mut inputs = Inputs { namespace: "n".into(), ..Inputs::default() };
        inputs.config_maps.insert("n", "c2", crate::Content::default());
        let names =
            |names: Names| names.into_iter().map(|(n, name)| format!("{n}/{name}")).collect::<Vec<_>>();
        let (config_maps, secrets) = wanted(&document, &inputs);
        assert_eq!(
            (names(config_maps), names(secrets)),
            (vec!["n/c1".into(), "n/c3".into()], vec!["n/s2".to_owned()])
        );
        inputs.wishes.annotations.insert("cocoon.dev/secrets".into(), "pinned".into());
        assert_eq!(names(wanted(&document, &inputs).1), ["n/s1", "n/s2", "n/s3"]);
    }
}
