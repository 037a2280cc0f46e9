//! The 1184-byte ATTESTATION_REPORT (AMD 56860): fields, bytes, and how to make one.

use serde::{Deserialize, Serialize};

use super::array;
use super::tcb::{Generation, Layout, Tcb};
use crate::Error;

/// Length of the part that the signature covers.
const SIGNED: usize = 0x2a0;
const CPUID_AT: usize = 0x188;
const CHIP_ID_AT: usize = 0x1a0;

/// A firmware version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirmwareVersion {
    /// Major number.
    pub major: u8,
    /// Minor number.
    pub minor: u8,
    /// Build number.
    pub build: u8,
}

/// An ECDSA P-384 signature as the report carries it: little-endian integers, zero-padded to 72 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    /// R.
    #[serde(with = "array")]
    pub r: [u8; 72],
    /// S.
    #[serde(with = "array")]
    pub s: [u8; 72],
}

impl Signature {
    /// From big-endian r and s.
    pub fn from_be(r: &[u8; 48], s: &[u8; 48]) -> Self {
        let wide = |v: &[u8; 48]| {
            let mut out = [0; 72];
            out.iter_mut().zip(v.iter().rev()).for_each(|(o, i)| *o = *i);
            out
        };
        Signature { r: wide(r), s: wide(s) }
    }

    /// r ‖ s, 48 big-endian bytes each; `None` if either exceeds 48 bytes.
    pub fn to_be(&self) -> Option<[u8; 96]> {
        let mut out = [0; 96];
        let (r, s) = (self.r.split_at(48), self.s.split_at(48));
        if r.1.iter().chain(s.1).any(|b| *b != 0) {
            return None;
        }
        let bytes = r.0.iter().rev().chain(s.0.iter().rev());
        out.iter_mut().zip(bytes).for_each(|(o, i)| *o = *i);
        Some(out)
    }
}

/// The report's fields, in the order and under the names of the JSON that CoCo's attesters send.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportFields {
    /// Format version, 2 to 5.
    pub version: u32,
    /// Guest security version.
    pub guest_svn: u32,
    /// Guest policy bits.
    pub policy: u64,
    /// Family id from the id block.
    #[serde(with = "array")]
    pub family_id: [u8; 16],
    /// Image id from the id block.
    #[serde(with = "array")]
    pub image_id: [u8; 16],
    /// Privilege level that asked for the report.
    pub vmpl: u32,
    /// Signature algorithm; 1 is ECDSA P-384 with SHA-384.
    pub sig_algo: u32,
    /// TCB in use.
    pub current_tcb: Tcb,
    /// Platform bits.
    pub plat_info: u64,
    /// Key bits: 0 author key, 1 masked chip key, 4:2 signing key.
    pub key_info: u32,
    /// The guest's 64 bytes.
    #[serde(with = "array")]
    pub report_data: [u8; 64],
    /// Launch digest, SHA-384.
    #[serde(with = "array")]
    pub measurement: [u8; 48],
    /// The host's 32 bytes, fixed at launch; CoCo puts the initdata digest here.
    #[serde(with = "array")]
    pub host_data: [u8; 32],
    /// SHA-384 of the id key.
    #[serde(with = "array")]
    pub id_key_digest: [u8; 48],
    /// SHA-384 of the author key.
    #[serde(with = "array")]
    pub author_key_digest: [u8; 48],
    /// Id of this guest.
    #[serde(with = "array")]
    pub report_id: [u8; 32],
    /// Id of the guest's migration agent, all ones for none.
    #[serde(with = "array")]
    pub report_id_ma: [u8; 32],
    /// TCB from which the signing key is derived.
    pub reported_tcb: Tcb,
    /// Combined CPUID family; version 3 and later.
    pub cpuid_fam_id: Option<u8>,
    /// Combined CPUID model; version 3 and later.
    pub cpuid_mod_id: Option<u8>,
    /// CPUID stepping; version 3 and later.
    pub cpuid_step: Option<u8>,
    /// Chip id, zero if masked.
    #[serde(with = "array")]
    pub chip_id: [u8; 64],
    /// TCB below which the platform will not go back.
    pub committed_tcb: Tcb,
    /// Firmware in use.
    pub current: FirmwareVersion,
    /// Firmware committed.
    pub committed: FirmwareVersion,
    /// TCB at the guest's launch or import.
    pub launch_tcb: Tcb,
    /// Mitigations verified at launch; version 5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launch_mit_vector: Option<u64>,
    /// Mitigations verified now; version 5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_mit_vector: Option<u64>,
    /// Signature over the first 672 bytes.
    pub signature: Signature,
}

