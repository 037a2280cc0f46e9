//! The plain format: a JSON object, name to value. It says nothing of who made it.

use serde_json::{Map, Value};

use crate::document::{Document, Entry, Format, Judge};
use crate::{Error, json};

pub(crate) fn read(document: &[u8], judge: &Judge<'_>) -> Result<Document, Error> {
    let signed_by = judge.unsigned(Format::Sample)?;
    let members: Map<String, Value> = json::parse(Format::Sample.as_str(), document)?;
    let mut read = Document { signed_by, ..Document::default() };
    for (name, value) in members {
        read.add(Format::Sample, Entry::from_json(name, value))?;
    }
    Ok(read)
}
