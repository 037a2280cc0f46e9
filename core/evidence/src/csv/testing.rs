//! Chains and reports of our own, under a simulated root with fixed keys. Nothing here comes from Hygon.

use sm2::dsa::signature::Signer as _;
use sm2::dsa::{Signature, SigningKey};

use super::certificate::{CaCertificate, ChipCertificate, usage};
use super::wire::{self, Bytes};
use super::*;

/// A key pair with the id under which it signs.
pub(crate) struct Key {
    secret: SigningKey,
    id: &'static str,
}

impl Key {
    pub fn new(seed: u8, id: &'static str) -> Self {
        Key { secret: SigningKey::from_slice(id, &[seed; 32]).unwrap(), id }
    }

    /// A signature over the message, numbers little endian in 72 bytes each.
    pub fn sign(&self, message: &[u8]) -> wire::Signature {
        let signature: Signature = self.secret.sign(message);
        wire::Signature { r: little(&signature.r_bytes()), s: little(&signature.s_bytes()) }
    }

    fn point(&self) -> wire::Point {
        let point = self.secret.verifying_key().to_sec1_bytes();
        wire::Point { g: 3, x: little(&point[1..33]), y: little(&point[33..]) }
    }

    fn id_field(&self) -> Bytes<254> {
        let mut field = [0; 254];
        field[..self.id.len()].copy_from_slice(self.id.as_bytes());
        Bytes(field)
    }

    fn id_size(&self) -> u16 {
        self.id.len().try_into().unwrap()
    }
}

fn little(big: &[u8]) -> Bytes<72> {
    let mut field = [0; 72];
    field.iter_mut().zip(big.iter().rev()).for_each(|(to, from)| *to = *from);
    Bytes(field)
}

fn key_id(name: &str) -> Bytes<16> {
    let mut field = [0; 16];
    field[..name.len()].copy_from_slice(name.as_bytes());
    Bytes(field)
}

pub(crate) fn no_signature() -> wire::Signature {
    wire::Signature { r: Bytes([0; 72]), s: Bytes([0; 72]) }
}

/// Certificate of an authority.
pub(crate) fn ca(key: &Key, usage: u32, ids: (&str, &str), issuer: &Key) -> CaCertificate {
    let data = wire::PreambleData { kid: key_id(ids.0), sid: key_id(ids.1), usage, reserved: Bytes([0; 24]) };
    let body = wire::CaBody {
        preamble: wire::Preamble { ver: 1, data },
        pubkey: key.point(),
        uid_size: key.id_size(),
        user_id: key.id_field(),
        reserved: Bytes([0; 108]),
    };
    let signature = issuer.sign(&wire::to_bytes(&body));
    CaCertificate::parse(&wire::to_bytes(&wire::Ca { body, signature, tail: Bytes([0; 112]) })).unwrap()
}

/// Certificate of a chip's key, with its issuer's signature in the first place.
pub(crate) fn chip(key: &Key, usage: u32, issuer: &Key, issuer_usage: u32) -> ChipCertificate {
    let data = wire::ChipData {
        firmware: wire::Firmware { major: 1, minor: 4 },
        reserved1: 0,
        pubkey: wire::ChipKey { usage, algo: 4, key: key.point() },
        uid_size: key.id_size(),
        user_id: key.id_field(),
        sid: Bytes([0; 16]),
        reserved2: Bytes([0; 608]),
    };
    let body = wire::ChipBody { ver: 1, data };
    let signature = issuer.sign(&wire::to_bytes(&body));
    let first = wire::Slot { usage: issuer_usage, algo: 4, signature, tail: Bytes([0; 368]) };
    let second = wire::Slot { usage: 0x1000, algo: 0, signature: no_signature(), tail: Bytes([0; 368]) };
    ChipCertificate::parse(&wire::to_bytes(&wire::Chip { body, sigs: [first, second] })).unwrap()
}

/// A machine: its keys and certificates.
pub(crate) struct Machine {
    pub hrk: Key,
    pub hsk: Key,
    pub cek: Key,
    pub pek: Key,
    pub root: CaCertificate,
    pub hsk_certificate: CaCertificate,
    pub cek_certificate: ChipCertificate,
    pub pek_certificate: ChipCertificate,
}

