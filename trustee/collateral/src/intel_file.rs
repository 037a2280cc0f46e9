//! The file that Intel's PcsClientTool writes for machines without a network (`platform_collaterals.json`).
//!
//! `{"platforms": …, "collaterals": {"tcbinfos": [{"fmspc", "sgx_tcbinfo", "tdx_tcbinfo", "…_early"}], "qeidentity",
//! "tdqeidentity", "pckcacrl": {"processorCrl", "platformCrl"}, "rootcacrl", "certificates": {…}}}`. Signed JSON stands
//! there as text or, reformatted, as an object; Intel signs the compact form in the order of its members. Revocation lists
//! are hex, issuer chains PEM in percent encoding.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use async_trait::async_trait;
use cocoon_evidence::collateral::{Document, IntelTee, Need, PckCa};
use serde_json::Value;

use crate::error::printable;
use crate::intel::{from_hex, percent_decoded};
use crate::offline::read_limited;
use crate::{Error, Provider, Update};

/// Largest file that is read.
const MAX_FILE: usize = 64 << 20;
/// Most platform families in it.
const MAX_FAMILIES: usize = 1_000;

type Documents = BTreeMap<Need, Document>;
type Version = (SystemTime, u64);
type Known = Mutex<Option<(Version, Arc<Documents>)>>;

/// Intel's documents from one file, which is read again when it changes.
#[derive(Debug)]
pub struct IntelFile {
    path: PathBuf,
    name: String,
    update: Update,
    known: Arc<Known>,
}

impl IntelFile {
    /// The file need not exist yet.
    pub fn new(path: &Path, update: Update) -> Self {
        IntelFile { path: path.to_owned(), name: path.display().to_string(), update, known: Arc::default() }
    }
}

#[async_trait]
impl Provider for IntelFile {
    fn name(&self) -> &str {
        &self.name
    }

    async fn fetch(&self, need: &Need) -> Result<Document, Error> {
        let (path, name, update, known) =
            (self.path.clone(), self.name.clone(), self.update, self.known.clone());
        let documents = tokio::task::spawn_blocking(move || read(&path, &name, update, &known))
            .await
            .map_err(|e| Error::Unreachable { at: self.name.clone(), problem: e.to_string() })??;
        documents.get(need).cloned().ok_or_else(|| Error::NotFound { at: self.name.clone() })
    }
}

fn read(path: &Path, name: &str, update: Update, known: &Known) -> Result<Arc<Documents>, Error> {
    let at = || name.to_owned();
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Err(Error::NotFound { at: at() }),
        Err(e) => return Err(Error::file(path, e)),
    };
    let version = (metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH), metadata.len());
    let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((of, documents)) = known.as_ref()
        && *of == version
    {
        return Ok(documents.clone());
    }
    let bytes = read_limited(path, MAX_FILE)?.ok_or_else(|| Error::NotFound { at: at() })?;
    let documents =
        parse(&bytes, update).map_err(|problem| Error::Answer { at: at(), problem: printable(&problem) })?;
    let documents = Arc::new(documents);
    *known = Some((version, documents.clone()));
    Ok(documents)
}

/// All documents of the file. What is missing is missing; what is there and not of its form is an error.
pub(crate) fn parse(bytes: &[u8], update: Update) -> Result<Documents, String> {
    let file: Value = serde_json::from_slice(bytes).map_err(|e| format!("not JSON: {e}"))?;
    let collaterals = file.get("collaterals").filter(|c| c.is_object()).ok_or("no `collaterals`")?;
    let certificates = collaterals.get("certificates");
    let tcb_chain = chain(certificates, "tcb-info-issuer-chain")?;
    let identity_chain = chain(certificates, "enclave-identity-issuer-chain")?;
    let mut documents = Documents::new();

    let families = collaterals.get("tcbinfos").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    if families.len() > MAX_FAMILIES {
        return Err(format!("more than {MAX_FAMILIES} platform families"));
    }
    for family in families {
        let fmspc = family.get("fmspc").and_then(Value::as_str).unwrap_or_default().to_ascii_lowercase();
        for (tee, names) in [
            (IntelTee::Sgx, ["sgx_tcbinfo", "tcbinfo"].as_slice()),
            (IntelTee::Tdx, ["tdx_tcbinfo"].as_slice()),
        ] {
            let need = Need::IntelTcbInfo { tee, fmspc: fmspc.clone() };
            need.check().map_err(|e| e.to_string())?;
            if let Some(body) = signed(family, names, update)? {
                documents.insert(need, Document { body, issuer_chain: tcb_chain.clone() });
            }
        }
    }
    for (tee, name) in [(IntelTee::Sgx, "qeidentity"), (IntelTee::Tdx, "tdqeidentity")] {
        if let Some(body) = signed(collaterals, &[name], update)? {
            let document = Document { body, issuer_chain: identity_chain.clone() };
            documents.insert(Need::IntelQeIdentity { tee }, document);
        }
    }
    let pck_chains = member(certificates, "pck-certificate-issuer-chain");
    for (ca, name) in [(PckCa::Processor, "processorCrl"), (PckCa::Platform, "platformCrl")] {
        if let Some(crl) = text(collaterals.get("pckcacrl").and_then(|crls| crls.get(name))) {
            let chains = pck_chains.and_then(|chains| chains.get(ca.as_str().to_ascii_uppercase()));
            let issuer_chain = decoded(chains)?;
            documents
                .insert(Need::IntelPckCrl { ca }, Document { body: from_hex(crl.as_bytes()), issuer_chain });
        }
    }
    if let Some(crl) = text(collaterals.get("rootcacrl")) {
        let document = Document { body: from_hex(crl.as_bytes()), issuer_chain: String::new() };
        documents.insert(Need::IntelRootCrl, document);
    }
    Ok(documents)
}

/// Signed JSON under the first of these names, in the wanted view where the file has both.
fn signed(holder: &Value, names: &[&str], update: Update) -> Result<Option<Vec<u8>>, String> {
    for name in names {
        let early = (update == Update::Early).then(|| holder.get(format!("{name}_early"))).flatten();
        match early.or_else(|| holder.get(*name)) {
            None | Some(Value::Null) => {}
            Some(Value::String(text)) if text.is_empty() => {}
            Some(Value::String(text)) => return Ok(Some(text.clone().into_bytes())),
            Some(object @ Value::Object(_)) => return Ok(Some(object.to_string().into_bytes())),
            Some(_) => return Err(format!("`{name}` is neither text nor an object")),
        }
    }
    Ok(None)
}

/// Writers differ in case and in a leading `sgx-`.
fn member<'v>(certificates: Option<&'v Value>, name: &str) -> Option<&'v Value> {
    let map = certificates?.as_object()?;
    map.iter()
        .find(|(key, _)| {
            let key = key.to_ascii_lowercase();
            key.strip_prefix("sgx-").unwrap_or(&key) == name
        })
        .map(|(_, value)| value)
}

fn chain(certificates: Option<&Value>, name: &str) -> Result<String, String> {
    decoded(member(certificates, name))
}

fn decoded(value: Option<&Value>) -> Result<String, String> {
    match text(value) {
        None => Ok(String::new()),
        // Every family's document has a copy of it.
        Some(text) if text.len() > Need::MAX_ISSUER_CHAIN => {
            Err("an issuer chain of more than 64 KiB".to_owned())
        }
        Some(text) => {
            percent_decoded(text).ok_or_else(|| "an issuer chain is not percent-encoded".to_owned())
        }
    }
}

fn text(value: Option<&Value>) -> Option<&str> {
    value.and_then(Value::as_str).filter(|text| !text.is_empty())
}
