//! The plan compiler on many manifests.

use std::time::Instant;

use anyhow::Result;
use cocoon_benches::median;
use cocoon_image::Digest;
use cocoon_plan::compile::ImageDefaults;
use cocoon_workload::{Examined, ImageFacts, Inputs, examine, read};

const MANIFESTS: usize = 200;
const ROUNDS: usize = 5;

/// A Deployment as charts have them.
const MANIFEST: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web-N, namespace: shop, labels: {app: web-N}}
spec:
  replicas: 3
  selector: {matchLabels: {app: web-N}}
  template:
    metadata: {labels: {app: web-N}, annotations: {checksum: abc}}
    spec:
      securityContext: {runAsNonRoot: true, runAsUser: 1000, fsGroup: 1000}
      initContainers:
      - {name: migrate, image: "r.example/migrate:1", command: [/migrate, --up], env: [{name: STAGE, value: prod}]}
      containers:
      - name: web
        image: r.example/web:1
        args: [--port, "8080"]
        env:
        - {name: MODE, value: fast}
        - {name: POD, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
        ports: [{name: http, containerPort: 8080}]
        readinessProbe: {httpGet: {path: /ready, port: http}}
        livenessProbe: {exec: {command: [/bin/alive]}}
        lifecycle: {preStop: {exec: {command: [/bin/drain]}}}
        resources: {limits: {memory: 256Mi, cpu: 500m}}
        securityContext: {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
        volumeMounts: [{name: tmp, mountPath: /tmp}]
      volumes: [{name: tmp, emptyDir: {}}]
"#;

pub fn figures() -> Result<()> {
    let text: Vec<String> = (0..MANIFESTS).map(|n| MANIFEST.replace("web-N", &format!("web-{n}"))).collect();
    let text = text.join("---\n");
    let digest = Digest::sha256(b"an image").to_string();
    let facts = |name: &str| {
        let defaults = ImageDefaults { entrypoint: vec![format!("/{name}")], ..ImageDefaults::default() };
        (format!("r.example/{name}:1"), ImageFacts { digest: digest.clone(), defaults })
    };
    let images = ["web", "migrate"].map(facts).into();
    let inputs = Inputs { namespace: "default".into(), images, ..Inputs::default() };
    let mut times = Vec::new();
    let mut bytes = 0;
    for _ in 0..ROUNDS {
        let began = Instant::now();
        bytes = 0;
        for document in read(text.as_bytes())? {
            if let Examined::Workload(workload) = examine(&document, &inputs) {
                bytes += workload.plan()?.to_canonical()?.len();
            }
        }
        times.push(began.elapsed());
    }
    println!(
        "plans of {MANIFESTS} manifests: {} ms (median of {ROUNDS}), {bytes} bytes of plans",
        median(&times).as_millis()
    );
    Ok(())
}
