//! Comparing a log with the registers that hardware vouches for.

use cocoon_stage::Code;

use super::{Algorithm, EventLog};
use crate::Check;

impl EventLog {
    /// Checks that the log explains the given registers, and them alone. `expected` holds index, name and value of each
    /// register; `source` says where the values come from, e.g. `TDX quote`. Give all that hardware vouches for; of a TPM
    /// leave out only what the running system extends without telling this log: PCR 10 (Linux IMA), PCR 8 on Azure
    /// (CoCo's initdata).
    ///
    /// - `eventlog.bank`: the bank can be trusted, and every measured event has a digest of it.
    /// - `eventlog.replay`, once per register: its value is what the log's events make. A register without events must still
    ///   have the value it starts with.
    /// - `eventlog.registers`: no event is of another register; there is at least one register.
    /// - `eventlog.event-data`: the data has the measured digest where it must; see the module's documentation.
    pub fn check_registers<'a>(
        &self,
        bank: Algorithm,
        source: &str,
        expected: impl IntoIterator<Item = (u32, &'a str, &'a [u8])>,
    ) -> Vec<Check> {
        let code = Code::AttestEventLogMismatch;
        let values = self.values(bank);
        let mut checks = vec![self.check_bank(bank)];
        let mut compared = Vec::new();
        for (index, name, value) in expected {
            compared.push(index);
            let replayed = values.get(&index).copied().unwrap_or_else(|| self.initial(bank, index));
            let text = |value: &[u8]| match value.len() {
                0..=64 => format!("{name} {}", hex::encode(value)),
                length => format!("{name} of {length} bytes"),
            };
            let ok = replayed.as_bytes() == value;
            let (want, got) = (text(value), text(replayed.as_bytes()));
            checks.push(Check::new("eventlog.replay", ok, code, want, got, source));
        }

        let mut others: Vec<u32> =
            self.events.iter().filter(|e| e.kind.is_measured()).map(|e| e.index).collect();
        others.sort_unstable();
        others.dedup();
        others.retain(|index| !compared.contains(index));
        let ok = others.is_empty() && !compared.is_empty();
        let got = match ok {
            true => "events of these alone".to_owned(),
            false => format!("events of others: {others:?}"),
        };
        let want = format!("events of registers {compared:?}");
        checks.push(Check::new("eventlog.registers", ok, code, want, got, source));

        let liar = self.events.iter().enumerate().find(|(_, e)| !e.is_sound(bank));
        let got = match liar {
            None => "it is".to_owned(),
            Some((at, event)) => format!("event {at} ({}) has other data", event.kind.name()),
        };
        let want = "the data of separators, actions, driver variables and AAEL is what was measured";
        let spec = "TCG PFP 1.06, 10.4.1; CoCo AAEL";
        checks.push(Check::new("eventlog.event-data", liar.is_none(), code, want, got, spec));
        checks
    }

    fn check_bank(&self, bank: Algorithm) -> Check {
        let without =
            self.events.iter().enumerate().find(|(_, e)| e.kind.is_measured() && e.digest(bank).is_none());
        let got = match without {
            _ if bank == Algorithm::Sha1 => "SHA-1, which collides".to_owned(),
            None => "all have one".to_owned(),
            Some((at, event)) => format!("event {at} ({}) has none", event.kind.name()),
        };
        let ok = without.is_none() && bank != Algorithm::Sha1;
        let want = format!("a {} digest of every event", bank.name());
        let spec = "TCG PFP 1.06, 10.2.2";
        Check::new("eventlog.bank", ok, Code::AttestEventLogMismatch, want, got, spec)
    }
}

impl super::Event {
    /// Not known to have had its data replaced.
    fn is_sound(&self, bank: Algorithm) -> bool {
        !self.must_match() || (self.matches(bank) && (!self.is_aael() || self.aael().is_some()))
    }
}
