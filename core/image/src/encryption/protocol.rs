//! The key provider protocol's JSON (ocicrypt `keyprovider`, carried in a bytes field over gRPC or ttrpc).

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::bytes::{JsonBytes, Text};
use crate::Error;

const MAX_TEXT: usize = 1 << 20;

/// What a key provider is asked.
pub enum KeyProviderInput {
    /// Wrap private options; parameters are those of `--encryption-key provider:<name>:<parameter>`.
    KeyWrap {
        /// The private options' JSON. Secret.
        options: Zeroizing<Vec<u8>>,
        /// Parameters by provider name, already decoded from base64.
        parameters: BTreeMap<String, Vec<Vec<u8>>>,
    },
    /// Unwrap an annotation packet.
    KeyUnwrap {
        /// The packet's JSON.
        annotation: Vec<u8>,
    },
}

/// What a key provider answers.
pub enum KeyProviderOutput {
    /// The packet that wraps the key.
    KeyWrap {
        /// The packet's JSON.
        annotation: Vec<u8>,
    },
    /// The unwrapped private options.
    KeyUnwrap {
        /// The private options' JSON. Secret.
        options: Zeroizing<Vec<u8>>,
    },
}

#[derive(Default, Serialize, Deserialize)]
struct InputWire {
    op: String,
    #[serde(default)]
    keywrapparams: Option<WrapParams>,
    #[serde(default)]
    keyunwrapparams: Option<UnwrapParams>,
}

