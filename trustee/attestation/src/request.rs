//! What is asked of the verification service.

use cocoon_evidence::tpm::enrol::Activated;
use cocoon_protocol::Tee;
use cocoon_protocol::initdata::InitData;
use serde_json::Value;

/// Evidence to appraise: of a guest's own TEE and of its devices.
pub struct AppraisalRequest<'a> {
    /// The first is the guest's own TEE; at most [`MAX_ITEMS`].
    pub items: Vec<Item<'a>>,
    /// Name of the attestation policies, `default` for guests; the class is appended.
    pub policy_id: &'a str,
    /// Now, in seconds since 1970.
    pub now_unix: u64,
}

/// Most pieces of evidence in one request.
pub const MAX_ITEMS: usize = 64;

/// One piece of evidence with what it must be bound to.
#[derive(Clone, Copy)]
pub struct Item<'a> {
    /// TEE or device kind.
    pub tee: Tee,
    /// Evidence in that kind's form.
    pub evidence: &'a Value,
    /// What the evidence must carry, as digest or as is. `None`: the caller of the verification service gave nothing to
    /// compare with, and the token says so.
    pub report_data: Option<&'a [u8]>,
    /// Initdata whose digest must be bound.
    pub init_data: Binding<'a>,
    /// Runtime data for the token: nonce and `tee-pubkey`, or whatever the caller hashed.
    pub runtime_data: Option<&'a Value>,
    /// The attestation key that its TPM has proved to hold, if it has.
    pub activated: Option<&'a Activated>,
}

/// Initdata as it was presented.
#[derive(Clone, Copy, Default)]
pub enum Binding<'a> {
    /// None.
    #[default]
    None,
    /// Its digest only.
    Digest(&'a [u8]),
    /// The document.
    Document(&'a InitData),
}

impl<'a> Binding<'a> {
    /// The digest that must be bound, if any.
    pub fn digest(&self) -> Option<Vec<u8>> {
        match self {
            Binding::None => None,
            Binding::Digest(digest) => Some(digest.to_vec()),
            Binding::Document(document) => Some(document.digest()),
        }
    }

    /// The document, if it was presented.
    pub fn document(&self) -> Option<&'a InitData> {
        match self {
            Binding::Document(document) => Some(document),
            _ => None,
        }
    }
}
