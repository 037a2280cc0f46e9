//! A Hygon machine of a test's own: its keys below a simulated root, reports of guests and of accelerators. Nothing here comes
//! from Hygon.

use std::sync::Arc;

use cocoon_evidence::collateral::{Collateral, Document, Need};
use cocoon_evidence::csv::{self, CaCertificate, ChipCertificate, ChipId, SimulatedRoot};
use cocoon_evidence::{Trust, dcu};
use serde_json::Value;
use sm2::dsa::signature::Signer as _;
use sm2::dsa::{Signature, SigningKey};

use crate::platform::Shelf;

const CHIP: &str = "SIM0000000001";
const ACCELERATOR: &str = "SIMDCU0000000001";
/// What keys are for.
const HRK: u32 = 0;
const HSK: u32 = 0x13;
const PEK: u32 = 0x1002;
const CEK: u32 = 0x1004;

struct Key {
    secret: SigningKey,
    id: &'static str,
}

impl Key {
    fn new(seed: u8, id: &'static str) -> Key {
        Key { secret: SigningKey::from_slice(id, &[seed; 32]).unwrap(), id }
    }

    /// r and s, little endian in 72 bytes each.
    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let signature: Signature = self.secret.sign(message);
        [little(&signature.r_bytes()), little(&signature.s_bytes())].concat()
    }

    fn point(&self) -> Vec<u8> {
        let point = self.secret.verifying_key().to_sec1_bytes();
        [3u32.to_le_bytes().to_vec(), little(&point[1..33]), little(&point[33..])].concat()
    }

    /// Its length and the id in 254 bytes.
    fn id_field(&self) -> Vec<u8> {
        let length = u16::try_from(self.id.len()).unwrap();
        [length.to_le_bytes().to_vec(), padded(self.id.as_bytes(), 254)].concat()
    }
}

fn little(big: &[u8]) -> Vec<u8> {
    padded(&big.iter().rev().copied().collect::<Vec<_>>(), 72)
}

fn padded(bytes: &[u8], length: usize) -> Vec<u8> {
    let mut field = bytes.to_vec();
    field.resize(length, 0);
    field
}

fn numbers(numbers: &[u32]) -> Vec<u8> {
    numbers.iter().flat_map(|n| n.to_le_bytes()).collect()
}

/// Certificate of an authority, 832 bytes.
fn authority(key: &Key, usage: u32, issuer: &Key) -> Vec<u8> {
    let mut out = numbers(&[1]);
    [key.id, issuer.id].iter().for_each(|id| out.extend(padded(id.as_bytes(), 16)));
    out.extend(numbers(&[usage]));
    out.extend([0; 24]);
    out.extend([key.point(), key.id_field()].concat());
    out.extend([0; 108]);
    let signature = issuer.sign(&out);
    out.extend(signature);
    padded(&out, 832)
}

/// Certificate of a chip's own key, 2084 bytes.
fn chip(key: &Key, usage: u32, issuer: &Key, issuer_usage: u32) -> Vec<u8> {
    let mut out = numbers(&[1]);
    out.extend([1, 4, 0, 0]);
    out.extend(numbers(&[usage, 4]));
    out.extend([key.point(), key.id_field()].concat());
    out.extend([0; 16 + 608]);
    let signature = issuer.sign(&out);
    out.extend(numbers(&[issuer_usage, 4]));
    out.extend(padded(&signature, 144 + 368));
    out.extend(numbers(&[0x1000, 0]));
    padded(&out, 2084)
}

pub struct Machine {
    cek: Key,
    pek: Key,
    root: Vec<u8>,
    hsk_certificate: Vec<u8>,
    cek_certificate: Vec<u8>,
    pek_certificate: Vec<u8>,
}

impl Machine {
    pub fn new() -> Machine {
        let hrk = Key::new(1, "SIMULATED-HRK");
        let hsk = Key::new(2, "SIMULATED-HSK");
        let (cek, pek) = (Key::new(3, "SIMULATED-CEK"), Key::new(4, "SIMULATED-PEK"));
        Machine {
            root: authority(&hrk, HRK, &hrk),
            hsk_certificate: authority(&hsk, HSK, &hrk),
            cek_certificate: chip(&cek, CEK, &hsk, HSK),
            pek_certificate: chip(&pek, PEK, &cek, CEK),
            cek,
            pek,
        }
    }

    pub fn trust(&self) -> Trust {
        let simulated = vec![SimulatedRoot { hrk: self.root.clone() }];
        Trust { csv: csv::Roots { hygon: true, simulated }, ..Trust::default() }
    }

    /// The chip's certificates, as Hygon's service would send them, for both kinds of report.
    pub fn shelf(&self) -> Arc<Shelf> {
        let mut collateral = Collateral::none();
        for chip_id in [CHIP, ACCELERATOR] {
            let body = [self.hsk_certificate.clone(), self.cek_certificate.clone()].concat();
            let document = Document { body, issuer_chain: String::new() };
            collateral.insert(Need::HygonCertificates { chip_id: chip_id.to_owned() }, Arc::new(document));
        }
        Arc::new(Shelf(collateral))
    }

    /// Evidence of a guest of the third generation, booted directly: its policy, and its report data of 64 bytes.
    pub fn guest(&self, policy: u32, report_data: &[u8]) -> Value {
        let mut page = vec![0; 32];
        page.extend(b"vm-id-of-a-guest");
        page.extend(b"version-1.2.3.45");
        page.extend(padded(report_data, 64));
        page.extend(b"mnonce-16-bytes!");
        page.extend([0x5a; 32]);
        page.extend(numbers(&[policy, PEK, 4, 2337]));
        page.extend([1, 0]);
        page.extend([0; 14]);
        page.extend([0x5a; 32]);
        page.extend([0; 4 * 32 + 656]);
        assert_eq!(page.len(), 0x400);
        let signature = self.pek.sign(&page);
        page.extend(signature);
        page.extend(&self.pek_certificate);
        page.extend(ChipId::new(CHIP).unwrap().to_field());
        let page = padded(&page, csv::Report::SIZE);
        let certificate = |der: &[u8]| ChipCertificate::parse(der).unwrap();
        let hsk = CaCertificate::parse(&self.hsk_certificate).unwrap();
        csv::Evidence {
            report: csv::Report::parse(b"ATTESTATION_EXT\0", 1, &page).unwrap(),
            hsk_cek: Some((hsk, certificate(&self.cek_certificate))),
            pek: certificate(&self.pek_certificate),
            chip_id: ChipId::new(CHIP).unwrap(),
            event_log: None,
        }
        .to_json()
    }

    /// Evidence of one accelerator.
    pub fn accelerator(&self, report_data: &[u8]) -> Value {
        let mut report = numbers(&[1]);
        report.extend(padded(ACCELERATOR.as_bytes(), 16));
        report.extend(padded(report_data, 64));
        report.extend([0x77; 32]);
        report.extend([0; 128]);
        report.extend(numbers(&[CEK, 4]));
        let signature = self.cek.sign(&report);
        report.extend(signature);
        dcu::Evidence { reports: vec![dcu::Report::parse(&report).unwrap()] }.to_json()
    }
}
