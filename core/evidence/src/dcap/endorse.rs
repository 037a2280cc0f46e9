//! Collateral: TCB information, quoting enclave identity and revocation lists, verified up to the root of the platform's
//! own chain.
//!
//! Source: Intel PCS API version 4, and Intel SGX PCK certificate and CRL profile specification.

use std::sync::Arc;

use aws_lc_rs::signature::ParsedPublicKey;
use cocoon_stage::Code;

use super::cache::Cache;
use super::chain::{self, PckChain};
use super::identity::QeIdentity;
use super::pck::Pck;
use super::quote::Quote;
use super::signed::Signed;
use super::tcb_info::TcbInfo;
use crate::collateral::{Collateral, Document, IntelTee, Need};
use crate::memory::key;
use crate::x509::{Certificate, Crl, Hash, Scheme, Validity, path};
use crate::{Check, Error};

const PCS: &str = "Intel PCS API version 4";
/// Longest issuer chain; Intel's have about 2 kB.
const MAX_CHAIN: usize = 32 * 1024;
const CRL: &str = "RFC 5280, 5 and 6.3";

/// What verification of a quote needs beside the quote. Without a readable PCK certificate the quote cannot be verified,
/// and only what every quote needs is named.
pub fn needs(quote: &Quote) -> Vec<Need> {
    let tee = quote.header.tee;
    let mut needs = vec![Need::IntelQeIdentity { tee }, Need::IntelRootCrl];
    if let Ok([leaf, ..]) = chain::read(&quote.chain) {
        if let Ok(pck) = Pck::of(&leaf) {
            needs.push(Need::IntelTcbInfo { tee, fmspc: hex::encode(pck.fmspc) });
        }
        if let Some(ca) = chain::authority_of(&leaf) {
            needs.push(Need::IntelPckCrl { ca });
        }
    }
    needs
}

/// When one of Intel's documents was issued and when its successor is due, as it says itself: nothing is verified. For
/// caches, which want to know when to fetch again.
///
/// # Errors
/// Where the document cannot be read; [`Error::Unsupported`] where it is none of Intel's.
pub fn update_window(need: &Need, document: &Document) -> Result<Validity, Error> {
    let window = |(not_before, not_after)| Validity { not_before, not_after };
    let body = &document.body;
    match need {
        Need::IntelRootCrl | Need::IntelPckCrl { .. } => Ok(Crl::parse(body)?.validity()),
        Need::IntelTcbInfo { .. } => {
            let info = TcbInfo::read(&Signed::split(TCB_INFO.what, TCB_INFO.field, body)?)?;
            Ok(window((info.issued, info.next_update)))
        }
        Need::IntelQeIdentity { .. } => {
            let identity = QeIdentity::read(&Signed::split(QE_IDENTITY.what, QE_IDENTITY.field, body)?)?;
            Ok(window((identity.issued, identity.next_update)))
        }
        _ => Err(Error::Unsupported {
            what: "Intel collateral",
            got: "a document of another vendor".to_owned(),
        }),
    }
}

/// Something that is good for a time only.
pub(super) struct Dated {
    /// The check's name.
    pub name: &'static str,
    /// What it is, readable.
    pub subject: String,
    pub validity: Validity,
    /// Whether it is a certificate, for which there is no grace.
    pub certificate: bool,
}

/// Collateral and all that was found out about it, apart from time.
pub(super) struct Endorsed {
    pub checks: Vec<Check>,
    pub dated: Vec<Dated>,
    pub root_crl: Option<Crl>,
    pub pck_crl: Option<Crl>,
    pub tcb_info: Option<TcbInfo>,
    pub identity: Option<QeIdentity>,
}

/// Verifies the collateral for a platform, or finds it among that verified before.
pub(super) fn endorse(
    chain: &PckChain,
    tee: IntelTee,
    collateral: &Collateral,
    cache: &Cache,
) -> Arc<Endorsed> {
    let wanted = [
        Need::IntelRootCrl,
        Need::IntelPckCrl { ca: chain.ca },
        Need::IntelTcbInfo { tee, fmspc: hex::encode(chain.pck.fmspc) },
        Need::IntelQeIdentity { tee },
    ];
    let found = wanted.each_ref().map(|need| collateral.get(need));
    let id = found.iter().all(Option::is_some).then(|| {
        let kind: &[u8] = if tee == IntelTee::Tdx { b"tdx" } else { b"sgx" };
        let documents = found.iter().flatten().flat_map(|d| [d.body.as_slice(), d.issuer_chain.as_bytes()]);
        let pck = [&chain.pck.fmspc[..], &chain.pck.pce_id];
        let issuers = [chain.authority.der(), chain.root.der()];
        key([kind].into_iter().chain(pck).chain(issuers).chain(documents))
    });
    if let Some(known) = id.and_then(|id| cache.endorsed.get(&id)) {
        return known;
    }
    let [root_crl, pck_crl, tcb_info, identity] = found;
    let endorsed = Arc::new(verify(chain, tee, root_crl, pck_crl, tcb_info, identity));
    if let Some(id) = id.filter(|_| endorsed.checks.iter().all(|c| c.code.is_none())) {
        cache.endorsed.put(id, endorsed.clone());
    }
    endorsed
}

