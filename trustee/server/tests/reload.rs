//! Settings change while guests are served: nothing that was begun is lost, nothing unusable is taken over.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod administration;
mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use administration::*;
use cocoon_protocol::token::Signer;
use cocoon_trustee::access::{AclRule, CertificateMatch, CertificateRule, IdentityProvider, KeySource};
use cocoon_trustee::{Limits, Live, ReloadableTls, Tls, TokenIdentity, TrustedIssuers, serve_with};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use serde_json::Value;
use support::*;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use zeroize::Zeroizing;

#[tokio::test]
async fn an_open_handshake_survives_a_reload() {
    let world = World::new().await;
    let mut client = world.client().await;
    done(&mut client, "PUT", "/cocoon/v0/tenants/red", Value::Null).await;
    done(&mut client, "PUT", "/t/red/cocoon/v0/reference-values", all_values(&world)).await;
    let mut early = world.guest(Some(init_data("a"))).await;
    let token = early.attest(&world).await.unwrap();
    let mut guest = world.guest(Some(init_data("a"))).await;
    let challenge = guest.auth().await;
    let mut visitor = Visitor::new(&world, "/t/red", None).await;
    let theirs = visitor.auth().await;

    let mut live = world.trustee.live();
    live.issuer = "another-issuer".into();
    live.token_lifetime = Duration::from_secs(60);
    live.access.token_sha256 = Some(sha256(b"the new one"));
    world.trustee.reload(live).unwrap();

    let message = guest.attestation(&world, &challenge);
    let reply = guest.post("/kbs/v0/attest", &message).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let claims = payload(reply.json()["token"].as_str().unwrap());
    assert_eq!(claims["iss"], "another-issuer");
    assert_eq!(claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(), 60);
    let reply = visitor.answer(&world, &theirs).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(payload(reply.json()["token"].as_str().unwrap())["iss"], "another-issuer", "tenants too");
    // A token from before is still good.
    assert_eq!(early.get(&token, "a/b/c").await.code(), "RELEASE-WORKLOAD-UNKNOWN");

    // The new administrator's token is in force at once, the old one is nobody's.
    for path in ["/cocoon/v0/status", "/t/red/cocoon/v0/status"] {
        let old = client.admin("GET", path, b"").await;
        assert_eq!((old.status, old.refusal().0), (401, "ACCESS-DENIED"), "{path}");
        let new = with_token(&mut client, "the new one", "GET", path, &Value::Null).await;
        assert_eq!(new.status, 200, "{path}");
    }
    let mut live = world.trustee.live();
    live.access.token_sha256 = None;
    world.trustee.reload(live).unwrap();
    let nobody = with_token(&mut client, "the new one", "GET", "/cocoon/v0/status", &Value::Null).await;
    assert_eq!(nobody.status, 403);
    world.stop().await;
}

/// Makes settings unusable.
type Spoil = Box<dyn Fn(&mut Live)>;

#[tokio::test]
async fn unusable_settings_are_refused_and_the_old_ones_stay() {
    let world = World::new().await;
    let mut client = world.client().await;
    done(&mut client, "PUT", "/cocoon/v0/tenants/red", Value::Null).await;
    read(&mut client, "/t/red/cocoon/v0/status").await;
    let good = world.trustee.live();
    let bad: Vec<(&str, Spoil)> = vec![
        ("root", Box::new(|l| l.simulated_roots = vec![(vec![1, 2], vec![3])])),
        ("allow all", Box::new(|l| l.access.insecure_allow_all = true)),
        (
            "acl",
            Box::new(|l| {
                l.access.acl = vec![AclRule { role: "x".into(), allowed_endpoints: vec![".*".into()] }]
            }),
        ),
        (
            "key",
            Box::new(|l| {
                let keys = KeySource::PublicKeyPem(b"nonsense".to_vec());
                l.access.identity_providers = vec![IdentityProvider { issuer: None, audience: None, keys }];
            }),
        ),
        (
            "missing file",
            Box::new(|l| {
                let keys = KeySource::JwksFile("/nonexistent/keys.json".into());
                l.access.identity_providers = vec![IdentityProvider { issuer: None, audience: None, keys }];
            }),
        ),
        (
            "certificate",
            Box::new(|l| {
                let certificate = CertificateMatch::SanDns("*.example".into());
                l.access.client_certificates =
                    vec![CertificateRule { certificate, role: "x".into(), tenant: None }];
            }),
        ),
        (
            "token key",
            Box::new(|l| {
                l.token_identity =
                    Some(TokenIdentity { key_pkcs8: Zeroizing::new(vec![0; 40]), certificates: vec![] });
            }),
        ),
    ];
    for (what, change) in bad {
        let mut live = good.clone();
        live.issuer = format!("not {what}");
        live.access.token_sha256 = Some(sha256(b"not this one"));
        change(&mut live);
        assert!(world.trustee.reload(live).is_err(), "{what}");
        assert_eq!(world.trustee.live().issuer, good.issuer, "{what}");
        let status = read(&mut client, "/cocoon/v0/status").await;
        assert_eq!(status["issuer"], good.issuer, "{what}");
        assert_eq!(read(&mut client, "/t/red/cocoon/v0/status").await["issuer"], good.issuer, "{what}");
        let mut guest = world.guest(None).await;
        let token = guest.attest(&world).await.unwrap();
        assert_eq!(payload(&token)["iss"], good.issuer, "{what}");
    }
    world.stop().await;
}

