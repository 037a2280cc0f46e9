//! Roots of trust, and the reference manifests that a report's measurements are compared with.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use super::evidence::{Architecture, DeviceEvidence, Evidence};
use crate::collateral::Need;
use crate::x509::Certificate;

/// Whom to trust.
#[derive(Clone, Debug)]
pub struct Trust {
    /// Roots of device certificates.
    pub device_roots: Vec<Certificate>,
    /// Roots of those who sign reference manifests.
    pub rim_roots: Vec<Certificate>,
    /// Whether a device fails where a manifest is not at hand. Upstream's verifier compares none.
    pub require_rims: bool,
}

impl Default for Trust {
    /// NVIDIA's two roots; manifests are compared where they are at hand.
    fn default() -> Self {
        static ROOTS: LazyLock<[Vec<Certificate>; 2]> = LazyLock::new(|| PEMS.map(embedded));
        let [device_roots, rim_roots] = ROOTS.clone();
        Trust { device_roots, rim_roots, require_rims: false }
    }
}

const PEMS: [&str; 2] =
    [include_str!("roots/device-identity-ca.pem"), include_str!("roots/corim-signing-root-ca.pem")];

fn embedded(pem: &str) -> Vec<Certificate> {
    Certificate::parse(pem.as_bytes()).into_iter().collect()
}

/// The manifests that could be compared, each once: `NV_GPU_DRIVER_…` or `NV_GPU_CC_DRIVER_…`, `NV_GPU_VBIOS_…`,
/// `NV_SWITCH_BIOS_…`. A provider gives the manifest itself, XML, as [`crate::collateral::Document::body`].
pub fn needs(evidence: &Evidence) -> Vec<Need> {
    let parts = evidence.devices.iter().flat_map(wanted);
    let ids: BTreeSet<String> = parts.filter_map(|wanted| wanted.id).collect();
    ids.into_iter().map(|id| Need::NvidiaRim { id }).collect()
}

/// Which of a device's software a manifest describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Driver,
    Firmware,
}

/// A manifest that a device's report calls for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub part: Part,
    /// `None` where the report does not tell all of it.
    pub id: Option<String>,
    /// Version that the manifest must be of.
    pub version: String,
    /// Product that it must be of, where NVIDIA's name for it is known.
    pub product: Option<String>,
}

/// Of the one switch board that exists.
const LS10_BOARD: &str = "5612_0002_890";

/// The manifests for a device. All parts of an id are letters, digits and dots, see [`super::Opaque`].
pub(super) fn wanted(device: &DeviceEvidence) -> Vec<Wanted> {
    let opaque = &device.report.opaque;
    let upper = |text: &str| text.to_ascii_uppercase();
    let firmware = upper(&opaque.vbios_version.replace('.', ""));
    let product = match device.architecture {
        Architecture::Hopper => Some("GH100".to_owned()),
        Architecture::Blackwell => opaque.chip.clone(),
        Architecture::Ls10 => None,
    };
    let mut all = Vec::new();
    let firmware_id = match device.architecture {
        Architecture::Ls10 => Some(format!("NV_SWITCH_BIOS_{LS10_BOARD}_{firmware}")),
        Architecture::Hopper | Architecture::Blackwell => {
            let version = opaque.driver_version.clone().unwrap_or_default();
            let id = match (device.architecture, &opaque.chip) {
                (Architecture::Blackwell, Some(chip)) => Some(format!("NV_GPU_CC_DRIVER_{chip}_{version}")),
                (Architecture::Blackwell, None) => None,
                _ => Some(format!("NV_GPU_DRIVER_GH100_{version}")),
            };
            all.push(Wanted { part: Part::Driver, id, version, product: product.clone() });
            match (&opaque.project, &opaque.project_sku, &opaque.chip_sku) {
                (Some(project), Some(sku), Some(chip)) => {
                    Some(upper(&format!("NV_GPU_VBIOS_{project}_{sku}_{chip}_{firmware}")))
                }
                _ => None,
            }
        }
    };
    let version = opaque.vbios_version.clone();
    all.push(Wanted { part: Part::Firmware, id: firmware_id, version, product });
    all
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::digest::{SHA256, digest};

    use super::*;

    #[test]
    fn the_embedded_roots_are_nvidias() {
        let Trust { device_roots, rim_roots, require_rims } = Trust::default();
        assert!(!require_rims);
        for (roots, subject, sha256) in [
            (
                device_roots,
                "NVIDIA Device Identity CA",
                "102bf659d5419614c9d8e6aecebc80454eb26b1df6a769ac720b9a690b167b48",
            ),
            (
                rim_roots,
                "NVIDIA CoRIM signing Root CA",
                "12977b5115acb0381179279fffeb5a8c4d264971ebb32298023a465fa41df5d1",
            ),
        ] {
            let [root] = roots.as_slice() else { panic!("{subject}") };
            assert_eq!(root.subject(), subject);
            assert!(root.is_issued_by(root) && root.is_authority());
            assert_eq!(hex::encode(digest(&SHA256, root.der())), sha256);
        }
    }
}
