//! Intel's verdicts on security versions, and how several become one.
//!
//! Source: Intel PCS API version 4, `tcbStatus`; the rules of merging are those of Intel's quote verification library
//! (4.1.2.4.17 of its design).

use serde::{Deserialize, Serialize};

/// What Intel says of a platform's security versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum TcbStatus {
    /// Nothing is known to be missing.
    UpToDate,
    /// Software in the TEE must be hardened.
    SWHardeningNeeded,
    /// The platform must be configured otherwise.
    ConfigurationNeeded,
    /// Both.
    ConfigurationAndSWHardeningNeeded,
    /// The TDX module was updated; a TD started before should be started again to gain from it.
    TDRelaunchAdvised,
    /// The same, and the platform must be configured otherwise.
    TDRelaunchAdvisedConfigurationNeeded,
    /// Known weaknesses are not mitigated.
    OutOfDate,
    /// Known weaknesses are not mitigated, and the platform must be configured otherwise.
    OutOfDateConfigurationNeeded,
    /// Not to be trusted.
    Revoked,
}

impl TcbStatus {
    /// All but [`TcbStatus::Revoked`], which no rule can accept.
    pub const ACCEPTABLE: [TcbStatus; 8] = [
        TcbStatus::UpToDate,
        TcbStatus::SWHardeningNeeded,
        TcbStatus::ConfigurationNeeded,
        TcbStatus::ConfigurationAndSWHardeningNeeded,
        TcbStatus::TDRelaunchAdvised,
        TcbStatus::TDRelaunchAdvisedConfigurationNeeded,
        TcbStatus::OutOfDate,
        TcbStatus::OutOfDateConfigurationNeeded,
    ];

    /// As Intel and claims write it.
    pub fn name(self) -> &'static str {
        match self {
            TcbStatus::UpToDate => "UpToDate",
            TcbStatus::SWHardeningNeeded => "SWHardeningNeeded",
            TcbStatus::ConfigurationNeeded => "ConfigurationNeeded",
            TcbStatus::ConfigurationAndSWHardeningNeeded => "ConfigurationAndSWHardeningNeeded",
            TcbStatus::TDRelaunchAdvised => "TDRelaunchAdvised",
            TcbStatus::TDRelaunchAdvisedConfigurationNeeded => "TDRelaunchAdvisedConfigurationNeeded",
            TcbStatus::OutOfDate => "OutOfDate",
            TcbStatus::OutOfDateConfigurationNeeded => "OutOfDateConfigurationNeeded",
            TcbStatus::Revoked => "Revoked",
        }
    }

    /// Whether it is one of the two kinds of `OutOfDate`.
    pub fn is_out_of_date(self) -> bool {
        matches!(self, TcbStatus::OutOfDate | TcbStatus::OutOfDateConfigurationNeeded)
    }

    /// For a status of the `OutOfDate` kind: what it says besides.
    pub fn apart_from_date(self) -> Option<TcbStatus> {
        match self {
            TcbStatus::OutOfDate => Some(TcbStatus::UpToDate),
            TcbStatus::OutOfDateConfigurationNeeded => Some(TcbStatus::ConfigurationNeeded),
            _ => None,
        }
    }

    /// Whether the platform must be configured otherwise.
    pub(super) fn needs_configuration(self) -> bool {
        matches!(
            self,
            TcbStatus::ConfigurationNeeded
                | TcbStatus::ConfigurationAndSWHardeningNeeded
                | TcbStatus::OutOfDateConfigurationNeeded
                | TcbStatus::TDRelaunchAdvisedConfigurationNeeded
        )
    }

    /// Whether TCB information of a platform may say so.
    pub(super) fn is_of_platform(self) -> bool {
        !matches!(self, TcbStatus::TDRelaunchAdvised | TcbStatus::TDRelaunchAdvisedConfigurationNeeded)
    }

    /// Whether it may be said of an enclave or a TDX module.
    pub(super) fn is_of_part(self) -> bool {
        matches!(self, TcbStatus::UpToDate | TcbStatus::OutOfDate | TcbStatus::Revoked)
    }

    /// The platform's status, made worse by that of a part of it (quoting enclave or TDX module).
    pub(super) fn with_part(self, part: TcbStatus) -> TcbStatus {
        match (part, self) {
            (TcbStatus::Revoked, _) => TcbStatus::Revoked,
            (TcbStatus::OutOfDate, TcbStatus::UpToDate | TcbStatus::SWHardeningNeeded) => {
                TcbStatus::OutOfDate
            }
            (
                TcbStatus::OutOfDate,
                TcbStatus::ConfigurationNeeded | TcbStatus::ConfigurationAndSWHardeningNeeded,
            ) => TcbStatus::OutOfDateConfigurationNeeded,
            _ => self,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::TcbStatus::*;
    use super::*;

    #[test]
    fn names_are_those_of_the_json() {
        for status in TcbStatus::ACCEPTABLE.into_iter().chain([Revoked]) {
            assert_eq!(serde_json::to_value(status).unwrap(), status.name());
        }
        assert!(!TcbStatus::ACCEPTABLE.contains(&Revoked));
    }

    #[test]
    fn a_part_never_makes_it_better() {
        for (platform, out_of_date) in [
            (UpToDate, OutOfDate),
            (SWHardeningNeeded, OutOfDate),
            (ConfigurationNeeded, OutOfDateConfigurationNeeded),
            (ConfigurationAndSWHardeningNeeded, OutOfDateConfigurationNeeded),
            (OutOfDate, OutOfDate),
            (OutOfDateConfigurationNeeded, OutOfDateConfigurationNeeded),
            (TDRelaunchAdvised, TDRelaunchAdvised),
            (Revoked, Revoked),
        ] {
            assert_eq!(platform.with_part(UpToDate), platform);
            assert_eq!(platform.with_part(OutOfDate), out_of_date);
            assert_eq!(platform.with_part(Revoked), Revoked);
        }
    }
}