#[tokio::test]
async fn trust_follows_the_settings() {
    let world = World::new().await;
    let mut guest = world.guest(None).await;
    let token = guest.attest(&world).await.unwrap();
    let kept = world.trustee.live();
    world.trustee.reload(Live { simulated_roots: vec![], ..kept.clone() }).unwrap();
    let refused_guest = guest.attest(&world).await.unwrap_err();
    assert_eq!(refused_guest.status, 401);
    world.trustee.reload(Live { issue_contraindicated: true, ..kept.clone() }).unwrap();
    guest.measurement = [9; 48];
    let strange = guest.attest(&world).await.unwrap();
    assert_ne!(payload(&strange)["submods"]["cpu0"]["ear.status"], "affirming");
    world.trustee.reload(kept.clone()).unwrap();
    assert_eq!(guest.attest(&world).await.unwrap_err().code(), "ATTEST-MEASUREMENT-UNKNOWN");

    // A token of another service counts while its keys are trusted.
    let foreign = Signer::generate().unwrap();
    let mut claims = payload(&token);
    claims["iss"] = "foreign".into();
    let theirs = foreign.sign(&claims).unwrap();
    let code = |reply: &Reply| reply.code().to_owned();
    assert_eq!(code(&guest.get(&theirs, "a/b/c").await), "RELEASE-TOKEN-INVALID");
    let trusted = TrustedIssuers { key_sets: vec![foreign.jwks()], ..TrustedIssuers::default() };
    world.trustee.reload(Live { trusted, ..kept.clone() }).unwrap();
    assert_ne!(code(&guest.get(&theirs, "a/b/c").await), "RELEASE-TOKEN-INVALID");
    world.trustee.reload(kept.clone()).unwrap();
    assert_eq!(code(&guest.get(&theirs, "a/b/c").await), "RELEASE-TOKEN-INVALID");

    // A signing key of the operator's: in use at once, and tokens of the kept one stay good.
    let own = Signer::generate().unwrap();
    let identity = TokenIdentity { key_pkcs8: own.to_pkcs8_der(), certificates: vec![] };
    world.trustee.reload(Live { token_identity: Some(identity), ..kept }).unwrap();
    guest.measurement = MEASUREMENT;
    let new = guest.attest(&world).await.unwrap();
    let now = cocoon_trustee::system_clock()();
    cocoon_protocol::token::verify(&new, &own.jwks(), now).unwrap();
    assert!(cocoon_protocol::token::verify(&token, &own.jwks(), now).is_err());
    assert_ne!(code(&guest.get(&token, "a/b/c").await), "RELEASE-TOKEN-INVALID");
    let published = world.client().await.request("GET", "/.well-known/jwks.json", &[], b"").await.json();
    for token in [&new, &token] {
        cocoon_protocol::token::verify(token, &published, now).unwrap();
    }
    world.stop().await;
}

#[tokio::test]
async fn the_largest_body_follows_the_settings() {
    let world = World::new().await;
    let mut client = world.client().await;
    done(&mut client, "PUT", "/cocoon/v0/tenants/red", Value::Null).await;
    let paths = ["/cocoon/v0/secrets/a/b/c", "/t/red/cocoon/v0/secrets/a/b/c"];
    for path in paths {
        assert_eq!(client.admin("PUT", path, &[1; 5000]).await.status, 200);
    }
    world.trustee.reload(Live { body_limit: 4000, ..world.trustee.live() }).unwrap();
    for path in paths {
        assert_eq!(world.client().await.admin("PUT", path, &[1; 5000]).await.status, 413, "{path}");
        assert_eq!(world.client().await.admin("PUT", path, &[1; 3000]).await.status, 200, "{path}");
    }
    world.stop().await;
}

/// A self-signed identity and the certificate that clients trust.
fn identity() -> (Tls, String) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let pem = made.cert.pem();
    (Tls::new(pem.clone(), Zeroizing::new(made.signing_key.serialize_pem())), pem)
}

async fn connect(
    address: SocketAddr,
    trusted: &str,
) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(trusted.as_bytes()).unwrap()).unwrap();
    let config =
        rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, TcpStream::connect(address).await?).await
}

#[tokio::test]
async fn a_new_certificate_is_for_new_connections() {
    let world = World::new().await;
    let ((first, first_pem), (second, second_pem)) = (identity(), identity());
    let tls = ReloadableTls::new(&first).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let ended = async { drop(stopped.await) };
    let serving = serve_with(world.trustee.clone(), listener, Some(tls.clone()), Limits::default(), ended);
    let task = tokio::spawn(serving);

    let old = connect(address, &first_pem).await.unwrap();
    let mut broken = second.clone();
    broken.key_pem = first.key_pem.clone();
    assert!(tls.replace(&broken).is_err(), "another certificate's key");
    broken.cert_chain_pem = "nonsense".into();
    assert!(tls.replace(&broken).is_err());
    broken = second.clone();
    broken.client_authorities_pem =
        Some("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".into());
    assert!(tls.replace(&broken).is_err());
    drop(connect(address, &first_pem).await.expect("the old identity is still there"));

    tls.replace(&second).unwrap();
    let new = connect(address, &second_pem).await.unwrap();
    let shown = new.get_ref().1.peer_certificates().unwrap()[0].clone();
    assert_eq!(shown, CertificateDer::from_pem_slice(second_pem.as_bytes()).unwrap());
    assert!(connect(address, &first_pem).await.is_err(), "new connections get the new one only");
    for stream in [old, new] {
        let reply = exchange(stream, "GET", "/healthz", &[], b"").await.unwrap();
        assert_eq!(reply.status, 200);
    }
    drop(stop);
    task.await.unwrap().unwrap();
    world.stop().await;
}
