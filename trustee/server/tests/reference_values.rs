//! Reference values: upstream's messages, signed sets from a publisher, and what they do to appraisals.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod administration;
mod support;

use std::sync::atomic::Ordering;

use administration::*;
use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use cocoon_protocol::b64;
use cocoon_reference::{SetDocument, sign_set};
use serde_json::{Value, json};
use support::*;

const IMPORT: &str = "/cocoon/v0/reference-values/import";
const PREVIEW: &str = "/cocoon/v0/reference-values/preview";

fn sample(values: &Value) -> Value {
    json!({"version": "0.1.0", "type": "sample", "payload": b64::std_encode(values.to_string().as_bytes())})
}

fn to_pem(label: &str, der: &[u8]) -> String {
    let text = b64::std_encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|l| std::str::from_utf8(l).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

/// A publisher's key: PKCS#8, and its public half in PEM.
fn publisher() -> (Vec<u8>, String) {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
    let public: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
    let pem = to_pem("PUBLIC KEY", public.as_ref());
    (pair.to_pkcs8v1().unwrap().as_ref().to_vec(), pem)
}

fn set(version: u64, expires_unix: Option<u64>, values: &Value) -> SetDocument {
    SetDocument {
        set: "guest-image 1".into(),
        version,
        source: "publisher".into(),
        expires_unix,
        values: values.as_object().unwrap().clone(),
    }
}

fn signed(set: &SetDocument, key: &[u8]) -> Value {
    let envelope = sign_set(set, "publisher-1", key).unwrap();
    json!({"version": "0.1.0", "type": "cocoon", "payload": b64::std_encode(envelope.as_bytes())})
}

#[tokio::test]
async fn upstreams_messages_register_and_are_read_back() {
    let world = World::new().await;
    let mut client = world.client().await;
    let post = "/kbs/v0/reference-value";
    let values = json!({
        "snp_launch_measurement": ["aa", "BB"],
        "svn": 1,
        "flag": true,
        "rvps:///github.com/cc/kata/rootfs": ["cc"],
    });
    let reply = done(&mut client, "POST", post, sample(&values)).await;
    assert!(reply.body.is_empty());
    let get = |name: &str| format!("/kbs/v0/reference-value/{name}");
    assert_eq!(read(&mut client, &get("snp_launch_measurement")).await, json!(["aa", "BB"]));
    assert_eq!(read(&mut client, &get("svn")).await, json!(1), "a single value stays one");
    assert_eq!(read(&mut client, &get("flag")).await, json!(true));
    let slashed = read(&mut client, &get("rvps:///github.com/cc/kata/rootfs")).await;
    assert_eq!(slashed, json!(["cc"]), "names may hold slashes");
    assert_eq!(read(&mut client, &get("rvps:%2F%2F%2Fgithub.com/cc/kata/rootfs")).await, json!(["cc"]));
    for unknown in ["unknown", "a/b", "SVN", "svn/"] {
        let reply = refused(&mut client, "GET", &get(unknown), Value::Null, 401, "USAGE-INVALID").await;
        assert!(reply.json()["type"].as_str().unwrap().ends_with("/RvpsError"), "{unknown}");
    }
    // Without `version` and `type` absent fields are as upstream takes them; the rest is refused whole.
    done(&mut client, "POST", post, json!({"type": "sample", "payload": b64::std_encode(b"{\"x\": [1]}")}))
        .await;
    let before = read(&mut client, "/cocoon/v0/reference-values").await;
    for body in [
        json!({"type": "sample", "payload": "*"}),
        json!({"type": "sample", "payload": b64::std_encode(b"[1]")}),
        json!({"type": "sample", "payload": b64::std_encode(b"{\"good\": 1, \"bad\": null}")}),
        json!({"type": "unheard-of", "payload": ""}),
        json!({"version": "9.0.0", "type": "sample", "payload": b64::std_encode(b"{}")}),
        json!({"type": "swid", "payload": b64::std_encode(b"<x/>")}),
        json!({"type": "corim", "payload": b64::std_encode(b"\xff")}),
        json!({"type": "in-toto", "payload": b64::std_encode(b"{}")}),
        json!([]),
    ] {
        refused(&mut client, "POST", post, body, 400, "REFERENCE-INVALID").await;
    }
    assert_eq!(read(&mut client, "/cocoon/v0/reference-values").await, before, "all or nothing");
    world.stop().await;
}

#[tokio::test]
async fn a_signed_set_is_imported_once_its_publisher_is_trusted() {
    let world = World::new().await;
    let mut client = world.client().await;
    let (key, pem) = publisher();
    let values = json!({"kernel": ["k1"], "initrd": ["i1", "i2"]});
    let message = signed(&set(1, None, &values), &key);
    let body = json!({"message": message});
    refused(&mut client, "POST", IMPORT, body.clone(), 400, "REFERENCE-INVALID").await;
    refused(&mut client, "POST", PREVIEW, body.clone(), 400, "REFERENCE-INVALID").await;

    assert_eq!(read(&mut client, "/cocoon/v0/trust-anchors").await, json!({}));
    let anchor = "/cocoon/v0/trust-anchors/publisher-1";
    let (private, _) = publisher();
    let private = to_pem("PRIVATE KEY", &private);
    for bad in ["", "x", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", private.as_str()] {
        let reply = client.admin("PUT", anchor, bad.as_bytes()).await;
        assert_eq!(reply.status, 400, "{bad:.40}: {}", reply.text());
        assert!(!reply.text().contains(private.lines().nth(1).unwrap()));
    }
    assert_eq!(client.admin("PUT", "/cocoon/v0/trust-anchors/a%20b", pem.as_bytes()).await.status, 400);
    assert_eq!(client.admin("PUT", anchor, pem.as_bytes()).await.status, 200);
    assert_eq!(read(&mut client, "/cocoon/v0/trust-anchors").await, json!({"publisher-1": pem}));

    let preview = done(&mut client, "POST", PREVIEW, body.clone()).await.json();
    assert_eq!(
        preview,
        json!([
            {"name": "initrd", "added": ["i1", "i2"], "removed": []},
            {"name": "kernel", "added": ["k1"], "removed": []},
        ])
    );
    assert_eq!(read(&mut client, "/cocoon/v0/reference-sets").await, json!([]), "a preview stores nothing");
    let made = done(&mut client, "POST", IMPORT, body).await.json();
    assert_eq!(
        (&made["name"], &made["version"], &made["source"], &made["signed_by"], &made["count"]),
        (&json!("guest-image 1"), &json!(1), &json!("publisher"), &json!("publisher-1"), &json!(2))
    );
    assert_eq!(read(&mut client, "/cocoon/v0/reference-sets").await, json!([made]));
    let records = read(&mut client, "/cocoon/v0/reference-sets/guest-image%201").await;
    assert!(
        records
            .as_array()
            .unwrap()
            .iter()
            .all(|r| r["set"] == "guest-image 1" && r["signed_by"] == "publisher-1")
    );

    // Altered, signed by a stranger, older, renamed, and with a name that does not fit.
    let (other, _) = publisher();
    let newer = signed(&set(2, None, &json!({"kernel": ["k2"]})), &key);
    let mut envelope: Value =
        serde_json::from_slice(&b64::std_decode(newer["payload"].as_str().unwrap()).unwrap()).unwrap();
    let inner = String::from_utf8(b64::std_decode(envelope["payload"].as_str().unwrap()).unwrap()).unwrap();
    envelope["payload"] = b64::std_encode(inner.replace("k2", "kX").as_bytes()).into();
    let altered = json!({"type": "cocoon", "payload": b64::std_encode(envelope.to_string().as_bytes())});
    for (message, extra) in [
        (altered.clone(), json!({})),
        (altered, json!({"unsigned": true})),
        (signed(&set(3, None, &values), &other), json!({})),
        (signed(&set(0, None, &values), &key), json!({})),
        (newer.clone(), json!({"set": "other"})),
        (newer.clone(), json!({"source": "other"})),
        (newer.clone(), json!({"expires_unix": 1})),
    ] {
        let mut body = json!({"message": message});
        extra.as_object().unwrap().iter().for_each(|(k, v)| body[k] = v.clone());
        refused(&mut client, "POST", IMPORT, body, 400, "REFERENCE-INVALID").await;
    }
    let misspelt = json!({"message": newer, "unsinged": true});
    refused(&mut client, "POST", IMPORT, misspelt, 400, "USAGE-INVALID").await;

    // The next version replaces the whole set; the older one comes back only if asked for.
    let preview = done(&mut client, "POST", PREVIEW, json!({"message": newer})).await.json();
    assert_eq!(
        preview,
        json!([
            {"name": "initrd", "added": [], "removed": ["i1", "i2"]},
            {"name": "kernel", "added": ["k2"], "removed": ["k1"]},
        ])
    );
    done(&mut client, "POST", IMPORT, json!({"message": newer})).await;
    assert_eq!(read(&mut client, "/kbs/v0/reference-value/kernel").await, json!(["k2"]));
    assert_eq!(client.admin("GET", "/kbs/v0/reference-value/initrd", b"").await.status, 401);
    let older = json!({"message": message, "allow_older": true});
    done(&mut client, "POST", IMPORT, older).await;
    assert_eq!(read(&mut client, "/kbs/v0/reference-value/initrd").await, json!(["i1", "i2"]));

    // Trusted no longer.
    done(&mut client, "DELETE", anchor, Value::Null).await;
    refused(&mut client, "DELETE", anchor, Value::Null, 404, "USAGE-INVALID").await;
    refused(&mut client, "POST", IMPORT, json!({"message": newer}), 400, "REFERENCE-INVALID").await;
    let removed = done(&mut client, "DELETE", "/cocoon/v0/reference-sets/guest-image%201", Value::Null).await;
    assert_eq!(removed.json(), json!({"removed": 2}));
    for path in ["/cocoon/v0/reference-sets/guest-image%201"] {
        refused(&mut client, "DELETE", path, Value::Null, 404, "USAGE-INVALID").await;
        refused(&mut client, "GET", path, Value::Null, 404, "USAGE-INVALID").await;
    }
    assert_eq!(client.admin("GET", "/kbs/v0/reference-value/kernel", b"").await.status, 401);
    world.stop().await;
}

#[tokio::test]
async fn what_nobody_signed_is_taken_only_on_an_administrators_word() {
    let world = World::new().await;
    let mut client = world.client().await;
    let message = sample(&json!({"kernel": ["k1"]}));
    refused(&mut client, "POST", IMPORT, json!({"message": message}), 400, "REFERENCE-INVALID").await;
    let vouched = json!({"message": message, "unsigned": true, "set": "by hand", "source": "me"});
    let made = done(&mut client, "POST", IMPORT, vouched).await.json();
    assert_eq!((&made["name"], &made["source"]), (&json!("by hand"), &json!("me")));
    assert!(made.get("signed_by").is_none());
    let (key, _) = publisher();
    let strange =
        json!({"message": signed(&set(1, None, &json!({"kernel": ["k2"]})), &key), "unsigned": true});
    let made = done(&mut client, "POST", IMPORT, strange).await.json();
    assert!(made.get("signed_by").is_none(), "a stranger's signature counts for nothing");
    assert_eq!(read(&mut client, "/kbs/v0/reference-value/kernel").await.as_array().unwrap().len(), 2);

    // One source's values go without the others'.
    let url = "/cocoon/v0/reference-values/kernel";
    let one = done(&mut client, "DELETE", &format!("{url}?source=me"), Value::Null).await;
    assert_eq!(one.json(), json!({"removed": 1}));
    assert_eq!(read(&mut client, "/kbs/v0/reference-value/kernel").await, json!(["k2"]));
    assert_eq!(done(&mut client, "DELETE", url, Value::Null).await.json(), json!({"removed": 1}));
    refused(&mut client, "DELETE", url, Value::Null, 404, "USAGE-INVALID").await;
    for bad in [
        json!({"source": "me", "values": {"a#b": [1]}}),
        json!({"source": "", "values": {"a": [1]}}),
        json!({"source": "me#", "values": {"a": [1]}}),
        json!({"source": "me", "values": {"a": [null]}}),
        json!({"source": "me", "values": {"a": ["x".repeat(5000)]}}),
    ] {
        refused(&mut client, "PUT", "/cocoon/v0/reference-values", bad, 400, "REFERENCE-INVALID").await;
    }
    for bad in [
        json!({}),
        json!({"source": "me", "values": {"a": 1}}),
        json!({"source": "me", "values": {}, "x": 1}),
    ] {
        refused(&mut client, "PUT", "/cocoon/v0/reference-values", bad, 400, "USAGE-INVALID").await;
    }
    world.stop().await;
}

#[tokio::test]
async fn an_expired_value_affirms_nobody() {
    let world = World::new().await;
    let mut client = world.client().await;
    let mut guest = world.guest(None).await;
    guest.measurement = [7; 48];
    assert_eq!(guest.attest(&world).await.unwrap_err().code(), "ATTEST-MEASUREMENT-UNKNOWN");
    let (key, pem) = publisher();
    assert_eq!(client.admin("PUT", "/cocoon/v0/trust-anchors/p", pem.as_bytes()).await.status, 200);
    let end = cocoon_trustee::system_clock()() + 1000;
    let values = json!({"sim_launch_measurement": [measured(&world, [7; 48])]});
    done(&mut client, "POST", IMPORT, json!({"message": signed(&set(1, Some(end), &values), &key)})).await;
    guest.attest(&world).await.unwrap();
    world.ahead.store(1001, Ordering::SeqCst);
    let refused_guest = guest.attest(&world).await.unwrap_err();
    assert_eq!(refused_guest.code(), "ATTEST-MEASUREMENT-UNKNOWN");
    let kept = read(&mut client, "/cocoon/v0/reference-sets").await;
    assert_eq!(kept[0]["expires_unix"], end, "it is still listed");
    let late = json!({"message": signed(&set(2, Some(end), &values), &key)});
    refused(&mut client, "POST", IMPORT, late, 400, "REFERENCE-INVALID").await;
    // A TCB value that goes takes the affirmation with it.
    done(&mut client, "DELETE", "/cocoon/v0/reference-values/sim_microcode", Value::Null).await;
    guest.measurement = MEASUREMENT;
    assert_eq!(guest.attest(&world).await.unwrap_err().code(), "ATTEST-TCB-OUTDATED");
    world.stop().await;
}
