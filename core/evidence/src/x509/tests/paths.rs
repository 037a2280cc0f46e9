//! Paths: each rule broken once.

use rcgen::{
    CertificateParams, CustomExtension, ExtendedKeyUsagePurpose as Purpose, IsCa, KeyUsagePurpose,
    PKCS_ECDSA_P384_SHA384, PKCS_ECDSA_P521_SHA512, date_time_ymd,
};

use super::*;
use crate::x509::{MAX_DEPTH, path, path_for};

fn subjects(path: &crate::x509::Path<'_>) -> Vec<String> {
    path.certificates.iter().map(|c| c.subject()).collect()
}

/// Root, intermediate and leaf with the intermediate's certificate as given; whether there is a path.
fn with_intermediate(params: &CertificateParams) -> bool {
    let (root_key, middle_key, leaf_key) = (key(), key(), key());
    let roots = [own(&authority("root"), &root_key)];
    let pool = [issue(params, &middle_key, "root", &root_key)];
    let leaf = issue(&leaf("leaf"), &leaf_key, "middle", &middle_key);
    path(&leaf, &pool, &roots).is_ok()
}

#[test]
fn a_chain_over_every_curve_leads_to_its_root() {
    let keys = [
        KeyPair::generate_for(&PKCS_ECDSA_P521_SHA512).unwrap(),
        KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap(),
        key(),
        key(),
    ];
    let roots = [own(&authority("root"), &key()), own(&authority("root"), &keys[0])];
    let pool = [
        issue(&authority("lower"), &keys[2], "upper", &keys[1]),
        issue(&authority("upper"), &keys[1], "root", &keys[0]),
    ];
    let leaf = issue(&leaf("leaf"), &keys[3], "lower", &keys[2]);
    let found = path(&leaf, &pool, &roots).unwrap();
    assert_eq!(subjects(&found), ["leaf", "lower", "upper", "root"]);
    assert_eq!(found.root().unwrap().der(), roots[1].der());
    assert!(found.expired(NOW).is_none());
    assert!(path(&leaf, &pool, &roots[..1]).is_err(), "another root of the same name");
    assert!(path(&leaf, &pool[..1], &roots).is_err(), "a gap");
    assert!(path(&leaf, &pool, &[]).is_err(), "no root");
    let sent = [pool.as_slice(), &roots[1..]].concat();
    assert!(path(&leaf, &sent, &roots[..1]).is_err(), "a root in the pool is not trusted");
    assert_eq!(subjects(&path(&roots[1], &pool, &roots).unwrap()), ["root"], "the root itself");
    assert_eq!(
        subjects(&path(&leaf, &[], &pool[..1]).unwrap()),
        ["leaf", "lower"],
        "an authority taken as root"
    );
}

#[test]
fn an_issuer_must_be_an_authority() {
    assert!(with_intermediate(&authority("middle")));
    assert!(!with_intermediate(&leaf("middle")), "no basic constraints");
    assert!(!with_intermediate(&with(leaf("middle"), |p| p.is_ca = IsCa::ExplicitNoCa)));
    let usages = |key_usages| with(authority("middle"), |p| p.key_usages = key_usages);
    assert!(!with_intermediate(&usages(vec![KeyUsagePurpose::CrlSign])), "key usage without certSign");
    assert!(!with_intermediate(&usages(vec![KeyUsagePurpose::DigitalSignature])));
    assert!(with_intermediate(&usages(vec![KeyUsagePurpose::KeyCertSign])));
    assert!(with_intermediate(&usages(Vec::new())), "no key usage forbids nothing");
    let no_authority = with(leaf("middle"), |p| p.key_usages = vec![KeyUsagePurpose::KeyCertSign]);
    assert!(!with_intermediate(&no_authority), "certSign alone makes no authority");
    // That holds for roots too.
    let root_key = key();
    let child = issue(&leaf("leaf"), &key(), "root", &root_key);
    assert!(path(&child, &[], &[own(&authority("root"), &root_key)]).is_ok());
    assert!(path(&child, &[], &[own(&leaf("root"), &root_key)]).is_err());
}

