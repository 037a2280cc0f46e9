//! Which level a platform is at, and what follows from it.
//!
//! Source: Intel PCS API version 4, "Get TCB Info", and 4.1.2.4.17 of the design of Intel's quote verification library.

use std::collections::BTreeSet;

use super::pck::Pck;
use super::status::TcbStatus;
use super::tcb_info::{SvnLevel, TcbInfo, TcbLevel, TdxModule};

/// Security versions of a TDX module: at launch, and where the report tells, of the one that runs now.
#[derive(Clone, Copy, Debug)]
pub(super) struct TdxSvn {
    pub launch: [u8; 16],
    pub now: Option<[u8; 16]>,
}

/// What Intel says of a platform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Appraised {
    /// The merged status of platform, TDX module and quoting enclave.
    pub status: TcbStatus,
    /// Date of the platform's level.
    pub date: u64,
    /// Date of the oldest of all levels matched.
    pub oldest: u64,
    /// All that is not mitigated.
    pub advisories: BTreeSet<String>,
    /// Status and date of the TDX module's level; modules of TDX 1.0 have none of their own.
    pub module: Option<(TcbStatus, u64)>,
}

/// The status of a platform whose quoting enclave is at level `qe`. `Err` says why there is none.
pub(super) fn appraise(
    info: &TcbInfo,
    pck: &Pck,
    qe: &SvnLevel,
    tdx: Option<TdxSvn>,
) -> Result<Appraised, &'static str> {
    let mut fitting = info.levels.iter().filter(|level| platform_fits(level, pck));
    let first = fitting.next().ok_or("older than every known SGX level")?;
    let Some(tdx) = tdx else {
        return Ok(merged(first.status.with_part(qe.status), &[first], &[qe], None));
    };
    let level = std::iter::once(first)
        .chain(fitting)
        .find(|level| level.tdx.is_some_and(|least| tdx_fits(&tdx.launch, &least)))
        .ok_or("older than every known TDX level")?;
    let [minor, major, ..] = tdx.launch;
    let module = match major {
        // The module of TDX 1.0 is covered by the platform's level alone.
        0 => None,
        _ => {
            let identity = info.modules.iter().find(|identity| identity.major == major);
            let levels = &identity.ok_or("a TDX module of an unknown major version")?.levels;
            let level = levels.iter().find(|level| u16::from(minor) >= level.isv_svn);
            Some(level.ok_or("a TDX module older than every known level")?)
        }
    };
    let mut status = level.status.with_part(module.map_or(TcbStatus::UpToDate, |m| m.status));
    if let Some(now) = tdx.now {
        status = relaunch(status, &now, info, first, module, qe).unwrap_or(status);
    }
    status = status.with_part(qe.status);
    // Intel's library looks no further when the level without the TDX components is revoked; here it counts.
    if first.status == TcbStatus::Revoked {
        status = TcbStatus::Revoked;
    }
    let parts: Vec<&SvnLevel> = module.into_iter().chain([qe]).collect();
    Ok(merged(status, &[level], &parts, module.map(|m| (m.status, m.date))))
}

/// Who must have made the TDX module of that version.
pub(super) fn module_of(info: &TcbInfo, tee_tcb_svn: &[u8; 16]) -> Option<TdxModule> {
    let [_, major, ..] = *tee_tcb_svn;
    match major {
        0 => info.module.clone(),
        _ => info.modules.iter().find(|identity| identity.major == major).map(|i| i.module.clone()),
    }
}

fn merged(
    status: TcbStatus,
    levels: &[&TcbLevel],
    parts: &[&SvnLevel],
    module: Option<(TcbStatus, u64)>,
) -> Appraised {
    let dates = || levels.iter().map(|l| l.date).chain(parts.iter().map(|p| p.date));
    let ids = levels.iter().flat_map(|l| &l.advisories).chain(parts.iter().flat_map(|p| &p.advisories));
    Appraised {
        status,
        date: levels.iter().map(|l| l.date).min().unwrap_or_default(),
        oldest: dates().min().unwrap_or_default(),
        advisories: ids.cloned().collect(),
        module,
    }
}

fn platform_fits(level: &TcbLevel, pck: &Pck) -> bool {
    at_least(&pck.components, &level.sgx) && pck.pce_svn >= level.pce_svn
}

/// Modules with a major version have levels of their own, so the first two components do not count for them.
fn tdx_fits(svn: &[u8; 16], least: &[u8; 16]) -> bool {
    match (svn, least) {
        ([_, 0, ..], _) => at_least(svn, least),
        ([_, _, svn @ ..], [_, _, least @ ..]) => at_least(svn, least),
    }
}

fn at_least(svn: &[u8], least: &[u8]) -> bool {
    svn.len() == least.len() && svn.iter().zip(least).all(|(svn, least)| svn >= least)
}

/// A TD whose module was out of date at launch, on a platform that now runs the newest one, need only be started again.
fn relaunch(
    status: TcbStatus,
    now: &[u8; 16],
    info: &TcbInfo,
    sgx: &TcbLevel,
    module: Option<&SvnLevel>,
    qe: &SvnLevel,
) -> Option<TcbStatus> {
    let sgx_is_good = !sgx.status.is_out_of_date() && sgx.status != TcbStatus::Revoked;
    let old_module = module.is_some_and(|m| m.status == TcbStatus::OutOfDate);
    if qe.status != TcbStatus::UpToDate || !sgx_is_good || !status.is_out_of_date() || !old_module {
        return None;
    }
    let newest = info.levels.first()?.tdx?;
    let [minor, major, loader, ..] = *now;
    let [newest_minor, _, newest_loader, ..] = newest;
    let least = match major {
        0 => u16::from(newest_minor),
        _ => info.modules.iter().find(|identity| identity.major == major)?.levels.first()?.isv_svn,
    };
    let newest_runs = u16::from(minor) >= least && loader >= newest_loader;
    let configure = sgx.status.needs_configuration() || status.needs_configuration();
    newest_runs.then_some(match configure {
        true => TcbStatus::TDRelaunchAdvisedConfigurationNeeded,
        false => TcbStatus::TDRelaunchAdvised,
    })
}
