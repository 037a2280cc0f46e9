//! The kernel's TPM device, and initdata's place in the TPM.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::OnceLock;

use cocoon_stage::{Code, Failure, Stage};

use super::commands::Tpm;
use super::extended;
use super::wire::{Channel, MAX_RESPONSE};
use crate::unavailable;

/// The TPM behind the kernel's resource manager.
pub const DEVICE: &str = "/dev/tpmrm0";
/// The register for initdata.
const REGISTER: u32 = 8;

/// The digest that this boot has put into the register.
static BOUND: OnceLock<[u8; 32]> = OnceLock::new();

/// One command is one write, its response one read.
pub(crate) struct Device(File);

impl Device {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        OpenOptions::new().read(true).write(true).open(path).map(Device)
    }
}

impl Channel for Device {
    fn transact(&mut self, command: &[u8]) -> io::Result<Vec<u8>> {
        if self.0.write(command)? != command.len() {
            return Err(io::Error::other("the device takes part of a command"));
        }
        let mut response = vec![0; MAX_RESPONSE];
        let length = self.0.read(&mut response)?;
        response.truncate(length);
        Ok(response)
    }
}

impl Channel for Box<dyn Channel> {
    fn transact(&mut self, command: &[u8]) -> io::Result<Vec<u8>> {
        self.as_mut().transact(command)
    }
}

impl Channel for &mut Box<dyn Channel> {
    fn transact(&mut self, command: &[u8]) -> io::Result<Vec<u8>> {
        self.as_mut().transact(command)
    }
}

/// Puts initdata's digest into register 8, where this guest's platform is a TPM; elsewhere it does nothing. To be called by
/// the first program of the guest, once, before anything is done of what initdata says.
///
/// # Errors
/// `ATTEST-INITDATA-MISMATCH` where something is in the register already, `ATTEST-EVIDENCE-UNAVAILABLE` for a digest that is
/// no SHA-256 and for a TPM that does not answer.
pub fn bind_initdata(digest: &[u8]) -> Result<(), Failure> {
    if crate::platform() != crate::Platform::Tpm {
        return Ok(());
    }
    let device = Device::open(Path::new(DEVICE)).map_err(|e| unavailable(format!("{DEVICE}: {e}")))?;
    let digest = bind(&mut Tpm::new(device), digest)?;
    BOUND.set(digest).map_err(|_| unavailable("initdata was bound before"))
}

/// The digest that this boot has bound.
pub(super) fn bound() -> Option<[u8; 32]> {
    BOUND.get().copied()
}

pub(super) fn bind<C: Channel>(tpm: &mut Tpm<C>, digest: &[u8]) -> Result<[u8; 32], Failure> {
    let digest: [u8; 32] = digest.try_into().map_err(|_| {
        unavailable("a TPM binds initdata by SHA-256 only; the document says another algorithm")
    })?;
    let failed = |e: super::Error| unavailable(format!("bind initdata: {e}"));
    let used = || {
        let reason = "register 8 of the TPM is in use: this is not the first initdata of this boot";
        Failure::new(Code::AttestInitdataMismatch, reason).at(Stage::Boot)
    };
    let value = |tpm: &mut Tpm<C>| -> Result<Option<[u8; 32]>, Failure> {
        Ok(tpm.registers().map_err(failed)?.get(8).copied())
    };
    if value(tpm)? != Some([0; 32]) {
        return Err(used());
    }
    tpm.extend(REGISTER, &digest).map_err(failed)?;
    // Nobody else may have come between.
    if value(tpm)? != Some(extended(&digest)) {
        return Err(used());
    }
    Ok(digest)
}
