//! The local token, client certificates, nothing at all, and everything.

use cocoon_access::{
    AccessConfig, AclRule, Admin, Caller, CertificateMatch, CertificateRule, Error, How, IdentityProvider,
    KeySource, Refusal, make_token, token_sha256,
};
use cocoon_stage::{Code, Failure};
use rcgen::{CertificateParams, DnType, KeyPair};
use serde_json::json;
use std::sync::Arc;

use crate::support::{NOW, Pair, access, ask, caller, claims, config, jwks, provider};

fn refused(config: AccessConfig) -> Error {
    cocoon_access::Access::new(config, Arc::new(|| NOW)).unwrap_err()
}

#[tokio::test]
async fn with_nothing_configured_everybody_is_refused() {
    for config in [AccessConfig::default(), config()] {
        let access = access(config);
        let token = Pair::p256().token(&json!({"alg": "ES256"}), &claims());
        for bearer in [None, Some(""), Some(token.as_str())] {
            let denied = access.authorize(&caller(bearer), NOW).await.unwrap_err();
            assert!(denied.reason().contains("DenyAll authorization_mode is enabled"));
            assert_eq!((denied.kind(), denied.status()), (Refusal::Forbidden, 403));
            assert_eq!(Failure::from(denied).code, Code::AccessDenied);
        }
    }
}

#[tokio::test]
async fn the_local_token_may_do_everything() {
    let token = make_token().unwrap();
    let access = access(AccessConfig { token_sha256: Some(token_sha256(&token)), ..AccessConfig::default() });
    for (path, tenant) in [("/kbs/v0/resource/a/b/c", None), ("/cocoon/v0/x", Some("blue")), ("*", None)] {
        let admin = access.authorize(&Caller { path, tenant, ..caller(Some(&token)) }, NOW).await.unwrap();
        let expected = Admin { name: "admin".into(), role: "admin".into(), tenant: None, how: How::Token };
        assert_eq!(admin, expected);
    }
    for wrong in ["", "x", &token[1..], &token.to_uppercase(), &format!("{}0", *token), &"x".repeat(1 << 20)]
    {
        assert_eq!(ask(&access, wrong).await.unwrap_err().status(), 401);
    }
    let denied = access.authorize(&caller(None), NOW).await.unwrap_err();
    assert_eq!(
        (denied.kind(), denied.reason()),
        (Refusal::Unauthenticated, "no administrator's credentials")
    );
}

#[tokio::test]
async fn the_local_token_and_jwts_stand_side_by_side() {
    let (token, pair) = (make_token().unwrap(), Pair::p256());
    let access = access(AccessConfig {
        token_sha256: Some(token_sha256(&token)),
        identity_providers: vec![provider(KeySource::PublicKeyPem(pair.pem().into_bytes()))],
        ..config()
    });
    assert_eq!(ask(&access, &token).await.unwrap().how, How::Token);
    let jwt = pair.token(&json!({"alg": "ES256"}), &claims());
    assert_eq!(ask(&access, &jwt).await.unwrap().how, How::Jwt);
    let denied = ask(&access, &make_token().unwrap()).await.unwrap_err();
    assert!(denied.reason().starts_with("Cannot verify token with any of the issuers"));
}

