//! The objects that a Trustee consists of.

use cocoon_cluster_api::{Trustee, TrusteeSpec, labels};
use kube::ResourceExt;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::backup;

/// The port in the pod.
const PORT: u16 = 8080;
/// The user in the pod.
const USER: u32 = 65532;
/// Where things are in the pod.
const STATE: &str = "/var/lib/trustee";

/// Names of what belongs to a Trustee.
#[derive(Clone, Debug)]
pub struct Names {
    /// Deployment, Service, disruption budget.
    pub main: String,
    /// Settings.
    pub settings: String,
    /// Volume.
    pub volume: String,
    /// The administrator's token.
    pub admin: String,
    /// The server's certificate.
    pub tls: String,
    /// The CA.
    pub authority: String,
    /// The sealing key.
    pub seal: String,
    /// The backup job.
    pub backup: String,
}

impl Names {
    /// Of a Trustee.
    pub fn of(trustee: &Trustee) -> Self {
        let name = format!("{}-trustee", trustee.name_any());
        let with = |what: &str| format!("{name}-{what}");
        Names {
            settings: with("settings"),
            volume: with("state"),
            admin: with("admin"),
            tls: trustee.spec.tls.secret_name.clone().unwrap_or_else(|| with("tls")),
            authority: with("ca"),
            seal: with("seal"),
            backup: with("backup"),
            main: name,
        }
    }
}

/// The names under which it is reached in the cluster, the usual one first.
pub fn dns(trustee: &Trustee) -> Vec<String> {
    let (name, ns) = (Names::of(trustee).main, trustee.namespace().unwrap_or_default());
    let mut names = vec![
        format!("{name}.{ns}.svc"),
        format!("{name}.{ns}.svc.cluster.local"),
        format!("{name}.{ns}"),
        name,
    ];
    names.extend(trustee.spec.tls.names.iter().cloned());
    names.push("localhost".into());
    names
}

/// Where workloads reach it.
pub fn url(trustee: &Trustee) -> String {
    let host = dns(trustee).into_iter().next().unwrap_or_default();
    format!("https://{host}:{}", trustee.spec.service.port)
}

/// The settings file.
pub fn settings(trustee: &Trustee) -> String {
    let spec = &trustee.spec;
    let state = match (&spec.state.postgres, is_ephemeral(spec)) {
        (Some(_), _) => "kind = \"postgres\"\npostgres_url_file = \"/etc/trustee/database/url\"\n",
        (None, _) => "kind = \"embedded\"\n",
    };
    let roots = match spec.accept_simulated {
        true => "simulated_roots = [\"/etc/trustee/settings/simulated.pem\"]\n",
        false => "",
    };
    format!(
        "[server]\nlisten = [\"0.0.0.0:{PORT}\"]\ntls_certificate = \"/etc/trustee/tls/tls.crt\"\n\
         tls_key = \"/etc/trustee/tls/tls.key\"\npublic_url = \"{}\"\n\n[state]\n{state}folder = \"{STATE}\"\n\n\
         [seal]\nkind = \"file\"\nfile = \"/etc/trustee/seal/key\"\n\n\
         [admin]\ntoken_file = \"/etc/trustee/admin/token\"\n\n[attestation]\naccept_simulated = {}\n{roots}",
        url(trustee),
        spec.accept_simulated
    )
}

fn is_ephemeral(spec: &TrusteeSpec) -> bool {
    spec.state.volume.as_ref().is_some_and(|v| v.ephemeral)
}

/// Whether its state is on a volume.
pub fn has_volume(spec: &TrusteeSpec) -> bool {
    spec.state.postgres.is_none() && !is_ephemeral(spec)
}

/// Its pods, as a label selector.
pub fn selector(trustee: &Trustee) -> String {
    format!("app.kubernetes.io/component=trustee,app.kubernetes.io/instance={}", trustee.name_any())
}

/// What is in Secrets.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    /// A digest of what processes read of them when they start.
    pub digest: String,
    /// Certificates to trust, PEM.
    pub bundle: String,
    /// Whether the Secret with the database's URL has an entry `ca.crt`.
    pub database_ca: bool,
}

