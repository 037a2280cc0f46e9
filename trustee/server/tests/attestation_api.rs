//! The verification service by REST and gRPC, as relying parties and upstream's tools call it.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod administration;
#[path = "administration/api.rs"]
mod api;
mod support;

use std::path::PathBuf;

use administration::*;
use api::{Api, TOKEN};
use cocoon_evidence::snp;
use cocoon_protocol::initdata::host_data;
use cocoon_protocol::{HashAlgorithm, b64, jcs};
use cocoon_rpc::{Error, EvaluateRequest, GrpcCode, Individual, InitData, Runtime};
use cocoon_trustee::Limits;
use serde_json::{Value, json};
use support::*;

const AFFIRM: &str =
    "package policy\ntrust_claims := {\"executables\": 3, \"hardware\": 2, \"configuration\": 2}";

async fn world() -> World {
    World::with(|config| config.live.access.token_sha256 = Some(sha256(TOKEN.as_bytes())), Limits::default())
        .await
}

/// An administrator's request over HTTP, which must be done; its JSON.
async fn of_http(client: &mut Client, method: &str, path: &str, body: Value) -> Value {
    let reply = with_token(client, TOKEN, method, path, &body).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    if reply.body.is_empty() { Value::Null } else { reply.json() }
}

/// Evidence of a simulated guest with this report data and host data.
fn simulated(world: &World, report_data: &[u8], bound: [u8; 32]) -> Value {
    let mut field = [0; 64];
    field[..report_data.len()].copy_from_slice(report_data);
    evidence(world.processor, MEASUREMENT, bound, POLICY, &field)
}

fn body(tee: &str, evidence: &Value, extra: Value) -> Value {
    let mut one = json!({"tee": tee, "evidence": b64::url_encode(evidence.to_string().as_bytes())});
    extra.as_object().unwrap().iter().for_each(|(k, v)| one[k] = v.clone());
    json!({"verification_requests": [one], "policy_ids": []})
}

fn grpc_request(evidence: Value, runtime: Option<Runtime>, init_data: Option<InitData>) -> EvaluateRequest {
    let one = Individual { tee: "snp".into(), evidence, runtime, init_data, hash: String::new() };
    EvaluateRequest { requests: vec![one], policy_ids: Vec::new() }
}

