use proptest::prelude::*;
use serde_json::json;

use super::*;

fn wire(evidence: &str) -> IndividualRequest {
    IndividualRequest {
        tee: "snp".into(),
        evidence: b64::url_encode(evidence.as_bytes()),
        ..Default::default()
    }
}

fn request(individual: IndividualRequest) -> AttestationRequest {
    AttestationRequest { verification_requests: vec![individual], policy_ids: vec![] }
}

#[test]
fn defaults_are_upstreams() {
    let decoded = evaluate(request(wire(r#"{"a":1}"#))).unwrap();
    assert_eq!(decoded.policy_ids, ["default"]);
    let expected = Individual {
        tee: "snp".into(),
        evidence: json!({"a": 1}),
        runtime: None,
        init_data: None,
        hash: "sha384".into(),
    };
    assert_eq!(decoded.requests, [expected]);
}

#[test]
fn every_field_is_decoded() {
    let mut individual = wire("[]");
    individual.tee = "nvidiadpu".into();
    individual.runtime_data = Some(RuntimeField::Structured(r#"{"nonce":"x"}"#.into()));
    individual.init_data = Some(InitDataField::Digest("AAEC".into()));
    individual.runtime_data_hash_algorithm = "SHA256".into();
    let mut message = request(individual.clone());
    message.policy_ids = vec!["a".into(), "b".into()];
    let decoded = evaluate(message).unwrap();
    assert_eq!(decoded.policy_ids, ["a", "b"]);
    assert_eq!(decoded.requests[0].tee, "nvidia-dpu");
    assert_eq!(decoded.requests[0].runtime, Some(Runtime::Structured(json!({"nonce": "x"}))));
    assert_eq!(decoded.requests[0].init_data, Some(InitData::Digest(vec![0, 1, 2])));
    assert_eq!(decoded.requests[0].hash, "sha256");
    individual.runtime_data = Some(RuntimeField::Raw("_-8".into()));
    individual.init_data = Some(InitDataField::Toml("a = 1".into()));
    let decoded = evaluate(request(individual)).unwrap();
    assert_eq!(decoded.requests[0].runtime, Some(Runtime::Raw(vec![0xff, 0xef])));
    assert_eq!(decoded.requests[0].init_data, Some(InitData::Toml("a = 1".into())));
}

#[test]
fn every_name_of_the_protocol_is_taken() {
    for tee in Tee::ALL {
        individual(tee.name(), "e30", None, None, "").unwrap();
        parameters([("tee".to_owned(), tee.name().to_owned())].into()).unwrap();
    }
}

#[test]
fn malformed_requests_are_refused() {
    let with = |change: &dyn Fn(&mut IndividualRequest)| {
        let mut individual = wire("{}");
        change(&mut individual);
        evaluate(request(individual)).unwrap_err()
    };
    let raw = |bytes: usize| Some(RuntimeField::Raw(b64::url_encode(&vec![0; bytes])));
    let refused = [
        with(&|i| i.tee = "SNP".into()),
        with(&|i| i.tee = String::new()),
        with(&|i| i.evidence = "e30=".into()),
        with(&|i| i.evidence = "{}".into()),
        with(&|i| i.evidence = String::new()),
        with(&|i| i.evidence = b64::url_encode(b"{} {}")),
        with(&|i| i.runtime_data = raw(MAX_RAW + 1)),
        with(&|i| i.runtime_data = Some(RuntimeField::Structured("{".into()))),
        with(&|i| i.init_data = Some(InitDataField::Digest("!".into()))),
        with(&|i| i.init_data = Some(InitDataField::Digest(b64::url_encode(&[0; 65])))),
        with(&|i| i.init_data = Some(InitDataField::Toml("#".repeat(MAX_TEXT + 1)))),
        with(&|i| i.runtime_data_hash_algorithm = "md5".into()),
        evaluate(AttestationRequest::default()).unwrap_err(),
        evaluate(AttestationRequest { verification_requests: vec![wire("{}"); 33], policy_ids: vec![] })
            .unwrap_err(),
        evaluate(AttestationRequest {
            verification_requests: vec![wire("{}")],
            policy_ids: vec!["p".into(); 17],
        })
        .unwrap_err(),
        evaluate(AttestationRequest {
            verification_requests: vec![wire("{}")],
            policy_ids: vec!["../p".into()],
        })
        .unwrap_err(),
    ];
    for failure in refused {
        assert_eq!(
            (failure.status, failure.code),
            (GrpcCode::InvalidArgument, Code::AttestProtocol),
            "{failure:?}"
        );
        assert!(failure.message.len() < 120, "{failure:?}");
    }
}

#[test]
fn bounds_are_inclusive() {
    raw_runtime(&b64::url_encode(&[0; MAX_RAW])).unwrap();
    init_digest(&b64::url_encode(&[0; MAX_DIGEST])).unwrap();
    init_toml("#".repeat(MAX_TEXT)).unwrap();
    policy_text(&b64::url_encode(&vec![b'#'; MAX_TEXT])).unwrap();
    policy_id(&"é".repeat(MAX_ID)).unwrap();
    assert!(policy_id(&"p".repeat(MAX_ID + 1)).is_err());
    assert!(policy_text(&b64::url_encode(&vec![b'#'; MAX_TEXT + 1])).is_err());
    assert_eq!(policy_text(&b64::url_encode(&[0xff])).unwrap_err().code, Code::PolicyInvalid);
}

#[test]
fn names_and_parameters_are_checked() {
    for bad in ["", "a/b", "..", ".x", "a\\b", "a\n"] {
        assert!(policy_id(bad).is_err(), "{bad:?}");
    }
    reference_id("a/b").unwrap();
    assert!(reference_id("").is_err());
    let many: BTreeMap<_, _> = (0..17).map(|n| (n.to_string(), String::new())).collect();
    assert!(parameters(many).is_err());
    assert!(parameters([("tee".into(), "toaster".into())].into()).is_err());
    assert!(parameters([("tee_params".into(), "x".repeat(MAX_PARAMETER + 1))].into()).is_err());
    parameters([("tee".into(), "tdx".into()), ("tee_params".into(), "{}".into())].into()).unwrap();
    assert_eq!(reference_message("{".into()).unwrap_err().code, Code::ReferenceInvalid);
    reference_message(r#"{"version":"0.1.0"}"#.into()).unwrap();
}

proptest! {
    #[test]
    fn any_text_is_survived(tee: String, evidence: String, data: String, hash: String) {
        let _ = individual(&tee, &evidence, None, None, &hash);
        let _ = raw_runtime(&data);
        let _ = init_digest(&data);
        let _ = policy_id(&data);
        let _ = policy_text(&data);
        let _ = reference_message(data);
    }
}
