//! Certificates of administrators' clients, DER. TLS has verified them by then; they are still read with care.
#![no_main]

use std::sync::{Arc, LazyLock};

use cocoon_access::{Access, AccessConfig, AclRule, Caller, CertificateMatch, CertificateRule};
use cocoon_fuzz::{NOW, block_on};
use libfuzzer_sys::fuzz_target;

static ACCESS: LazyLock<Access> = LazyLock::new(|| {
    let rule = |certificate| CertificateRule { certificate, role: "r".into(), tenant: None };
    let config = AccessConfig {
        acl: vec![AclRule { role: "r".into(), allowed_endpoints: vec!["^/cocoon/v0/.*$".into()] }],
        client_certificates: vec![
            rule(CertificateMatch::SubjectCn("admin.example".into())),
            rule(CertificateMatch::SanDns("admin.example".into())),
            rule(CertificateMatch::SanUri("spiffe://example/admin".into())),
            rule(CertificateMatch::Sha256([7; 32])),
        ],
        ..AccessConfig::default()
    };
    Access::new(config, Arc::new(|| NOW)).expect("good settings")
});

fuzz_target!(|der: &[u8]| {
    let caller = Caller {
        method: "GET",
        path: "/cocoon/v0/status",
        bearer: None,
        client_certificate: Some(der),
        tenant: None,
    };
    if block_on(ACCESS.authorize(&caller, NOW)).is_ok() {
        let has = |name: &[u8]| der.windows(name.len()).any(|window| window == name);
        assert!(has(b"admin.example") || has(b"spiffe://example/admin"));
    }
});
