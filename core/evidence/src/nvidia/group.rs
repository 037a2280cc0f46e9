//! Protected PCIe: a guest that owns all eight GPUs and four switches of a machine.

use std::collections::BTreeSet;

use cocoon_stage::Code;
use serde_json::{Value, json};

use super::evidence::{DeviceEvidence, Evidence};
use super::verify::Device;
use crate::{Check, Verdict};

const GPUS: usize = 8;
const SWITCHES: usize = 4;
const SOURCE: &str = "NVIDIA PPCIE verifier: eight GPUs and four switches, all verified";
const TOPOLOGY: &str = "NVIDIA PPCIE verifier, validation of the topology";

/// The verdict of the group of verified devices, where they are as many.
pub(super) fn local(evidence: &Evidence, devices: &[Device]) -> Option<Device> {
    let mut group = of(devices)?;
    let topology = topology(&evidence.devices);
    let code = Code::AttestEvidenceMalformed;
    let got = topology.unwrap_or("each GPU at all switches, each switch at the same GPUs");
    let expected = "every GPU connected to these four switches, and they to the same eight GPUs";
    group.verdict.checks.push(Check::new(
        "ppcie.topology",
        topology.is_none(),
        code,
        expected,
        got,
        TOPOLOGY,
    ));
    if !group.verdict.ok() {
        group.verdict.claims = Value::Null;
    }
    Some(group)
}

/// The same, without a look at how they are connected.
pub(super) fn of(devices: &[Device]) -> Option<Device> {
    let of_class = |class: &str| devices.iter().filter(|d| d.class == class).count();
    if (of_class("gpu"), of_class("switch")) != (GPUS, SWITCHES) {
        return None;
    }
    let verified = devices.iter().filter(|d| d.verdict.ok()).count();
    let all = GPUS + SWITCHES;
    let check = Check::new(
        "ppcie.devices",
        verified == all && devices.len() == all,
        Code::AttestEvidenceMalformed,
        format!("{all} verified devices"),
        format!("{verified} verified"),
        SOURCE,
    );
    let simulated = devices.iter().any(|d| d.verdict.simulated);
    let mut verdict = Verdict { checks: vec![check], claims: Value::Null, simulated };
    if verdict.ok() {
        // Upstream's claims of the group.
        verdict.claims = json!({ "switch_count": SWITCHES, "gpu_count": GPUS });
    }
    Some(Device { class: "ppcie", index: None, verdict })
}

/// What is wrong with the connections, by the reports. A GPU tells identities in the other byte order than a switch its own.
fn topology(devices: &[DeviceEvidence]) -> Option<&'static str> {
    let (gpus, switches): (Vec<_>, Vec<_>) = devices.iter().partition(|d| d.architecture.is_gpu());
    let own: BTreeSet<[u8; 8]> =
        switches.iter().flat_map(|switch| switch.report.opaque.switch_pdis.iter().copied()).collect();
    if own.len() != SWITCHES {
        return Some("not four switches with identities of their own");
    }
    for gpu in gpus {
        let seen: BTreeSet<[u8; 8]> = gpu.report.opaque.switch_pdis.iter().copied().map(reversed).collect();
        if seen != own {
            return Some("a GPU at other switches");
        }
    }
    let mut common: Option<BTreeSet<[u8; 8]>> = None;
    for switch in switches {
        let seen: BTreeSet<[u8; 8]> = switch.report.opaque.gpu_pdis.iter().copied().collect();
        if seen.len() != GPUS || common.as_ref().is_some_and(|common| *common != seen) {
            return Some("a switch at other or fewer GPUs");
        }
        common = Some(seen);
    }
    None
}

fn reversed(mut pdi: [u8; 8]) -> [u8; 8] {
    pdi.reverse();
    pdi
}
