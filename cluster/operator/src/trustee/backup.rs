//! The backup job: our own image asks Trustee for a copy of its state and puts it onto a volume.

use cocoon_cluster_api::{Trustee, labels};
use kube::ResourceExt;
use serde_json::{Value, json};

use super::objects::{self, Names};

/// Seconds that one backup may take.
const LIMIT: u32 = 3600;

/// The CronJob, where one is asked for.
pub fn job(trustee: &Trustee, names: &Names, meta: Value, image: &str) -> Option<Value> {
    let backup = trustee.spec.backup.as_ref()?;
    let folder = |name: &str| format!("/etc/trustee/{name}");
    let mount = |name: &str| json!({"name": name, "mountPath": folder(name), "readOnly": true});
    Some(json!({
        "apiVersion": "batch/v1", "kind": "CronJob", "metadata": meta,
        "spec": {
            "schedule": backup.schedule, "timeZone": "Etc/UTC", "concurrencyPolicy": "Forbid",
            "successfulJobsHistoryLimit": 1, "failedJobsHistoryLimit": 3,
            "jobTemplate": {"spec": {"backoffLimit": 3, "activeDeadlineSeconds": LIMIT, "template": {
                "metadata": {"labels": labels("trustee-backup", &trustee.name_any())},
                "spec": {
                    "restartPolicy": "Never",
                    "automountServiceAccountToken": false, "enableServiceLinks": false,
                    "nodeSelector": trustee.spec.node_selector,
                    "securityContext": objects::security(),
                    "containers": [{
                        "name": "backup", "image": image, "imagePullPolicy": trustee.spec.image_pull_policy.word(),
                        "args": [
                            "trustee", "backup", "--into", "/backup", "--keep", backup.keep.to_string(),
                            "--trustee", objects::url(trustee), "--trustee-token", folder("admin/token"),
                            "--trustee-cert", folder("tls/bundle.pem"),
                        ],
                        "terminationMessagePolicy": "FallbackToLogsOnError",
                        "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}},
                        "securityContext": {
                            "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
                            "capabilities": {"drop": ["ALL"]},
                        },
                        "volumeMounts": [mount("admin"), mount("tls"), {"name": "backup", "mountPath": "/backup"}],
                    }],
                    "volumes": [
                        {"name": "admin", "secret": {"secretName": names.admin, "defaultMode": 0o400}},
                        // A copy for which there is no certificate to trust is not made.
                        {"name": "tls", "configMap": {"name": names.settings, "items": [{"key": "bundle.pem", "path": "bundle.pem"}]}},
                        {"name": "backup", "persistentVolumeClaim": {"claimName": backup.claim}},
                    ],
                },
            }}},
        },
    }))
}
