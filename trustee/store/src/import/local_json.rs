//! `LocalJson`: one file `NAMESPACE.json` per namespace, a map from key to base64url text.

use std::collections::HashSet;
use std::fmt;
use std::path::Path;

use base64::Engine;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::de::{Deserializer, MapAccess, Visitor};
use zeroize::Zeroizing;

use super::folder::Folder;
use super::{Each, Imported, Report, is_key, is_namespace};
use crate::Error;

/// base64url with or without padding.
const BASE64URL: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Gives every value of upstream's `LocalJson` folder to `each`. An error means that the folder itself cannot be
/// opened or listed; all else is in the [`Report`].
pub fn import_local_json(folder: &Path, each: &mut Each<'_>) -> Result<Report, Error> {
    let root = Folder::open(folder)?;
    let mut report = Report::default();
    let listed = root.each_name(&mut |name| {
        let name = match name {
            Ok(name) => name,
            Err(name) => return report.problem(&name, "the name is not UTF-8"),
        };
        let Some(ns) = name.strip_suffix(".json").filter(|ns| is_namespace(ns)) else {
            return report.problem(name, "not NAMESPACE.json");
        };
        match root.read(name) {
            Ok(content) => file(ns, name, &content, &mut report, each),
            Err(reason) => report.problem(name, reason),
        }
    });
    listed.map_err(|reason| Error::io(folder, std::io::Error::other(reason)))?;
    Ok(report)
}

fn file(ns: &str, name: &str, content: &[u8], report: &mut Report, each: &mut Each<'_>) {
    let mut json = serde_json::Deserializer::from_slice(content);
    let entries = Entries { ns, name, report, each };
    let read = json.deserialize_map(entries).and_then(|()| json.end());
    if let Err(error) = read {
        // serde's text may quote a value, so only the place of the error is told.
        report.problem(name, format!("not a JSON map (line {}, column {})", error.line(), error.column()));
    }
}

struct Entries<'a, 'e> {
    ns: &'a str,
    name: &'a str,
    report: &'a mut Report,
    each: &'a mut Each<'e>,
}

impl<'de> Visitor<'de> for Entries<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut seen = HashSet::new();
        while let Some(key) = map.next_key::<String>()? {
            let place = format!("{}: {key}", self.name);
            // Other kinds of values are passed over, so that one bad entry does not end the file.
            let text = match map.next_value::<serde_json::Value>()? {
                serde_json::Value::String(text) => Zeroizing::new(text),
                _ => {
                    self.report.problem(&place, "the value is not a text");
                    continue;
                }
            };
            if !is_key(&key) {
                self.report.problem(&place, "not a valid key");
            } else if !seen.insert(key.clone()) {
                self.report.problem(&place, "the key is there twice; the first one was taken");
            } else if let Ok(value) = BASE64URL.decode(text.as_bytes()).map(Zeroizing::new) {
                let imported = Imported { namespace: self.ns.to_owned(), key, value };
                self.report.give(&place, imported, self.each);
            } else {
                self.report.problem(&place, "the value is not base64url");
            }
        }
        Ok(())
    }
}