fn verify(
    chain: &PckChain,
    tee: IntelTee,
    root_crl: Option<&Document>,
    pck_crl: Option<&Document>,
    tcb_info: Option<&Document>,
    identity: Option<&Document>,
) -> Endorsed {
    let mut out = Endorsed {
        checks: Vec::new(),
        dated: Vec::new(),
        root_crl: None,
        pck_crl: None,
        tcb_info: None,
        identity: None,
    };
    out.root_crl = out.crl(&ROOT_CRL, root_crl, &chain.root, &chain.root);
    out.pck_crl = out.crl(&PCK_CRL, pck_crl, &chain.authority, &chain.root);
    let revoked = out.root_crl.as_ref().map(|crl| crl.revokes(&chain.authority));
    out.checks.push(revocation("pck-ca.revocation", &chain.authority, revoked));
    out.tcb_info = out.signed(&TCB_INFO, tcb_info, &chain.root, TcbInfo::read);
    out.identity = out.signed(&QE_IDENTITY, identity, &chain.root, QeIdentity::read);
    if let Some(info) = &out.tcb_info {
        let is = |tee: IntelTee, fmspc: &[u8], pce: &[u8]| {
            format!("{tee:?}, FMSPC {}, PCE {}", hex::encode(fmspc), hex::encode(pce))
        };
        let expected = is(tee, &chain.pck.fmspc, &chain.pck.pce_id);
        let got = is(info.tee, &info.fmspc, &info.pce_id);
        let code = Code::AttestCollateralInvalid;
        out.checks.push(Check::new("tcb-info.platform", expected == got, code, expected, got, PCS));
        out.date("tcb-info.update", "TCB information", (info.issued, info.next_update));
    }
    if let Some(identity) = &out.identity {
        let (expected, got) = (format!("{tee:?}"), format!("{:?}", identity.tee));
        let code = Code::AttestCollateralInvalid;
        out.checks.push(Check::new("qe-identity.tee", expected == got, code, expected, got, PCS));
        out.date("qe-identity.update", "quoting enclave identity", (identity.issued, identity.next_update));
    }
    out
}

/// Names of a document's checks.
struct Names {
    what: &'static str,
    /// The field of signed JSON.
    field: &'static str,
    document: &'static str,
    chain: &'static str,
    signer_validity: &'static str,
    signer_revocation: &'static str,
    signature: &'static str,
    update: &'static str,
}

const ROOT_CRL: Names = Names {
    what: "root's revocation list",
    field: "",
    document: "root-crl.document",
    chain: "root-crl.chain",
    signer_validity: "root-crl.signer-validity",
    signer_revocation: "root-crl.signer-revocation",
    signature: "root-crl.signature",
    update: "root-crl.update",
};

const PCK_CRL: Names = Names {
    what: "PCK authority's revocation list",
    field: "",
    document: "pck-crl.document",
    chain: "pck-crl.chain",
    signer_validity: "pck-crl.signer-validity",
    signer_revocation: "pck-crl.signer-revocation",
    signature: "pck-crl.signature",
    update: "pck-crl.update",
};

const TCB_INFO: Names = Names {
    what: "TCB information",
    field: "tcbInfo",
    document: "tcb-info.document",
    chain: "tcb-info.chain",
    signer_validity: "tcb-info.signer-validity",
    signer_revocation: "tcb-info.signer-revocation",
    signature: "tcb-info.signature",
    update: "tcb-info.update",
};

const QE_IDENTITY: Names = Names {
    what: "quoting enclave identity",
    field: "enclaveIdentity",
    document: "qe-identity.document",
    chain: "qe-identity.chain",
    signer_validity: "qe-identity.signer-validity",
    signer_revocation: "qe-identity.signer-revocation",
    signature: "qe-identity.signature",
    update: "qe-identity.update",
};

impl Endorsed {
    fn date(&mut self, name: &'static str, subject: &str, (not_before, not_after): (u64, u64)) {
        let validity = Validity { not_before, not_after };
        self.dated.push(Dated { name, subject: subject.to_owned(), validity, certificate: false });
    }

