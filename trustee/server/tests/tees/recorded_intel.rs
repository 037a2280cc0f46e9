//! Quotes that real machines of Intel once sent, with the collateral of their day.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cocoon_evidence::collateral::{Collateral, Need};
use cocoon_evidence::{Evidence, Trust, dcap};
use cocoon_protocol::{Tee, b64};
use cocoon_trustee::{CollateralSource, Gathered};
use serde_json::{Value, json};

use crate::platform::Shelf;
use crate::recorded::*;

/// A quote in its attester's form, and all that was published of its platform.
struct Recorded {
    tee: &'static str,
    evidence: Value,
    claims: Value,
    collateral: Collateral,
}

fn recorded(tee: &'static str) -> Option<Recorded> {
    let quote = vector(&format!("{tee}/{tee}_quote"))?;
    let collateral = json_vector(&format!("{tee}/{tee}_quote_collateral.json"))?;
    let collateral = dcap::quote_collateral(&collateral, &dcap::Quote::parse(&quote).unwrap()).unwrap();
    let evidence = json!({ "quote": b64::std_encode(&quote) });
    let kind = if tee == "sgx" { Tee::Sgx } else { Tee::Tdx };
    let claims = Evidence::from_json(kind, &evidence).unwrap().unverified();
    Some(Recorded { tee, evidence, claims, collateral })
}

impl Recorded {
    async fn service(&self) -> Service {
        Service::new(Trust::default(), Arc::new(Shelf(self.collateral.clone()))).await
    }

    fn report_data(&self) -> Vec<u8> {
        hex::decode(self.claims["report_data"].as_str().unwrap()).unwrap()
    }

    /// All documents but those of one kind.
    fn without(&self, kind: &str) -> Shelf {
        let mut collateral = Collateral::none();
        for (need, document) in self.collateral.iter().filter(|(need, _)| need.kind() != kind) {
            collateral.insert(need.clone(), Arc::new(document.clone()));
        }
        Shelf(collateral)
    }
}

const DCAP: [&str; 7] = [
    "tcb_status",
    "tcb_date",
    "collateral_expiration_status",
    "earliest_issue_date",
    "latest_issue_date",
    "earliest_expiration_date",
    "root_key_id",
];

