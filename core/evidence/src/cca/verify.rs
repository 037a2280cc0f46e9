//! Every rule that a CCA token must meet, each a node of the verdict.

use cocoon_stage::Code;
use serde_json::{Value, json};

use super::builder::hash;
use super::claims::claims;
use super::collateral::{Rules, Store};
use super::evidence::Evidence;
use super::realm::Realm;
use super::references;
use super::token::{Lifecycle, Platform, hash_name};
use crate::expectation::padded;
use crate::{Check, Expectation, Verdict};

const ANCHOR: &str = "Arm DEN0137, A7.2.3.2.3 and A7.2.3.2.4; the trust anchor store";
const SIGN1: &str = "Arm DEN0137, A7.2; RFC 9052, 4.4";
const BINDING: &str = "Arm DEN0137, A7.2.3.1.7 and A7.2.3.2.2";
const LIFECYCLE: &str = "Arm DEN0137, A7.2.3.2.6";
const CALLER: &str = "the challenge";
const INITDATA: &str = "the presented initdata";

/// Verifies a token: platform token by the store's CPAK, realm token by its RAK, both bound to each other and to the
/// challenge, the platform secured and in a state that the store knows.
///
/// The verdict lists every check; claims are given only when all passed. There are no dates: a key is trusted for as long
/// as the store has it.
pub fn verify(evidence: &Evidence, store: &Store, rules: &Rules, expectation: &Expectation<'_>) -> Verdict {
    let (platform, realm) = (evidence.platform(), evidence.realm());
    let mut checks = platform_key(evidence, store).to_vec();
    checks.push(realm_signature(evidence));
    checks.push(binding(platform, realm));
    if let Some(expected) = expectation.report_data {
        checks.push(Check::new(
            "realm.challenge",
            expected.len() <= 64 && padded(expected) == Some(realm.challenge),
            Code::AttestReportDataMismatch,
            prefix(expected),
            hex::encode(realm.challenge),
            CALLER,
        ));
    }
    if let Some(digest) = expectation.init_data_digest {
        // A longer digest is not cut: the host chose the value, and must not be left to choose a part of it.
        checks.push(Check::new(
            "realm.personalization-value",
            digest.len() <= 64 && padded(digest) == Some(realm.personalization_value),
            Code::AttestInitdataMismatch,
            prefix(digest),
            hex::encode(realm.personalization_value),
            INITDATA,
        ));
    }
    checks.push(lifecycle(platform));
    checks.extend(references::checks(evidence, store, rules));
    let mut verdict = Verdict { checks, claims: Value::Null, simulated: false };
    if verdict.ok() {
        verdict.claims = claims(evidence);
        if let Value::Object(map) = &mut verdict.claims {
            map.insert("simulated".to_owned(), json!(false));
        }
    }
    verdict
}

/// The caller's bytes, as many as fit a claim.
fn prefix(bytes: &[u8]) -> String {
    let shown: Vec<u8> = bytes.iter().take(64).copied().collect();
    match bytes.len() {
        0 => "something".to_owned(),
        1..=64 => hex::encode(shown),
        length => format!("{}… ({length} bytes)", hex::encode(shown)),
    }
}

/// The platform's key, and its signature by that key.
fn platform_key(evidence: &Evidence, store: &Store) -> [Check; 2] {
    let platform = evidence.platform();
    let anchor = store.anchor(&platform.implementation_id, &platform.instance_id);
    let got = match &anchor {
        Ok(_) => "known",
        Err(false) => "no trust anchor for this implementation",
        Err(true) => "no trust anchor for this instance",
    };
    let instance = hex::encode(platform.instance_id);
    let (valid, signed) = match anchor {
        Err(_) => (false, "no key to verify it with"),
        Ok(anchor) => {
            let signed = &evidence.platform_signed;
            let verifies = anchor.key.verify_sig(&signed.message, &signed.signature).is_ok();
            match (signed.algorithm == anchor.algorithm, verifies) {
                (true, true) => (true, "valid"),
                (true, false) => (false, "invalid"),
                (false, _) => (false, "of another algorithm than the key's"),
            }
        }
    };
    let expected = format!("{} by the platform's CPAK", evidence.platform_signed.algorithm.name());
    [
        Check::new(
            "platform.trust-anchor",
            anchor.is_ok(),
            Code::AttestChainUntrusted,
            format!("a CPAK of instance {instance}"),
            got,
            ANCHOR,
        ),
        Check::new("platform.signature", valid, Code::AttestSignatureInvalid, expected, signed, SIGN1),
    ]
}

/// The realm token's signature by the key it carries. By itself it proves nothing: [`binding`] makes the key a trusted one.
fn realm_signature(evidence: &Evidence) -> Check {
    let signed = &evidence.realm_signed;
    let (valid, got) = match evidence.realm().key() {
        Err(_) => (false, "no key to verify it with"),
        Ok((_, _, Some(named))) if named != signed.algorithm => {
            (false, "of another algorithm than the key's")
        }
        Ok((_, key, _)) => {
            match key.verifies(signed.algorithm.scheme(), &signed.message, &signed.signature) {
                true => (true, "valid"),
                false => (false, "invalid"),
            }
        }
    };
    let expected = format!("{} by the realm's RAK", signed.algorithm.name());
    Check::new("realm.signature", valid, Code::AttestSignatureInvalid, expected, got, SIGN1)
}

/// The platform vouches for the realm's key: its challenge is the hash of the claim that carries the key.
fn binding(platform: &Platform, realm: &Realm) -> Check {
    let expected = hash(realm.public_key_hash, &realm.public_key);
    Check::new(
        "realm.key-binding",
        expected == platform.challenge,
        Code::AttestKeyUntrusted,
        format!("{} ({} of the RAK)", hex::encode(&expected), hash_name(realm.public_key_hash)),
        hex::encode(&platform.challenge),
        BINDING,
    )
}

fn lifecycle(platform: &Platform) -> Check {
    let state = Lifecycle::of(platform.lifecycle);
    let code = match state {
        Some(Lifecycle::NonRotDebug | Lifecycle::RecoverableRotDebug) => Code::AttestDebugEnabled,
        _ => Code::AttestTcbRevoked,
    };
    let got = format!("{:#06x} ({})", platform.lifecycle, state.map_or("undefined", Lifecycle::name));
    let ok = state == Some(Lifecycle::Secured);
    Check::new("platform.lifecycle", ok, code, "secured (0x3000 to 0x30ff)", got, LIFECYCLE)
}
