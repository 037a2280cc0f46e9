//! Administrators who show a certificate: it counts where TLS has verified it, and for what its rule names.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod administration;
mod support;

use std::net::SocketAddr;
use std::sync::Arc;

use administration::*;
use cocoon_trustee::access::{AclRule, CertificateMatch, CertificateRule};
use cocoon_trustee::{Limits, ReloadableTls, Tls, serve_with};
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::Value;
use support::*;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use zeroize::Zeroizing;

const SET: &str = "/kbs/v0/resource/team/key/one";

/// The status of a refusal.
fn status(reply: &Reply) -> u16 {
    assert!(reply.json()["type"].as_str().unwrap().ends_with("/AdminAuthAccess"), "{}", reply.text());
    assert_eq!(reply.refusal().0, "ACCESS-DENIED");
    reply.status
}

fn rule(role: &str, endpoints: &[&str]) -> AclRule {
    AclRule { role: role.into(), allowed_endpoints: endpoints.iter().map(|e| (*e).to_owned()).collect() }
}

/// An authority and certificates by it.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "administrators");
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Authority { issuer: Issuer::new(params, key), pem }
    }

    fn client(&self, cn: &str, dns: &[&str]) -> (String, String) {
        let mut params =
            CertificateParams::new(dns.iter().map(|d| (*d).to_owned()).collect::<Vec<_>>()).unwrap();
        params.distinguished_name.push(DnType::CommonName, cn);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }
}

/// The world's Trustee served once more, with client certificates.
struct Mutual {
    address: SocketAddr,
    server_pem: String,
    stop: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<Result<(), cocoon_trustee::Error>>,
}

impl Mutual {
    async fn start(world: &World, authority: &Authority) -> Mutual {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let mut tls = Tls::new(made.cert.pem(), Zeroizing::new(made.signing_key.serialize_pem()));
        tls.client_authorities_pem = Some(authority.pem.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let tls = ReloadableTls::new(&tls).unwrap();
        let ended = async { drop(stopped.await) };
        let task =
            tokio::spawn(serve_with(world.trustee.clone(), listener, Some(tls), Limits::default(), ended));
        Mutual { address, server_pem: made.cert.pem(), stop, task }
    }

    /// `None` where TLS lets nobody through.
    async fn ask(
        &self,
        identity: Option<&(String, String)>,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Option<Reply> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.server_pem.as_bytes()).unwrap()).unwrap();
        let builder = rustls::ClientConfig::builder_with_provider(Arc::new(
            rustls::crypto::aws_lc_rs::default_provider(),
        ))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
        let config = match identity {
            None => builder.with_no_client_auth(),
            Some((cert, key)) => {
                let chain = vec![CertificateDer::from_pem_slice(cert.as_bytes()).unwrap()];
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        };
        let tcp = TcpStream::connect(self.address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let stream = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, tcp).await.ok()?;
        exchange(stream, method, path, headers, b"v").await
    }
}

#[tokio::test]
async fn a_client_certificate_administers_where_tls_has_verified_it() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let pinned = authority.client("pinned", &[]);
    let digest = sha256(CertificateDer::from_pem_slice(pinned.0.as_bytes()).unwrap().as_ref());
    let of = |certificate, role: &str, tenant: Option<&str>| CertificateRule {
        certificate,
        role: role.into(),
        tenant: tenant.map(str::to_owned),
    };
    let world = World::with(
        |config| {
            let access = &mut config.live.access;
            access.client_certificates = vec![
                of(CertificateMatch::SubjectCn("ann".into()), "deployer", None),
                of(CertificateMatch::SanDns("red.example".into()), "owner", Some("red")),
                of(CertificateMatch::Sha256(digest), "deployer", None),
            ];
            access.acl = vec![
                rule("deployer", &["^/kbs/v0/resource/team/.*$"]),
                rule("owner", &["^/t/red/cocoon/.*$", "^/cocoon/.*$"]),
            ];
        },
        Limits::default(),
    )
    .await;
    let mut client = world.client().await;
    done(&mut client, "PUT", "/cocoon/v0/tenants/red", Value::Null).await;
    let mutual = Mutual::start(&world, &authority).await;
    let (ann, bob, red) = (
        authority.client("ann", &[]),
        authority.client("bob", &["ann"]),
        authority.client("red", &["red.example"]),
    );
    for identity in [&ann, &pinned] {
        let reply = mutual.ask(Some(identity), "POST", SET, &[]).await.unwrap();
        assert_eq!(reply.status, 200, "{}", reply.text());
    }
    let entries = read(&mut client, "/cocoon/v0/audit/entries").await.to_string();
    assert!(entries.contains("CN=ann (deployer)"), "{entries}");
    let elsewhere = mutual.ask(Some(&ann), "POST", "/kbs/v0/resource-policy", &[]).await.unwrap();
    assert_eq!(status(&elsewhere), 403);
    let other = mutual.ask(Some(&bob), "POST", SET, &[]).await.unwrap();
    assert_eq!(status(&other), 401, "genuine, but nobody's");
    let without = mutual.ask(None, "POST", SET, &[]).await.unwrap();
    assert_eq!(status(&without), 401);
    assert!(
        mutual.ask(Some(&stranger.client("ann", &[])), "POST", SET, &[]).await.is_none(),
        "another authority's"
    );
    // A bearer token, where there is one, decides alone.
    let wrong = mutual.ask(Some(&ann), "POST", SET, &[("authorization", "Bearer wrong")]).await.unwrap();
    assert_eq!(status(&wrong), 401);
    let right = format!("Bearer {ADMIN}");
    let token =
        mutual.ask(Some(&bob), "GET", "/cocoon/v0/status", &[("authorization", &right)]).await.unwrap();
    assert_eq!(token.status, 200);
    let own = mutual.ask(Some(&red), "GET", "/t/red/cocoon/v0/status", &[]).await.unwrap();
    assert_eq!(own.status, 200, "{}", own.text());
    let root = mutual.ask(Some(&red), "GET", "/cocoon/v0/status", &[]).await.unwrap();
    assert_eq!(status(&root), 403);
    // Guests need no certificate there.
    let guest = mutual.ask(None, "POST", "/kbs/v0/auth", &[]).await.unwrap();
    assert_eq!((guest.status, guest.code()), (401, "ATTEST-PROTOCOL"));
    // What a header claims of a certificate counts for nothing.
    let claimed = [("x-client-cert", ann.0.lines().nth(1).unwrap()), ("x-forwarded-client-cert", "CN=ann")];
    assert_eq!(status(&mutual.ask(None, "POST", SET, &claimed).await.unwrap()), 401);
    drop(mutual.stop);
    mutual.task.await.unwrap().unwrap();
    world.stop().await;
}
