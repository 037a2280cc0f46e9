//! Guests on Intel of a simulated platform, whose collateral is at hand: the whole of a verdict, and what the real vectors
//! do not have (initdata, version 2).

use base64::Engine;
use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};
use cocoon_stage::Code;
use serde_json::{Value, json};

use super::super::tdx::{Evidence, unverified, verify};
use super::failed;
use crate::collateral::IntelTee;
use crate::dcap::simulator::{Plan, Platform, td};
use crate::tpm::hashed;
use crate::tpm::tests::soft::{Key, Platform as Vtpm};
use crate::x509::Hash;
use crate::{Expectation, Verdict};

/// 2025-06-15: the simulated collateral is good.
const NOW: u64 = 1_750_000_000;
const NONCE: [u8; 48] = [0xa5; 48];
const INIT_DATA: [u8; 32] = [0x1d; 32];

/// What the guest is made of.
struct Guest {
    version: u8,
    hash: (u32, Hash),
    user_data: Vec<u8>,
    attributes: u8,
    key: Key,
}

impl Guest {
    fn new(version: u8) -> Self {
        let user_data = if version == 2 { [NONCE.as_slice(), &[0; 16]].concat() } else { vec![0; 64] };
        Guest { version, hash: (1, Hash::Sha256), user_data, attributes: 0, key: Key::rsa() }
    }

    fn build(&self) -> (Value, Platform) {
        let (n, e) = self.key.public().rsa_components().unwrap();
        let (n, e) = (URL_SAFE_NO_PAD.encode(n), URL_SAFE_NO_PAD.encode(e));
        let data = json!({
            "keys": [{"kid": "HCLAkPub", "key_ops": ["sign"], "kty": "RSA", "e": e, "n": n}],
            "vm-configuration": {"secure-boot": true},
            "user-data": hex::encode(&self.user_data),
        });
        let data = serde_json::to_vec(&data).unwrap();
        let mut body = td([6, 1, 3]);
        body[120] |= self.attributes;
        let digest = hashed(self.hash.1, &[&data]);
        body[520..520 + digest.len()].copy_from_slice(&digest);
        let platform = Plan { body: body.clone(), ..Plan::new(IntelTee::Tdx) }.build();

        let mut vtpm = Vtpm::new(&NONCE);
        vtpm.pcrs[8] = hashed(Hash::Sha256, &[&[0; 32], &INIT_DATA]);
        let message = vtpm.message(Hash::Sha256);
        let signature = self.key.sign(&message, Hash::Sha256, false);
        let value = json!({
            "version": self.version,
            "tpm_quote": {
                "message": hex::encode(&message),
                "signature": hex::encode(&signature[6..]),
                "pcrs": vtpm.pcrs.iter().map(hex::encode).collect::<Vec<_>>(),
            },
            "hcl_report": URL_SAFE.encode(hcl(&td_report(&body), self.hash.0, &data)),
            "td_quote": URL_SAFE.encode([platform.quote.as_slice(), &[0; 70]].concat()),
        });
        (value, platform)
    }

    fn judge(&self, report_data: Option<&[u8]>, init_data_digest: Option<&[u8]>) -> Verdict {
        let (value, platform) = self.build();
        let evidence = Evidence::from_json(&value).unwrap();
        let expectation = Expectation { report_data, init_data_digest, now_unix: NOW };
        verify(&evidence, &platform.trust, &platform.collateral, &expectation)
    }
}

/// A `TDREPORT_STRUCT` with the fields of a quote's body.
fn td_report(body: &[u8]) -> Vec<u8> {
    let mut out = vec![0; 1184];
    out[0] = 0x81;
    out[128..192].copy_from_slice(&body[520..584]);
    out[224..256].fill(0x3c);
    out[256..264].fill(0xff);
    out[264..384].copy_from_slice(&body[..120]);
    out[512..912].copy_from_slice(&body[120..520]);
    out
}