#[test]
fn an_authority_with_name_constraints_issues_nothing() {
    let constrained = |name: &str| {
        with(authority(name), |p| {
            // Not critical: permitted is the DNS name a.example.
            let names = [&[0x30, 0x0f, 0xa0, 0x0d, 0x30, 0x0b, 0x82, 0x09][..], b"a.example"].concat();
            p.custom_extensions = vec![CustomExtension::from_oid_content(&[2, 5, 29, 30], names)];
        })
    };
    assert!(!with_intermediate(&constrained("middle")));
    let root_key = key();
    let child = issue(&leaf("leaf"), &key(), "root", &root_key);
    let e = path(&child, &[], &[own(&constrained("root"), &root_key)]).unwrap_err();
    assert!(e.to_string().contains("name constraints"), "{e}");
    // Another certificate of the same authority without them still leads to the root.
    let middle_key = key();
    let roots = [own(&authority("root"), &root_key)];
    let pool = [
        issue(&constrained("middle"), &middle_key, "root", &root_key),
        issue(&authority("middle"), &middle_key, "root", &root_key),
    ];
    let leaf = issue(&leaf("leaf"), &key(), "middle", &middle_key);
    assert!(path(&leaf, &pool, &roots).is_ok());
}

#[test]
fn authorities_let_only_their_purposes_through() {
    let code_signing = const_oid::ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.3");
    let (root_key, middle_key) = (key(), key());
    let purposes =
        |name: &str, list: &[Purpose]| with(authority(name), |p| p.extended_key_usages = list.to_vec());
    let leaf = issue(&leaf("leaf"), &key(), "middle", &middle_key);
    let judge = |root: &[Purpose], middle: &[Purpose]| {
        let roots = [own(&purposes("root", root), &root_key)];
        let pool = [issue(&purposes("middle", middle), &middle_key, "root", &root_key)];
        assert!(path(&leaf, &pool, &roots).is_ok(), "without a purpose");
        path_for(&leaf, &pool, &roots, code_signing).map(|_| ()).map_err(|e| e.to_string())
    };
    for list in
        [&[][..], &[Purpose::CodeSigning], &[Purpose::ServerAuth, Purpose::CodeSigning], &[Purpose::Any]]
    {
        judge(&[], list).unwrap();
        judge(list, &[]).unwrap();
    }
    for list in [&[Purpose::ServerAuth][..], &[Purpose::TimeStamping, Purpose::EmailProtection]] {
        assert!(judge(&[], list).unwrap_err().contains("extended key usage"));
        assert!(judge(list, &[]).is_err());
    }
}

#[test]
fn path_lengths_count_the_authorities_below() {
    let keys = [key(), key(), key(), key()];
    let chain = |root: &CertificateParams, upper: &CertificateParams, lower: &CertificateParams| {
        let roots = [own(root, &keys[0])];
        let pool = [issue(upper, &keys[1], "root", &keys[0]), issue(lower, &keys[2], "upper", &keys[1])];
        let leaf = issue(&leaf("leaf"), &keys[3], "lower", &keys[2]);
        path(&leaf, &pool, &roots).is_ok()
    };
    let any = |name| authority(name);
    assert!(chain(&any("root"), &any("upper"), &any("lower")));
    assert!(chain(&limited("root", 2), &limited("upper", 1), &limited("lower", 0)));
    assert!(!chain(&limited("root", 1), &any("upper"), &any("lower")));
    assert!(!chain(&limited("root", 0), &any("upper"), &any("lower")));
    assert!(!chain(&any("root"), &limited("upper", 0), &any("lower")));
    assert_eq!(own(&limited("root", 3), &keys[0]).path_length(), Some(3));
    assert_eq!(own(&any("root"), &keys[0]).path_length(), None);
}

#[test]
fn names_must_chain() {
    let (root_key, leaf_key) = (key(), key());
    let roots = [own(&authority("root"), &root_key)];
    assert!(path(&issue(&leaf("leaf"), &leaf_key, "root", &root_key), &[], &roots).is_ok());
    for other in ["Root", "root ", "", "r"] {
        let named = issue(&leaf("leaf"), &leaf_key, other, &root_key);
        assert!(path(&named, &[], &roots).is_err(), "{other:?}");
        assert!(!named.is_issued_by(&roots[0]));
        assert!(named.is_signed_with(&roots[0].key().unwrap()), "the signature alone is good");
    }
    let by_another = issue(&leaf("leaf"), &leaf_key, "root", &leaf_key);
    assert!(path(&by_another, &[], &roots).is_err(), "the name alone is good");
    assert!(!by_another.is_signed_with(&roots[0].key().unwrap()));
}

