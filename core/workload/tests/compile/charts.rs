//! Manifests as people and charts write them.

use cocoon_workload::State;
use serde_json::{Value, json};

use crate::{plan, workload};

const WEB: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata: {name: web-config, namespace: shop}
data:
  nginx.conf: |
    worker_processes auto;
    events { worker_connections 1024; }
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  selector: {app: web}
  ports: [{port: 80, targetPort: http}]
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
  namespace: shop
  labels: {app.kubernetes.io/name: web, app.kubernetes.io/managed-by: Helm}
spec:
  replicas: 3
  revisionHistoryLimit: 2
  strategy: {rollingUpdate: {maxSurge: 1}}
  selector: {matchLabels: {app: web}}
  template:
    metadata:
      labels: {app: web}
      annotations:
        checksum/config: 01ba4719c80b6fe911b091a7c05124b64eeece964e09c058ef8f9805daca546b
        prometheus.io/scrape: "true"
    spec:
      serviceAccountName: web
      terminationGracePeriodSeconds: 30
      securityContext:
        runAsNonRoot: true
        runAsUser: 101
        fsGroup: 101
        seccompProfile: {type: RuntimeDefault}
      affinity:
        podAntiAffinity:
          preferredDuringSchedulingIgnoredDuringExecution:
          - weight: 1
            podAffinityTerm: {topologyKey: kubernetes.io/hostname}
      containers:
      - name: nginx
        image: registry.example/library/nginx:1.27
        imagePullPolicy: IfNotPresent
        ports:
        - {name: http, containerPort: 8080, protocol: TCP}
        env:
        - {name: POD_IP, valueFrom: {fieldRef: {apiVersion: v1, fieldPath: status.podIP}}}
        - {name: DB_PASSWORD, valueFrom: {secretKeyRef: {name: db, key: password}}}
        - {name: DB_URL, value: "postgres://app@db:5432/shop"}
        livenessProbe:
          httpGet: {path: /healthz, port: http}
          initialDelaySeconds: 5
        readinessProbe:
          httpGet: {path: /ready, port: http, httpHeaders: [{name: X, value: y}]}
        lifecycle:
          preStop: {exec: {command: [/bin/sh, -c, sleep 5]}}
        resources:
          requests: {cpu: 100m, memory: 64Mi}
          limits: {memory: 128Mi}
        securityContext:
          allowPrivilegeEscalation: false
          readOnlyRootFilesystem: true
          capabilities: {drop: [ALL]}
        volumeMounts:
        - {name: config, mountPath: /etc/nginx/nginx.conf, subPath: nginx.conf, readOnly: true}
        - {name: cache, mountPath: /var/cache/nginx}
        - {name: tmp, mountPath: /tmp}
      volumes:
      - {name: config, configMap: {name: web-config}}
      - {name: cache, emptyDir: {}}
      - {name: tmp, emptyDir: {medium: Memory, sizeLimit: 16Mi}}
"#;

#[test]
fn a_web_application() {
    let plan = plan(WEB);
    let nginx = &plan["containers"][0];
    assert_eq!(plan["name"], "web.shop");
    assert_eq!(nginx["user"], "101");
    assert_eq!(nginx["groups"], json!([101]));
    assert_eq!(nginx["capabilities"], json!([]));
    assert_eq!(nginx["exec"], json!({"commands": [["/bin/sh", "-c", "sleep 5"]]}));
    assert_eq!(plan["forward_ports"], json!([8080]));
    assert_eq!(plan["exact"], true);
    let env: Vec<_> = nginx["env"].as_array().unwrap().iter().map(|e| e.as_str().unwrap()).collect();
    assert!(env.contains(&"DB_URL=postgres://app@db:5432/shop"), "{env:?}");
    let host: Vec<_> = nginx["host_env"].as_array().unwrap().iter().map(|e| e.as_str().unwrap()).collect();
    for name in ["DB_PASSWORD", "POD_IP", "HOSTNAME", "WEB_SERVICE_*", "WEB_PORT*", "KUBERNETES_SERVICE_*"] {
        assert!(host.contains(&name), "{name}: {host:?}");
    }
    let volume = |name: &str| {
        plan["volumes"].as_array().unwrap().iter().find(|v| v["name"] == name).unwrap()["source"].clone()
    };
    assert_eq!(volume("cache"), json!({"kind": "scratch", "size": 0, "gid": 101}));
    assert_eq!(volume("tmp"), json!({"kind": "memory", "size": 16 << 20, "gid": 101}));
    assert!(volume("config")["digests"]["nginx.conf"].as_str().unwrap().starts_with("sha256:"));
    assert_eq!(volume("kube-api-access"), json!({"kind": "files"}));
}

