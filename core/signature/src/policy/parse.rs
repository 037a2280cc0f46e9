//! A policy's JSON, after its files were put into it.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::identity::SignedIdentity;
use super::requirement::{NotationSigned, Requirement, SignedBy, SigstoreSigned};
use super::{MAX_FILE_BYTES, Policy, scope};
use crate::sigstore::{Identity, Roots, Trust};

/// Most scopes of one transport.
const MAX_SCOPES: usize = 4096;
/// Most requirements of one scope.
const MAX_REQUIREMENTS: usize = 32;
/// Most keys of one requirement.
const MAX_KEYS: usize = 32;

pub(super) fn policy(value: &Value) -> Result<Policy, String> {
    let mut default = None;
    let mut transports = BTreeMap::new();
    for (name, value) in object(value, "the policy")? {
        match name.as_str() {
            "default" => default = Some(requirements(value, "default")?),
            "transports" => {
                for (transport, scopes) in object(value, "transports")? {
                    transports.insert(transport.clone(), transport_scopes(transport, scopes)?);
                }
            }
            other => return Err(format!("unknown member {other:?}")),
        }
    }
    let default = default.ok_or("it has no \"default\", which is what holds where nothing else does")?;
    Ok(Policy { default, transports })
}

fn transport_scopes(transport: &str, value: &Value) -> Result<BTreeMap<String, Vec<Requirement>>, String> {
    let at = format!("transports.{transport}");
    let scopes = object(value, &at)?;
    if scopes.len() > MAX_SCOPES {
        return Err(format!("{at}: more than {MAX_SCOPES} scopes"));
    }
    let mut out = BTreeMap::new();
    for (name, list) in scopes {
        if transport == "docker" && !scope::is_possible(name) {
            return Err(format!(
                "{at}: no image can be under the scope {name:?}: it is not a host[:port], *.domain, namespace, \
                 repository or image in the expanded form (docker.io/library/busybox)"
            ));
        }
        out.insert(name.clone(), requirements(list, &format!("{at}.{name:?}"))?);
    }
    Ok(out)
}

fn object<'a>(value: &'a Value, at: &str) -> Result<&'a Map<String, Value>, String> {
    value.as_object().ok_or_else(|| format!("{at}: not an object"))
}

fn requirements(value: &Value, at: &str) -> Result<Vec<Requirement>, String> {
    let list = value.as_array().ok_or_else(|| format!("{at}: not a list of requirements"))?;
    if list.is_empty() {
        return Err(format!("{at}: an empty list; say insecureAcceptAnything or reject"));
    }
    if list.len() > MAX_REQUIREMENTS {
        return Err(format!("{at}: more than {MAX_REQUIREMENTS} requirements"));
    }
    let one = |(i, value): (usize, &Value)| requirement(value).map_err(|why| format!("{at}[{i}]: {why}"));
    list.iter().enumerate().map(one).collect()
}

fn requirement(value: &Value) -> Result<Requirement, String> {
    let mut members = value.as_object().ok_or("not an object")?.clone();
    let kind = members.shift_remove("type").ok_or("it has no type")?;
    match kind.as_str().ok_or("its type is not a string")? {
        "insecureAcceptAnything" => typed::<Nothing>(members).map(|_| Requirement::InsecureAcceptAnything),
        "reject" => typed::<Nothing>(members).map(|_| Requirement::Reject),
        "signedBy" => signed_by(typed(members)?).map(Requirement::SignedBy),
        "sigstoreSigned" => sigstore_signed(typed(members)?).map(Requirement::SigstoreSigned),
        "notationSigned" => notation_signed(typed(members)?).map(Requirement::NotationSigned),
        other => Err(format!("unknown type {other:?}")),
    }
}