/// The objects: settings, volume, Service, Deployment, a disruption budget for several replicas, a backup job where one is asked
/// for.
pub fn objects(trustee: &Trustee, owner: &Value, image: &str, inputs: &Inputs) -> Vec<Value> {
    let spec = &trustee.spec;
    let names = Names::of(trustee);
    let instance = trustee.name_any();
    let meta = |name: &str| json!({"name": name, "namespace": trustee.namespace(), "labels": labels("trustee", &instance), "ownerReferences": [owner]});
    let select = json!({"app.kubernetes.io/component": "trustee", "app.kubernetes.io/instance": instance});
    let text = settings(trustee);
    let mut data = json!({"trustee.toml": text});
    if let (true, Some(map)) = (spec.accept_simulated, data.as_object_mut()) {
        map.insert("simulated.pem".into(), json!(spec.simulated_roots.join("\n")));
    }
    let digest = hex::encode(Sha256::digest(format!("{data}{}", inputs.digest)));
    if let Some(map) = data.as_object_mut() {
        map.insert("bundle.pem".into(), json!(inputs.bundle));
    }
    let mut list = vec![
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta(&names.settings), "data": data}),
        json!({"apiVersion": "v1", "kind": "Service", "metadata": meta(&names.main), "spec": {
            "type": spec.service.kind, "selector": select,
            "ports": [{"name": "https", "port": spec.service.port, "targetPort": "https", "protocol": "TCP"}],
        }}),
    ];
    if has_volume(spec) {
        let volume = spec.state.volume.clone().unwrap_or_default();
        let mut meta = meta(&names.volume);
        // Whether it goes with the Trustee is the policy's matter.
        if let Some(map) = meta.as_object_mut() {
            map.remove("ownerReferences");
        }
        let mut claim = json!({
            "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": volume.size}},
        });
        if let (Some(class), Some(map)) = (&volume.storage_class, claim.as_object_mut()) {
            map.insert("storageClassName".into(), json!(class));
        }
        list.push(
            json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": meta, "spec": claim}),
        );
    }
    if spec.replicas > 1 {
        list.push(json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": meta(&names.main), "spec": {
            "minAvailable": 1, "selector": {"matchLabels": select},
        }}));
    }
    list.push(json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta(&names.main),
        "spec": {
            "replicas": spec.replicas,
            // An embedded store has one writer: the old process ends before the new one begins.
            "strategy": {"type": if spec.state.postgres.is_some() { "RollingUpdate" } else { "Recreate" }},
            "selector": {"matchLabels": select},
            "template": template(trustee, &names, image, (&digest, inputs.database_ca), &select),
        },
    }));
    list.extend(backup::job(trustee, &names, meta(&names.backup), image));
    list
}

/// Its processes are an ordinary user's. Files of Secrets are root's; this group may read them.
pub fn security() -> Value {
    json!({
        "runAsNonRoot": true, "runAsUser": USER, "runAsGroup": USER, "fsGroup": USER,
        "seccompProfile": {"type": "RuntimeDefault"},
    })
}

