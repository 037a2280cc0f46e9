//! The commands that attestation takes (TPM 2.0 Library, part 3), over any [`Channel`].

use super::wire::{Auth, Channel, Command, Error};

/// `TPM_RH_ENDORSEMENT`, the hierarchy of the maker's keys.
const ENDORSEMENT: u32 = 0x4000_000b;
/// `TPM_RH_NULL`.
const NULL_HANDLE: u32 = 0x4000_0007;
/// `TPM_ALG_NULL` and `TPM_ALG_SHA256`.
const NULL: u16 = 0x0010;
const SHA256: u16 = 0x000b;
/// `TPM_SE_POLICY`.
const POLICY: u8 = 1;
/// Registers of a bank.
pub(super) const REGISTERS: usize = 24;
/// Largest content of an NV index that is read.
const MAX_NV: u16 = 8192;
/// So much of it at once: every TPM gives as much.
const NV_CHUNK: u16 = 512;
/// Policy of the standard endorsement keys: PolicySecret of the endorsement hierarchy (EK Credential Profile 2.5, B.3).
const EK_POLICY: [u8; 32] = [
    0x83, 0x71, 0x97, 0x67, 0x44, 0x84, 0xb3, 0xf8, 0x1a, 0x90, 0xcc, 0x8d, 0x46, 0xa5, 0xd7, 0x24, 0xfd,
    0x52, 0xd7, 0x6e, 0x06, 0x52, 0x0b, 0x64, 0xf2, 0xa1, 0xda, 0x1b, 0x33, 0x14, 0x69, 0xaa,
];

/// A TPM behind a channel. What it keeps loaded goes with the channel: the kernel's resource manager sees to that.
pub struct Tpm<C> {
    channel: C,
}

/// A key in the TPM.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// Its handle.
    pub handle: u32,
    /// Its public area, `TPM2B_PUBLIC`.
    pub public: Vec<u8>,
}

impl<C: Channel> Tpm<C> {
    /// The TPM behind that channel.
    pub fn new(channel: C) -> Self {
        Tpm { channel }
    }

    fn run(&mut self, command: Command) -> Result<super::wire::Response, Error> {
        command.run(&mut self.channel)
    }

    /// The endorsement key of template L-1: RSA 2048 (EK Credential Profile 2.5, B.3.3). Making it again gives the same key.
    ///
    /// # Errors
    /// [`Error`].
    pub fn endorsement_key(&mut self) -> Result<Loaded, Error> {
        let mut template = area(0x0001, 0x0003_00b2, &EK_POLICY);
        // AES-128-CFB for children, no scheme, 2048 bits, the usual exponent, no unique part.
        template.extend([0x00, 0x06, 0x00, 0x80, 0x00, 0x43, 0x00, 0x10, 0x08, 0x00, 0, 0, 0, 0]);
        template.extend([0x01, 0x00]);
        template.extend([0; 256]);
        self.primary("TPM2_CreatePrimary (endorsement key)", &template)
    }

    /// An attestation key: ECDSA on P-256 with SHA-256, restricted, fixed to the TPM.
    ///
    /// # Errors
    /// [`Error`].
    pub fn attestation_key(&mut self) -> Result<Loaded, Error> {
        let mut template = area(0x0023, 0x0005_0472, &[]);
        // No cipher, ECDSA with SHA-256, P-256, no key derivation, no unique part.
        template.extend([0x00, 0x10, 0x00, 0x18, 0x00, 0x0b, 0x00, 0x03, 0x00, 0x10, 0, 0, 0, 0]);
        self.primary("TPM2_CreatePrimary (attestation key)", &template)
    }

    fn primary(&mut self, name: &'static str, template: &[u8]) -> Result<Loaded, Error> {
        let command = Command::new(name, 0x131)
            .handle(ENDORSEMENT)
            .auth(Auth::Password)
            .giving_handle()
            // No password and no data of the caller's in the key.
            .sized(&[0, 0, 0, 0])
            .sized(template)
            .sized(&[])
            .u32(0);
        let response = self.run(command)?;
        let public = response.fields().sized()?.to_vec();
        let length = u16::try_from(public.len()).map_err(|_| response.fields().malformed())?;
        Ok(Loaded { handle: response.handle()?, public: [&length.to_be_bytes(), public.as_slice()].concat() })
    }

