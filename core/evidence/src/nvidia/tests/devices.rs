//! Devices of our own: chains and reports with test keys, in the forms of real ones.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P384_SHA384, date_time_ymd,
};

use super::*;
use crate::x509::Certificate;

pub const FWID: [u8; 48] = [0x5f; 48];

/// An authority that can issue.
pub struct Authority {
    pub der: Vec<u8>,
    issuer: Issuer<'static, KeyPair>,
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2040, 1, 1));
    params
}

fn key() -> KeyPair {
    KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap()
}

impl Authority {
    pub fn root(name: &str) -> Self {
        Authority::new(name, None)
    }

    pub fn below(&self, name: &str) -> Self {
        Authority::new(name, Some(self))
    }

    fn new(name: &str, above: Option<&Authority>) -> Self {
        let mut params = params(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = key();
        let certificate = match above {
            None => params.self_signed(&key),
            Some(above) => params.signed_by(&key, &above.issuer),
        };
        Authority { der: certificate.unwrap().der().to_vec(), issuer: Issuer::new(params, key) }
    }

    /// A certificate that is no authority, and its key (PKCS #8).
    pub fn leaf(&self, name: &str, extension: Option<Vec<u8>>) -> (Vec<u8>, Vec<u8>) {
        let mut params = params(name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        if let Some(content) = extension {
            let extension = CustomExtension::from_oid_content(&[2, 23, 133, 5, 4, 1], content);
            params.custom_extensions.push(extension);
        }
        let key = key();
        let der = params.signed_by(&key, &self.issuer).unwrap().der().to_vec();
        (der, key.serialize_der())
    }

    pub fn certificate(&self) -> Certificate {
        Certificate::parse(&self.der).unwrap()
    }
}

pub fn sign(pkcs8: &[u8], message: &[u8]) -> Vec<u8> {
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, pkcs8).unwrap();
    pair.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec()
}

fn length(bytes: &[u8]) -> u16 {
    u16::try_from(bytes.len()).unwrap()
}

pub fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let [high, low] = u16::try_from(content.len()).unwrap().to_be_bytes();
    let head = match (high, low) {
        (0, 0..=127) => vec![tag, low],
        (0, _) => vec![tag, 0x81, low],
        _ => vec![tag, 0x82, high, low],
    };
    [head, content.to_vec()].concat()
}

pub fn fwid_der(fwid: &[u8]) -> Vec<u8> {
    let sha384 = tlv(6, &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02]);
    tlv(0x30, &[sha384, tlv(4, fwid)].concat())
}

/// Hopper's form of the leaf's extension.
pub fn composite(device: &Certificate, fwid: &[u8]) -> Vec<u8> {
    tlv(0x30, &[tlv(2, &[1]), device.spki(), fwid_der(fwid)].concat())
}

/// Blackwell's: vendor, model, version, svn, layer, index, two FWIDs, flags, vendor info, type.
pub fn tcb_info(fwid: &[u8], flags: u8) -> Vec<u8> {
    let fwids = [fwid_der(fwid), fwid_der(&[7; 48])].concat();
    let members = [
        tlv(0x80, b"NVIDIA"),
        tlv(0x81, b"GB100"),
        tlv(0x82, b"1"),
        tlv(0x83, &[1]),
        tlv(0x84, &[1]),
        tlv(0x85, &[0]),
        tlv(0xa6, &fwids),
        tlv(0x87, &[4, flags]),
        tlv(0x88, b"x"),
        tlv(0x89, b"y"),
    ];
    tlv(0x30, &members.concat())
}

pub fn pem(ders: &[&[u8]]) -> String {
    let block = |der: &&[u8]| {
        format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", STANDARD.encode(der))
    };
    ders.iter().map(block).collect()
}

/// A factory of devices below one root.
pub struct Vendor {
    pub root: Authority,
    pub rim_root: Authority,
}

/// One device: its chain, leaf first and without the root, and its key.
pub struct OwnDevice {
    pub architecture: Architecture,
    pub chain: Vec<Vec<u8>>,
    pub key: Vec<u8>,
    /// SPDM index and value.
    pub measurements: Vec<(u8, Vec<u8>)>,
    /// Opaque fields in order.
    pub opaque: Vec<(u16, Vec<u8>)>,
}