#[derive(Default, Serialize, Deserialize)]
struct WrapParams {
    #[serde(default)]
    ec: Option<EncryptConfig>,
    #[serde(default)]
    optsdata: Option<Text>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct EncryptConfig {
    #[serde(default)]
    parameters: Option<BTreeMap<String, Vec<String>>>,
    #[serde(default)]
    decrypt_config: Option<DecryptConfig>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DecryptConfig {
    #[serde(default)]
    parameters: Option<BTreeMap<String, Vec<String>>>,
}

#[derive(Default, Serialize, Deserialize)]
struct UnwrapParams {
    #[serde(default)]
    dc: Option<DecryptConfig>,
    #[serde(default)]
    annotation: Option<Text>,
}

#[derive(Default, Serialize, Deserialize)]
struct OutputWire {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    keywrapresults: Option<WrapResults>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    keyunwrapresults: Option<UnwrapResults>,
}

#[derive(Default, Serialize, Deserialize)]
struct WrapResults {
    #[serde(default)]
    annotation: JsonBytes,
}

#[derive(Default, Serialize, Deserialize)]
struct UnwrapResults {
    #[serde(default)]
    optsdata: JsonBytes,
}

fn refuse(why: &str) -> Error {
    Error::Undecryptable(format!("the key provider's message is malformed: {why}"))
}

impl KeyProviderInput {
    /// Parses a request.
    ///
    /// # Errors
    /// [`Error::Undecryptable`].
    pub fn parse(json: &[u8]) -> Result<Self, Error> {
        if json.len() > MAX_TEXT {
            return Err(refuse("too long"));
        }
        let wire: InputWire = serde_json::from_slice(json).map_err(|_| refuse("not the expected JSON"))?;
        match wire.op.as_str() {
            "keywrap" => {
                let params = wire.keywrapparams.unwrap_or_default();
                let given = params.ec.unwrap_or_default().parameters.unwrap_or_default();
                let mut parameters = BTreeMap::new();
                for (provider, values) in given {
                    let decoded: Result<Vec<_>, _> = values.iter().map(|v| STANDARD.decode(v)).collect();
                    parameters.insert(provider, decoded.map_err(|_| refuse("a parameter is not base64"))?);
                }
                let options = params.optsdata.ok_or_else(|| refuse("no optsdata"))?.0;
                Ok(KeyProviderInput::KeyWrap { options, parameters })
            }
            "keyunwrap" => {
                let params = wire.keyunwrapparams.unwrap_or_default();
                let annotation = params.annotation.ok_or_else(|| refuse("no annotation"))?.0.to_vec();
                Ok(KeyProviderInput::KeyUnwrap { annotation })
            }
            _ => Err(refuse("op is neither keywrap nor keyunwrap")),
        }
    }

    /// The request's JSON.
    ///
    /// # Errors
    /// None in practice; [`Error::Manifest`] where JSON cannot be written.
    pub fn to_json(&self) -> Result<Zeroizing<Vec<u8>>, Error> {
        let mut wire = InputWire { keywrapparams: Some(WrapParams::default()), ..InputWire::default() };
        wire.keyunwrapparams = Some(UnwrapParams::default());
        match self {
            KeyProviderInput::KeyWrap { options, parameters } => {
                "keywrap".clone_into(&mut wire.op);
                let encode = |values: &Vec<Vec<u8>>| values.iter().map(|v| STANDARD.encode(v)).collect();
                let parameters = parameters.iter().map(|(name, v)| (name.clone(), encode(v))).collect();
                let decrypt_config = Some(DecryptConfig { parameters: Some(BTreeMap::new()) });
                wire.keywrapparams = Some(WrapParams {
                    ec: Some(EncryptConfig { parameters: Some(parameters), decrypt_config }),
                    optsdata: Some(Text(options.clone())),
                });
            }
            KeyProviderInput::KeyUnwrap { annotation } => {
                "keyunwrap".clone_into(&mut wire.op);
                wire.keyunwrapparams = Some(UnwrapParams {
                    dc: Some(DecryptConfig { parameters: Some(BTreeMap::new()) }),
                    annotation: Some(Text(Zeroizing::new(annotation.clone()))),
                });
            }
        }
        serde_json::to_vec(&wire).map(Zeroizing::new).map_err(|e| Error::Manifest(e.to_string()))
    }
}

impl KeyProviderOutput {
    /// Parses an answer; bytes may be a number array or base64.
    ///
    /// # Errors
    /// [`Error::Undecryptable`].
    pub fn parse(json: &[u8]) -> Result<Self, Error> {
        if json.len() > MAX_TEXT {
            return Err(refuse("too long"));
        }
        let wire: OutputWire = serde_json::from_slice(json).map_err(|_| refuse("not the expected JSON"))?;
        match (wire.keywrapresults, wire.keyunwrapresults) {
            (_, Some(r)) if !r.optsdata.0.is_empty() => {
                Ok(KeyProviderOutput::KeyUnwrap { options: Zeroizing::new(r.optsdata.0) })
            }
            (Some(r), _) if !r.annotation.0.is_empty() => {
                Ok(KeyProviderOutput::KeyWrap { annotation: r.annotation.0 })
            }
            _ => Err(refuse("it holds no result")),
        }
    }

    /// The answer's JSON, with bytes as number arrays.
    ///
    /// # Errors
    /// None in practice; [`Error::Manifest`] where JSON cannot be written.
    pub fn to_json(&self) -> Result<Zeroizing<Vec<u8>>, Error> {
        let mut wire = OutputWire::default();
        match self {
            KeyProviderOutput::KeyWrap { annotation } => {
                wire.keywrapresults = Some(WrapResults { annotation: JsonBytes(annotation.clone()) });
            }
            KeyProviderOutput::KeyUnwrap { options } => {
                wire.keyunwrapresults = Some(UnwrapResults { optsdata: JsonBytes(options.to_vec()) });
            }
        }
        serde_json::to_vec(&wire).map(Zeroizing::new).map_err(|e| Error::Manifest(e.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_round_trip() {
        let unwrap = KeyProviderInput::KeyUnwrap { annotation: b"{}".to_vec() };
        let json = unwrap.to_json().unwrap();
        let text = std::str::from_utf8(&json).unwrap();
        assert!(text.contains(r#""op":"keyunwrap""#) && text.contains(r#""annotation":"e30=""#), "{text}");
        assert!(
            matches!(KeyProviderInput::parse(&json), Ok(KeyProviderInput::KeyUnwrap { annotation }) if annotation == b"{}")
        );

        let go = br#"{"op":"keywrap","keywrapparams":{"ec":{"Parameters":{"attestation-agent":["a2V5aWQ9eA=="]},
            "DecryptConfig":{"Parameters":null}},"optsdata":"c2VjcmV0"},"keyunwrapparams":{"dc":null,"annotation":null}}"#;
        let Ok(KeyProviderInput::KeyWrap { options, parameters }) = KeyProviderInput::parse(go) else {
            panic!()
        };
        assert_eq!(&options[..], b"secret");
        assert_eq!(parameters["attestation-agent"], [b"keyid=x".to_vec()]);
        let rust = br#"{"op":"keywrap","keywrapparams":{"optsdata":[115,101]},"keyunwrapparams":null}"#;
        assert!(
            matches!(KeyProviderInput::parse(rust), Ok(KeyProviderInput::KeyWrap { options, .. }) if options[..] == *b"se")
        );
        for bad in
            [r#"{"op":"other"}"#, r#"{"op":"keywrap"}"#, r#"{"op":"keyunwrap","keywrapparams":{}}"#, "[]"]
        {
            assert!(KeyProviderInput::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn answers_are_number_arrays_and_read_either_way() {
        let out = KeyProviderOutput::KeyUnwrap { options: Zeroizing::new(b"ab".to_vec()) };
        let json = out.to_json().unwrap();
        assert_eq!(&json[..], br#"{"keyunwrapresults":{"optsdata":[97,98]}}"#);
        for text in
            [&json[..], br#"{"keyunwrapresults":{"optsdata":"YWI="},"keywrapresults":{"annotation":null}}"#]
        {
            let Ok(KeyProviderOutput::KeyUnwrap { options }) = KeyProviderOutput::parse(text) else {
                panic!()
            };
            assert_eq!(&options[..], b"ab");
        }
        for bad in
            ["{}", r#"{"keyunwrapresults":{"optsdata":[256]}}"#, r#"{"keyunwrapresults":{"optsdata":"*"}}"#]
        {
            assert!(KeyProviderOutput::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
