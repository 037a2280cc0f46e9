use std::path::PathBuf;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::snp::{Report, Tcb};
use crate::x509::Certificate;

/// A vector's bytes; `None` (and a word about it) where the vectors are not at hand.
fn vector(name: &str) -> Option<Vec<u8>> {
    let folder = std::env::var_os("COCOON_VECTORS").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/vectors")),
        PathBuf::from,
    );
    let read = std::fs::read(folder.join(name)).ok();
    if read.is_none() {
        println!("skipped: no vector {name}");
    }
    read
}

fn body(bytes: impl Into<Vec<u8>>) -> Document {
    Document { body: bytes.into(), issuer_chain: String::new() }
}

fn vcek(product: &str, chip_id: String, fmc: Option<u8>) -> Need {
    let tcb = Tcb { fmc, bootloader: 3, tee: 0, snp: 8, microcode: 115 };
    Need::AmdVcek { product: product.into(), chip_id, tcb }
}

#[test]
fn what_is_not_a_vendors_name_goes_nowhere() {
    let good = [
        vcek("Milan", "0a".repeat(64), None),
        vcek("Turin", "0a".repeat(8), Some(1)),
        Need::AmdCrl { product: "Genoa".into(), vlek: false },
        Need::IntelTcbInfo { tee: IntelTee::Tdx, fmspc: "00a06d080000".into() },
        Need::NvidiaRim { id: "NV_GPU_DRIVER_GH100_535.86.09".into() },
        Need::HygonCertificates { chip_id: "NZAB1C2D".into() },
    ];
    for need in good {
        assert_eq!(need.check(), Ok(()), "{need:?}");
    }
    let tcb_info = |fmspc: &str| Need::IntelTcbInfo { tee: IntelTee::Sgx, fmspc: fmspc.into() };
    let rim = |id: &str| Need::NvidiaRim { id: id.into() };
    let hygon = |id: &str| Need::HygonCertificates { chip_id: id.into() };
    let bad = [
        vcek("Milan/../x", "0a".repeat(64), None),
        vcek("milan", "0a".repeat(64), None),
        vcek("Milan", "0A".repeat(64), None),
        vcek("Milan", "0a".repeat(63), None),
        vcek("Milan", "00".repeat(64), None),
        vcek("Milan", "0a".repeat(64), Some(1)),
        vcek("Turin", "0a".repeat(64), Some(1)),
        vcek("Turin", "0a".repeat(8), None),
        vcek("Milan", format!("{}?x", "0a".repeat(63)), None),
        Need::AmdCrl { product: String::new(), vlek: true },
        tcb_info("00A06D080000"),
        tcb_info("00a06d08000"),
        tcb_info("00a06d08000&"),
        rim("ids"),
        rim("NV/../ids"),
        rim("NV_..A"),
        rim("../../etc"),
        rim("NV%2e%2e"),
        rim("NV_GPU?x=1"),
        rim("NV GPU"),
        rim(&format!("N{}", "V".repeat(128))),
        hygon(""),
        hygon("A&b=c"),
        hygon("A\0"),
        hygon("é"),
        hygon(&"A".repeat(65)),
    ];
    for need in bad {
        assert!(need.check().is_err(), "{need:?}");
    }
}

#[test]
fn a_vcek_is_taken_for_its_chip_and_levels_only() {
    let (Some(report), Some(der)) = (vector("snp/test-report.bin"), vector("snp/test-vcek.der")) else {
        return;
    };
    let report = Report::parse(&report).unwrap();
    let need = |change: fn(&mut String, &mut Tcb)| {
        let mut chip_id = hex::encode(report.chip_id);
        let mut tcb = report.reported_tcb;
        change(&mut chip_id, &mut tcb);
        Need::AmdVcek { product: "Milan".into(), chip_id, tcb }
    };
    let validity = freshness(&need(|_, _| ()), &body(der.clone())).unwrap().unwrap();
    assert_eq!(validity, Certificate::parse(&der).unwrap().validity());
    let others: [fn(&mut String, &mut Tcb); 5] = [
        |chip, _| *chip = "ab".repeat(64),
        |_, tcb| tcb.bootloader ^= 1,
        |_, tcb| tcb.tee ^= 1,
        |_, tcb| tcb.snp ^= 1,
        |_, tcb| tcb.microcode ^= 1,
    ];
    for other in others {
        assert!(freshness(&need(other), &body(der.clone())).is_err());
    }
    assert!(freshness(&need(|_, _| ()), &body("<html>")).is_err());
    for length in 0..der.len() {
        assert!(freshness(&need(|_, _| ()), &body(&der[..length])).is_err(), "{length}");
    }
}

