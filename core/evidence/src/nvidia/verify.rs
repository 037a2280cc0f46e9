//! The verdicts: certificates, firmware, signature, nonce and measurements of each device, and of all together.

use std::sync::{Mutex, PoisonError};
use std::thread;

use cocoon_stage::Code;
use serde_json::Value;

use super::certificate::{self, Firmware};
use super::claims::claims;
use super::collateral::Trust;
use super::evidence::{DeviceEvidence, Evidence};
use super::group;
use super::rim::{References, compare};
use crate::collateral::Collateral;
use crate::expectation::padded;
use crate::x509::{Certificate, Hash, Scheme};
use crate::{Check, Expectation, Verdict};

const SPDM: &str = "DMTF DSP0274 1.1.1, section 10.11.3";
const CALLER: &str = "the challenge; CoCo's rule: 32 bytes, truncated or padded with zeros";
/// Most threads at once.
const MAX_THREADS: usize = 8;
/// Fewer devices than this are verified one after the other.
const MIN_CONCURRENT: usize = 3;
/// In the name of a root that is not NVIDIA's but a test's.
const SIMULATED_MARK: &str = "SIMULATED";

/// The verdict of one device, or of a group of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Device {
    /// Which policy appraises it: `gpu`, `switch`, or `ppcie` for the group.
    pub class: &'static str,
    /// Its place in the evidence; `None` for the group.
    pub index: Option<usize>,
    /// The verdict.
    pub verdict: Verdict,
}

/// Verifies all devices of the evidence, concurrently where there are more than two.
///
/// Gives one verdict per device in the evidence's order and, for a machine of eight GPUs and four switches, one of their
/// group (class `ppcie`). Evidence is good only if every verdict is. Manifests that are at hand are compared, and a device
/// with other measurements fails, whether or not manifests are required.
pub fn verify(
    evidence: &Evidence,
    trust: &Trust,
    collateral: &Collateral,
    expectation: &Expectation<'_>,
) -> Vec<Device> {
    let references = References::read(evidence, trust, collateral, expectation.now_unix);
    let keys: Vec<Option<Vec<u8>>> = evidence.devices.iter().map(key).collect();
    let one = |index: usize, device: &DeviceEvidence| {
        let verdict = verify_device(index, device, &keys, trust, &references, expectation);
        Device { class: device.architecture.class(), index: Some(index), verdict }
    };
    let count = evidence.devices.len();
    let threads = match count {
        0..MIN_CONCURRENT => 1,
        _ => thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS).min(count),
    };
    let mut devices = concurrently(evidence, threads, &one);
    devices.extend(group::local(evidence, &devices));
    devices
}

/// Lets `threads` threads, this one among them, take one device after the other.
fn concurrently(
    evidence: &Evidence,
    threads: usize,
    one: &(impl Fn(usize, &DeviceEvidence) -> Device + Sync),
) -> Vec<Device> {
    let queue = Mutex::new(evidence.devices.iter().enumerate());
    // A poisoned queue is as good as any: taking from it leaves it whole.
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
    let work = || {
        let mut done = Vec::new();
        while let Some((index, device)) = next() {
            done.push(one(index, device));
        }
        done
    };
    let mut devices: Vec<Device> = thread::scope(|scope| {
        // Where no thread can be had, this one does it all.
        let spawn = |_| thread::Builder::new().spawn_scoped(scope, work).ok();
        let workers: Vec<_> = (1..threads).filter_map(spawn).collect();
        let mut devices = work();
        devices.extend(workers.into_iter().flat_map(|worker| worker.join().unwrap_or_default()));
        devices
    });
    // A device that no thread gave a verdict on (a thread died) has one without checks, which is never ok.
    for (index, device) in evidence.devices.iter().enumerate() {
        if !devices.iter().any(|known| known.index == Some(index)) {
            let verdict = Verdict { checks: Vec::new(), claims: Value::Null, simulated: false };
            devices.push(Device { class: device.architecture.class(), index: Some(index), verdict });
        }
    }
    devices.sort_by_key(|device| device.index);
    devices
}