impl Vendor {
    pub fn new() -> Self {
        Vendor {
            root: Authority::root("SIMULATED Device Identity CA"),
            rim_root: Authority::root("SIMULATED RIM root"),
        }
    }

    pub fn trust(&self) -> Trust {
        Trust {
            device_roots: vec![self.root.certificate()],
            rim_roots: vec![self.rim_root.certificate()],
            require_rims: false,
        }
    }

    pub fn device(&self, architecture: Architecture) -> OwnDevice {
        self.device_with(architecture, |device| match architecture {
            Architecture::Blackwell => tcb_info(&FWID, 0),
            _ => composite(device, &FWID),
        })
    }

    pub fn device_with(
        &self,
        architecture: Architecture,
        extension: impl FnOnce(&Certificate) -> Vec<u8>,
    ) -> OwnDevice {
        let chip = match architecture {
            Architecture::Hopper => "GH100",
            Architecture::Blackwell => "GB100",
            Architecture::Ls10 => "LS_10",
        };
        let identity = self.root.below("NVIDIA Identity");
        let provisioner = identity.below(&format!("NVIDIA {chip} Provisioner ICA 1"));
        let device = provisioner.below(&format!("{chip} A01 GSP BROM"));
        let (leaf, key) =
            device.leaf(&format!("{chip} A01 GSP FMC LF"), Some(extension(&device.certificate())));
        let text = |text: &str| [text.as_bytes(), &[0]].concat();
        let opaque = match architecture {
            Architecture::Ls10 => vec![(6, b"96.10.55.00.01".to_vec())],
            _ => vec![
                (6, vec![0x00, 0x9f, 0x00, 0x96, 1, 0, 0, 0]),
                (3, text("550.90.07")),
                (15, text("882")),
                (17, text("1010")),
                (18, text("0200")),
                (11, vec![0xaa]),
                (20, FWID.to_vec()),
                (35, text(chip)),
            ],
        };
        OwnDevice {
            architecture,
            chain: vec![leaf, device.der, provisioner.der, identity.der],
            key,
            measurements: (1..=40).map(|index| (index, vec![index; 48])).collect(),
            opaque,
        }
    }
}

impl OwnDevice {
    pub fn set(&mut self, kind: u16, value: &[u8]) {
        self.opaque.retain(|(known, _)| *known != kind);
        self.opaque.push((kind, value.to_vec()));
    }

    /// The signed report for a nonce.
    pub fn report(&self, nonce: &[u8; 32]) -> Vec<u8> {
        let mut report = [&[0x11, 0xe0, 1, 0xff][..], nonce, &[0]].concat();
        let mut record = Vec::new();
        for (index, value) in &self.measurements {
            let size = length(value);
            record.extend([*index, 1]);
            record.extend((size + 3).to_le_bytes());
            record.push(1);
            record.extend(size.to_le_bytes());
            record.extend(value);
        }
        report.extend([0x11, 0x60, 0, 0, u8::try_from(self.measurements.len()).unwrap()]);
        report.extend(&u32::try_from(record.len()).unwrap().to_le_bytes()[..3]);
        report.extend(record);
        report.extend([9; 32]);
        let field = |(kind, value): &(u16, Vec<u8>)| {
            [&kind.to_le_bytes()[..], &length(value).to_le_bytes(), value].concat()
        };
        let opaque: Vec<u8> = self.opaque.iter().flat_map(field).collect();
        report.extend(length(&opaque).to_le_bytes());
        report.extend(opaque);
        let signature = sign(&self.key, &report);
        report.extend(signature);
        report
    }

    pub fn evidence(&self, nonce: &[u8; 32]) -> DeviceEvidence {
        let chain: Vec<&[u8]> = self.chain.iter().map(Vec::as_slice).collect();
        self.evidence_with(nonce, &chain)
    }

    pub fn evidence_with(&self, nonce: &[u8; 32], chain: &[&[u8]]) -> DeviceEvidence {
        DeviceEvidence::new(self.architecture, None, &self.report(nonce), pem(chain).as_bytes()).unwrap()
    }
}
