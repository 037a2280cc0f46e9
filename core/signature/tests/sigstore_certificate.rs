//! Certificates of signers: they must hold, for the identity that is asked for, when it was signed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod sigstore_fake;

use cocoon_signature::sigstore::Identity;
use rcgen::{ExtendedKeyUsagePurpose, SanType};
use serde_json::json;

use sigstore_fake::check::{Case, blob, bundle_of, refused, trust, trust_of};
use sigstore_fake::{DAY, EMAIL, Fake, Leaf, OIDC, b64, now, p256};

#[test]
fn certificates_must_hold_for_the_identity_when_it_was_signed() {
    let fake = Fake::new(now() - 3600);
    let at = fake.at;
    let good = || bundle_of(&fake, |_| ());
    let case =
        |name, change: &dyn Fn(&mut Leaf), why| Case::of(&fake, name, bundle_of(&fake, |l| change(l)), why);
    let named = |name, issuer: &str, subject: Result<&str, &str>, why| {
        let identity = match subject {
            Ok(email) => Identity::email(issuer, email).unwrap(),
            Err(uri) => Identity::uri(issuer, uri).unwrap(),
        };
        Case { identity, ..Case::of(&fake, name, good(), why) }
    };
    let other = Fake::new(at);
    let alien = |l: &mut Leaf| l.ct = Some(p256());
    refused(&[
        named("another subject", OIDC, Ok("dev@example.org"), "subject"),
        named("a longer subject", OIDC, Ok("dev@example.com.org"), "subject"),
        named("another case", OIDC, Ok("Dev@example.com"), "subject"),
        named("another issuer", "https://issuer.example", Ok(EMAIL), "issuer"),
        named("a URI of the same text", OIDC, Err(EMAIL), "subject"),
        case("a URI instead of an address", &|l| l.san = SanType::URI(EMAIL.try_into().unwrap()), "subject"),
        case(
            "a host instead of an address",
            &|l| l.san = SanType::DnsName("example.com".try_into().unwrap()),
            "subject",
        ),
        case("no issuer", &|l| (l.issuer, l.old_issuer) = (None, None), "no OIDC issuer"),
        case("two issuers", &|l| l.old_issuer = Some("https://other.example"), "issuer"),
        case("another new issuer", &|l| l.issuer = Some("https://other.example"), "issuer"),
        case("not for code", &|l| l.usage = ExtendedKeyUsagePurpose::ServerAuth, "not for signing code"),
        case("expired when logged", &|l| (l.from, l.to) = (at - 1200, at - 600), "was not valid"),
        case("not yet valid when logged", &|l| (l.from, l.to) = (at + 600, at + 1200), "was not valid"),
        case("no SCT", &|l| l.ct = None, "SCT"),
        case("SCT of another log", &alien, "SCT"),
        case("SCT of the future", &|l| l.sct_later = DAY, "SCT"),
        Case::of(
            &fake,
            "another authority",
            {
                let mut bundle = good();
                let certificate = other.certify(&fake.leaf()).der;
                bundle["verificationMaterial"]["certificate"]["rawBytes"] = json!(b64(certificate));
                bundle
            },
            "does not verify with its certificate",
        ),
        Case {
            root: other.trusted_root(),
            ..Case::of(&fake, "another instance", good(), "not the log's|promise")
        }
        .loosely(),
        Case {
            root: {
                let mut root = fake.trusted_root();
                root["certificateAuthorities"] = other.trusted_root()["certificateAuthorities"].clone();
                root
            },
            ..Case::of(&fake, "another instance's authority", good(), "no path")
        },
        Case {
            root: {
                let mut root = fake.trusted_root();
                root["certificateAuthorities"][0]["validFor"]["end"] = json!("2021-01-01T00:00:00Z");
                root
            },
            ..Case::of(&fake, "an authority that was retired", good(), "no certificate authority was in use")
        },
        Case {
            root: {
                let mut root = fake.trusted_root();
                root["ctlogs"][0]["publicKey"]["validFor"]["end"] = json!("2021-01-01T00:00:00Z");
                root
            },
            ..Case::of(&fake, "a certificate log that was retired", good(), "SCT")
        },
    ]);
    // An old issuer alone, and a URI, are as good.
    blob(&trust(&fake), &bundle_of(&fake, |l| l.issuer = None), now()).unwrap();
    blob(&trust(&fake), &bundle_of(&fake, |l| l.old_issuer = None), now()).unwrap();
    let uri = "https://github.com/o/r/.github/workflows/x.yml@refs/heads/main";
    let bundle = bundle_of(&fake, |l| l.san = SanType::URI(uri.try_into().unwrap()));
    blob(&trust_of(&fake.trusted_root(), Identity::uri(OIDC, uri).unwrap()), &bundle, now()).unwrap();
}
