//! A Trustee that the cluster runs: asked for by a resource, told by resources what it knows, used by a pod.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests

mod trustee_world;

use cocoon_tests::Postgres;
use cocoon_tests::containerd::Node;
use cocoon_tests::kubernetes::{Installed, Options, tell};
use serde_json::{Value, json};

use trustee_world::{NS, World, condition, ready, resource, volume};

/// Reference values, a secret and a rule by resources; a pod gets the secret.
fn told(world: &World, trustee: &Value) {
    let (cluster, of) = (world.cluster, world.name);
    let (_, values) = world.simulated();
    world.apply("TrusteeReferenceValues", "guests", json!({"trustee": of, "values": values}));
    world.apply(
        "TrusteeSecret",
        "app",
        json!({"trustee": of, "secretName": "app", "entries": [{"key": "password", "path": "default/app/password"}]}),
    );
    let message = world.reason("trusteesecrets", "app", "SecretMissing");
    assert!(message.contains("no Secret app"), "{message}");
    cluster
        .kubectl(&["create", "secret", "generic", "app", "-n", NS, "--from-literal=password=swordfish"])
        .unwrap();
    world.wait("trusteesecrets", "app", ready);
    world.apply(
        "TrusteeReleaseRule",
        "app",
        json!({"trustee": of, "workload": "any", "path": "default/app/*", "acceptSimulated": true}),
    );
    world.wait("trusteereleaserules", "app", ready);
    world.wait("trusteereferencevalues", "guests", ready);
    assert_eq!(world.cocoon(&["secret", "list"]).unwrap(), "default/app/password\n");
    assert!(world.cocoon(&["secret", "rules", "show", "k8s-app"]).unwrap().contains("default/app/*"));
    assert!(world.cocoon(&["reference", "list"]).unwrap().contains("kubernetes cocoon-system/guests"));
    assert_eq!(world.asks(trustee, "asks", "default/app/password"), "swordfish");
}

/// Someone changes Trustee itself; each resource puts it right when it is looked at next.
fn corrected(world: &World) {
    world.cocoon(&["secret", "rm", "default/app/password"]).unwrap();
    world.cocoon(&["secret", "rules", "set", "k8s-app", "--workload", "any", "--path", "*/*/*"]).unwrap();
    let source = "kubernetes cocoon-system/guests";
    world.cocoon(&["reference", "set", "sim_bootloader", "255", "--source", source]).unwrap();
    world.cocoon(&["reference", "set", "sim_strange", "1", "--source", source]).unwrap();
    for (plural, name) in
        [("trusteesecrets", "app"), ("trusteereleaserules", "app"), ("trusteereferencevalues", "guests")]
    {
        // Not to wait for ten minutes.
        world.cluster.kubectl(&["annotate", plural, name, "-n", NS, "look=now"]).unwrap();
        world.wait(plural, name, |o| ready(o) && o["status"]["corrected"] == 1);
    }
    assert_eq!(world.cocoon(&["secret", "list"]).unwrap(), "default/app/password\n");
    assert!(world.cocoon(&["secret", "rules", "show", "k8s-app"]).unwrap().contains("default/app/*"));
    let values = world.cocoon(&["reference", "list", "--json"]).unwrap();
    let values: Value = serde_json::from_str(&values).unwrap();
    for record in values.as_array().unwrap() {
        assert_eq!(record["values"], world.simulated().1[record["name"].as_str().unwrap()], "{record}");
    }
    let events = world.cluster.kubectl(&["get", "events", "-n", NS]).unwrap();
    assert!(events.contains("Corrected"), "{events}");
}