fn typed<T: DeserializeOwned>(members: Map<String, Value>) -> Result<T, String> {
    T::deserialize(Value::Object(members)).map_err(|e| e.to_string())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct SignedByWire {
    key_type: String,
    key_data: Option<String>,
    key_datas: Option<Vec<String>>,
    signed_identity: Option<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct SigstoreWire {
    key_data: Option<String>,
    key_datas: Option<Vec<String>>,
    fulcio: Option<FulcioWire>,
    pki: Option<Value>,
    rekor_public_key_data: Option<String>,
    rekor_public_key_datas: Option<Vec<String>>,
    signed_identity: Option<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct FulcioWire {
    ca_data: Option<String>,
    trusted_root_data: Option<String>,
    oidc_issuer: String,
    subject_email: Option<String>,
    #[serde(rename = "subjectURI")]
    subject_uri: Option<String>,
    ct_log_public_key_data: Option<String>,
    ct_log_public_key_datas: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct NotationWire {
    trust_store_data: String,
    trusted_identities: Vec<String>,
}

fn signed_by(wire: SignedByWire) -> Result<SignedBy, String> {
    if wire.key_type != "GPGKeys" {
        return Err(format!("keyType {:?} is not supported, only GPGKeys", wire.key_type));
    }
    let keyrings = datas("key", wire.key_data, wire.key_datas)?;
    if keyrings.is_empty() {
        return Err("one of keyData, keyDatas, keyPath, keyPaths is needed".to_owned());
    }
    let identity = identity(wire.signed_identity.as_ref())?;
    if identity == SignedIdentity::MatchDigestOnly {
        return Err("signedIdentity: matchDigestOnly is for sigstoreSigned alone".to_owned());
    }
    Ok(SignedBy { keyrings, identity })
}

fn sigstore_signed(wire: SigstoreWire) -> Result<SigstoreSigned, String> {
    let keys = texts("key", wire.key_data, wire.key_datas)?;
    let rekor = texts("rekorPublicKey", wire.rekor_public_key_data, wire.rekor_public_key_datas)?;
    if wire.pki.is_some() {
        return Err("pki is not supported: nothing proves when such a certificate signed".to_owned());
    }
    let trust = match (keys.is_empty(), wire.fulcio) {
        (false, Some(_)) => return Err("keys and fulcio exclude each other".to_owned()),
        (true, None) => {
            return Err("one of keyData, keyDatas, keyPath, keyPaths, fulcio is needed".to_owned());
        }
        (false, None) => Trust::keys(&keys).and_then(|t| t.with_logs(&rekor)),
        (true, Some(fulcio)) => {
            let (roots, identity) = keyless(fulcio, &rekor)?;
            Trust::keyless(roots, identity)
        }
    };
    let trust = trust.map_err(|e| e.to_string())?;
    Ok(SigstoreSigned { trust, identity: identity(wire.signed_identity.as_ref())? })
}

fn keyless(wire: FulcioWire, rekor: &[String]) -> Result<(Roots, Identity), String> {
    let at = |why: &str| format!("fulcio: {why}");
    let identity = match (wire.subject_email, wire.subject_uri) {
        (Some(email), None) => Identity::email(&wire.oidc_issuer, &email),
        (None, Some(uri)) => Identity::uri(&wire.oidc_issuer, &uri),
        _ => return Err(at("exactly one of subjectEmail and subjectURI is needed")),
    };
    let ct = texts("ctLogPublicKey", wire.ct_log_public_key_data, wire.ct_log_public_key_datas)?;
    let roots = match (wire.ca_data, wire.trusted_root_data) {
        (Some(ca), None) => {
            if rekor.is_empty() {
                return Err(at("rekorPublicKeyData, rekorPublicKeyDatas or a path is needed"));
            }
            Roots::new(&[text("caData", &ca)?], rekor, &ct, &[])
        }
        (None, Some(root)) if rekor.is_empty() && ct.is_empty() => {
            Roots::from_trusted_root(text("trustedRootData", &root)?.as_bytes())
        }
        (None, Some(_)) => return Err(at("the trusted root holds the keys of the logs; give no others")),
        _ => return Err(at("exactly one of caData, caPath, trustedRootData, trustedRootPath is needed")),
    };
    Ok((roots.map_err(|e| at(&e.to_string()))?, identity.map_err(|e| at(&e.to_string()))?))
}

fn notation_signed(wire: NotationWire) -> Result<NotationSigned, String> {
    let roots = vec![text("trustStoreData", &wire.trust_store_data)?];
    if wire.trusted_identities.is_empty() || wire.trusted_identities.len() > MAX_KEYS {
        return Err(format!("trustedIdentities: 1 to {MAX_KEYS} are needed"));
    }
    let signed = NotationSigned { roots, identities: wire.trusted_identities };
    signed.trust().map_err(|e| e.to_string())?;
    Ok(signed)
}

/// The rule that is given, or the manual page's default.
fn identity(value: Option<&Value>) -> Result<SignedIdentity, String> {
    value.map_or(Ok(SignedIdentity::MatchRepoDigestOrExact), SignedIdentity::parse)
}

/// The content of `<what>Data` or `<what>Datas`, not both; empty where neither is given.
fn datas(what: &str, one: Option<String>, many: Option<Vec<String>>) -> Result<Vec<Vec<u8>>, String> {
    match (one, many) {
        (Some(_), Some(_)) => Err(format!("{what}Data and {what}Datas exclude each other")),
        (Some(one), None) => Ok(vec![data(&format!("{what}Data"), &one)?]),
        (None, Some(many)) if many.is_empty() || many.len() > MAX_KEYS => {
            Err(format!("{what}Datas: 1 to {MAX_KEYS} are needed"))
        }
        (None, Some(many)) => many.iter().map(|text| data(&format!("{what}Datas"), text)).collect(),
        (None, None) => Ok(Vec::new()),
    }
}

fn texts(what: &str, one: Option<String>, many: Option<Vec<String>>) -> Result<Vec<String>, String> {
    let utf8 = |bytes| String::from_utf8(bytes).map_err(|_| format!("{what}: not text"));
    datas(what, one, many)?.into_iter().map(utf8).collect()
}

fn text(at: &str, base64: &str) -> Result<String, String> {
    String::from_utf8(data(at, base64)?).map_err(|_| format!("{at}: not text"))
}

fn data(at: &str, base64: &str) -> Result<Vec<u8>, String> {
    if base64.trim_start().starts_with("-----BEGIN") {
        return Err(format!("{at}: it is PEM itself; the base64 of the whole file is expected"));
    }
    let bytes = STANDARD.decode(base64).map_err(|_| format!("{at}: not base64"))?;
    if bytes.is_empty() || bytes.len() > MAX_FILE_BYTES {
        return Err(format!("{at}: empty, or longer than {MAX_FILE_BYTES} bytes"));
    }
    Ok(bytes)
}