#[test]
fn dates_are_told_for_every_certificate() {
    let (root_key, middle_key, leaf_key) = (key(), key(), key());
    let short = |mut params: CertificateParams| {
        params.not_after = date_time_ymd(2025, 5, 31);
        params
    };
    for expired in ["root", "middle", "leaf"] {
        let dated = |params: CertificateParams, name| if name == expired { short(params) } else { params };
        let roots = [own(&dated(authority("root"), "root"), &root_key)];
        let pool = [issue(&dated(authority("middle"), "middle"), &middle_key, "root", &root_key)];
        let leaf = issue(&dated(leaf("leaf"), "leaf"), &leaf_key, "middle", &middle_key);
        let found = path(&leaf, &pool, &roots).unwrap();
        assert_eq!(found.expired(NOW).unwrap().subject(), expired);
        let last = found.expired(NOW).unwrap().validity().not_after;
        assert!(found.expired(last).is_none() && found.expired(last + 1).is_some(), "the last second counts");
        assert!(found.expired(1_700_000_000).is_some(), "before all");
    }
}

#[test]
fn loops_end() {
    let (a, b, c) = (key(), key(), key());
    let leaf = issue(&leaf("leaf"), &c, "a", &a);
    let roots = [own(&authority("elsewhere"), &c)];
    // a is issued by b and b by a; both by themselves; a thrice by itself, each certificate another.
    let crossed = [issue(&authority("a"), &a, "b", &b), issue(&authority("b"), &b, "a", &a)];
    assert!(path(&leaf, &crossed, &roots).is_err());
    let mut pool = crossed.to_vec();
    for serial in 0..20u64 {
        let params = with(authority("a"), |p| p.serial_number = Some(serial.into()));
        pool.push(own(&params, &a));
    }
    assert!(path(&leaf, &pool, &roots).is_err());
    assert!(path(&leaf, &pool[2..], &roots).is_err());
    assert!(pool[2].names_itself() && !leaf.names_itself());
}

#[test]
fn a_path_has_at_most_eight_certificates() {
    let keys: Vec<KeyPair> = (0..=MAX_DEPTH).map(|_| key()).collect();
    let roots = [own(&authority("0"), &keys[0])];
    let below = |i: usize| issue(&authority(&i.to_string()), &keys[i], &(i - 1).to_string(), &keys[i - 1]);
    let chain: Vec<Certificate> = (1..=MAX_DEPTH).map(below).collect();
    let found = path(&chain[MAX_DEPTH - 2], &chain, &roots).unwrap();
    assert_eq!(found.certificates.len(), MAX_DEPTH);
    assert!(path(&chain[MAX_DEPTH - 1], &chain, &roots).is_err());
}

#[test]
fn of_a_huge_pool_only_the_first_are_looked_at() {
    let (root_key, middle_key) = (key(), key());
    let roots = [own(&authority("root"), &root_key)];
    let middle = issue(&authority("middle"), &middle_key, "root", &root_key);
    let leaf = issue(&leaf("leaf"), &key(), "middle", &middle_key);
    // The right name, another key: every one costs a signature.
    let decoy = issue(&authority("middle"), &key(), "root", &root_key);
    let with = |before: usize| {
        let mut pool = vec![decoy.clone(); before];
        pool.push(middle.clone());
        pool.resize(1000, decoy.clone());
        path(&leaf, &pool, &roots).is_ok()
    };
    assert!(with(0) && with(15));
    assert!(!with(16) && !with(999));
}

#[test]
fn a_decoy_in_the_pool_hides_no_path() {
    // The same authority with the same key has two certificates, as after cross-signing: one leads nowhere.
    let (root_key, middle_key, strange_key) = (key(), key(), key());
    let roots = [own(&authority("root"), &root_key)];
    let good = issue(&authority("middle"), &middle_key, "root", &root_key);
    let cross = issue(&authority("middle"), &middle_key, "stranger", &strange_key);
    let leaf = issue(&leaf("leaf"), &key(), "middle", &middle_key);
    assert!(path(&leaf, &[good.clone(), cross.clone()], &roots).is_ok());
    assert!(path(&leaf, &[cross, good], &roots).is_ok());
}
