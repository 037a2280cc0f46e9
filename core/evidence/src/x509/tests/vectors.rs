//! Real certificates and lists of AMD, Intel and NVIDIA.

use std::path::PathBuf;

use serde_json::Value;

use super::*;
use crate::testing::vector;
use crate::x509::{Crl, path};

/// The PEM text within other bytes, from the first beginning to the last end.
fn pem_within(bytes: &[u8]) -> Vec<u8> {
    let text: String = bytes.iter().map(|b| char::from(*b)).collect();
    let start = text.find("-----BEGIN CERTIFICATE-----").unwrap();
    let end = text.rfind("-----END CERTIFICATE-----").unwrap() + 25;
    text[start..end].replace("\\n", "\n").into_bytes()
}

/// Leaf first, root last: the root is taken from the chain itself, so only the links are tried.
fn linked(chain: &[Certificate]) -> bool {
    let (leaf, rest) = chain.split_first().unwrap();
    let (root, pool) = rest.split_last().unwrap();
    path(leaf, pool, std::slice::from_ref(root)).is_ok_and(|path| path.certificates.len() == chain.len())
}

#[test]
fn amds_intermediates_lead_to_amds_roots() {
    let names = ["genoa", "milan", "turin"];
    let read = |name: &str| {
        let file =
            PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/src/snp/roots")).join(format!("{name}.pem"));
        Certificate::parse(&std::fs::read(file).unwrap()).unwrap()
    };
    for name in names {
        let ark = read(&format!("{name}-ark"));
        assert!(ark.is_issued_by(&ark) && ark.is_authority() && ark.names_itself());
        for kind in ["ask", "asvk"] {
            let intermediate = read(&format!("{name}-{kind}"));
            let found = path(&intermediate, &[], std::slice::from_ref(&ark)).unwrap();
            assert_eq!(found.certificates.len(), 2);
            assert!(found.expired(NOW).is_none());
            // The signature covers every byte of the signed part.
            for at in (8..intermediate.der().len() - 520).step_by(97) {
                let mut der = intermediate.der().to_vec();
                der[at] ^= 4;
                assert!(Certificate::parse(&der).map_or(true, |c| !c.is_issued_by(&ark)), "byte {at}");
            }
            for other in names.iter().filter(|other| **other != name) {
                assert!(path(&intermediate, &[], &[read(&format!("{other}-ark"))]).is_err());
            }
        }
    }
}

#[test]
fn amds_leaves_lead_to_amds_roots() {
    let Some(text) = vector("az-snp-vtpm/vcek.pem") else { return };
    let chain = Certificate::parse_chain(&text).unwrap();
    assert_eq!(chain.len(), 3);
    assert!(linked(&chain));
    let Some(der) = vector("snp/test-vcek.der") else { return };
    let leaf = Certificate::parse(&der).unwrap();
    assert!(leaf.is_issued_by(&chain[1]) && !leaf.is_issued_by(&chain[2]) && !leaf.is_authority());
}

#[test]
fn intels_pck_chains_lead_to_intels_root() {
    for (file, whole) in [
        ("tdx/tdx_quote", true),
        ("tdx/tdx_quote_4.dat", true),
        ("tdx/tdx_quote_5.dat", true),
        ("az-tdx-vtpm/td-quote.bin", true),
        ("sgx/sgx_quote", true),
        ("sgx/occlum_quote.dat", true),
    ] {
        let Some(bytes) = vector(file) else { return };
        let chain = Certificate::parse_chain(&pem_within(&bytes)).unwrap();
        assert_eq!(chain.len(), 3, "{file}");
        assert_eq!(linked(&chain), whole, "{file}");
        let subjects: Vec<String> = chain.iter().map(Certificate::subject).collect();
        assert_eq!(subjects[0], "Intel SGX PCK Certificate");
        assert!(subjects[1].starts_with("Intel SGX PCK P"), "{subjects:?}");
        assert_eq!(subjects[2], "Intel SGX Root CA");
    }
}

#[test]
fn intels_lists_and_signing_chains_verify() {
    for file in ["tdx/tdx_quote_collateral.json", "sgx/sgx_quote_collateral.json"] {
        let Some(bytes) = vector(file) else { return };
        let value: Value = serde_json::from_slice(&bytes).unwrap();
        let text = |member: &str| value[member].as_str().unwrap().as_bytes().to_vec();
        let chain = |member: &str| Certificate::parse_chain(&text(member)).unwrap();
        let issuers = chain("pck_crl_issuer_chain");
        let root = issuers.last().unwrap();
        for member in ["tcb_info_issuer_chain", "qe_identity_issuer_chain", "pck_crl_issuer_chain"] {
            assert!(linked(&chain(member)), "{file} {member}");
        }
        let (of_root, of_pck) =
            (Crl::parse(&text("root_ca_crl")).unwrap(), Crl::parse(&text("pck_crl")).unwrap());
        assert!(of_root.is_signed_by(root) && !of_root.is_signed_by(&issuers[0]));
        assert!(of_pck.is_signed_by(&issuers[0]) && !of_pck.is_signed_by(root));
        assert!(of_root.number().is_some() && of_pck.number().is_some());
        assert!(!of_root.revokes(&issuers[0]));
        let mut altered = hex::decode(text("pck_crl")).unwrap();
        let middle = altered.len() / 2;
        altered[middle] ^= 1;
        assert!(Crl::parse(&altered).map_or(true, |crl| !crl.is_signed_by(&issuers[0])));
    }
}

#[test]
fn nvidias_chains_are_linked() {
    for file in ["nvidia/hopper_cert_chain_case1.txt", "nvidia/hopper_coco_certs1.txt"] {
        let Some(bytes) = vector(file) else { return };
        let chain = Certificate::parse_chain(&pem_within(&bytes)).unwrap();
        assert_eq!(chain.len(), 5, "{file}");
        assert!(linked(&chain), "{file}");
        // Wrong order or a gap is no chain to the same root.
        let (leaf, root) = (&chain[0], &chain[4..]);
        assert!(path(leaf, &chain[2..4], root).is_err());
        let reversed: Vec<Certificate> = chain[1..4].iter().rev().cloned().collect();
        assert!(path(leaf, &reversed, root).is_ok(), "order does not matter, links do");
    }
    for file in ["case2", "case3", "case4"] {
        let Some(bytes) = vector(&format!("nvidia/hopper_cert_chain_{file}.txt")) else { return };
        assert!(Certificate::parse_chain(&pem_within(&bytes)).is_ok(), "{file}");
    }
}
