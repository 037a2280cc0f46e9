//! TCB information: which security versions of a platform family deserve which status.
//!
//! Source: Intel PCS API version 4, "TCB Info V3" (SGX and TDX) and version 3 of the API, "TCB Info V2" (SGX). Fields
//! beyond the specification are ignored: Intel adds some within a version, and the whole is signed by Intel.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::signed::Signed;
use super::status::TcbStatus;
use super::time;
use crate::Error;
use crate::collateral::IntelTee;

const WHAT: &str = "Intel TCB information";
/// Most levels, module identities and advisories of one list.
const MAX_LIST: usize = 256;

/// TCB information as read. Nothing about it is verified.
#[derive(Clone, Debug)]
pub struct TcbInfo {
    /// For which TEE.
    pub tee: IntelTee,
    /// When it was issued, Unix seconds.
    pub issued: u64,
    /// Until when it is good, Unix seconds.
    pub next_update: u64,
    /// For which family.
    pub fmspc: [u8; 6],
    /// For which provisioning enclave.
    pub pce_id: [u8; 2],
    /// Counts Intel's TCB recovery events.
    pub evaluation_data_number: u32,
    /// Levels, the best first.
    pub levels: Vec<TcbLevel>,
    /// The TDX 1.0 module; TDX only.
    pub module: Option<TdxModule>,
    /// Later modules, by major version.
    pub modules: Vec<TdxModuleIdentity>,
}

/// Least security versions, and the status of a platform that has them.
#[derive(Clone, Debug)]
pub struct TcbLevel {
    /// Of the 16 SGX components.
    pub sgx: [u8; 16],
    /// Of the provisioning enclave.
    pub pce_svn: u16,
    /// Of the 16 TDX components; TDX only.
    pub tdx: Option<[u8; 16]>,
    /// What was known until then is mitigated. Unix seconds.
    pub date: u64,
    /// Status.
    pub status: TcbStatus,
    /// What is not mitigated.
    pub advisories: Vec<String>,
}

/// Who made a TDX module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TdxModule {
    /// MRSIGNERSEAM.
    pub mrsigner: [u8; 48],
    /// SEAMATTRIBUTES.
    pub attributes: [u8; 8],
}

/// A TDX module of one major version, with levels of its own.
#[derive(Clone, Debug)]
pub struct TdxModuleIdentity {
    /// Major version.
    pub major: u8,
    /// Who made it.
    pub module: TdxModule,
    /// Levels, the best first.
    pub levels: Vec<SvnLevel>,
}

/// Least ISVSVN of an enclave or a module, and the status that it deserves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SvnLevel {
    /// Least ISVSVN.
    pub isv_svn: u16,
    /// What was known until then is mitigated. Unix seconds.
    pub date: u64,
    /// Status.
    pub status: TcbStatus,
    /// What is not mitigated.
    pub advisories: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    id: Option<String>,
    version: u32,
    issue_date: String,
    next_update: String,
    fmspc: String,
    pce_id: String,
    tcb_type: u32,
    tcb_evaluation_data_number: u32,
    tcb_levels: Vec<WireLevel>,
    tdx_module: Option<WireModule>,
    tdx_module_identities: Option<Vec<WireIdentity>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireLevel {
    tcb: WireTcb,
    tcb_date: String,
    tcb_status: TcbStatus,
    #[serde(default, rename = "advisoryIDs")]
    advisories: Vec<String>,
}

#[derive(Deserialize)]
struct WireTcb {
    pcesvn: u16,
    sgxtcbcomponents: Option<Vec<WireComponent>>,
    tdxtcbcomponents: Option<Vec<WireComponent>>,
    /// Version 2 has `sgxtcbcomp01svn` to `sgxtcbcomp16svn`.
    #[serde(flatten)]
    rest: BTreeMap<String, serde_json::Value>,
}