/// A parsed report: its fields (by `Deref`) and the bytes they were read from, which always agree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    fields: ReportFields,
    raw: [u8; Report::SIZE],
}

impl std::ops::Deref for Report {
    type Target = ReportFields;

    fn deref(&self) -> &ReportFields {
        &self.fields
    }
}

impl Report {
    /// Length of every version of the report.
    pub const SIZE: usize = 1184;

    /// Reads a report of version 2 to 5. Reserved bytes must be zero: the JSON form could not carry them, and behind the
    /// signature they would not even be signed.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let raw: [u8; Self::SIZE] = bytes.try_into().map_err(|_| Error::ReportSize(bytes.len()))?;
        let mut r = Reader { rest: &raw, at: 0 };
        let version = r.u32()?;
        if !(2..=5).contains(&version) {
            return Err(Error::ReportVersion(version));
        }
        let cpuid = match raw.get(CPUID_AT..) {
            Some([family, model, ..]) if version >= 3 => Some((*family, *model)),
            _ => None,
        };
        let chip = raw.get(CHIP_ID_AT..CHIP_ID_AT + 64).unwrap_or_default();
        let layout = layout(cpuid, chip)?;
        let fields = ReportFields {
            version,
            guest_svn: r.u32()?,
            policy: r.u64()?,
            family_id: r.bytes()?,
            image_id: r.bytes()?,
            vmpl: r.u32()?,
            sig_algo: r.u32()?,
            current_tcb: r.tcb(layout)?,
            plat_info: r.u64()?,
            key_info: r.u32()?,
            report_data: r.zero::<4>()?.bytes()?,
            measurement: r.bytes()?,
            host_data: r.bytes()?,
            id_key_digest: r.bytes()?,
            author_key_digest: r.bytes()?,
            report_id: r.bytes()?,
            report_id_ma: r.bytes()?,
            reported_tcb: r.tcb(layout)?,
            cpuid_fam_id: r.u8_since(3, version)?,
            cpuid_mod_id: r.u8_since(3, version)?,
            cpuid_step: r.u8_since(3, version)?,
            chip_id: r.zero::<21>()?.bytes()?,
            committed_tcb: r.tcb(layout)?,
            current: r.firmware()?,
            committed: r.firmware()?,
            launch_tcb: r.tcb(layout)?,
            launch_mit_vector: r.u64_since(5, version)?,
            current_mit_vector: r.u64_since(5, version)?,
            signature: Signature { r: r.zero::<152>()?.bytes()?, s: r.bytes()? },
        };
        r.zero::<368>()?;
        Ok(Report { fields, raw })
    }

    /// The report's bytes.
    pub fn to_bytes(&self) -> [u8; Self::SIZE] {
        self.raw
    }

    /// The 672 bytes that the signature covers.
    pub fn signed_bytes(&self) -> &[u8] {
        self.raw.get(..SIGNED).unwrap_or_default()
    }

    /// The processor's generation; `None` for version 2, which does not name it.
    pub fn generation(&self) -> Option<Generation> {
        Generation::of_processor(self.cpuid_fam_id?, self.cpuid_mod_id?)
    }

    /// Whether the report's TCB versions have an FMC level.
    pub(crate) fn layout(&self) -> Layout {
        if self.reported_tcb.fmc.is_some() { Layout::Turin } else { Layout::Legacy }
    }

    /// The JSON form that CoCo's attesters send: byte fields as arrays of numbers, TCB versions as objects.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::to_value(&self.fields).unwrap_or_default()
    }

    /// Reads the JSON form and rebuilds the bytes that were signed. Unknown members are ignored.
    pub fn from_json(value: &serde_json::Value) -> Result<Self, Error> {
        let fields = ReportFields::deserialize(value).map_err(|e| Error::Json(e.to_string()))?;
        Report::from_fields(&fields)
    }

    /// Lays out fields as bytes. Parsing the bytes again keeps one truth: what the bytes say.
    pub(super) fn from_fields(f: &ReportFields) -> Result<Self, Error> {
        let cpuid = match (f.version, f.cpuid_fam_id, f.cpuid_mod_id, f.cpuid_step) {
            (..=2, ..) => None,
            (_, Some(family), Some(model), Some(_)) => Some((family, model)),
            _ => return Err(Error::Field { field: "cpuid_fam_id", reason: "missing in version 3 or later" }),
        };
        let layout = layout(cpuid, &f.chip_id)?;
        let mut w = Vec::with_capacity(Self::SIZE);
        let firmware = |v: &FirmwareVersion| [v.build, v.minor, v.major, 0];
        w.extend(f.version.to_le_bytes());
        w.extend(f.guest_svn.to_le_bytes());
        w.extend(f.policy.to_le_bytes());
        w.extend(f.family_id);
        w.extend(f.image_id);
        w.extend(f.vmpl.to_le_bytes());
        w.extend(f.sig_algo.to_le_bytes());
        w.extend(f.current_tcb.encode(layout)?);
        w.extend(f.plat_info.to_le_bytes());
        w.extend(f.key_info.to_le_bytes());
        w.extend([0; 4]);
        w.extend(f.report_data);
        w.extend(f.measurement);
        w.extend(f.host_data);
        w.extend(f.id_key_digest);
        w.extend(f.author_key_digest);
        w.extend(f.report_id);
        w.extend(f.report_id_ma);
        w.extend(f.reported_tcb.encode(layout)?);
        match cpuid {
            Some((family, model)) => w.extend([family, model, f.cpuid_step.unwrap_or(0)]),
            None => w.extend([0; 3]),
        }
        w.extend([0; 21]);
        w.extend(f.chip_id);
        w.extend(f.committed_tcb.encode(layout)?);
        w.extend(firmware(&f.current));
        w.extend(firmware(&f.committed));
        w.extend(f.launch_tcb.encode(layout)?);
        let mitigations = |v: Option<u64>| if f.version >= 5 { v.unwrap_or(0) } else { 0 };
        w.extend(mitigations(f.launch_mit_vector).to_le_bytes());
        w.extend(mitigations(f.current_mit_vector).to_le_bytes());
        w.extend([0; 152]);
        w.extend(f.signature.r);
        w.extend(f.signature.s);
        w.extend([0; 368]);
        Report::parse(&w)
    }
}

