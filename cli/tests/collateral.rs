//! Collateral fetched on one machine and carried to another.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;

use serde_json::json;
use support::Home;

/// A KDS that has one revocation list and nothing else; one request per connection.
fn kds(list: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        while let Ok((mut tcp, _)) = listener.accept() {
            let mut lines = BufReader::new(tcp.try_clone().unwrap()).lines();
            let path = lines.next().unwrap().unwrap();
            while lines.next().is_some_and(|line| !line.unwrap().is_empty()) {}
            let (status, body) =
                if path.contains("/Genoa/crl ") { (200, list.as_slice()) } else { (404, &b""[..]) };
            let head =
                format!("HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
            let _ = tcp.write_all(head.as_bytes()).and_then(|()| tcp.write_all(body));
        }
    });
    url
}

fn list() -> Vec<u8> {
    let key = rcgen::KeyPair::generate().unwrap();
    let issuer = rcgen::Issuer::new(rcgen::CertificateParams::default(), key);
    let list = rcgen::CertificateRevocationListParams {
        this_update: rcgen::date_time_ymd(2026, 1, 1),
        next_update: rcgen::date_time_ymd(2099, 1, 1),
        crl_number: 1u64.into(),
        issuing_distribution_point: None,
        revoked_certs: Vec::new(),
        key_identifier_method: rcgen::KeyIdMethod::Sha256,
    };
    list.signed_by(&issuer).unwrap().der().to_vec()
}

#[test]
fn collateral_crosses_an_air_gap() {
    let url = kds(list());
    let (connected, alone) = (Home::new(), Home::new());
    assert_eq!(connected.json(&["collateral", "status", "--json"]), json!([]));
    let said = connected.ok(&["collateral", "fetch", "--amd-product", "Genoa", "--amd-url", &url]);
    assert!(said.starts_with("ok       amd-crl Genoa vcek"), "{said}");
    let chip = "7".repeat(128);
    let fetch = ["collateral", "fetch", "--amd-url", &url, "--amd-product", "Genoa", "--chip-id", &chip];
    let said = connected.refused("ATTEST-COLLATERAL-MISSING", &[&fetch[..], &["--tcb", "1.0.2.3"]].concat());
    assert!(said.contains("1 documents could not be fetched"), "{said}");

    let bundle = connected.path("bundle.json").display().to_string();
    connected.ok(&["collateral", "export", &bundle]);
    let imported = alone.json(&["collateral", "import", &bundle, "--json"]);
    assert_eq!(
        imported,
        json!({"stored": ["amd-crl Genoa vcek", "amd-crl Genoa vlek"], "kept": [], "refused": []})
    );
    let status = alone.json(&["collateral", "status", "--json"]);
    assert_eq!(status[0]["need"], json!({"kind": "amd-crl", "product": "Genoa", "vlek": false}));
    assert_eq!(status[0]["state"], "fresh");
    assert!(alone.ok(&["collateral", "status"]).contains("until 2099-01-01T00:00:00Z"));

    let damaged = std::fs::read_to_string(&bundle).unwrap().replace("\"sha256\":\"", "\"sha256\":\"00");
    let damaged = alone.file("damaged.json", damaged);
    let other = alone.path("other").display().to_string();
    let said =
        alone.refused("ATTEST-COLLATERAL-INVALID", &["collateral", "import", &damaged, "--dir", &other]);
    assert!(said.contains("it is damaged"), "{said}");
    assert_eq!(alone.json(&["collateral", "status", "--json", "--dir", &other]), json!([]));
    let nothing = alone.file("nothing.json", "{}");
    alone.refused("ATTEST-COLLATERAL-INVALID", &["collateral", "import", &nothing]);
}

#[test]
fn what_cannot_be_is_not_fetched() {
    let home = Home::new();
    for args in [
        &["collateral", "fetch"][..],
        &["collateral", "fetch", "--amd-product", "Rome"],
        &["collateral", "fetch", "--fmspc", "../x"],
        &["collateral", "fetch", "--rim", "../x"],
        &["collateral", "fetch", "--hygon-chip", "a&b"],
        &["collateral", "fetch", "--amd-product", "Genoa", "--chip-id", "00", "--tcb", "1.2.3.4"],
    ] {
        home.refused("USAGE-INVALID", args);
    }
    let plain = ["collateral", "fetch", "--amd-product", "Genoa", "--amd-url", "http://kds.example"];
    home.refused("CONFIG-INVALID", &plain);
}