#[test]
fn every_decision_is_told() {
    let found = workload(WEB);
    let state = |field: &str| {
        let field = format!("spec.template.spec.{field}");
        let found = found.decisions.iter().find(|d| d.field == field);
        found.unwrap_or_else(|| panic!("{field}: {:#?}", found)).state
    };
    for field in [
        "containers[nginx].image",
        "containers[nginx].command",
        "containers[nginx].env[DB_URL]",
        "containers[nginx].securityContext.runAsUser",
        "containers[nginx].securityContext.capabilities",
        "containers[nginx].securityContext.seccompProfile",
        "containers[nginx].lifecycle.preStop.exec.command",
        "containers[nginx].volumeMounts[/tmp]",
        "volumes[config].configMap",
        "volumes[tmp].emptyDir",
        "restartPolicy",
        "securityContext.fsGroup",
    ] {
        assert_eq!(state(field), State::Fixed, "{field}");
    }
    for field in [
        "affinity",
        "terminationGracePeriodSeconds",
        "containers[nginx].resources",
        "containers[nginx].env[POD_IP].valueFrom.fieldRef",
        "containers[nginx].env[DB_PASSWORD].valueFrom.secretKeyRef",
        "containers[nginx].livenessProbe.httpGet",
        "containers[nginx].imagePullPolicy",
        "containers[nginx].logs",
        "automountServiceAccountToken",
    ] {
        assert_eq!(state(field), State::Open, "{field}");
    }
    let words = found.explain();
    assert!(words.starts_with("Deployment shop/web\n"), "{words}");
    assert!(words.contains("fixed    spec.template.spec.containers[nginx].image = registry.example/library/nginx:1.27@sha256:"), "{words}");
}

#[test]
fn redis() {
    let text = r#"
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: redis}
spec:
  serviceName: redis
  replicas: 3
  selector: {matchLabels: {app: redis}}
  template:
    metadata: {labels: {app: redis}}
    spec:
      containers:
      - name: redis
        image: docker.io/library/redis:7.4
        command: [redis-server]
        args: ["--appendonly", "yes", "--maxmemory", "100mb"]
        ports: [{containerPort: 6379, name: redis}]
        readinessProbe: {exec: {command: [redis-cli, ping]}, periodSeconds: 3}
        livenessProbe: {tcpSocket: {port: redis}}
        volumeDevices: [{name: data, devicePath: /dev/data}]
  volumeClaimTemplates:
  - metadata: {name: data}
    spec:
      accessModes: [ReadWriteOnce]
      volumeMode: Block
      resources: {requests: {storage: 1Gi}}
"#;
    let found = plan(text);
    let redis = &found["containers"][0];
    assert_eq!(redis["args"], json!(["redis-server", "--appendonly", "yes", "--maxmemory", "100mb"]));
    assert_eq!(redis["devices"], json!([{"path": "/dev/data", "volume": "data"}]));
    assert_eq!(redis["exec"]["commands"], json!([["redis-cli", "ping"]]));
    assert_eq!(redis["restart"], "always");
    let as_files = text.replace("volumeMode: Block", "volumeMode: Filesystem").replace(
        "volumeDevices: [{name: data, devicePath: /dev/data}]",
        "volumeMounts: [{name: data, mountPath: /data}]",
    );
    let refused = workload(&as_files);
    assert_eq!(refused.problems.len(), 1, "{:?}", refused.problems);
    assert_eq!(refused.problems[0].field, "spec.template.spec.containers[redis].volumeMounts[/data]");
    assert!(refused.problems[0].problem.contains("volumeMode: Block"));
    let mixed = text.replace("volumeMode: Block", "volumeMode: Filesystem");
    assert!(workload(&mixed).problems[0].problem.contains("needs Block"));
}

#[test]
fn a_mesh_with_sidecars() {
    let text = r#"
apiVersion: v1
kind: ConfigMap
metadata: {name: istio-ca-root-cert}
data: {root-cert.pem: "-----BEGIN CERTIFICATE-----\n"}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: api}
spec:
  selector: {matchLabels: {app: api}}
  template:
    metadata: {labels: {app: api}}
    spec:
      shareProcessNamespace: true
      initContainers:
      - name: init-net
        image: proxy:1
        args: [iptables, -p, "15001"]
        securityContext:
          runAsUser: 0
          runAsNonRoot: false
          capabilities: {add: [NET_ADMIN, NET_RAW], drop: [ALL]}
      - name: proxy
        image: proxy:1
        restartPolicy: Always
        args: [proxy, sidecar, --domain, $(POD_NAMESPACE).svc.cluster.local]
        env:
        - {name: POD_NAMESPACE, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}
        - {name: POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
        - {name: CPU, valueFrom: {resourceFieldRef: {resource: limits.cpu}}}
        resources: {limits: {cpu: "2", memory: 1Gi}}
        startupProbe: {httpGet: {path: /healthz/ready, port: 15021}, failureThreshold: 600}
        volumeMounts:
        - {name: token, mountPath: /var/run/secrets/tokens}
        - {name: ca, mountPath: /var/run/secrets/istio}
        - {name: podinfo, mountPath: /etc/istio/pod}
      containers:
      - {name: api, image: "api:2", ports: [{containerPort: 8080}]}
      volumes:
      - name: token
        projected: {sources: [{serviceAccountToken: {audience: istio-ca, expirationSeconds: 43200, path: istio-token}}]}
      - {name: ca, configMap: {name: istio-ca-root-cert}}
      - name: podinfo
        downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}]}
