//! The kinds of TEE and device that the protocol names.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Error;

macro_rules! tees {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal,)+) => {
        /// A kind of TEE or device, by the names of KBS protocol 0.4.0; older spellings are read too.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "&'static str")]
        pub enum Tee {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Tee {
            /// Every kind.
            pub const ALL: &[Tee] = &[$(Tee::$variant),+];

            /// The name on the wire.
            pub fn name(self) -> &'static str {
                match self {
                    $(Tee::$variant => $name,)+
                }
            }
        }
    };
}

tees! {
    /// AMD SEV-SNP in an Azure guest, through its vTPM.
    AzSnpVtpm = "az-snp-vtpm",
    /// Intel TDX in an Azure guest, through its vTPM.
    AzTdxVtpm = "az-tdx-vtpm",
    /// NVIDIA GPUs and switches.
    Nvidia = "nvidia",
    /// Intel SGX.
    Sgx = "sgx",
    /// AMD SEV-SNP.
    Snp = "snp",
    /// Intel TDX.
    Tdx = "tdx",
    /// Arm CCA.
    Cca = "cca",
    /// Hygon CSV.
    Csv = "csv",
    /// IBM Secure Execution.
    Se = "se",
    /// Hygon DCU.
    Hygondcu = "hygondcu",
    /// NVIDIA DPUs; also read as `nvidiadpu`.
    NvidiaDpu = "nvidia-dpu",
    /// AMD SEV and SEV-ES without SNP; named by old guests only.
    Sev = "sev",
    /// A TPM on its own.
    Tpm = "tpm",
    /// Evidence without any hardware, for tests only.
    Sample = "sample",
    /// Device evidence without any hardware, for tests only.
    Sampledevice = "sampledevice",
}

impl Tee {
    /// Whether this is a device beside a guest's own TEE. A device says nothing of the guest that shows it.
    pub fn is_device(self) -> bool {
        matches!(self, Tee::Nvidia | Tee::Hygondcu | Tee::NvidiaDpu | Tee::Sampledevice)
    }
}

impl From<Tee> for &'static str {
    fn from(tee: Tee) -> Self {
        tee.name()
    }
}

impl fmt::Display for Tee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Tee {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        // Spellings of protocol 0.1.1 and 0.2.0, and of early 0.4.0 guests.
        match name {
            "nvidiadpu" => return Ok(Tee::NvidiaDpu),
            "azsnpvtpm" => return Ok(Tee::AzSnpVtpm),
            "aztdxvtpm" => return Ok(Tee::AzTdxVtpm),
            _ => {}
        }
        Tee::ALL.iter().copied().find(|tee| tee.name() == name).ok_or_else(|| {
            let shown: String = name.chars().take(32).collect();
            Error::invalid("tee", format!("{shown:?} is not known"))
        })
    }
}

impl TryFrom<String> for Tee {
    type Error = Error;

    fn try_from(name: String) -> Result<Self, Error> {
        name.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        let names: Vec<_> = Tee::ALL.iter().map(Tee::to_string).collect();
        assert_eq!(
            names.join(" "),
            "az-snp-vtpm az-tdx-vtpm nvidia sgx snp tdx cca csv se hygondcu nvidia-dpu sev tpm sample sampledevice"
        );
        for (tee, name) in Tee::ALL.iter().zip(names) {
            let json = serde_json::to_string(tee).unwrap();
            assert_eq!(json, format!("\"{name}\""));
            assert_eq!(serde_json::from_str::<Tee>(&json).unwrap(), *tee);
        }
        assert_eq!("nvidiadpu".parse::<Tee>().unwrap(), Tee::NvidiaDpu);
    }

    #[test]
    fn other_names_are_refused() {
        for (old, tee) in [("azsnpvtpm", Tee::AzSnpVtpm), ("aztdxvtpm", Tee::AzTdxVtpm)] {
            assert_eq!(old.parse::<Tee>().unwrap(), tee);
        }
        for bad in ["", "SNP", "snp ", "sev ", "az_snp_vtpm", "unknown"] {
            assert!(bad.parse::<Tee>().is_err(), "{bad:?}");
        }
        assert!(serde_json::from_str::<Tee>("7").is_err());
        assert!("x".repeat(1 << 20).parse::<Tee>().unwrap_err().to_string().len() < 100);
    }
}
