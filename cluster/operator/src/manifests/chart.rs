//! The same objects as a Helm chart.

use serde_json::{Value, json};

use super::yaml::{RAW, document};
use super::{Shape, definitions, file, objects, uninstall};

/// A file of the chart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChartFile {
    /// Its path below the chart's folder.
    pub path: String,
    /// What it holds.
    pub content: String,
}

/// The chart. Definitions are in `crds/`, which Helm installs and never changes: docs/upgrade.md says how they are.
pub fn chart(shape: &Shape) -> Vec<ChartFile> {
    let version = env!("CARGO_PKG_VERSION");
    let values = json!({
        "image": shape.image,
        "imagePullPolicy": shape.pull_policy,
        "imagePullSecrets": shape.pull_secrets.iter().map(|name| json!({"name": name})).collect::<Vec<_>>(),
        "replicas": shape.replicas,
        "webhook": {"enabled": false},
        "runtime": {"create": true, "name": "cocoon", "spec": {"platforms": ["Auto"]}},
    });
    let template = Shape {
        namespace: "{{ .Release.Namespace }}".into(),
        image: "{{ .Values.image }}".into(),
        pull_policy: "{{ .Values.imagePullPolicy }}".into(),
        pull_secrets: Vec::new(),
        replicas: format!("{RAW}{{{{ .Values.replicas }}}}").into(),
        trustees: vec!["{{ .Release.Namespace }}".into()],
        webhook: "{{ .Values.webhook.enabled }}".into(),
    };
    let meta = json!({
        "apiVersion": "v2", "name": "cocoon", "type": "application", "version": version, "appVersion": version,
        "description": "Confidential pods: the operator that installs Cocoon on nodes",
        "kubeVersion": ">=1.30.0-0",
    });
    let runtime = concat!(
        "{{- if .Values.runtime.create }}\n",
        "apiVersion: cocoon.dev/v1alpha1\nkind: CocoonRuntime\nmetadata:\n  name: {{ .Values.runtime.name }}\n",
        "spec:\n  {{- toYaml .Values.runtime.spec | nindent 2 }}\n{{- end }}\n",
    );
    let one = |path: &str, content: String| ChartFile { path: path.into(), content };
    let mut files = vec![
        one("Chart.yaml", document(&meta)),
        one("values.yaml", document(&values)),
        one("templates/cocoon.yaml", file(&with_pull_secrets(objects(&template, false)))),
        one("templates/uninstall.yaml", file(&with_pull_secrets(uninstall::hook(&template)))),
        one("templates/webhook.yaml", optional_webhook(&template.namespace)),
        one("templates/runtime.yaml", runtime.to_owned()),
    ];
    for definition in definitions() {
        let name = definition.pointer("/spec/names/plural").and_then(Value::as_str).unwrap_or("crd");
        files.push(one(&format!("crds/{name}.yaml"), document(&definition)));
    }
    files
}

/// The Secrets of the values, where pods have a list of them.
fn with_pull_secrets(mut objects: Vec<Value>) -> Vec<Value> {
    let list = format!("{RAW}{{{{ toJson .Values.imagePullSecrets }}}}");
    for object in &mut objects {
        if let Some(secrets) = object.pointer_mut("/spec/template/spec/imagePullSecrets") {
            *secrets = list.clone().into();
        }
    }
    objects
}

/// The webhook's objects, where values enable it.
fn optional_webhook(namespace: &str) -> String {
    let objects = file(&super::webhook::objects(namespace));
    format!("{{{{- if .Values.webhook.enabled }}}}\n{objects}{{{{- end }}}}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_says_what_the_manifest_says() {
        let shape = Shape::default();
        let files = chart(&shape);
        let of = |path: &str| files.iter().find(|f| f.path == path).unwrap().content.clone();
        let filled = of("templates/cocoon.yaml")
            .replace("\"{{ .Release.Namespace }}\"", &shape.namespace)
            .replace("{{ .Release.Namespace }}", &shape.namespace)
            .replace("{{ .Values.image }}", &shape.image)
            .replace("\"{{ .Values.imagePullPolicy }}\"", &shape.pull_policy)
            .replace("{{ toJson .Values.imagePullSecrets }}", "[]")
            .replace("{{ .Values.webhook.enabled }}", "false")
            .replace("{{ .Values.replicas }}", "1");
        assert_eq!(filled, file(&objects(&shape, false)));
        assert!(
            of("values.yaml").contains("platforms:\n    - \"Auto\"") || of("values.yaml").contains("- Auto")
        );
        assert_eq!(files.iter().filter(|f| f.path.starts_with("crds/")).count(), 6);
    }
}
