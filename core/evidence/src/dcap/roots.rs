//! Roots of trust: Intel's, which is embedded, and others that tests and simulations bring.

use std::sync::LazyLock;

use crate::x509::Certificate;

static PEM: &str = include_str!("roots/intel-sgx-root-ca.pem");

/// The roots a verifier trusts.
#[derive(Clone, Debug)]
pub struct Roots {
    /// Trust Intel's root, the `Intel SGX Root CA`.
    pub intel: bool,
    /// Also trust these. Whatever they vouch for makes a verdict simulated. Empty everywhere but in tests and on a
    /// machine without a TEE.
    pub extra: Vec<Certificate>,
}

impl Default for Roots {
    /// Intel's root and nothing else.
    fn default() -> Self {
        Roots { intel: true, extra: Vec::new() }
    }
}

impl Roots {
    /// All of them.
    pub(super) fn trusted(&self) -> Vec<Certificate> {
        let intel = intel().filter(|_| self.intel);
        intel.into_iter().chain(&self.extra).cloned().collect()
    }

    /// Whether a certificate is Intel's root.
    pub(super) fn is_intel(root: &Certificate) -> bool {
        intel().is_some_and(|intel| intel.der() == root.der())
    }
}

fn intel() -> Option<&'static Certificate> {
    static INTEL: LazyLock<Option<Certificate>> = LazyLock::new(|| Certificate::parse(PEM.as_bytes()).ok());
    INTEL.as_ref()
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::digest::{SHA256, digest};

    use super::*;

    #[test]
    fn the_embedded_root_is_intels() {
        let root = intel().unwrap();
        let hash = hex::encode(digest(&SHA256, root.der()));
        assert_eq!(hash, "44a0196b2b99f889b8e149e95b807a350e7424964399e885a7cbb8ccfab674d3");
        assert_eq!(root.subject(), "Intel SGX Root CA");
        assert!(root.is_issued_by(root) && root.is_authority() && root.may_sign_crl());
        assert_eq!(Roots::default().trusted().len(), 1);
        assert!(Roots { intel: false, extra: Vec::new() }.trusted().is_empty());
    }
}
