//! Each vendor's own way, and folders and files that other tools fill.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::path::PathBuf;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cocoon_collateral::{Endpoint, IntelPcs, Provider, Service, Sources, Update, bundle};
use cocoon_evidence::collateral::{IntelTee, Need, PckCa};
use serde_json::{Value, json};
use support::{
    DAY, Hands, IDENTITY, JUNE, Reply, Server, body, chain, chip, config, crl, encoded, folder, identity,
    one, service, tcb_info, vcek,
};

const FMSPC: &str = "00a06d080000";

fn tcb_need() -> Need {
    Need::IntelTcbInfo { tee: IntelTee::Tdx, fmspc: FMSPC.into() }
}

#[tokio::test]
async fn every_vendor_is_asked_its_own_way() {
    let list = crl();
    let hex_list = hex::encode(&list);
    let answers = list.clone();
    let server = Server::start(move |path| {
        let chained = |field: &'static str, body: Vec<u8>| Reply::Ok(vec![(field, encoded(&chain()))], body);
        match path.split('?').next().unwrap() {
            "/vcek/v1/Milan/crl" => Reply::Ok(vec![], answers.clone()),
            "/tdx/certification/v4/tcb" => {
                chained("TCB-Info-Issuer-Chain", tcb_info(FMSPC, JUNE, JUNE + 30 * DAY))
            }
            "/tdx/certification/v4/qe/identity" => {
                chained("SGX-Enclave-Identity-Issuer-Chain", identity(JUNE, JUNE + 30 * DAY, ""))
            }
            "/sgx/certification/v4/pckcrl" => {
                chained("SGX-PCK-CRL-Issuer-Chain", hex_list.clone().into_bytes())
            }
            "/sgx/certification/v4/rootcacrl" => Reply::Ok(vec![], hex_list.clone().into_bytes()),
            "/v1/rim/NV_GPU_X_1.2" => {
                let rim = STANDARD.encode("<?xml?><SoftwareIdentity/>");
                Reply::Ok(vec![], json!({"id": "NV_GPU_X_1.2", "rim": rim}).to_string().into_bytes())
            }
            "/hsk_cek" => Reply::Ok(vec![], vec![1; 2916]),
            path if path.starts_with("/vcek/v1/Milan/") => Reply::Ok(vec![], vcek(&chip(1))),
            _ => Reply::Status(404, vec![]),
        }
    })
    .await;
    let needs = [
        chip(1),
        Need::AmdCrl { product: "Milan".into(), vlek: false },
        tcb_need(),
        IDENTITY,
        Need::IntelPckCrl { ca: PckCa::Platform },
        Need::IntelRootCrl,
        Need::NvidiaRim { id: "NV_GPU_X_1.2".into() },
        Need::HygonCertificates { chip_id: "TX1".into() },
    ];
    let service = service(&server, None, &Hands::at(JUNE + 5));
    let gathered = service.gather(&needs, Duration::from_secs(5)).await;
    for need in &needs {
        assert!(gathered.collateral.get(need).is_some(), "{need}: {:?}", gathered.notes);
    }
    let document = gathered.collateral.get(&Need::IntelPckCrl { ca: PckCa::Platform }).unwrap();
    assert_eq!(document.body, list, "DER, however it came");
    assert_eq!(document.issuer_chain, chain());
    assert_eq!(gathered.collateral.get(&Need::IntelRootCrl).unwrap().body, list);
    let hits = server.hits();
    for expected in [
        "/tdx/certification/v4/tcb?fmspc=00A06D080000&update=standard",
        "/sgx/certification/v4/pckcrl?ca=platform&encoding=der",
        "/sgx/certification/v4/rootcacrl",
        "/hsk_cek?snumber=TX1",
    ] {
        assert!(hits.iter().any(|hit| hit == expected), "{expected}: {hits:?}");
    }
}

#[tokio::test]
async fn a_pccs_is_believed_by_its_own_certificate_only() {
    let (server, certificate) =
        Server::start_tls(|_| support::identity_reply(identity(JUNE, JUNE + 30 * DAY, "pccs"))).await;
    let fetch = async |roots: Option<String>| {
        let endpoint = Endpoint { url: format!("{}/sgx/certification/v4/", server.url), roots };
        IntelPcs::new(&endpoint, Update::Early, support::times()).unwrap().fetch(&IDENTITY).await
    };
    for stranger in [None, Some(chain())] {
        let error = fetch(stranger).await.unwrap_err().to_string();
        assert!(error.contains("is not trusted"), "{error}");
    }
    assert!(server.hits().is_empty());
    assert_eq!(fetch(Some(certificate)).await.unwrap().body, identity(JUNE, JUNE + 30 * DAY, "pccs"));
    assert_eq!(server.hits(), ["/tdx/certification/v4/qe/identity?update=early"]);
}

