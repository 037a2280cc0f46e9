//! Settings of the verifiers: a file with all of them is honoured, and each wrong value is refused by its key.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use cocoon_protocol::b64;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName, DnType, IsCa,
    Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P384_SHA384, PKCS_ECDSA_P521_SHA512,
    SerialNumber, date_time_ymd,
};
use serde_json::{Value, json};
use support::Home;

/// Every section, by what stands in it; values as TOML.
type Sections = Vec<(&'static str, Vec<(&'static str, String)>)>;

fn list(files: &[&String]) -> String {
    json!(files).to_string()
}

/// Settings that use every key of the verifiers, with the files that they name.
fn everything(home: &Home) -> Sections {
    let id_key = format!("[\"{}\"]", "5a".repeat(48));
    let ak = home.file("ak.pem", KeyPair::generate().unwrap().public_key_pem());
    let anchors = home.file("tastore.json", anchors().to_string());
    let references = home.file("rvstore.json", references().to_string());
    let dpu_root = params(name(&[(DnType::CommonName, "DPU root")]), 1, true);
    let dpu_root = home.file("dpu.pem", dpu_root.self_signed(&KeyPair::generate().unwrap()).unwrap().pem());
    let ca = home.file("pccs.pem", std::fs::read(&dpu_root).unwrap());
    let text = |text: &str| json!(text).to_string();
    let attestation = vec![
        ("fetch_collateral", "false".into()),
        ("collateral_ca", text(&ca)),
        ("intel_tcb_update", text("early")),
        ("nvidia_rim_url", text("https://rim.example/v1/rim/")),
        ("amd_kds_url", text("https://kds.example")),
        ("intel_collateral_url", text("https://pccs.example/sgx/certification/v4/")),
    ];
    let snp = vec![
        ("require_crl", "true".into()),
        ("max_vmpl", "1".into()),
        ("forbid_migration", "true".into()),
        ("allow_masked_chip_id", "true".into()),
        ("minimum_bootloader", "10".into()),
        ("minimum_tee", "0".into()),
        ("minimum_snp", "23".into()),
        ("minimum_microcode", "25".into()),
        ("id_keys", id_key.clone()),
        ("author_keys", id_key),
    ];
    let intel = vec![
        ("accept_tcb", r#"["UpToDate", "SWHardeningNeeded"]"#.into()),
        ("out_of_date_grace_seconds", "86400".into()),
        ("collateral_grace_seconds", "86400".into()),
        ("minimum_tcb_evaluation_data_number", "17".into()),
        ("refused_advisories", r#"["INTEL-SA-00615"]"#.into()),
        ("require_event_log", "true".into()),
    ];
    let cca = vec![
        ("trust_anchors", text(&anchors)),
        ("reference_values", text(&references)),
        ("platform_references_optional", "true".into()),
        ("realm_references_ignored", "true".into()),
    ];
    vec![
        ("attestation", attestation),
        ("attestation.snp", snp),
        ("attestation.intel", intel),
        ("attestation.tpm", vec![("trusted_aks", list(&[&ak]))]),
        ("attestation.cca", cca),
        ("attestation.se", secure_execution(home)),
        ("attestation.csv", vec![("allow_v1", "false".into())]),
        (
            "attestation.nvidia",
            vec![("require_rims", "true".into()), ("remote_url", text("https://nras.example"))],
        ),
        (
            "attestation.nvidia_dpu",
            vec![("roots", list(&[&dpu_root])), ("max_certificate_age_seconds", "600".into())],
        ),
    ]
}

/// A file of these sections on a free loopback port.
fn written(home: &Home, name: &str, sections: &Sections) -> String {
    let mut text = "[server]\nlisten = [\"127.0.0.1:0\"]\n".to_owned();
    for (section, keys) in sections {
        text.push_str(&format!("[{section}]\n"));
        keys.iter().for_each(|(key, value)| text.push_str(&format!("{key} = {value}\n")));
    }
    home.file(name, text)
}

/// The same with one key set to something else, or left out.
fn altered(home: &Home, sections: &Sections, full: &str, value: Option<&str>) -> String {
    let (section, key) = full.rsplit_once('.').unwrap();
    let mut sections = sections.clone();
    let keys = &mut sections.iter_mut().find(|(name, _)| *name == section).unwrap().1;
    let at = keys.iter().position(|(name, _)| *name == key);
    match (value, at) {
        (Some(value), Some(at)) => keys[at].1 = value.to_owned(),
        (Some(value), None) => keys.push((Box::leak(key.to_owned().into_boxed_str()), value.to_owned())),
        (None, at) => drop(keys.remove(at.unwrap())),
    }
    written(home, "altered.toml", &sections)
}

#[test]
fn a_file_with_every_setting_is_honoured() {
    let home = Home::new();
    let sections = everything(&home);
    let file = written(&home, "all.toml", &sections);
    assert_eq!(home.ok(&["trustee", "config", "check", &file]), "the settings are valid\n");
    let shown = home.ok(&["trustee", "config", "show", &file]);
    for (section, keys) in &sections {
        for (key, _) in keys {
            assert!(shown.contains(key), "{section}.{key} is not shown");
        }
    }
    home.serve("state", &["--config", &file]).stop();

    // Each section does alone what it does among the others, and none is needed.
    for (section, keys) in &sections {
        let alone = vec![(*section, keys.clone())];
        let file = written(&home, "alone.toml", &alone);
        home.ok(&["trustee", "config", "check", &file]);
        home.serve("alone", &["--config", &file]).stop();
    }
    // Optional companions.
    for (key, value) in [
        ("attestation.cca.reference_values", None),
        ("attestation.se.host_keys", Some("[]")),
        ("attestation.snp.id_keys", Some("[]")),
    ] {
        let file = altered(&home, &sections, key, value);
        home.serve("optional", &["--config", &file]).stop();
    }
}

#[test]
fn documents_from_a_folder_only() {
    let home = Home::new();
    let folder = home.path("collateral");
    let sections =
        |folder: &str| vec![("attestation", vec![("offline_collateral", json!(folder).to_string())])];
    let file = written(&home, "offline.toml", &sections(folder.to_str().unwrap()));
    let said = home.refused("CONFIG-INVALID", &serve(&home, &file));
    assert!(said.contains("`attestation.offline_collateral`") && said.contains("no such folder"), "{said}");
    assert!(!folder.exists(), "a mistyped folder is not made");
    std::fs::create_dir(&folder).unwrap();
    home.serve("state", &["--config", &file]).stop();
}

fn serve<'a>(home: &Home, file: &'a str) -> [&'a str; 6] {
    let state = home.path("refused").display().to_string();
    ["trustee", "serve", "--config", file, "--state", Box::leak(state.into_boxed_str())]
}

/// What the table of settings knows to be wrong is refused by `config check` already.
#[test]
fn values_that_cannot_be_are_refused_unstarted() {
    let home = Home::new();
    let sections = everything(&home);
    for (key, value) in [
        ("attestation.intel_tcb_update", "\"soon\""),
        ("attestation.fetch_collateral", "\"no\""),
        ("attestation.nvidia_rim_url", "\"http://rim.example\""),
        ("attestation.amd_kds_url", "\"ftp://kds.example\""),
        ("attestation.collateral", "\"x\""),
        ("attestation.snp.max_vmpl", "4"),
        ("attestation.snp.minimum_snp", "256"),
        ("attestation.snp.minimum_tee", "-1"),
        ("attestation.snp.require_crl", "1"),
        ("attestation.snp.id_keys", "\"5a\""),
        ("attestation.snp.id_key", "[]"),
        ("attestation.intel.accept_tcb", "[\"Fine\"]"),
        ("attestation.intel.accept_tcb", "[\"Revoked\"]"),
        ("attestation.intel.accept_tcb", "[]"),
        ("attestation.intel.out_of_date_grace_seconds", "-1"),
        ("attestation.intel.collateral_grace_seconds", "99999999999"),
        ("attestation.intel.minimum_tcb_evaluation_data_number", "0"),
        ("attestation.cca.trust_anchors", "7"),
        ("attestation.csv.allow_v1", "\"yes\""),
        ("attestation.nvidia.require_rims", "[]"),
        ("attestation.nvidia.remote_url", "\"http://nras.example\""),
        ("attestation.nvidia_dpu.max_certificate_age_seconds", "0"),
        ("attestation.nvidia_dpu.root", "[]"),
    ] {
        let file = altered(&home, &sections, key, Some(value));
        for args in [&["trustee", "config", "check", &file][..], &serve(&home, &file)] {
            let said = home.refused("CONFIG-INVALID", args);
            assert!(said.contains(&format!("`{key}`")), "{key} = {value}: {said}");
        }
    }
}

/// What is wrong with a value's meaning or with the file it names is refused before anybody is served.
#[test]
fn values_that_mean_nothing_are_refused_by_their_key() {
    let home = Home::new();
    let sections = everything(&home);
    let missing = home.path("missing").display().to_string();
    let garbage = home.file("garbage", "garbage");
    let empty = home.file("empty", "");
    let folder = home.path("a-folder");
    std::fs::create_dir(&folder).unwrap();
    let folder = folder.display().to_string();
    let mut wrong: Vec<(&str, String)> = Vec::new();
    for key in ["attestation.snp.id_keys", "attestation.snp.author_keys"] {
        for bad in [
            "zz".repeat(48),
            "5a".repeat(47),
            "5a".repeat(49),
            String::new(),
            format!("{}5", "5a".repeat(47)),
        ] {
            wrong.push((key, format!("[\"{}\", \"{bad}\"]", "5a".repeat(48))));
        }
    }
    for key in [
        "attestation.tpm.trusted_aks",
        "attestation.se.host_keys",
        "attestation.se.certificates",
        "attestation.se.roots",
        "attestation.se.crls",
        "attestation.nvidia_dpu.roots",
    ] {
        wrong.extend([&missing, &garbage, &empty, &folder].map(|file| (key, list(&[file]))));
    }
    let singles =
        ["attestation.cca.trust_anchors", "attestation.cca.reference_values", "attestation.se.image_header"];
    for key in singles {
        wrong.extend([&missing, &garbage, &empty, &folder].map(|file| (key, json!(file).to_string())));
    }
    // Of the right form, but not what is asked for.
    let object = home.file("object.json", "{}");
    let mut private = anchors();
    private[0]["pkey"]["d"] = json!("AAAA");
    let private = home.file("private.json", private.to_string());
    let strange = home.file("strange.json", json!({"platform": [], "realms": []}).to_string());
    let certificate = home.path("dpu.pem").display().to_string();
    let short = home.file("short.bin", &std::fs::read(home.path("hdr.bin")).unwrap()[..600]);
    wrong.extend([
        ("attestation.cca.trust_anchors", json!(object).to_string()),
        ("attestation.cca.trust_anchors", json!(private).to_string()),
        ("attestation.cca.reference_values", json!(strange).to_string()),
        ("attestation.se.image_header", json!(short).to_string()),
        // A certificate that nobody's signing key stands behind, and a list of no issuer's.
        ("attestation.se.host_keys", list(&[&certificate])),
        ("attestation.se.host_keys", list(&[&home.path("host.pem").display().to_string(), &garbage])),
        ("attestation.se.crls", list(&[&certificate])),
    ]);
    for (key, value) in wrong {
        refused(&home, &sections, key, Some(&value), key);
    }
    // Without its companions a host key verifies to nothing, and it is the host key that is named.
    for key in ["attestation.se.roots", "attestation.se.certificates", "attestation.se.crls"] {
        refused(&home, &sections, key, None, "attestation.se.host_keys");
    }
    refused(&home, &sections, "attestation.se.image_header", None, "attestation.se.image_header");
    refused(&home, &sections, "attestation.cca.trust_anchors", None, "attestation.cca.reference_values");
    // The PCCS's authority is read where something is fetched.
    let mut online = sections;
    online[0].1.retain(|(key, _)| *key != "fetch_collateral");
    for file in [&missing, &garbage, &empty, &folder] {
        let key = "attestation.collateral_ca";
        refused(&home, &online, key, Some(&json!(file).to_string()), key);
    }
}

fn refused(home: &Home, sections: &Sections, key: &str, value: Option<&str>, named: &str) {
    let file = altered(home, sections, key, value);
    let said = home.refused("CONFIG-INVALID", &serve(home, &file));
    assert!(said.contains(&format!("`{named}`")), "{key} = {value:?}: {said}");
}

#[test]
fn a_reload_with_a_wrong_file_changes_nothing() {
    let home = Home::new();
    let sections = everything(&home);
    let file = written(&home, "altered.toml", &sections);
    let mut server = home.serve("state", &["--config", &file]);
    let anchors = home.path("tastore.json");
    let good = std::fs::read(&anchors).unwrap();
    std::fs::write(&anchors, "[").unwrap();
    server.forget();
    server.signal(rustix::process::Signal::HUP);
    let said = server.wait_for("`attestation.cca.trust_anchors`");
    assert!(said.contains("tastore.json"), "{said}");
    home.ok(&support::with(&["secret", "list"], &server.flags()));
    std::fs::write(&anchors, good).unwrap();
    server.forget();
    server.signal(rustix::process::Signal::HUP);
    server.wait_for("read anew");
    server.stop();
}

/// One platform's public key.
fn anchors() -> Value {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
    let (x, y) = key.public_key_raw()[1..].split_at(48);
    json!([{
        "pkey": {"kty": "EC", "crv": "P-384", "x": b64::url_encode(x), "y": b64::url_encode(y)},
        "implementation-id": "00".repeat(32),
        "instance-id": format!("01{}", "00".repeat(32)),
    }])
}

fn references() -> Value {
    let component = json!({"measurement-value": "00".repeat(32), "signer-id": "00".repeat(32)});
    json!({"platform": [{
        "implementation-id": "00".repeat(32), "platform-configuration": "00000000", "sw-components": [component],
    }]})
}

/// A host key document with all that stands behind it, and an image's header.
fn secure_execution(home: &Home) -> Vec<(&'static str, String)> {
    let authority_key = || KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
    let (root, middle, signing) = (authority_key(), authority_key(), authority_key());
    let host = KeyPair::generate_for(&PKCS_ECDSA_P521_SHA512).unwrap();
    let common = |text: &str| name(&[(DnType::CommonName, text)]);
    let by_root = issuer(common("Root"), &root);
    let by_middle = issuer(common("Intermediate"), &middle);
    let by_signing = issuer(signing_name(), &signing);
    let root_pem = params(common("Root"), 1, true).self_signed(&root).unwrap().pem();
    let middle_pem = params(common("Intermediate"), 2, true).signed_by(&middle, &by_root).unwrap().pem();
    let signing_pem = params(signing_name(), 3, false).signed_by(&signing, &by_middle).unwrap().pem();
    let host_pem = params(common("host"), 4, false).signed_by(&host, &by_signing).unwrap().pem();
    let lists = [("root.crl", &by_root), ("middle.crl", &by_middle), ("signing.crl", &by_signing)]
        .map(|(file, issuer)| home.file(file, revocation_list(issuer)));
    let mut header = b"IBMSecEx".to_vec();
    header.extend([0x100u32, 0x280].map(u32::to_be_bytes).concat());
    header.extend([9; 12]);
    header.extend([0; 4]);
    header.extend([1u64, 128, 77, 0xe0].map(u64::to_be_bytes).concat());
    header.resize(0x280, 3);
    vec![
        ("host_keys", list(&[&home.file("host.pem", host_pem)])),
        ("certificates", list(&[&home.file("chain.pem", format!("{middle_pem}{signing_pem}"))])),
        ("roots", list(&[&home.file("root.pem", root_pem)])),
        ("crls", list(&lists.iter().collect::<Vec<_>>())),
        ("image_header", json!(home.file("hdr.bin", header)).to_string()),
    ]
}

fn name(parts: &[(DnType, &str)]) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    parts.iter().for_each(|(kind, value)| name.push(kind.clone(), *value));
    name
}

