//! Verified claims against the reference values, by the rules of upstream's default policies (trustee.md §1.6).
//!
//! In force for a class until its owner stores a Rego policy for it: the same outcome, with a reason for each claim.

use cocoon_evidence::Check;
use cocoon_protocol::Tee;
use cocoon_protocol::token::TrustVector;
use cocoon_reference::{ReferenceValues, contains};
use cocoon_stage::Code;
use serde_json::{Value, json};

use crate::Error;

const REFERENCES: &str = "reference values";

/// Verified claims and what they are held against.
pub(crate) struct Against<'a> {
    pub references: &'a ReferenceValues,
    pub claims: &'a Value,
    pub simulated: bool,
    pub now_unix: u64,
}

impl Against<'_> {
    /// The trust claims, with a check for each; `None` where there are no native rules for this kind.
    pub fn appraise(&self, tee: Tee, checks: &mut Vec<Check>) -> Result<Option<TrustVector>, Error> {
        match tee {
            Tee::Snp => self.snp(checks).map(Some),
            Tee::Sample => self.sample(checks).map(Some),
            Tee::Sampledevice => self.sample_device(checks).map(Some),
            _ => Ok(None),
        }
    }

    fn snp(&self, checks: &mut Vec<Check>) -> Result<TrustVector, Error> {
        let measured = self.claim(
            checks,
            "appraisal.measurement",
            "measurement",
            "launch_measurement",
            Code::AttestMeasurementUnknown,
        )?;
        let mut current = true;
        for (check, claim, reference) in [
            ("appraisal.tcb.bootloader", "reported_tcb_bootloader", "bootloader"),
            ("appraisal.tcb.microcode", "reported_tcb_microcode", "microcode"),
            ("appraisal.tcb.snp", "reported_tcb_snp", "snp_svn"),
            ("appraisal.tcb.tee", "reported_tcb_tee", "tee_svn"),
        ] {
            current &= self.claim(checks, check, claim, reference, Code::AttestTcbOutdated)?;
        }
        Ok(TrustVector {
            executables: if measured { 3 } else { 33 },
            hardware: if current { 2 } else { 97 },
            configuration: self.snp_configuration(checks)?,
            ..TrustVector::default()
        })
    }

    /// The names and meaning of upstream's rules for sample evidence.
    fn sample(&self, checks: &mut Vec<Check>) -> Result<TrustVector, Error> {
        let measured = self.listed(
            checks,
            "appraisal.measurement",
            "launch_digest",
            "launch_digest",
            Code::AttestMeasurementUnknown,
        )?;
        let svn = self.listed(checks, "appraisal.svn", "svn", "svn", Code::AttestTcbOutdated)?;
        let major = self.listed(
            checks,
            "appraisal.platform.major",
            "/platform_version/major",
            "major_version",
            Code::AttestTcbOutdated,
        )?;
        let minor = self.at_least(checks, "/platform_version/minor", "minimum_minor_version")?;
        let debug = self.claims.get("debug") == Some(&Value::Bool(false));
        Ok(TrustVector {
            executables: if measured { 3 } else { 33 },
            hardware: if svn && major && minor { 2 } else { 97 },
            configuration: if debug { 2 } else { 36 },
            ..TrustVector::default()
        })
    }

    fn sample_device(&self, checks: &mut Vec<Check>) -> Result<TrustVector, Error> {
        let svn =
            self.listed(checks, "appraisal.device.svn", "svn", "device_svn", Code::AttestTcbOutdated)?;
        Ok(TrustVector { hardware: if svn { 2 } else { 97 }, ..TrustVector::default() })
    }

    fn claim(
        &self,
        checks: &mut Vec<Check>,
        check: &'static str,
        claim: &str,
        reference: &str,
        code: Code,
    ) -> Result<bool, Error> {
        self.listed(checks, check, claim, &snp_name(reference, self.simulated), code)
    }

    /// Whether a claim (a member, or a JSON pointer) is one of a reference's values.
    fn listed(
        &self,
        checks: &mut Vec<Check>,
        check: &'static str,
        claim: &str,
        name: &str,
        code: Code,
    ) -> Result<bool, Error> {
        let accepted = self.references.accepted(name, self.now_unix)?;
        let got = self.get(claim);
        let ok = contains(&accepted, got);
        let expected = match accepted.as_slice() {
            [] => format!("a value of {name}, of which none is registered"),
            [only] => format!("{name} {}", plain(only)),
            many => format!("one of the {} values of {name}", many.len()),
        };
        let code = (!ok).then_some(code);
        checks.push(Check { name: check, expected, got: plain(got), source: REFERENCES.into(), code });
        Ok(ok)
    }

    /// Whether a number is at least the smallest registered one.
    fn at_least(&self, checks: &mut Vec<Check>, claim: &str, name: &str) -> Result<bool, Error> {
        let accepted = self.references.accepted(name, self.now_unix)?;
        let got = self.get(claim);
        let least = accepted.iter().filter_map(Value::as_i64).min();
        let ok = matches!((got.as_i64(), least), (Some(got), Some(least)) if got >= least);
        checks.push(Check {
            name: "appraisal.platform.minor",
            expected: least.map_or_else(
                || format!("at least {name}, which is not registered"),
                |l| format!("at least {l}"),
            ),
            got: plain(got),
            source: REFERENCES.into(),
            code: (!ok).then_some(Code::AttestTcbOutdated),
        });
        Ok(ok)
    }

    fn get(&self, claim: &str) -> &Value {
        let found = if claim.starts_with('/') { self.claims.pointer(claim) } else { self.claims.get(claim) };
        found.unwrap_or(&Value::Null)
    }

    /// 2: all settings are reference values; 3: at least neither debugging nor migration is possible; 36: one is.
    /// It never fails the appraisal: what the owner asks for is the registration's least status.
    fn snp_configuration(&self, checks: &mut Vec<Check>) -> Result<i8, Error> {
        let off = |claim| self.claims.get(claim) == Some(&Value::Bool(false));
        let closed = off("policy_debug_allowed") && off("policy_migrate_ma");
        let mut unlisted = Vec::new();
        for (claim, reference) in [
            ("platform_smt_enabled", "smt_enabled"),
            ("platform_tsme_enabled", "tsme_enabled"),
            ("policy_abi_major", "guest_abi_major"),
            ("policy_abi_minor", "guest_abi_minor"),
            ("policy_single_socket", "single_socket"),
            ("policy_smt_allowed", "smt_allowed"),
        ] {
            let accepted = self.references.accepted(&snp_name(reference, self.simulated), self.now_unix)?;
            if !self.claims.get(claim).is_some_and(|got| contains(&accepted, got)) {
                unlisted.push(claim);
            }
        }
        let (value, got) = match (closed, unlisted.as_slice()) {
            (true, []) => (2, "2: every setting is a reference value".to_owned()),
            (true, names) => (3, format!("3: not among reference values: {}", names.join(", "))),
            (false, _) => (36, "36: debugging or migration is allowed".to_owned()),
        };
        checks.push(Check {
            name: "appraisal.configuration",
            expected: "2 or 3".into(),
            got,
            source: REFERENCES.into(),
            code: None,
        });
        Ok(value)
    }
}

/// Simulated evidence has reference values of its own (`sim_…` for `snp_…`), so that neither kind of guest can ever
/// pass by a value registered for the other.
fn snp_name(reference: &str, simulated: bool) -> String {
    format!("{}_{reference}", if simulated { "sim" } else { "snp" })
}

/// The name under which a policy's question is answered: see [`snp_name`]. Of simulated evidence every name is set apart, but
/// of samples, which are of no hardware's kind and have upstream's names.
pub(crate) fn asked_name(name: &str, input: &Value, simulated: bool) -> String {
    let own_names = [Tee::Sample, Tee::Sampledevice].iter().any(|tee| input.get(tee.name()).is_some());
    match (simulated, name.strip_prefix("snp_"), name.starts_with("sim_")) {
        (true, Some(reference), _) => snp_name(reference, true),
        (true, None, false) if !own_names => format!("sim_{name}"),
        // A real guest has no business with what was registered for simulated ones.
        (false, _, true) => format!("no-{name}"),
        _ => name.to_owned(),
    }
}

/// A claim as a person reads it.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => json!(other).to_string(),
    }
}