    /// The content of an NV index that may be read with its own, empty password; at most 8 KiB.
    ///
    /// # Errors
    /// [`Error`]; [`Error::Refused`] where there is no such index.
    pub fn nv(&mut self, index: u32) -> Result<Vec<u8>, Error> {
        let response = self.run(Command::new("TPM2_NV_ReadPublic", 0x169).handle(index))?;
        let mut fields = response.fields();
        let area = fields.sized()?;
        // nvIndex, nameAlg, attributes, authPolicy, dataSize: the last two bytes.
        let size = match area {
            [.., high, low] if area.len() >= 14 => u16::from_be_bytes([*high, *low]),
            _ => return Err(fields.malformed()),
        };
        if size > MAX_NV {
            return Err(fields.malformed());
        }
        let mut content = Vec::new();
        let mut offset = 0;
        while offset < size {
            let want = NV_CHUNK.min(size.saturating_sub(offset));
            let command = Command::new("TPM2_NV_Read", 0x14e)
                .handle(index)
                .handle(index)
                .auth(Auth::Password)
                .u16(want)
                .u16(offset);
            let response = self.run(command)?;
            let mut fields = response.fields();
            let chunk = fields.sized()?;
            if chunk.len() != usize::from(want) {
                return Err(fields.malformed());
            }
            content.extend_from_slice(chunk);
            offset = offset.saturating_add(want);
        }
        Ok(content)
    }

    /// Opens a challenge's secret, made for the endorsement key and the attestation key's name (`TPM2_ActivateCredential`).
    /// `nonce` starts the session: any random bytes.
    ///
    /// # Errors
    /// [`Error::Refused`] where the challenge is for another TPM or key.
    pub fn activate(
        &mut self,
        attestation: &Loaded,
        endorsement: &Loaded,
        credential_blob: &[u8],
        encrypted_secret: &[u8],
        nonce: &[u8; 16],
    ) -> Result<Vec<u8>, Error> {
        let session = self.policy_session(nonce)?;
        let opened = self.activate_in(session, attestation, endorsement, credential_blob, encrypted_secret);
        if opened.is_err() {
            // A refused command leaves its session loaded.
            let _ = self.flush(session);
        }
        opened
    }

    fn activate_in(
        &mut self,
        session: u32,
        attestation: &Loaded,
        endorsement: &Loaded,
        credential_blob: &[u8],
        encrypted_secret: &[u8],
    ) -> Result<Vec<u8>, Error> {
        let policy = Command::new("TPM2_PolicySecret", 0x151)
            .handle(ENDORSEMENT)
            .handle(session)
            .auth(Auth::Password)
            .sized(&[])
            .sized(&[])
            .sized(&[])
            .u32(0);
        self.run(policy)?;
        // Both structures bring their own lengths.
        let command = Command::new("TPM2_ActivateCredential", 0x147)
            .handle(attestation.handle)
            .handle(endorsement.handle)
            .auth(Auth::Password)
            .auth(Auth::Policy(session))
            .bytes(credential_blob)
            .bytes(encrypted_secret);
        let response = self.run(command)?;
        Ok(response.fields().sized()?.to_vec())
    }

    fn policy_session(&mut self, nonce: &[u8; 16]) -> Result<u32, Error> {
        let command = Command::new("TPM2_StartAuthSession", 0x176)
            .handle(NULL_HANDLE)
            .handle(NULL_HANDLE)
            .giving_handle()
            .sized(nonce)
            .sized(&[])
            .bytes(&[POLICY])
            .u16(NULL)
            .u16(SHA256);
        self.run(command)?.handle()
    }

    fn flush(&mut self, handle: u32) -> Result<(), Error> {
        self.run(Command::new("TPM2_FlushContext", 0x165).u32(handle)).map(drop)
    }

