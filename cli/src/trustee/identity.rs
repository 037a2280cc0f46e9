//! Keys and certificates that the settings name: the server's identity, the token signer, trusted issuers.

use std::path::{Path, PathBuf};

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use bytes::Bytes;
use cocoon_config::{ServerIdentity, Settings, TlsVersion, Tokens};
use cocoon_http::{Client, Method, Options, Request};
use cocoon_stage::Failure;
use cocoon_trustee::{Tls, TokenIdentity, TrustedIssuers};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;
use zeroize::Zeroizing;

use super::{invalid, read};
use crate::embedded::{LOOPBACK_NAMES, now};

/// Largest document that is fetched.
const MAX_DOCUMENT: usize = 256 * 1024;

/// The server's TLS identity; `None`: plain HTTP.
pub fn tls(settings: &Settings, folder: &Path) -> Result<Option<Tls>, Failure> {
    let server = &settings.server;
    let mut tls = match &server.identity {
        ServerIdentity::PlainHttp => return Ok(None),
        ServerIdentity::Files { certificate, key } => {
            Tls::new(read("server.tls_certificate", certificate)?.to_string(), read("server.tls_key", key)?)
        }
        ServerIdentity::SelfSigned => {
            let names = names(settings);
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            cocoon_trustee::self_signed(folder, &names, now())?
        }
    };
    let authorities = server.client_ca.as_deref().map(|file| read("server.client_ca", file)).transpose()?;
    tls.client_authorities_pem = authorities.map(|pem| pem.to_string());
    tls.only_tls_1_3 = !server.tls_versions.contains(&TlsVersion::Tls12);
    Ok(Some(tls))
}

/// The names under which clients reach the server: its addresses, this machine's, and the public URL's host.
fn names(settings: &Settings) -> Vec<String> {
    let mut names: Vec<String> = LOOPBACK_NAMES.map(str::to_owned).to_vec();
    let addresses = settings.server.listen.iter().map(std::net::SocketAddr::ip);
    let addresses = addresses.filter(|ip| !ip.is_unspecified()).map(|ip| ip.to_string());
    let url = settings.server.public_url.as_deref().and_then(|url| url::Url::parse(url).ok());
    let host = url.and_then(|url| Some(url.host_str()?.trim_matches(['[', ']']).to_owned()));
    for name in addresses.chain(host) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// The key that signs tokens, if it is not the one in the state.
pub fn token_signer(tokens: &Tokens) -> Result<Option<TokenIdentity>, Failure> {
    let Some(file) = &tokens.signing_key else { return Ok(None) };
    let wrong = |reason: &str| invalid("tokens.signing_key", format!("{}: {reason}", file.display()));
    let key = PrivateKeyDer::from_pem_slice(read("tokens.signing_key", file)?.as_bytes())
        .map_err(|_| wrong("no private key in PEM"))?;
    // Either form, PKCS#8 or SEC1; only P-256 is taken.
    let pair = EcdsaKeyPair::from_private_key_der(&ECDSA_P256_SHA256_FIXED_SIGNING, key.secret_der())
        .map_err(|_| wrong("not a key of curve P-256"))?;
    let pkcs8 = pair.to_pkcs8v1().map_err(|_| wrong("it cannot be encoded"))?;
    let certificates = match &tokens.certificate_chain {
        Some(file) => certificates("tokens.certificate_chain", file)?,
        None => Vec::new(),
    };
    Ok(Some(TokenIdentity { key_pkcs8: Zeroizing::new(pkcs8.as_ref().to_vec()), certificates }))
}

/// Whose tokens are accepted besides our own; key sets at URLs are fetched now.
pub async fn trusted(tokens: &Tokens) -> Result<TrustedIssuers, Failure> {
    let key = "tokens.trusted.jwks";
    let mut key_sets = Vec::new();
    for location in &tokens.trusted.jwks {
        let mut set = document(key, location).await?;
        // The discovery document of an issuer names its key set.
        if set.get("keys").is_none()
            && let Some(next) = set.get("jwks_uri").and_then(Value::as_str).map(str::to_owned)
        {
            if !next.starts_with("https://") {
                return Err(invalid(key, format!("{location} names a key set that is not at an https URL")));
            }
            set = document(key, &next).await?;
        }
        if !set.get("keys").is_some_and(Value::is_array) {
            return Err(invalid(key, format!("{location} is no key set (JWKS)")));
        }
        key_sets.push(set);
    }
    let mut roots = Vec::new();
    for file in &tokens.trusted.certificates {
        roots.extend(certificates("tokens.trusted.certificates", file)?);
    }
    let key_pointers = tokens.trusted.extra_key_pointers.clone();
    Ok(TrustedIssuers { key_sets, certificates: roots, key_pointers })
}

async fn document(key: &str, location: &str) -> Result<Value, Failure> {
    let bytes: Bytes = match local(location) {
        Some(path) => Bytes::copy_from_slice(read(key, &path)?.as_bytes()),
        None => fetch(key, location).await?,
    };
    serde_json::from_slice(&bytes).map_err(|e| invalid(key, format!("{location}: {e}")))
}

/// The certificates in a PEM file, at least one.
fn certificates(key: &str, file: &Path) -> Result<Vec<Vec<u8>>, Failure> {
    let text = read(key, file)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found.into_iter().map(|der| der.to_vec()).collect()),
        _ => Err(invalid(key, format!("{}: no certificates in PEM", file.display()))),
    }
}

/// The path of a location that is none of the network: `file:///…` or a path.
pub fn local(location: &str) -> Option<PathBuf> {
    match location.split_once("://") {
        Some(("file", path)) => Some(path.into()),
        Some(_) => None,
        None => Some(location.into()),
    }
}

/// A document at an https URL.
pub async fn fetch(key: &str, url: &str) -> Result<Bytes, Failure> {
    let failed = |e: &dyn std::fmt::Display| invalid(key, format!("{url}: {e}"));
    let client = Client::new(Options::default()).map_err(|e| failed(&e))?;
    let request =
        Request::builder().method(Method::GET).uri(url).body(Bytes::new()).map_err(|e| failed(&e))?;
    let answer = client.send(request).await.map_err(|e| failed(&e))?;
    if !answer.status.is_success() {
        return Err(failed(&format!("answered {}", answer.status)));
    }
    answer.bytes(MAX_DOCUMENT).await.map_err(|e| failed(&e))
}
