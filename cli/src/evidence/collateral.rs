//! Vendors' documents at hand: of files and folders, never of the network.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use cocoon_collateral::bundle::{self, Contents};
use cocoon_collateral::{Bounds, Entry, Folder};
use cocoon_evidence::collateral::Collateral;
use cocoon_evidence::{Evidence, dcap};
use cocoon_stage::Failure;
use serde_json::Value;

use super::{read, usage};
use crate::dirs;

/// What is at hand for this evidence: in the places named, else in Trustee's cache.
pub fn at_hand(evidence: &Evidence, places: &[PathBuf]) -> Result<Collateral, Failure> {
    let mut collateral = Collateral::none();
    if places.is_empty() {
        let cache = dirs::collateral_dir()?;
        if cache.is_dir() {
            of_folder(evidence, &cache, &mut collateral)?;
        }
    }
    for place in places {
        if place.is_dir() {
            of_folder(evidence, place, &mut collateral)?;
        } else {
            of_file(evidence, place, &mut collateral)?;
        }
    }
    Ok(collateral)
}

fn of_folder(evidence: &Evidence, place: &Path, into: &mut Collateral) -> Result<(), Failure> {
    let folder = Folder::open(place, Bounds::default())?;
    for need in evidence.needs() {
        if let Some(entry) = folder.read(&need) {
            into.insert(need, entry.document);
        }
    }
    Ok(())
}

fn of_file(evidence: &Evidence, file: &Path, into: &mut Collateral) -> Result<(), Failure> {
    let bytes = read(file)?;
    let value: Value = serde_json::from_slice(&bytes).map_err(|e| usage(file, &e.to_string()))?;
    if value.get("tcb_info").is_some() {
        let quote = match evidence {
            Evidence::Tdx(evidence) => &evidence.quote,
            Evidence::Sgx(evidence) => evidence.quote(),
            Evidence::AzureTdx(evidence) => evidence.td_quote(),
            _ => return Err(usage(file, "a quote's collateral, and the evidence has no quote of Intel's")),
        };
        let documents = dcap::quote_collateral(&value, quote)?;
        for (need, document) in documents.iter() {
            into.insert(need.clone(), Arc::new(document.clone()));
        }
        return Ok(());
    }
    let Contents { entries, refused } = bundle::read(&bytes, crate::embedded::now())?;
    if let Some(refused) = refused.first() {
        return Err(usage(file, &format!("{}: {}", refused.need, refused.reason)));
    }
    for Entry { need, document, .. } in entries {
        into.insert(need, document);
    }
    Ok(())
}