fn status_of(error: Error) -> (GrpcCode, Option<cocoon_stage::Code>) {
    match error {
        Error::Status { status, code, .. } => (status, code),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn evidence_is_evaluated_over_rest() {
    let world = world().await;
    let api = Api::start(&world).await;
    let cpu = "/submods/cpu0";
    let token =
        api.rest("POST", "/attestation", body("snp", &simulated(&world, &[5; 64], [0; 32]), json!({}))).await;
    let claims = api.verified(&token).await;
    assert_eq!(claims.pointer(cpu).unwrap()["ear.status"], "affirming", "{claims}");
    assert_eq!(claims.pointer(cpu).unwrap()["ear.cocoon.simulated"], true);
    assert!(claims["exp"].as_u64() > claims["iat"].as_u64());

    // Whoever called chose nonce and policy: such a token tells what was found, and opens nothing.
    world.trustee.put_secret(&path("default/key/1"), b"x").unwrap();
    let rule = json!({"id": "any", "workload": "any", "path": "default/key/*", "accept_simulated": true});
    world.trustee.put_rule(&serde_json::from_value(rule).unwrap()).unwrap();
    let key = cocoon_protocol::TeeKeyPair::generate().unwrap().public();
    let runtime = json!({"nonce": "mine", "tee-pubkey": key});
    let bound = HashAlgorithm::Sha384.digest(&jcs::canonicalize(&runtime).unwrap());
    let structured = json!({"runtime_data": {"structured": runtime}});
    let with_key = body("snp", &simulated(&world, &bound, [0; 32]), structured);
    let with_key = api.rest("POST", "/attestation", with_key).await;
    let mut guest = world.guest(None).await;
    let refused = guest.get(&with_key, "default/key/1").await;
    assert_eq!((refused.status, refused.code()), (401, "RELEASE-TOKEN-INVALID"));

    let mut two = body("snp", &simulated(&world, &[5; 64], [0; 32]), json!({}));
    two["policy_ids"] = json!(["default", "other"]);
    assert_eq!(api.refused("POST", "/attestation", &two).await, (400, "USAGE-INVALID".into()));

    // Raw runtime data is the report data itself, padded.
    let raw = json!({"runtime_data": {"raw": b64::url_encode(&[7; 40])}});
    let fits = simulated(&world, &[7; 40], [0; 32]);
    api.rest("POST", "/attestation", body("snp", &fits, raw.clone())).await;
    let other = simulated(&world, &[8; 40], [0; 32]);
    let refusal = api.refused("POST", "/attestation", &body("snp", &other, raw)).await;
    assert_eq!(refusal, (400, "ATTEST-REPORT-DATA-MISMATCH".into()));
    for bad in [vec![], vec![1; 65]] {
        let raw = json!({"runtime_data": {"raw": b64::url_encode(&bad)}});
        let refusal = api.refused("POST", "/attestation", &body("snp", &fits, raw)).await;
        assert_eq!(refusal.0, 400, "{} bytes", bad.len());
    }

    // Structured runtime data is canonicalised and hashed, sha384 unless another hash is named.
    let data = json!({"z": 1, "a": {"nonce": "n"}});
    for (name, algorithm) in [
        (None, HashAlgorithm::Sha384),
        (Some("sha256"), HashAlgorithm::Sha256),
        (Some("sha512"), HashAlgorithm::Sha512),
    ] {
        let digest = algorithm.digest(&jcs::canonicalize(&data).unwrap());
        let mut extra = json!({"runtime_data": {"structured": data}});
        if let Some(name) = name {
            extra["runtime_data_hash_algorithm"] = name.into();
        }
        let token = api
            .rest("POST", "/attestation", body("snp", &simulated(&world, &digest, [0; 32]), extra.clone()))
            .await;
        let claims = api.verified(&token).await;
        assert_eq!(
            claims.pointer("/submods/cpu0/ear.veraison.annotated-evidence/runtime_data_claims"),
            Some(&data)
        );
        let refusal = api.refused("POST", "/attestation", &body("snp", &fits, extra)).await;
        assert_eq!(refusal.1, "ATTEST-REPORT-DATA-MISMATCH");
    }
    let sm3 = json!({"runtime_data": {"structured": data}, "runtime_data_hash_algorithm": "sm3"});
    assert_eq!(api.refused("POST", "/attestation", &body("snp", &fits, sm3)).await.0, 400);

    // Initdata: its digest, or the document.
    let plan = init_data("a");
    let bound = simulated(&world, &[0; 64], host_data(&plan.digest()));
    let by_digest = json!({"init_data": {"init_data_digest": b64::url_encode(&plan.digest())}});
    api.rest("POST", "/attestation", body("snp", &bound, by_digest)).await;
    let by_text = json!({"init_data": {"init_data_toml": plan.text()}});
    let token = api.rest("POST", "/attestation", body("snp", &bound, by_text)).await;
    let claims = api.verified(&token).await;
    let evidence = claims.pointer("/submods/cpu0/ear.veraison.annotated-evidence").unwrap();
    assert_eq!(evidence["init_data"], hex::encode(&plan.digest()[..32]));
    assert!(evidence["init_data_claims"]["plan.json"].is_string(), "{evidence}");
    for wrong in [
        json!({"init_data": {"init_data_digest": b64::url_encode(&init_data("b").digest())}}),
        json!({"init_data": {"init_data_toml": init_data("b").text()}}),
    ] {
        let refusal = api.refused("POST", "/attestation", &body("snp", &bound, wrong)).await;
        assert_eq!(refusal, (400, "ATTEST-INITDATA-MISMATCH".into()));
    }
    let garbage = json!({"init_data": {"init_data_toml": "]["}});
    assert_eq!(api.refused("POST", "/attestation", &body("snp", &bound, garbage)).await.0, 400);

    for bad in [
        json!({}),
        json!({"verification_requests": []}),
        body("nobody", &fits, json!({})),
        body("tdx", &fits, json!({})),
        body("snp", &json!("x"), json!({})),
        body("snp", &fits, json!({"runtime_daat": {}})),
    ] {
        assert_eq!(api.refused("POST", "/attestation", &bad).await.0, 400, "{bad:.200}");
    }
    let refusal = api
        .refused("POST", "/attestation", &body("sample", &json!({"svn": "1", "report_data": ""}), json!({})))
        .await;
    assert_eq!(refusal, (400, "ATTEST-SIMULATED-REFUSED".into()));
    api.stop().await;
    world.stop().await;
}

#[tokio::test]
async fn evidence_of_real_hardware_is_evaluated() {
    let base = std::env::var_os("COCOON_VECTORS").map(PathBuf::from);
    let base = base
        .unwrap_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/vectors")));
    let Ok(text) = std::fs::read(base.join("snp/genoa-v3-evidence.json")) else {
        eprintln!("skipped: no vectors in {}", base.display());
        return;
    };
    let evidence: Value = serde_json::from_slice(&text).unwrap();
    let world = world().await;
    let api = Api::start(&world).await;
    let mut client = world.client().await;
    let refusal = api.refused("POST", "/attestation", &body("snp", &evidence, json!({}))).await;
    assert_eq!(refusal, (400, "ATTEST-MEASUREMENT-UNKNOWN".into()));
    let report = snp::Evidence::from_json(&evidence).unwrap().report;
    let claims = snp::claims(&report);
    let values = json!({
        "snp_launch_measurement": [claims["measurement"]],
        "snp_bootloader": [claims["reported_tcb_bootloader"]],
        "snp_microcode": [claims["reported_tcb_microcode"]],
        "snp_snp_svn": [claims["reported_tcb_snp"]],
        "snp_tee_svn": [claims["reported_tcb_tee"]],
    });
    of_http(
        &mut client,
        "PUT",
        "/cocoon/v0/reference-values",
        json!({"source": "hardware", "values": values}),
    )
    .await;
    let raw = json!({"runtime_data": {"raw": b64::url_encode(&report.report_data)}});
    let token = api.rest("POST", "/attestation", body("snp", &evidence, raw)).await;
    let claims = api.verified(&token).await;
    assert!(claims["submods"]["cpu0"].get("ear.cocoon.simulated").is_none(), "{claims}");
    assert_eq!(claims["submods"]["cpu0"]["ear.trustworthiness-vector"]["executables"], 3);
    let wrong = json!({"runtime_data": {"raw": b64::url_encode(&[0; 64])}});
    let refusal = api.refused("POST", "/attestation", &body("snp", &evidence, wrong)).await;
    assert_eq!(refusal.1, "ATTEST-REPORT-DATA-MISMATCH");
    let token = api.client(Some(TOKEN)).evaluate(grpc_request(evidence, None, None)).await.unwrap();
    api.verified(&token).await;
    api.stop().await;
    world.stop().await;
}

#[tokio::test]
async fn the_same_over_grpc() {
    let world = world().await;
    let api = Api::start(&world).await;
    let client = api.client(Some(TOKEN));
    assert!(api.client(None).healthy().await.unwrap());
    let plan = init_data("a");
    let bound = simulated(&world, &[7; 40], host_data(&plan.digest()));
    for (runtime, init) in [
        (None, None),
        (Some(Runtime::Raw(vec![7; 40])), Some(InitData::Digest(plan.digest()))),
        (Some(Runtime::Raw(vec![7; 40])), Some(InitData::Toml(plan.text().to_owned()))),
    ] {
        let token = client.evaluate(grpc_request(bound.clone(), runtime, init)).await.unwrap();
        let claims = api.verified(&token).await;
        assert_eq!(claims["submods"]["cpu0"]["ear.status"], "affirming");
    }
    let data = json!({"nonce": "n"});
    let digest = HashAlgorithm::Sha384.digest(&jcs::canonicalize(&data).unwrap());
    let structured = grpc_request(simulated(&world, &digest, [0; 32]), Some(Runtime::Structured(data)), None);
    client.evaluate(structured).await.unwrap();
    let error =
        client.evaluate(grpc_request(bound.clone(), Some(Runtime::Raw(vec![1])), None)).await.unwrap_err();
    assert_eq!(
        status_of(error),
        (GrpcCode::FailedPrecondition, Some(cocoon_stage::Code::AttestReportDataMismatch))
    );
    let wrong = Some(InitData::Digest(vec![1; 48]));
    let error = client.evaluate(grpc_request(bound, None, wrong)).await.unwrap_err();
    assert_eq!(status_of(error).1, Some(cocoon_stage::Code::AttestInitdataMismatch));
    let error = client.evaluate(grpc_request(json!({}), None, None)).await.unwrap_err();
    assert_eq!(
        status_of(error),
        (GrpcCode::InvalidArgument, Some(cocoon_stage::Code::AttestEvidenceMalformed))
    );

    // Verdicts are kept and logged like those of guests.
    let mut http = world.client().await;
    let latest = of_http(&mut http, "GET", "/cocoon/v0/explain?limit=10", Value::Null).await;
    assert!(latest.as_array().unwrap().iter().any(|v| v["code"] == "ATTEST-INITDATA-MISMATCH"));
    let entries = of_http(&mut http, "GET", "/cocoon/v0/audit/entries", Value::Null).await.to_string();
    assert!(
        entries.contains("for admin (admin)") && entries.contains("ATTEST-INITDATA-MISMATCH"),
        "{entries}"
    );
    api.stop().await;
    world.stop().await;
}

#[tokio::test]
async fn policies_challenges_and_reference_values() {
    let world = world().await;
    let api = Api::start(&world).await;
    let client = api.client(Some(TOKEN));
    assert_eq!(api.rest("GET", "/policy", Value::Null).await, "[]");
    api.rest(
        "POST",
        "/policy",
        json!({"policy_id": "lenient_cpu", "policy": b64::url_encode(AFFIRM.as_bytes())}),
    )
    .await;
    assert_eq!(api.rest("GET", "/policy", Value::Null).await, r#"[{"policy-id":"lenient_cpu"}]"#);
    assert_eq!(api.rest("GET", "/policy/lenient_cpu", Value::Null).await, AFFIRM);
    assert_eq!(api.refused("GET", "/policy/none", &Value::Null).await, (404, "POLICY-INVALID".into()));
    let broken = json!({"policy_id": "lenient_cpu", "policy": b64::url_encode(b"package policy\n{")});
    assert_eq!(api.refused("POST", "/policy", &broken).await, (400, "POLICY-INVALID".into()));
    let resource = json!({"policy_id": "resource-policy", "policy": b64::url_encode(b"package policy\ndefault allow := true")});
    assert_eq!(api.refused("POST", "/policy", &resource).await.0, 400, "not the broker's policy");
    let error =
        client.set_policy("resource-policy", "package policy\ndefault allow := true").await.unwrap_err();
    assert_eq!(status_of(error).0, GrpcCode::InvalidArgument);
    world
        .trustee
        .policies()
        .put(
            "resource-policy",
            cocoon_policy::Kind::Resource,
            "package policy\ndefault allow := false",
            "t",
            "",
            1,
        )
        .unwrap();
    assert_eq!(api.refused("GET", "/policy/resource-policy", &Value::Null).await.0, 404);
    assert!(world.trustee.policies().delete("resource-policy").unwrap());
    assert!(world.trustee.policies().history("resource-policy").unwrap().is_empty());
    assert_eq!(api.rest("GET", "/policy/lenient_cpu", Value::Null).await, AFFIRM);

    // Asked for by its name it judges, and only then.
    let strange = evidence(world.processor, [9; 48], [0; 32], POLICY, &[0; 64]);
    let mut request = body("snp", &strange, json!({}));
    assert_eq!(api.refused("POST", "/attestation", &request).await.1, "ATTEST-MEASUREMENT-UNKNOWN");
    request["policy_ids"] = json!(["lenient"]);
    let token = api.rest("POST", "/attestation", request.clone()).await;
    let claims = api.verified(&token).await;
    assert_eq!(claims["submods"]["cpu0"]["ear.appraisal-policy-id"], "lenient");
    request["policy_ids"] = json!(["unheard-of"]);
    assert_eq!(api.refused("POST", "/attestation", &request).await, (400, "POLICY-FAILED".into()));
    client.set_policy("default_cpu", AFFIRM).await.unwrap();
    client.evaluate(grpc_request(strange, None, None)).await.unwrap();
    let error = client.set_policy("default_cpu", "package").await.unwrap_err();
    assert_eq!(status_of(error), (GrpcCode::InvalidArgument, Some(cocoon_stage::Code::PolicyInvalid)));

    let (one, two) = (
        api.rest("POST", "/challenge", json!({"tee": "snp"})).await,
        api.rest("POST", "/challenge", json!({"tee": "tdx", "tee_params": ""})).await,
    );
    assert_eq!(b64::std_decode(&one).unwrap().len(), 32);
    assert_ne!(one, two);
    assert_eq!(api.refused("POST", "/challenge", &json!({"tee": "nobody"})).await.0, 400);
    let challenge = client.challenge([("tee".to_owned(), "snp".to_owned())].into()).await.unwrap();
    assert_eq!(b64::std_decode(&challenge).unwrap().len(), 32);

    assert_eq!(client.query_reference_value("svn").await.unwrap(), None);
    let message =
        json!({"type": "sample", "payload": b64::std_encode(b"{\"svn\": [1, 2], \"one\": 3}")}).to_string();
    client.register_reference_value(message).await.unwrap();
    assert_eq!(client.query_reference_value("svn").await.unwrap(), Some(json!([1, 2])));
    assert_eq!(client.query_reference_value("one").await.unwrap(), Some(json!(3)));
    let error = client.register_reference_value("{}".into()).await.unwrap_err();
    assert_eq!(status_of(error), (GrpcCode::InvalidArgument, Some(cocoon_stage::Code::ReferenceInvalid)));
    let mut http = world.client().await;
    let entries = of_http(&mut http, "GET", "/cocoon/v0/audit/entries", Value::Null).await.to_string();
    assert!(
        entries.contains("set attestation policy lenient_cpu")
            && entries.contains("register reference values")
    );
    api.stop().await;
    world.stop().await;
}

#[tokio::test]
async fn strangers_get_the_public_keys_and_nothing_else() {
    let world = world().await;
    let api = Api::start(&world).await;
    let attestation = body("snp", &simulated(&world, &[0; 64], [0; 32]), json!({}));
    let policy = json!({"policy_id": "default_cpu", "policy": b64::url_encode(AFFIRM.as_bytes())});
    let mut guest = world.guest(None).await;
    let guests = guest.attest(&world).await.unwrap();
    for token in [None, Some("wrong"), Some(guests.as_str())] {
        for (method, path, body) in [
            ("POST", "/attestation", &attestation),
            ("POST", "/policy", &policy),
            ("GET", "/policy", &Value::Null),
            ("GET", "/policy/default_cpu", &Value::Null),
            ("POST", "/challenge", &json!({"tee": "snp"})),
        ] {
            let reply = api.ask(method, path, token, body).await;
            assert_eq!(
                (reply.status, &reply.json()["code"]),
                (401, &json!("ACCESS-DENIED")),
                "{method} {path}"
            );
        }
        let client = api.client(token);
        let denied = (GrpcCode::Unauthenticated, Some(cocoon_stage::Code::AccessDenied));
        let request = grpc_request(simulated(&world, &[0; 64], [0; 32]), None, None);
        assert_eq!(status_of(client.evaluate(request).await.unwrap_err()), denied);
        assert_eq!(status_of(client.set_policy("default_cpu", AFFIRM).await.unwrap_err()), denied);
        assert_eq!(status_of(client.challenge([].into()).await.unwrap_err()), denied);
        assert_eq!(status_of(client.query_reference_value("x").await.unwrap_err()), denied);
        assert_eq!(status_of(client.register_reference_value("{}".into()).await.unwrap_err()), denied);
    }
    assert!(world.trustee.policies().list().unwrap().is_empty());
    assert_eq!(api.ask("GET", "/healthz", None, &Value::Null).await.status, 200);
    let keys = api.ask("GET", "/.well-known/jwks.json", None, &Value::Null).await.json();
    assert_eq!(keys, world.trustee.jwks());
    api.stop().await;
    world.stop().await;
}
