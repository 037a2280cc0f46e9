//! The wire bytes of each message, worked out by hand: key = field number × 8 + wire type (0 varint, 2 length), then
//! the length, then the bytes.

use prost::Message;

use super::*;

/// Both ways: the message encodes to these bytes and they decode to it.
fn golden<M: Message + Default + PartialEq>(message: M, parts: &[&[u8]]) {
    let bytes = parts.concat();
    assert_eq!(message.encode_to_vec(), bytes);
    assert!(M::decode(bytes.as_slice()).unwrap() == message);
}

fn text(text: &str) -> String {
    text.to_owned()
}

#[test]
fn attestation_request() {
    let individual = IndividualRequest {
        tee: text("snp"),
        evidence: text("e30"),
        runtime_data: Some(RuntimeField::Raw(text("AA"))),
        init_data: Some(InitDataField::Digest(text("BB"))),
        runtime_data_hash_algorithm: text("sha384"),
    };
    let inner: &[&[u8]] = &[b"\x0a\x03snp", b"\x1a\x03e30", b"\x22\x02AA", b"\x32\x02BB", b"\x42\x06sha384"];
    golden(individual.clone(), inner);
    // 5 + 5 + 4 + 4 + 8 = 26 = 0x1a.
    let outer = AttestationRequest {
        verification_requests: vec![individual],
        policy_ids: vec![text("p"), text("q")],
    };
    golden(outer, &[b"\x0a\x1a", &inner.concat(), b"\x12\x01p", b"\x12\x01q"]);
    golden(AttestationRequest::default(), &[]);
}

#[test]
fn the_other_choices_of_an_individual_request() {
    let individual = IndividualRequest {
        runtime_data: Some(RuntimeField::Structured(text("{}"))),
        init_data: Some(InitDataField::Toml(text("a=1"))),
        ..Default::default()
    };
    golden(individual, &[b"\x2a\x02{}", b"\x3a\x03a=1"]);
    // A choice that is present and empty is not an absent one.
    let empty =
        IndividualRequest { runtime_data: Some(RuntimeField::Raw(String::new())), ..Default::default() };
    golden(empty, &[b"\x22\x00"]);
}

#[test]
fn policies_and_challenges() {
    let policy = SetPolicyRequest { policy_id: text("id"), policy: text("cA") };
    golden(policy, &[b"\x0a\x02id", b"\x12\x02cA"]);
    let inner = [(text("tee"), text("tdx")), (text("tee_params"), text("{}"))].into();
    // Each entry of a map is a message of key = 1 and value = 2.
    golden(
        ChallengeRequest { inner },
        &[b"\x0a\x0a\x0a\x03tee\x12\x03tdx", b"\x0a\x10\x0a\x0atee_params\x12\x02{}"],
    );
    golden(ChallengeResponse { attestation_challenge: text("xyz") }, &[b"\x0a\x03xyz"]);
    golden(AttestationResponse { attestation_token: text("a.b.c") }, &[b"\x0a\x05a.b.c"]);
    golden(Nothing {}, &[]);
}

#[test]
fn reference_values() {
    golden(QueryRequest { reference_value_id: text("svn") }, &[b"\x0a\x03svn"]);
    golden(QueryResponse { reference_value_results: Some(text("[1]")) }, &[b"\x0a\x03[1]"]);
    golden(QueryResponse { reference_value_results: Some(String::new()) }, &[b"\x0a\x00"]);
    golden(QueryResponse { reference_value_results: None }, &[]);
    golden(RegisterRequest { message: text("{}") }, &[b"\x0a\x02{}"]);
}

#[test]
fn health() {
    golden(HealthCheckRequest { service: text("s") }, &[b"\x0a\x01s"]);
    golden(HealthCheckResponse { status: SERVING }, &[b"\x08\x01"]);
}

#[test]
fn plugins() {
    let request = PluginRequest {
        body: vec![0, 0xff],
        query: [(text("k"), text("v"))].into(),
        path: vec![text("a"), text("b")],
        method: text("GET"),
    };
    golden(
        request,
        &[b"\x0a\x02\x00\xff", b"\x12\x06\x0a\x01k\x12\x01v", b"\x1a\x01a\x1a\x01b", b"\x22\x03GET"],
    );
    let response = PluginResponse { body: b"s".to_vec(), status_code: 404, content_type: text("a/b") };
    // 404 = 0b11_0010100: low seven bits first, 0x94 0x03.
    golden(response, &[b"\x0a\x01s", b"\x10\x94\x03", b"\x1a\x03a/b"]);
    // A negative int32 is ten bytes.
    let negative = PluginResponse { body: vec![], status_code: -1, content_type: String::new() };
    golden(negative, &[b"\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"]);
    golden(ValidateAuthResponse { requires_admin_auth: true }, &[b"\x08\x01"]);
    golden(NeedsEncryptionResponse { requires_payload_encryption: true }, &[b"\x08\x01"]);
    assert!(
        PluginRequest::decode(&b"\x2a\x01x"[..]).unwrap() == PluginRequest::default(),
        "field 5 is reserved"
    );
}

#[test]
fn secrets_are_not_shown() {
    let response = PluginResponse { body: b"hunter2".to_vec(), status_code: 0, content_type: String::new() };
    assert!(!format!("{response:?}").contains("hunter2") && !format!("{response:?}").contains("104"));
}
