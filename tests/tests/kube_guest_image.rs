//! A guest image from a registry: nodes pull it by digest, check its signature, and say why where they cannot.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::path::Path;

use cocoon_tests::guest_image;
use cocoon_tests::kubernetes::{
    ClusterAdmin, LONG, Options, Variant, condition, container, holds, pod, tell, variant,
};
use serde_json::{Value, json};

/// Pushes a guest image; its reference with the digest.
fn push(admin: &ClusterAdmin, guest: &Path, tag: &str, more: &[&str]) -> String {
    let to = format!("{}/guest:{tag}", admin.cluster.registry().address());
    let guest = guest.display().to_string();
    let args = [&["guest", "push", &to, "--image", &guest, "--plain-http"], more].concat();
    admin.cocoon(&args).trim().to_owned()
}

/// Gives the CocoonRuntime this source, and a deadline.
fn set(admin: &ClusterAdmin, source: &Value, seconds: u32) {
    let mut runtime = admin.runtime();
    runtime["spec"]["guestImage"] = source.clone();
    runtime["spec"]["update"]["progressDeadlineSeconds"] = json!(seconds);
    // Not merged: what the source before it said is gone.
    let object = runtime.to_string();
    admin.cluster.kubectl_with(&["replace", "-f", "-"], object.as_bytes()).unwrap();
}

/// A key pair in this folder; the public key.
fn key_pair(admin: &ClusterAdmin, folder: &Path) -> String {
    admin.cocoon(&["image", "keygen", &folder.join("maker").display().to_string()]);
    std::fs::read_to_string(folder.join("maker.pub")).unwrap()
}

#[test]
fn nodes_pull_guest_images_by_digest_and_say_why_they_cannot() {
    tell(Options::plain_with_owner(), |cluster| {
        let Some(admin) = ClusterAdmin::new(cluster) else { return };
        let folder = tempfile::tempdir().unwrap();
        let newer = folder.path().join("newer");
        variant(&guest_image().unwrap(), &newer, Variant::Release("2")).unwrap();
        admin.cluster.block_on(admin.cluster.owner().unwrap().accept_image("newer", &newer)).unwrap();
        let reference = push(&admin, &newer, "2", &[]);
        assert!(reference.contains("/guest@sha256:"), "{reference}");
        assert_eq!(push(&admin, &newer, "2", &[]), reference, "the same image has the same digest");
        admin.apply_operator();
        bad_sources_are_refused(&admin, &reference);

        // Not there yet: the node says so, tries again, and goes on when it is.
        let absent = format!("{}@sha256:{}", reference.split_once('@').unwrap().0, "0".repeat(64));
        let mut runtime = admin.runtime();
        runtime["spec"]["guestImage"] = json!({"reference": absent, "plainHttp": true});
        admin.cluster.apply(&runtime.to_string()).unwrap();
        let node = admin.node_when(|n| condition(n, "Ready", "reason") == "ImageNotFound");
        assert!(node["status"]["code"] == "IMAGE-NOT-FOUND" && !holds(&node, "Ready"), "{}", node["status"]);
        let seen = admin.runtime_when(|r| condition(r, "Progressing", "message").contains("IMAGE-NOT-FOUND"));
        assert_eq!(condition(&seen, "Progressing", "reason"), "Changing");
        assert_eq!(admin.cluster.changed_files(), [], "nothing was installed");

        set(&admin, &json!({"reference": reference, "plainHttp": true}), 600);
        let first = admin.ready();
        let stable = first["status"]["revisions"]["stable"].clone();
        runs(&admin, "pulled");

        // A signature is asked for, and there is none; then there is one.
        let public = key_pair(&admin, folder.path());
        set(&admin, &json!({"reference": reference, "plainHttp": true, "publicKey": public}), 600);
        let message = admin.reason("cocoonruntimes", "cocoon", "Degraded", "RevisionRefused");
        assert!(message.contains("IMAGE-SIGNATURE-MISSING"), "{message}");
        let back = admin.runtime_when(|r| holds(r, "Ready") && !holds(r, "Progressing"));
        assert_eq!(back["status"]["revisions"]["stable"], stable);

        // Away for longer than the deadline: back to what there was, which needs no registry.
        set(&admin, &json!({"reference": absent, "plainHttp": true}), 20);
        // The condition is still the earlier one's for a moment.
        admin.runtime_when(|r| {
            let message = condition(r, "Degraded", "message");
            message.contains("NODE-SILENT") && message.contains("IMAGE-NOT-FOUND")
        });
        admin.runtime_when(|r| holds(r, "Ready") && !holds(r, "Progressing"));
        runs(&admin, "still");

        admin.cluster.kubectl(&["delete", "pods", "--all", "--grace-period=1", "--timeout=120s"]).unwrap();
        admin.remove_runtime();
        assert_eq!(admin.cluster.changed_files(), []);
        let data = admin.cluster.owner().unwrap().class(admin.cluster.node()).data;
        assert!(!data.join("guests").exists(), "pulled images are gone");
        admin.remove_operator();
    });
}

fn bad_sources_are_refused(admin: &ClusterAdmin, reference: &str) {
    for source in [
        json!({"reference": "r.example/guest:1"}),
        json!({"reference": "r.example/guest@sha256:12"}),
        json!({"reference": reference, "hostPath": "/opt/guest"}),
        json!({"publicKey": "x"}),
        json!({"hostPath": "/opt/guest", "plainHttp": true}),
        json!({"reference": reference, "pullSecret": "../x"}),
    ] {
        let mut runtime = admin.runtime();
        runtime["spec"]["guestImage"] = source.clone();
        let refused = admin.cluster.apply(&runtime.to_string());
        assert!(refused.as_ref().is_err_and(|e| e.to_string().contains("nvalid")), "{source}: {refused:?}");
    }
}

/// A pod of the guest that was pulled, attested by an owner who knows that guest.
fn runs(admin: &ClusterAdmin, name: &str) {
    let work = pod(name, vec![container("main", admin.cluster.image(), "echo done")]);
    let manifest = admin.cluster.planned(work, &[], |_| ()).unwrap();
    admin.cluster.apply(&manifest.to_string()).unwrap();
    let (phase, seen) = admin.cluster.wait_for_end(name, LONG).unwrap_or_else(|e| admin.give_up(&e));
    assert_eq!(phase, "Succeeded", "{}", seen["status"]);
}

#[test]
fn a_signed_guest_image_is_taken() {
    tell(Options::plain_with_owner(), |cluster| {
        let Some(admin) = ClusterAdmin::new(cluster) else { return };
        let folder = tempfile::tempdir().unwrap();
        let public = key_pair(&admin, folder.path());
        let key = folder.path().join("maker.key").display().to_string();
        let reference = push(&admin, &guest_image().unwrap(), "1", &["--key", &key]);
        admin.apply_operator();
        let mut runtime = admin.runtime();
        runtime["spec"]["guestImage"] =
            json!({"reference": reference, "plainHttp": true, "publicKey": public});
        admin.cluster.apply(&runtime.to_string()).unwrap();
        admin.ready();
        runs(&admin, "signed");
        admin.cluster.kubectl(&["delete", "pods", "--all", "--grace-period=1", "--timeout=120s"]).unwrap();
        admin.remove_runtime();
        admin.remove_operator();
    });
}
