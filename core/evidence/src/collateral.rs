//! Collateral: what vendors publish about their platforms, by name, as bytes that verification checks.
//!
//! Verification never fetches. Evidence says what it [`Need`]s, a provider outside this library finds the documents, and
//! the verifier checks every one of them against roots of its own: a provider, a cache and a bundle are not trusted.

mod freshness;
mod need;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use freshness::{freshness, from_rfc3339};
pub use need::Vendor;

/// Intel's two TEEs, which have collateral of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IntelTee {
    /// SGX.
    Sgx,
    /// TDX.
    Tdx,
}

/// The authority that issued a PCK certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PckCa {
    /// Single-package machines.
    Processor,
    /// Multi-package machines.
    Platform,
}

/// One document, by what identifies it at its vendor.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Need {
    /// AMD: the VCEK certificate of a chip at a TCB. DER.
    AmdVcek {
        /// `Milan`, `Genoa` or `Turin`.
        product: String,
        /// Lower-case hex of the chip id, 64 bytes (8 on Turin).
        chip_id: String,
        /// The levels, as in the report.
        tcb: crate::snp::Tcb,
    },
    /// AMD: the list of revoked certificates of a product. DER.
    AmdCrl {
        /// `Milan`, `Genoa` or `Turin`.
        product: String,
        /// The list for keys of cloud providers instead of the one for chips' own keys.
        vlek: bool,
    },
    /// Intel: TCB information of a platform family, JSON with its signature; issuer chain as PEM.
    IntelTcbInfo {
        /// For which TEE.
        tee: IntelTee,
        /// Lower-case hex of the six FMSPC bytes.
        fmspc: String,
    },
    /// Intel: identity of the quoting enclave, JSON with its signature; issuer chain as PEM.
    IntelQeIdentity {
        /// For which TEE.
        tee: IntelTee,
    },
    /// Intel: revoked PCK certificates, DER; issuer chain as PEM.
    IntelPckCrl {
        /// Of which authority.
        ca: PckCa,
    },
    /// Intel: certificates revoked by the root, DER.
    IntelRootCrl,
    /// NVIDIA: a reference integrity manifest, XML.
    NvidiaRim {
        /// Its id, e.g. `NV_GPU_DRIVER_GH100_535.86.09`.
        id: String,
    },
    /// Hygon: HSK and CEK of a chip, the vendor's binary form.
    HygonCertificates {
        /// The chip's serial number.
        chip_id: String,
    },
}

/// A document as its vendor serves it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Document {
    /// The document itself.
    pub body: Vec<u8>,
    /// PEM chain of the certificates that sign it, leaf first, where the vendor sends one beside it; else empty.
    pub issuer_chain: String,
}

/// Documents at hand.
#[derive(Clone, Debug, Default)]
pub struct Collateral {
    documents: BTreeMap<Need, Arc<Document>>,
}

impl Collateral {
    /// None.
    pub fn none() -> Self {
        Collateral::default()
    }

    /// Adds a document, in place of one known for the same need.
    pub fn insert(&mut self, need: Need, document: Arc<Document>) {
        self.documents.insert(need, document);
    }

    /// The document for a need.
    pub fn get(&self, need: &Need) -> Option<&Document> {
        self.documents.get(need).map(Arc::as_ref)
    }

    /// All, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&Need, &Document)> {
        self.documents.iter().map(|(need, document)| (need, document.as_ref()))
    }
}