fn template(
    trustee: &Trustee,
    names: &Names,
    image: &str,
    (digest, database_ca): (&str, bool),
    select: &Value,
) -> Value {
    let spec = &trustee.spec;
    let database = spec.state.postgres.as_ref();
    let security = security();
    let secret = |name: &str, secret: &str| json!({"name": name, "secret": {"secretName": secret, "defaultMode": 0o400}});
    let mut volumes = vec![
        json!({"name": "settings", "configMap": {"name": names.settings}}),
        secret("admin", &names.admin),
        secret("tls", &names.tls),
        secret("seal", &names.seal),
    ];
    let mut mounts = vec![
        json!({"name": "settings", "mountPath": "/etc/trustee/settings", "readOnly": true}),
        json!({"name": "admin", "mountPath": "/etc/trustee/admin", "readOnly": true}),
        json!({"name": "tls", "mountPath": "/etc/trustee/tls", "readOnly": true}),
        // The file itself: Trustee follows no link to a key.
        json!({"name": "seal", "mountPath": "/etc/trustee/seal/key", "subPath": "key", "readOnly": true}),
        json!({"name": "state", "mountPath": STATE}),
    ];
    volumes.push(match has_volume(spec) {
        true => json!({"name": "state", "persistentVolumeClaim": {"claimName": names.volume}}),
        false => json!({"name": "state", "emptyDir": {}}),
    });
    if let Some(database) = database {
        let from = &database.url_from;
        let mut items = vec![json!({"key": from.key, "path": "url"})];
        if database_ca {
            items.push(json!({"key": "ca.crt", "path": "ca.crt"}));
        }
        volumes.push(json!({"name": "database", "secret": {
            "secretName": from.name, "defaultMode": 0o400, "items": items,
        }}));
        mounts.push(json!({"name": "database", "mountPath": "/etc/trustee/database", "readOnly": true}));
    }
    let apart = json!({"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{
        "weight": 100, "podAffinityTerm": {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": select}},
    }]}});
    let probe = |path: &str| json!({"httpGet": {"path": path, "port": "https", "scheme": "HTTPS"}, "periodSeconds": 5});
    json!({
        "metadata": {
            "labels": labels("trustee", &trustee.name_any()),
            // Other settings, another certificate or database take a new process.
            "annotations": {"cocoon.dev/settings-digest": digest},
        },
        "spec": {
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "nodeSelector": spec.node_selector,
            "affinity": apart,
            "securityContext": security,
            "containers": [{
                "name": "trustee", "image": image, "imagePullPolicy": spec.image_pull_policy.word(),
                "args": ["trustee", "serve", "--config", "/etc/trustee/settings/trustee.toml"],
                "ports": [{"name": "https", "containerPort": PORT}],
                "terminationMessagePolicy": "FallbackToLogsOnError",
                "livenessProbe": probe("/healthz"), "readinessProbe": probe("/readyz"),
                "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}},
                "securityContext": {
                    "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]},
                },
                "volumeMounts": mounts,
            }],
            "volumes": volumes,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use cocoon_cluster_api::{DatabaseReference, SecretKey, TrusteeState};

    fn trustee(spec: TrusteeSpec) -> Trustee {
        let mut trustee = Trustee::new("main", spec);
        trustee.metadata.namespace = Some("ns".into());
        trustee
    }

    fn deployment(list: &[Value]) -> &Value {
        list.iter().find(|o| o["kind"] == "Deployment").unwrap()
    }

    #[test]
    fn settings_are_ones_that_trustee_takes() {
        let postgres = TrusteeState {
            postgres: Some(DatabaseReference {
                url_from: SecretKey { name: "db".into(), key: "url".into() },
            }),
            volume: None,
        };
        for state in [TrusteeState::default(), postgres] {
            let text = settings(&trustee(TrusteeSpec { state, ..TrusteeSpec::default() }));
            let read: toml::Table = toml::from_str(&text).unwrap();
            assert_eq!(read["server"]["public_url"].as_str(), Some("https://main-trustee.ns.svc:8080"));
            assert_eq!(read["seal"]["kind"].as_str(), Some("file"));
        }
    }

    #[test]
    fn an_embedded_store_has_a_volume_and_one_process_at_a_time() {
        let list = objects(&trustee(TrusteeSpec::default()), &json!({"uid": "u"}), "i", &Inputs::default());
        let claim = list.iter().find(|o| o["kind"] == "PersistentVolumeClaim").unwrap();
        assert!(claim["metadata"].get("ownerReferences").is_none());
        assert_eq!(deployment(&list)["spec"]["strategy"]["type"], "Recreate");
        assert_eq!(deployment(&list)["spec"]["template"]["spec"]["securityContext"]["runAsNonRoot"], true);
        assert!(!list.iter().any(|o| o["kind"] == "PodDisruptionBudget"));
    }
}
