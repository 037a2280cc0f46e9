//! Tests of the verifiers' settings, in our form and in upstream's.

use std::time::Duration;

use crate::upstream_tests::with;
use crate::*;

const VERIFIERS: &str = "attestation_service.verifier_config";

fn own(text: &str) -> Verifiers {
    parse(text).unwrap().attestation.verifiers
}

/// What upstream's file with this table of a verifier becomes.
fn upstream(verifier: &str, body: &str) -> Result<Verifiers, Vec<Problem>> {
    let text = with(&format!("[{VERIFIERS}.{verifier}]\n{body}"));
    from_upstream(&text, Format::Toml).map(|(settings, _)| settings.attestation.verifiers)
}

/// The only problem: the key below the verifiers' table, and what is wrong.
fn refused(verifier: &str, body: &str) -> (String, String) {
    let problems = upstream(verifier, body).unwrap_err();
    let [problem] = problems.as_slice() else { panic!("{verifier} {body}: {problems:?}") };
    let key = problem.key.strip_prefix(&format!("{VERIFIERS}.{verifier}")).unwrap_or(&problem.key);
    (key.trim_start_matches('.').to_owned(), problem.what.clone())
}

#[test]
fn nothing_said_is_the_vendors_services_and_no_extra_trust() {
    let verifiers = own("");
    assert!(verifiers.collateral.fetch && verifiers.collateral.offline.is_none());
    assert!(verifiers.snp.minimum == [None; 4] && verifiers.snp.max_vmpl == 0);
    assert!(
        verifiers.tpm_trusted_aks.is_empty()
            && verifiers.tpm_roots.is_empty()
            && verifiers.tpm_endorsement_keys.is_empty()
            && !verifiers.tpm_any_of_roots
            && verifiers.dpu_roots.is_empty()
    );
    assert!(verifiers.cca.trust_anchors.is_none() && verifiers.se.host_keys.is_empty());
    assert_eq!(verifiers.nvidia_remote_url, None);
    assert!(!verifiers.intel.accept_tcb.iter().any(|status| status == "Revoked"));
}

