//! What a hostile host could do, for demonstrations and tests: each must end in a refusal and no released secret.

use std::str::FromStr;

use cocoon_protocol::initdata::InitData;
use cocoon_stage::{Code, Failure};

/// A misbehaving host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adversary {
    /// Boots an initrd with something added to it.
    ChangedInitrd,
    /// Hands the guest another plan than the one whose digest the TEE binds.
    ChangedPlan,
    /// Hands the guest another plan and binds that plan's digest.
    ReboundPlan,
    /// Answers the guest's evidence request with a report recorded earlier.
    ReplayedEvidence,
}

impl Adversary {
    /// All of them.
    pub const ALL: [Adversary; 4] = [
        Adversary::ChangedInitrd,
        Adversary::ChangedPlan,
        Adversary::ReboundPlan,
        Adversary::ReplayedEvidence,
    ];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Adversary::ChangedInitrd => "changed-initrd",
            Adversary::ChangedPlan => "changed-plan",
            Adversary::ReboundPlan => "rebound-plan",
            Adversary::ReplayedEvidence => "replayed-evidence",
        }
    }
}

impl FromStr for Adversary {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = Adversary::ALL;
        all.into_iter()
            .find(|a| a.name() == text)
            .ok_or_else(|| format!("one of {}", all.map(Adversary::name).join(", ")))
    }
}

/// An archive with one more file, appended as the kernel allows (initramfs buffer format: several newc archives).
pub(crate) fn changed_initrd(initrd: &[u8]) -> Vec<u8> {
    fn member(archive: &mut Vec<u8>, name: &str, mode: usize, data: &[u8]) {
        let fields = [0, mode, 0, 0, 1, 0, data.len(), 0, 0, 0, 0, name.len() + 1, 0]
            .map(|f: usize| format!("{f:08X}"));
        archive.extend_from_slice(format!("070701{}{name}\0", fields.join("")).as_bytes());
        while !archive.len().is_multiple_of(4) {
            archive.push(0);
        }
        archive.extend_from_slice(data);
        while !archive.len().is_multiple_of(4) {
            archive.push(0);
        }
    }
    let mut changed = initrd.to_vec();
    while !changed.len().is_multiple_of(512) {
        changed.push(0);
    }
    let mut archive = Vec::new();
    member(&mut archive, "backdoor", 0o100_755, b"#!/bin/sh\n");
    member(&mut archive, "TRAILER!!!", 0, b"");
    changed.extend_from_slice(&archive);
    changed
}

/// The same initdata with one more variable in the first container's environment.
pub(crate) fn changed_plan(initdata: &InitData) -> Result<InitData, Failure> {
    let bad = |e: String| Failure::new(Code::PlanInvalid, format!("adversary: {e}"));
    let text = initdata.file(cocoon_plan::PLAN_FILE).ok_or_else(|| bad("no plan".into()))?;
    let mut plan = cocoon_plan::Plan::parse(text.as_bytes())?;
    if let Some(container) = plan.containers.first_mut() {
        container.env.push("LD_PRELOAD=/host/spy.so".into());
    }
    let trustee = cocoon_plan::TrusteeConfig::from_initdata(initdata)?;
    cocoon_plan::workload_initdata(&plan, &trustee)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_changed_initrd_begins_with_the_old_one() {
        let changed = changed_initrd(b"old");
        assert!(changed.starts_with(b"old") && changed.len().is_multiple_of(4));
        assert_eq!(&changed[512..518], b"070701");
    }

    #[test]
    fn names_round_trip() {
        for a in Adversary::ALL {
            assert_eq!(a.name().parse(), Ok(a));
        }
        assert!("nice".parse::<Adversary>().is_err());
    }
}