fn intel_file() -> Value {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let object = |bytes: Vec<u8>| serde_json::from_slice::<Value>(&bytes).unwrap();
    json!({
        "platforms": [],
        "collaterals": {
            "version": 4,
            "tcbinfos": [{
                "fmspc": FMSPC.to_ascii_uppercase(),
                "tdx_tcbinfo": object(tcb_info(FMSPC, JUNE - 2, JUNE + 30 * DAY)),
                "tdx_tcbinfo_early": object(tcb_info(FMSPC, JUNE - 1, JUNE + 30 * DAY)),
            }],
            "qeidentity": "",
            "tdqeidentity": text(identity(JUNE, JUNE + 30 * DAY, "file")),
            "pckcacrl": {"processorCrl": hex::encode(crl()), "platformCrl": hex::encode(crl())},
            "certificates": {
                "SGX-PCK-Certificate-Issuer-Chain": {"PLATFORM": encoded(&chain())},
                "TCB-Info-Issuer-Chain": encoded(&chain()),
                "sgx-enclave-identity-issuer-chain": encoded(&chain()),
            },
            "rootcacrl": hex::encode(crl()),
        }
    })
}

#[tokio::test]
async fn an_offline_folder_serves_what_other_tools_put_there() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str, bytes: Vec<u8>| {
        let path: PathBuf = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    };
    let id = |number: u8| hex::encode([vec![7; 63], vec![number]].concat());
    at(&format!("vcek/{}/bl03_tee00_snp08_ucode115_vcek.der", id(1)), vcek(&chip(1)));
    at(&format!("vcek/{}/vcek.der", id(2)), vcek(&chip(2)));
    at(&format!("vcek/{}/vcek.der", id(3)), vcek(&chip(4)));
    at("hsk_cek/TX1/hsk_cek.cert", vec![1; 2916]);
    at("platform_collaterals.json", serde_json::to_vec_pretty(&intel_file()).unwrap());
    let sources = Sources::offline(dir.path(), Update::Early);
    let hands = Hands::at(JUNE + 5);
    let service = Service::new(config(None, sources, &hands));
    let present = [
        chip(1),
        chip(2),
        Need::HygonCertificates { chip_id: "TX1".into() },
        tcb_need(),
        IDENTITY,
        Need::IntelPckCrl { ca: PckCa::Platform },
        Need::IntelRootCrl,
    ];
    let gathered = service.gather(&present, Duration::from_secs(5)).await;
    for need in &present {
        assert!(gathered.collateral.get(need).is_some(), "{need}: {:?}", gathered.notes);
    }
    assert_eq!(
        body(&gathered, &tcb_need()),
        Some(tcb_info(FMSPC, JUNE - 1, JUNE + 30 * DAY)),
        "the early view, in the form that Intel signs"
    );
    for absent in [
        chip(3),
        Need::AmdCrl { product: "Milan".into(), vlek: false },
        Need::IntelQeIdentity { tee: IntelTee::Sgx },
        Need::NvidiaRim { id: "NV_GPU_X".into() },
    ] {
        let gathered = one(&service, &absent).await;
        assert!(body(&gathered, &absent).is_none(), "{absent}");
        assert!(gathered.notes[0].reason.is_some());
    }
    std::fs::write(dir.path().join("platform_collaterals.json"), "{").unwrap();
    let fresh = Service::new(config(None, Sources::offline(dir.path(), Update::Early), &hands));
    assert!(body(&one(&fresh, &IDENTITY).await, &IDENTITY).is_none());
}

#[test]
fn intels_file_is_imported() {
    let dir = tempfile::tempdir().unwrap();
    let folder = folder(dir.path());
    let bytes = intel_file().to_string().into_bytes();
    let imported = bundle::import_intel(&bytes, Update::Standard, &folder, JUNE + 5).unwrap();
    assert_eq!((imported.stored.len(), imported.refused.len()), (5, 0), "{imported:?}");
    assert_eq!(folder.read(&tcb_need()).unwrap().document.body, tcb_info(FMSPC, JUNE - 2, JUNE + 30 * DAY));
    let change = |path: &str, value: Value| {
        let mut file = intel_file();
        *file.pointer_mut(path).unwrap() = value;
        bundle::read_intel(file.to_string().as_bytes(), Update::Early, JUNE + 5)
    };
    for (path, value) in [
        ("/collaterals", json!([])),
        ("/collaterals/tcbinfos/0/fmspc", json!("../../x")),
        ("/collaterals/tcbinfos/0/tdx_tcbinfo_early", json!(7)),
        ("/collaterals/tdqeidentity", json!([1])),
        ("/collaterals/certificates/TCB-Info-Issuer-Chain", json!("%zz")),
    ] {
        assert!(change(path, value).is_err(), "{path}");
    }
    assert_eq!(change("/collaterals/rootcacrl", json!("3zz")).unwrap().refused.len(), 1);
    assert_eq!(change("/collaterals/tdqeidentity", json!("{}")).unwrap().refused.len(), 1);
}
