//! The forms that evidence comes in: JSON, binary, text for bytes, parts in files of their own.

use cocoon_collateral::{Entry, bundle};
use cocoon_evidence::collateral::Need;
use cocoon_evidence::{Evidence, dcap};
use cocoon_protocol::b64;
use serde_json::{Value, json};

use super::hostile::{json_vector, soon, vector};
use super::support::Home;
use super::{AT, failed, vectors, verdict};

/// A TPM's key is trusted where its owner names it, in any of the forms that keys have.
#[test]
fn a_named_key_is_trusted() {
    let Some(evidence) = json_vector("tpm/tpm_evidence.json") else { return };
    let home = Home::new();
    let key = evidence["ak_public"].as_str().unwrap();
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{key}\n-----END PUBLIC KEY-----\n");
    for (name, content) in [("ak.der", b64::std_decode(key).unwrap()), ("ak.pem", pem.into_bytes())] {
        let file = home.file(name, content);
        let (verdict, status) = verdict(&home, &format!("tpm/tpm_evidence.json --trusted-ak {file}"));
        assert_eq!((status, failed(&verdict)), (Some(0), Vec::new()), "{name}");
    }
}

#[test]
fn forms_are_recognised_and_wrong_names_refused() {
    let Some(quote) = vector("tdx/tdx_quote") else { return };
    let home = Home::new();
    let hex = home.file("quote.hex", hex::encode(&quote) + "\n");
    let base64 = home.file("quote.b64", b64::std_encode(&quote));
    for (file, form) in [(&hex, "hex"), (&base64, "base64")] {
        let (verdict, _) = verdict(&home, file);
        let format = format!("tdx evidence ({form}, quote version 4, TDX 1.0 body, no event log)");
        assert_eq!(verdict["format"], format);
    }
    for tee in ["snp", "sgx", "nvidia"] {
        let stderr = home.refused("USAGE-INVALID", &["evidence", "verify", &hex, "--tee", tee]);
        assert!(stderr.contains(&format!("not {tee}")), "{stderr}");
    }
    let genoa = vectors().unwrap().join("snp/genoa-v3-evidence.json").display().to_string();
    let stderr = home.refused("USAGE-INVALID", &["evidence", "show", &genoa, "--tee", "az-snp-vtpm"]);
    assert!(
        stderr.contains("it is snp evidence (JSON, report version 3, Genoa), not az-snp-vtpm"),
        "{stderr}"
    );
    // Standard input, as a pipe gives it; and nowhere to look for documents.
    let at = format!("--at={AT}");
    let evidence = std::fs::read(&genoa).unwrap();
    let said = soon(home.command(&["evidence", "verify", "-", &at]).env_clear(), &evidence);
    assert_eq!(said.status, Some(0), "{}", said.stderr);
}

/// Evidence as attesters send it, of the parts that vectors have.
#[test]
fn parts_in_json_are_judged_alike() {
    let (Some(quote), Some(log)) = (vector("tdx/tdx_quote_4.dat"), vector("tdx/CCEL_data_ovmf")) else {
        return;
    };
    let home = Home::new();
    let value = json!({ "quote": b64::std_encode(&quote), "cc_eventlog": b64::std_encode(&log) });
    let (joined, _) = verdict(&home, &home.file("tdx.json", value.to_string()));
    assert_eq!(joined["format"], "tdx evidence (JSON, quote version 4, TDX 1.0 body, with an event log)");
    let (apart, _) = verdict(&home, "tdx/tdx_quote_4.dat --event-log tdx/CCEL_data_ovmf");
    assert_eq!(failed(&joined), failed(&apart));

    let text = |name: &str| String::from_utf8(vector(name).unwrap()).unwrap();
    let device = |report: &str, chain: &str| {
        let chain = b64::std_encode(text(chain).as_bytes());
        json!({ "arch": "HOPPER", "evidence": text(report).trim(), "certificate": chain })
    };
    let one = device("nvidia/hopperAttestationReport.txt", "nvidia/hopper_cert_chain_case1.txt");
    let two = device("nvidia/hopper_coco_report1.txt", "nvidia/hopper_coco_certs1.txt");
    let value = json!({ "device_evidence_list": [one, two] });
    let file = home.file("gpus.json", value.to_string());
    let (both, status) = verdict(&home, &file);
    assert_eq!((status, &both["verdicts"][1]["class"]), (Some(0), &json!("gpu")));
    assert_eq!(both["format"], "nvidia evidence (JSON, SPDM 1.1, 2 devices: Hopper)");
    let said = home.ok(&["evidence", "verify", &file, &format!("--at={AT}")]);
    assert!(said.contains("\n1 gpu\n") && said.contains("\n2 gpu\n"), "{said}");
    let value = json!({ "device_evidence_list": [one, one] });
    assert_eq!(verdict(&home, &home.file("twice.json", value.to_string())).1, Some(1));
}