#[test]
fn every_section_is_taken_over() {
    let verifiers = own(r#"
[attestation]
fetch_collateral = false
collateral_ca = "/ca"
intel_tcb_update = "early"
nvidia_rim_url = "https://rim.example"
[attestation.snp]
require_crl = true
max_vmpl = 3
minimum_snp = 23
id_keys = ["ab"]
[attestation.intel]
accept_tcb = ["UpToDate"]
out_of_date_grace_seconds = 60
minimum_tcb_evaluation_data_number = 17
require_event_log = true
[attestation.tpm]
trusted_aks = ["/ak.pem"]
roots = ["/maker.pem"]
endorsement_keys = ["ab"]
any_of_roots = true
[attestation.cca]
trust_anchors = "/ta"
platform_references_optional = true
[attestation.se]
host_keys = ["/hkd"]
image_header = "/hdr"
[attestation.csv]
allow_v1 = false
[attestation.nvidia]
require_rims = true
remote_url = "https://nras.example/base"
[attestation.nvidia_dpu]
roots = ["/root"]
max_certificate_age_seconds = 5
"#);
    let collateral = &verifiers.collateral;
    assert!(!collateral.fetch && collateral.early && collateral.ca == Some("/ca".into()));
    assert_eq!(collateral.nvidia_url.as_deref(), Some("https://rim.example"));
    assert!(verifiers.snp.require_crl && verifiers.snp.max_vmpl == 3 && verifiers.snp.id_keys == ["ab"]);
    assert_eq!(verifiers.snp.minimum, [None, None, Some(23), None]);
    let intel = &verifiers.intel;
    assert!(intel.accept_tcb == ["UpToDate"] && intel.require_event_log);
    assert_eq!(intel.out_of_date_grace, Duration::from_secs(60));
    assert_eq!(intel.minimum_evaluation_number, Some(17));
    assert_eq!(verifiers.tpm_trusted_aks, [std::path::Path::new("/ak.pem")]);
    assert!(verifiers.tpm_endorsement_keys == ["ab"] && verifiers.tpm_any_of_roots);
    assert_eq!(verifiers.tpm_roots, [std::path::Path::new("/maker.pem")]);
    assert!(verifiers.cca.trust_anchors == Some("/ta".into()) && verifiers.cca.platform_references_optional);
    assert!(verifiers.se.host_keys.len() == 1 && verifiers.se.image_header == Some("/hdr".into()));
    assert!(!verifiers.csv_allow_v1 && verifiers.nvidia_require_rims);
    assert_eq!(verifiers.nvidia_remote_url.as_deref(), Some("https://nras.example/base"));
    assert_eq!((verifiers.dpu_roots.len(), verifiers.dpu_max_certificate_age), (1, Duration::from_secs(5)));
}

#[test]
fn values_out_of_range_are_named() {
    for (text, key) in [
        ("attestation.snp.max_vmpl = 4", "attestation.snp.max_vmpl"),
        ("attestation.snp.minimum_snp = 256", "attestation.snp.minimum_snp"),
        ("attestation.intel.accept_tcb = []", "attestation.intel.accept_tcb"),
        ("attestation.intel.accept_tcb = ['Revoked']", "attestation.intel.accept_tcb"),
        ("attestation.intel_tcb_update = 'late'", "attestation.intel_tcb_update"),
        ("attestation.nvidia.remote_url = 'http://nras.example'", "attestation.nvidia.remote_url"),
        ("attestation.nvidia.remote_url = 'https://a:b@nras.example'", "attestation.nvidia.remote_url"),
        ("attestation.nvidia.remote = true", "attestation.nvidia.remote"),
        (
            "attestation.nvidia_dpu.max_certificate_age_seconds = 0",
            "attestation.nvidia_dpu.max_certificate_age_seconds",
        ),
        (
            "attestation.offline_collateral = '/c'\nattestation.nvidia_rim_url = 'https://h'",
            "attestation.nvidia_rim_url",
        ),
    ] {
        let problems = parse(text).map(|_| ()).expect_err(text);
        assert!(problems.iter().any(|p| p.key == key), "{text}: {problems:?}");
    }
}

#[test]
fn nvidias_service_is_an_address_or_none() {
    let url = |body: &str| upstream("nvidia_verifier", body).unwrap().nvidia_remote_url;
    assert_eq!(url("type = 'Local'"), None);
    assert_eq!(url(""), None);
    assert_eq!(url("type = 'Remote'").as_deref(), Some("https://nras.attestation.nvidia.com"));
    for (given, base) in [
        ("https://nras.attestation.nvidia.com/v4/attest", "https://nras.attestation.nvidia.com"),
        ("https://proxy.example:8443/nvidia/v4/attest/", "https://proxy.example:8443/nvidia"),
    ] {
        assert_eq!(url(&format!("type = 'Remote'\nverifier_url = '{given}'")).as_deref(), Some(base));
    }
    for (body, words) in [
        ("type = 'Remote'\nverifier_url = 'https://nras.attestation.nvidia.com/v3/attest'", "/v4/attest"),
        ("type = 'Remote'\nverifier_url = 'https://nras.attestation.nvidia.com'", "/v4/attest"),
        ("type = 'Remote'\nverifier_url = 3", "wrong type"),
        ("type = 'Local'\nverifier_url = 'https://h/v4/attest'", "not supported"),
    ] {
        let (key, what) = refused("nvidia_verifier", body);
        assert!(key == "verifier_url" && what.contains(words), "{body}: {key}: {what}");
    }
    let (_, what) = refused("nvidia_verifier", "type = 'Remote'\nverifier_url = 'http://h/v4/attest'");
    assert!(what.contains("scheme"), "{what}");
    assert_eq!(refused("nvidia_verifier", "type = 'remote'").0, "type");
    assert_eq!(refused("nvidia_verifier", "type = 'Remote'\nurl = 'x'").0, "url");
}

#[test]
fn intels_documents_come_from_where_upstream_takes_them() {
    let collateral = |body: &str| upstream("dcap_verifier", body).unwrap().collateral;
    // Nothing said is upstream's default.
    assert!(collateral("").early);
    assert!(collateral("tcb_update_type = 'early'").early);
    assert!(!collateral("tcb_update_type = 'standard'").early);
    assert!(collateral("use_secure_cert = true").fetch);
    let url = "https://pccs.example/sgx/certification/v4/";
    assert_eq!(collateral(&format!("collateral_service = '{url}'")).intel_url.as_deref(), Some(url));
    for (body, key) in [
        ("tcb_update_type = 'late'", "tcb_update_type"),
        ("collateral_service = 'file:///c.json'", "collateral_service"),
        ("collateral_servce = 'https://h'", "collateral_servce"),
    ] {
        assert_eq!(refused("dcap_verifier", body).0, key);
    }
}

#[test]
fn amds_certificates_come_from_where_upstream_takes_them() {
    let source = |body: &str| upstream("snp_verifier", &format!("vcek_sources = [{{{body}}}]"));
    assert_eq!(source("type = 'KDS'").unwrap().collateral.amd_url, None);
    let mirror = source("type = 'KDS', base_url = 'https://kds.example'").unwrap().collateral;
    assert_eq!(mirror.amd_url.as_deref(), Some("https://kds.example"));
    let offline = source("type = 'OfflineStore', path = '/vcek'").unwrap().collateral;
    assert_eq!(offline.offline, Some("/vcek".into()));
    for (body, key) in [("type = 'OfflineStore'", "path"), ("type = 'Disk'", "type")] {
        let (told, _) = refused("snp_verifier", &format!("vcek_sources = [{{{body}}}]"));
        assert_eq!(told, format!("vcek_sources[0].{key}"));
    }
}

#[test]
fn dpus_have_a_root_and_an_age() {
    let verifiers =
        upstream("nvidia_dpu_verifier", "root_ca_cert_path = '/r.pem'\nmax_cert_age_secs = 60").unwrap();
    assert_eq!(verifiers.dpu_roots, [std::path::Path::new("/r.pem")]);
    assert_eq!(verifiers.dpu_max_certificate_age, Duration::from_secs(60));
    let default = upstream("nvidia_dpu_verifier", "root_ca_cert_path = '/r.pem'").unwrap();
    assert_eq!(default.dpu_max_certificate_age, Duration::from_secs(3600));
    assert_eq!(refused("nvidia_dpu_verifier", "max_cert_age_secs = 60").0, "root_ca_cert_path");
}