#[tokio::test]
async fn certificates_have_a_role_and_perhaps_a_tenant() {
    let certificate = |cn: &str| {
        let mut params = CertificateParams::new(vec![format!("{cn}.example.org")]).unwrap();
        params.distinguished_name.push(DnType::CommonName, cn);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    };
    let rule = |certificate, role: &str, tenant: Option<&str>| CertificateRule {
        certificate,
        role: role.into(),
        tenant: tenant.map(str::to_owned),
    };
    let access = access(AccessConfig {
        client_certificates: vec![
            rule(CertificateMatch::SubjectCn("ops".into()), "tester", None),
            rule(CertificateMatch::SanDns("blue.example.org".into()), "tester", Some("blue")),
            rule(CertificateMatch::SubjectCn("idle".into()), "admin", None),
        ],
        ..config()
    });
    let (ops, blue, idle, other) =
        (certificate("ops"), certificate("blue"), certificate("idle"), certificate("x"));
    let by = |der, tenant| Caller { client_certificate: Some(der), tenant, ..caller(None) };
    let admin = access.authorize(&by(&ops, Some("any")), NOW).await.unwrap();
    let expected =
        Admin { name: "CN=ops".into(), role: "tester".into(), tenant: None, how: How::Certificate };
    assert_eq!(admin, expected);
    assert_eq!(
        access.authorize(&by(&blue, Some("blue")), NOW).await.unwrap().tenant.as_deref(),
        Some("blue")
    );
    for (der, tenant, status) in [
        (&blue[..], Some("green"), 403),
        (&blue, None, 403),
        (&idle, None, 403),
        (&other, None, 401),
        (b"", None, 401),
        (&ops[..ops.len() - 1], None, 401),
    ] {
        assert_eq!(access.authorize(&by(der, tenant), NOW).await.unwrap_err().status(), status);
    }
    let elsewhere = Caller { path: "/kbs/v0/resource-policy", ..by(&ops, None) };
    assert_eq!(access.authorize(&elsewhere, NOW).await.unwrap_err().status(), 403);
    // A wrong token is not made good by a certificate.
    let both = Caller { bearer: Some("wrong"), ..by(&ops, None) };
    assert_eq!(access.authorize(&both, NOW).await.unwrap_err().status(), 401);
}

#[tokio::test]
async fn unrestricted_needs_two_settings() {
    let one = AccessConfig { insecure_allow_all: true, ..AccessConfig::default() };
    assert!(matches!(refused(one.clone()), Error::Unacknowledged));
    assert_eq!(Failure::from(refused(one.clone())).code, Code::ConfigInvalid);
    let other = AccessConfig { insecure_allow_all_acknowledged: true, ..AccessConfig::default() };
    assert!(access(other).authorize(&caller(None), NOW).await.is_err());
    let both = access(AccessConfig { insecure_allow_all_acknowledged: true, ..one });
    assert_eq!(both.authorize(&caller(None), NOW).await.unwrap().how, How::Unrestricted);
}

#[test]
fn unusable_settings_are_refused() {
    let keys = || KeySource::Jwks(jwks(&[Pair::p256().jwk(None)]));
    let with = |providers: Vec<IdentityProvider>| AccessConfig { identity_providers: providers, ..config() };
    let private = KeyPair::generate().unwrap().serialize_pem();
    let mut jwk = Pair::p256().jwk(None);
    jwk["d"] = "AA".into();
    for bad in [
        KeySource::PublicKeyPem(private.clone().into_bytes()),
        KeySource::PublicKeyPem(b"x".to_vec()),
        KeySource::PublicKeyFile("/nonexistent/key.pem".into()),
        KeySource::JwksFile("/nonexistent/jwks.json".into()),
        KeySource::JwksUrl("http://idp.example.org/keys".into()),
        KeySource::JwksUrl("x".into()),
        KeySource::Jwks(json!({})),
        KeySource::Jwks(jwks(&[jwk])),
    ] {
        let error = refused(with(vec![provider(bad.clone())]));
        assert!(matches!(error, Error::Keys { .. }), "{bad:?}");
        assert!(!format!("{error} {error:?} {bad:?}").contains(private.lines().nth(1).unwrap()));
    }
    let empty = IdentityProvider { issuer: Some(String::new()), ..provider(keys()) };
    assert!(matches!(refused(with(vec![empty])), Error::Setting(_)));
    assert!(matches!(refused(with(vec![provider(keys()); 17])), Error::Setting(_)));
    let rule = AclRule { role: "tester".into(), allowed_endpoints: vec!["^/kbs/a|.*$".into()] };
    let acl = AccessConfig { acl: vec![rule], ..AccessConfig::default() };
    assert!(matches!(refused(acl), Error::Endpoint { .. }));
    let certificate = CertificateMatch::SanDns("*.example.org".into());
    let client_certificates = vec![CertificateRule { certificate, role: "tester".into(), tenant: None }];
    assert!(matches!(refused(AccessConfig { client_certificates, ..config() }), Error::Setting(_)));
    let roots = Some(cocoon_http_roots());
    assert!(matches!(refused(AccessConfig { roots, ..config() }), Error::Setting(_)));
}

fn cocoon_http_roots() -> cocoon_http::Roots {
    cocoon_http::Roots::Pinned(vec!["nonsense".into()])
}
