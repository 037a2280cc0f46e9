//! Processor generations and the TCB version, whose eight bytes mean different things on different generations.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Error;

/// An EPYC generation with its own roots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Generation {
    /// Zen 3.
    Milan,
    /// Zen 4 and 4c (Genoa, Bergamo, Siena).
    Genoa,
    /// Zen 5 and 5c.
    Turin,
}

impl Generation {
    /// The generation of a combined CPUID family and model (AMD 57230, product names); `None` for an unknown one.
    pub fn of_processor(family: u8, model: u8) -> Option<Self> {
        match (family, model) {
            (0x19, 0x00..=0x0f) => Some(Generation::Milan),
            (0x19, 0x10..=0x1f | 0xa0..=0xaf) => Some(Generation::Genoa),
            (0x1a, 0x00..=0x11) => Some(Generation::Turin),
            _ => None,
        }
    }

    /// The name in certificates and KDS paths.
    pub fn name(self) -> &'static str {
        match self {
            Generation::Milan => "Milan",
            Generation::Genoa => "Genoa",
            Generation::Turin => "Turin",
        }
    }

    /// How this generation lays out a TCB version.
    pub(crate) fn layout(self) -> Layout {
        match self {
            Generation::Milan | Generation::Genoa => Layout::Legacy,
            Generation::Turin => Layout::Turin,
        }
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Layout of the eight TCB bytes (AMD 56860, TCB_VERSION).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// bootloader, tee, 4 reserved, snp, microcode.
    Legacy,
    /// fmc, bootloader, tee, snp, 3 reserved, microcode.
    Turin,
}

/// A TCB version: one security patch level per firmware component.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Tcb {
    /// Firmware of the FMC; Turin and later only.
    #[serde(default)]
    pub fmc: Option<u8>,
    /// Secure processor's boot loader.
    pub bootloader: u8,
    /// Secure processor's operating system.
    pub tee: u8,
    /// SNP firmware.
    pub snp: u8,
    /// Microcode of all cores.
    pub microcode: u8,
}

impl Tcb {
    /// Whether every level is at least that of `least`. An FMC level asked for and absent is not reached.
    pub fn reaches(&self, least: &Tcb) -> bool {
        let fmc = match (self.fmc, least.fmc) {
            (_, None) => true,
            (None, Some(_)) => false,
            (Some(own), Some(least)) => own >= least,
        };
        fmc && self.bootloader >= least.bootloader
            && self.tee >= least.tee
            && self.snp >= least.snp
            && self.microcode >= least.microcode
    }

    /// Reads the eight bytes that stand at `offset` of a report.
    pub(crate) fn decode(raw: [u8; 8], layout: Layout, offset: usize) -> Result<Self, Error> {
        let [a, b, c, d, e, f, g, microcode] = raw;
        let (tcb, reserved) = match layout {
            Layout::Legacy => (Tcb { fmc: None, bootloader: a, tee: b, snp: g, microcode }, [c, d, e, f]),
            Layout::Turin => (Tcb { fmc: Some(a), bootloader: b, tee: c, snp: d, microcode }, [e, f, g, 0]),
        };
        if reserved == [0; 4] { Ok(tcb) } else { Err(Error::ReportReserved(offset)) }
    }

    /// The eight bytes; an FMC level on a generation without one is an error.
    pub(crate) fn encode(&self, layout: Layout) -> Result<[u8; 8], Error> {
        match (layout, self.fmc) {
            (Layout::Legacy, None) => Ok([self.bootloader, self.tee, 0, 0, 0, 0, self.snp, self.microcode]),
            (Layout::Turin, fmc) => {
                Ok([fmc.unwrap_or(0), self.bootloader, self.tee, self.snp, 0, 0, 0, self.microcode])
            }
            (Layout::Legacy, Some(_)) => {
                Err(Error::Field { field: "fmc", reason: "this processor's TCB has no FMC level" })
            }
        }
    }
}

impl fmt::Display for Tcb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(fmc) = self.fmc {
            write!(f, "fmc {fmc} ")?;
        }
        let Tcb { bootloader, tee, snp, microcode, .. } = self;
        write!(f, "bootloader {bootloader} tee {tee} snp {snp} microcode {microcode}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_differ_and_round_trip() {
        let raw = [3, 1, 0, 0, 0, 0, 8, 115];
        let legacy = Tcb::decode(raw, Layout::Legacy, 0).unwrap();
        assert_eq!(legacy, Tcb { fmc: None, bootloader: 3, tee: 1, snp: 8, microcode: 115 });
        assert_eq!(legacy.encode(Layout::Legacy).unwrap(), raw);

        let raw = [1, 2, 3, 4, 0, 0, 0, 77];
        let turin = Tcb::decode(raw, Layout::Turin, 0).unwrap();
        assert_eq!(turin, Tcb { fmc: Some(1), bootloader: 2, tee: 3, snp: 4, microcode: 77 });
        assert_eq!(turin.encode(Layout::Turin).unwrap(), raw);
        assert!(turin.encode(Layout::Legacy).is_err());
        assert_eq!(Tcb::decode(raw, Layout::Legacy, 7), Err(Error::ReportReserved(7)));
        assert_eq!(Tcb::decode([0, 0, 0, 0, 1, 0, 0, 0], Layout::Turin, 7), Err(Error::ReportReserved(7)));
    }

    #[test]
    fn processors() {
        assert_eq!(Generation::of_processor(0x19, 0x01), Some(Generation::Milan));
        assert_eq!(Generation::of_processor(0x19, 0xaf), Some(Generation::Genoa));
        assert_eq!(Generation::of_processor(0x1a, 0x02), Some(Generation::Turin));
        assert_eq!(Generation::of_processor(0x17, 0x31), None);
        assert_eq!(Generation::of_processor(0x19, 0x50), None);
    }
}