fn verify_device(
    index: usize,
    device: &DeviceEvidence,
    keys: &[Option<Vec<u8>>],
    trust: &Trust,
    references: &References,
    expectation: &Expectation<'_>,
) -> Verdict {
    let mut checks = Vec::new();
    let firmware = certificate::check(device, trust, expectation.now_unix, &mut checks);
    checks.push(signature(device));
    checks.push(fwid(device, firmware.as_ref()));
    checks.extend(expectation.report_data.map(|wanted| nonce(device, wanted)));
    checks.push(unique(index, keys));
    let outcome = compare(device, references, trust, &mut checks);
    let root = device.certificates.last();
    let simulated = root.is_some_and(|root| {
        root.subject().contains(SIMULATED_MARK) || root.issuer().contains(SIMULATED_MARK)
    });
    let mut verdict = Verdict { checks, claims: Value::Null, simulated };
    if let (true, Some(firmware)) = (verdict.ok(), firmware) {
        verdict.claims = claims(device, &firmware, &outcome);
    }
    verdict
}

pub(super) fn signature(device: &DeviceEvidence) -> Check {
    let report = &device.report;
    let good = device.certificates.first().and_then(|leaf| leaf.key().ok()).is_some_and(|key| {
        key.verifies(Scheme::EcdsaFixed(Hash::Sha384), report.message(), report.signature())
    });
    Check::new(
        "report.signature",
        good,
        Code::AttestSignatureInvalid,
        "ECDSA P-384 with SHA-384 by the leaf's key over request and response",
        if good { "good" } else { "not by the leaf's key" },
        SPDM,
    )
}

/// A GPU's report repeats the firmware that its certificate names. A switch's does not; its certificate alone tells it.
fn fwid(device: &DeviceEvidence, firmware: Option<&Firmware>) -> Check {
    let certified = firmware.map(|firmware| firmware.fwid);
    let reported = device.report.opaque.fwid;
    let same = certified.is_some() && reported.is_none_or(|_| reported == certified);
    Check::new(
        "report.fwid",
        same && (reported.is_some() || !device.architecture.is_gpu()),
        Code::AttestChainUntrusted,
        certified.map_or("a firmware, which the certificate does not name".to_owned(), hex::encode),
        reported.map_or("none, as switches report".to_owned(), hex::encode),
        "NVIDIA nvtrust, comparison of certificate and report",
    )
}

fn nonce(device: &DeviceEvidence, wanted: &[u8]) -> Check {
    let wanted = padded::<32>(wanted);
    Check::new(
        "report.nonce",
        wanted == Some(device.report.nonce),
        Code::AttestReportDataMismatch,
        wanted.map_or("a nonce".to_owned(), hex::encode),
        hex::encode(device.report.nonce),
        CALLER,
    )
}

/// The key that stands for a device: of its boot ROM where the chain has one, since the leaf's changes with the firmware.
fn key(device: &DeviceEvidence) -> Option<Vec<u8>> {
    let boot_rom = device.certificates.get(1).filter(|certificate| certificate.subject().contains("BROM"));
    boot_rom.or(device.certificates.first()).map(Certificate::spki)
}

/// One device must not count as two. `keys` are those of all devices.
fn unique(index: usize, keys: &[Option<Vec<u8>>]) -> Check {
    let own = keys.get(index).and_then(Option::as_ref);
    let same = keys.iter().filter(|other| other.as_ref() == own).count();
    let alone = own.is_some() && same == 1;
    Check::new(
        "device.unique",
        alone,
        Code::AttestEvidenceMalformed,
        "one report of each device",
        if alone { "one" } else { "another report with the same key" },
        "each report stands for a device of its own",
    )
}