#[derive(Deserialize)]
struct WireComponent {
    svn: u8,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireModule {
    mrsigner: String,
    attributes: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireIdentity {
    id: String,
    mrsigner: String,
    attributes: String,
    tcb_levels: Vec<WireSvnLevel>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WireSvnLevel {
    tcb: WireSvn,
    tcb_date: String,
    tcb_status: TcbStatus,
    #[serde(default, rename = "advisoryIDs")]
    advisories: Vec<String>,
}

#[derive(Deserialize)]
struct WireSvn {
    isvsvn: u16,
}

impl TcbInfo {
    /// Reads the signed object.
    pub(super) fn read(signed: &Signed<'_>) -> Result<Self, Error> {
        let wire: Wire = signed.read(WHAT)?;
        let tee = match (wire.version, wire.id.as_deref()) {
            (2, None) | (3, Some("SGX")) => IntelTee::Sgx,
            (3, Some("TDX")) => IntelTee::Tdx,
            _ => return Err(wrong("neither version 2 nor version 3 for SGX or TDX")),
        };
        // How components compare is defined by the type, and 0 is the only one so far.
        if wire.tcb_type != 0 {
            return Err(wrong("tcbType is not 0"));
        }
        let module = match (tee, wire.tdx_module) {
            (IntelTee::Sgx, None) => None,
            (IntelTee::Tdx, Some(module)) => Some(self::module(&module.mrsigner, &module.attributes)?),
            _ => return Err(wrong("tdxModule is for TDX, and all of TDX has it")),
        };
        let identities = wire.tdx_module_identities.unwrap_or_default();
        if identities.len() > MAX_LIST || (tee == IntelTee::Sgx && !identities.is_empty()) {
            return Err(wrong("tdxModuleIdentities are too many or not for TDX"));
        }
        let modules: Vec<TdxModuleIdentity> =
            identities.into_iter().map(identity).collect::<Result<_, _>>()?;
        for (n, identity) in modules.iter().enumerate() {
            if modules.iter().skip(n + 1).any(|other| other.major == identity.major) {
                return Err(wrong("two TDX modules of one major version"));
            }
        }
        if wire.tcb_levels.is_empty() || wire.tcb_levels.len() > MAX_LIST {
            return Err(wrong("no TCB levels, or too many"));
        }
        let level = |level| self::level(level, wire.version, tee);
        Ok(TcbInfo {
            tee,
            issued: date(&wire.issue_date)?,
            next_update: date(&wire.next_update)?,
            fmspc: bytes(&wire.fmspc)?,
            pce_id: bytes(&wire.pce_id)?,
            evaluation_data_number: wire.tcb_evaluation_data_number,
            levels: wire.tcb_levels.into_iter().map(level).collect::<Result<_, _>>()?,
            module,
            modules,
        })
    }
}

fn level(wire: WireLevel, version: u32, tee: IntelTee) -> Result<TcbLevel, Error> {
    let sgx = match (version, &wire.tcb.sgxtcbcomponents) {
        (3, Some(list)) => components(list)?,
        (2, None) => numbered(&wire.tcb.rest)?,
        _ => return Err(wrong("SGX components are not in the form of their version")),
    };
    let tdx = match (tee, &wire.tcb.tdxtcbcomponents) {
        (IntelTee::Sgx, None) => None,
        (IntelTee::Tdx, Some(list)) => Some(components(list)?),
        _ => return Err(wrong("TDX components are for TDX, and all of TDX has them")),
    };
    if !wire.tcb_status.is_of_platform() {
        return Err(wrong("a status that no platform has"));
    }
    Ok(TcbLevel {
        sgx,
        pce_svn: wire.tcb.pcesvn,
        tdx,
        date: date(&wire.tcb_date)?,
        status: wire.tcb_status,
        advisories: advisories(wire.advisories)?,
    })
}

fn components(list: &[WireComponent]) -> Result<[u8; 16], Error> {
    let list: Vec<u8> = list.iter().map(|c| c.svn).collect();
    list.try_into().map_err(|_| wrong("a TCB has not 16 components"))
}

fn numbered(fields: &BTreeMap<String, serde_json::Value>) -> Result<[u8; 16], Error> {
    let mut out = [0; 16];
    for (n, component) in (1..).zip(&mut out) {
        let svn = fields.get(&format!("sgxtcbcomp{n:02}svn")).and_then(serde_json::Value::as_u64);
        *component =
            svn.and_then(|svn| u8::try_from(svn).ok()).ok_or_else(|| wrong("a TCB has not 16 components"))?;
    }
    Ok(out)
}

fn identity(wire: WireIdentity) -> Result<TdxModuleIdentity, Error> {
    let major = wire.id.strip_prefix("TDX_").filter(|digits| digits.len() == 2);
    let major = major.and_then(|digits| u8::from_str_radix(digits, 16).ok());
    Ok(TdxModuleIdentity {
        major: major.ok_or_else(|| wrong("a TDX module's id is not TDX_ and two hex digits"))?,
        module: module(&wire.mrsigner, &wire.attributes)?,
        levels: svn_levels(wire.tcb_levels)?,
    })
}

fn module(mrsigner: &str, attributes: &str) -> Result<TdxModule, Error> {
    Ok(TdxModule { mrsigner: bytes(mrsigner)?, attributes: bytes(attributes)? })
}

/// Levels of an enclave or a module.
pub(super) fn svn_levels(wire: Vec<WireSvnLevel>) -> Result<Vec<SvnLevel>, Error> {
    if wire.is_empty() || wire.len() > MAX_LIST {
        return Err(wrong("no levels of an enclave or a module, or too many"));
    }
    let level = |level: WireSvnLevel| {
        if !level.tcb_status.is_of_part() {
            return Err(wrong("a status that no enclave or module has"));
        }
        Ok(SvnLevel {
            isv_svn: level.tcb.isvsvn,
            date: date(&level.tcb_date)?,
            status: level.tcb_status,
            advisories: advisories(level.advisories)?,
        })
    };
    wire.into_iter().map(level).collect()
}

fn advisories(list: Vec<String>) -> Result<Vec<String>, Error> {
    let fits = |id: &String| id.len() <= 64 && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    match list.len() <= MAX_LIST && list.iter().all(fits) {
        true => Ok(list),
        false => Err(wrong("advisory ids of another form, or too many")),
    }
}

pub(super) fn date(text: &str) -> Result<u64, Error> {
    time::parse(text).ok_or_else(|| wrong("a date of another form"))
}

pub(super) fn bytes<const N: usize>(text: &str) -> Result<[u8; N], Error> {
    let mut out = [0; N];
    hex::decode_to_slice(text, &mut out)
        .map_err(|_| wrong("a number of hex digits that the field has not"))?;
    Ok(out)
}

fn wrong(reason: &str) -> Error {
    Error::Malformed { what: WHAT, reason: reason.to_owned() }
}