/// IBM's signing keys are known by this subject.
fn signing_name() -> DistinguishedName {
    let ibm = "International Business Machines Corporation";
    name(&[
        (DnType::CountryName, "US"),
        (DnType::StateOrProvinceName, "New York"),
        (DnType::LocalityName, "Poughkeepsie"),
        (DnType::OrganizationName, ibm),
        (DnType::OrganizationalUnitName, "IBM Z Host Key Signing Service"),
        (DnType::CommonName, ibm),
    ])
}

/// From 2024 to 2040.
fn params(subject: DistinguishedName, serial: u64, authority: bool) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = subject;
    params.not_before = date_time_ymd(2024, 1, 1);
    params.not_after = date_time_ymd(2040, 1, 1);
    params.serial_number = Some(SerialNumber::from(serial));
    params.key_identifier_method = KeyIdMethod::PreSpecified(vec![1; 20]);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    if authority {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    }
    params
}

fn issuer(name: DistinguishedName, key: &KeyPair) -> Issuer<'_, &KeyPair> {
    let mut params = CertificateParams::default();
    params.distinguished_name = name;
    params.key_identifier_method = KeyIdMethod::PreSpecified(vec![1; 20]);
    Issuer::new(params, key)
}

fn revocation_list(issuer: &Issuer<'_, &KeyPair>) -> String {
    let list = CertificateRevocationListParams {
        this_update: date_time_ymd(2024, 1, 1),
        next_update: date_time_ymd(2040, 1, 1),
        crl_number: SerialNumber::from(1u64),
        issuing_distribution_point: None,
        revoked_certs: Vec::new(),
        key_identifier_method: KeyIdMethod::PreSpecified(vec![1; 20]),
    };
    list.signed_by(issuer).unwrap().pem().unwrap()
}
