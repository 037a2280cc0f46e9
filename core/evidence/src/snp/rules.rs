//! What a relying party asks of a genuine report, beyond that it is genuine.

use cocoon_stage::Code;

use super::report::Report;
use super::tcb::Tcb;
use crate::Check;

const ABI: &str = "AMD 56860, ATTESTATION_REPORT";
const RULES: &str = "the verifier's rules";

/// Bit of the guest policy that is always one (AMD 56860, GUEST_POLICY).
const POLICY_ALWAYS_ONE: u64 = 1 << 17;
const POLICY_MIGRATION: u64 = 1 << 18;
const POLICY_DEBUG: u64 = 1 << 19;

/// Rules on a report. The default asks for VMPL 0, no debugging and no version 2, and leaves all else to the policy that
/// reads the claims.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Rules {
    /// Accept version 2 reports, which do not name their processor.
    pub allow_v2: bool,
    /// Accept guests that the host may debug, that is read.
    pub allow_debug: bool,
    /// Refuse guests whose policy lets them be associated with a migration agent.
    pub forbid_migration: bool,
    /// Highest VMPL from which a report may have been asked.
    pub max_vmpl: u32,
    /// Accept a report without chip id (the platform masks it); the certificate is then tied to it by signature alone.
    pub allow_masked_chip_id: bool,
    /// Refuse where no list of revoked certificates is at hand.
    pub require_crl: bool,
    /// Levels that the reported TCB must reach, each.
    pub minimum_tcb: Option<Tcb>,
    /// Least guest security version.
    pub minimum_guest_svn: u32,
    /// Policy bits that must be one.
    pub required_policy: u64,
    /// Platform bits (PLATFORM_INFO) that must be one.
    pub required_platform: u64,
    /// Platform bits that must be zero.
    pub forbidden_platform: u64,
    /// Bits of the launch and the current mitigation vector that must be one; only version 5 has the vectors.
    pub required_mitigations: u64,
    /// SHA-384 of id keys, one of which must have signed the id block. Empty: any or none.
    pub id_keys: Vec<[u8; 48]>,
    /// SHA-384 of author keys, one of which must have signed the id key. Empty: any or none.
    pub author_keys: Vec<[u8; 48]>,
}

impl Rules {
    /// A check for each rule that is in force.
    pub(super) fn checks(&self, report: &Report) -> Vec<Check> {
        let mut checks = self.always(report);
        self.optional(report, &mut checks);
        checks
    }

    fn always(&self, report: &Report) -> Vec<Check> {
        let debug = report.policy & POLICY_DEBUG != 0;
        let (expected, got) = if self.allow_debug {
            ("forbidden or allowed", if debug { "allowed" } else { "forbidden" })
        } else {
            ("forbidden", if debug { "allowed" } else { "forbidden" })
        };
        let code = Code::AttestDebugEnabled;
        let mut checks = vec![
            Check::new("report.debug", self.allow_debug || !debug, code, expected, got, ABI),
            Check::new(
                "report.vmpl",
                report.vmpl <= self.max_vmpl && report.vmpl <= 3,
                Code::AttestPrivilegeLevel,
                if self.max_vmpl == 0 { "0".to_owned() } else { format!("at most {}", self.max_vmpl) },
                report.vmpl.to_string(),
                ABI,
            ),
            Check::new(
                "report.policy",
                report.policy & POLICY_ALWAYS_ONE != 0,
                Code::AttestEvidenceMalformed,
                "bit 17 is one",
                format!("{:#x}", report.policy),
                ABI,
            ),
        ];
        if self.forbid_migration {
            let migration = report.policy & POLICY_MIGRATION != 0;
            let agent = report.report_id_ma != [0xff; 32];
            checks.push(Check::new(
                "report.migration",
                !migration && !agent,
                Code::AttestDebugEnabled,
                "no migration agent",
                if migration {
                    "the policy allows one"
                } else if agent {
                    "one is bound"
                } else {
                    "none"
                },
                RULES,
            ));
        }
        checks
    }

    fn optional(&self, report: &Report, checks: &mut Vec<Check>) {
        if let Some(least) = &self.minimum_tcb {
            let ok = report.reported_tcb.reaches(least);
            let got = report.reported_tcb.to_string();
            let code = Code::AttestTcbOutdated;
            checks.push(Check::new("report.tcb", ok, code, format!("at least {least}"), got, RULES));
        }
        if self.minimum_guest_svn > 0 {
            let ok = report.guest_svn >= self.minimum_guest_svn;
            let expected = format!("at least {}", self.minimum_guest_svn);
            let code = Code::AttestTcbOutdated;
            checks.push(Check::new(
                "report.guest-svn",
                ok,
                code,
                expected,
                report.guest_svn.to_string(),
                RULES,
            ));
        }
        let mut bits = |name, got: u64, ones: u64, zeros: u64| {
            if ones | zeros != 0 {
                let ok = got & ones == ones && got & zeros == 0;
                let expected = format!("ones at {ones:#x}, zeros at {zeros:#x}");
                let code = Code::AttestTcbOutdated;
                checks.push(Check::new(name, ok, code, expected, format!("{got:#x}"), RULES));
            }
        };
        bits("report.policy-bits", report.policy, self.required_policy, 0);
        bits("report.platform", report.plat_info, self.required_platform, self.forbidden_platform);
        // A report too old to have the vectors has no mitigation.
        let launch = report.launch_mit_vector.unwrap_or_default();
        let current = report.current_mit_vector.unwrap_or_default();
        bits("report.launch-mitigations", launch, self.required_mitigations, 0);
        bits("report.current-mitigations", current, self.required_mitigations, 0);
        self.keys(report, checks);
    }

    fn keys(&self, report: &Report, checks: &mut Vec<Check>) {
        let mut one_of = |name, accepted: &[[u8; 48]], got: &[u8; 48], used: bool| {
            if !accepted.is_empty() {
                let ok = used && accepted.contains(got);
                let expected = format!("one of {} keys", accepted.len());
                let code = Code::AttestMeasurementUnknown;
                checks.push(Check::new(name, ok, code, expected, hex::encode(got), RULES));
            }
        };
        one_of("report.id-key", &self.id_keys, &report.id_key_digest, report.id_key_digest != [0; 48]);
        // Without the bit the author key's digest is not meant.
        let author = report.key_info & 1 == 1;
        one_of("report.author-key", &self.author_keys, &report.author_key_digest, author);
    }
}
