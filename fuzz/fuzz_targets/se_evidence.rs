//! Secure Execution evidence, image headers and host key documents. Evidence comes from the attester, through the untrusted
//! host; the others are the operator's.
#![no_main]

use std::sync::LazyLock;

use cocoon_evidence::Expectation;
use cocoon_evidence::se::{Config, Evidence, Header, HeaderTags, HostKey, HostKeyTrust, SealingKey, verify};
use cocoon_evidence::x509::{Certificate, Crl};
use libfuzzer_sys::fuzz_target;

const NOW: u64 = 1_800_000_000;

static CONFIG: LazyLock<Config> = LazyLock::new(|| Config {
    host_keys: Vec::new(),
    header: Header {
        tags: HeaderTags { page_list: [1; 64], address_list: [2; 64], tweak_list: [3; 64], tag: [4; 16] },
        plaintext_control_flags: 0,
    },
    sealing_key: SealingKey::new(&[7; 32]).unwrap(),
    context: Vec::new(),
    lifetime: u64::MAX,
});

fuzz_target!(|bytes: &[u8]| {
    let _ = Header::parse(bytes);
    if let Ok(tags) = HeaderTags::parse(bytes) {
        assert_eq!(tags.to_bytes()[..], bytes[..]);
    }
    if let Ok(evidence) =
        serde_json::from_slice(bytes).map_err(drop).and_then(|v| Evidence::from_json(&v).map_err(drop))
    {
        assert_eq!(Evidence::from_json(&evidence.to_json()).as_ref(), Ok(&evidence));
        let expectation = Expectation { report_data: Some(&[1; 64]), init_data_digest: None, now_unix: NOW };
        let verdict = verify(&evidence, &CONFIG, &expectation);
        assert!(!verdict.ok() && verdict.claims.is_null(), "nobody knows the sealing key");
    }
    // The document first, the certificates that shall vouch for it, and a revocation list.
    let mut parts = bytes.splitn(3, |b| *b == 0);
    let document = parts.next().unwrap_or_default();
    let certificates = Certificate::parse_chain(parts.next().unwrap_or_default()).unwrap_or_default();
    let crls: Vec<Crl> = Crl::parse(parts.next().unwrap_or_default()).into_iter().collect();
    let trust = HostKeyTrust { roots: Vec::new(), certificates: certificates.clone(), crls: crls.clone() };
    assert!(HostKey::verify(document, &trust, NOW).is_err(), "there is no root");
    if let Some((root, certificates)) = certificates.split_last() {
        let trust = HostKeyTrust { roots: vec![root.clone()], certificates: certificates.to_vec(), crls };
        if let Ok(key) = HostKey::verify(document, &trust, NOW) {
            assert!(key.validity().contains(NOW));
        }
    }
});