/// What is bad is refused by the schema, or says why.
fn refused(world: &World) {
    let of = world.name;
    for (kind, spec) in [
        ("TrusteeSecret", json!({"trustee": of, "secretName": "app", "entries": []})),
        (
            "TrusteeSecret",
            json!({"trustee": of, "secretName": "app", "entries": [{"key": "a", "path": "../x/y"}]}),
        ),
        (
            "TrusteeSecret",
            json!({"trustee": of, "secretName": "a", "entries": [{"key": "a", "path": "a/b/c"}, {"key": "b", "path": "a/b/c"}]}),
        ),
        ("TrusteeReleaseRule", json!({"trustee": of, "workload": "everybody", "path": "a/b/c"})),
        ("TrusteeReleaseRule", json!({"trustee": of, "workload": "any", "path": "a/b"})),
        ("TrusteeReleaseRule", json!({"trustee": of, "workload": "any", "path": "a/b/c", "expires": "soon"})),
        (
            "TrusteeReleaseRule",
            json!({"trustee": of, "workload": "any", "path": "a/b/c", "minStatus": "Nice"}),
        ),
        ("TrusteeReferenceValues", json!({"trustee": of, "values": {}})),
        ("TrusteeReferenceValues", json!({"trustee": of, "values": {"a": "1"}})),
        ("TrusteeReferenceValues", json!({"trustee": of, "values": {"a#b": ["1"]}})),
        ("TrusteeReferenceValues", json!({"trustee": of, "values": {"a": [true]}})),
        ("Trustee", json!({"replicas": 2})),
        ("Trustee", json!({"acceptSimulated": true})),
        ("Trustee", json!({"state": {"volume": {}, "postgres": {"urlFrom": {"name": "a", "key": "b"}}}})),
        ("Trustee", json!({"backup": {"schedule": "; rm -rf /", "claim": "b"}})),
    ] {
        let said = world
            .cluster
            .apply(&resource(kind, "bad", spec.clone()))
            .expect_err(&spec.to_string())
            .to_string();
        assert!(said.to_lowercase().contains("invalid"), "{spec}: {said}");
    }
    world.apply(
        "TrusteeReleaseRule",
        "lost",
        json!({"trustee": "nowhere", "workload": "any", "path": "a/b/c"}),
    );
    assert!(world.reason("trusteereleaserules", "lost", "TrusteeMissing").contains("nowhere"));
    world.apply(
        "TrusteeSecret",
        "second",
        json!({"trustee": of, "secretName": "app", "entries": [{"key": "password", "path": "default/app/password"}]}),
    );
    assert!(world.reason("trusteesecrets", "second", "PathTaken").contains("app"));
    let never = json!({"trustee": of, "workload": "any", "path": "a/b/c", "expires": "2027-02-31T00:00:00Z"});
    world.apply("TrusteeReleaseRule", "never", never);
    world.reason("trusteereleaserules", "never", "Refused");
    world
        .cluster
        .kubectl(&[
            "delete",
            "trusteereleaserule/lost",
            "trusteereleaserule/never",
            "trusteesecret/second",
            "-n",
            NS,
        ])
        .unwrap();
    // The first still has the path.
    assert_eq!(world.cocoon(&["secret", "list"]).unwrap(), "default/app/password\n");
}

/// A backup, made while Trustee serves, becomes the state of another Trustee, which gives a pod the secret.
fn restored(world: &World) {
    let cluster = world.cluster;
    volume(cluster, "backups");
    let claim = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "backups", "namespace": NS},
        "spec": {"accessModes": ["ReadWriteOnce"], "volumeName": "backups", "resources": {"requests": {"storage": "1Gi"}}},
    });
    cluster.apply(&claim.to_string()).unwrap();
    // Two, of which one is kept.
    for job in ["first", "second"] {
        cluster.kubectl(&["create", "job", job, "-n", NS, "--from=cronjob/main-trustee-backup"]).unwrap();
        world.wait("jobs", job, |j| j["status"]["succeeded"] == 1);
    }
    let files = std::fs::read_dir(cluster.node().path("/var/lib/backups")).unwrap().flatten();
    let files: Vec<String> = files.map(|f| f.file_name().into_string().unwrap()).collect();
    assert_eq!(files.len(), 1, "{files:?}");

    volume(cluster, "other-state");
    let mut seal = cluster.get(&["secret", "main-trustee-seal", "-n", NS]).unwrap();
    seal["metadata"] = json!({"name": "other-trustee-seal", "namespace": NS});
    cluster.apply(&seal.to_string()).unwrap();
    let (roots, _) = world.simulated();
    let spec =
        |replicas: u32| json!({"acceptSimulated": true, "simulatedRoots": roots, "replicas": replicas});
    world.apply("Trustee", "other", spec(0));
    world.reason("trustees", "other", "NoReplicas");
    let job = cluster.get(&["cronjob", "main-trustee-backup", "-n", NS]).unwrap();
    let template = &job["spec"]["jobTemplate"]["spec"]["template"]["spec"];
    let mount = |name: &str, path: &str| json!({"name": name, "mountPath": path});
    let restore = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "restore", "namespace": NS},
        "spec": {
            "restartPolicy": "Never", "securityContext": template["securityContext"],
            "containers": [{
                "name": "restore", "image": template["containers"][0]["image"],
                "args": ["trustee", "restore", format!("/backup/{}", files[0]), "--config", "/etc/trustee/settings/trustee.toml"],
                "volumeMounts": [
                    mount("backup", "/backup"), mount("state", "/var/lib/trustee"),
                    mount("settings", "/etc/trustee/settings"), {"name": "seal", "mountPath": "/etc/trustee/seal/key", "subPath": "key"},
                ],
            }],
            "volumes": [
                {"name": "backup", "persistentVolumeClaim": {"claimName": "backups"}},
                {"name": "state", "persistentVolumeClaim": {"claimName": "other-trustee-state"}},
                {"name": "settings", "configMap": {"name": "other-trustee-settings"}},
                {"name": "seal", "secret": {"secretName": "other-trustee-seal", "defaultMode": 0o400}},
            ],
        },
    });
    cluster.apply(&restore.to_string()).unwrap();
    let ended = world.wait("pods", "restore", |p| {
        ["Succeeded", "Failed"].iter().any(|phase| p["status"]["phase"] == *phase)
    });
    let said = cluster.kubectl(&["logs", "restore", "-n", NS]).unwrap();
    assert_eq!(ended["status"]["phase"], "Succeeded", "{said}");
    world.apply("Trustee", "other", spec(1));
    let trustee = world.wait("trustees", "other", ready);
    let other = World { name: "other", ..*world };
    assert_eq!(other.cocoon(&["secret", "list"]).unwrap(), "default/app/password\n");
    assert_eq!(other.asks(&trustee, "restored", "default/app/password"), "swordfish");
    cluster.kubectl(&["delete", "trustee", "other", "-n", NS, "--timeout=60s"]).unwrap();
}