#[test]
fn intels_documents_say_how_long_they_hold() {
    for (name, tee, ca) in [
        ("tdx/tdx_quote_collateral.json", IntelTee::Tdx, PckCa::Platform),
        ("sgx/sgx_quote_collateral.json", IntelTee::Sgx, PckCa::Processor),
    ] {
        let Some(file) = vector(name) else { return };
        let file: Value = serde_json::from_slice(&file).unwrap();
        let text = |name: &str| file[name].as_str().unwrap().to_owned();
        let signed = |member: &str, name: &str| {
            format!(r#"{{"{member}":{},"signature":"{}"}}"#, text(name), text(&format!("{name}_signature")))
        };
        let tcb_info = Document {
            body: signed("tcbInfo", "tcb_info").into_bytes(),
            issuer_chain: text("tcb_info_issuer_chain"),
        };
        let inner: Value = serde_json::from_str(&text("tcb_info")).unwrap();
        let fmspc = inner["fmspc"].as_str().unwrap().to_lowercase();
        let need = Need::IntelTcbInfo { tee, fmspc };
        let validity = freshness(&need, &tcb_info).unwrap().unwrap();
        assert_eq!(Some(validity.not_before), from_rfc3339(inner["issueDate"].as_str().unwrap()));
        assert_eq!(Some(validity.not_after), from_rfc3339(inner["nextUpdate"].as_str().unwrap()));

        let identity = body(signed("enclaveIdentity", "qe_identity"));
        assert!(freshness(&Need::IntelQeIdentity { tee }, &identity).unwrap().is_some());
        let other = if tee == IntelTee::Sgx { IntelTee::Tdx } else { IntelTee::Sgx };
        assert!(freshness(&Need::IntelQeIdentity { tee: other }, &identity).is_err());
        let elsewhere = Need::IntelTcbInfo { tee, fmspc: "000000000000".into() };
        assert!(freshness(&elsewhere, &tcb_info).is_err());
        assert!(freshness(&need, &Document { issuer_chain: "none".into(), ..tcb_info }).is_err());

        for (need, name) in [(Need::IntelPckCrl { ca }, "pck_crl"), (Need::IntelRootCrl, "root_ca_crl")] {
            for crl in [text(name).into_bytes(), hex::decode(text(name)).unwrap()] {
                assert!(freshness(&need, &body(crl)).unwrap().unwrap().not_after > 1_700_000_000);
            }
        }
    }
}

#[test]
fn a_chain_that_ends_earlier_ends_the_document() {
    let Some(file) = vector("tdx/tdx_quote_collateral.json") else { return };
    let file: Value = serde_json::from_slice(&file).unwrap();
    let chain = file["tcb_info_issuer_chain"].as_str().unwrap();
    let ends =
        Certificate::parse_chain(chain.as_bytes()).unwrap().iter().map(|c| c.validity().not_after).min();
    let dates =
        json!({"id": "TD_QE", "issueDate": "2025-01-01T00:00:00Z", "nextUpdate": "9999-01-01T00:00:00Z"});
    let document = Document {
        body: json!({ "enclaveIdentity": dates }).to_string().into_bytes(),
        issuer_chain: chain.into(),
    };
    let validity = freshness(&Need::IntelQeIdentity { tee: IntelTee::Tdx }, &document).unwrap();
    assert_eq!(validity.map(|v| v.not_after), ends);
}

#[test]
fn documents_without_dates_are_told_from_error_pages() {
    let rim = Need::NvidiaRim { id: "NV_GPU_DRIVER_GH100_535.86.09".into() };
    assert_eq!(freshness(&rim, &body("\u{feff}<?xml?><SoftwareIdentity/>")), Ok(None));
    let hygon = Need::HygonCertificates { chip_id: "A1".into() };
    assert_eq!(freshness(&hygon, &body(vec![7; 2916])), Ok(None));
    for page in ["", "<html></html>", "not found"] {
        assert!(freshness(&rim, &body(page)).is_err());
        assert!(freshness(&hygon, &body(page)).is_err());
    }
    assert!(freshness(&rim, &body(vec![b'<'; rim.max_body() + 1])).is_err());
}

#[test]
fn times_are_read_in_one_form() {
    assert_eq!(from_rfc3339("1970-01-01T00:00:00Z"), Some(0));
    assert_eq!(from_rfc3339("2000-02-29T00:00:00Z"), Some(951_782_400));
    assert_eq!(from_rfc3339("9999-12-31T23:59:59Z"), Some(253_402_300_799));
    for bad in [
        "2001-02-29T00:00:00Z",
        "2000-13-01T00:00:00Z",
        "2000-00-01T00:00:00Z",
        "2000-01-01T24:00:00Z",
        "2000-01-01T00:00:00",
        "2000-01-01 00:00:00Z",
        "2000-01-01T00:00:00+01:00",
        "+200-01-01T00:00:00Z",
        "1969-12-31T23:59:59Z",
        "2000-01-01-01T00:00:00Z",
        "",
    ] {
        assert_eq!(from_rfc3339(bad), None, "{bad}");
    }
}

#[test]
fn needs_keep_their_json_form() {
    for (need, expected) in [
        (Need::IntelRootCrl, json!({"kind": "intel-root-crl"})),
        (Need::IntelPckCrl { ca: PckCa::Platform }, json!({"kind": "intel-pck-crl", "ca": "platform"})),
    ] {
        assert_eq!(serde_json::to_value(&need).unwrap(), expected);
        assert_eq!(need.kind(), expected["kind"]);
    }
}

proptest! {
    #[test]
    fn nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..400), chain in ".{0,80}", text in ".{0,40}") {
        let _ = from_rfc3339(&text);
        let document = Document { body: bytes, issuer_chain: chain };
        for need in [
            vcek("Milan", "0a".repeat(64), None),
            Need::IntelTcbInfo { tee: IntelTee::Tdx, fmspc: "00a06d080000".into() },
            Need::IntelQeIdentity { tee: IntelTee::Tdx },
            Need::IntelRootCrl,
            Need::NvidiaRim { id: text.clone() },
            Need::HygonCertificates { chip_id: text.clone() },
        ] {
            let _ = need.check();
            let _ = need.to_string();
            let _ = freshness(&need, &document);
        }
    }
}