/// Intel's documents for a quote work alike from a bundle, from a folder, and from the cache of this machine's Trustee.
#[test]
fn documents_are_found_wherever_they_are() {
    let (Some(quote), Some(all)) = (vector("tdx/tdx_quote"), json_vector("tdx/tdx_quote_collateral.json"))
    else {
        return;
    };
    let home = Home::new();
    let Evidence::Tdx(evidence) = Evidence::detect(&quote).unwrap() else { panic!() };
    let documents = dcap::quote_collateral(&all, &evidence.quote).unwrap();
    let entry = |(need, document): (&Need, _)| Entry::new(need.clone(), Clone::clone(document), "a test", AT);
    let entries: Vec<Entry> = documents.iter().map(|one| entry(one).unwrap()).collect();
    let file = home.file("bundle.json", bundle::export(&entries, AT).unwrap());

    let shown = home.json(&["evidence", "show", "--json", &file]);
    assert_eq!(
        (&shown["kind"], &shown["format"]),
        (&json!("collateral-bundle"), &json!("collateral bundle (JSON, 4 documents)"))
    );
    let tcb_info = json!({
        "document": "intel-tcb-info tdx b0c06f000000",
        "valid": "2025-06-19T10:16:03Z to 2025-07-19T10:16:03Z",
    });
    let documents = shown["contents"]["documents"].as_array().unwrap();
    assert!(
        documents.iter().any(|d| d["document"] == tcb_info["document"] && d["valid"] == tcb_info["valid"])
    );

    let (by_file, status) = verdict(&home, &format!("tdx/tdx_quote --at=2025-06-25 --collateral {file}"));
    assert_eq!((status, failed(&by_file), &by_file["collateral_missing"]), (Some(0), Vec::new(), &json!([])));
    assert_eq!(verdict(&home, "tdx/tdx_quote --at=2025-06-25").1, Some(1));
    let folder = home.path("folder").display().to_string();
    home.ok(&["collateral", "import", &file, "--dir", &folder]);
    assert_eq!(verdict(&home, &format!("tdx/tdx_quote --at=2025-06-25 --collateral {folder}")).0, by_file);
    home.ok(&["collateral", "import", &file]);
    assert_eq!(verdict(&home, "tdx/tdx_quote --at=2025-06-25").0, by_file);
    // Whoever names places wants no other.
    let empty = home.file("empty.json", bundle::export(&[], AT).unwrap());
    let (nothing, status) = verdict(&home, &format!("tdx/tdx_quote --at=2025-06-25 --collateral {empty}"));
    assert_eq!((status, nothing["collateral_missing"].as_array().map(Vec::len)), (Some(1), Some(4)));
}

#[test]
fn revocation_lists_are_shown() {
    let home = Home::new();
    let key = rcgen::KeyPair::generate().unwrap();
    let list = rcgen::CertificateRevocationListParams {
        this_update: rcgen::date_time_ymd(2026, 1, 1),
        next_update: rcgen::date_time_ymd(2027, 1, 1),
        crl_number: 7u64.into(),
        issuing_distribution_point: None,
        revoked_certs: Vec::new(),
        key_identifier_method: rcgen::KeyIdMethod::Sha256,
    };
    let list = list.signed_by(&rcgen::Issuer::new(rcgen::CertificateParams::default(), key)).unwrap();
    for (form, content) in [("DER", list.der().to_vec()), ("PEM", list.pem().unwrap().into_bytes())] {
        let shown: Value = home.json(&["evidence", "show", "--json", &home.file("list", content)]);
        let format = format!("revocation list ({form}, 2026-01-01T00:00:00Z to 2027-01-01T00:00:00Z)");
        assert_eq!((&shown["kind"], &shown["format"]), (&json!("revocation-list"), &json!(format)));
        assert_eq!(shown["contents"]["number"], 7);
    }
}