/// Which TCB layout a report uses. Version 2 does not name its processor; there a short chip id gives Turin away.
fn layout(cpuid: Option<(u8, u8)>, chip_id: &[u8]) -> Result<Layout, Error> {
    match cpuid {
        Some((family, model)) => Generation::of_processor(family, model)
            .map(Generation::layout)
            .ok_or(Error::Processor { family, model }),
        None => {
            let (head, tail) = chip_id.split_at_checked(8).unwrap_or_default();
            let short = tail.iter().all(|b| *b == 0) && head.iter().any(|b| *b != 0);
            Ok(if short { Layout::Turin } else { Layout::Legacy })
        }
    }
}

/// Reads fixed-size fields in order.
struct Reader<'a> {
    rest: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let (head, rest) =
            self.rest.split_first_chunk::<N>().ok_or(Error::ReportSize(self.at + self.rest.len()))?;
        self.rest = rest;
        self.at += N;
        Ok(*head)
    }

    fn zero<const N: usize>(&mut self) -> Result<&mut Self, Error> {
        let at = self.at;
        if self.bytes::<N>()? == [0; N] { Ok(self) } else { Err(Error::ReportReserved(at)) }
    }

    fn u32(&mut self) -> Result<u32, Error> {
        Ok(u32::from_le_bytes(self.bytes()?))
    }

    fn u64(&mut self) -> Result<u64, Error> {
        Ok(u64::from_le_bytes(self.bytes()?))
    }

    /// A byte that exists since a version, reserved before.
    fn u8_since(&mut self, since: u32, version: u32) -> Result<Option<u8>, Error> {
        if version < since {
            return self.zero::<1>().map(|_| None);
        }
        let [byte] = self.bytes()?;
        Ok(Some(byte))
    }

    /// A number that exists since a version, reserved before.
    fn u64_since(&mut self, since: u32, version: u32) -> Result<Option<u64>, Error> {
        if version < since {
            return self.zero::<8>().map(|_| None);
        }
        self.u64().map(Some)
    }

    fn tcb(&mut self, layout: Layout) -> Result<Tcb, Error> {
        let at = self.at;
        Tcb::decode(self.bytes()?, layout, at)
    }

    fn firmware(&mut self) -> Result<FirmwareVersion, Error> {
        let [build, minor, major] = self.bytes()?;
        self.zero::<1>()?;
        Ok(FirmwareVersion { major, minor, build })
    }
}
