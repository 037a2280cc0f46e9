//! A TPM in software: it quotes whatever registers it is told to.

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair, RSA_PKCS1_SHA256};
use cocoon_protocol::b64;
use serde_json::{Value, json};

use crate::support::*;

/// A TPM with one attestation key.
pub struct Tpm {
    key: RsaKeyPair,
    pub registers: Vec<[u8; 32]>,
    /// The registers that a quote selects; those presented are always the first ones.
    selected: Vec<usize>,
}

impl Tpm {
    /// With something in every register, all of which it quotes.
    pub fn new() -> Tpm {
        Tpm::quoting(0..24)
    }

    /// One whose quotes select these registers.
    pub fn quoting(selected: impl IntoIterator<Item = usize>) -> Tpm {
        let registers = (0..24u8).map(|n| sha256(&[n])).collect();
        Tpm {
            key: RsaKeyPair::generate(KeySize::Rsa2048).unwrap(),
            registers,
            selected: selected.into_iter().collect(),
        }
    }

    /// The key as reference values name it.
    pub fn named(&self) -> String {
        b64::std_encode(&self.spki())
    }

    pub fn spki(&self) -> Vec<u8> {
        let der: PublicKeyX509Der<'_> = self.key.public_key().as_der().unwrap();
        der.as_ref().to_vec()
    }

    /// Modulus and exponent: PKCS #1 of 2048 bits has 8 bytes of lengths and a zero before n, two bytes before e.
    pub fn jwk(&self) -> Value {
        let public = self.key.public_key().as_ref();
        let (n, e) = (b64::url_encode(&public[9..265]), b64::url_encode(&public[267..]));
        json!({"kid": "HCLAkPub", "key_ops": ["sign"], "kty": "RSA", "e": e, "n": n})
    }

    pub fn hex(&self, register: usize) -> String {
        hex::encode(self.registers[register])
    }

    /// The registers after the guest's boot has extended the eighth with a digest.
    pub fn booted(&self, digest: &[u8]) -> Vec<[u8; 32]> {
        let mut registers = self.registers.clone();
        registers[8] = sha256(&[&[0; 32], digest].concat());
        registers
    }

    /// `TPMS_ATTEST` and its bare signature.
    pub fn quote(&self, registers: &[[u8; 32]], extra_data: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let mut out = vec![0xff, 0x54, 0x43, 0x47, 0x80, 0x18];
        out.extend(sized(&[&[0, 0x0b], sha256(b"signer").as_slice()].concat()));
        out.extend(sized(extra_data));
        out.extend([0; 16]);
        out.push(1);
        out.extend([0; 8]);
        out.extend([0, 0, 0, 1, 0, 0x0b, 3]);
        let mut bits = [0u8; 3];
        self.selected.iter().for_each(|n| bits[n / 8] |= 1 << (n % 8));
        out.extend(bits);
        out.extend(sized(&sha256(&registers.concat())));
        let mut signature = vec![0; self.key.public_modulus_len()];
        self.key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), &out, &mut signature).unwrap();
        (out, signature)
    }

    /// Evidence of a TPM on its own: its qualifying data are the first 32 bytes of the report data.
    pub fn evidence(&self, registers: &[[u8; 32]], report_data: &[u8]) -> Value {
        let (message, signature) = self.quote(registers, &report_data[..32]);
        let signature = [&[0, 0x14, 0, 0x0b], sized(&signature).as_slice()].concat();
        json!({
            "ak_public": self.named(),
            "tpm_quote": {
                "message": b64::std_encode(&message),
                "signature": b64::std_encode(&signature),
                "pcrs": registers.iter().map(hex::encode).collect::<Vec<_>>(),
            },
        })
    }

    /// The same as Azure's attester writes it.
    pub fn azure_quote(&self, registers: &[[u8; 32]], report_data: &[u8]) -> Value {
        let (message, signature) = self.quote(registers, report_data);
        json!({
            "message": hex::encode(message),
            "signature": hex::encode(signature),
            "pcrs": registers.iter().map(hex::encode).collect::<Vec<_>>(),
        })
    }
}

fn sized(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
}

/// What Azure's paravisor tells of a vTPM, its configuration and the guest's own 64 bytes.
pub fn paravisor_data(tpm: &Tpm, user_data: &[u8]) -> Vec<u8> {
    let mut field = [0; 64];
    field[..user_data.len()].copy_from_slice(user_data);
    let data = json!({
        "keys": [tpm.jwk()], "vm-configuration": {"secure-boot": true}, "user-data": hex::encode(field),
    });
    serde_json::to_vec(&data).unwrap()
}

/// The paravisor's report around a hardware report of that kind (2 SNP, 4 TDX).
pub fn paravisor_report(hardware: &[u8], kind: u32, data: &[u8]) -> String {
    let length = u32::try_from(data.len()).unwrap();
    let mut out = b"HCLA".to_vec();
    for number in [2, 32 + 1184 + 20 + length, 2, 0, 0, 0, 0] {
        out.extend(number.to_le_bytes());
    }
    out.extend(hardware);
    for number in [20 + length, 1, kind, 1, length] {
        out.extend(number.to_le_bytes());
    }
    out.extend(data);
    out.resize(2600, 0);
    b64::url_encode(&out)
}
