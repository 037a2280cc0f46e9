//! What an operator asks for beyond genuineness.

use super::cache::Cache;
use super::roots::Roots;
use super::status::TcbStatus;

/// Whom a verifier trusts, what it asks for, and what it remembers.
#[derive(Debug, Default)]
pub struct Trust {
    /// Roots of the certificate chains.
    pub roots: Roots,
    /// The operator's rules.
    pub rules: Rules,
    /// Verified chains and collateral.
    pub cache: Cache,
}

/// Rules for quotes of either TEE. The default accepts what Intel's library calls non-terminal and leaves the rest to the
/// policy, as upstream does, except that debug TEEs and collateral after its next update are refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Statuses that are accepted. [`TcbStatus::Revoked`] never is, whether listed or not.
    pub accept: Vec<TcbStatus>,
    /// A status of the `OutOfDate` kind that is not in `accept` is still accepted until so long after the level's date,
    /// so that a fleet has time to update. The date is that of the oldest level matched (platform, module, quoting
    /// enclave): all that was known then is mitigated.
    pub out_of_date_grace_seconds: u64,
    /// TCB information, identities and revocation lists are still accepted so long after their next update, to live
    /// through an outage of their source knowingly. The claim `collateral_expiration_status` then is `"1"`. Certificates
    /// have no such grace.
    pub collateral_grace_seconds: u64,
    /// Least `tcbEvaluationDataNumber` of TCB information and quoting enclave identity: Intel publishes several at a time.
    pub minimum_tcb_evaluation_data_number: Option<u32>,
    /// Advisories (`INTEL-SA-…`) that must not apply to the platform.
    pub refused_advisories: Vec<String>,
    /// Accept debug TDs and enclaves, whose memory the host can read. Off in production.
    pub allow_debug: bool,
    /// Refuse TDX evidence without an event log.
    pub require_event_log: bool,
    /// MR_SERVICETD values of service TDs (such as a migration TD) that may be bound to a TD: they can move or read it.
    /// Empty: a TD that may be migrated or has a service TD is refused.
    pub service_tds: Vec<[u8; 48]>,
}

impl Default for Rules {
    fn default() -> Self {
        Rules {
            accept: TcbStatus::ACCEPTABLE.to_vec(),
            out_of_date_grace_seconds: 0,
            collateral_grace_seconds: 0,
            minimum_tcb_evaluation_data_number: None,
            refused_advisories: Vec::new(),
            allow_debug: false,
            require_event_log: false,
            service_tds: Vec::new(),
        }
    }
}

impl Rules {
    /// Whether a status of a level of that date is accepted.
    pub(super) fn accepts(&self, status: TcbStatus, date: u64, now_unix: u64) -> bool {
        let listed = self.accept.contains(&status);
        // What the status says besides must be accepted as such.
        let else_fine = status.apart_from_date().is_some_and(|rest| self.accept.contains(&rest));
        let grace = else_fine && now_unix <= date.saturating_add(self.out_of_date_grace_seconds);
        status != TcbStatus::Revoked && (listed || grace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn revoked_is_never_accepted() {
        let mut rules = Rules::default();
        rules.accept.push(TcbStatus::Revoked);
        rules.out_of_date_grace_seconds = u64::MAX;
        assert!(!rules.accepts(TcbStatus::Revoked, 10, 10));
        assert!(TcbStatus::ACCEPTABLE.into_iter().all(|status| rules.accepts(status, 0, 10)));
    }

    #[test]
    fn the_grace_is_for_out_of_date_alone() {
        let accept = vec![TcbStatus::UpToDate];
        let rules = Rules { accept, out_of_date_grace_seconds: 100, ..Rules::default() };
        assert!(rules.accepts(TcbStatus::OutOfDate, 1000, 1100));
        assert!(!rules.accepts(TcbStatus::OutOfDate, 1000, 1101));
        assert!(!rules.accepts(TcbStatus::ConfigurationNeeded, 1000, 1000));
        assert!(
            !rules.accepts(TcbStatus::OutOfDateConfigurationNeeded, 1000, 1000),
            "nor for a configuration"
        );
        let accept = vec![TcbStatus::ConfigurationNeeded];
        let rules = Rules { accept, out_of_date_grace_seconds: 100, ..Rules::default() };
        assert!(rules.accepts(TcbStatus::OutOfDateConfigurationNeeded, 1000, 1000));
        assert!(!rules.accepts(TcbStatus::OutOfDate, 1000, 1000));
    }
}