impl Machine {
    pub fn new() -> Self {
        let hrk = Key::new(1, "SIMULATED-HRK");
        let hsk = Key::new(2, "SIMULATED-HSK");
        let cek = Key::new(3, "SIMULATED-CEK");
        let pek = Key::new(4, "SIMULATED-PEK");
        Machine {
            root: ca(&hrk, usage::HRK, ("SIMULATED-HRK", "SIMULATED-HRK"), &hrk),
            hsk_certificate: ca(&hsk, usage::HSK, ("SIMULATED-HSK", "SIMULATED-HRK"), &hrk),
            cek_certificate: chip(&cek, usage::CEK, &hsk, usage::HSK),
            pek_certificate: chip(&pek, usage::PEK, &cek, usage::CEK),
            hrk,
            hsk,
            cek,
            pek,
        }
    }

    pub fn roots(&self) -> Roots {
        let hrk = self.root.to_bytes().to_vec();
        Roots { hygon: true, simulated: vec![SimulatedRoot { hrk }] }
    }

    /// What Hygon's service would send.
    pub fn document(&self) -> Vec<u8> {
        [self.hsk_certificate.to_bytes(), self.cek_certificate.to_bytes()].concat()
    }
}

/// Fields of a report to be made.
#[derive(Clone)]
pub(crate) struct Fields {
    pub user_pubkey_digest: [u8; 32],
    pub report_data: [u8; 64],
    pub measure: [u8; 32],
    pub policy: u32,
    pub sig_usage: u32,
    pub sig_algo: u32,
    pub rtmr_version: u16,
    pub rtmr: [[u8; 32]; 5],
}

pub(crate) const CHIP: &str = "SIM0000000001";

impl Fields {
    pub fn new() -> Self {
        let measure = [0x5a; 32];
        Fields {
            user_pubkey_digest: [0; 32],
            report_data: [0x11; 64],
            measure,
            policy: 0x0103_0045,
            sig_usage: usage::PEK,
            sig_algo: 4,
            rtmr_version: 1,
            rtmr: [measure, [1; 32], [2; 32], [3; 32], [4; 32]],
        }
    }

    fn shared(&self) -> Vec<u8> {
        let mut bytes = self.user_pubkey_digest.to_vec();
        bytes.extend_from_slice(b"vm-id-of-a-guest");
        bytes.extend_from_slice(b"version-1.2.3.45");
        bytes.extend_from_slice(&self.report_data);
        bytes.extend_from_slice(b"mnonce-16-bytes!");
        bytes.extend_from_slice(&self.measure);
        for number in [self.policy, self.sig_usage, self.sig_algo] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes
    }

    fn page(mut bytes: Vec<u8>, machine: &Machine, signed: usize) -> Vec<u8> {
        let signature = machine.pek.sign(&bytes[..signed]);
        bytes.extend(wire::to_bytes(&signature));
        bytes.extend_from_slice(machine.pek_certificate.to_bytes());
        bytes.extend_from_slice(&ChipId::new(CHIP).unwrap().to_field());
        bytes.resize(Report::SIZE, 0);
        bytes
    }

    pub fn v1(&self, machine: &Machine, mask: [u8; 4]) -> Report {
        let mut bytes = self.shared();
        bytes.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
        bytes.extend_from_slice(&mask);
        Report::parse(&[0; 16], 0, &Fields::page(bytes, machine, 0xb4)).unwrap()
    }

    pub fn v2(&self, machine: &Machine) -> Report {
        let mut bytes = self.shared();
        bytes.extend_from_slice(&2337_u32.to_le_bytes());
        bytes.extend_from_slice(&self.rtmr_version.to_le_bytes());
        bytes.extend_from_slice(&[0; 14]);
        bytes.extend_from_slice(self.rtmr.as_flattened());
        bytes.extend_from_slice(&[0; 656]);
        Report::parse(b"ATTESTATION_EXT\0", 1, &Fields::page(bytes, machine, 0x400)).unwrap()
    }
}

/// Evidence with HSK and CEK in it.
pub(crate) fn evidence(machine: &Machine, report: Report) -> Evidence {
    Evidence {
        report,
        hsk_cek: Some((machine.hsk_certificate.clone(), machine.cek_certificate.clone())),
        pek: machine.pek_certificate.clone(),
        chip_id: ChipId::new(CHIP).unwrap(),
        event_log: None,
    }
}
