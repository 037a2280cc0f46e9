//! A token from one Trustee, presented to another that trusts it: by its keys, or by the CA of its certificate.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::sync::atomic::Ordering;
use std::time::{Duration, UNIX_EPOCH};

use cocoon_protocol::b64;
use cocoon_protocol::initdata::InitData;
use cocoon_protocol::token::Signer;
use cocoon_trustee::{Limits, Live, Registration, TokenIdentity, TrustedIssuers};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};
use support::speaker::rule_for_any;
use support::*;
use zeroize::Zeroizing;

const OWN: &str = "default/secret/own";

/// A Trustee that has secrets for a plan, and trusts these issuers besides itself.
async fn broker(plan: &InitData, trusted: TrustedIssuers) -> World {
    let world = World::with(|config| config.live.trusted = trusted, Limits::default()).await;
    world.register(&registration(plan));
    world
}

fn key_sets(jwks: Value) -> TrustedIssuers {
    TrustedIssuers { key_sets: vec![jwks], ..TrustedIssuers::default() }
}

/// A guest that attests at `verifier` and then speaks to `broker`.
async fn traveller(verifier: &World, broker: &World, plan: &InitData) -> (Guest, String) {
    let mut guest = verifier.guest(Some(plan.clone())).await;
    let token = guest.attest(verifier).await.unwrap();
    guest.client = broker.client().await;
    (guest, token)
}

#[tokio::test]
async fn a_token_of_a_trusted_trustee_is_as_good_as_our_own() {
    let plan = init_data("a");
    let verifier = World::new().await;
    let broker = broker(&plan, key_sets(verifier.trustee.jwks())).await;
    let (mut guest, token) = traveller(&verifier, &broker, &plan).await;
    let reply = guest.get(&token, OWN).await;
    assert_eq!(guest.decrypt(&reply), b"s3cret");
    // What is asked of a guest stays the same: it is still a simulated one.
    broker.register(&Registration { accept_simulated: false, ..registration(&plan) });
    assert_eq!(guest.get(&token, OWN).await.code(), "ATTEST-SIMULATED-REFUSED");
    broker.register(&registration(&plan));
    assert_eq!(guest.get(&token, OWN).await.status, 200);
    // The other's cookie is none here.
    assert_eq!(guest.get_by_cookie(OWN).await.code(), "RELEASE-TOKEN-INVALID");
    // Trust that is taken back ends at once, for tokens that were accepted before too.
    let live = broker.trustee.live();
    broker.trustee.reload(Live { trusted: TrustedIssuers::default(), ..live }).unwrap();
    assert_eq!(guest.get(&token, OWN).await.code(), "RELEASE-TOKEN-INVALID");
    verifier.stop().await;
    broker.stop().await;
}