    /// Quotes all 24 registers of the SHA-256 bank: `TPMS_ATTEST` and `TPMT_SIGNATURE`.
    ///
    /// # Errors
    /// [`Error`].
    pub fn quote(&mut self, key: &Loaded, data: &[u8; 32]) -> Result<(Vec<u8>, Vec<u8>), Error> {
        let command = Command::new("TPM2_Quote", 0x158)
            .handle(key.handle)
            .auth(Auth::Password)
            .sized(data)
            .u16(NULL)
            .bytes(&selection([0xff; 3]));
        let response = self.run(command)?;
        let mut fields = response.fields();
        let message = fields.sized()?.to_vec();
        Ok((message, fields.remainder().to_vec()))
    }

    /// All registers of the SHA-256 bank.
    ///
    /// # Errors
    /// [`Error`]; [`Error::Malformed`] too for a TPM without that bank.
    pub fn registers(&mut self) -> Result<Vec<[u8; 32]>, Error> {
        let mut values: Vec<Option<[u8; 32]>> = vec![None; REGISTERS];
        // A response holds eight, so three commands do; a TPM that gives nothing new is not asked for ever.
        for _ in 0..REGISTERS {
            let mut wanted = [0u8; 3];
            let missing = values.iter().enumerate().filter(|(_, value)| value.is_none());
            for (n, _) in missing {
                if let Some(byte) = wanted.get_mut(n / 8) {
                    *byte |= 1 << (n % 8);
                }
            }
            if wanted == [0; 3] {
                break;
            }
            let response = self.run(Command::new("TPM2_PCR_Read", 0x17e).bytes(&selection(wanted)))?;
            let mut fields = response.fields();
            fields.u32()?;
            let (banks, bank, size) = (fields.u32()?, fields.u16()?, fields.u8()?);
            if (banks, bank, size) != (1, SHA256, 3) {
                return Err(fields.malformed());
            }
            let given: [u8; 3] = fields.take(3)?.try_into().map_err(|_| Error::Malformed("TPM2_PCR_Read"))?;
            let numbers: Vec<usize> = (0..REGISTERS)
                .filter(|n| given.get(n / 8).is_some_and(|byte| byte >> (n % 8) & 1 == 1))
                .collect();
            if numbers.is_empty() || usize::try_from(fields.u32()?).ok() != Some(numbers.len()) {
                return Err(fields.malformed());
            }
            for n in numbers {
                let value: [u8; 32] =
                    fields.sized()?.try_into().map_err(|_| Error::Malformed("TPM2_PCR_Read"))?;
                match values.get_mut(n) {
                    Some(place @ None) => *place = Some(value),
                    _ => return Err(fields.malformed()),
                }
            }
        }
        values.into_iter().collect::<Option<_>>().ok_or(Error::Malformed("TPM2_PCR_Read"))
    }

    /// Extends a register of the SHA-256 bank.
    ///
    /// # Errors
    /// [`Error`].
    pub fn extend(&mut self, register: u32, digest: &[u8; 32]) -> Result<(), Error> {
        let command = Command::new("TPM2_PCR_Extend", 0x182)
            .handle(register)
            .auth(Auth::Password)
            .u32(1)
            .u16(SHA256)
            .bytes(digest);
        self.run(command).map(drop)
    }
}

/// The beginning of a public area: kind, SHA-256 for its name, attributes, policy.
fn area(kind: u16, attributes: u32, policy: &[u8]) -> Vec<u8> {
    let length = u16::try_from(policy.len()).unwrap_or_default();
    let head = [kind.to_be_bytes(), SHA256.to_be_bytes()].concat();
    [head.as_slice(), &attributes.to_be_bytes(), &length.to_be_bytes(), policy].concat()
}

/// `TPML_PCR_SELECTION` of registers of the SHA-256 bank.
fn selection(bits: [u8; 3]) -> Vec<u8> {
    let [a, b, c] = bits;
    let [high, low] = SHA256.to_be_bytes();
    vec![0, 0, 0, 1, high, low, 3, a, b, c]
}
