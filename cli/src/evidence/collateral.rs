//! Vendors' documents at hand: of files and folders, never of the network.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use cocoon_collateral::bundle::{self, Contents};
use cocoon_collateral::{Bounds, Entry, Folder};
use cocoon_evidence::collateral::Collateral;
use cocoon_evidence::{Evidence, dcap};
use cocoon_stage::Failure;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::file::{MAX_FILE, json, read_up_to, usage};
use crate::dirs;

/// What is at hand for this evidence: in the places named, else in Trustee's cache.
pub fn at_hand(evidence: &Evidence, places: &[PathBuf]) -> Result<Collateral, Failure> {
    let mut collateral = Collateral::none();
    // A machine without a home has no cache either, and needs none.
    if let (true, Ok(cache)) = (places.is_empty(), dirs::collateral_dir())
        && cache.is_dir()
    {
        of_folder(evidence, &cache, &mut collateral)?;
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

/// Tells one quote's collateral from a bundle.
#[derive(Deserialize)]
struct Peek {
    tcb_info: Option<IgnoredAny>,
}

fn of_file(evidence: &Evidence, file: &Path, into: &mut Collateral) -> Result<(), Failure> {
    let bytes = read_up_to(file, bundle::MAX_BUNDLE)?;
    let peek: Peek = serde_json::from_slice(&bytes).map_err(|e| usage(file, &format!("not JSON: {e}")))?;
    if peek.tcb_info.is_some() {
        if bytes.len() > MAX_FILE {
            return Err(usage(file, "a quote's collateral is shorter than 16 MiB"));
        }
        return of_quote(evidence, file, &bytes, into);
    }
    let wrong = |e: cocoon_collateral::Error| usage(file, &e.to_string());
    let Contents { entries, refused } = bundle::read(&bytes, crate::embedded::now()).map_err(wrong)?;
    if let Some(refused) = refused.first() {
        return Err(usage(file, &format!("{}: {}", refused.need, refused.reason)));
    }
    for Entry { need, document, .. } in entries {
        into.insert(need, document);
    }
    Ok(())
}

/// What quote libraries hand out for one quote.
fn of_quote(evidence: &Evidence, file: &Path, bytes: &[u8], into: &mut Collateral) -> Result<(), Failure> {
    let quote = match evidence {
        Evidence::Tdx(evidence) => &evidence.quote,
        Evidence::Sgx(evidence) => evidence.quote(),
        Evidence::AzureTdx(evidence) => evidence.td_quote(),
        _ => return Err(usage(file, "a quote's collateral, and the evidence has no quote of Intel's")),
    };
    let value = json(bytes).map_err(|e| usage(file, &e))?;
    let documents = dcap::quote_collateral(&value, quote).map_err(|e| usage(file, &e.to_string()))?;
    for (need, document) in documents.iter() {
        into.insert(need.clone(), Arc::new(document.clone()));
    }
    Ok(())
}