#[test]
fn a_trustee_on_a_volume_is_told_by_resources_and_gives_a_pod_its_secret() {
    tell(Options::cocoon(), |cluster| {
        let Some(installed) = Installed::start(cluster, &[]).unwrap() else { return };
        let world = World { installed: &installed, cluster, name: "main" };
        let (roots, _) = world.simulated();
        let backup = json!({"schedule": "0 0 1 1 *", "claim": "backups", "keep": 1});
        let spec = json!({"acceptSimulated": true, "simulatedRoots": roots, "backup": backup});
        world.apply("Trustee", "main", spec);
        let waiting =
            world.wait("trustees", "main", |t| condition(t, "Ready", "message").contains("no volume yet"));
        assert_eq!(condition(&waiting, "Ready", "reason"), "Starting");
        volume(cluster, "trustee-state");
        let trustee = world.wait("trustees", "main", ready);
        assert_eq!(trustee["status"]["url"], "https://main-trustee.cocoon-system.svc:8080");
        assert!(trustee["status"]["caBundle"].as_str().unwrap().starts_with("-----BEGIN CERTIFICATE"));
        assert_eq!(trustee["status"]["adminSecret"], "main-trustee-admin");

        told(&world, &trustee);
        corrected(&world);
        refused(&world);

        restored(&world);

        // A resource that goes is taken out; one whose Trustee is gone goes too.
        cluster.kubectl(&["delete", "trusteereleaserule", "app", "-n", NS, "--timeout=60s"]).unwrap();
        cluster.kubectl(&["delete", "trusteesecret", "app", "-n", NS, "--timeout=60s"]).unwrap();
        assert_eq!(world.cocoon(&["secret", "list"]).unwrap(), "");
        assert!(world.cocoon(&["secret", "rules", "show", "k8s-app"]).is_err());
        cluster.kubectl(&["delete", "trustee", "main", "-n", NS, "--timeout=60s"]).unwrap();
        cluster.kubectl(&["delete", "trusteereferencevalues", "guests", "-n", NS, "--timeout=60s"]).unwrap();
        // What is sealed stays, for whoever makes it anew; the rest goes.
        cluster
            .kubectl(&[
                "wait",
                "--for=delete",
                "deployment,service",
                "-l",
                "app.kubernetes.io/component=trustee",
                "-n",
                NS,
                "--timeout=60s",
            ])
            .unwrap();
        cluster.kubectl(&["get", "pvc/main-trustee-state", "secret/main-trustee-seal", "-n", NS]).unwrap();
        installed.remove().unwrap();
    });
}

