//! Every rule that an answer to a challenge must meet, each a node of the verdict.

use cocoon_stage::Code;
use serde_json::Value;

use super::claims::claims;
use super::evidence::Evidence;
use super::measurement::Items;
use super::request::Config;
use super::state::State;
use crate::expectation::padded;
use crate::{Check, Expectation, Verdict};

const REQUEST: &str = "s390-tools, attestation request";
const MEASUREMENT: &str = "s390-tools, attestation measurement";
const IMAGE: &str = "the configured image header";
const HOST_KEYS: &str = "the configured host key documents";
const CALLER: &str = "the challenge";
const INITDATA: &str = "the presented initdata";
/// Length of the report data.
const REPORT_DATA: usize = 64;

/// Verifies an answer to a challenge that [`super::challenge`] made with the same configuration.
///
/// The measurement key, the nonce and the image's tags are those that the challenge's seal holds, never what the client says.
pub fn verify(evidence: &Evidence, config: &Config, expectation: &Expectation<'_>) -> Verdict {
    let now = expectation.now_unix;
    let state = State::open(
        &evidence.encr_measurement_key,
        &evidence.encr_request_nonce,
        &config.sealing_key,
        &config.context,
        config.lifetime,
        now,
    );
    let state = state.as_ref();
    let mut checks = vec![
        challenge_state(state),
        measurement(evidence, state),
        header_tags(evidence, config, state),
        host_key(evidence, config, now),
    ];
    if let Some(expected) = expectation.report_data {
        checks.push(user_data(evidence, expected));
    }
    if let Some(digest) = expectation.init_data_digest {
        checks.push(Check::new(
            "measurement.init-data",
            false,
            Code::AttestInitdataMismatch,
            short(digest),
            "not bound by this TEE",
            INITDATA,
        ));
    }
    let mut verdict = Verdict { checks, claims: Value::Null, simulated: false };
    if verdict.ok() {
        verdict.claims = claims(evidence, &config.header);
    }
    verdict
}

/// One answer for all that can be wrong with a state: a forger must not learn what.
fn challenge_state(state: Option<&State>) -> Check {
    let got = if state.is_some() { "one of ours" } else { "not one that can be answered" };
    let expected = "a challenge of ours within its lifetime";
    Check::new("challenge.state", state.is_some(), Code::AttestNonceReplayed, expected, got, REQUEST)
}

fn measurement(evidence: &Evidence, state: Option<&State>) -> Check {
    let valid = state.is_some_and(|state| {
        let items = Items {
            tags: &state.tags,
            cuid: &evidence.cuid,
            user_data: &evidence.user_data,
            nonce: &state.nonce,
            additional_data: &evidence.additional_data,
        };
        items.are_measured_by(&state.measurement_key, &evidence.measurement)
    });
    let got = match (state, valid) {
        (None, _) => "no challenge to verify it with",
        (_, true) => "valid",
        (_, false) => "invalid",
    };
    let expected = "HMAC-SHA-512 by the challenge's key";
    Check::new("measurement.hmac", valid, Code::AttestSignatureInvalid, expected, got, MEASUREMENT)
}

/// What the client returns, what was sealed, and what is configured now must be the same image.
fn header_tags(evidence: &Evidence, config: &Config, state: Option<&State>) -> Check {
    let expected = &config.header.tags;
    let ok = evidence.image_hdr_tags == *expected && state.is_some_and(|state| state.tags == *expected);
    let got = match evidence.image_hdr_tags == *expected {
        true if ok => hex::encode(expected.tag),
        true => "not the image of the challenge".to_owned(),
        false => format!("{} or other digests", hex::encode(evidence.image_hdr_tags.tag)),
    };
    let expected = hex::encode(expected.tag);
    Check::new("image.header-tags", ok, Code::AttestMeasurementUnknown, expected, got, IMAGE)
}

/// The machine says which of its keys opened the request: it can only be one that the request was encrypted for.
fn host_key(evidence: &Evidence, config: &Config, now_unix: u64) -> Check {
    let got = evidence.attestation_phkh();
    let ok = config.valid_host_keys(now_unix).any(|key| key.hash() == got);
    let expected = "the hash of a trusted host key";
    Check::new("attestation.host-key", ok, Code::AttestKeyUntrusted, expected, hex::encode(got), HOST_KEYS)
}

/// Attesters pass the report data and nothing else, zero-padded. More would be unknown content, so it is refused.
fn user_data(evidence: &Evidence, expected: &[u8]) -> Check {
    let filled = padded::<REPORT_DATA>(expected).filter(|_| expected.len() <= REPORT_DATA);
    let ok = filled.is_some_and(|filled| filled[..] == evidence.user_data[..]);
    Check::new(
        "measurement.user-data",
        ok,
        Code::AttestReportDataMismatch,
        short(expected),
        short(&evidence.user_data),
        CALLER,
    )
}

/// Hex of at most 64 bytes.
fn short(bytes: &[u8]) -> String {
    match bytes.split_at_checked(REPORT_DATA) {
        Some((head, rest)) if !rest.is_empty() => format!("{}… ({} bytes)", hex::encode(head), bytes.len()),
        _ => hex::encode(bytes),
    }
}