    /// The document, or the check that it is missing.
    fn document<'a>(&mut self, names: &Names, document: Option<&'a Document>) -> Option<&'a Document> {
        if document.is_none() {
            let code = Code::AttestCollateralMissing;
            self.checks.push(Check::new(names.document, false, code, names.what, "nothing", PCS));
        }
        document
    }

    fn readable<T>(&mut self, names: &Names, read: Result<T, Error>) -> Option<T> {
        let got = read.as_ref().err().map_or("as specified".to_owned(), Error::to_string);
        let code = Code::AttestCollateralInvalid;
        self.checks.push(Check::new(names.document, read.is_ok(), code, names.what, got, PCS));
        read.ok()
    }

    /// A revocation list, which the given certificate of the platform's own verified chain must have signed.
    fn crl(
        &mut self,
        names: &Names,
        document: Option<&Document>,
        issuer: &Certificate,
        root: &Certificate,
    ) -> Option<Crl> {
        let document = self.document(names, document)?;
        let crl = self.readable(names, Crl::parse(&document.body))?;
        // The issuer is known from the platform's chain; one that comes with the list must be the same.
        if !document.issuer_chain.is_empty() {
            let chain = issuer_chain(document);
            let same = chain.ok().and_then(|chain| {
                let (leaf, pool) = chain.split_first()?;
                let roots = [root.clone()];
                path(leaf, pool, &roots).ok().map(|_| leaf.spki() == issuer.spki())
            });
            let code = Code::AttestCollateralInvalid;
            let got = if same == Some(true) { "the same" } else { "another, or none to the root" };
            let expected = format!("the chain of {}", issuer.subject());
            self.checks.push(Check::new(names.chain, same == Some(true), code, expected, got, CRL));
        }
        let signed = crl.is_signed_by(issuer);
        self.signature(names, issuer, signed);
        let validity = crl.validity();
        self.date(names.update, names.what, (validity.not_before, validity.not_after));
        signed.then_some(crl)
    }

    /// A signed JSON document; `None` unless its signature leads to the root.
    fn signed<T>(
        &mut self,
        names: &Names,
        document: Option<&Document>,
        root: &Certificate,
        read: impl FnOnce(&Signed<'_>) -> Result<T, Error>,
    ) -> Option<T> {
        let document = self.document(names, document)?;
        let signed = Signed::split(names.what, names.field, &document.body);
        let parsed = signed.and_then(|signed| read(&signed).map(|value| (signed, value)));
        let parsed = self.readable(names, parsed);
        let (signer, key) = self.signer(names, document, root)?;
        let (signed, value) = parsed?;
        let valid = key.verify_sig(signed.body.as_bytes(), &signed.signature).is_ok();
        self.signature(names, &signer, valid);
        valid.then_some(value)
    }

    /// The certificate that signs Intel's JSON: issued by the root itself, for that and nothing else.
    fn signer(
        &mut self,
        names: &Names,
        document: &Document,
        root: &Certificate,
    ) -> Option<(Certificate, ParsedPublicKey)> {
        let found = signing_certificate(document, root);
        let got = match &found {
            Ok((signer, _)) => format!("{} from {}", signer.subject(), root.subject()),
            Err(error) => error.to_string(),
        };
        let code = Code::AttestCollateralInvalid;
        let expected = format!("Intel SGX TCB Signing from {}", root.subject());
        self.checks.push(Check::new(names.chain, found.is_ok(), code, expected, got, PCS));
        let (signer, key) = found.ok()?;
        let revoked = self.root_crl.as_ref().map(|crl| crl.revokes(&signer));
        self.checks.push(revocation(names.signer_revocation, &signer, revoked));
        self.dated.push(Dated {
            name: names.signer_validity,
            subject: signer.subject(),
            validity: signer.validity(),
            certificate: true,
        });
        Some((signer, key))
    }

    fn signature(&mut self, names: &Names, signer: &Certificate, valid: bool) {
        let code = Code::AttestCollateralInvalid;
        let expected = format!("signed by {}", signer.subject());
        let got = if valid { "valid" } else { "invalid" };
        self.checks.push(Check::new(names.signature, valid, code, expected, got, PCS));
    }
}

fn issuer_chain(document: &Document) -> Result<Vec<Certificate>, Error> {
    match document.issuer_chain.len() {
        0..=MAX_CHAIN => Certificate::parse_chain(document.issuer_chain.as_bytes()),
        _ => Err(Error::Certificate("a chain of more than 32 KiB")),
    }
}

fn signing_certificate(
    document: &Document,
    root: &Certificate,
) -> Result<(Certificate, ParsedPublicKey), Error> {
    let mut chain = issuer_chain(document)?.into_iter();
    let signer = chain.next().ok_or(Error::Certificate("no PEM certificate"))?;
    // The root may be sent along; the trusted one is used, and nothing may stand between.
    if chain.any(|c| c.der() != root.der()) {
        return Err(Error::Certificate("more than the signing certificate and the root"));
    }
    path(&signer, &[], std::slice::from_ref(root))?;
    if signer.subject() != "Intel SGX TCB Signing" || signer.is_authority() || signer.der() == root.der() {
        return Err(Error::Certificate("not the certificate that signs TCB information"));
    }
    let key = signer.key()?.prepared(Scheme::EcdsaFixed(Hash::Sha256))?;
    Ok((signer, key))
}

/// The check that a certificate is not revoked; without a list nothing is known and the check fails.
pub(super) fn revocation(name: &'static str, certificate: &Certificate, revoked: Option<bool>) -> Check {
    let (code, got) = match revoked {
        None => (Code::AttestCollateralMissing, "no revocation list"),
        Some(true) => (Code::AttestRevoked, "revoked"),
        Some(false) => (Code::AttestRevoked, "not revoked"),
    };
    let expected = format!("{} not revoked", certificate.subject());
    Check::new(name, revoked == Some(false), code, expected, got, CRL)
}