#[test]
fn two_trustees_on_postgresql_outlive_one_of_them() {
    tell(Options::cocoon(), |cluster| {
        let Some(postgres) = Postgres::start_on(Node::ADDRESS).unwrap() else { return };
        let Some(installed) = Installed::start(cluster, &[]).unwrap() else { return };
        let world = World { installed: &installed, cluster, name: "pair" };
        let (roots, values) = world.simulated();
        let spec = json!({
            "replicas": 2, "state": {"postgres": {"urlFrom": {"name": "database", "key": "url"}}},
            "acceptSimulated": true, "simulatedRoots": roots, "deletionPolicy": "Delete",
            // cert-manager's form.
            "tls": {"secretName": "certificate"},
        });
        world.apply("Trustee", "pair", spec);
        world.reason("trustees", "pair", "DatabaseUnknown");
        let (url, ca) = postgres.exposed().unwrap();
        let url = format!("--from-literal=url={url}?sslrootcert=/etc/trustee/database/ca.crt");
        let ca = format!("--from-literal=ca.crt={ca}");
        cluster.kubectl(&["create", "secret", "generic", "database", "-n", NS, &url, &ca]).unwrap();
        let message = world.reason("trustees", "pair", "CertificateMissing");
        assert!(message.contains("certificate"), "{message}");
        let names = ["pair-trustee.cocoon-system.svc", "localhost"].map(str::to_owned);
        let made = rcgen::generate_simple_self_signed(names.to_vec()).unwrap();
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "metadata": {"name": "certificate", "namespace": NS},
            "stringData": {"tls.crt": made.cert.pem(), "tls.key": made.signing_key.serialize_pem(), "ca.crt": made.cert.pem()},
        });
        cluster.apply(&secret.to_string()).unwrap();
        let trustee = world.wait("trustees", "pair", |t| ready(t) && t["status"]["readyReplicas"] == 2);
        assert_eq!(trustee["status"]["caBundle"], made.cert.pem());
        let budget = cluster.get(&["poddisruptionbudget", "pair-trustee", "-n", NS]).unwrap();
        assert_eq!(budget["spec"]["minAvailable"], 1);
        let set = cluster.get(&["deployment", "pair-trustee", "-n", NS]).unwrap();
        // Preferred alone: two replicas find a place on one node too.
        let affinity = &set["spec"]["template"]["spec"]["affinity"]["podAntiAffinity"];
        assert!(affinity["preferredDuringSchedulingIgnoredDuringExecution"].is_array(), "{affinity}");

        world.apply("TrusteeReferenceValues", "guests", json!({"trustee": "pair", "values": values}));
        world.wait("trusteereferencevalues", "guests", ready);
        cluster
            .kubectl(&["create", "secret", "generic", "app", "-n", NS, "--from-literal=password=swordfish"])
            .unwrap();
        world.apply(
            "TrusteeSecret",
            "app",
            json!({"trustee": "pair", "secretName": "app", "entries": [{"key": "password", "path": "default/app/password"}]}),
        );
        world.wait("trusteesecrets", "app", ready);
        world.apply(
            "TrusteeReleaseRule",
            "app",
            json!({"trustee": "pair", "workload": "name:asks", "path": "default/app/*", "acceptSimulated": true}),
        );
        world.wait("trusteereleaserules", "app", ready);

        // One is killed, with its container's process; the other answers.
        let pods = cluster.get(&["pods", "-n", NS, "-l", "app.kubernetes.io/instance=pair"]).unwrap();
        let victim = pods["items"][0]["metadata"]["name"].as_str().unwrap();
        cluster
            .kubectl(&["delete", "pod", victim, "-n", NS, "--grace-period=0", "--force", "--wait=false"])
            .unwrap();
        assert_eq!(world.asks(&trustee, "asks", "default/app/password"), "swordfish");
        world.wait("trustees", "pair", |t| ready(t) && t["status"]["readyReplicas"] == 2);

        // Everything of it goes, the sealing key too, as its policy says.
        cluster
            .kubectl(&["delete", "trustee", "pair", "-n", NS, "--cascade=foreground", "--timeout=120s"])
            .unwrap();
        cluster
            .kubectl(&[
                "wait",
                "--for=delete",
                "secret/pair-trustee-seal",
                "secret/pair-trustee-admin",
                "-n",
                NS,
                "--timeout=60s",
            ])
            .unwrap();
        // Uninstalling takes what is left of them with it.
        installed.remove().unwrap();
    });
}
