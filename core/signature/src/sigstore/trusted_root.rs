//! A Sigstore instance's roots as JSON (protobuf-specs, sigstore_trustroot.proto, `TrustedRoot`).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cocoon_evidence::x509::Certificate;
use serde::Deserialize;

use cocoon_image::Error;

use super::trust::{Authority, Log, Roots, Window};
use crate::VerifyingKey;

const MAX_BYTES: usize = 1 << 20;
const MAX_VALUES: usize = 10_000;
const MEDIA_TYPES: [&str; 2] = [
    "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
    "application/vnd.dev.sigstore.trustedroot.v0.1+json",
];

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    media_type: String,
    #[serde(default)]
    tlogs: Vec<LogWire>,
    #[serde(default)]
    certificate_authorities: Vec<AuthorityWire>,
    #[serde(default)]
    ctlogs: Vec<LogWire>,
    #[serde(default)]
    timestamp_authorities: Vec<AuthorityWire>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LogWire {
    #[serde(default)]
    hash_algorithm: Option<String>,
    public_key: KeyWire,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct KeyWire {
    raw_bytes: String,
    key_details: String,
    #[serde(default)]
    valid_for: Option<WindowWire>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AuthorityWire {
    cert_chain: ChainWire,
    #[serde(default)]
    valid_for: Option<WindowWire>,
}

#[derive(Deserialize)]
struct ChainWire {
    certificates: Vec<BytesWire>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BytesWire {
    raw_bytes: String,
}

#[derive(Deserialize)]
struct WindowWire {
    #[serde(default)]
    start: Option<String>,
    #[serde(default)]
    end: Option<String>,
}

pub(super) fn parse(json: &[u8]) -> Result<Roots, Error> {
    let wrong = |why: String| Error::Key(format!("the trusted root: {why}"));
    let value = crate::strict::parse(json, MAX_BYTES, MAX_VALUES).map_err(wrong)?;
    let wire = Wire::deserialize(value).map_err(|e| wrong(e.to_string()))?;
    if !MEDIA_TYPES.contains(&wire.media_type.as_str()) {
        return Err(wrong(format!("its media type {:?} is not known", wire.media_type)));
    }
    let logs = |list: Vec<LogWire>| -> Result<Vec<Log>, Error> {
        let any = !list.is_empty();
        let logs: Vec<Log> =
            list.into_iter().filter_map(|l| l.read().transpose()).collect::<Result<_, _>>()?;
        // Logs of which none is readable must not turn into "no log is needed".
        if any && logs.is_empty() {
            return Err(wrong("none of its logs has a usable key".to_owned()));
        }
        Ok(logs)
    };
    let authorities = |list: Vec<AuthorityWire>| -> Result<Vec<Authority>, Error> {
        list.into_iter().map(AuthorityWire::read).collect()
    };
    let roots = Roots {
        authorities: authorities(wire.certificate_authorities)?,
        logs: logs(wire.tlogs)?,
        certificate_logs: logs(wire.ctlogs)?,
        timestamp_authorities: authorities(wire.timestamp_authorities)?,
    };
    roots.check()?;
    Ok(roots)
}

impl LogWire {
    /// `None` for a kind of key that is not known: such a log proves nothing.
    fn read(self) -> Result<Option<Log>, Error> {
        if !self.public_key.key_details.starts_with("PKIX_")
            || self.hash_algorithm.is_some_and(|h| h != "SHA2_256")
        {
            return Ok(None);
        }
        let Ok(key) = VerifyingKey::from_der(&bytes(&self.public_key.raw_bytes)?) else { return Ok(None) };
        Ok(Some(Log::new(key, window(self.public_key.valid_for)?)))
    }
}

impl AuthorityWire {
    fn read(self) -> Result<Authority, Error> {
        let certificates: Result<Vec<Certificate>, Error> = self
            .cert_chain
            .certificates
            .iter()
            .map(|c| Certificate::parse(&bytes(&c.raw_bytes)?).map_err(|e| Error::Key(e.to_string())))
            .collect();
        Authority::new(certificates?, window(self.valid_for)?)
    }
}

fn bytes(base64: &str) -> Result<Vec<u8>, Error> {
    STANDARD.decode(base64).map_err(|_| Error::Key("the trusted root: not base64".to_owned()))
}

fn window(wire: Option<WindowWire>) -> Result<Window, Error> {
    let Some(wire) = wire else { return Ok(Window::ALWAYS) };
    let seconds = |text: String| {
        super::time::rfc3339(&text)
            .ok_or_else(|| Error::Key(format!("the trusted root: {text:?} is not a time")))
    };
    Ok(Window {
        start: wire.start.map(seconds).transpose()?.unwrap_or(0),
        end: wire.end.map(seconds).transpose()?,
    })
}
