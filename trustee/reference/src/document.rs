//! The message that carries a document, and what every format's reader makes of it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::value::MAX_VALUES;
use crate::{Error, TrustAnchors, cocoon, corim, in_toto, json, sample, swid};

/// Longest message in bytes (2 MiB); its payload is base64, so a document has at most three quarters of that.
pub const MAX_MESSAGE: usize = 2 * 1024 * 1024;
/// The only version of messages.
const VERSION: &str = "0.1.0";
/// Most reference values in one document.
const MAX_RECORDS: usize = 4096;

/// The formats of documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// A JSON object, name to value; cannot be signed.
    Sample,
    /// TCG reference integrity manifest as SWID tag, XML, as NVIDIA publishes them.
    Swid,
    /// Concise reference integrity manifest, CBOR, signed as COSE_Sign1.
    Corim,
    /// in-toto statement with SLSA provenance in a DSSE envelope.
    InToto,
    /// Our own: JSON in a DSSE envelope.
    Cocoon,
}

impl Format {
    /// As in a message.
    pub fn as_str(self) -> &'static str {
        match self {
            Format::Sample => "sample",
            Format::Swid => "swid",
            Format::Corim => "corim",
            Format::InToto => "in-toto",
            Format::Cocoon => "cocoon",
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Message {
    #[serde(default)]
    version: Option<String>,
    #[serde(rename = "type")]
    format: Format,
    payload: String,
}

/// The message that carries a document: `{"version":"0.1.0","type":…,"payload":<base64>}`.
pub fn message(format: Format, document: &[u8]) -> String {
    json!({ "version": VERSION, "type": format.as_str(), "payload": STANDARD.encode(document) }).to_string()
}

/// Format and document of a message.
pub(crate) fn open(message: &[u8]) -> Result<(Format, Vec<u8>), Error> {
    if message.len() > MAX_MESSAGE {
        return Err(Error::TooLarge { what: "a message", size: message.len(), limit: MAX_MESSAGE });
    }
    let parsed: Message = json::parse("message", message)?;
    let refused = |reason: &str| Error::Document { format: "message", reason: reason.to_owned() };
    if parsed.version.is_some_and(|version| version != VERSION) {
        return Err(refused("version is not 0.1.0"));
    }
    let payload = parsed.payload.trim_ascii();
    let document = STANDARD.decode(payload).map_err(|_| refused("payload is not base64"))?;
    Ok((parsed.format, document))
}

/// One reference value of a document.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub name: String,
    pub values: Vec<Value>,
    pub single: bool,
}

impl Entry {
    /// An array is a list of values, anything else a single one.
    pub fn from_json(name: String, value: Value) -> Self {
        match value {
            Value::Array(values) => Entry { name, values, single: false },
            value => Entry { name, values: vec![value], single: true },
        }
    }
}

/// What a document says, in any format.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Document {
    /// Its set, source and version, where it names them.
    pub set: Option<String>,
    pub source: Option<String>,
    pub version: Option<u64>,
    /// From when on it does not count.
    pub expires_unix: Option<u64>,
    pub entries: Vec<Entry>,
    /// Whose signature was verified; `None`: nobody's, and that was waived.
    pub signed_by: Option<String>,
}

impl Document {
    /// Adds values; those of a name that is there already join it, as a list.
    pub fn add(&mut self, format: Format, entry: Entry) -> Result<(), Error> {
        let fits = |values: usize| {
            if values <= MAX_VALUES {
                Ok(())
            } else {
                Err(refused(format, "more than 1024 values of one name"))
            }
        };
        fits(entry.values.len())?;
        if let Some(known) = self.entries.iter_mut().find(|known| known.name == entry.name) {
            for value in entry.values {
                if !known.values.contains(&value) {
                    known.values.push(value);
                    known.single = false;
                    fits(known.values.len())?;
                }
            }
            return Ok(());
        }
        if self.entries.len() >= MAX_RECORDS {
            return Err(refused(format, "more than 4096 reference values"));
        }
        self.entries.push(entry);
        Ok(())
    }
}

/// The error for a malformed document.
pub(crate) fn refused(format: Format, reason: impl Into<String>) -> Error {
    Error::Document { format: format.as_str(), reason: reason.into() }
}

/// Whose word is taken: the anchors, the time, and whether nobody's will do.
pub(crate) struct Judge<'a> {
    pub trust: &'a TrustAnchors,
    pub now_unix: u64,
    pub unsigned_ok: bool,
}

impl Judge<'_> {
    /// `None` for a document without signature, if that was waived.
    pub fn unsigned(&self, format: Format) -> Result<Option<String>, Error> {
        if self.unsigned_ok { Ok(None) } else { Err(Error::Unsigned(format.as_str())) }
    }

    /// The signer; `None` for one who is not trusted, if signatures were waived. A signature that is wrong is an
    /// error all the same: such a document was altered.
    pub fn signer(&self, verified: Result<String, Error>) -> Result<Option<String>, Error> {
        match verified {
            Ok(signer) => Ok(Some(signer)),
            Err(Error::Untrusted(_)) if self.unsigned_ok => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Reads a document of any format and judges its signature.
pub(crate) fn read(format: Format, document: &[u8], judge: &Judge<'_>) -> Result<Document, Error> {
    let read = match format {
        Format::Sample => sample::read(document, judge),
        Format::Swid => swid::read(document, judge),
        Format::Corim => corim::read(document, judge),
        Format::InToto => in_toto::read(document, judge),
        Format::Cocoon => cocoon::read(document, judge),
    }?;
    if read.entries.is_empty() {
        return Err(refused(format, "holds no reference values"));
    }
    Ok(read)
}