#[tokio::test]
async fn altered_expired_and_strangers_tokens_are_refused() {
    let plan = init_data("a");
    let verifier = World::new().await;
    let broker = broker(&plan, key_sets(verifier.trustee.jwks())).await;
    let (mut guest, token) = traveller(&verifier, &broker, &plan).await;
    let parts: Vec<&str> = token.split('.').collect();
    let [header, payload, signature] = parts[..] else { panic!("three parts") };
    let changed = |from: &str, to: &str| {
        let text = String::from_utf8(b64::url_decode(payload).unwrap()).unwrap();
        assert!(text.contains(from), "{from}");
        format!("{header}.{}.{signature}", b64::url_encode(text.replacen(from, to, 1).as_bytes()))
    };
    let none = b64::url_encode(br#"{"alg":"none","typ":"JWT"}"#);
    let mut flipped = b64::url_decode(signature).unwrap();
    flipped[10] ^= 1;
    let stranger = World::new().await;
    let (_, strange) = traveller(&stranger, &broker, &plan).await;
    for bad in [
        changed("\"ear.cocoon.simulated\":true", "\"ear.cocoon.simulated\":false"),
        changed("\"exp\":", "\"exp\":9"),
        format!("{none}.{payload}."),
        format!("{none}.{payload}.{signature}"),
        format!("{header}.{payload}.{}", b64::url_encode(&flipped)),
        format!("{header}.{payload}"),
        strange,
    ] {
        let refused = guest.get(&bad, OWN).await;
        assert_eq!((refused.status, refused.code()), (401, "RELEASE-TOKEN-INVALID"));
        assert_eq!(refused.kind(), "TokenVerifierError");
    }
    broker.ahead.store(300, Ordering::SeqCst);
    assert_eq!(guest.get(&token, OWN).await.code(), "RELEASE-TOKEN-INVALID", "expired");
    broker.ahead.store(0, Ordering::SeqCst);
    assert_eq!(guest.get(&token, OWN).await.status, 200);
    broker.ahead.store(300, Ordering::SeqCst);
    assert_eq!(guest.get(&token, OWN).await.code(), "RELEASE-TOKEN-INVALID", "remembered and expired");
    for world in [verifier, broker, stranger] {
        world.stop().await;
    }
}

/// A CA, and a signing identity with its certificate for a time in days from now.
struct Authority {
    der: Vec<u8>,
    issuer: Issuer<'static, KeyPair>,
}

fn params(ca: bool, days: (i64, i64)) -> CertificateParams {
    let now = cocoon_trustee::system_clock()();
    let at = |day: i64| (UNIX_EPOCH + Duration::from_secs(now.saturating_add_signed(day * 86_400))).into();
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    (params.not_before, params.not_after) = (at(days.0), at(days.1));
    if ca {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    }
    params
}

impl Authority {
    fn new() -> Authority {
        let key = KeyPair::generate().unwrap();
        let ca = params(true, (-1, 10));
        let der = ca.self_signed(&key).unwrap().der().to_vec();
        Authority { der, issuer: Issuer::new(ca, key) }
    }

    fn identity(&self, days: (i64, i64)) -> TokenIdentity {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let leaf = params(false, days).signed_by(&key, &self.issuer).unwrap().der().to_vec();
        TokenIdentity { key_pkcs8: Zeroizing::new(key.serialize_der()), certificates: vec![leaf] }
    }
}

#[tokio::test]
async fn a_token_whose_certificate_leads_to_a_trusted_ca_is_accepted() {
    let plan = init_data("a");
    let (authority, other) = (Authority::new(), Authority::new());
    let trust = |authority: &Authority| TrustedIssuers {
        certificates: vec![authority.der.clone()],
        ..TrustedIssuers::default()
    };
    let trusting = broker(&plan, trust(&authority)).await;
    let wrong = broker(&plan, trust(&other)).await;
    let nobody = broker(&plan, TrustedIssuers::default()).await;
    let fine = authority.identity((-1, 10));
    let expired = authority.identity((-9, -1));
    // Somebody else's certificate beside one's own key.
    let stolen = TokenIdentity { certificates: fine.certificates.clone(), ..other.identity((-1, 10)) };
    for (identity, accepted) in [(fine, true), (expired, false), (stolen, false)] {
        let verifier =
            World::with(|config| config.live.token_identity = Some(identity), Limits::default()).await;
        let (mut guest, token) = traveller(&verifier, &trusting, &plan).await;
        let reply = guest.get(&token, OWN).await;
        if accepted {
            assert_eq!(guest.decrypt(&reply), b"s3cret");
        } else {
            assert_eq!(reply.code(), "RELEASE-TOKEN-INVALID");
        }
        for broker in [&wrong, &nobody] {
            guest.client = broker.client().await;
            assert_eq!(guest.get(&token, OWN).await.code(), "RELEASE-TOKEN-INVALID");
        }
        // To itself its own tokens are good whatever its certificate says.
        guest.client = verifier.client().await;
        assert_eq!(guest.get(&token, OWN).await.code(), "RELEASE-WORKLOAD-UNKNOWN");
        let published = verifier.trustee.jwks();
        assert_eq!(published["keys"].as_array().unwrap().len(), 2, "the configured key and the kept one");
        let header = b64::url_decode(token.split('.').next().unwrap()).unwrap();
        let header: Value = serde_json::from_slice(&header).unwrap();
        assert_eq!(header["jwk"]["x"], published["keys"][0]["x"]);
        verifier.stop().await;
    }
    for world in [trusting, wrong, nobody] {
        world.stop().await;
    }
}

/// The token of an attestation service that keeps the guest's key at a place of its own.
fn elsewhere(signer: &Signer, key: &cocoon_protocol::TeeKeyPair) -> String {
    let now = cocoon_trustee::system_clock()();
    let claims = json!({
        "iss": "elsewhere", "iat": now, "exp": now + 100,
        "guest": {"key": key.public()},
        "submods": {"cpu0": {"ear.status": "affirming", "ear.veraison.annotated-evidence": {"tdx": {}}}},
    });
    signer.sign(&claims).unwrap()
}

#[tokio::test]
async fn the_guests_key_may_stand_at_another_place() {
    let signer = Signer::generate().unwrap();
    let with = |pointers: &[&str]| TrustedIssuers {
        key_pointers: pointers.iter().map(|p| (*p).to_owned()).collect(),
        ..key_sets(signer.jwks())
    };
    let plan = init_data("a");
    for (pointers, granted) in
        [(&["/nowhere", "/guest/key"][..], true), (&["/guest"], false), (&["/nowhere"], false), (&[], false)]
    {
        let world = broker(&plan, with(pointers)).await;
        world.trustee.put_secret(&path("default/key/1"), b"1").unwrap();
        world.trustee.put_rule(&rule_for_any("default/key/1", false)).unwrap();
        let mut guest = world.guest(None).await;
        let reply = guest.get(&elsewhere(&signer, &guest.key), "default/key/1").await;
        if granted {
            assert_eq!(guest.decrypt(&reply), b"1");
        } else {
            assert_eq!(reply.code(), "RELEASE-TOKEN-INVALID", "{pointers:?}");
        }
        // Our own tokens are read as ever.
        let token = guest.attest(&world).await.unwrap();
        assert_ne!(guest.get(&token, "default/key/1").await.code(), "RELEASE-TOKEN-INVALID");
        world.stop().await;
    }
}

#[tokio::test]
async fn tenants_do_not_share_their_landlords_trust() {
    let plan = init_data("a");
    let verifier = World::new().await;
    let broker = broker(&plan, key_sets(verifier.trustee.jwks())).await;
    let mut admin = broker.client().await;
    let made = admin.admin("PUT", "/cocoon/v0/tenants/acme", b"{}").await;
    assert_eq!(made.status, 200, "{}", made.text());
    let (mut guest, token) = traveller(&verifier, &broker, &plan).await;
    assert_eq!(guest.get(&token, OWN).await.status, 200);
    let own = {
        let mut guest = broker.guest(Some(plan.clone())).await;
        guest.attest(&broker).await.unwrap()
    };
    for token in [&token, &own] {
        let bearer = format!("Bearer {token}");
        let path = format!("/t/acme/kbs/v0/resource/{OWN}");
        let reply = guest.client.request("GET", &path, &[("authorization", &bearer)], b"").await;
        assert_eq!((reply.status, reply.code()), (401, "RELEASE-TOKEN-INVALID"));
    }
    verifier.stop().await;
    broker.stop().await;
}
