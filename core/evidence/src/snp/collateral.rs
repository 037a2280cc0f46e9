//! Roots of trust: AMD's, which are embedded, and simulated ones, which a Trustee must be told of.

use std::sync::{Arc, LazyLock};

use super::tcb::Generation;
use crate::Error;
use crate::x509::Certificate;

/// Every certificate of a simulated secure processor carries this in its common name.
pub const SIMULATED_MARK: &str = "SIMULATED";

/// The roots a verifier trusts.
#[derive(Clone, Debug)]
pub struct Roots {
    /// Trust AMD's roots.
    pub vendor: bool,
    /// Also trust these simulated roots. Empty everywhere but in tests and on a machine without a TEE.
    pub simulated: Vec<SimulatedRoot>,
}

impl Default for Roots {
    /// AMD's roots and nothing else.
    fn default() -> Self {
        Roots { vendor: true, simulated: Vec::new() }
    }
}

/// Root and intermediate of a simulated secure processor, DER.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SimulatedRoot {
    /// Self-signed root.
    pub ark_der: Vec<u8>,
    /// Intermediate that signs VCEKs.
    pub ask_der: Vec<u8>,
}

/// What a leaf endorses: one chip, or all chips of one cloud provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Vcek,
    Vlek,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::Vcek => "VCEK",
            Kind::Vlek => "VLEK",
        }
    }
}

/// An intermediate whose own chain to its root was verified.
#[derive(Debug)]
pub(super) struct Authority {
    pub generation: Generation,
    pub kind: Kind,
    pub simulated: bool,
    pub issuer: Certificate,
    pub root: Certificate,
}

impl Authority {
    fn verified(
        generation: Generation,
        kind: Kind,
        issuer: Certificate,
        root: Certificate,
    ) -> Result<Self, Error> {
        if !root.is_issued_by(&root) {
            return Err(Error::Certificate("the root does not sign itself"));
        }
        if !issuer.is_issued_by(&root) {
            return Err(Error::Certificate("the root does not sign the intermediate"));
        }
        if !root.is_authority() || !issuer.is_authority() {
            return Err(Error::Certificate("not an authority"));
        }
        Ok(Authority { generation, kind, simulated: false, issuer, root })
    }
}

impl SimulatedRoot {
    /// Checks that this is a chain of its own that calls itself simulated, so that no vendor's root (nor a root that
    /// claims to be one) is ever taken for a simulated one or the other way round.
    pub fn check(&self) -> Result<(), Error> {
        self.authority().map(|_| ())
    }

    pub(super) fn authority(&self) -> Result<Authority, Error> {
        let (root, issuer) = (Certificate::parse(&self.ark_der)?, Certificate::parse(&self.ask_der)?);
        if !root.subject().contains(SIMULATED_MARK) || !issuer.subject().contains(SIMULATED_MARK) {
            return Err(Error::SimulatedRoot("its names do not say SIMULATED"));
        }
        let generation = [Generation::Milan, Generation::Genoa, Generation::Turin]
            .into_iter()
            .find(|g| issuer.subject().contains(g.name()))
            .ok_or(Error::SimulatedRoot("its intermediate names no processor generation"))?;
        let authority = Authority::verified(generation, Kind::Vcek, issuer, root)?;
        Ok(Authority { simulated: true, ..authority })
    }
}

/// AMD's intermediates: ASK and ASVK of every generation.
pub(super) fn vendor() -> &'static [Arc<Authority>] {
    static VENDOR: LazyLock<Vec<Arc<Authority>>> =
        LazyLock::new(|| PEMS.iter().filter_map(|pem| pem.authority().ok()).map(Arc::new).collect());
    &VENDOR
}

struct Pem {
    generation: Generation,
    kind: Kind,
    issuer: &'static str,
    root: &'static str,
}

impl Pem {
    fn authority(&self) -> Result<Authority, Error> {
        let issuer = Certificate::parse(self.issuer.as_bytes())?;
        let root = Certificate::parse(self.root.as_bytes())?;
        Authority::verified(self.generation, self.kind, issuer, root)
    }
}

macro_rules! pem {
    ($generation:ident, $kind:ident, $issuer:literal, $root:literal) => {
        Pem {
            generation: Generation::$generation,
            kind: Kind::$kind,
            issuer: include_str!(concat!("roots/", $issuer, ".pem")),
            root: include_str!(concat!("roots/", $root, ".pem")),
        }
    };
}

static PEMS: [Pem; 6] = [
    pem!(Milan, Vcek, "milan-ask", "milan-ark"),
    pem!(Milan, Vlek, "milan-asvk", "milan-ark"),
    pem!(Genoa, Vcek, "genoa-ask", "genoa-ark"),
    pem!(Genoa, Vlek, "genoa-asvk", "genoa-ark"),
    pem!(Turin, Vcek, "turin-ask", "turin-ark"),
    pem!(Turin, Vlek, "turin-asvk", "turin-ark"),
];

#[cfg(test)]
mod tests {
    use aws_lc_rs::digest::{SHA256, digest};

    use super::*;

    /// SHA-256 of each ARK's DER as AMD publishes it.
    const ARKS: [(Generation, &str); 3] = [
        (Generation::Milan, "69d063b45344d26a2e94e1f4210de49ef555308287d4c174445c95639a540bcd"),
        (Generation::Genoa, "4c6598d19c18719c5dfd4a7d335f674e5bfe1d8f800cea2cf270c10d103db2f1"),
        (Generation::Turin, "1f084161a44bb6d93778a904877d4819cafa5d05ef4193b2ded9dd9c73dd3f6a"),
    ];

    #[test]
    fn all_embedded_authorities_verify_to_the_known_roots() {
        assert_eq!(vendor().len(), PEMS.len());
        for (authority, pem) in vendor().iter().zip(&PEMS) {
            let expected = ARKS.iter().find(|(g, _)| *g == authority.generation).unwrap().1;
            assert_eq!(hex::encode(digest(&SHA256, &der(pem.root))), expected);
            assert_eq!(authority.root.subject(), format!("ARK-{}", authority.generation));
            let prefix = if authority.kind == Kind::Vcek { "SEV-" } else { "SEV-VLEK-" };
            assert_eq!(authority.issuer.subject(), format!("{prefix}{}", authority.generation));
            assert!(!authority.simulated);
        }
    }

    fn der(pem: &str) -> Vec<u8> {
        der::Document::from_pem(pem).unwrap().1.into_vec()
    }

    #[test]
    fn a_vendor_root_is_not_a_simulated_one() {
        let root = SimulatedRoot { ark_der: der(PEMS[2].root), ask_der: der(PEMS[2].issuer) };
        assert_eq!(root.check(), Err(Error::SimulatedRoot("its names do not say SIMULATED")));
    }
}