fn hcl(report: &[u8], hash: u32, data: &[u8]) -> Vec<u8> {
    let length = u32::try_from(data.len()).unwrap();
    let mut out = b"HCLA".to_vec();
    for number in [2, 32 + 1184 + 20 + length, 2, 0, 0, 0, 0] {
        out.extend(number.to_le_bytes());
    }
    out.extend(report);
    for number in [20 + length, 1, 4, hash, length] {
        out.extend(number.to_le_bytes());
    }
    out.extend(data);
    out.resize(2600, 0);
    out
}

#[test]
fn evidence_with_collateral_verifies_and_satisfies_the_policys_names() {
    for version in [1, 2] {
        let guest = Guest::new(version);
        let verdict = guest.judge(Some(&NONCE), Some(&INIT_DATA));
        assert!(verdict.ok(), "{:#?}", verdict.checks);
        assert!(verdict.simulated);
        let claims = &verdict.claims;
        assert_eq!(claims["quote"]["header"]["tee_type"], "81000000");
        assert_eq!(claims["quote"]["header"]["vendor_id"], "939a7233f79c4ca9940a0db3957f0607");
        assert_eq!(claims["quote"]["body"]["mr_td"], "d0".repeat(48));
        assert_eq!(claims["tcb_status"], "UpToDate");
        assert_eq!(claims["collateral_expiration_status"], "0");
        assert_eq!(claims["td_attributes"]["debug"], false);
        assert_eq!(claims["report_data"], hex::encode(NONCE));
        assert_eq!(claims["init_data"], claims["tpm"]["pcr08"]);
        assert!(claims["tpm"]["pcr11"].is_string() && claims["quote"]["body"]["xfam"].is_string());
        assert_eq!(claims["vm_configuration"]["secure-boot"], true);
        assert_eq!(claims["simulated"], true);
        assert!(claims.get("uefi_event_logs").is_none());
    }
}

#[test]
fn what_is_bound_is_checked() {
    let guest = Guest::new(2);
    let other = [0xa6; 48];
    let verdict = guest.judge(Some(&other), Some(&INIT_DATA));
    assert_eq!(failed(&verdict), ["tpm.report-data", "hcl.user-data"]);
    assert_eq!(failed(&guest.judge(Some(&NONCE), Some(&[0x1e; 32]))), ["tpm.init-data"]);
    assert!(guest.judge(None, None).ok());
    for user_data in [vec![], vec![0; 64], NONCE.to_vec(), [NONCE.as_slice(), &[1; 16]].concat()] {
        let guest = Guest { user_data, ..Guest::new(2) };
        assert_eq!(failed(&guest.judge(Some(&NONCE), None)), ["hcl.user-data"]);
    }
}

#[test]
fn every_hash_of_the_paravisor_is_taken_for_what_it_is() {
    for hash in [(2, Hash::Sha384), (3, Hash::Sha512)] {
        assert!(Guest { hash, ..Guest::new(1) }.judge(Some(&NONCE), None).ok());
    }
    let guest = Guest { hash: (2, Hash::Sha256), ..Guest::new(1) };
    assert_eq!(failed(&guest.judge(Some(&NONCE), None)), ["hcl.runtime-data"]);
}

#[test]
fn a_guest_that_can_be_debugged_is_refused() {
    let verdict = Guest { attributes: 1, ..Guest::new(1) }.judge(Some(&NONCE), None);
    assert_eq!(failed(&verdict), ["td.debug"]);
    assert_eq!(verdict.failure().unwrap().code, Code::AttestDebugEnabled);
}

#[test]
fn unverified_claims_need_no_verdict() {
    let (value, _) = Guest::new(1).build();
    let claims = unverified(&Evidence::from_json(&value).unwrap());
    assert_eq!(claims["report_data"], hex::encode(NONCE));
    assert!(claims.get("tcb_status").is_none() && claims.get("simulated").is_none());
}