"#;
    let plan = plan(text);
    let kinds: Vec<_> =
        plan["containers"].as_array().unwrap().iter().map(|c| c["kind"].as_str().unwrap_or("app")).collect();
    assert_eq!(kinds, ["init", "sidecar", "app"]);
    assert_eq!(plan["containers"][0]["capabilities"], json!(["CAP_NET_ADMIN", "CAP_NET_RAW"]));
    assert_eq!(plan["containers"][0]["user"], "0");
    let proxy = &plan["containers"][1];
    assert_eq!(proxy["args"], json!(["/entry", "proxy", "sidecar", "--domain", "shop.svc.cluster.local"]));
    assert!(proxy["env"].as_array().unwrap().contains(&Value::from("CPU=2")));
    assert!(proxy["host_env"].as_array().unwrap().contains(&Value::from("POD_NAME")));
    assert_eq!(plan["share_process_namespace"], true);
    let volumes: Vec<_> = plan["volumes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|v| (v["name"].as_str().unwrap(), v["source"].get("digests").is_some()))
        .collect();
    assert_eq!(volumes, [("ca", true), ("kube-api-access", false), ("podinfo", false), ("token", false)]);
}

#[test]
fn jobs() {
    let job = r#"
apiVersion: batch/v1
kind: Job
metadata: {generateName: migrate-}
spec:
  backoffLimit: 2
  ttlSecondsAfterFinished: 60
  template:
    spec:
      restartPolicy: Never
      containers:
      - name: migrate
        image: app:3
        command: [/bin/sh, -ec]
        args:
        - |
          ./migrate up
          echo done
        envFrom:
        - configMapRef: {name: maybe, optional: true}
"#;
    let found = plan(job);
    assert_eq!(found["name"], "migrate.shop");
    assert_eq!(found["containers"][0]["restart"], "never");
    assert_eq!(found["containers"][0]["args"][2], "./migrate up\necho done\n");
    let cron = r#"
apiVersion: batch/v1
kind: CronJob
metadata: {name: nightly}
spec:
  schedule: "0 3 * * *"
  concurrencyPolicy: Forbid
  jobTemplate:
    spec:
      template:
        spec:
          restartPolicy: OnFailure
          containers: [{name: report, image: "report:1", args: [--since, 24h]}]
"#;
    let found = plan(cron);
    assert_eq!(found["containers"][0]["restart"], "on-failure");
    assert_eq!(found["containers"][0]["args"], json!(["/entry", "--since", "24h"]));
    let wrong = workload(&cron.replace("OnFailure", "Always"));
    assert_eq!(wrong.problems[0].field, "spec.jobTemplate.spec.template.spec.restartPolicy");
}

#[test]
fn secrets_of_trustee_and_a_debugger_by_annotation() {
    let text = r#"
apiVersion: apps/v1
kind: DaemonSet
metadata:
  name: agent
  annotations: {cocoon.dev/exec: allowed, cocoon.dev/logs: allowed}
spec:
  selector: {matchLabels: {app: agent}}
  template:
    metadata:
      labels: {app: agent}
      annotations:
        cocoon.dev/exec: refused
        cocoon.dev/logs: refused
        cocoon.dev/trustee-secrets: |
          default/agent/key
          default/agent/token:/etc/agent/token
        cocoon.dev/debug-image: busybox:1.36
        cocoon.dev/attestation-api: allowed
        cocoon.dev/port-forward: refused
        cocoon.dev/service-account-token: refused
        cocoon.dev/changed-requests: ignored
    spec:
      containers: [{name: agent, image: "agent:1", ports: [{containerPort: 9000}]}]
"#;
    let plan = plan(text);
    assert_eq!(
        plan["secrets"],
        json!([
            {"uri": "kbs:///default/agent/key", "file": "/run/secrets/key"},
            {"uri": "kbs:///default/agent/token", "file": "/etc/agent/token"}
        ])
    );
    let debugger = &plan["containers"][1];
    assert_eq!((&debugger["name"], &debugger["kind"]), (&json!("debugger"), &json!("ephemeral")));
    assert_eq!(debugger["exec"]["any"], true);
    let agent = &plan["containers"][0];
    // The pod's own annotation counts more than the object's.
    assert_eq!(agent.get("exec"), None);
    assert_eq!(agent["logs"], false);
    assert_eq!(agent["mounts"], json!([]));
    assert_eq!(plan["attestation_api"], true);
    assert_eq!(plan.get("forward_ports"), None);
    assert_eq!(plan.get("exact"), None);
}
