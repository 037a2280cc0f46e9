//! Bundles: documents in one file, from a machine with a network to one without.
//!
//! `{"format": "cocoon-collateral", "version": 1, "created_unix": …, "documents": [{"need", "fetched_unix", "from",
//! "valid_from_unix", "valid_until_unix", "sha256", "issuer_chain", "body"}]}`. A bundle is not signed: what it holds is
//! signed by vendors, and is verified when it is used.

use serde::{Deserialize, Serialize};

use crate::entry::{Entry, Record};
use crate::error::printable;
use crate::folder::{Folder, Offer};
use crate::{Error, Update};

/// Largest bundle, bytes.
pub const MAX_BUNDLE: usize = 128 << 20;
/// Most documents of one.
const MAX_DOCUMENTS: usize = 20_000;
const FORMAT: &str = "cocoon-collateral";
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Bundle {
    format: String,
    version: u32,
    created_unix: u64,
    documents: Vec<Record>,
}

/// The documents as a bundle.
///
/// # Errors
/// [`Error::Bundle`] where it would be larger than one may be.
pub fn export(entries: &[Entry], now_unix: u64) -> Result<Vec<u8>, Error> {
    let bundle = Bundle {
        format: FORMAT.into(),
        version: VERSION,
        created_unix: now_unix,
        documents: entries.iter().map(Record::of).collect(),
    };
    let bytes = serde_json::to_vec(&bundle).map_err(|e| Error::Bundle(e.to_string()))?;
    if entries.len() > MAX_DOCUMENTS || bytes.len() > MAX_BUNDLE {
        return Err(Error::Bundle(format!(
            "{} documents in {} bytes are too many for one bundle",
            entries.len(),
            bytes.len()
        )));
    }
    Ok(bytes)
}

/// A document of a bundle that is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refused {
    /// Which, printable.
    pub need: String,
    /// Why.
    pub reason: String,
}

/// What a bundle holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// Its documents.
    pub entries: Vec<Entry>,
    /// What is none.
    pub refused: Vec<Refused>,
}

/// What an import did; documents by their printable needs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Imported {
    /// Now in the folder.
    pub stored: Vec<String>,
    /// The folder has newer ones.
    pub kept: Vec<String>,
    /// Not what they should be.
    pub refused: Vec<Refused>,
}

/// Reads a bundle. One bad document does not keep the others out.
///
/// # Errors
/// [`Error::Bundle`] where it is no bundle of this version or is larger than one may be.
pub fn read(bytes: &[u8], now_unix: u64) -> Result<Contents, Error> {
    if bytes.len() > MAX_BUNDLE {
        return Err(Error::Bundle(format!("a bundle has at most {MAX_BUNDLE} bytes")));
    }
    let bundle: Bundle = serde_json::from_slice(bytes)
        .map_err(|e| Error::bundle(format_args!("no collateral bundle: {e}")))?;
    if bundle.format != FORMAT {
        return Err(Error::bundle("no collateral bundle: it says that it is of another format"));
    }
    if bundle.version != VERSION {
        return Err(Error::Bundle(format!(
            "the bundle is of version {}, this program reads {VERSION}",
            bundle.version
        )));
    }
    if bundle.documents.len() > MAX_DOCUMENTS {
        return Err(Error::Bundle(format!("a bundle has at most {MAX_DOCUMENTS} documents")));
    }
    let mut contents = Contents::default();
    for record in bundle.documents {
        let need = record.label();
        match record.open() {
            Ok(entry) if entry.is_of_the_future(now_unix) => {
                contents.refused.push(Refused { need, reason: "it begins in the future".into() });
            }
            // A time of fetching to come would keep later ones from taking its place.
            Ok(entry) => {
                contents.entries.push(Entry { fetched_unix: entry.fetched_unix.min(now_unix), ..entry });
            }
            Err(e) => contents.refused.push(Refused { need, reason: printable(&e.to_string()) }),
        }
    }
    Ok(contents)
}

/// Puts a bundle's documents into the folder; none takes the place of a newer one.
///
/// # Errors
/// As [`read`], and [`Error::File`] where the folder cannot be written.
pub fn import(bytes: &[u8], folder: &Folder, now_unix: u64) -> Result<Imported, Error> {
    take_over(read(bytes, now_unix)?, folder)
}

/// Puts the documents of Intel's `platform_collaterals.json` into the folder; none takes the place of a newer one.
///
/// # Errors
/// As [`import`].
pub fn import_intel(bytes: &[u8], update: Update, folder: &Folder, now_unix: u64) -> Result<Imported, Error> {
    take_over(read_intel(bytes, update, now_unix)?, folder)
}

/// Reads the file that Intel's PcsClientTool writes.
///
/// # Errors
/// [`Error::Bundle`] where it is none, or larger than a bundle may be.
pub fn read_intel(bytes: &[u8], update: Update, now_unix: u64) -> Result<Contents, Error> {
    if bytes.len() > MAX_BUNDLE {
        return Err(Error::Bundle(format!("a bundle has at most {MAX_BUNDLE} bytes")));
    }
    let documents = crate::intel_file::parse(bytes, update).map_err(Error::bundle)?;
    let mut contents = Contents::default();
    for (need, document) in documents {
        let label = need.to_string();
        match Entry::new(need, document, "PcsClientTool", now_unix) {
            Ok(entry) if entry.is_of_the_future(now_unix) => {
                contents.refused.push(Refused { need: label, reason: "it begins in the future".into() });
            }
            Ok(entry) => contents.entries.push(entry),
            Err(e) => contents.refused.push(Refused { need: label, reason: printable(&e.to_string()) }),
        }
    }
    Ok(contents)
}

fn take_over(Contents { entries, refused }: Contents, folder: &Folder) -> Result<Imported, Error> {
    let mut imported = Imported { refused, ..Imported::default() };
    for entry in entries {
        let need = entry.need.to_string();
        match folder.offer(&entry, false)? {
            Offer::Stored => imported.stored.push(need),
            Offer::Kept => imported.kept.push(need),
        }
    }
    Ok(imported)
}