fn texts(names: &[&'static str]) -> Vec<Typed<'static>> {
    names.iter().chain(&DCAP).map(|name| (*name, Value::is_string as fn(&Value) -> bool)).collect()
}

#[tokio::test]
async fn a_td() {
    let Some(td) = recorded("tdx") else { return };
    let service = td.service().await;
    let data = td.report_data();
    let data = Some(data.as_slice());
    assert_eq!(service.code("tdx", &td.evidence, data).await, "ATTEST-MEASUREMENT-UNKNOWN");
    let names = [
        ("rtmr_1", "quote/body/rtmr_1"),
        ("rtmr_2", "quote/body/rtmr_2"),
        ("mr_td", "quote/body/mr_td"),
        ("xfam", "quote/body/xfam"),
    ];
    // Values for a guest behind Azure's vTPM, or for simulated ones, are nothing to it.
    for (name, claim) in names {
        for other in [format!("az_tdx_{name}"), format!("sim_{name}")] {
            service.register(&td.claims, &[(&other, claim)]);
        }
    }
    assert_eq!(service.code("tdx", &td.evidence, data).await, "ATTEST-MEASUREMENT-UNKNOWN");
    service.register(&td.claims, &names);
    let cpu = service.token("tdx", &td.evidence, data).await;
    // 4: known by its registers alone, as there is no event log to know the kernel by.
    assert_eq!((&cpu["ear.status"], vector_of(&cpu)), (&json!("affirming"), [4, 2, 2]));
    let mut shape = texts(&["quote/header/version", "quote/header/vendor_id", "sgx_type"]);
    for name in [
        "tcb_svn",
        "mr_seam",
        "mrsigner_seam",
        "seam_attributes",
        "mr_config_id",
        "mr_owner",
        "mr_owner_config",
        "rtmr_0",
        "rtmr_3",
        "report_data",
        "td_attributes",
    ] {
        let name: &'static str = Box::leak(format!("quote/body/{name}").into_boxed_str());
        shape.push((name, HEX));
    }
    for name in ["debug", "septve_disable", "protection_keys", "key_locker", "perfmon"] {
        let name: &'static str = Box::leak(format!("td_attributes/{name}").into_boxed_str());
        shape.push((name, Value::is_boolean));
    }
    shape.extend([
        ("advisory_ids", Value::is_array as fn(&Value) -> bool),
        ("pck_crl_num", Value::is_number),
        ("root_ca_crl_num", Value::is_number),
        ("tcb_eval_num", Value::is_number),
        ("is_smt_enabled", Value::is_boolean),
    ]);
    let said = named(&cpu, "tdx", &shape);
    assert_eq!(
        (&said["tcb_status"], &said["quote"]["header"]["tee_type"]),
        (&json!("UpToDate"), &json!("81000000"))
    );
    for (name, claim) in names {
        service.forget(name);
        let expected = match name {
            "mr_td" => "ATTEST-TCB-OUTDATED",
            "xfam" => "",
            _ => "ATTEST-MEASUREMENT-UNKNOWN",
        };
        if expected.is_empty() {
            let cpu = service.token("tdx", &td.evidence, data).await;
            assert_eq!((&cpu["ear.status"], vector_of(&cpu)[2]), (&json!("warning"), 36));
        } else {
            assert_eq!(service.code("tdx", &td.evidence, data).await, expected, "{name}");
        }
        service.register(&td.claims, &[(name, claim)]);
    }
    assert_eq!(service.code("tdx", &td.evidence, Some(&[1; 64])).await, "ATTEST-REPORT-DATA-MISMATCH");
    service.stop().await;
}

#[tokio::test]
async fn an_enclave() {
    let Some(enclave) = recorded("sgx") else { return };
    let service = enclave.service().await;
    let data = enclave.report_data();
    let data = Some(data.as_slice());
    let evidence = &enclave.evidence;
    assert_eq!(service.code("sgx", evidence, data).await, "ATTEST-MEASUREMENT-UNKNOWN");
    service
        .register(&enclave.claims, &[("sgx_mr_enclave", "body/mr_enclave"), ("sgx_isv_svn", "body/isv_svn")]);
    assert_eq!(service.code("sgx", evidence, data).await, "ATTEST-TCB-OUTDATED");
    // Its platform has known faults (ConfigurationAndSWHardeningNeeded): by the default policy no signer makes up for it.
    service.register(&enclave.claims, &[("sgx_mr_signer", "body/mr_signer")]);
    assert_eq!(service.code("sgx", evidence, data).await, "ATTEST-TCB-OUTDATED");
    // An owner who can live with that writes a policy of his own.
    let policy = "package policy\nimport rego.v1\ndefault hardware := 97\n\
                  hardware := 32 if input.sgx.tcb_status == \"ConfigurationAndSWHardeningNeeded\"\n\
                  executables := 3 if input.sgx.body.mr_enclave in query_reference_value(\"sgx_mr_enclave\")\n\
                  trust_claims := {\"executables\": executables, \"hardware\": hardware}";
    let policies = service.world.trustee.policies();
    policies.put("default_cpu", cocoon_policy::Kind::Attestation, policy, "t", "", 1).unwrap();
    let cpu = service.token("sgx", evidence, data).await;
    assert_eq!((&cpu["ear.status"], vector_of(&cpu)), (&json!("warning"), [3, 32, 0]));
    let mut shape = texts(&["header/version", "header/att_key_data_0", "header/qe_svn", "header/user_data"]);
    for name in [
        "cpu_svn",
        "misc_select",
        "attributes.flags",
        "attributes.xfrm",
        "mr_enclave",
        "mr_signer",
        "config_id",
        "isv_prod_id",
        "isv_svn",
        "config_svn",
        "isv_family_id",
        "report_data",
    ] {
        let name: &'static str = Box::leak(format!("body/{name}").into_boxed_str());
        shape.push((name, HEX));
    }
    named(&cpu, "sgx", &shape);
    assert_eq!(service.code("sgx", evidence, Some(b"Hello, World!")).await, "ATTEST-REPORT-DATA-MISMATCH");
    assert_eq!(service.code("tdx", evidence, data).await, "ATTEST-TEE-UNSUPPORTED");
    service.stop().await;
}

#[tokio::test]
async fn a_document_that_is_missing_is_named() {
    for tee in ["tdx", "sgx"] {
        let Some(recorded) = recorded(tee) else { return };
        for kind in ["intel-tcb-info", "intel-qe-identity", "intel-pck-crl", "intel-root-crl"] {
            let service = Service::new(Trust::default(), Arc::new(recorded.without(kind))).await;
            let (code, explanation) = service.refused(recorded.tee, &recorded.evidence, None).await;
            assert_eq!(code, "ATTEST-COLLATERAL-MISSING", "{tee} {kind}");
            let notes: Vec<_> =
                explanation.steps.iter().filter(|step| step.name == "collateral.fetched").collect();
            assert_eq!(notes.len(), 1, "{tee} {kind}");
            assert!(notes[0].expected.starts_with(kind), "{}", notes[0].expected);
            assert_eq!((notes[0].got.as_str(), notes[0].code), ("not on the shelf", None));
            service.stop().await;
        }
    }
}

/// Counts how often it is asked.
struct Counting(AtomicUsize);

impl CollateralSource for Counting {
    fn gather(&self, needs: &[Need], now: u64, budget: std::time::Duration) -> Gathered {
        self.0.fetch_add(1, Ordering::SeqCst);
        Shelf(Collateral::none()).gather(needs, now, budget)
    }
}

#[tokio::test]
async fn nobody_is_asked_about_a_platform_that_a_forger_made_up() {
    for tee in ["tdx", "sgx"] {
        let Some(recorded) = recorded(tee) else { return };
        let counting = Arc::new(Counting(AtomicUsize::new(0)));
        let service = Service::new(Trust::default(), counting.clone()).await;
        let mut quote = vector(&format!("{tee}/{tee}_quote")).unwrap();
        quote[100] ^= 1;
        let forged = json!({ "quote": b64::std_encode(&quote) });
        assert_eq!(service.code(tee, &forged, None).await, "ATTEST-SIGNATURE-INVALID");
        assert_eq!(counting.0.load(Ordering::SeqCst), 0, "{tee}");
        assert_eq!(service.code(tee, &recorded.evidence, None).await, "ATTEST-COLLATERAL-MISSING");
        assert_eq!(counting.0.load(Ordering::SeqCst), 1, "{tee}");
        service.stop().await;
    }
}

#[tokio::test]
async fn tds_behind_azures_vtpm_lack_only_their_collateral() {
    for version in [0, 1] {
        let Some(evidence) = json_vector(&format!("az-tdx-vtpm/evidence-v{version}.json")) else { return };
        let service = Service::new(Trust::default(), Arc::new(Shelf(Collateral::none()))).await;
        let (code, explanation) = service.refused("az-tdx-vtpm", &evidence, Some(b"challenge")).await;
        assert_eq!(code, "ATTEST-COLLATERAL-MISSING");
        let codes: Vec<_> = explanation.steps.iter().filter_map(|step| step.code).collect();
        assert!(
            codes.iter().all(|code| code.as_str() == "ATTEST-COLLATERAL-MISSING"),
            "{:#?}",
            explanation.steps
        );
        let notes = explanation.steps.iter().filter(|step| step.name == "collateral.fetched").count();
        assert_eq!(notes, 4, "v{version}");
        let refused = service.code("az-tdx-vtpm", &evidence, Some(b"other")).await;
        assert!(["ATTEST-COLLATERAL-MISSING", "ATTEST-REPORT-DATA-MISMATCH"].contains(&refused.as_str()));
        service.stop().await;
    }
}
